//! TCP: each connection to an endpoint of one service, byte by byte, both ways.
//!
//! `choose` picks the endpoint, `connect` reaches it, `carry` moves the bytes until both sides
//! have ended. Idle connections hold no buffer and no pipe.

mod carry;
mod choose;
mod connect;
mod ends;
pub mod metrics;
mod pipes;
mod secure;
mod way;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::clock;
use super::config::{StickyConfig, TcpTimeouts};
use super::cut::{Kind, unless_cut};
use super::metrics::ListenerMetrics;
use super::route::ServiceRef;
use super::sticky::Outcome;
use super::table::{Listener, ProxyTable};
use super::upstream::Endpoint;
use super::upstream::tally::{Step, Trouble};
use super::waiting::Refused;
use crate::catalog::publish::Current;
use crate::net::proxy_protocol::Told;
use crate::net::stream::Stream;
use carry::Broken;
use metrics::End;
use secure::Manner;

/// Endpoints that are tried before the client's connection is closed.
const CONNECTS_MAX: usize = 3;

/// What the connections of one TCP listener share within one worker.
#[derive(Debug)]
pub struct TcpService {
    /// Name of the listener.
    pub name: Arc<str>,
    /// The tables.
    pub current: Current<ProxyTable>,
    /// Counters of this listener.
    pub metrics: ListenerMetrics,
}

/// A connection that came, as far as it was read.
#[derive(Debug)]
pub struct Incoming {
    /// The client's end, in the clear or over TLS.
    pub stream: Stream,
    /// Whose it is: the peer, or whom a proxy before us told of.
    pub peer: SocketAddr,
    /// What that proxy told, if one did; passed on to endpoints that want to know.
    pub told: Option<Told>,
    /// What was read of it already: the endpoint gets it first.
    pub opening: Vec<u8>,
}

/// Where connections go, and on what terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Whose endpoints get them.
    pub target: ServiceRef,
    /// How long each step may take.
    pub timeouts: TcpTimeouts,
    /// How a client comes back to the endpoint that it had; by its address only.
    pub sticky: Option<StickyConfig>,
    /// What passes is sealed by the client already: TLS that a service wants for its endpoints is this
    /// one, and none is put around it.
    pub sealed: bool,
}

impl Course {
    /// That of `listener`; `None` when it carries something else.
    #[must_use]
    pub fn of(listener: &Listener) -> Option<Self> {
        let Listener::Tcp { config, target, .. } = listener else { return None };
        Some(Self {
            target: target.clone(),
            timeouts: config.timeouts,
            sticky: config.sticky.clone(),
            sealed: false,
        })
    }
}

/// Connects `incoming` to an endpoint of `course` and carries bytes until both sides have ended, one
/// broke, or nothing moved for the idle time. Without an endpoint the client's connection is closed.
pub async fn serve(service: Arc<TcpService>, incoming: Incoming, course: &Course) {
    let Incoming { stream: mut client, peer, told, opening } = incoming;
    let mut tried = Vec::new();
    // The one that was tried last.
    let mut failed: Option<Arc<Endpoint>> = None;
    let came = clock::micros();
    let mut first = None;
    while tried.len() < CONNECTS_MAX {
        let choice = match choose::choose(&service, course, client.tcp(), peer, &tried).await {
            Ok(choice) => choice,
            Err(Refused::Nobody) => break,
            Err(refused) => {
                service.metrics.tcp.ended(End::Refused);
                tracing::debug!(listener = &*service.name, %peer, ?refused, "no place in time");
                return reset(client.tcp());
            }
        };
        if let Some(failed) = failed.take() {
            failed.tally().failed(true);
        }
        choice.endpoint.tally().took(Step::Queue, clock::micros().saturating_sub(came));
        let sticky = choice.sticky.as_ref().map(|(outcome, _)| *outcome);
        let sticky = first.get_or_insert(sticky).as_mut();
        let header = connect::header(&choice.endpoint, &client, peer, told.as_ref());
        let manner = Manner::of(&choice.endpoint, course, &client);
        let limit = course.timeouts.connect.0;
        let first = (header, &*opening);
        let reached = connect::reach(&choice.endpoint, limit, first, manner).await;
        let mut endpoint = match reached {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::debug!(
                    listener = &*service.name, endpoint = %choice.endpoint.address, %error,
                    "cannot connect to an endpoint"
                );
                service.metrics.retries.inc();
                if let Some(outcome) = sticky
                    && *outcome == Outcome::Bound
                {
                    *outcome = Outcome::Broken;
                }
                tried.push(choice.endpoint.address);
                failed = Some(choice.endpoint);
                continue;
            }
        };
        if !opening.is_empty() {
            service.metrics.bytes[0].inc_by(opening.len() as u64);
            choice.endpoint.tally().passed([opening.len() as u64, 0]);
        }
        drop((opening, told));
        if let Some(outcome) = sticky {
            service.metrics.sticky.count(*outcome);
        }
        let (timeouts, metrics) = (&course.timeouts, &service.metrics);
        let ends = (&*choice.endpoint, &mut endpoint);
        let load = choice.endpoint.load();
        let ended = {
            // Pinned here: what is handed over by value takes its place twice.
            let carried = pin!(carry::carry(&mut client, ends, timeouts, metrics));
            unless_cut(Kind::Connection, Some(load), carried).await
        };
        let end = match ended {
            Ok(Ok(())) => {
                secure::ended(&choice.endpoint, course, None);
                End::Whole
            }
            Ok(Err(Broken { end, error })) => {
                if end == End::Endpoint {
                    secure::ended(&choice.endpoint, course, Some(&error));
                }
                tracing::debug!(
                    listener = &*service.name, %peer, endpoint = %choice.endpoint.address,
                    %error, end = end.word(), "a TCP connection broke"
                );
                end
            }
            Err(reason) => {
                service.metrics.cut(reason);
                tracing::debug!(
                    listener = &*service.name, %peer, endpoint = %choice.endpoint.address,
                    reason = reason.word(), "a TCP connection was cut"
                );
                End::Cut
            }
        };
        let tally = choice.endpoint.tally();
        match end {
            End::Client => tally.troubled(Trouble::ClientLeft),
            End::Endpoint => tally.troubled(Trouble::EndpointLeft),
            _ => {}
        }
        tally.took(Step::Total, clock::micros().saturating_sub(came));
        // Its place is free before anybody can see that it has ended.
        drop(choice);
        service.metrics.tcp.ended(end);
        if end != End::Whole {
            reset(client.tcp());
            reset(endpoint.tcp());
        }
        return;
    }
    match failed {
        Some(failed) => failed.tally().failed(false),
        None => {
            if let Some(upstream) = service.current.load().upstream(&course.target) {
                upstream.gone().troubled(Trouble::Connect);
            }
        }
    }
    service.metrics.tcp.ended(End::Unreached);
    tracing::debug!(listener = &*service.name, %peer, "no endpoint for a TCP connection");
}

/// A close that tells the other side that something broke, instead of a clean end.
fn reset(stream: &TcpStream) {
    // It may be closed already; then there is nothing to tell.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;

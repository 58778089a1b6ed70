//! One accept loop for every kind of listener: limits, counting, and nothing that ends it.

mod apart;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use prometheus::{IntCounterVec, IntGaugeVec, Registry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use self::apart::{Apart, Counts};
use super::clients::{Client, Clients};
use super::flows::Flows;
use super::spare::{Spare, is_exhausted};
use crate::lifecycle::{Phase, Phases};
use crate::telemetry::metrics::Register as _;

/// Pause after an accept that failed for lack of descriptors or memory; others go on meanwhile.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Connections that are closed before that pause, when there is no descriptor for them.
const SHED_AT_ONCE: usize = 256;

/// How many connections are open, over all listeners, and how many may be.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    max: AtomicUsize,
    closed: Notify,
    clients: Arc<Clients>,
    spare: Spare,
    flows: Flows,
    /// What is waited for as connections are, without being any.
    held: AtomicUsize,
}

/// One open connection; dropping it counts it out.
#[derive(Debug)]
pub struct Connection(Arc<Connections>);

/// Something that the process waits for when it drains, as it does for connections; dropping it ends
/// that.
#[derive(Debug)]
pub struct Hold(Arc<Connections>);

/// Why a connection is closed as soon as it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// As many are open as may be.
    Connections,
    /// Its client has as many as it may have.
    Client,
    /// There is no descriptor for it.
    Descriptors,
}

impl Refused {
    const ALL: [(Self, &str); 3] = [
        (Self::Connections, "connections"),
        (Self::Client, "client"),
        (Self::Descriptors, "descriptors"),
    ];
}

/// What the accept loops count.
#[derive(Debug, Clone)]
pub struct Metrics {
    accepted: IntCounterVec,
    refused: IntCounterVec,
    open: IntGaugeVec,
    most: IntGaugeVec,
    apart: Apart,
}

/// What one listener has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Connections that came.
    pub accepted: u64,
    /// Of those: closed at once, for a limit.
    pub refused: u64,
    /// Open now.
    pub open: u64,
    /// Most that were open at once.
    pub most: u64,
}

impl Metrics {
    /// Registers the metrics of all listeners.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            accepted: registry.counter_vec(
                "portolan_listener_connections_accepted_total",
                "Connections accepted, by listener.",
                &["listener"],
            )?,
            refused: registry.counter_vec(
                "portolan_listener_connections_refused_total",
                "Connections closed at once because a limit was reached, by listener and reason.",
                &["listener", "reason"],
            )?,
            open: registry.gauge_vec(
                "portolan_listener_connections",
                "Open connections, by listener.",
                &["listener"],
            )?,
            most: registry.gauge_vec(
                "portolan_listener_connections_max",
                "Most connections that were open at once, by listener.",
                &["listener"],
            )?,
            apart: Apart::default(),
        })
    }

    /// What the listener called `name` has counted so far; for who reads statistics.
    #[must_use]
    pub fn told(&self, name: &str) -> Told {
        let gauge = |gauge: &IntGaugeVec| {
            u64::try_from(gauge.with_label_values(&[name]).get()).unwrap_or_default()
        };
        let refused =
            |(_, reason): (Refused, &str)| self.refused.with_label_values(&[name, reason]).get();
        Told {
            accepted: self.accepted.with_label_values(&[name]).get(),
            refused: Refused::ALL.map(refused).into_iter().sum(),
            open: gauge(&self.open),
            most: gauge(&self.most),
        }
    }

    /// The same of one of those that are counted under one name, by its own ([`Accepting::own`]); in
    /// metrics it stays unseen.
    #[must_use]
    pub fn told_apart(&self, name: &str) -> Told {
        self.apart.told(name)
    }
}

impl Connections {
    /// None open, at most `max`.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
            closed: Notify::new(),
            clients: Arc::default(),
            spare: Spare::default(),
            flows: Flows::default(),
            held: AtomicUsize::new(0),
        })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Flows of datagrams, which are no connections.
    pub const fn flows(&self) -> &Flows {
        &self.flows
    }

    /// How many there are of what is waited for in a drain: connections, and what is held.
    pub fn running(&self) -> usize {
        self.open() + self.held.load(Ordering::Acquire)
    }

    /// Makes a drain wait for something that is no connection.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.held.fetch_add(1, Ordering::AcqRel);
        Hold(Arc::clone(self))
    }

    /// How many may be open.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Acquire)
    }

    /// Changes how many may be open; those that are stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Release);
    }

    /// Counts one in, or `None` when the limit is reached.
    pub fn admit(self: &Arc<Self>) -> Option<Connection> {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let connection = Connection(Arc::clone(self));
        // The drop of `connection` counts it out again.
        (before < self.max.load(Ordering::Acquire)).then_some(connection)
    }

    /// Counts one of `peer` in at `listener`, or says which limit is reached; `most` is that of one
    /// client, if there is one.
    fn admit_from(
        self: &Arc<Self>,
        listener: &Arc<str>,
        peer: SocketAddr,
        most: Option<u32>,
    ) -> Result<(Connection, Option<Client>), Refused> {
        let client = match most {
            Some(most) => {
                let client = self.clients.admit(listener, peer.ip(), most);
                Some(client.ok_or(Refused::Client)?)
            }
            None => None,
        };
        Ok((self.admit().ok_or(Refused::Connections)?, client))
    }

    /// Returns once none is open, and nothing held.
    pub async fn empty(&self) {
        loop {
            let closed = self.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            closed.await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.held.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

/// One worker's share of a listener, ready to be accepted on.
#[derive(Debug)]
pub struct Accepting {
    /// Name of the listener, or that under which it is counted with others.
    pub name: Arc<str>,
    /// Its own name, where it is counted with others.
    pub own: Option<Arc<str>>,
    /// Its socket.
    pub listener: TcpListener,
    /// Open connections of all listeners.
    pub connections: Arc<Connections>,
    /// What is counted.
    pub metrics: Metrics,
    /// The process's phase.
    pub phases: Phases,
    /// Turns true when the listener is taken away.
    pub closed: watch::Receiver<bool>,
}

/// Accepts until the listener is closed or the process drains, and runs `serve` for each
/// connection as a task of this runtime. What waits when the process drains is still served.
///
/// `most` says how many connections the client at an address may have open at this listener.
///
/// A failed accept is logged once per kind and retried: an accept error never ends a listener. At the
/// limit of descriptors those who come are closed instead.
pub async fn accept<F>(
    accepting: Accepting,
    most: impl Fn(SocketAddr) -> Option<u32>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Accepting { name, own, listener, connections, metrics, mut phases, mut closed } = accepting;
    let own = own.map(|own| metrics.apart.of(&own));
    let accepted = metrics.accepted.with_label_values(&[&name]);
    let refused =
        Refused::ALL.map(|(_, reason)| metrics.refused.with_label_values(&[&*name, reason]));
    let open = metrics.open.with_label_values(&[&name]);
    let most_open = metrics.most.with_label_values(&[&name]);
    let mut failed = None;
    // Small answers must not wait for an acknowledgement. Connections have it from the socket that they
    // come by; if the kernel refuses, they still work.
    let _ = socket2::SockRef::from(&listener).set_tcp_nodelay(true);
    loop {
        // In this order: when the port has been passed on to another listener, a connection that
        // comes at the same moment is the other one's.
        let next = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            () = phases.reached(Phase::Draining) => match waiting(&listener) {
                Some(next) => Ok(next),
                None => return,
            },
            next = listener.accept() => next,
        };
        match next {
            Ok((stream, peer)) => {
                failed = None;
                accepted.inc();
                if let Some(own) = &own {
                    own.accepted(1);
                }
                let admitted = connections.admit_from(&name, peer, most(peer));
                let connection = match admitted {
                    Ok(connection) => connection,
                    Err(reason) => {
                        refused[reason as usize].inc();
                        if let Some(own) = &own {
                            own.refused(1);
                        }
                        continue;
                    }
                };
                open.inc();
                let running = open.get();
                if running > most_open.get() {
                    most_open.set(running);
                }
                let (open, served) = (open.clone(), serve(stream, peer));
                let own = own.as_ref().map(Counts::open);
                tokio::spawn(async move {
                    served.await;
                    open.dec();
                    drop((own, connection));
                });
            }
            Err(error) => {
                if failed != Some(error.kind()) {
                    tracing::warn!(listener = &*name, %error, "accept failed; trying again");
                    failed = Some(error.kind());
                }
                if is_exhausted(&error) {
                    let shed = shed(&listener, &connections.spare);
                    accepted.inc_by(shed);
                    refused[Refused::Descriptors as usize].inc_by(shed);
                    if let Some(own) = &own {
                        own.accepted(shed);
                        own.refused(shed);
                    }
                }
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

/// Closes those who wait while there is no descriptor for them, some at a time; how many.
pub fn shed(listener: &TcpListener, spare: &Spare) -> u64 {
    let close = || spare.lend(|| waiting(listener).is_some());
    (0..SHED_AT_ONCE).take_while(|_| close()).count() as u64
}

/// A connection that the kernel has taken already and that nobody has seen: closing the socket
/// would reset it.
fn waiting(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.poll_accept(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(next)) => Some(next),
        Poll::Ready(Err(_)) | Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_from_its_listener_that_small_answers_do_not_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        socket2::SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_not_admitted_and_leaving_makes_room() {
        let connections = Connections::new(2);
        let first = connections.admit();
        let second = connections.admit();
        assert!(first.is_some() && second.is_some());
        assert!(connections.admit().is_none());
        assert_eq!(connections.open(), 2);
        drop(first);
        assert!(connections.admit().is_some());
        drop(second);
        connections.empty().await;
    }
}

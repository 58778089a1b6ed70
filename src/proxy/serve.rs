//! What one data worker does with a listening socket.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::front::{Arrived, Front};
use super::http::auth::Verifying;
use super::http::connection::{self, HttpService};
use super::http::full::FullLane;
use super::metrics::Metrics;
use super::route::ServiceRef;
use super::sni::{self, SniService};
use super::table::ProxyTable;
use super::tcp::metrics::End;
use super::tcp::{self, Course, Incoming, TcpService};
use crate::catalog::publish::Current;
use crate::lifecycle::{Phases, Readiness};
use crate::net::accept::{self, Accepting, Connections, accept};
use crate::net::stream::Stream;
use crate::net::tls::{self, Handshakes};

/// What a listener carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests, by routes.
    Http,
    /// The same over TLS.
    Https,
    /// Bytes, to one service.
    Tcp,
    /// TLS as it is, by what its hello asks for.
    Tls,
}

/// One worker's share of a listener.
#[derive(Debug)]
pub struct Share {
    /// Name of the listener.
    pub name: Arc<str>,
    /// What it carries.
    pub kind: Kind,
    /// The listening socket, `dup`ed for this worker.
    pub socket: TcpListener,
    /// Turns true when a reload takes the listener away.
    pub closed: watch::Receiver<bool>,
    /// Who gets its connections, where that is not the listener's own service.
    pub target: Option<ServiceRef>,
    /// By which name it is counted, where that is not its own.
    pub counted: Option<Arc<str>>,
}

/// Who counts what at the listeners.
#[derive(Debug, Clone)]
pub struct Counting {
    /// Accept loops.
    pub accepting: accept::Metrics,
    /// Handshakes of TLS.
    pub handshakes: tls::Metrics,
    /// What is carried.
    pub carried: Metrics,
}

/// What all listeners of one worker share. Not shared between workers.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The tables.
    pub current: Current<ProxyTable>,
    /// The process's phase.
    pub phases: Phases,
    /// Open connections of all workers.
    pub connections: Arc<Connections>,
    /// What is counted.
    pub counting: Counting,
    lane: Arc<FullLane>,
}

impl Worker {
    /// A worker that keeps at most `idle_max` idle connections to endpoints; passwords are verified in
    /// the places of `verifying`, which all workers share.
    #[must_use]
    pub fn new(
        current: Current<ProxyTable>,
        phases: Phases,
        readiness: Readiness,
        connections: Arc<Connections>,
        counting: Counting,
        idle_max: usize,
        verifying: Verifying,
    ) -> Self {
        Self {
            lane: FullLane::new(idle_max, readiness, phases.clone(), verifying),
            current,
            phases,
            connections,
            counting,
        }
    }

    /// Accepts and serves until the listener is taken away or the process drains.
    pub async fn serve(self, share: Share) {
        let Share { name, kind, socket, closed, target, counted } = share;
        let own = counted.is_some().then(|| Arc::clone(&name));
        let counted = counted.unwrap_or_else(|| Arc::clone(&name));
        let port = socket.local_addr().map_or(0, |address| address.port());
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(listener = &*name, %error, "cannot serve this listener");
                return;
            }
        };
        let Self { current, phases, connections, counting, lane } = self;
        let Counting { accepting, handshakes, carried } = counting;
        let metrics = carried.listener(&counted);
        let (table, listening) = (current.clone(), Arc::clone(&name));
        let most = move |peer: SocketAddr| {
            table.load().listener(&listening)?.connections_per_client(peer.ip())
        };
        let accepting = Accepting {
            name: Arc::clone(&counted),
            own,
            listener,
            connections,
            metrics: accepting,
            phases: phases.clone(),
            closed,
        };
        let front = Front { name: Arc::clone(&name), current: current.clone(), metrics };
        let metrics = front.metrics.clone();
        let front = Arc::new(front);
        if kind == Kind::Tcp || kind == Kind::Tls {
            let handshakes = Arc::new(Handshakes::possible(counted, &handshakes));
            let service = Arc::new(TcpService { name, current, metrics });
            if kind == Kind::Tls {
                let sealed = Arc::new(SniService { tcp: service, handshakes });
                let serve = |stream, peer| {
                    let (front, sealed) = (Arc::clone(&front), Arc::clone(&sealed));
                    async move {
                        if let Some(arrived) = front.arrive(stream, peer).await {
                            sni::serve(sealed, arrived).await;
                        }
                    }
                };
                return accept(accepting, most, serve).await;
            }
            let serve = |stream, peer| {
                let (front, service) = (Arc::clone(&front), Arc::clone(&service));
                let (handshakes, target) = (Arc::clone(&handshakes), target.clone());
                // Boxed: whoever accepts hands it on by value, and it would take its place twice.
                Box::pin(async move {
                    let Some(Arrived { stream, peer, told }) = front.arrive(stream, peer).await
                    else {
                        return;
                    };
                    // None when a reload took the listener away just now.
                    let table = service.current.load();
                    let Some((name, listener)) = table.listener_at(&service.name, port) else {
                        return;
                    };
                    if !listener.admits(peer.ip()) {
                        return service.metrics.tcp.ended(End::Refused);
                    }
                    let (course, secured) = (Course::of(listener), table.secured(name).cloned());
                    drop(table);
                    let Some(mut course) = course else { return };
                    if let Some(target) = target {
                        course.target = target;
                    }
                    let stream = match secured {
                        None => Some(Stream::Plain(stream)),
                        Some(secured) => handshakes.shake(&secured, stream, &[], peer).await,
                    };
                    let (Some(stream), opening) = (stream, Vec::new()) else { return };
                    let incoming = Incoming { stream, peer, told, opening };
                    tcp::serve(service, incoming, &course).await;
                })
            };
            return accept(accepting, most, serve).await;
        }
        let handshakes = Arc::new(Handshakes::new(counted, &handshakes));
        let service = HttpService { name, port, current, lane, metrics: Arc::new(metrics) };
        let service = Arc::new(service);
        if kind == Kind::Https {
            let serve = |stream, peer| {
                let (front, phases) = (Arc::clone(&front), phases.clone());
                let (service, handshakes) = (Arc::clone(&service), Arc::clone(&handshakes));
                async move {
                    if let Some(Arrived { stream, peer, .. }) = front.arrive(stream, peer).await {
                        secure(service, handshakes, stream, peer, phases).await;
                    }
                }
            };
            return accept(accepting, most, serve).await;
        }
        let serve = |stream, peer| {
            let (front, phases) = (Arc::clone(&front), phases.clone());
            let service = Arc::clone(&service);
            async move {
                if let Some(Arrived { stream, peer, .. }) = front.arrive(stream, peer).await {
                    connection::serve(service, Stream::Plain(stream), peer, phases).await;
                }
            }
        };
        accept(accepting, most, serve).await;
    }
}

/// Shakes hands and serves what comes then.
async fn secure(
    service: Arc<HttpService>,
    handshakes: Arc<Handshakes>,
    stream: TcpStream,
    peer: SocketAddr,
    phases: Phases,
) {
    // None when a reload took the listener away just now.
    let secured = service.current.load().secured(&service.name).cloned();
    let Some(secured) = secured else { return };
    if let Some(stream) = handshakes.shake(&secured, stream, &[], peer).await {
        drop(secured);
        connection::serve(service, stream, peer, phases).await;
    }
}

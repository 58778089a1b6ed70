//! What one data worker does with a listening socket.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::watch;

use super::http::connection::{self, HttpService};
use super::http::full::FullLane;
use super::metrics::Metrics;
use super::table::ProxyTable;
use super::tcp::{self, TcpService};
use crate::catalog::publish::Current;
use crate::lifecycle::{Phases, Readiness};
use crate::net::accept::{self, Connections, accept};

/// What a listener carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests, by routes.
    Http,
    /// Bytes, to one service.
    Tcp,
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
    /// What accept loops count.
    pub accepting: accept::Metrics,
    /// What the proxy counts.
    pub metrics: Metrics,
    lane: Arc<FullLane>,
}

impl Worker {
    /// A worker that keeps at most `idle_max` idle connections to endpoints.
    #[must_use]
    pub fn new(
        current: Current<ProxyTable>,
        phases: Phases,
        readiness: Readiness,
        connections: Arc<Connections>,
        accepting: accept::Metrics,
        metrics: Metrics,
        idle_max: usize,
    ) -> Self {
        Self {
            lane: FullLane::new(idle_max, readiness, phases.clone()),
            current,
            phases,
            connections,
            accepting,
            metrics,
        }
    }

    /// Accepts and serves until the listener is taken away or the process drains.
    pub async fn serve(self, share: Share) {
        let Share { name, kind, socket, closed } = share;
        let port = socket.local_addr().map_or(0, |address| address.port());
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(listener = &*name, %error, "cannot serve this listener");
                return;
            }
        };
        let Self { current, phases, connections, accepting, metrics, lane } = self;
        let metrics = metrics.listener(&name);
        match kind {
            Kind::Http => {
                let metrics = Arc::new(metrics);
                let service = HttpService { name: Arc::clone(&name), port, current, lane, metrics };
                let service = Arc::new(service);
                let served = phases.clone();
                accept(name, listener, connections, accepting, phases, closed, |stream, peer| {
                    connection::serve(Arc::clone(&service), stream, peer, served.clone())
                })
                .await;
            }
            Kind::Tcp => {
                let service = Arc::new(TcpService { name: Arc::clone(&name), current, metrics });
                accept(name, listener, connections, accepting, phases, closed, |stream, peer| {
                    tcp::serve(Arc::clone(&service), stream, peer)
                })
                .await;
            }
        }
    }
}

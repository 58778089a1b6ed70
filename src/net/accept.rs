//! One accept loop for every kind of listener: limits, counting, and nothing that ends it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::lifecycle::{Phase, Phases};

/// Pause after an accept that failed for lack of descriptors or memory; others go on meanwhile.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How many connections are open, over all listeners, and how many may be.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    max: AtomicUsize,
    closed: Notify,
}

/// One open connection; dropping it counts it out.
#[derive(Debug)]
pub struct Connection(Arc<Connections>);

/// What the accept loops count.
#[derive(Debug, Clone)]
pub struct Metrics {
    accepted: IntCounterVec,
    refused: IntCounterVec,
    open: IntGaugeVec,
}

impl Metrics {
    /// Registers the metrics of all listeners.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            accepted: IntCounterVec::new(
                Opts::new(
                    "portolan_listener_connections_accepted_total",
                    "Connections accepted, by listener.",
                ),
                &["listener"],
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "portolan_listener_connections_refused_total",
                    "Connections closed at once because a limit was reached, by listener.",
                ),
                &["listener"],
            )?,
            open: IntGaugeVec::new(
                Opts::new("portolan_listener_connections", "Open connections, by listener."),
                &["listener"],
            )?,
        };
        registry.register(Box::new(metrics.accepted.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        Ok(metrics)
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
        })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
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

    /// Returns once none is open.
    pub async fn empty(&self) {
        loop {
            let closed = self.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.open() == 0 {
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

/// Accepts on `listener` until it is closed or the process drains, and runs `serve` for each
/// connection as a task of this runtime. What waits when the process drains is still served.
///
/// A failed accept is logged once per kind and retried: an accept error never ends a listener.
pub async fn accept<F>(
    name: Arc<str>,
    listener: TcpListener,
    connections: Arc<Connections>,
    metrics: Metrics,
    mut phases: Phases,
    mut closed: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let accepted = metrics.accepted.with_label_values(&[&name]);
    let refused = metrics.refused.with_label_values(&[&name]);
    let open = metrics.open.with_label_values(&[&name]);
    let mut failed = None;
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
                let Some(connection) = connections.admit() else {
                    refused.inc();
                    continue;
                };
                // Small answers must not wait for an acknowledgement; if the kernel refuses, the
                // connection still works.
                let _ = stream.set_nodelay(true);
                open.inc();
                let (open, served) = (open.clone(), serve(stream, peer));
                tokio::spawn(async move {
                    served.await;
                    open.dec();
                    drop(connection);
                });
            }
            Err(error) => {
                if failed != Some(error.kind()) {
                    tracing::warn!(listener = &*name, %error, "accept failed; trying again");
                    failed = Some(error.kind());
                }
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
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

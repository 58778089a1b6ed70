//! Which connection carries a request: a free one, a place on a shared one, or a new one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::connect::{Body, Connector, Driver, Opened, Streams};
use super::error::HttpError;

/// A connection that was idle for longer is not used again: its server may just be closing it.
const IDLE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Pool {
    connector: Connector,
    /// Most connections; also the requests that may be under way over HTTP/1.1.
    connections_max: usize,
    permits: Arc<Semaphore>,
    connections: Mutex<Connections>,
    /// Held while a connection is made that others may share.
    opening: tokio::sync::Mutex<()>,
    /// Whether the server multiplexes, as the last connection showed.
    multiplexed: AtomicBool,
    opened: AtomicUsize,
    /// When the other side was found to have ended a connection while nothing was under way.
    broken: watch::Sender<Option<Instant>>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<(One, Instant)>,
    shared: Vec<Arc<Many>>,
}

pub(super) struct One {
    pub(super) sender: http1::SendRequest<Body>,
    driver: Driver,
}

struct Many {
    sender: http2::SendRequest<Body>,
    /// Requests under way.
    load: AtomicUsize,
    /// Most of them.
    streams: Streams,
    _driver: Driver,
}

/// The right to send one request.
pub(super) enum Lease {
    One { one: One, reused: bool, permit: OwnedSemaphorePermit },
    Many(Place),
}

/// A place on a shared connection, given back when dropped.
pub(super) struct Place(Arc<Many>);

impl Place {
    pub(super) fn sender(&self) -> http2::SendRequest<Body> {
        self.0.sender.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pool {
    pub(super) fn new(
        connector: Connector,
        connections_max: usize,
        broken: watch::Sender<Option<Instant>>,
    ) -> Self {
        let connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            connector,
            connections_max,
            permits: Arc::new(Semaphore::new(connections_max)),
            connections: Mutex::default(),
            opening: tokio::sync::Mutex::new(()),
            multiplexed: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            broken,
        }
    }

    pub(super) const fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(super) fn multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// Connections made so far.
    pub(super) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Tells of a connection that was found ended, before a new one takes its place.
    pub(super) fn note_lost(&self) {
        self.broken.send_replace(Some(Instant::now()));
    }

    /// A way to send a request; waits while all connections are in use.
    pub(super) async fn lease(&self) -> Result<Lease, HttpError> {
        if let Some(place) = self.place() {
            return Ok(Lease::Many(place));
        }
        if !self.connector.origin().tls() {
            let permit = self.permit().await?;
            if let Some(one) = self.idle() {
                return Ok(Lease::One { one, reused: true, permit });
            }
            return self.open(permit).await;
        }
        // Whether others can share it shows only once it is there: one after the other.
        if !self.multiplexed() && self.opened() > 0 {
            let permit = self.permit().await?;
            if let Some(one) = self.idle() {
                return Ok(Lease::One { one, reused: true, permit });
            }
            return self.open(permit).await;
        }
        let _first = self.opening.lock().await;
        if let Some(place) = self.place() {
            return Ok(Lease::Many(place));
        }
        if self.all().shared.len() >= self.connections_max {
            return Err(HttpError::Broken(format!(
                "all {} connections are full",
                self.connections_max
            )));
        }
        let permit = self.permit().await?;
        self.open(permit).await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(|_| HttpError::Broken("the client is closed".into()))
    }

    async fn open(&self, permit: OwnedSemaphorePermit) -> Result<Lease, HttpError> {
        let opened = self.connector.open().await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        match opened {
            Opened::One(sender, driver) => {
                self.multiplexed.store(false, Ordering::Relaxed);
                let one = One { sender, driver };
                Ok(Lease::One { one, reused: false, permit })
            }
            Opened::Many(sender, streams, driver) => {
                self.multiplexed.store(true, Ordering::Relaxed);
                let load = AtomicUsize::new(1);
                let many = Arc::new(Many { sender, load, streams, _driver: driver });
                self.all().shared.push(Arc::clone(&many));
                Ok(Lease::Many(Place(many)))
            }
        }
    }

    /// Takes a connection back that has carried its answer to the end.
    pub(super) fn give_back(&self, lease: Lease) {
        if let Lease::One { one, permit, .. } = lease {
            if one.sender.is_closed() {
                self.note_lost();
            } else {
                self.all().idle.push((one, Instant::now()));
            }
            // Only now, so that whoever gets it finds the connection.
            drop(permit);
        }
    }

    /// Forgets every connection; what is under way ends by itself.
    pub(super) fn forget(&self) {
        let mut all = self.all();
        all.idle.clear();
        all.shared.clear();
    }

    fn idle(&self) -> Option<One> {
        let mut all = self.all();
        let now = Instant::now();
        all.idle.retain(|(one, since)| {
            if one.sender.is_closed() {
                self.note_lost();
                return false;
            }
            now.duration_since(*since) < IDLE_MAX
        });
        all.idle.pop().map(|(one, _)| one)
    }

    fn place(&self) -> Option<Place> {
        let mut all = self.all();
        all.shared.retain(|many| {
            if many.sender.is_closed() {
                self.note_lost();
                return false;
            }
            true
        });
        let free =
            all.shared.iter().find(|many| many.load.load(Ordering::Acquire) < (many.streams)())?;
        free.load.fetch_add(1, Ordering::AcqRel);
        Some(Place(Arc::clone(free)))
    }

    fn all(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    /// Ends the connection at once.
    pub(super) fn close(self) {
        drop(self.driver);
    }
}

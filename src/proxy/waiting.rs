//! A place at an endpoint: at once, or after waiting in line for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::balance::PickKey;
use super::clock;
use super::queue::Vain;
use super::route::ServiceRef;
use super::table::ProxyTable;
use super::upstream::{Endpoint, Missed, Upstream, Work};
use crate::catalog::publish::Current;
use crate::random;
use crate::telemetry::metrics::Register as _;

/// How often is looked whether a client has left that has sent more than was read yet.
const LOOK: Duration = Duration::from_millis(20);

/// A place at an endpoint; dropping it gives it back.
#[derive(Debug)]
pub struct Placed {
    /// Where.
    pub endpoint: Arc<Endpoint>,
    /// The place.
    pub work: Work,
    /// The upstream, and how many idle connections the worker keeps to its endpoints, where that is
    /// limited.
    pub keep_alive: Option<(Arc<str>, u32)>,
    /// Generation of the table that decided.
    pub generation: u64,
}

/// Why there is none, after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nobody is eligible, or everybody was tried.
    Nobody,
    /// Everybody is full, and as many wait as may.
    Full,
    /// Everybody was full for as long as one waits.
    Timeout,
    /// The client left.
    Left,
}

/// A place at an endpoint of `wanted` that was not tried, by the policy; nobody who waits is overtaken.
/// Never blocks, never allocates.
///
/// # Errors
/// There is none, or none is free now.
pub fn place(
    table: &ProxyTable,
    wanted: &ServiceRef,
    key: impl FnOnce(&Upstream) -> PickKey,
    tried: &[SocketAddr],
) -> Result<Placed, Missed> {
    let upstream = table.upstream(wanted).ok_or(Missed::Nobody)?;
    if upstream.crowded() {
        return Err(Missed::Full);
    }
    take(table, wanted, upstream, key(upstream), tried)
}

/// A place at `endpoint` of `wanted`, whoever waits for others.
///
/// # Errors
/// It has as much as it may.
pub fn place_at(
    table: &ProxyTable,
    wanted: &ServiceRef,
    endpoint: Arc<Endpoint>,
) -> Result<Placed, Missed> {
    let work = endpoint.try_begin().ok_or(Missed::Full)?;
    let keep_alive = table.upstream(wanted).and_then(|upstream| upstream.rules().keep_alive);
    let keep_alive = keep_alive.map(|most| (Arc::clone(&wanted.key), most));
    Ok(Placed { endpoint, work, keep_alive, generation: table.generation })
}

fn take(
    table: &ProxyTable,
    wanted: &ServiceRef,
    upstream: &Upstream,
    key: PickKey,
    tried: &[SocketAddr],
) -> Result<Placed, Missed> {
    let (endpoint, work) = upstream.take(key, tried)?;
    Ok(Placed {
        endpoint: Arc::clone(endpoint),
        work,
        keep_alive: upstream.rules().keep_alive.map(|most| (Arc::clone(&wanted.key), most)),
        generation: table.generation,
    })
}

/// The same, after everybody was full: waits in line as the service's `queue` says. Each try looks at
/// the newest table. Ends when `left` does.
///
/// # Errors
/// There is none, none came in time, or the client left.
pub async fn wait(
    current: &Current<ProxyTable>,
    wanted: &ServiceRef,
    key: PickKey,
    tried: &[SocketAddr],
    left: impl Future<Output = ()>,
    metrics: &ListenerMetrics,
) -> Result<Placed, Refused> {
    let table = current.load();
    let upstream = table.upstream(wanted).ok_or(Refused::Nobody)?;
    let Some(queue) = upstream.queue().map(Arc::clone) else { return Err(Refused::Nobody) };
    let config = upstream.rules().queue.clone();
    drop(table);
    let attempt = || {
        let table = current.load();
        let Some(upstream) = table.upstream(wanted) else { return Some(Err(Refused::Nobody)) };
        let (random, now_micros) = (random::bits(), clock::micros());
        match take(&table, wanted, upstream, PickKey { random, now_micros, ..key }, tried) {
            Ok(placed) => Some(Ok(placed)),
            Err(Missed::Full) => None,
            Err(Missed::Nobody) => Some(Err(Refused::Nobody)),
        }
    };
    let waiting = Waiting::begin(metrics);
    let placed = tokio::select! {
        biased;
        placed = queue.wait(config.size, config.timeout.0, attempt) => match placed {
            Ok(placed) => placed,
            Err(Vain::Full) => Err(Refused::Full),
            Err(Vain::Timeout) => Err(Refused::Timeout),
        },
        () = left => Err(Refused::Left),
    };
    waiting.end(placed.as_ref().err().copied());
    placed
}

/// Returns when `client` has closed. With `half`, one that has only ended its own side may still
/// wait for an answer to what it sent: it has left when nothing of that is unread.
pub async fn left(client: &TcpStream, half: bool) {
    while let Ok(ready) = client.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            let mut first = [0];
            if !half || !matches!(client.peek(&mut first).await, Ok(1)) {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Returns when the connection to `client` broke. One that has ended its own side still waits.
pub async fn broken(client: &TcpStream) {
    while let Ok(ready) = client.ready(Interest::READABLE).await {
        if ready.is_read_closed() && client.peek(&mut [0]).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is counted of waiting, over all listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    waiting: IntGaugeVec,
    placed: IntCounterVec,
    refused: IntCounterVec,
    seconds: HistogramVec,
}

/// What is counted of waiting on one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    waiting: IntGauge,
    placed: IntCounter,
    /// By reason: full, timeout, left.
    refused: [IntCounter; 3],
    seconds: Histogram,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let waiting = registry.gauge_vec(
            "portolan_proxy_queue_waiting",
            "Requests and connections that wait for a place at an endpoint.",
            &["listener"],
        )?;
        let placed = registry.counter_vec(
            "portolan_proxy_queue_placed_total",
            "Requests and connections that got a place after waiting for it.",
            &["listener"],
        )?;
        let refused = registry.counter_vec(
            "portolan_proxy_queue_refused_total",
            "Requests and connections that got no place, by reason: full, timeout, left.",
            &["listener", "reason"],
        )?;
        let seconds = registry.histogram_vec(
            "portolan_proxy_queue_wait_seconds",
            "Time for which those waited that got a place.",
            prometheus::exponential_buckets(0.001, 2.0, 14)?,
            &["listener"],
        )?;
        Ok(Self { waiting, placed, refused, seconds })
    }

    /// The handles of one listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        ListenerMetrics {
            waiting: self.waiting.with_label_values(&[name]),
            placed: self.placed.with_label_values(&[name]),
            refused: ["full", "timeout", "left"]
                .map(|reason| self.refused.with_label_values(&[name, reason])),
            seconds: self.seconds.with_label_values(&[name]),
        }
    }
}

/// One who waits, counted until it is dropped.
struct Waiting<'a> {
    metrics: &'a ListenerMetrics,
    began: Instant,
    told: bool,
}

impl<'a> Waiting<'a> {
    fn begin(metrics: &'a ListenerMetrics) -> Self {
        metrics.waiting.inc();
        Self { metrics, began: Instant::now(), told: false }
    }

    fn end(mut self, refused: Option<Refused>) {
        self.told = true;
        match refused {
            None => {
                self.metrics.placed.inc();
                self.metrics.seconds.observe(self.began.elapsed().as_secs_f64());
            }
            Some(Refused::Full) => self.metrics.refused[0].inc(),
            Some(Refused::Timeout) => self.metrics.refused[1].inc(),
            Some(Refused::Left) => self.metrics.refused[2].inc(),
            Some(Refused::Nobody) => {}
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.metrics.waiting.dec();
        if !self.told {
            self.metrics.refused[2].inc();
        }
    }
}

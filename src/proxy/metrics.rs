//! What the proxy counts. Handles are looked up when a listener starts, never per request.

use super::waiting;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// The metrics of all listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    refused: IntCounterVec,
    retries: IntCounterVec,
    bytes: IntCounterVec,
    duration: HistogramVec,
    queue: waiting::Metrics,
}

/// The metrics of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    /// Requests by the first digit of their status, 1 to 5; index 0 counts those without answer.
    requests: [IntCounter; 6],
    refused: IntCounterVec,
    name: Box<str>,
    /// Endpoints that could not be reached, after which another one was tried.
    pub retries: IntCounter,
    /// Bytes from clients, and to clients, on TCP listeners.
    pub bytes: [IntCounter; 2],
    /// From the head of a request to the last byte of its answer, one in eight requests.
    pub duration: prometheus::Histogram,
    /// Who waits for a place at an endpoint.
    pub queue: waiting::ListenerMetrics,
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl Metrics {
    /// Registers the proxy's metrics.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "portolan_proxy_request_duration_seconds",
                "Time from the head of a request to the end of its answer, sampled one in eight.",
            )
            .buckets(prometheus::exponential_buckets(0.000_25, 2.0, 16)?),
            &["listener"],
        )?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Self {
            requests: counter(
                "portolan_proxy_requests_total",
                "HTTP requests that reached routing, by listener and class of the status.",
                &["listener", "class"],
            )?,
            refused: counter(
                "portolan_proxy_refused_total",
                "HTTP requests refused before routing, by listener and reason.",
                &["listener", "reason"],
            )?,
            retries: counter(
                "portolan_proxy_connect_retries_total",
                "Endpoints that could not be reached while another one was left to try.",
                &["listener"],
            )?,
            bytes: counter(
                "portolan_proxy_tcp_bytes_total",
                "Bytes carried by TCP listeners, by the side they came from.",
                &["listener", "from"],
            )?,
            duration,
            queue: waiting::Metrics::register(registry)?,
        })
    }

    /// The handles of one listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        ListenerMetrics {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[name, class])),
            refused: self.refused.clone(),
            name: name.into(),
            retries: self.retries.with_label_values(&[name]),
            bytes: ["client", "endpoint"].map(|from| self.bytes.with_label_values(&[name, from])),
            duration: self.duration.with_label_values(&[name]),
            queue: self.queue.listener(name),
        }
    }
}

impl ListenerMetrics {
    /// Counts a request that was answered with `status`, or 0 when the client left before.
    pub fn request(&self, status: u16) {
        self.requests[usize::from(status / 100).min(5)].inc();
    }

    /// Counts a request that was refused; not a hot path, so the label is looked up here.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[&*self.name, reason]).inc();
    }
}

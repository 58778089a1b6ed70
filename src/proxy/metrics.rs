//! What the proxy counts. Handles are looked up when a listener starts, never per request.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::route::Route;
use super::route_metrics::{CLASSES, RouteMetrics, Routes};

use super::limit::metrics::{Counts, Metrics as Limits};

use super::cut::Reason;

use super::sticky;

use super::waiting;

/// The metrics of all listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    refused: IntCounterVec,
    retries: IntCounterVec,
    bytes: IntCounterVec,
    cut: IntCounterVec,
    limits: Limits,
    routes: Routes,
    /// What stickiness counts.
    pub sticky: sticky::Metrics,
    queue: waiting::Metrics,
}

/// The metrics of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    /// Requests by the first digit of their status, 1 to 5; index 0 counts those without answer.
    requests: [IntCounter; 6],
    refused: IntCounterVec,
    cut: IntCounterVec,
    name: Arc<str>,
    /// Endpoints that could not be reached, after which another one was tried.
    pub retries: IntCounter,
    /// Bytes from clients, and to clients, on TCP listeners.
    pub bytes: [IntCounter; 2],
    /// What limits and retries count.
    pub limits: Counts,
    routes: Routes,
    /// Those of requests that no route takes.
    no_route: Arc<RouteMetrics>,
    /// What became of bindings.
    pub sticky: sticky::Counts,
    /// Who waits for a place at an endpoint.
    pub queue: waiting::ListenerMetrics,
}

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
            cut: counter(
                "portolan_proxy_cut_total",
                "Requests, tunnels and TCP connections cut at their endpoint, by listener and reason.",
                &["listener", "reason"],
            )?,
            limits: Limits::register(registry)?,
            routes: Routes::register(registry)?,
            sticky: sticky::Metrics::register(registry)?,
            queue: waiting::Metrics::register(registry)?,
        })
    }

    /// From now on so many routes have metrics of their own.
    pub fn set_routes_max(&self, routes: usize) {
        self.routes.set_most(routes);
    }

    /// The handles of one listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        ListenerMetrics {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[name, class])),
            refused: self.refused.clone(),
            cut: self.cut.clone(),
            name: name.into(),
            retries: self.retries.with_label_values(&[name]),
            bytes: ["client", "endpoint"].map(|from| self.bytes.with_label_values(&[name, from])),
            limits: self.limits.listener(name),
            routes: self.routes.clone(),
            no_route: self.routes.none(&Arc::from(name)),
            sticky: self.sticky.listener(name),
            queue: self.queue.listener(name),
        }
    }
}

impl ListenerMetrics {
    /// Counts a request that was answered with `status`, or 0 when the client left before.
    pub fn request(&self, status: u16) {
        self.requests[usize::from(status / 100).min(5)].inc();
    }

    /// The counters of `route`, or those of requests that no route takes.
    #[must_use]
    pub fn route<'a>(&'a self, route: Option<&'a Route>) -> &'a RouteMetrics {
        match route {
            Some(route) => self.routes.of(&self.name, &route.name, &route.counters),
            None => &self.no_route,
        }
    }

    /// Counts a request that was refused; not a hot path, so the label is looked up here.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[&*self.name, reason]).inc();
    }

    /// Counts what was cut because its endpoint has had its time; not a hot path either.
    pub fn cut(&self, reason: Reason) {
        self.cut.with_label_values(&[&*self.name, reason.word()]).inc();
    }
}

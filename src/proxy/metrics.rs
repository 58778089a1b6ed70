//! What the proxy counts. Handles are looked up when a listener starts, never per request.

mod told;

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::cut::Reason;
use super::http::auth::AuthMetrics;
use super::http::broken::Broken;
use super::limit::metrics::{Counts, Metrics as Limits};
use super::route::Route;
use super::route_metrics::{CLASSES, RouteMetrics, Routes};
use super::{sticky, tcp, udp, waiting};
use crate::telemetry::metrics::Register as _;
pub use told::Told;

/// The metrics of all listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    refused: IntCounterVec,
    mended: IntCounterVec,
    announced: IntCounterVec,
    hellos: IntCounterVec,
    slow: IntCounterVec,
    retries: IntCounterVec,
    bytes: IntCounterVec,
    cut: IntCounterVec,
    h2_closed: IntCounterVec,
    h2_streams: IntGaugeVec,
    ports: IntGaugeVec,
    /// What labels ask for and can't have.
    pub label_problems: IntGauge,
    /// What becomes of those who are asked for their name.
    pub auth: AuthMetrics,
    limits: Limits,
    routes: Routes,
    /// What stickiness counts.
    pub sticky: sticky::Metrics,
    queue: waiting::Metrics,
    /// What TCP counts.
    pub tcp: tcp::metrics::Metrics,
    /// What UDP listeners count.
    pub udp: udp::metrics::Metrics,
}

/// The metrics of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    /// Requests by the first digit of their status, 1 to 5; index 0 counts those without answer.
    requests: [IntCounter; 6],
    refused: IntCounterVec,
    mended: IntCounterVec,
    announced: IntCounterVec,
    hellos: IntCounterVec,
    slow: IntCounterVec,
    cut: IntCounterVec,
    h2_closed: IntCounterVec,
    /// Streams of HTTP/2 that run.
    pub h2_streams: IntGauge,
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
    /// What becomes of TCP connections.
    pub tcp: tcp::metrics::ListenerMetrics,
    /// What becomes of those who are asked for their name.
    pub auth: AuthMetrics,
}

impl Metrics {
    /// Registers the proxy's metrics.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: registry.counter_vec(
                "portolan_proxy_requests_total",
                "HTTP requests that reached routing, by listener and class of the status.",
                &["listener", "class"],
            )?,
            refused: registry.counter_vec(
                "portolan_proxy_refused_total",
                "HTTP requests refused before routing or for their body's form, by listener and reason.",
                &["listener", "reason"],
            )?,
            announced: registry.counter_vec(
                "portolan_proxy_protocol_total",
                "Connections that had to begin with a PROXY header, by listener and what came.",
                &["listener", "result"],
            )?,
            hellos: registry.counter_vec(
                "portolan_tls_hello_total",
                "Connections at listeners that read the hello of TLS and pass it on, by what came.",
                &["listener", "result"],
            )?,
            mended: registry.counter_vec(
                "portolan_proxy_mended_total",
                "HTTP requests of lenient listeners that strict ones refuse, by listener and reason.",
                &["listener", "reason"],
            )?,
            slow: registry.counter_vec(
                "portolan_proxy_slow_total",
                "Clients that were slower than `min_rates` and cut, by listener and what was slow.",
                &["listener", "what"],
            )?,
            retries: registry.counter_vec(
                "portolan_proxy_connect_retries_total",
                "Endpoints that could not be reached while another one was left to try.",
                &["listener"],
            )?,
            bytes: registry.counter_vec(
                "portolan_proxy_tcp_bytes_total",
                "Bytes carried by TCP listeners, by the side they came from.",
                &["listener", "from"],
            )?,
            cut: registry.counter_vec(
                "portolan_proxy_cut_total",
                "Requests, tunnels, TCP connections and UDP flows cut at their endpoint, by listener and reason.",
                &["listener", "reason"],
            )?,
            h2_closed: registry.counter_vec(
                "portolan_proxy_h2_closed_total",
                "HTTP/2 connections closed for what the client did, by listener and reason.",
                &["listener", "reason"],
            )?,
            h2_streams: registry.gauge_vec(
                "portolan_proxy_h2_streams",
                "HTTP/2 streams that run, by listener.",
                &["listener"],
            )?,
            ports: registry.gauge_vec(
                "portolan_listener_ports",
                "Ports that services ask for, by listener and whether they have them.",
                &["listener", "state"],
            )?,
            label_problems: registry.gauge(
                "portolan_labels_problems",
                "What labels of services ask for and cannot have.",
            )?,
            auth: AuthMetrics::register(registry)?,
            limits: Limits::register(registry)?,
            routes: Routes::register(registry)?,
            sticky: sticky::Metrics::register(registry)?,
            queue: waiting::Metrics::register(registry)?,
            tcp: tcp::metrics::Metrics::register(registry)?,
            udp: udp::metrics::Metrics::register(registry)?,
        })
    }

    /// Counts the ports that services have of a listener, and those that they could not get.
    pub fn ports(&self, listener: &str, open: usize, refused: usize) {
        for (state, count) in [("open", open), ("refused", refused)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.ports.with_label_values(&[listener, state]).set(count);
        }
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
            mended: self.mended.clone(),
            announced: self.announced.clone(),
            hellos: self.hellos.clone(),
            slow: self.slow.clone(),
            cut: self.cut.clone(),
            h2_closed: self.h2_closed.clone(),
            h2_streams: self.h2_streams.with_label_values(&[name]),
            name: name.into(),
            retries: self.retries.with_label_values(&[name]),
            bytes: ["client", "endpoint"].map(|from| self.bytes.with_label_values(&[name, from])),
            limits: self.limits.listener(name),
            routes: self.routes.clone(),
            no_route: self.routes.none(&Arc::from(name)),
            sticky: self.sticky.listener(name),
            queue: self.queue.listener(name),
            tcp: self.tcp.listener(name),
            auth: self.auth.clone(),
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

    /// Counts a connection that was to begin with a header of the PROXY protocol, by what came.
    pub fn announced(&self, result: &str) {
        self.announced.with_label_values(&[&*self.name, result]).inc();
    }

    /// Counts a connection by what became of its hello.
    pub fn hello(&self, result: &str) {
        self.hellos.with_label_values(&[&*self.name, result]).inc();
    }

    /// Counts a request that was mended; not a hot path either.
    pub fn mended(&self, reason: &str) {
        self.mended.with_label_values(&[&*self.name, reason]).inc();
    }

    /// Counts what broke a client's connection.
    pub fn broke(&self, broken: Broken) {
        match broken {
            Broken::Chunks | Broken::Trailers => self.refused(broken.word()),
            Broken::SlowBody => self.slow.with_label_values(&[&*self.name, "body"]).inc(),
            Broken::SlowReader => self.slow.with_label_values(&[&*self.name, "reader"]).inc(),
        }
    }

    /// Counts a connection of HTTP/2 that was closed for what its client did.
    pub fn h2_closed(&self, reason: &str) {
        self.h2_closed.with_label_values(&[&*self.name, reason]).inc();
    }

    /// Counts what was cut because its endpoint has had its time; not a hot path either.
    pub fn cut(&self, reason: Reason) {
        self.cut.with_label_values(&[&*self.name, reason.word()]).inc();
    }
}

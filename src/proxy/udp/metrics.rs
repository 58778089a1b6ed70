//! What UDP listeners count. Handles are looked up when a listener starts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::telemetry::metrics::Register as _;

/// The metrics of all listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    open: IntGaugeVec,
    flows: IntCounterVec,
    datagrams: IntCounterVec,
    bytes: IntCounterVec,
    dropped: IntCounterVec,
}

/// The metrics of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    /// Flows that there are.
    pub open: IntGauge,
    flows: [IntCounter; 6],
    /// Datagrams and bytes from clients that went to endpoints.
    pub to_endpoint: [IntCounter; 2],
    /// The same the other way.
    pub to_client: [IntCounter; 2],
    dropped: [IntCounter; 8],
}

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It began.
    Begun,
    /// It goes on at another endpoint.
    Moved,
    /// It ended: nothing came for the idle time.
    Idle,
    /// It ended: every datagram had its replies.
    Answered,
    /// It ended: its instance left.
    Left,
    /// It ended: the listener was taken away.
    Closed,
}

/// Words of [`Became`], in its order.
const BECAME: [&str; 6] = ["begun", "moved", "idle", "answered", "left", "closed"];

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It would have begun a flow, of which there are as many as may be.
    Flows,
    /// The same of its client.
    Client,
    /// No endpoint is eligible.
    Nobody,
    /// Every endpoint has as much as it may (`max_connections`).
    Full,
    /// Every endpoint that was tried refused.
    Unreachable,
    /// There is no descriptor for a flow, or no free port.
    Descriptors,
    /// The kernel did not take it: too long for the way, no buffer, no route.
    Unsent,
    /// Its source cannot be answered: port 0, or we ourselves.
    Source,
}

/// Words of [`Dropped`], in its order.
const DROPPED: [&str; 8] =
    ["flows", "client", "nobody", "full", "unreachable", "descriptors", "unsent", "source"];

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, label: &str| {
            registry.counter_vec(name, help, &["listener", label])
        };
        let open =
            registry.gauge_vec("portolan_udp_flows", "Flows of UDP listeners.", &["listener"])?;
        Ok(Self {
            open,
            flows: counter(
                "portolan_udp_flows_total",
                "Flows of UDP listeners that began, moved or ended, by listener and what became of them.",
                "result",
            )?,
            datagrams: counter(
                "portolan_udp_datagrams_total",
                "Datagrams carried by UDP listeners, by the side they came from.",
                "from",
            )?,
            bytes: counter(
                "portolan_udp_bytes_total",
                "Bytes carried by UDP listeners, by the side they came from.",
                "from",
            )?,
            dropped: counter(
                "portolan_udp_dropped_total",
                "Datagrams that UDP listeners dropped, by listener and reason.",
                "reason",
            )?,
        })
    }

    /// The handles of one listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        let carried = |from: &str| {
            [&self.datagrams, &self.bytes].map(|counter| counter.with_label_values(&[name, from]))
        };
        ListenerMetrics {
            open: self.open.with_label_values(&[name]),
            flows: BECAME.map(|became| self.flows.with_label_values(&[name, became])),
            to_endpoint: carried("client"),
            to_client: carried("endpoint"),
            dropped: DROPPED.map(|reason| self.dropped.with_label_values(&[name, reason])),
        }
    }
}

impl ListenerMetrics {
    /// Counts what became of a flow.
    pub fn flow(&self, became: Became) {
        self.flows[became as usize].inc();
    }

    /// Counts datagrams that were dropped.
    pub fn dropped(&self, reason: Dropped, datagrams: usize) {
        self.dropped[reason as usize].inc_by(datagrams as u64);
    }
}

/// Counts datagrams that were carried, and their bytes.
pub fn carried(counters: &[IntCounter; 2], datagrams: usize, bytes: usize) {
    counters[0].inc_by(datagrams as u64);
    counters[1].inc_by(bytes as u64);
}

//! What is counted of forwarding. Upstreams are a label: there are as many as the configuration
//! names, and those that it does not name any more lose theirs.

use std::net::SocketAddr;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::telemetry::metrics::Register as _;

/// Upper bounds of the times of upstreams, in seconds.
const LATENCIES: [f64; 9] = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0, 2.0, 5.0];
/// How an exchange can end.
const ENDS: [&str; 5] = ["answered", "truncated", "refused", "timed_out", "failed"];

/// Counters of forwarding. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) cache_hit: IntCounter,
    pub(super) cache_miss: IntCounter,
    pub(super) cache_stale: IntCounter,
    pub(super) cache_failure: IntCounter,
    pub(super) cache_entries: IntGauge,
    pub(super) cache_bytes: IntGauge,
    pub(super) cache_evicted: IntCounter,
    pub(super) coalesced: IntCounter,
    pub(super) prefetched: IntCounter,
    pub(super) in_flight: IntGauge,
    pub(super) waiting: IntGauge,
    pub(super) over_in_flight: IntCounter,
    pub(super) over_waiting: IntCounter,
    pub(super) over_per_client: IntCounter,
    pub(super) rejected_id: IntCounter,
    pub(super) rejected_question: IntCounter,
    pub(super) rejected_garbled: IntCounter,
    pub(super) rejected_many: IntCounter,
    pub(super) loops: IntCounter,
    pub(in crate::dns) aliases: IntCounter,
    pub(in crate::dns) searched: IntCounter,
    queries: IntCounterVec,
    probes: IntCounterVec,
    up: IntGaugeVec,
    seconds: HistogramVec,
}

impl Metrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When one of the names is taken there.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let cache = registry.counter_vec(
            "portolan_dns_forward_cache_total",
            "Forwarded questions by what was kept of the answer: hit, stale (it had run out and was \
             given all the same), failure (upstreams had failed just before), miss.",
            &["result"],
        )?;
        let over = registry.counter_vec(
            "portolan_dns_forward_over_limit_total",
            "Forwarded questions that got SERVFAIL at once, by the limit that was reached.",
            &["limit"],
        )?;
        let rejected = registry.counter_vec(
            "portolan_dns_forward_rejected_total",
            "Messages from an upstream's address that were not believed: with another id, to \
             another question, unreadable; and many: sockets that got too many of them.",
            &["reason"],
        )?;
        let up = registry.gauge_vec(
            "portolan_dns_forward_upstream_up",
            "1 while an upstream answers, 0 while it is suspected.",
            &["upstream"],
        )?;
        let seconds = registry.histogram_vec(
            "portolan_dns_forward_upstream_latency_seconds",
            "Time that upstreams took to answer.",
            LATENCIES.to_vec(),
            &["upstream"],
        )?;
        Ok(Self {
            cache_hit: cache.with_label_values(&["hit"]),
            cache_miss: cache.with_label_values(&["miss"]),
            cache_stale: cache.with_label_values(&["stale"]),
            cache_failure: cache.with_label_values(&["failure"]),
            cache_entries: registry.gauge(
                "portolan_dns_forward_cache_entries",
                "Answers of upstreams that are kept.",
            )?,
            cache_bytes: registry.gauge(
                "portolan_dns_forward_cache_bytes",
                "Bytes of answers of upstreams that are kept.",
            )?,
            cache_evicted: registry.counter(
                "portolan_dns_forward_cache_evicted_total",
                "Answers of upstreams that had to make room for others.",
            )?,
            coalesced: registry.counter(
                "portolan_dns_forward_coalesced_total",
                "Forwarded questions that waited for a query that was under way already.",
            )?,
            prefetched: registry.counter(
                "portolan_dns_forward_prefetched_total",
                "Answers of upstreams that were fetched anew before they ran out.",
            )?,
            in_flight: registry
                .gauge("portolan_dns_forward_in_flight", "Questions under way to upstreams.")?,
            waiting: registry.gauge(
                "portolan_dns_forward_waiting",
                "Questions of clients that wait for upstreams.",
            )?,
            over_in_flight: over.with_label_values(&["max_in_flight"]),
            over_waiting: over.with_label_values(&["max_waiting"]),
            over_per_client: over.with_label_values(&["max_per_client"]),
            rejected_id: rejected.with_label_values(&["id"]),
            rejected_question: rejected.with_label_values(&["question"]),
            rejected_garbled: rejected.with_label_values(&["garbled"]),
            rejected_many: rejected.with_label_values(&["many"]),
            loops: registry.counter(
                "portolan_dns_forward_loops_total",
                "Queries to upstreams that came back as questions to us.",
            )?,
            aliases: registry.counter(
                "portolan_dns_forward_aliases_total",
                "Answers of our zones whose alias leads outside and was followed there.",
            )?,
            searched: registry.counter(
                "portolan_dns_forward_searched_total",
                "Questions that were answered from further down the client's search list.",
            )?,
            queries: registry.counter_vec(
                "portolan_dns_forward_upstream_queries_total",
                "Exchanges with upstreams for forwarded questions, by result.",
                &["upstream", "result"],
            )?,
            probes: registry.counter_vec(
                "portolan_dns_forward_probes_total",
                "Probes of suspected upstreams, by result.",
                &["result"],
            )?,
            up,
            seconds,
        })
    }

    /// Counts an exchange with `upstream` that ended as `end`, one of [`ENDS`], after so long.
    pub(super) fn exchange(&self, upstream: SocketAddr, end: &str, seconds: f64) {
        let upstream = upstream.to_string();
        self.queries.with_label_values(&[&*upstream, end]).inc();
        if matches!(end, "answered" | "truncated") {
            self.seconds.with_label_values(&[&*upstream]).observe(seconds);
        }
    }

    /// Counts a probe.
    pub(super) fn probe(&self, answered: bool) {
        self.probes.with_label_values(&[if answered { "answered" } else { "failed" }]).inc();
    }

    /// Tells how `upstream` does.
    pub(super) fn up(&self, upstream: SocketAddr, up: bool) {
        self.up.with_label_values(&[&*upstream.to_string()]).set(up.into());
    }

    /// `upstream` is not asked any more.
    pub(super) fn forget(&self, upstream: SocketAddr) {
        let upstream = upstream.to_string();
        // Errors say that it was never counted.
        let _ = self.up.remove_label_values(&[&*upstream]);
        let _ = self.seconds.remove_label_values(&[&*upstream]);
        for end in ENDS {
            let _ = self.queries.remove_label_values(&[&*upstream, end]);
        }
    }
}

//! What is counted. Labels come from short lists, never from names or addresses.

use std::sync::{Arc, OnceLock};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::respond::{Outcome, Transport};
use super::wire::{Header, Question, be16, rcode, rtype};
use crate::telemetry::metrics::Register as _;

/// Transport and lane of each way by which a reply leaves.
const WAYS: [(&str, &str); 3] = [("udp", "express"), ("udp", "full"), ("tcp", "full")];
/// Upper bounds of latencies, in seconds.
const LATENCIES: [f64; 10] = [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2, 1e-1];
/// Types that have a label of their own; all others are "other", a reply without question "none".
const QTYPES: [(u16, &str); 11] = [
    (rtype::A, "A"),
    (rtype::AAAA, "AAAA"),
    (rtype::SRV, "SRV"),
    (rtype::PTR, "PTR"),
    (rtype::TXT, "TXT"),
    (rtype::CNAME, "CNAME"),
    (rtype::NS, "NS"),
    (rtype::SOA, "SOA"),
    (rtype::MX, "MX"),
    (rtype::HTTPS, "HTTPS"),
    (rtype::ANY, "ANY"),
];
const QTYPE_OTHER: usize = QTYPES.len();
const QTYPE_NONE: usize = QTYPE_OTHER + 1;
const RCODES: [(u16, &str); 9] = [
    (rcode::NOERROR, "NOERROR"),
    (rcode::FORMERR, "FORMERR"),
    (rcode::SERVFAIL, "SERVFAIL"),
    (rcode::NXDOMAIN, "NXDOMAIN"),
    (rcode::NOTIMP, "NOTIMP"),
    (rcode::REFUSED, "REFUSED"),
    (rcode::NOTAUTH, "NOTAUTH"),
    (rcode::BADVERS, "BADVERS"),
    (rcode::BADCOOKIE, "BADCOOKIE"),
];
const RCODE_OTHER: usize = RCODES.len();

type ByRcode = [OnceLock<IntCounter>; RCODE_OTHER + 1];
type ByQtype = [ByRcode; QTYPE_NONE + 1];

/// Counters of the room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    queries: IntCounterVec,
    /// Handles by way, type and code, each looked up once, when it is first needed.
    resolved: Arc<[ByQtype; WAYS.len()]>,
    pub(super) latency_express: Histogram,
    pub(super) latency_tcp: Histogram,
    pub(super) dropped_rate: IntCounter,
    pub(super) dropped_panic: IntCounter,
    pub(super) handed_over: IntCounter,
    pub(super) hand_over_refused: IntCounter,
    pub(super) dropped_short: IntCounter,
    pub(super) dropped_response: IntCounter,
    pub(super) dropped_source: IntCounter,
    pub(super) dropped_unsent: IntCounter,
    pub(super) forwards_answered: IntCounter,
    pub(super) forwards_failed: IntCounter,
    pub(super) forwards_refused: IntCounter,
    /// Those of forwarding.
    pub(super) forward: super::forward::Metrics,
    pub(super) tcp_connections: IntGauge,
    pub(super) tcp_refused: IntCounter,
    pub(super) tcp_evicted: IntCounter,
    pub(super) tcp_timeouts: IntCounter,
}

impl Metrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When one of the names is taken there.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let queries = registry.counter_vec(
            "portolan_dns_queries_total",
            "DNS queries answered, by transport, lane, type and response code.",
            &["transport", "lane", "qtype", "rcode"],
        )?;
        let dropped = registry.counter_vec(
            "portolan_dns_dropped_total",
            "Datagrams and replies dropped: too short for a header, a response instead of a \
             query, from an address that cannot be answered, with no room to send, beyond the rate \
             limit, or lost in a panic.",
            &["reason"],
        )?;
        let forwards = registry.counter_vec(
            "portolan_dns_forwards_total",
            "Queries for names outside the zones that were forwarded, by result.",
            &["result"],
        )?;
        let handed = registry.counter_vec(
            "portolan_dns_handed_over_total",
            "Queries by UDP that the express lane gave to the full lane, by result.",
            &["result"],
        )?;
        let latency = registry.histogram_vec(
            "portolan_dns_latency_seconds",
            "Time from reading a query to having sent its reply, of one in many queries that \
             needed no upstream, by lane.",
            LATENCIES.to_vec(),
            &["lane"],
        )?;
        let tcp_connections =
            registry.gauge("portolan_dns_tcp_connections", "Open DNS connections by TCP.")?;
        Ok(Self {
            queries,
            resolved: Arc::default(),
            dropped_short: dropped.with_label_values(&["short"]),
            dropped_response: dropped.with_label_values(&["response"]),
            dropped_source: dropped.with_label_values(&["source"]),
            dropped_unsent: dropped.with_label_values(&["unsent"]),
            dropped_rate: dropped.with_label_values(&["rate"]),
            dropped_panic: dropped.with_label_values(&["panic"]),
            latency_express: latency.with_label_values(&["express"]),
            latency_tcp: latency.with_label_values(&["full"]),
            handed_over: handed.with_label_values(&["taken"]),
            hand_over_refused: handed.with_label_values(&["queue_full"]),
            forwards_answered: forwards.with_label_values(&["answered"]),
            forwards_failed: forwards.with_label_values(&["failed"]),
            forwards_refused: forwards.with_label_values(&["over_limit"]),
            forward: super::forward::Metrics::register(registry)?,
            tcp_connections,
            tcp_refused: registry.counter(
                "portolan_dns_tcp_refused_total",
                "DNS connections by TCP closed at once because too many were open.",
            )?,
            tcp_evicted: registry.counter(
                "portolan_dns_tcp_evicted_total",
                "Idle DNS connections by TCP closed to make room for new ones.",
            )?,
            tcp_timeouts: registry.counter(
                "portolan_dns_tcp_timeouts_total",
                "DNS connections by TCP closed because a message or a reader took too long.",
            )?,
        })
    }

    /// Counts `reply`, which an upstream gave and which went out by `transport`.
    pub(super) fn count(&self, transport: Transport, reply: &[u8]) {
        let (qtype, rcode) = summary(reply);
        let way = match transport {
            Transport::Udp => Way::UdpFull,
            Transport::Tcp => Way::Tcp,
        };
        self.add(way, place(qtype, rcode), 1);
    }

    /// Counts a reply of our own.
    pub(super) fn count_own(&self, way: Way, outcome: Outcome) {
        self.add(way, place(outcome.qtype, outcome.rcode), 1);
    }

    /// Counts replies of a batch.
    pub(super) const fn tally(&self, way: Way) -> Tally<'_> {
        Tally { metrics: self, way, place: (0, 0), count: 0 }
    }

    fn add(&self, way: Way, (qtype_at, rcode_at): (usize, usize), count: u64) {
        let way = way as usize;
        self.resolved[way][qtype_at][rcode_at]
            .get_or_init(|| {
                let (transport, lane) = WAYS[way];
                let qtype = match qtype_at {
                    QTYPE_NONE => "none",
                    at => QTYPES.get(at).map_or("other", |known| known.1),
                };
                let rcode = RCODES.get(rcode_at).map_or("other", |known| known.1);
                self.queries.with_label_values(&[transport, lane, qtype, rcode])
            })
            .inc_by(count);
    }
}

/// By which way a reply leaves; the order is that of [`WAYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    UdpExpress,
    UdpFull,
    Tcp,
}

/// Counts of a batch, put together while they are the same: threads share the counters, and meet
/// at them once per batch instead of once per query.
pub(super) struct Tally<'a> {
    metrics: &'a Metrics,
    way: Way,
    place: (usize, usize),
    count: u64,
}

impl Tally<'_> {
    pub(super) fn add(&mut self, outcome: Outcome) {
        let place = place(outcome.qtype, outcome.rcode);
        if place != self.place {
            self.flush();
            self.place = place;
        }
        self.count += 1;
    }

    fn flush(&mut self) {
        if self.count > 0 {
            self.metrics.add(self.way, self.place, self.count);
            self.count = 0;
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where type and code stand in the lists.
fn place(qtype: Option<u16>, rcode: u16) -> (usize, usize) {
    let qtype = qtype.map_or(QTYPE_NONE, |qtype| {
        QTYPES.iter().position(|known| known.0 == qtype).unwrap_or(QTYPE_OTHER)
    });
    let rcode = RCODES.iter().position(|known| known.0 == rcode).unwrap_or(RCODE_OTHER);
    (qtype, rcode)
}

/// Type asked for and response code of a reply as it was sent.
fn summary(reply: &[u8]) -> (Option<u16>, u16) {
    let Some(header) = Header::read(reply) else { return (None, rcode::SERVFAIL) };
    let question = (header.counts[0] == 1).then(|| Question::read(reply)).flatten();
    let mut rcode = header.flags & 0xf;
    if let Some(question) = &question {
        // Only one code has high bits, and its reply is the question and EDNS, nothing else.
        let opt = question.end;
        if header.counts[1..] == [0, 0, 1] && be16(reply, opt + 1) == Some(rtype::OPT) {
            rcode |= reply.get(opt + 5).map_or(0, |high| u16::from(*high) << 4);
        }
    }
    (question.map(|question| question.qtype), rcode)
}

//! What is counted. Labels come from short lists, never from names or addresses.

use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::respond::Transport;
use super::wire::{Header, Question, be16, rcode, rtype};

const TRANSPORTS: [&str; 2] = ["udp", "tcp"];
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
const RCODES: [(u16, &str); 8] = [
    (rcode::NOERROR, "NOERROR"),
    (rcode::FORMERR, "FORMERR"),
    (rcode::SERVFAIL, "SERVFAIL"),
    (rcode::NXDOMAIN, "NXDOMAIN"),
    (rcode::NOTIMP, "NOTIMP"),
    (rcode::REFUSED, "REFUSED"),
    (rcode::NOTAUTH, "NOTAUTH"),
    (rcode::BADVERS, "BADVERS"),
];
const RCODE_OTHER: usize = RCODES.len();

type ByRcode = [OnceLock<IntCounter>; RCODE_OTHER + 1];
type ByQtype = [ByRcode; QTYPE_NONE + 1];

/// Counters of the room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    queries: IntCounterVec,
    /// Handles by transport, type and code, each looked up once, when it is first needed.
    resolved: Arc<[ByQtype; 2]>,
    pub(super) dropped_short: IntCounter,
    pub(super) dropped_response: IntCounter,
    pub(super) dropped_source: IntCounter,
    pub(super) dropped_unsent: IntCounter,
    pub(super) forwards_answered: IntCounter,
    pub(super) forwards_failed: IntCounter,
    pub(super) forwards_refused: IntCounter,
    pub(super) tcp_connections: IntGauge,
    pub(super) tcp_refused: IntCounter,
    pub(super) tcp_timeouts: IntCounter,
}

impl Metrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When one of the names is taken there.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let queries = counters(
            "portolan_dns_queries_total",
            "DNS queries answered, by transport, type and response code.",
            &["transport", "qtype", "rcode"],
        )?;
        let dropped = counters(
            "portolan_dns_dropped_total",
            "Datagrams and replies dropped: too short for a header, a response instead of a \
             query, from an address that cannot be answered, or with no room to send.",
            &["reason"],
        )?;
        let forwards = counters(
            "portolan_dns_forwards_total",
            "Queries for names outside the zones that were forwarded, by result.",
            &["result"],
        )?;
        let tcp_connections =
            IntGauge::new("portolan_dns_tcp_connections", "Open DNS connections by TCP.")?;
        registry.register(Box::new(tcp_connections.clone()))?;
        Ok(Self {
            queries,
            resolved: Arc::default(),
            dropped_short: dropped.with_label_values(&["short"]),
            dropped_response: dropped.with_label_values(&["response"]),
            dropped_source: dropped.with_label_values(&["source"]),
            dropped_unsent: dropped.with_label_values(&["unsent"]),
            forwards_answered: forwards.with_label_values(&["answered"]),
            forwards_failed: forwards.with_label_values(&["failed"]),
            forwards_refused: forwards.with_label_values(&["over_limit"]),
            tcp_connections,
            tcp_refused: counter(
                "portolan_dns_tcp_refused_total",
                "DNS connections by TCP closed at once because too many were open.",
            )?,
            tcp_timeouts: counter(
                "portolan_dns_tcp_timeouts_total",
                "DNS connections by TCP closed because a message or a reader took too long.",
            )?,
        })
    }

    /// Counts `reply`, which went out by `transport`.
    pub(super) fn count(&self, transport: Transport, reply: &[u8]) {
        let (transport_at, transport) = match transport {
            Transport::Udp => (0, TRANSPORTS[0]),
            Transport::Tcp => (1, TRANSPORTS[1]),
        };
        let (qtype, rcode) = summary(reply);
        let (qtype_at, qtype) = match qtype {
            None => (QTYPE_NONE, "none"),
            Some(qtype) => QTYPES
                .iter()
                .enumerate()
                .find(|(_, known)| known.0 == qtype)
                .map_or((QTYPE_OTHER, "other"), |(at, known)| (at, known.1)),
        };
        let (rcode_at, rcode) = RCODES
            .iter()
            .enumerate()
            .find(|(_, known)| known.0 == rcode)
            .map_or((RCODE_OTHER, "other"), |(at, known)| (at, known.1));
        self.resolved[transport_at][qtype_at][rcode_at]
            .get_or_init(|| self.queries.with_label_values(&[transport, qtype, rcode]))
            .inc();
    }
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

//! What happened to one request, step by step, and the telling of it at its end: to the metrics
//! and to the access log. Both lanes tell here.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{REFERER, USER_AGENT};
use http::request::Parts;

use super::broken::Broken;
use super::connection::HttpService;
use super::exchange::{Exchange, host_of};
use super::refusal::Refusal;
use super::trace::Made;
use crate::proxy::clock;
use crate::proxy::cut::{self, Reason};
use crate::proxy::forwarded;
use crate::proxy::log::{self, Record, RequestLine, Rule};
use crate::proxy::route_metrics::{Fault, Outcome};
use crate::proxy::table::Listener;
use crate::proxy::upstream::tally::{Step, Tally, Trouble};
use crate::random;

/// Status in the log when the client left before an answer, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// What a request has been through. Moments are microseconds of the lane's clock; 0: it did not
/// come to that.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// The last byte of the head was there.
    pub(super) received: u64,
    /// An endpoint was chosen, for the last time.
    asked: u64,
    /// A new connection to it was there.
    connected: u64,
    /// The head was about to be sent to it.
    sent: u64,
    /// The head of its answer was there.
    answered: u64,
    attempts: u32,
    /// The service, or `service:port-name`, that it went to.
    service: Option<Arc<str>>,
    refused: Option<&'static str>,
    made: Option<Made>,
    /// Bytes of the bodies that came, and that were handed on to the client.
    bytes: [u64; 2],
    /// Its end was told.
    told: bool,
}

/// What the lane knows of a request at its end.
pub(super) struct Seen<'a> {
    pub(super) head: &'a Parts,
    /// The target as it was sent.
    pub(super) target: &'a [u8],
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) fault: Option<Fault>,
    /// Why it was cut, if it was.
    pub(super) cut: Option<&'static str>,
}

impl Story {
    /// An endpoint of `service` was picked.
    pub(super) fn picked(&mut self, service: &Arc<str>) {
        self.service = Some(Arc::clone(service));
    }

    /// It goes to an endpoint, for the first time or once more.
    pub(super) const fn goes(&mut self, now: u64) {
        self.attempts += 1;
        self.asked = now;
        self.connected = 0;
    }

    /// A connection to the endpoint is there.
    pub(super) const fn connected(&mut self, reused: bool, now: u64) {
        self.connected = if reused { 0 } else { now };
    }

    /// Its first byte is about to be sent.
    pub(super) const fn sent(&mut self, now: u64) {
        self.sent = now;
    }

    /// The head of an answer is there.
    pub(super) const fn answered(&mut self, now: u64) {
        self.answered = now;
    }

    /// So many bytes of its body came so far.
    pub(super) const fn came(&mut self, bytes: usize) {
        self.bytes[0] = bytes as u64;
    }

    /// So many bytes more of the answer's body go to the client.
    pub(super) const fn passed(&mut self, bytes: usize) {
        self.bytes[1] += bytes as u64;
    }

    /// It is answered here, for it is not carried.
    pub(super) const fn refused(&mut self, refusal: Refusal) {
        self.refused = Some(refusal.reason);
    }
}

impl Exchange {
    /// What the request gets on its way; the same for every try.
    pub(super) fn made(&mut self, came: &Parts) -> Made {
        if let Some(made) = self.story.made {
            return made;
        }
        let Some(config) = self.config() else { return Made::default() };
        let modes = (config.trace, config.request_id);
        let made = Made::decide(&came.headers, modes, self.trusted(), random::bits);
        self.story.made = Some(made);
        made
    }
}

impl Exchange {
    /// Notes what broke the client's connection.
    pub(super) fn broke(&mut self, broken: Option<Broken>) {
        let (Some(broken), Some(arrival)) = (broken, &self.arrival) else { return };
        arrival.service.metrics.broke(broken);
        self.story.refused = Some(broken.word());
    }
}

impl Drop for Exchange {
    /// A request that is dropped before its end was cut: it has its line all the same.
    fn drop(&mut self) {
        if self.began_micros > 0 && !self.story.told {
            tell_cut(self, cut::breaking(), clock::micros());
        }
    }
}

/// Tells the end of a request that was cut for this `reason`, or with the process.
fn tell_cut(exchange: &mut Exchange, reason: Option<Reason>, now: u64) {
    let Some(arrival) = &exchange.arrival else { return };
    let (head, target) = arrival.head.read();
    let written = arrival.pace.written();
    let [bytes_in, passed] = exchange.story.bytes;
    let seen = Seen {
        head: &head,
        target: &target,
        bytes_in,
        // What was handed on may wait for a slow client still.
        bytes_out: passed.min(written),
        fault: Some(Fault::Cut),
        cut: Some(match reason {
            Some(Reason::Left) => "cut-left",
            Some(Reason::Deadline) => "cut-deadline",
            Some(Reason::Unhealthy) => "cut-unhealthy",
            None => "cut-stopped",
        }),
    };
    tell(exchange, &seen, now);
}

/// Tells the end of a request at `now`; what is told once is not told again.
pub(super) fn tell(exchange: &mut Exchange, seen: &Seen<'_>, now: u64) {
    exchange.story.told = true;
    let exchange = &*exchange;
    let Some(arrival) = &exchange.arrival else { return };
    let story = &exchange.story;
    let began = if story.received == 0 { exchange.began_micros } else { story.received };
    let span = |from: u64, to: u64| (from > 0 && to > 0).then(|| to.saturating_sub(from));
    let outcome = Outcome {
        status: exchange.status,
        fault: seen.fault.or_else(|| story.refused.map(|_| Fault::Refused)),
        duration: now.saturating_sub(began),
        response: span(story.sent, story.answered),
        added: span(began, story.sent),
        bytes: [seen.bytes_in, seen.bytes_out],
    };
    count_at_endpoint(exchange, &outcome, seen.fault, began);
    let metrics = &arrival.service.metrics;
    metrics.request(exchange.status);
    metrics.route(exchange.route.as_deref()).count(&outcome);

    let Some(Listener::Http { log: Some(rule), .. }) = exchange.listener.as_deref() else { return };
    let headers = &seen.head.headers;
    let header = |name: http::HeaderName| headers.get(name).map(http::HeaderValue::as_bytes);
    let told = if exchange.trusted() { headers.get(forwarded::FOR) } else { None };
    let endpoint = exchange.endpoint.as_deref().filter(|_| story.attempts > 0);
    let made = story.made.unwrap_or_default();
    let tls = arrival.tls.as_deref();
    let record = Record {
        listener: &arrival.service.name,
        route: exchange.route.as_ref().map(|route| &*route.name),
        client: arrival.peer.ip().to_canonical(),
        request: RequestLine::Read {
            method: seen.head.method.as_str().as_bytes(),
            target: seen.target,
            protocol: protocol(seen.head.version),
        },
        host: Some(host_of(seen.head).as_bytes()).filter(|host| !host.is_empty()),
        status: match exchange.status {
            0 if seen.cut.is_none() => CLIENT_LEFT,
            status => status,
        },
        bytes_in: seen.bytes_in,
        bytes_out: seen.bytes_out,
        duration: outcome.duration,
        connect: span(story.asked, story.connected),
        first_byte: outcome.response,
        added: outcome.added,
        service: story.service.as_deref(),
        instance: endpoint.map(|endpoint| &*endpoint.instance.id),
        endpoint: endpoint.map(|endpoint| endpoint.address),
        attempts: story.attempts,
        generation: exchange.generation,
        trace_id: made.trace_id_of(headers),
        request_id: made.request_id_of(headers),
        user_agent: header(USER_AGENT),
        referer: header(REFERER),
        forwarded_for: told.map(http::HeaderValue::as_bytes),
        tls_version: tls.map(|tls| tls.version),
        tls_cipher: tls.map(|tls| tls.cipher),
        sni: tls.and_then(|tls| tls.name.as_deref()),
        refused: story.refused,
        error: seen.cut.or_else(|| seen.fault.map(Fault::word)),
    };
    log::note(rule, &record);
}

/// Counts the end of a request at the endpoint that it went to last, or where nobody was found, at its
/// upstream.
fn count_at_endpoint(exchange: &Exchange, outcome: &Outcome, fault: Option<Fault>, began: u64) {
    let story = &exchange.story;
    let Some(endpoint) = exchange.endpoint.as_deref().filter(|_| story.attempts > 0) else {
        if exchange.status == 503 {
            at_upstream(exchange, |all| {
                all.answered(exchange.status);
                all.troubled(Trouble::Connect);
            });
        }
        return;
    };
    let tally = endpoint.tally();
    tally.passed(outcome.bytes);
    match fault {
        _ if exchange.answered || outcome.status == 0 => {}
        // It never heard of it.
        Some(Fault::Connect) => at_upstream(exchange, |all| all.answered(outcome.status)),
        _ => tally.answered(outcome.status),
    }
    if fault == Some(Fault::Client) {
        tally.troubled(Trouble::ClientLeft);
    }
    tally.took(Step::Queue, story.asked.saturating_sub(began));
    if story.connected > 0 {
        tally.took(Step::Connect, story.connected.saturating_sub(story.asked));
    }
    tally.took(Step::Total, outcome.duration);
}

/// Counts what is no single endpoint's: rare, for the service is down then.
fn at_upstream(exchange: &Exchange, count: impl FnOnce(&Tally)) {
    let (Some(wanted), Some(arrival)) = (exchange.wanted(), &exchange.arrival) else { return };
    if let Some(upstream) = arrival.service.current.load().upstream(wanted) {
        count(upstream.gone());
    }
}

/// Tells of a request that was refused before its head was read as one: `bytes` is what came.
pub(super) fn tell_refused(
    service: &HttpService,
    client: IpAddr,
    bytes: &[u8],
    refusal: Refusal,
    began: tokio::time::Instant,
) {
    let metrics = &service.metrics;
    metrics.refused(refusal.reason);
    let duration = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    metrics.route(None).count(&Outcome {
        status: refusal.status,
        fault: Some(Fault::Refused),
        duration,
        response: None,
        added: None,
        bytes: [0, 0],
    });
    let table = service.current.load();
    let Some(rule) = table.listener(&service.name).and_then(|listener| listener.log()) else {
        return;
    };
    log::note(rule, &refused(&service.name, client, bytes, refusal, duration));
}

fn refused<'a>(
    listener: &'a str,
    client: IpAddr,
    bytes: &'a [u8],
    refusal: Refusal,
    duration: u64,
) -> Record<'a> {
    /// More of a line that nobody could read is not shown.
    const SHOWN: usize = 8 << 10;
    let request = RequestLine::of(&bytes[..bytes.len().min(SHOWN)]);
    Record {
        status: refusal.status,
        bytes_out: refusal.message.len() as u64 + 1,
        duration,
        refused: Some(refusal.reason),
        ..Record::bare(listener, client.to_canonical(), request)
    }
}

fn protocol(version: http::Version) -> &'static [u8] {
    match version {
        http::Version::HTTP_09 => b"HTTP/0.9",
        http::Version::HTTP_10 => b"HTTP/1.0",
        http::Version::HTTP_2 => b"HTTP/2.0",
        http::Version::HTTP_3 => b"HTTP/3.0",
        _ => b"HTTP/1.1",
    }
}

impl Listener {
    /// Its access log, if it has one.
    #[must_use]
    pub fn log(&self) -> Option<&Rule> {
        match self {
            Self::Http { log, .. } => log.as_deref(),
            Self::Tcp { .. } | Self::Tls { .. } | Self::Udp { .. } => None,
        }
    }
}

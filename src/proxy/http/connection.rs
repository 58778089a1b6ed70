//! The life of one client connection: parked, a head read and checked, carried, parked again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::came::Came;
use super::carrier::Carrier;
use super::chunks::Trailers;
use super::exchange::Arrival;
use super::full::FullLane;
use super::h2;
use super::lenient::{self, Fault};
use super::refusal::Refusal;
use super::sanitize::{self, Limits};
use super::slow::Least;
use super::story;
use super::terms::Terms;
use crate::catalog::publish::Current;
use crate::lifecycle::Phases;
use crate::net::park::{Idle, Unparked, park};
use crate::net::stream::Stream;
use crate::proxy::clock;
use crate::proxy::config::{HalfClose, Strictness};
use crate::proxy::cut::{Kind, unless_cut};
use crate::proxy::metrics::ListenerMetrics;
use crate::proxy::table::{Listener, ProxyTable};

/// What the connections of one listener share within one worker.
#[derive(Debug)]
pub struct HttpService {
    /// Name of the listener.
    pub name: Arc<str>,
    /// Port that clients connect to.
    pub port: u16,
    /// The tables.
    pub current: Current<ProxyTable>,
    /// Carries what is not refused.
    pub lane: Arc<FullLane>,
    /// Counters of this listener.
    pub metrics: Arc<ListenerMetrics>,
}

/// Serves requests on `stream` until either side closes it, it is idle for too long, or the
/// process drains.
pub async fn serve(
    service: Arc<HttpService>,
    stream: Stream,
    peer: SocketAddr,
    mut phases: Phases,
) {
    let agreed = stream.protocol() == Some(b"h2");
    let mut carrier = Carrier::new(stream, peer);
    if agreed {
        return Box::pin(h2::serve(service, carrier, phases)).await;
    }
    // In the clear, a client says it by how it begins (RFC 9113 §3.3).
    let mut fresh = !carrier.is_tls();
    let mut clock = None;
    while let Some(rules) = rules(&service) {
        carrier.rest();
        let clock = clock.get_or_insert_with(|| Idle::new(rules.idle));
        if !begun(&mut carrier, clock, rules.idle, &mut phases).await {
            return carrier.close();
        }
        let began = Instant::now();
        let deadline = began + rules.request_head;
        if std::mem::take(&mut fresh) && h2::is_preface(&mut carrier, deadline).await {
            // Boxed, so that connections of HTTP/1.1 are as small as they were.
            return Box::pin(h2::serve(service, carrier, phases)).await;
        }
        let (head, faults) = match read_head(&mut carrier, &rules, deadline).await {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(refusal) => {
                story::tell_refused(&service, peer.ip(), carrier.unread(), refusal, began);
                return carrier.refuse(&refusal.answer()).await;
            }
        };
        let kind = if head.upgrade { Kind::Tunnel } else { Kind::Request };
        for fault in &faults {
            service.metrics.mended(fault.word());
        }
        let last = faults.iter().any(|fault| fault.is_last());
        let came = if rules.logged {
            Came::bytes(&carrier.unread()[..head.length])
        } else {
            Came::Nothing
        };
        carrier.carry(head, Terms { last, ..rules.terms });
        let arrival = Arrival {
            service: Arc::clone(&service),
            peer,
            server: rules.announced.then(|| carrier.tcp().local_addr().ok()).flatten(),
            received: clock::micros(),
            pace: carrier.pace(),
            secure: carrier.is_tls(),
            head: came,
            tls: carrier.tls().cloned(),
        };
        // Boxed, so that the parked task is as small as what it holds while it waits.
        let carried = unless_cut(kind, None, service.lane.carry(carrier, arrival));
        match Box::pin(carried).await {
            Ok(Some(next)) if next.finished() => carrier = next,
            Ok(_) => return,
            Err(reason) => return service.metrics.cut(reason),
        }
    }
}

/// Waits, parked, for the first bytes of a request; false when the connection is to be closed.
async fn begun(
    carrier: &mut Carrier,
    clock: &mut Idle,
    idle: Duration,
    phases: &mut Phases,
) -> bool {
    // TLS may hold what the client sent along with its request before: the socket then has no more.
    let mut look = carrier.is_tls();
    while carrier.unread().is_empty() {
        if !std::mem::take(&mut look)
            && park(carrier.tcp(), clock, idle, phases).await != Unparked::Readable
        {
            return false;
        }
        match carrier.try_read_more() {
            Ok(0) => return false,
            Ok(_) => {}
            // A false alarm: the runtime takes each new socket for readable once.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => carrier.rest(),
            Err(_) => return false,
        }
    }
    true
}

/// What the listener says about connections at this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) idle: Duration,
    pub(super) request_head: Duration,
    pub(super) limits: Limits,
    /// Requests have lines in an access log.
    pub(super) logged: bool,
    /// Some endpoints are told who connected to what.
    announced: bool,
    lenient: bool,
    terms: Terms,
    /// Streams of one connection of HTTP/2.
    pub(super) streams_max: u16,
}

/// The rules of now; none when a reload took the listener away.
pub(super) fn rules(service: &HttpService) -> Option<Rules> {
    let table = service.current.load();
    match &**table.listener(&service.name)? {
        Listener::Http { config, log, .. } => {
            let lenient = config.strictness == Strictness::Lenient;
            let least = |rate| Least { rate, over: config.min_rates.over.0 };
            Some(Rules {
                logged: log.is_some(),
                announced: table.announces(),
                idle: config.timeouts.idle.0,
                request_head: config.timeouts.request_head.0,
                limits: Limits {
                    head_max: config.head_max.0 as usize,
                    headers_max: usize::from(config.headers_max),
                },
                lenient,
                terms: Terms {
                    trailers: if lenient { Trailers::Dropped } else { Trailers::Refused },
                    body: least(config.min_rates.body.0),
                    send: least(config.min_rates.send.0),
                    answer_half_closed: config.half_close == HalfClose::Answer,
                    last: false,
                },
                streams_max: config.streams_max.get(),
            })
        }
        Listener::Tcp { .. } | Listener::Tls { .. } | Listener::Udp { .. } => None,
    }
}

/// Reads to the end of a head and checks it, with what had to be mended before; `None` when the client
/// closed before it began.
async fn read_head(
    carrier: &mut Carrier,
    rules: &Rules,
    deadline: Instant,
) -> Result<Option<(sanitize::Head, Vec<Fault>)>, Refusal> {
    loop {
        if let Some(read) = head(carrier, rules)? {
            return Ok(Some(read));
        }
        match timeout_at(deadline, carrier.read_more()).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return Ok(None),
            Err(_) => {
                return Err(Refusal::new(408, "head-timeout", "the request head came too slowly"));
            }
        }
    }
}

/// The head that has come, if all of it has.
fn head(
    carrier: &mut Carrier,
    rules: &Rules,
) -> Result<Option<(sanitize::Head, Vec<Fault>)>, Refusal> {
    let limits = rules.limits;
    if !rules.lenient {
        let Some(end) = sanitize::end_of_head(carrier.unread(), limits)? else { return Ok(None) };
        return Ok(Some((sanitize::head(&carrier.unread()[..end], limits)?, Vec::new())));
    }
    let Some(end) = lenient::end_of_head(carrier.unread(), limits)? else { return Ok(None) };
    let Some(mended) = lenient::mend(&carrier.unread()[..end])? else {
        return Ok(Some((sanitize::head(&carrier.unread()[..end], limits)?, Vec::new())));
    };
    let read = sanitize::head(&mended.head, limits)?;
    carrier.replace(end, &mended.head);
    Ok(Some((read, mended.faults)))
}

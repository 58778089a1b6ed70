//! The life of one client connection: parked, a head read and checked, carried, parked again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::carrier::Carrier;
use super::exchange::Arrival;
use super::full::FullLane;
use super::refusal::Refusal;
use super::sanitize::{self, Limits};
use super::story;
use crate::catalog::publish::Current;
use crate::lifecycle::Phases;
use crate::net::park::{Idle, Unparked, park};
use crate::proxy::clock;
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
    stream: TcpStream,
    peer: SocketAddr,
    mut phases: Phases,
) {
    let mut carrier = Carrier::new(stream, peer);
    let mut clock = None;
    while let Some(rules) = rules(&service) {
        carrier.rest();
        let clock = clock.get_or_insert_with(|| Idle::new(rules.idle));
        if !begun(&mut carrier, clock, rules.idle, &mut phases).await {
            return;
        }
        let began = Instant::now();
        let deadline = began + rules.request_head;
        let head = match read_head(&mut carrier, rules.limits, deadline).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(refusal) => {
                story::tell_refused(&service, peer.ip(), carrier.unread(), refusal, began);
                return carrier.refuse(&refusal.answer()).await;
            }
        };
        let kind = if head.upgrade { Kind::Tunnel } else { Kind::Request };
        carrier.carry(head);
        let arrival = Arrival {
            service: Arc::clone(&service),
            peer,
            received: clock::micros(),
            pace: carrier.pace(),
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
    while carrier.unread().is_empty() {
        if park(carrier.stream(), clock, idle, phases).await != Unparked::Readable {
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
struct Rules {
    idle: Duration,
    request_head: Duration,
    limits: Limits,
}

/// The rules of now; none when a reload took the listener away.
fn rules(service: &HttpService) -> Option<Rules> {
    match &**service.current.load().listener(&service.name)? {
        Listener::Http { config, .. } => Some(Rules {
            idle: config.timeouts.idle.0,
            request_head: config.timeouts.request_head.0,
            limits: Limits {
                head_max: config.head_max.0 as usize,
                headers_max: usize::from(config.headers_max),
            },
        }),
        Listener::Tcp { .. } => None,
    }
}

/// Reads to the end of a head and checks it; `None` when the client closed before it began.
async fn read_head(
    carrier: &mut Carrier,
    limits: Limits,
    deadline: Instant,
) -> Result<Option<sanitize::Head>, Refusal> {
    loop {
        if let Some(end) = sanitize::end_of_head(carrier.unread(), limits)? {
            return sanitize::head(&carrier.unread()[..end], limits).map(Some);
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

//! Where a flow goes: an endpoint by the policy, and a socket that is connected to it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use socket2::{Domain, Protocol, Socket, Type};

use super::metrics::Dropped;
use crate::proxy::clock;
use crate::proxy::config::UdpListenerConfig;
use crate::proxy::metrics::ListenerMetrics;
use crate::proxy::route::ServiceRef;
use crate::proxy::sticky::{Bond, Stay, Visit};
use crate::proxy::table::ProxyTable;
use crate::proxy::upstream::standing::place;
use crate::proxy::upstream::{Endpoint, Missed, Upstream, Work};
use crate::proxy::waiting;

/// Endpoints that are tried for one datagram before it is dropped.
pub(super) const TRIES: usize = 3;
/// What an endpoint where nobody listens counts for to who picks by latency, in microseconds: as much
/// as a connection by TCP may take by default.
const UNREACHABLE_MICROS: u64 = 3_000_000;

/// An endpoint that flows of this worker go to.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) endpoint: Arc<Endpoint>,
    /// Flows go elsewhere with their next datagram.
    pub(super) gives_way: AtomicBool,
}

/// The endpoints that flows of this worker go to, by where their load lies.
pub(super) type Sites = HashMap<usize, Arc<Site>>;

/// A flow's way to an endpoint.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) socket: UdpSocket,
    pub(super) site: Arc<Site>,
    pub(super) since_micros: u64,
    /// Whether it was told that the endpoint is of use.
    pub(super) heard: bool,
    /// Datagrams that are taken at a time.
    pub(super) room: u8,
    /// The turn in which something came last.
    pub(super) turn: u32,
    _work: Work,
}

impl Leg {
    /// Nobody listens there, or no way leads there.
    pub(super) fn unreachable(&self) {
        self.site.endpoint.unreachable(UNREACHABLE_MICROS, clock::micros());
    }

    /// The endpoint has said something. Once, that it is of use.
    pub(super) fn heard(&mut self) {
        if !self.heard {
            self.heard = true;
            self.site.endpoint.connected(clock::micros().saturating_sub(self.since_micros));
            self.site.endpoint.succeeded();
        }
    }
}

/// What decides where flows go, as of one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) table: &'a ProxyTable,
    pub(super) config: &'a UdpListenerConfig,
    pub(super) target: &'a ServiceRef,
    pub(super) metrics: &'a ListenerMetrics,
    /// Milliseconds of the carrier's clock.
    pub(super) now: u64,
}

impl Around<'_> {
    /// A way for a flow of `client` to an endpoint that was not tried: the one that it is bound to, or
    /// by the policy. Where there is no other, one that was tried will do. Those that can't be reached
    /// at once are added to `tried`.
    pub(super) fn lead(
        &self,
        client: IpAddr,
        tried: &mut Vec<SocketAddr>,
        sites: &mut Sites,
    ) -> Result<(Leg, Option<Stay>), Dropped> {
        let Self { table, config, target, .. } = *self;
        let mut visit = Visit::of(table, config.sticky.as_ref(), client);
        let bound = visit.as_mut().and_then(|visit| visit.bound(table, std::iter::once(target)));
        let home = bound.map(|(_, endpoint)| endpoint);
        let home = home.filter(|endpoint| !tried.contains(&endpoint.address));
        let key = |upstream: &Upstream| upstream.key(client, None, clock::micros());
        while tried.len() < TRIES {
            let bound = home.clone().filter(|home| !tried.contains(&home.address));
            let bound = bound.and_then(|home| waiting::place_at(table, target, home).ok());
            let placed = match bound {
                Some(placed) => placed,
                None => match waiting::place(table, target, key, tried) {
                    Err(Missed::Nobody) if !tried.is_empty() => {
                        waiting::place(table, target, key, &[])
                    }
                    placed => placed,
                }
                .map_err(|missed| match missed {
                    Missed::Full => Dropped::Full,
                    Missed::Nobody => Dropped::Nobody,
                })?,
            };
            let endpoint = placed.endpoint;
            let socket = match open(endpoint.address) {
                Ok(socket) => socket,
                Err(error) if of_ours(&error) => return Err(Dropped::Descriptors),
                Err(_) => {
                    endpoint.unreachable(UNREACHABLE_MICROS, clock::micros());
                    self.metrics.retries.inc();
                    tried.push(endpoint.address);
                    continue;
                }
            };
            let stay = visit.take().map(|visit| {
                let bond = Bond::of(home.as_deref(), &endpoint);
                self.metrics.sticky.count(visit.outcome(bond));
                visit.goes(target, home.as_deref().unwrap_or(&endpoint), false)
            });
            let site = sites
                .entry(place(&endpoint))
                .or_insert_with(|| Arc::new(Site { endpoint, gives_way: AtomicBool::new(false) }));
            let leg = Leg {
                socket,
                site: Arc::clone(site),
                since_micros: clock::micros(),
                heard: false,
                room: 1,
                turn: 0,
                _work: placed.work,
            };
            return Ok((leg, stay));
        }
        Err(Dropped::Unreachable)
    }
}

impl Site {
    pub(super) fn set_gives_way(&self, gives_way: bool) {
        self.gives_way.store(gives_way, Relaxed);
    }
}

/// A socket of its own port that talks to nobody but `address`.
fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// Whether it failed for want of something of our own: descriptors, free ports, memory.
fn of_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether an error of a flow's socket says that the endpoint is not there: ICMP told so, or no way
/// leads to it.
pub(super) fn says_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    [ConnectionRefused, HostUnreachable, NetworkUnreachable, NetworkDown].contains(&error.kind())
}

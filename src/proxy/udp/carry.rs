//! Datagrams to and fro: one worker's flows at one listener.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::UdpShare;
use super::lead::{Around, Leg, Sites, says_unreachable};
use super::metrics::{Dropped, ListenerMetrics, carried};
use super::table::{Key, Table, Token};
use crate::catalog::publish::Current;
use crate::net::accept::Connections;
use crate::net::flows::{Census, Counted};
use crate::net::mmsg::{Route, Slots, tell_asked};
use crate::net::ready::{Ready, Told};
use crate::proxy::metrics;
use crate::proxy::serve::Worker;
use crate::proxy::sticky::Stay;
use crate::proxy::table::{Listener, ProxyTable};
use crate::proxy::upstream::Upstream;

/// Tokens from here on are listening sockets; those of flows are below.
const LISTENING: u64 = 1 << 63;
/// Datagrams of one endpoint's reply that are taken before others have their turn.
const ROOM_MAX: u8 = 16;
/// Sockets with something to read, up to which a second datagram is looked for at once: the call that
/// is saved costs more than the look. With more of them, the next turn comes anyway.
const FEW: usize = 2;
/// How often flows are looked through at least.
const PERIOD: Duration = Duration::from_secs(1);

/// One worker's flows at one listener.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) name: Arc<str>,
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) local: SocketAddr,
    pub(super) ready: Ready,
    pub(super) flows: Table<Flow>,
    pub(super) sites: Sites,
    pub(super) current: Current<ProxyTable>,
    pub(super) connections: Arc<Connections>,
    pub(super) census: Arc<Census>,
    /// Whether a drain waits for flows that begin now.
    pub(super) held: bool,
    pub(super) proxy: Arc<metrics::ListenerMetrics>,
    pub(super) metrics: ListenerMetrics,
    pub(super) idle: Duration,
    pub(super) responses: Option<u32>,
    /// The upstream that the sites were last looked at by. Weak: only where it lies counts.
    pub(super) seen: Weak<Upstream>,
    /// Flows that have moved and what they moved from, until when replies from there are passed on.
    pub(super) moving: VecDeque<(u64, Token)>,
    pub(super) started: Instant,
    pub(super) turn: u32,
    /// Whether there was no descriptor for the last flow that wanted one.
    pub(super) exhausted: bool,
}

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// The way of replies.
    pub(super) back: Route,
    /// The endpoint's; none after it was cut or has refused.
    pub(super) leg: Option<Leg>,
    /// Where it moved from, and when: replies from there are passed on for a while.
    pub(super) before: Option<(Leg, u64)>,
    /// Who has failed it last.
    pub(super) avoid: Option<SocketAddr>,
    /// What binds its client, and when it is seen again.
    pub(super) stay: Option<(Stay, u64)>,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) _counted: Counted,
}

impl Carrier {
    pub(super) fn new(share: UdpShare, worker: &Worker) -> io::Result<Self> {
        let UdpShare { name, sockets, .. } = share;
        let ready = Ready::new()?;
        let mut local = None;
        for (socket, number) in sockets.iter().zip(0..) {
            let bound = socket.local_addr()?;
            if bound.ip().is_unspecified() {
                tell_asked(socket, bound.is_ipv6())?;
            }
            ready.add(socket, LISTENING | number)?;
            local = Some(bound);
        }
        let carried = &worker.counting.carried;
        Ok(Self {
            local: local.ok_or(io::ErrorKind::NotFound)?,
            sockets,
            ready,
            flows: Table::default(),
            sites: Sites::new(),
            current: worker.current.clone(),
            connections: Arc::clone(&worker.connections),
            census: worker.connections.flows().of(&name),
            held: true,
            proxy: Arc::new(carried.listener(&name)),
            metrics: carried.udp.listener(&name),
            idle: PERIOD,
            responses: None,
            seen: Weak::new(),
            moving: VecDeque::new(),
            started: Instant::now(),
            turn: 0,
            exhausted: false,
            name,
        })
    }

    pub(super) const fn ready(&self) -> &Ready {
        &self.ready
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How long until the next [`Carrier::tick`].
    pub(super) fn period(&self) -> Duration {
        PERIOD.min(self.idle / 4)
    }

    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Carries what is there, some of it. Whether there may be more.
    pub(super) fn turn(&mut self, slots: &mut Slots, told: &mut Told) -> bool {
        let mut more = match self.ready.tell(told) {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(listener = &*self.name, %error, "cannot tell which sockets are ready");
                return false;
            }
        };
        let now = self.now();
        self.turn = self.turn.wrapping_add(1);
        let few = told.len() <= FEW;
        for token in (0..told.len()).filter_map(|at| told.token(at)) {
            if token < LISTENING {
                more |= self.replies(Token::of(token), slots, few, now);
            }
        }
        self.flush(slots);
        for token in (0..told.len()).filter_map(|at| told.token(at)) {
            if token >= LISTENING {
                more |= self.requests((token & !LISTENING) as usize, slots, now);
            }
        }
        slots.clear();
        more
    }

    /// Takes what an endpoint says, to be sent to the flow's client. Whether there may be more.
    fn replies(&mut self, token: Token, slots: &mut Slots, few: bool, now: u64) -> bool {
        if slots.free() < usize::from(ROOM_MAX) {
            self.flush(slots);
        }
        let turn = self.turn;
        let Some(flow) = self.flows.get_mut(token) else { return false };
        let (mut more, mut refused) = (false, false);
        let (mut count, first) = (0, slots.filled());
        if let Some(leg) = &mut flow.leg {
            match take(leg, &flow.back, slots, few, turn) {
                Ok((taken, left)) => (count, more) = (taken, left),
                Err(error) => refused = says_unreachable(&error),
            }
        }
        if let Some((leg, _)) = &mut flow.before {
            match take(leg, &flow.back, slots, few, turn) {
                Ok((taken, left)) => (count, more) = (count + taken, more | left),
                Err(error) if says_unreachable(&error) => flow.before = None,
                Err(_) => {}
            }
        }
        flow.answered += count as u64;
        if count > 0 {
            let bytes = (first..first + count).map(|at| slots.length(at)).sum();
            carried(&self.metrics.to_client, count, bytes);
            self.flows.touch(token, now);
        }
        if refused {
            self.refused(token);
        }
        if count > 0 {
            self.complete(token);
        }
        more
    }

    /// Sends what is to go to clients.
    fn flush(&self, slots: &mut Slots) {
        let Some(socket) = self.sockets.first().filter(|_| !slots.is_empty()) else { return };
        let (failed, error) = slots.send(socket);
        if let Some(error) = error {
            self.metrics.dropped(Dropped::Unsent, failed);
            tracing::debug!(listener = &*self.name, failed, %error, "replies could not be sent");
        }
    }

    /// Takes what clients have sent, and sends it on. Whether there may be more. The table is loaded
    /// only now, after the bytes arrived.
    fn requests(&mut self, which: usize, slots: &mut Slots, now: u64) -> bool {
        let Some(socket) = self.sockets.get(which) else { return false };
        let (count, more) = match slots.receive(socket) {
            Ok(taken) => taken,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(listener = &*self.name, %error, "receiving datagrams failed");
                }
                return false;
            }
        };
        let table = self.current.load();
        // None while a reload takes the listener away.
        let listener = table.listener(&self.name).cloned();
        let Some(Listener::Udp { config, target }) = listener.as_deref() else {
            self.metrics.dropped(Dropped::Nobody, count);
            return more;
        };
        self.follow(&table, config, target);
        let proxy = Arc::clone(&self.proxy);
        let around = Around { table: &table, config, target, metrics: &proxy, now };
        let mut at = 0;
        while at < count {
            let route = *slots.route(at);
            let same = (at + 1..count).take_while(|next| *slots.route(*next) == route).count();
            let run = at..at + 1 + same;
            at = run.end;
            match self.key(&route) {
                Some(key) => self.forward(key, &route, run, slots, &around),
                None => self.metrics.dropped(Dropped::Source, run.len()),
            }
        }
        more
    }

    /// What makes a datagram that came by `route` part of a flow; none when nobody could be answered.
    fn key(&self, route: &Route) -> Option<Key> {
        let (client, asked) = (route.peer()?, route.asked());
        let ours = asked.unwrap_or_else(|| self.local.ip());
        // Answering ourselves would never end.
        let ourselves = client.port() == self.local.port() && client.ip() == ours;
        (client.port() != 0 && !ourselves).then_some(Key { client, asked })
    }
}

/// Takes what an endpoint has said, as much as it has a turn for. How much, and whether there may be
/// more.
fn take(
    leg: &mut Leg,
    back: &Route,
    slots: &mut Slots,
    few: bool,
    turn: u32,
) -> io::Result<(usize, bool)> {
    let room = leg.room.max(if few { 2 } else { 1 });
    let count = match slots.receive_along(&leg.socket, room.into(), back) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((0, false)),
        Err(error) => return Err(error),
    };
    leg.heard();
    // One that had something to say in the turn before too says it in streams.
    let streams = leg.turn.wrapping_add(1) == turn;
    leg.turn = turn;
    let full = count == usize::from(room);
    leg.room = match full {
        false => (count as u8).max(1),
        true if streams => (room * 2).min(ROOM_MAX),
        true => room,
    };
    Ok((count, full))
}

//! What becomes of flows by themselves: by the time, by the table, by a drain.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use super::carry::Carrier;
use super::lead::Leg;
use super::metrics::Became;
use super::table::Token;
use crate::proxy::config::{Moved, UdpListenerConfig};
use crate::proxy::cut::{Cut, Kind};
use crate::proxy::route::ServiceRef;
use crate::proxy::table::{Listener, ProxyTable};
use crate::proxy::upstream::standing::{Standing, place};

impl Carrier {
    /// Takes over what the newest table says of endpoints that flows go to. Costs next to nothing
    /// when nothing has changed, and else what the upstream's endpoints cost.
    pub(super) fn follow(
        &mut self,
        table: &ProxyTable,
        config: &UdpListenerConfig,
        target: &ServiceRef,
    ) {
        self.idle = config.timeouts.idle.0;
        self.responses = config.responses;
        let upstream = table.upstream(target);
        let at = upstream.map_or_else(|| Weak::new().as_ptr(), Arc::as_ptr);
        if std::ptr::eq(at, self.seen.as_ptr()) {
            return;
        }
        self.seen = upstream.map_or_else(Weak::new, Arc::downgrade);
        if self.sites.is_empty() {
            return;
        }
        let standings = upstream.map(|upstream| upstream.standings()).unwrap_or_default();
        let mut ended = HashSet::new();
        for (at, site) in &self.sites {
            match standings.get(at).copied().unwrap_or(Standing::Left) {
                Standing::Serves | Standing::Aside => site.set_gives_way(false),
                Standing::Fails => site.set_gives_way(true),
                Standing::Left => match config.moved {
                    // One that has failed before still gives way.
                    Moved::Keep => {}
                    Moved::Move => site.set_gives_way(true),
                    Moved::Drop => drop(ended.insert(*at)),
                },
            }
        }
        if ended.is_empty() {
            return;
        }
        let at_one = |leg: &Leg| ended.contains(&place(&leg.site.endpoint));
        let gone: Vec<Token> = self
            .flows
            .tokens()
            .filter(|token| {
                self.flows.get(*token).and_then(|flow| flow.leg.as_ref()).is_some_and(at_one)
            })
            .collect();
        for token in gone {
            self.end(token, Became::Left);
        }
    }

    /// Ends what nothing came for, and follows the table while nothing comes at all.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        let idle = self.idle.as_millis() as u64;
        while let Some((oldest, used)) = self.flows.oldest()
            && used + idle <= now
        {
            self.end(oldest, Became::Idle);
        }
        while let Some((until, token)) = self.moving.front().copied()
            && until <= now
        {
            self.moving.pop_front();
            if let Some(flow) = self.flows.get_mut(token) {
                flow.before.take_if(|(_, due)| *due <= now);
            }
        }
        self.sites.retain(|_, site| Arc::strong_count(site) > 1);
        let table = self.current.load();
        let listener = table.listener(&self.name).cloned();
        if let Some(Listener::Udp { config, target }) = listener.as_deref() {
            self.follow(&table, config, target);
        }
    }

    /// Cuts what runs at an endpoint that has had its time: its flows go on elsewhere.
    pub(super) fn cut(&mut self, cut: &Cut) {
        let tokens: Vec<Token> = self.flows.tokens().collect();
        for flow in tokens {
            let Some(flow) = self.flows.get_mut(flow) else { continue };
            let concerns = |leg: &Leg| cut.concerns(leg.site.endpoint.load());
            if flow.before.as_ref().is_some_and(|(leg, _)| concerns(leg).is_some()) {
                flow.before = None;
            }
            let Some(reason) = flow.leg.as_ref().and_then(concerns) else { continue };
            flow.avoid = flow.leg.take().map(|leg| leg.site.endpoint.address);
            flow.stay = None;
            cut.counted(Kind::Connection, 1);
            self.proxy.cut(reason);
        }
    }

    /// Flows that begin from now on hold up no drain.
    pub(super) const fn drains(&mut self) {
        self.held = false;
    }

    /// Reads no more of what clients send.
    pub(super) fn deafen(&self) {
        for socket in &self.sockets {
            if let Err(error) = self.ready.remove(socket) {
                tracing::error!(listener = &*self.name, %error, "a socket is still listened to");
            }
        }
    }

    /// Ends all flows.
    pub(super) fn close(mut self) {
        let tokens: Vec<Token> = self.flows.tokens().collect();
        for token in tokens {
            self.end(token, Became::Closed);
        }
    }
}

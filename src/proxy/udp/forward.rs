//! From a client to an endpoint: flows that begin, go on, and go elsewhere.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::carry::{Carrier, Flow};
use super::lead::{Around, Leg, TRIES, says_unreachable};
use super::metrics::{Became, Dropped, carried};
use super::table::{Key, Token};
use crate::net::flows::Full;
use crate::net::mmsg::{Route, Slots};
use crate::proxy::config::UdpListenerConfig;

impl Carrier {
    /// Sends a run of datagrams of one client on.
    pub(super) fn forward(
        &mut self,
        key: Key,
        route: &Route,
        mut run: Range<usize>,
        slots: &mut Slots,
        around: &Around<'_>,
    ) {
        let mut tried = Vec::new();
        let token = match self.flows.find(&key) {
            Some(token) => token,
            None => match self.begin(key, route, &mut tried, around) {
                Ok(token) => token,
                Err(reason) => return self.dropped(reason, run.len()),
            },
        };
        self.flows.touch(token, around.now);
        self.seen_again(token, around);
        while !run.is_empty() {
            let gives_way = |leg: &Leg| leg.site.gives_way.load(Relaxed);
            let Some(flow) = self.flows.get(token) else { return };
            if flow.leg.as_ref().is_none_or(gives_way)
                && let Err(reason) = self.lead(token, key, &mut tried, around)
            {
                return self.dropped(reason, run.len());
            }
            let Some(flow) = self.flows.get_mut(token) else { return };
            let Some(leg) = &flow.leg else { return };
            let (sent, error) = slots.send_on(&leg.socket, run.clone());
            if sent > 0 {
                let bytes = (run.start..run.start + sent).map(|at| slots.length(at)).sum();
                carried(&self.metrics.to_endpoint, sent, bytes);
                flow.asked += sent as u64;
                run.start += sent;
            }
            match error {
                None => {}
                Some(error) if says_unreachable(&error) => {
                    tried.push(leg.site.endpoint.address);
                    self.refused(token);
                    if tried.len() >= TRIES {
                        return self.dropped(Dropped::Unreachable, run.len());
                    }
                }
                Some(error) => {
                    tracing::debug!(listener = &*self.name, %error, "a datagram could not be sent");
                    self.dropped(Dropped::Unsent, 1);
                    run.start += 1;
                }
            }
        }
        self.complete(token);
    }

    pub(super) fn dropped(&mut self, reason: Dropped, datagrams: usize) {
        self.metrics.dropped(reason, datagrams);
        if reason == Dropped::Descriptors && !self.exhausted {
            self.exhausted = true;
            tracing::warn!(
                listener = &*self.name,
                flows = self.census.open(),
                "no descriptor or no port for a new flow; its datagrams are dropped"
            );
        }
    }

    /// Begins a flow, as far as limits and endpoints allow.
    pub(super) fn begin(
        &mut self,
        key: Key,
        route: &Route,
        tried: &mut Vec<SocketAddr>,
        around: &Around<'_>,
    ) -> Result<Token, Dropped> {
        let UdpListenerConfig { flows_max, flows_per_client, .. } = *around.config;
        let held = self.held.then_some(&self.connections);
        let counted = self.census.admit(key.client.ip(), flows_max, flows_per_client, held);
        let counted = counted.map_err(|full| match full {
            Full::All => Dropped::Flows,
            Full::Client => Dropped::Client,
        })?;
        let flow = Flow {
            back: route.back(),
            leg: None,
            before: None,
            avoid: None,
            stay: None,
            asked: 0,
            answered: 0,
            _counted: counted,
        };
        let token = self.flows.begin(key, around.now, flow);
        if let Err(reason) = self.lead(token, key, tried, around) {
            self.flows.end(token);
            return Err(reason);
        }
        self.metrics.open.inc();
        self.metrics.flow(Became::Begun);
        Ok(token)
    }

    /// Gives a flow another endpoint. One that has an endpoint which should give way keeps it when
    /// there is no other.
    pub(super) fn lead(
        &mut self,
        token: Token,
        key: Key,
        tried: &mut Vec<SocketAddr>,
        around: &Around<'_>,
    ) -> Result<(), Dropped> {
        let Some(flow) = self.flows.get_mut(token) else { return Err(Dropped::Nobody) };
        let here = flow.leg.as_ref().map(|leg| leg.site.endpoint.address);
        for avoided in [flow.avoid.take(), here].into_iter().flatten() {
            if !tried.contains(&avoided) {
                tried.push(avoided);
            }
        }
        let led = around.lead(key.client.ip(), tried, &mut self.sites);
        let led = led.and_then(|(leg, stay)| {
            self.ready.add(&leg.socket, token.number()).map_err(|_| Dropped::Descriptors)?;
            Ok((leg, stay))
        });
        let (leg, stay) = match led {
            Err(_) if here.is_some() => return Ok(()),
            led => led?,
        };
        self.exhausted = false;
        let moves = flow.asked > 0;
        if let Some(old) = flow.leg.replace(leg) {
            let until = around.now + self.idle.as_millis() as u64;
            flow.before = Some((old, until));
            self.moving.push_back((until, token));
        }
        // The old one last: its end is an earlier sight of the client than the beginning of this one.
        flow.stay = None;
        flow.stay = stay.map(|stay| (stay, around.now + again(around.config)));
        if moves {
            self.metrics.flow(Became::Moved);
        }
        Ok(())
    }

    /// Whom the client is bound to learns that it is still there, now and then.
    pub(super) fn seen_again(&mut self, token: Token, around: &Around<'_>) {
        if let Some(Flow { stay: Some((stay, due)), .. }) = self.flows.get_mut(token)
            && *due <= around.now
        {
            stay.seen();
            *due = around.now + again(around.config);
        }
    }

    /// The endpoint of a flow is not there: the next datagram goes to another one.
    pub(super) fn refused(&mut self, token: Token) {
        let Some(flow) = self.flows.get_mut(token) else { return };
        if let Some(leg) = flow.leg.take() {
            leg.unreachable();
            let endpoint = leg.site.endpoint.address;
            tracing::debug!(listener = &*self.name, %endpoint, "an endpoint is not there");
            self.proxy.retries.inc();
            flow.avoid = Some(endpoint);
            flow.stay = None;
        }
    }

    /// Ends a flow when every datagram has had its replies.
    pub(super) fn complete(&mut self, token: Token) {
        let table = &self.flows;
        let done = |responses: u64| {
            table.get(token).is_some_and(|flow| flow.answered >= flow.asked * responses)
        };
        if self.responses.is_some_and(|responses| done(responses.into())) {
            self.end(token, Became::Answered);
        }
    }

    pub(super) fn end(&mut self, token: Token, became: Became) {
        if self.flows.end(token).is_some() {
            self.metrics.open.dec();
            self.metrics.flow(became);
        }
    }
}

/// How long until a client that is bound is seen again, in milliseconds: well before its binding ends.
fn again(config: &UdpListenerConfig) -> u64 {
    let source = config.sticky.as_ref().and_then(|sticky| sticky.source);
    source.map_or(u64::MAX / 2, |time| time.0.as_millis() as u64 / 2)
}

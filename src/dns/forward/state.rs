//! What all questions share, behind one lock that is never held while somebody waits: the cache,
//! what is under way, who waits, and how the upstreams do.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::Outcome;
use super::cache::Cache;
use super::choice::{Suspicion, Turned, Upstream, Went, choose};
use super::exchange::NO_ID;
use super::key::Key;
use super::message::Worth;
use super::metrics::Metrics;
use super::settings::{ForwardSettings, ForwardZone};
use crate::dns::settings::Settings;

/// A query that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Where its outcome is told.
    pub(super) told: watch::Receiver<Option<Outcome>>,
    /// The id that it has at the moment.
    pub(super) outstanding: Arc<AtomicU32>,
}

impl Flight {
    /// Whether `query`, which came in, is this very query for `key`.
    pub(super) fn is_query(&self, key: &Key, query: &[u8]) -> bool {
        let id = self.outstanding.load(Ordering::Relaxed);
        match query.first_chunk::<2>() {
            Some(theirs) if id != NO_ID && u32::from(u16::from_be_bytes(*theirs)) == id => {
                [true, false].iter().any(|edns| key.query(id as u16, *edns) == query)
            }
            _ => false,
        }
    }
}

/// Everything that is shared.
#[derive(Debug, Default)]
pub(super) struct State {
    settings: Option<Arc<ForwardSettings>>,
    pub(super) cache: Cache,
    pub(super) flights: HashMap<Key, Flight>,
    waiting: usize,
    clients: HashMap<IpAddr, usize>,
    pub(super) upstreams: Vec<Upstream>,
}

/// The state and its lock.
#[derive(Debug)]
pub(super) struct Held {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
}

/// The place of one question among those that wait; free again when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
    client: IpAddr,
}

/// The end of a query; the query is over when this is dropped.
pub(super) struct Landing<'a> {
    held: &'a Held,
    /// None once it has landed.
    flight: Option<Key>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { state: Arc::default(), metrics }
    }

    /// The state, made to fit `forward`: with other upstreams, what the former ones said is
    /// forgotten.
    pub(super) fn lock(&self, forward: &Arc<ForwardSettings>) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        if state.settings.as_ref().is_none_or(|known| !Arc::ptr_eq(known, forward)) {
            state.adopt(forward, &self.metrics);
            self.measure(&state);
        }
        state
    }

    /// A place for a question of `client`; none, and counted, when there are too many.
    pub(super) fn wait(
        &self,
        state: &mut State,
        forward: &ForwardSettings,
        client: IpAddr,
    ) -> Option<Waiting> {
        let client = client.to_canonical();
        if state.waiting >= forward.max_waiting {
            self.metrics.over_waiting.inc();
            return None;
        }
        let own = state.clients.entry(client).or_default();
        if *own >= forward.max_per_client {
            self.metrics.over_per_client.inc();
            return None;
        }
        *own += 1;
        state.waiting += 1;
        self.metrics.waiting.set(state.waiting as i64);
        let (state, metrics) = (Arc::clone(&self.state), self.metrics.clone());
        Some(Waiting { state, metrics, client })
    }

    pub(super) fn landing(&self, flight: Key) -> Landing<'_> {
        Landing { held: self, flight: Some(flight) }
    }

    /// The upstream of `zone` to be asked next, of those that were not tried.
    pub(super) fn choose(&self, zone: &ForwardZone, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let mut state = lock(&self.state);
        let group = state.indices(&zone.upstreams);
        let tried = state.indices(tried);
        let chosen = choose(&mut state.upstreams, &group, &tried)?;
        state.upstreams.get(chosen).map(|upstream| upstream.address)
    }

    /// Takes in how an exchange went; tells what that changed, and since when it is suspected.
    pub(super) fn went(
        &self,
        address: SocketAddr,
        went: Went,
        how: &Suspicion,
        now: Instant,
    ) -> (Turned, Option<SystemTime>) {
        let mut state = lock(&self.state);
        let Some(upstream) = state.find(address) else { return (Turned::Not, None) };
        let turned = upstream.went(went, how, now);
        (turned, upstream.suspected.map(|suspected| suspected.since))
    }

    /// How long to wait before the next probe; none when it is not suspected since then any more.
    pub(super) fn pause(
        &self,
        address: SocketAddr,
        since: Option<SystemTime>,
        how: &Suspicion,
    ) -> Option<Duration> {
        let mut state = lock(&self.state);
        let upstream = state.find(address)?;
        (upstream.suspected.map(|suspected| suspected.since) == since)
            .then(|| upstream.pause(how))?
    }

    pub(super) fn is_suspected(&self, address: SocketAddr, since: Option<SystemTime>) -> bool {
        let mut state = lock(&self.state);
        let upstream = state.find(address).and_then(|upstream| upstream.suspected);
        upstream.is_some_and(|suspected| Some(suspected.since) == since)
    }

    fn measure(&self, state: &State) {
        let (entries, bytes) = state.cache.size();
        self.metrics.cache_entries.set(entries as i64);
        self.metrics.cache_bytes.set(bytes as i64);
        self.metrics.in_flight.set(state.flights.len() as i64);
    }
}

impl State {
    fn adopt(&mut self, forward: &Arc<ForwardSettings>, metrics: &Metrics) {
        let known = self.settings.replace(Arc::clone(forward));
        if known.is_some_and(|known| known.zones == forward.zones) {
            return;
        }
        self.cache.clear();
        let before = std::mem::take(&mut self.upstreams);
        for address in forward.zones.iter().flat_map(|zone| &zone.upstreams) {
            if self.find(*address).is_none() {
                let same = before.iter().find(|upstream| upstream.address == *address);
                let upstream = same.cloned().unwrap_or_else(|| Upstream::new(*address));
                metrics.up(*address, upstream.suspected.is_none());
                self.upstreams.push(upstream);
            }
        }
        for gone in before {
            if self.find(gone.address).is_none() {
                metrics.forget(gone.address);
            }
        }
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Upstream> {
        self.upstreams.iter_mut().find(|upstream| upstream.address == address)
    }

    fn indices(&self, addresses: &[SocketAddr]) -> Vec<usize> {
        let place = |address: &SocketAddr| {
            self.upstreams.iter().position(|upstream| upstream.address == *address)
        };
        addresses.iter().filter_map(place).collect()
    }

    /// Whether none of the upstreams of `zone` has answered lately.
    pub(super) fn all_suspected(&self, zone: &ForwardZone) -> bool {
        let group = self.indices(&zone.upstreams);
        let suspected =
            |index: &usize| self.upstreams.get(*index).is_some_and(|u| u.suspected.is_some());
        !group.is_empty() && group.iter().all(suspected)
    }
}

impl Landing<'_> {
    /// Keeps what came of the query for `key`, and ends it.
    pub(super) fn land(mut self, settings: &Settings, key: &Key, outcome: &Outcome, now: Instant) {
        let mut state = lock(&self.held.state);
        let current = settings.forward.as_ref().filter(|forward| {
            state.settings.as_ref().is_some_and(|known| Arc::ptr_eq(known, forward))
        });
        let evicted = match (current, outcome) {
            (Some(forward), Ok(reply)) if reply.worth() == Worth::Answer => {
                state.cache.put(key, reply, &forward.keep, now)
            }
            (Some(forward), Err(_)) => state.cache.fail(key, &forward.keep, now),
            // Of others' upstreams, or only a part.
            _ => 0,
        };
        self.held.metrics.cache_evicted.inc_by(evicted as u64);
        if let Some(flight) = self.flight.take() {
            state.flights.remove(&flight);
        }
        self.held.measure(&state);
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            lock(&self.held.state).flights.remove(&flight);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.waiting -= 1;
        if let Some(own) = state.clients.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                state.clients.remove(&self.client);
            }
        }
        self.metrics.waiting.set(state.waiting as i64);
    }
}

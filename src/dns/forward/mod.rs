//! Names outside the zones: what was kept of the upstreams' answers, or else one query to the one
//! that answers fastest, however many clients wait for it.
//!
//! `cache`, `choice` and `message` decide, without a clock and without a socket; `exchange`
//! carries; `lane` turns what came of it into replies. Everything happens in the full lane.

mod cache;
mod choice;
pub mod config;
mod exchange;
mod key;
mod lane;
mod message;
pub mod metrics;
mod names;
pub mod settings;
mod state;
pub mod told;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use self::config::{ForwardConfig, ForwardZoneConfig};
pub use self::metrics::Metrics;
pub use self::settings::{ForwardSettings, ForwardZone};

use self::cache::Known;
use self::choice::{Turned, Went};
use self::exchange::{Ask, NO_ID, Trouble};
use self::key::Key;
use self::message::{Age, Stored, Worth};
use self::state::{Flight, Held, State};
use super::edns::extended;
use super::settings::Settings;
use super::wire::{Name, rcode, rtype};

/// Most exchanges for one question.
const TRIES_MAX: usize = 4;

/// Forwards questions. Cheap to clone; clones share cache, limits and what is known of upstreams.
#[derive(Debug, Clone)]
pub struct Forwarder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Held,
    metrics: Metrics,
    /// Whether a loop was told already.
    looped: AtomicBool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dns) struct Failure {
    pub(in crate::dns) rcode: u16,
    /// Why, for clients with EDNS (RFC 8914).
    pub(in crate::dns) reason: Option<u16>,
    /// What an upstream said last, if anything.
    pub(in crate::dns) told: Option<Arc<Stored>>,
    /// Whether a limit of ours is the cause.
    pub(in crate::dns) limit: bool,
}

impl Failure {
    const fn new(rcode: u16, reason: Option<u16>) -> Self {
        Self { rcode, reason, told: None, limit: false }
    }

    fn limited() -> Self {
        Self { limit: true, ..Self::new(rcode::SERVFAIL, None) }
    }
}

/// An answer and how old it is, or why there is none.
pub(in crate::dns) type Resolved = Result<(Arc<Stored>, Age), Failure>;

type Outcome = Result<Arc<Stored>, Failure>;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(in crate::dns) struct Asking<'a> {
    pub(in crate::dns) client: IpAddr,
    /// Whether it takes an answer of any length.
    pub(in crate::dns) whole: bool,
    /// The question as it came; empty when it is ours.
    pub(in crate::dns) query: &'a [u8],
}

impl Forwarder {
    /// A forwarder that has asked nobody yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        let state = Held::new(metrics.clone());
        Self(Arc::new(Shared { state, metrics, looped: AtomicBool::new(false) }))
    }

    /// The answer to `key`: what is kept of it, or what the upstreams of its zone say.
    ///
    /// Waits at most `timeout` for each upstream, [`TRIES_MAX`] times; with an answer at hand that
    /// has run out, at most `stale_after`, or not at all while no upstream answers (RFC 8767 §5).
    pub(in crate::dns) async fn resolve(
        &self,
        settings: &Arc<Settings>,
        key: &Key,
        asking: Asking<'_>,
    ) -> Resolved {
        let metrics = &self.0.metrics;
        let refused = || Failure::new(rcode::REFUSED, Some(extended::NOT_AUTHORITATIVE));
        let forward = settings.forward.as_ref().ok_or_else(refused)?;
        let zone = forward.zone_of(key.name()).ok_or_else(refused)?;
        let (stale, lost, told, _waiting) = {
            let mut state = self.0.state.lock(forward);
            let stale = match state.cache.look(key, &forward.keep, now()) {
                Known::Fresh { reply, age, prefetch } => {
                    metrics.cache_hit.inc();
                    if prefetch && state.flights.len() < forward.max_in_flight {
                        metrics.prefetched.inc();
                        self.take_off(&mut state, settings, key, false);
                    }
                    return Ok((reply, age));
                }
                Known::Failed => {
                    metrics.cache_failure.inc();
                    return Err(Failure::new(rcode::SERVFAIL, Some(extended::CACHED_ERROR)));
                }
                Known::Stale { reply, age, quiet: true } => {
                    metrics.cache_stale.inc();
                    return Ok((reply, age));
                }
                Known::Stale { reply, age, .. } => Some((reply, age)),
                Known::Nothing => None,
            };
            // Who has its share starts no more queries either. The place outlives the lock, which
            // it takes when it is given back.
            let waiting = self.0.state.wait(&mut state, forward, asking.client);
            let told = match &waiting {
                Some(_) => self.join(&mut state, settings, key, asking),
                None => Ok(None),
            };
            (stale, state.all_suspected(zone), told, waiting)
        };
        let Some(mut told) = told? else { return stale.ok_or_else(Failure::limited) };
        let patience = if lost { Duration::ZERO } else { forward.stale_after };
        // An error means that the one who asks is gone without a word.
        let waited = async { told.wait_for(Option::is_some).await.ok().and_then(|o| o.clone()) };
        let outcome = match &stale {
            None => waited.await,
            Some(_) => timeout(patience, waited).await.ok().flatten(),
        };
        match (outcome, stale) {
            (Some(Ok(reply)), _) => {
                metrics.cache_miss.inc();
                Ok((reply, Age::Fresh(0)))
            }
            (_, Some((reply, age))) => {
                metrics.cache_stale.inc();
                Ok((reply, age))
            }
            (Some(Err(failure)), None) => {
                metrics.cache_miss.inc();
                Err(failure)
            }
            (None, None) => Err(Failure::limited()),
        }
    }

    /// Where the outcome of the query for `key` will be told, which is sent if it is not under way.
    /// None when there are too many.
    fn join(
        &self,
        state: &mut State,
        settings: &Arc<Settings>,
        key: &Key,
        asking: Asking<'_>,
    ) -> Result<Option<watch::Receiver<Option<Outcome>>>, Failure> {
        let metrics = &self.0.metrics;
        let flight = if asking.whole { key.by_tcp() } else { key.clone() };
        // Our own query that comes back: an upstream leads to ourselves.
        for flight in [key, &key.by_tcp()] {
            if state.flights.get(flight).is_some_and(|flight| flight.is_query(key, asking.query)) {
                metrics.loops.inc();
                if !self.0.looped.swap(true, Ordering::Relaxed) {
                    let name = Name::from_wire(key.name());
                    tracing::warn!(%name, client = %asking.client, "an upstream asks us what we asked it");
                }
                return Err(Failure::new(rcode::SERVFAIL, Some(extended::NO_REACHABLE_AUTHORITY)));
            }
        }
        if let Some(flight) = state.flights.get(&flight) {
            metrics.coalesced.inc();
            return Ok(Some(flight.told.clone()));
        }
        let max = settings.forward.as_ref().map_or(0, |forward| forward.max_in_flight);
        if state.flights.len() >= max {
            metrics.over_in_flight.inc();
            return Ok(None);
        }
        Ok(Some(self.take_off(state, settings, key, asking.whole)))
    }

    /// Sends a query for `key`, unless it is under way.
    fn take_off(
        &self,
        state: &mut State,
        settings: &Arc<Settings>,
        key: &Key,
        whole: bool,
    ) -> watch::Receiver<Option<Outcome>> {
        let flight = if whole { key.by_tcp() } else { key.clone() };
        if let Some(flight) = state.flights.get(&flight) {
            return flight.told.clone();
        }
        let (tell, told) = watch::channel(None);
        let outstanding = Arc::new(AtomicU32::new(NO_ID));
        let entry = Flight { told: told.clone(), outstanding: Arc::clone(&outstanding) };
        state.flights.insert(flight.clone(), entry);
        self.0.metrics.in_flight.set(state.flights.len() as i64);
        let (forwarder, settings, key) = (self.clone(), Arc::clone(settings), key.clone());
        tokio::spawn(async move {
            // Removes the flight whatever happens to it.
            let landing = forwarder.0.state.landing(flight);
            let outcome = forwarder.ask(&settings, &key, whole, &outstanding).await;
            landing.land(&settings, &key, &outcome, now());
            tell.send_replace(Some(outcome));
        });
        told
    }

    /// Asks one upstream after the other.
    async fn ask(
        &self,
        settings: &Arc<Settings>,
        key: &Key,
        whole: bool,
        outstanding: &AtomicU32,
    ) -> Outcome {
        let refused = || Failure::new(rcode::REFUSED, Some(extended::NOT_AUTHORITATIVE));
        let forward = settings.forward.as_ref().ok_or_else(refused)?;
        let zone = forward.zone_of(key.name()).ok_or_else(refused)?;
        let (ttls, listen, metrics) = (forward.ttls, &settings.listen[..], &self.0.metrics);
        let ask = Ask { key, whole, ttls, listen, metrics, outstanding };
        let mut failure = Failure::new(rcode::SERVFAIL, Some(extended::NO_REACHABLE_AUTHORITY));
        let mut tried: Vec<SocketAddr> = Vec::new();
        for _ in 0..zone.upstreams.len().clamp(2, TRIES_MAX) {
            if tried.len() >= zone.upstreams.len() {
                if failure.told.is_some() {
                    break;
                }
                tried.clear();
            }
            let Some(upstream) = self.0.state.choose(zone, &tried) else { break };
            tried.push(upstream);
            let started = Instant::now();
            let told = timeout(forward.timeout, ask.of(upstream)).await;
            let took = started.elapsed();
            let (went, end) = match &told {
                Ok(Ok(reply)) => match reply.worth() {
                    Worth::Answer => (Went::Well(took), "answered"),
                    Worth::Truncated => (Went::Well(took), "truncated"),
                    Worth::Nothing => (Went::Refused(took), "refused"),
                },
                Ok(Err(_)) => (Went::Badly, "failed"),
                Err(_) => (Went::Badly, "timed_out"),
            };
            metrics.exchange(upstream, end, took.as_secs_f64());
            self.went(settings, forward, &zone.apex, upstream, went);
            match told {
                Ok(Ok(reply)) if reply.worth() != Worth::Nothing => return Ok(Arc::new(reply)),
                Ok(Ok(reply)) => failure.told = Some(Arc::new(reply)),
                Ok(Err(error)) => {
                    if matches!(error, Trouble::Network(_)) {
                        failure.reason = Some(extended::NETWORK_ERROR);
                    }
                    tracing::debug!(%upstream, %error, "upstream failed");
                }
                Err(_) => tracing::debug!(%upstream, "upstream did not answer in time"),
            }
        }
        Err(failure)
    }

    /// Takes in how an exchange went; looks after an upstream that is suspected from now on.
    fn went(
        &self,
        settings: &Arc<Settings>,
        forward: &ForwardSettings,
        apex: &Name,
        upstream: SocketAddr,
        went: Went,
    ) {
        match self.0.state.went(upstream, went, &forward.suspicion, now()) {
            (Turned::Not, _) => {}
            (Turned::Well, _) => {
                self.0.metrics.up(upstream, true);
                tracing::info!(%upstream, "a DNS upstream answers again");
            }
            (Turned::Suspected, since) => {
                self.0.metrics.up(upstream, false);
                tracing::warn!(%upstream, failures = forward.suspicion.fall, "a DNS upstream does not answer");
                let probing =
                    self.clone().probe(Arc::clone(settings), apex.clone(), upstream, since);
                tokio::spawn(probing);
            }
        }
    }

    /// Asks a suspected upstream for the SOA of `apex`, again and again, until it says anything.
    async fn probe(
        self,
        settings: Arc<Settings>,
        apex: Name,
        upstream: SocketAddr,
        since: Option<SystemTime>,
    ) {
        let Some(forward) = &settings.forward else { return };
        let key = Key::new(apex.wire(), rtype::SOA, false, false);
        let outstanding = AtomicU32::new(NO_ID);
        let (ttls, listen, metrics) = (forward.ttls, &settings.listen[..], &self.0.metrics);
        let ask = Ask { key: &key, whole: false, ttls, listen, metrics, outstanding: &outstanding };
        while let Some(pause) = self.0.state.pause(upstream, since, &forward.suspicion) {
            sleep(pause).await;
            let started = Instant::now();
            let answered = matches!(timeout(forward.timeout, ask.of(upstream)).await, Ok(Ok(_)));
            metrics.probe(answered);
            let went = if answered { Went::Well(started.elapsed()) } else { Went::Badly };
            if self.0.state.is_suspected(upstream, since) {
                self.went(&settings, forward, &apex, upstream, went);
            }
        }
    }
}

/// The runtime's time, which tests can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;

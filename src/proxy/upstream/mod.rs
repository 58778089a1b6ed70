//! An upstream: the endpoints of one service's port, and the policy that picks among them.

mod compile;
mod endpoint;
mod group;
mod rules;
pub mod standing;
pub mod tally;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::balance::hash::scale;
use super::balance::{Build, PickKey};
use super::queue::Queue;
use crate::catalog::Service;
use crate::catalog::observed::FailureStatus;
use crate::random;
use group::{Group, Places};
use tally::Tally;

pub use endpoint::{Endpoint, FIRST_SHARE, Load, Work};
pub use rules::Rules;
pub use standing::Standing;

/// Picks as the policy has it, before any endpoint with a free place will do.
const PICKS: usize = 4;

/// A compiled balancing group.
#[derive(Debug)]
pub struct Upstream {
    /// Who gets work, in the order of the service's eligible instances.
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// Those of instances that drain: only clients that are bound to one still go there.
    pub staying: Box<[Arc<Endpoint>]>,
    /// Those that are neither now, as long as their instance is known or work runs there: what they
    /// remember counts when they come back.
    departed: Box<[Arc<Endpoint>]>,
    /// How each of these stands.
    out: Box<[Standing]>,
    all: Group,
    /// Set when some are near, some are not, and near ones come first.
    places: Option<Box<Places>>,
    rules: Arc<Rules>,
    /// Who waits for a place; outlives a compile.
    queue: Option<Arc<Queue>>,
    /// What those counted that are none of these any more, and what found nobody; outlives a compile.
    gone: Arc<Tally>,
}

/// Why there is no place at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nobody is eligible, or everybody was tried.
    Nobody,
    /// As much runs everywhere as may.
    Full,
}

impl Upstream {
    /// Compiles the port called `port` (`""`: the unnamed one) of `service` with a policy, and all
    /// else by default; see [`Upstream::compile_by`].
    #[must_use]
    pub fn compile(
        service: Option<&Service>,
        port: &str,
        policy: Build,
        previous: Option<&Self>,
        watch: Option<FailureStatus>,
    ) -> Self {
        let rules = Arc::new(Rules::of(policy).watching(watch));
        Self::compile_by(&rules, service, port, previous, 0)
    }

    /// The endpoint for one more piece of work; `None` when nobody is eligible. Never blocks, never
    /// allocates.
    #[must_use]
    pub fn pick(&self, key: PickKey) -> Option<&Arc<Endpoint>> {
        let group = self.places.as_ref().map_or(&self.all, |places| places.group(key));
        group.pick(&self.endpoints, key)
    }

    /// Another endpoint than those in `tried`, after one of them failed; `None` if all were tried.
    #[must_use]
    pub fn pick_another(&self, key: PickKey, tried: &[SocketAddr]) -> Option<&Arc<Endpoint>> {
        let untried = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.address);
        self.as_the_policy_has_it(key)
            .find(untried)
            .or_else(|| self.anywhere_from(key).find(untried))
    }

    /// An endpoint that is not in `tried`, and a place there: as the policy has it, or, when those
    /// have as much as they may (`max_connections`), another one that has not. Never blocks, never
    /// allocates.
    ///
    /// # Errors
    /// Nobody is there, or everybody is full.
    pub fn take(
        &self,
        key: PickKey,
        tried: &[SocketAddr],
    ) -> Result<(&Arc<Endpoint>, Work), Missed> {
        let place = |endpoint: &'_ Arc<Endpoint>| {
            if tried.contains(&endpoint.address) { None } else { endpoint.try_begin() }
        };
        for endpoint in self.as_the_policy_has_it(key) {
            if let Some(work) = place(endpoint) {
                return Ok((endpoint, work));
            }
        }
        let mut missed = Missed::Nobody;
        for endpoint in self.anywhere_from(key) {
            if let Some(work) = place(endpoint) {
                return Ok((endpoint, work));
            }
            if !tried.contains(&endpoint.address) {
                missed = Missed::Full;
            }
        }
        Err(missed)
    }

    /// Some picks in a row, each by another key.
    fn as_the_policy_has_it(&self, key: PickKey) -> impl Iterator<Item = &Arc<Endpoint>> {
        let keys = std::iter::successors(Some(key), |key| Some(key.again()));
        keys.take(PICKS).filter_map(|key| self.pick(key))
    }

    /// Every endpoint once, from a random one on.
    fn anywhere_from(&self, key: PickKey) -> impl Iterator<Item = &Arc<Endpoint>> {
        let start = scale(key.random, self.endpoints.len() as u64) as usize;
        self.endpoints[start..].iter().chain(&self.endpoints[..start])
    }

    /// The key for work from `source`: a request, or a connection without one.
    #[must_use]
    pub fn key(
        &self,
        source: IpAddr,
        request: Option<&http::request::Parts>,
        now_micros: u64,
    ) -> PickKey {
        let key = PickKey::new(random::bits(), now_micros);
        self.rules.hash(source, request).map_or(key, |hash| key.with_hash(hash))
    }

    /// What is counted of no endpoint that is here: of those that are gone, and of work that found
    /// nobody.
    #[must_use]
    pub const fn gone(&self) -> &Arc<Tally> {
        &self.gone
    }

    /// Every endpoint that it knows: those that get work, those that stay, those that departed.
    pub fn known(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter().chain(&self.staying).chain(&self.departed)
    }

    /// By what it was compiled.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Who waits for a place; `None` while the work at endpoints was never limited.
    #[must_use]
    pub fn queue(&self) -> Option<&Arc<Queue>> {
        self.queue.as_ref()
    }

    /// Whether somebody waits, so that whoever comes stands behind.
    #[must_use]
    pub fn crowded(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.waiting() > 0)
    }
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
pub(crate) mod tests;

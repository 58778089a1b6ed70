//! Endpoints that one policy spreads work over, and which of two such groups gets it: what is near
//! first.

use std::sync::Arc;

use super::endpoint::Endpoint;
use super::rules::Rules;
use crate::proxy::balance::hash::{mix, unit};
use crate::proxy::balance::{PickKey, Policy, Shared};

/// Picks in a row that may fall on endpoints whose slow start turns them down; the last one counts.
const TURNED_DOWN_MAX: usize = 16;
/// Of one hash, the chance to stay near and the chance of a slow start are independent.
const OF_WARMING: u64 = 0x5741_524D;
const OF_PLACE: u64 = 0x4E45_4152;

/// Some endpoints and their policy.
#[derive(Debug)]
pub(super) struct Group {
    /// `None`: all of the upstream.
    endpoints: Option<Box<[Arc<Endpoint>]>>,
    policy: Arc<dyn Policy>,
    shared: Shared,
    /// When the last slow start among them ends; 0: nobody is in one.
    warm_from: u64,
}

impl Group {
    /// Compiles a group of `endpoints`. When they have the addresses and weights that they had in
    /// `previous`, its policy goes on: a table of hashes is not worked out again because a tag changed.
    pub(super) fn compile(
        endpoints: &[Arc<Endpoint>],
        whole: bool,
        rules: &Rules,
        previous: Option<(&Self, &[Arc<Endpoint>], &Rules)>,
    ) -> Self {
        let shared = previous.map_or_else(Shared::default, |(known, ..)| Arc::clone(&known.shared));
        let same = previous.filter(|(known, all, before)| {
            let had = known.endpoints.as_deref().unwrap_or(all);
            let alike = |(a, b): (&Arc<Endpoint>, &Arc<Endpoint>)| {
                a.address == b.address && a.weight == b.weight
            };
            std::ptr::fn_addr_eq(before.build, rules.build)
                && had.len() == endpoints.len()
                && had.iter().zip(endpoints).all(alike)
        });
        let policy = match same {
            Some((known, ..)) => Arc::clone(&known.policy),
            None => Arc::from((rules.build)(endpoints, Arc::clone(&shared))),
        };
        let ends = endpoints.iter().filter_map(|endpoint| endpoint.warming.as_ref());
        let warm_from = ends.map(super::endpoint::Warming::end).max().unwrap_or(0);
        let endpoints = (!whole).then(|| endpoints.into());
        Self { endpoints, policy, shared, warm_from }
    }

    /// The endpoint for `key` among these; `all` are those of the upstream.
    pub(super) fn pick<'a>(
        &'a self,
        all: &'a [Arc<Endpoint>],
        mut key: PickKey,
    ) -> Option<&'a Arc<Endpoint>> {
        let endpoints = self.endpoints.as_deref().unwrap_or(all);
        let mut picked = endpoints.get(self.policy.pick(endpoints, key)?)?;
        if self.warm_from <= key.now_micros || self.policy.warms() {
            return Some(picked);
        }
        // By the hash: of those that belong together, all are turned down or none, and as the share
        // grows, each moves once.
        for _ in 0..TURNED_DOWN_MAX {
            if unit(mix(key.hash ^ OF_WARMING)) < picked.share(key.now_micros) {
                break;
            }
            key = key.again();
            picked = endpoints.get(self.policy.pick(endpoints, key)?)?;
        }
        Some(picked)
    }

    #[cfg(test)]
    pub(super) fn same_policy(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy)
    }
}

/// What is near, and what is not.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) near: Group,
    pub(super) far: Group,
    /// Share of the work that stays near, from 0 to 1.
    pub(super) stays: f64,
}

impl Places {
    /// Which of the two work with `key` goes to.
    pub(super) fn group(&self, key: PickKey) -> &Group {
        if unit(mix(key.hash ^ OF_PLACE)) < self.stays { &self.near } else { &self.far }
    }
}

/// Share of the work that stays near, when `eligible` of `registered` near endpoints are, and as much
/// as `enough` of them would keep all of it: beyond that, what is missing goes elsewhere in proportion.
pub(super) fn stays_near(eligible: usize, registered: usize, enough: f64) -> f64 {
    if eligible == 0 || registered == 0 {
        return 0.0;
    }
    let there = eligible as f64 / registered as f64;
    if there >= enough { 1.0 } else { there / enough }
}

//! For tests: picks counted, shares judged by χ², and endpoints that take their time on a clock
//! that is not real. Everything is seeded, so that it goes the same way each time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::hash::{mix, unit};
use super::{Build, PickKey, Policy, Shared};
use crate::proxy::upstream::tests::endpoints;
use crate::proxy::upstream::{Endpoint, Work};

/// How often each of some idle endpoints is picked.
pub(crate) fn picks(build: Build, weights: &[u16], count: usize) -> Vec<usize> {
    let endpoints = endpoints(weights);
    let policy = build(&endpoints, Shared::default());
    let mut counts = vec![0; weights.len()];
    let mut random = 42;
    for _ in 0..count {
        random = mix(random);
        counts[policy.pick(&endpoints, PickKey::new(random, 0)).unwrap()] += 1;
    }
    counts
}

/// χ² of `counts` against shares in proportion to `weights`.
pub(crate) fn chi_squared(weights: &[f64], counts: &[usize]) -> f64 {
    let (sum, all) = (weights.iter().sum::<f64>(), counts.iter().sum::<usize>() as f64);
    let off = |(weight, count): (&f64, &usize)| {
        let want = all * weight / sum;
        (*count as f64 - want).powi(2) / want
    };
    weights.iter().zip(counts).map(off).sum()
}

/// What χ² exceeds once in a thousand times when nothing is wrong (Wilson and Hilferty).
pub(crate) fn critical(degrees: usize) -> f64 {
    let degrees = degrees as f64;
    let part = 2.0 / (9.0 * degrees);
    degrees * (1.0 - part + 3.0902 * part.sqrt()).powi(3)
}

/// Holds `counts` to shares in proportion to `weights`.
pub(crate) fn assert_shares(case: &str, weights: &[u16], counts: &[usize]) {
    let weights: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
    let (found, limit) = (chi_squared(&weights, counts), critical(weights.len() - 1));
    assert!(found <= limit, "{case}: χ² = {found:.1} > {limit:.1} for {counts:?}");
}

/// Endpoints that each take their time for an answer.
pub(crate) struct Simulation {
    endpoints: Box<[Arc<Endpoint>]>,
    policy: Box<dyn Policy>,
    latencies: Vec<u64>,
}

impl Simulation {
    /// Latencies in microseconds; each answer takes between half and one and a half times that.
    pub(crate) fn new(build: Build, weights: &[u16], latencies: &[u64]) -> Self {
        let endpoints = endpoints(weights);
        let policy = build(&endpoints, Shared::default());
        Self { endpoints, policy, latencies: latencies.to_vec() }
    }

    /// How many of `total` requests each endpoint gets, when `at_once` clients each ask again as
    /// soon as they have their answer.
    pub(crate) fn run(&self, at_once: usize, total: usize) -> Vec<usize> {
        let mut counts = vec![0; self.endpoints.len()];
        let mut ends = BinaryHeap::new();
        let mut running: Vec<Option<(usize, u64, Work)>> = Vec::new();
        running.resize_with(at_once, || None);
        ends.extend((0..at_once).map(|client| Reverse((1 + client as u64 * 100, client))));
        let mut random = 42;
        for _ in 0..total {
            let Some(Reverse((now, client))) = ends.pop() else { break };
            if let Some((index, began, work)) = running[client].take() {
                drop(work);
                self.endpoints[index].answered(200, now - began, now);
            }
            random = mix(random);
            let index = self.policy.pick(&self.endpoints, PickKey::new(random, now)).unwrap();
            counts[index] += 1;
            running[client] = Some((index, now, self.endpoints[index].begin()));
            let stray = 0.5 + unit(mix(random ^ 1));
            let takes = (self.latencies[index] as f64 * stray) as u64;
            ends.push(Reverse((now + takes, client)));
        }
        counts
    }
}

//! Power of two choices over the peak latency that each endpoint showed lately.

use std::sync::Arc;

use super::hash::{mix, scale};
use super::weights::Weights;
use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Draws two endpoints and takes the cheaper one: latency (peak, decaying) × (1 + requests in flight
/// per weight). A slow endpoint gets little, yet is tried again as its peak decays; no endpoint
/// is the best for all at once, so that no herd forms.
///
/// Among equal weights the two are always different ones. Else both are drawn by weight, and may be
/// the same: two draws that differ by chance alone then keep to the weights. One that was drawn
/// twice still gives way to a third that is less than half as expensive.
#[derive(Debug)]
pub struct PowerOfTwo {
    weights: Weights,
    /// Mean of the weights: requests in flight count in relation to it.
    mean: f64,
}

/// The second draw has nothing to do with the first one of the next key.
const OF_SECOND: u64 = 0x0053_4543;

impl PowerOfTwo {
    /// The policy for `endpoints`, which remember their loads themselves.
    pub fn build(endpoints: &[Arc<Endpoint>], _: Shared) -> Box<dyn Policy> {
        let sum: f64 = endpoints.iter().map(|endpoint| f64::from(endpoint.weight)).sum();
        let mean = sum / endpoints.len().max(1) as f64;
        Box::new(Self { weights: Weights::new(endpoints), mean })
    }
}

impl Policy for PowerOfTwo {
    fn pick(&self, endpoints: &[Arc<Endpoint>], key: PickKey) -> Option<usize> {
        let count = endpoints.len() as u64;
        if count <= 1 {
            return (count == 1).then_some(0);
        }
        let cost = |index: usize| {
            let endpoint = &endpoints[index];
            let in_flight = f64::from(endpoint.in_flight()) * self.mean;
            endpoint.latency(key.now_micros) * (1.0 + in_flight / f64::from(endpoint.weight.max(1)))
        };
        let (first, again) = (key.random, mix(key.random ^ OF_SECOND));
        let first = self.weights.at(first)?;
        let other = |bits: u64| {
            let drawn = scale(bits, count - 1) as usize;
            if drawn >= first { drawn + 1 } else { drawn }
        };
        let (second, margin) = if self.weights.equal() {
            (other(again), 1.0)
        } else {
            match self.weights.at(again)? {
                same if same == first => (other(mix(again)), 2.0),
                second => (second, 1.0),
            }
        };
        Some(if cost(second) * margin < cost(first) { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::balance::simulation::{Simulation, assert_shares, picks};
    use crate::proxy::upstream::tests::endpoints;

    #[test]
    fn an_endpoint_with_less_in_flight_is_preferred_and_both_are_always_different() {
        let endpoints = endpoints(&[1, 1]);
        let policy = PowerOfTwo::build(&endpoints, Shared::default());
        let _busy = endpoints[0].begin();
        for random in [0, u64::MAX, 1 << 31, 1 << 63, 0x8000_0000_8000_0000] {
            assert_eq!(policy.pick(&endpoints, PickKey::new(random, 0)), Some(1), "{random:x}");
        }
    }

    #[test]
    fn one_of_which_nothing_is_known_is_tried_by_one_request_among_faster_ones() {
        let endpoints = endpoints(&[1, 1]);
        let policy = PowerOfTwo::build(&endpoints, Shared::default());
        endpoints[0].observe(100, 0);
        let picked = || policy.pick(&endpoints, PickKey::new(7, 0));
        assert_eq!(picked(), Some(1));
        let trying = endpoints[1].begin();
        assert_eq!(picked(), Some(0), "while that waits for an answer");
        drop(trying);
        assert_eq!(picked(), Some(0), "nor when it had none");
    }

    #[test]
    fn one_that_cannot_be_connected_to_is_left_alone_for_a_while_or_until_it_answers() {
        const SECOND: u64 = 1_000_000;
        let endpoints = endpoints(&[1, 1]);
        let policy = PowerOfTwo::build(&endpoints, Shared::default());
        let picked = |now_micros: u64| {
            endpoints[1].observe(2000, now_micros);
            let keys = (0..64u64).map(|n| PickKey::new(mix(n), now_micros));
            keys.filter(|key| policy.pick(&endpoints, *key) == Some(0)).count()
        };
        endpoints[0].observe(1000, SECOND);
        assert_eq!(picked(SECOND), 64, "it is the faster one");
        for (case, failed, now, tried) in [
            ("at once", true, 2 * SECOND, false),
            ("soon after", false, 10 * SECOND, false),
            ("later", false, 15 * SECOND, true),
            ("once more", true, 15 * SECOND, false),
            ("it is not worse for that", false, 28 * SECOND, true),
        ] {
            if failed {
                endpoints[0].unreachable(3 * SECOND, now);
            }
            assert_eq!(picked(now) == 64, tried, "{case}");
        }
        endpoints[0].unreachable(3 * SECOND, 30 * SECOND);
        assert_eq!(picked(30 * SECOND), 0);
        endpoints[0].observe(1000, 30 * SECOND);
        assert_eq!(picked(30 * SECOND), 64, "it has answered");
    }

    #[test]
    fn a_single_endpoint_is_always_taken_and_none_never() {
        let key = PickKey::new(7, 0);
        let one = endpoints(&[1]);
        assert_eq!(PowerOfTwo::build(&one, Shared::default()).pick(&one, key), Some(0));
        assert_eq!(PowerOfTwo::build(&[], Shared::default()).pick(&[], key), None);
    }

    #[test]
    fn endpoints_that_do_alike_get_work_by_weight() {
        for weights in [&[1, 3][..], &[1, 2, 7], &[1, 1, 1, 1], &[10, 1, 1, 1]] {
            assert_shares("idle", weights, &picks(PowerOfTwo::build, weights, 50_000));
        }
        // Under load, twenty requests at a time: what is in flight holds shares to the weights.
        let weights = [1, 2, 5];
        let done = Simulation::new(PowerOfTwo::build, &weights, &[10_000; 3]).run(20, 40_000);
        for (done, want) in done.iter().zip([5000.0, 10_000.0, 25_000.0]) {
            let off = (*done as f64 / want - 1.0).abs();
            assert!(off < 0.1, "{done} instead of {want}");
        }
    }

    #[test]
    fn one_ten_times_slower_gets_at_most_a_fifth_of_its_fair_share() {
        for (count, at_once) in [(2, 4), (3, 1), (5, 20), (10, 10), (10, 100), (50, 200)] {
            let mut latencies = vec![10_000; count];
            latencies[0] = 100_000;
            let total = 30_000;
            let weights = vec![1; count];
            let done = Simulation::new(PowerOfTwo::build, &weights, &latencies).run(at_once, total);
            let fair = total / count;
            assert!(done[0] * 5 <= fair, "{count} endpoints, {at_once} at once: {}", done[0]);
            assert!(done[0] > 0, "{count} endpoints, {at_once} at once: it is never tried again");
        }
        // The same where weights differ.
        let done = Simulation::new(PowerOfTwo::build, &[5, 1, 2, 2], &[100_000, 9000, 9000, 9000])
            .run(20, 30_000);
        assert!(done[0] * 5 <= 15_000, "{done:?}");
    }
}

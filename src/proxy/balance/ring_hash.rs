//! Consistent hashing on a ring, with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2017).

use std::sync::Arc;

use super::hash::{mix, of_address};
use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Sends each hash to the next point of the ring whose endpoint has room: none ever has more in
/// flight than [`BOUND`] times its share of all that is, rounded up.
///
/// Each endpoint has points by its weight, placed by its address alone. Workers that pick in the same
/// instant don't see each other's pick yet.
#[derive(Debug)]
pub struct RingHash {
    /// Points of the ring in their order, each with the index of its endpoint.
    points: Box<[(u64, u32)]>,
    /// Sum of the weights.
    total: f64,
}

/// How much more than its share an endpoint may have in flight.
pub const BOUND: f64 = 1.25;
/// Points per endpoint of mean weight.
const POINTS: usize = 160;
/// Points of a small ring: so many that shares are even.
const POINTS_MIN: usize = 4096;
/// Points of a large one: some twenty milliseconds to sort, 4 MiB.
const POINTS_MAX: usize = 1 << 18;

impl RingHash {
    /// The policy for `endpoints`, which count for themselves.
    pub fn build(endpoints: &[Arc<Endpoint>], _: Shared) -> Box<dyn Policy> {
        let weight = |endpoint: &Arc<Endpoint>| f64::from(endpoint.weight.max(1));
        let total: f64 = endpoints.iter().map(weight).sum();
        let wanted = (endpoints.len() * POINTS).clamp(POINTS_MIN, POINTS_MAX) as f64;
        let mut points = Vec::new();
        for (index, endpoint) in (0..).zip(endpoints) {
            let count = (wanted * weight(endpoint) / total).round().max(1.0) as u64;
            let own = of_address(endpoint.address);
            points.extend((0..count).map(|n| (mix(own ^ mix(n)), index)));
        }
        points.sort_unstable();
        Box::new(Self { points: points.into(), total })
    }
}

impl Policy for RingHash {
    fn pick(&self, endpoints: &[Arc<Endpoint>], key: PickKey) -> Option<usize> {
        let start = self.points.partition_point(|(point, _)| *point < key.hash);
        let mut all = None;
        for step in 0..self.points.len() {
            let (_, index) = self.points[(start + step) % self.points.len()];
            let endpoint = &endpoints[index as usize];
            let own = endpoint.in_flight();
            // Everybody may have one; only who has some is weighed against all.
            if own == 0 {
                return Some(index as usize);
            }
            let all = *all.get_or_insert_with(|| {
                endpoints.iter().map(|endpoint| f64::from(endpoint.in_flight())).sum::<f64>()
            });
            let share = f64::from(endpoint.weight.max(1)) / self.total;
            if f64::from(own) + 1.0 <= (BOUND * (all + 1.0) * share).ceil() {
                return Some(index as usize);
            }
        }
        // Only while others add to their load under our eyes.
        self.points.get(start).or_else(|| self.points.first()).map(|(_, index)| *index as usize)
    }

    fn by_hash(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::balance::simulation::picks;
    use crate::proxy::upstream::tests::endpoints;

    #[test]
    fn no_endpoint_ever_exceeds_its_bound_however_uneven_the_hashes() {
        for weights in [vec![1; 10], vec![1, 2, 7], vec![1; 100]] {
            let endpoints = endpoints(&weights);
            let policy = RingHash::build(&endpoints, Shared::default());
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let mut held: Vec<(usize, _)> = Vec::new();
            let (mut fullest, mut random) = (0.0_f64, 1);
            for n in 0..5000_u64 {
                random = mix(random);
                // Nine in ten from three clients; now and then something ends.
                let client = if random % 10 == 0 { random } else { random % 3 };
                let key = PickKey::new(random, 0).with_hash(mix(client));
                let index = policy.pick(&endpoints, key).unwrap();
                held.push((index, endpoints[index].begin()));
                let all = held.len() as f64;
                let share = f64::from(weights[index]) / total;
                let bound = (1.25 * all * share).ceil();
                let own = f64::from(endpoints[index].in_flight());
                assert!(own <= bound, "{own} of {all} exceeds {bound}, after {n}");
                fullest = fullest.max(own / (all * share));
                if n % 3 == 0 {
                    held.swap_remove((random >> 32) as usize % held.len());
                }
            }
            assert!(fullest >= 1.0, "clients were too even to show anything");
        }
    }

    #[test]
    fn idle_endpoints_get_hashes_by_weight_within_a_few_percent() {
        for weights in [vec![1; 3], vec![1; 10], vec![1, 2, 7]] {
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let got = picks(RingHash::build, &weights, 50_000);
            for (got, weight) in got.iter().zip(&weights) {
                let want = 50_000.0 * f64::from(*weight) / total;
                let off = (*got as f64 / want - 1.0).abs();
                assert!(off < 0.2, "{weights:?}: {got} instead of {want}");
            }
        }
    }

    #[test]
    fn when_one_leaves_nothing_moves_but_what_it_had() {
        let all = endpoints(&[1; 20]);
        let left: Vec<_> = all[..19].to_vec();
        let (before, after) =
            (RingHash::build(&all, Shared::default()), RingHash::build(&left, Shared::default()));
        let mut moved = 0;
        for n in 0..20_000 {
            let key = PickKey::new(0, 0).with_hash(mix(n));
            let (was, is) = (before.pick(&all, key).unwrap(), after.pick(&left, key).unwrap());
            moved += usize::from(was != 19 && was != is);
        }
        // A small ring has the same number of points in all, so that the others get a few more.
        assert!(moved < 20_000 / 10, "{moved} of 20000 moved for nothing");
    }
}

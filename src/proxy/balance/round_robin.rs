//! In turn; by weight when weights differ.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::weights::Weights;
use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Takes endpoints in turn.
///
/// With different weights the turns are those of nginx's smooth weighted round-robin, whole cycles of
/// which are worked out beforehand, so that all workers share one sequence by counting up one number.
/// Where that would take too long (see [`WORK_MAX`]), turns follow the golden section over the summed
/// weights: each endpoint gets its share with a discrepancy of O(log n) turns.
#[derive(Debug)]
pub struct RoundRobin {
    turn: Shared,
    weights: Weights,
    /// One cycle of turns; empty when weights are equal, or a cycle is too long.
    cycle: Box<[u32]>,
}

/// Most turns of a cycle times endpoints: some milliseconds, once per change of the endpoints.
pub const WORK_MAX: u64 = 1 << 20;

/// 2⁶⁴ divided by the golden ratio: multiples of it spread evenly over the 64-bit circle.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl RoundRobin {
    /// The policy for `endpoints`; `turn` goes on from where the last compile left it.
    pub fn build(endpoints: &[Arc<Endpoint>], turn: Shared) -> Box<dyn Policy> {
        let weights = Weights::new(endpoints);
        let cycle = if weights.equal() { Box::default() } else { cycle(endpoints) };
        Box::new(Self { turn, weights, cycle })
    }
}

/// The turns of one cycle: at each, everybody earns their weight, and who has earned most takes it
/// and pays the sum of all weights.
fn cycle(endpoints: &[Arc<Endpoint>]) -> Box<[u32]> {
    let raw = || endpoints.iter().map(|endpoint| u64::from(endpoint.weight.max(1)));
    let common = raw().fold(0, common_divisor);
    let weights: Vec<i64> = raw().map(|weight| (weight / common) as i64).collect();
    let total: i64 = weights.iter().sum();
    if (total as u64).saturating_mul(weights.len() as u64) > WORK_MAX {
        return Box::default();
    }
    let mut earned = vec![0_i64; weights.len()];
    let turn = |_| {
        let mut best = 0;
        for (index, weight) in weights.iter().enumerate() {
            earned[index] += weight;
            if earned[index] > earned[best] {
                best = index;
            }
        }
        earned[best] -= total;
        best as u32
    };
    (0..total).map(turn).collect()
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

impl Policy for RoundRobin {
    fn pick(&self, endpoints: &[Arc<Endpoint>], _: PickKey) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if self.weights.equal() {
            return turn.checked_rem(endpoints.len() as u64).map(|index| index as usize);
        }
        match turn.checked_rem(self.cycle.len() as u64) {
            Some(at) => Some(self.cycle[at as usize] as usize),
            None => self.weights.at(turn.wrapping_mul(GOLDEN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::balance::simulation::{assert_shares, picks};
    use crate::proxy::upstream::tests::endpoints;

    /// The turns of a policy over `weights`.
    fn turns(weights: &[u16], count: usize) -> Vec<usize> {
        let endpoints = endpoints(weights);
        let policy = RoundRobin::build(&endpoints, Shared::default());
        (0..count).map(|_| policy.pick(&endpoints, PickKey::new(0, 0)).unwrap()).collect()
    }

    /// nginx's algorithm, in its own words: the current weight of each grows by its weight, the
    /// largest one is taken and loses the total.
    fn nginx(weights: &[u16], count: usize) -> Vec<usize> {
        let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
        let mut current = vec![0_i64; weights.len()];
        let mut turns = Vec::new();
        for _ in 0..count {
            current.iter_mut().zip(weights).for_each(|(c, w)| *c += i64::from(*w));
            let best = (0..weights.len()).rev().max_by_key(|i| current[*i]).unwrap();
            current[best] -= total;
            turns.push(best);
        }
        turns
    }

    /// The furthest that any endpoint ever is from its share of the turns so far.
    fn spread(weights: &[u16], turns: &[usize]) -> f64 {
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let mut counts = vec![0.0; weights.len()];
        let mut worst: f64 = 0.0;
        for (turn, taken) in turns.iter().enumerate() {
            counts[*taken] += 1.0;
            for (count, weight) in counts.iter().zip(weights) {
                let share = (turn + 1) as f64 * f64::from(*weight) / total;
                worst = worst.max((count - share).abs());
            }
        }
        worst
    }

    #[test]
    fn equal_weights_take_strict_turns() {
        assert_eq!(turns(&[1, 1, 1], 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(turns(&[9, 9], 3), [0, 1, 0]);
    }

    #[test]
    fn turns_are_as_smooth_as_nginx_has_them() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        for weights in [&[5, 1, 1][..], &[1, 2, 7], &[10, 20, 70], &[100, 3], &[999, 1000, 7, 41]] {
            let count = 4000;
            let (ours, theirs) = (turns(weights, count), nginx(weights, count));
            assert_eq!(ours, theirs, "{weights:?}");
            assert!(spread(weights, &ours) < 2.0, "{weights:?}");
        }
    }

    #[test]
    fn cycles_that_are_too_long_are_nearly_as_smooth() {
        let weights: Vec<u16> = (0..250).map(|n| 700 + (n * 37) % 301).collect();
        let endpoints = endpoints(&weights);
        assert!(cycle(&endpoints).is_empty(), "this is about those that are too long");
        let (ours, theirs) = (turns(&weights, 20_000), nginx(&weights, 20_000));
        let (ours, theirs) = (spread(&weights, &ours), spread(&weights, &theirs));
        assert!(ours < theirs + 2.0, "{ours} turns off, nginx {theirs}");
        assert_shares("golden", &weights, &picks(RoundRobin::build, &weights, 100_000));
    }

    #[test]
    fn workers_at_the_same_time_share_one_sequence() {
        let endpoints = endpoints(&[1, 2, 7]);
        let policy = RoundRobin::build(&endpoints, Shared::default());
        let mut counts = [0; 3];
        std::thread::scope(|scope| {
            let work = || {
                let pick = |_| policy.pick(&endpoints, PickKey::new(0, 0)).unwrap();
                (0..2500).map(pick).collect::<Vec<_>>()
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                worker.join().unwrap().into_iter().for_each(|index| counts[index] += 1);
            }
        });
        assert_eq!(counts, [1000, 2000, 7000]);
    }

    #[test]
    fn without_endpoints_there_is_no_pick() {
        let policy = RoundRobin::build(&[], Shared::default());
        assert_eq!(policy.pick(&[], PickKey::new(0, 0)), None);
    }
}

//! In turn; by weight when weights differ.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Takes endpoints in turn.
///
/// With different weights the turns follow the golden section over the summed weights: each
/// endpoint gets its share with a discrepancy of O(log n) turns, without state of its own and
/// without blocks of turns for the heavy ones.
#[derive(Debug)]
pub struct RoundRobin {
    turn: Shared,
    /// Sums of the weights up to and with each endpoint; empty while all weigh the same.
    sums: Box<[u64]>,
}

/// 2⁶⁴ divided by the golden ratio: multiples of it spread evenly over the 64-bit circle.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl RoundRobin {
    /// The policy for `endpoints`; `turn` goes on from where the last compile left it.
    pub fn build(endpoints: &[Arc<Endpoint>], turn: Shared) -> Box<dyn Policy> {
        let equal = endpoints.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let mut sum = 0;
        let sums = endpoints.iter().map(|endpoint| {
            sum += u64::from(endpoint.weight);
            sum
        });
        Box::new(Self { turn, sums: if equal { Box::default() } else { sums.collect() } })
    }
}

impl Policy for RoundRobin {
    fn pick(&self, endpoints: &[Arc<Endpoint>], _: PickKey) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.sums.last() {
            None => turn.checked_rem(endpoints.len() as u64).map(|index| index as usize),
            Some(&total) => {
                // The high half of the product scales the 64-bit circle down to 0..total.
                let point = (u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(total)) >> 64;
                Some(self.sums.partition_point(|sum| u128::from(*sum) <= point))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::upstream::tests::endpoints;

    fn counts(weights: &[u16], picks: usize) -> Vec<usize> {
        let endpoints = endpoints(weights);
        let policy = RoundRobin::build(&endpoints, Shared::default());
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            let key = PickKey { random: 0, now_micros: 0 };
            counts[policy.pick(&endpoints, key).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn equal_weights_take_strict_turns() {
        assert_eq!(counts(&[1, 1, 1], 300), [100, 100, 100]);
    }

    #[test]
    fn different_weights_get_their_shares_within_a_few_turns() {
        let got = counts(&[1, 2, 7], 1000);
        for (got, want) in got.iter().zip([100, 200, 700]) {
            assert!(got.abs_diff(want) <= 5, "{got} instead of {want}");
        }
    }

    #[test]
    fn without_endpoints_there_is_no_pick() {
        let policy = RoundRobin::build(&[], Shared::default());
        assert_eq!(policy.pick(&[], PickKey { random: 0, now_micros: 0 }), None);
    }
}

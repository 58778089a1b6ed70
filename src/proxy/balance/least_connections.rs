//! Where the least runs, in relation to weights.

use std::sync::Arc;

use super::hash::{mix, unit};
use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Takes the endpoint with the least in flight per weight; of several the one that a draw by weight
/// gives, so that idle ones get their shares too (as nginx has it, there in turn).
///
/// Looks at every endpoint, up to [`SEEN_MAX`] of them; of more, at so many in a row from a random
/// place.
#[derive(Debug)]
pub struct LeastConnections;

/// Draws among equals have nothing to do with where a pick begins.
const OF_TIES: u64 = 0x5449_4553;

/// Endpoints that one pick looks at.
pub const SEEN_MAX: usize = 256;

impl LeastConnections {
    /// The policy; endpoints count for themselves.
    pub fn build(_: &[Arc<Endpoint>], _: Shared) -> Box<dyn Policy> {
        Box::new(Self)
    }
}

impl Policy for LeastConnections {
    fn pick(&self, endpoints: &[Arc<Endpoint>], key: PickKey) -> Option<usize> {
        let count = endpoints.len();
        let start = if count > SEEN_MAX { (key.random % count as u64) as usize } else { 0 };
        let (mut best, mut least, mut tied) = (None, f64::INFINITY, 0.0);
        let mut bits = key.random ^ OF_TIES;
        for step in 0..count.min(SEEN_MAX) {
            let index = (start + step) % count;
            let endpoint = &endpoints[index];
            let weight = endpoint.effective_weight(key.now_micros);
            let load = f64::from(endpoint.in_flight()) / weight;
            if load < least {
                (best, least, tied) = (Some(index), load, weight);
            } else if load <= least {
                // One of all that tie so far, each with the chance that its weight gives it.
                tied += weight;
                bits = mix(bits);
                if unit(bits) * tied < weight {
                    best = Some(index);
                }
            }
        }
        best
    }

    fn warms(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::balance::simulation::{Simulation, assert_shares, picks};
    use crate::proxy::upstream::tests::endpoints;

    #[test]
    fn what_is_in_flight_follows_the_weights() {
        let endpoints = endpoints(&[1, 2, 5]);
        let policy = LeastConnections::build(&endpoints, Shared::default());
        let mut held = Vec::new();
        for random in 0..800 {
            let index = policy.pick(&endpoints, PickKey::new(mix(random), 0)).unwrap();
            held.push(endpoints[index].begin());
        }
        let in_flight: Vec<u32> = endpoints.iter().map(|e| e.in_flight()).collect();
        assert_eq!(in_flight, [100, 200, 500]);
    }

    #[test]
    fn ties_go_by_weight_and_chance() {
        for weights in [&[1, 1, 1][..], &[1, 2, 7], &[3; 40]] {
            assert_shares("tied", weights, &picks(LeastConnections::build, weights, 50_000));
        }
    }

    #[test]
    fn a_slow_endpoint_gets_less_for_it_is_busy() {
        let done = Simulation::new(LeastConnections::build, &[1; 4], &[90_000, 9000, 9000, 9000])
            .run(16, 20_000);
        assert!(done[0] * 4 < 20_000 / 3, "{done:?}");
    }

    #[test]
    fn of_very_many_endpoints_any_can_be_the_one() {
        let endpoints = endpoints(&[1; 1000]);
        let policy = LeastConnections::build(&endpoints, Shared::default());
        let mut seen = std::collections::BTreeSet::new();
        for random in 0..20_000 {
            seen.insert(policy.pick(&endpoints, PickKey::new(mix(random), 0)).unwrap());
        }
        assert_eq!(seen.len(), 1000);
        assert_eq!(policy.pick(&[], PickKey::new(7, 0)), None);
    }
}

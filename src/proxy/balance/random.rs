//! By chance alone, in proportion to weights.

use std::sync::Arc;

use super::weights::Weights;
use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Takes each endpoint as often as it weighs, whatever its load.
#[derive(Debug)]
pub struct Random(Weights);

impl Random {
    /// The policy for `endpoints`; it remembers nothing.
    pub fn build(endpoints: &[Arc<Endpoint>], _: Shared) -> Box<dyn Policy> {
        Box::new(Self(Weights::new(endpoints)))
    }
}

impl Policy for Random {
    fn pick(&self, _: &[Arc<Endpoint>], key: PickKey) -> Option<usize> {
        self.0.at(key.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::balance::simulation::{assert_shares, picks};

    #[test]
    fn each_endpoint_is_taken_as_often_as_it_weighs() {
        for weights in [&[1, 1, 1][..], &[1, 2, 7], &[1000, 1, 1], &[3; 50]] {
            assert_shares("random", weights, &picks(Random::build, weights, 50_000));
        }
    }

    #[test]
    fn without_endpoints_there_is_no_pick() {
        assert_eq!(Random::build(&[], Shared::default()).pick(&[], PickKey::new(7, 0)), None);
    }
}

//! Power of two choices over the peak latency that each endpoint showed lately.

use std::sync::Arc;

use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Draws two different endpoints and takes the cheaper one: latency (peak, decaying) × requests
/// in flight ÷ weight. A slow endpoint gets little, yet is tried again as its peak decays; no
/// endpoint is the best for all at once, so that no herd forms.
#[derive(Debug)]
pub struct PowerOfTwo;

impl PowerOfTwo {
    /// The policy; it needs nothing but the endpoints' own loads.
    pub fn build(_: &[Arc<Endpoint>], _: Shared) -> Box<dyn Policy> {
        Box::new(Self)
    }
}

impl Policy for PowerOfTwo {
    fn pick(&self, endpoints: &[Arc<Endpoint>], key: PickKey) -> Option<usize> {
        let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        if count <= 1 {
            return (count == 1).then_some(0);
        }
        let scale = |bits: u32, to: u32| ((u64::from(bits) * u64::from(to)) >> 32) as usize;
        let first = scale(key.random as u32, count);
        // A second draw out of the others only, so that two are always compared.
        let second = scale((key.random >> 32) as u32, count - 1);
        let second = if second >= first { second + 1 } else { second };
        let cost = |index: usize| endpoints[index].cost(key.now_micros);
        Some(if cost(second) < cost(first) { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::upstream::tests::endpoints;

    #[test]
    fn an_endpoint_with_less_in_flight_is_preferred_and_both_are_always_different() {
        let endpoints = endpoints(&[1, 1]);
        let _busy = endpoints[0].begin();
        for random in [0, u64::MAX, 1 << 31, 1 << 63, 0x8000_0000_8000_0000] {
            let key = PickKey { random, now_micros: 0 };
            assert_eq!(PowerOfTwo.pick(&endpoints, key), Some(1), "{random:x}");
        }
    }

    #[test]
    fn a_single_endpoint_is_always_taken_and_none_never() {
        let key = PickKey { random: 7, now_micros: 0 };
        assert_eq!(PowerOfTwo.pick(&endpoints(&[1]), key), Some(0));
        assert_eq!(PowerOfTwo.pick(&[], key), None);
    }
}

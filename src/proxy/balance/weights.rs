//! Draws in proportion to weights.

use std::sync::Arc;

use super::hash::scale;
use crate::proxy::upstream::Endpoint;

/// The weights of some endpoints, ready to be drawn from.
#[derive(Debug)]
pub struct Weights {
    count: u64,
    /// Sums of the weights up to and with each endpoint; empty while all weigh the same.
    sums: Box<[u64]>,
}

impl Weights {
    /// Those of `endpoints`.
    #[must_use]
    pub fn new(endpoints: &[Arc<Endpoint>]) -> Self {
        let count = endpoints.len() as u64;
        if endpoints.windows(2).all(|pair| pair[0].weight == pair[1].weight) {
            return Self { count, sums: Box::default() };
        }
        let sums = endpoints.iter().scan(0, |sum, endpoint| {
            *sum += u64::from(endpoint.weight);
            Some(*sum)
        });
        Self { count, sums: sums.collect() }
    }

    /// Whether all weigh the same.
    #[must_use]
    pub const fn equal(&self) -> bool {
        self.sums.is_empty()
    }

    /// Where `bits`, taken for a point on a circle, falls among endpoints as wide as their weights;
    /// `None` when there is none. Allocates nothing.
    #[must_use]
    pub fn at(&self, bits: u64) -> Option<usize> {
        match self.sums.last() {
            None => (self.count > 0).then(|| scale(bits, self.count) as usize),
            Some(&total) => {
                let point = scale(bits, total);
                Some(self.sums.partition_point(|sum| *sum <= point))
            }
        }
    }
}

//! How long we keep a request of one listener before it goes on: a histogram fine enough for a
//! 99th percentile to mean something.
//!
//! Kept for listeners, not for routes: each route has counters of its own for all else, and so many
//! buckets of so many routes would be memory and lines that nobody reads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::route_metrics::{SHARDS, shard};

/// Buckets up to the last one whose bound is at most a quarter above the one before: 10 µs, 12.5, 15,
/// 17.5, 20, 25 … 20.48 ms.
const FINE: usize = 45;
/// Behind those bounds double, up to 327.68 ms.
const BUCKETS: usize = FINE + 4;

/// The times of one listener, counted by the threads that carry its requests.
#[derive(Debug, Default)]
pub struct Added {
    shards: [OnceLock<Box<Shard>>; SHARDS],
}

#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    buckets: [AtomicU64; BUCKETS + 1],
    sum_micros: AtomicU64,
}

impl Default for Shard {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS + 1], sum_micros: AtomicU64::new(0) }
    }
}

/// All that was counted.
#[derive(Debug)]
pub(super) struct Told {
    /// Upper bounds in seconds, and how many were at most that.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) sum_seconds: f64,
}

impl Added {
    /// Counts `micros`. Allocates with the first one of a thread only.
    pub fn observe(&self, micros: u64) {
        let shard = self.shards[shard()].get_or_init(Box::default);
        shard.buckets[bucket(micros)].fetch_add(1, Relaxed);
        shard.sum_micros.fetch_add(micros, Relaxed);
    }

    pub(super) fn told(&self) -> Told {
        let sum = |part: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
            let known = self.shards.iter().filter_map(OnceLock::get);
            known.map(|shard| part(shard).load(Relaxed)).sum()
        };
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for at in 0..BUCKETS {
            count += sum(&|shard| &shard.buckets[at]);
            buckets.push((bound(at) / 1e6, count));
        }
        count += sum(&|shard| &shard.buckets[BUCKETS]);
        Told { buckets, count, sum_seconds: sum(&|shard| &shard.sum_micros) as f64 / 1e6 }
    }
}

/// Upper bound of a bucket in microseconds: four of them between a value and its double.
fn bound(at: usize) -> f64 {
    let (doubled, quarters) = if at < FINE {
        (at / 4, at % 4)
    } else {
        // Counted from the last one that is fine, 20.48 ms.
        ((FINE - 1) / 4 + at + 1 - FINE, 0)
    };
    2.5 * ((4 + quarters) << doubled) as f64
}

/// The first bucket whose bound is not below `micros`.
fn bucket(micros: u64) -> usize {
    // In units of 2.5 µs, of which the first bound has four: `micros` is at most n of them just
    // when `units` is below n.
    let units = micros.saturating_mul(2).saturating_sub(1) / 5;
    if units < 4 {
        return 0;
    }
    let doubled = units.ilog2() as usize - 2;
    let fine = doubled * 4 + (units >> doubled) as usize - 3;
    let at = if fine < FINE { fine } else { FINE - 1 + (fine + 1 - FINE).div_ceil(4) };
    at.min(BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_whose_bound_it_does_not_exceed() {
        let first = |micros: u64| (0..BUCKETS).find(|at| micros as f64 <= bound(*at));
        for micros in (0..25_000).chain((25_000..400_000).step_by(7)) {
            assert_eq!(bucket(micros), first(micros).unwrap_or(BUCKETS), "{micros}");
        }
        for at in 0..BUCKETS {
            let whole = bound(at) as u64;
            assert_eq!((bucket(whole), bucket(whole + 1)), (at, at + 1), "bound of {at}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS);
    }

    #[test]
    fn neighbouring_bounds_from_ten_microseconds_to_twenty_milliseconds_are_a_quarter_apart() {
        assert!((bound(0) - 10.0).abs() < 1e-9 && (bound(1) - 12.5).abs() < 1e-9);
        assert!((bound(FINE - 1) - 20_480.0).abs() < 1e-9, "{}", bound(FINE - 1));
        assert!((bound(BUCKETS - 1) - 327_680.0).abs() < 1e-9, "{}", bound(BUCKETS - 1));
        for at in 1..FINE {
            let factor = bound(at) / bound(at - 1);
            assert!(factor > 1.1 && factor < 1.2501, "{at}: {factor}");
        }
    }
}

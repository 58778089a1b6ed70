//! When to try again: longer and longer, and never all at the same moment.

use std::time::Duration;

/// Full jitter: after the n-th failure in a row, anything between nothing and `first` · 2ⁿ⁻¹, at
/// most `longest`. A whole fleet that lost the same server comes back spread over that time.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// From a quarter of a second to thirty seconds.
    pub(super) const fn usual() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }

    /// Something worked.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Something failed once more: how long to wait. `random` is any 64 bits.
    pub(super) fn failed(&mut self, random: u64) -> Duration {
        share(self.next(), random)
    }

    /// The same, not spread yet.
    pub(super) fn next(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures.min(31)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// A part of `span`, even over all values of `random`.
pub(super) fn share(span: Duration, random: u64) -> Duration {
    span.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_double_up_to_the_longest_and_start_anew_after_a_success() {
        let mut backoff = Backoff::usual();
        let mut all =
            || -> Vec<u128> { (0..10).map(|_| backoff.failed(u64::MAX).as_millis()).collect() };
        let want = [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        assert_eq!(all(), want);
        backoff.succeeded();
        assert!((backoff.failed(u64::MAX / 2).as_secs_f64() - 0.125).abs() < 1e-6);
        assert_eq!(backoff.failed(0), Duration::ZERO);
        let mut long = Backoff { failures: u32::MAX, ..Backoff::usual() };
        assert!(long.failed(u64::MAX) <= Duration::from_secs(30));
    }
}

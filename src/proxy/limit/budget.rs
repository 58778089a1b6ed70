//! How often requests to one service may be sent again: a share of those that came in the last ten
//! seconds, and ten a second in any case. Shared by all workers, without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seconds that count, the running one included.
const WINDOW: u64 = 10;
/// Retries in a second that need no requests to stand for them.
pub const FLOOR: u64 = 10;
/// A second more than the window, so that clocks of workers that differ a little write apart.
const SLOTS: usize = 16;

/// A second: 20 bits to know it by, 24 of requests, 20 of retries.
const RETRY: u64 = 1;
const RETRY_BITS: u32 = 20;
const REQUEST: u64 = 1 << RETRY_BITS;
const REQUEST_BITS: u32 = 24;
const SECOND_SHIFT: u32 = RETRY_BITS + REQUEST_BITS;

/// Requests and retries of the last seconds.
#[derive(Debug, Default)]
pub struct Budget {
    slots: [AtomicU64; SLOTS],
}

impl Budget {
    /// A request has come, in `second`. Never blocks.
    pub fn requested(&self, second: u64) {
        let _ = self.add(second, REQUEST, |_| true);
    }

    /// Takes one retry in `second`, when `share` of the requests allows one more.
    #[must_use]
    pub fn take(&self, second: u64, share: f64) -> bool {
        let (requests, retries) = self.before(second);
        self.add(second, RETRY, |word| {
            let (now_requests, now_retries) = counts(word);
            let allowed = share * (requests + now_requests) as f64;
            now_retries < FLOOR || ((retries + now_retries + 1) as f64) <= allowed
        })
    }

    /// Requests and retries of the window, the running second aside.
    fn before(&self, second: u64) -> (u64, u64) {
        let mut sum = (0, 0);
        for past in second.saturating_sub(WINDOW - 1)..second {
            let Some(slot) = self.slots.get(past as usize % SLOTS) else { continue };
            let word = slot.load(Relaxed);
            if word >> SECOND_SHIFT == mark(past) {
                let (requests, retries) = counts(word);
                sum = (sum.0 + requests, sum.1 + retries);
            }
        }
        sum
    }

    /// Adds `what` to `second` if `allowed` by what stands there; says whether it did.
    fn add(&self, second: u64, what: u64, allowed: impl Fn(u64) -> bool) -> bool {
        let Some(slot) = self.slots.get(second as usize % SLOTS) else { return false };
        let mut word = slot.load(Relaxed);
        loop {
            let own = word >> SECOND_SHIFT == mark(second);
            let start = if own { word } else { mark(second) << SECOND_SHIFT };
            if !allowed(start) {
                return false;
            }
            let (requests, retries) = counts(start);
            // A full counter stays full; it never runs over into its neighbour.
            let full = if what == RETRY { retries } else { requests };
            let most = if what == RETRY { REQUEST - 1 } else { (1 << REQUEST_BITS) - 1 };
            let next = if full >= most { start } else { start + what };
            match slot.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(changed) => word = changed,
            }
        }
    }
}

/// The bits that a second is known by; never zero, which is what nobody has written.
const fn mark(second: u64) -> u64 {
    (second + 1) & ((1 << (64 - SECOND_SHIFT)) - 1)
}

const fn counts(word: u64) -> (u64, u64) {
    ((word >> RETRY_BITS) & ((1 << REQUEST_BITS) - 1), word & (REQUEST - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries(budget: &Budget, second: u64, share: f64, wanted: u64) -> u64 {
        (0..wanted).filter(|_| budget.take(second, share)).count() as u64
    }

    fn requests(budget: &Budget, second: u64, count: u64) {
        (0..count).for_each(|_| budget.requested(second));
    }

    #[test]
    fn a_share_of_the_last_ten_seconds_may_be_sent_again() {
        let budget = Budget::default();
        requests(&budget, 0, 1000);
        assert_eq!(retries(&budget, 0, 0.2, 500), 200);
        requests(&budget, 5, 1000);
        assert_eq!(retries(&budget, 5, 0.2, 500), 200, "of those that came since");
        assert_eq!(retries(&budget, 9, 0.2, 500), 10, "the first second still counts");
        assert_eq!(retries(&budget, 10, 0.2, 500), 10, "what was taken counts too");
        assert_eq!(retries(&budget, 40, 0.2, 500), 10, "all is long ago");
    }

    #[test]
    fn ten_in_a_second_need_no_requests_and_nothing_is_a_share_too() {
        let budget = Budget::default();
        for second in [3, 4, 5, 300] {
            assert_eq!(retries(&budget, second, 0.2, 100), 10);
        }
        requests(&budget, 301, 10_000);
        assert_eq!(retries(&budget, 301, 0.0, 100), 10);
    }

    #[test]
    fn a_full_counter_does_not_run_over() {
        let budget = Budget::default();
        let word = (mark(1) << SECOND_SHIFT)
            | (u64::from(u32::MAX) << RETRY_BITS & ((1 << SECOND_SHIFT) - 1));
        budget.slots[1].store(word, Relaxed);
        budget.requested(1);
        assert_eq!(budget.slots[1].load(Relaxed) >> SECOND_SHIFT, mark(1));
    }

    #[test]
    fn workers_at_once_lose_no_request_and_take_no_retry_too_many() {
        let budget = Budget::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| requests(&budget, 7, 5000));
            }
        });
        assert_eq!(counts(budget.slots[7].load(Relaxed)), (20_000, 0));
        let taken = std::thread::scope(|scope| {
            let each = || retries(&budget, 7, 0.1, 1000);
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(each)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>()
        });
        assert_eq!(taken, 2000);
    }

    proptest! {
        /// Whatever comes when: never more than the share and the floor.
        #[test]
        fn retries_stay_within_the_share_and_the_floor(
            seconds in prop::collection::vec((0_u64..200, 0_u64..100), 1..40),
        ) {
            let budget = Budget::default();
            let mut taken = Vec::new();
            for (second, (came, wanted)) in seconds.iter().enumerate() {
                requests(&budget, second as u64, *came);
                taken.push(retries(&budget, second as u64, 0.2, *wanted));
                let from = second.saturating_sub(WINDOW as usize - 1);
                let all: u64 = taken[from..].iter().sum();
                let came: u64 = seconds[from..=second].iter().map(|(came, _)| came).sum();
                let most = came as f64 * 0.2 + (FLOOR * WINDOW) as f64;
                prop_assert!(all as f64 <= most, "{all} of {came} in the window of {second}");
            }
        }
    }
}

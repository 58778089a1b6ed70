//! When the express lane lets questions gather before it looks again. Pure: counts and times in, a
//! pause out.
//!
//! A thread that wakes for each question pays more for waking than for answering. Network cards
//! meet that with interrupt moderation: where many come, the first waits a moment for the others.
//! So it is here, and only where it helps: few questions a second are answered at once, large batches
//! need no pause, and where a pause gathers next to nothing, because few clients wait for each answer
//! before they ask again, there is none for a while (decision 0048).

use std::time::{Duration, Instant};

/// How long questions are counted before their rate is judged.
const WINDOW: Duration = Duration::from_millis(5);
/// Questions that must be expected within a pause.
const EXPECTED_MIN: f64 = 3.0;
/// Questions per batch that a pause must bring on the average.
const GATHERED_MIN: f64 = 2.0;
/// A batch of so many is worth its waking.
const ENOUGH: usize = 16;
/// How long there is no pause after one that gathered nothing.
const REST: Duration = Duration::from_secs(1);

/// What one thread knows of the rate of its questions.
#[derive(Debug)]
pub(super) struct Gather {
    window: Instant,
    questions: u32,
    batches: u32,
    on: bool,
    rest_until: Instant,
}

impl Gather {
    /// Nothing is known yet: questions are answered at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { window: now, questions: 0, batches: 0, on: false, rest_until: now }
    }

    /// After a batch of `count`, at `now`: whether to pause, when a pause lasts `most` (0: never).
    pub(super) fn pauses(&mut self, count: usize, now: Instant, most: Duration) -> bool {
        if most.is_zero() {
            return false;
        }
        self.questions = self.questions.saturating_add(count as u32);
        self.batches = self.batches.saturating_add(1);
        let passed = now.saturating_duration_since(self.window);
        if passed >= WINDOW {
            self.judge(passed, now, most);
        }
        self.on && count < ENOUGH
    }

    fn judge(&mut self, passed: Duration, now: Instant, most: Duration) {
        let questions = f64::from(self.questions);
        let expected = questions / passed.as_secs_f64() * most.as_secs_f64();
        let in_vain = self.on && questions / f64::from(self.batches) < GATHERED_MIN;
        if in_vain {
            self.rest_until = now + REST;
        }
        self.on = expected >= EXPECTED_MIN && now >= self.rest_until;
        (self.window, self.questions, self.batches) = (now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(250);

    /// Plays `seconds` in which a question comes every `every` microseconds, or in a closed loop of
    /// one client so long after its answer; the share of batches after which there was a pause in
    /// the second half, and the mean of their sizes.
    fn played(every: u64, closed: bool, most: Duration) -> (f64, f64) {
        let start = Instant::now();
        let mut gather = Gather::new(start);
        let (mut now, mut next) = (0_u64, 0_u64);
        let (mut batches, mut pauses, mut questions) = (0_u32, 0_u32, 0_u32);
        while now < 2_000_000 {
            now = now.max(next);
            let mut count = 0;
            while next <= now {
                count += 1;
                next += every;
                if closed {
                    next = now + every;
                    break;
                }
            }
            let pause = gather.pauses(count, start + Duration::from_micros(now), most);
            if now > 1_000_000 {
                (batches, questions) = (batches + 1, questions + count as u32);
                pauses += u32::from(pause);
            }
            now += if pause { 260 } else { 1 };
        }
        (f64::from(pauses) / f64::from(batches), f64::from(questions) / f64::from(batches))
    }

    #[test]
    fn many_questions_gather_and_few_are_answered_at_once() {
        for (case, every, closed, most, want) in [
            ("1,000 a second", 1000, false, MOST, false),
            ("10,000 a second", 100, false, MOST, false),
            ("20,000 a second", 50, false, MOST, true),
            ("50,000 a second", 20, false, MOST, true),
            ("switched off", 20, false, Duration::ZERO, false),
        ] {
            let (pauses, size) = played(every, closed, most);
            assert_eq!(pauses > 0.9, want, "{case}: {pauses}");
            assert_eq!(size > 4.0, want, "{case}: {size}");
        }
    }

    #[test]
    fn one_client_that_waits_for_each_answer_is_not_made_to_wait_longer() {
        let (pauses, _) = played(40, true, MOST);
        assert!(pauses < 0.01, "{pauses}");
    }

    #[test]
    fn a_batch_that_is_worth_its_waking_needs_no_pause() {
        let now = Instant::now();
        let mut gather = Gather::new(now);
        assert!(!gather.pauses(10_000, now + WINDOW, MOST));
        assert!(gather.pauses(1, now + WINDOW, MOST));
        assert!(!gather.pauses(ENOUGH, now + WINDOW, MOST));
    }
}

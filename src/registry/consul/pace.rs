//! How fast one watch may ask again, and how fast new watches may begin. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Calls in a row that a quiet watch may make at once.
const BURST: f64 = 4.0;
/// Time between calls while answers bring news.
const BUSY: Duration = Duration::from_millis(125);
/// Time between calls, at most, while the server answers at once with an index that it had told
/// before: that is a fault, and asking on would be a busy loop.
const STUCK: Duration = Duration::from_secs(15);

/// A bucket of calls of one watch that fills the slower the less its answers say.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    calls: f64,
    filled_at: Instant,
    /// Time for one more call.
    interval: Duration,
    /// Longest interval while the index grows and nothing that counts changes.
    idle_max: Duration,
}

/// What an answer brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    /// Something that counts.
    News,
    /// Another index, and nothing that counts: the output of a check, for one.
    Noise,
    /// The same index, before the time was up.
    Nothing,
    /// The same index, when the time was up: as it should be.
    Timeout,
}

impl Pace {
    pub(super) const fn new(idle_max: Duration, now: Instant) -> Self {
        Self { calls: BURST, filled_at: now, interval: BUSY, idle_max }
    }

    /// Takes note of what an answer brought.
    pub(super) fn heard(&mut self, brought: Brought, now: Instant) {
        self.fill(now);
        self.interval = match brought {
            Brought::News => BUSY,
            Brought::Noise => self.interval.saturating_mul(2).min(self.idle_max).max(BUSY),
            Brought::Nothing => {
                self.interval.max(Duration::from_millis(500)).saturating_mul(2).min(STUCK)
            }
            Brought::Timeout => {
                self.calls = BURST;
                BUSY
            }
        };
    }

    /// Takes one call out and says when it may be made.
    pub(super) fn call(&mut self, now: Instant) -> Instant {
        self.fill(now);
        self.calls -= 1.0;
        if self.calls >= 0.0 { now } else { now + self.interval.mul_f64(-self.calls) }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let more = passed.as_secs_f64() / self.interval.as_secs_f64().max(0.001);
        self.calls = (self.calls + more).min(BURST);
    }
}

/// Starts of requests for the whole registry: so many in a second, never more at once.
#[derive(Debug)]
pub(super) struct Ramp {
    between: Duration,
    next: Option<Instant>,
}

impl Ramp {
    /// Every slot is moved by up to one step, and timers are late: a tenth is left to them.
    pub(super) fn new(per_second: u32) -> Self {
        let steps = (per_second - per_second / 10).saturating_sub(1).max(1);
        Self { between: Duration::from_secs(1) / steps + Duration::from_nanos(1), next: None }
    }

    /// When the next one may start; spread by up to one step, with any 64 bits of `random`.
    pub(super) fn slot(&mut self, now: Instant, random: u64) -> Instant {
        let slot = self.next.map_or(now, |next| next.max(now));
        self.next = Some(slot + self.between);
        slot + crate::registry::backoff::share(self.between, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Calls within `seconds` when every answer comes at once and brings `brought`.
    fn calls(brought: Brought, idle_max: Duration, seconds: u32) -> u32 {
        let start = Instant::now();
        let mut pace = Pace::new(idle_max, start);
        let (mut now, mut calls) = (start, 0);
        loop {
            now = pace.call(now).max(now);
            if now > start + SECOND * seconds {
                return calls;
            }
            calls += 1;
            pace.heard(brought, now);
        }
    }

    #[test]
    fn a_watch_asks_the_slower_the_less_its_answers_say() {
        for (case, brought, most, least) in [
            ("news", Brought::News, 490, 470),
            ("noise", Brought::Noise, 70, 55),
            ("the same index at once", Brought::Nothing, 12, 4),
        ] {
            let calls = calls(brought, SECOND, 60);
            assert!((least..=most).contains(&calls), "{case}: {calls} calls in a minute");
        }
    }

    #[test]
    fn a_quiet_watch_asks_at_once_when_news_come() {
        let start = Instant::now();
        let mut pace = Pace::new(SECOND, start);
        for _ in 0..20 {
            let at = pace.call(start);
            pace.heard(Brought::Noise, at.max(start));
        }
        let later = start + SECOND * 300;
        pace.heard(Brought::Timeout, later);
        assert_eq!(pace.call(later), later);
    }

    #[test]
    fn no_more_watches_begin_in_a_second_than_allowed() {
        let start = Instant::now();
        let mut ramp = Ramp::new(50);
        let random = |n: u32| if n.is_multiple_of(3) { u64::MAX } else { 0 };
        let slots: Vec<_> = (0..200).map(|n| ramp.slot(start, random(n))).collect();
        for from in &slots {
            let within = *from..*from + SECOND;
            let count = slots.iter().filter(|slot| within.contains(slot)).count();
            assert!(count <= 50, "{count} within a second");
        }
        assert!(slots[199] < start + Duration::from_millis(4700), "and not many less");
    }
}

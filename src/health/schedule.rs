//! When each probe starts: pure. Starts are spread evenly, each target keeps its own beat.
//!
//! Many targets that appear together start uniformly over their interval; a few start within
//! milliseconds, one each, so that a new instance does not wait for its turn. From its second start
//! on a target has its own place in the interval, drawn uniformly, and every start strays from it
//! by a share of the interval (`jitter`), so that two who probe the same target drift apart.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// Time between the first starts of targets that appear together, while the interval allows it.
const FIRST_STARTS: Duration = Duration::from_millis(1);
/// A start that comes so long after its time counts as late.
pub(super) const LATE: Duration = Duration::from_millis(100);

/// The beat of one target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beat {
    interval: Duration,
    /// When the next start is due, before jitter.
    next: Instant,
    /// Due once before the beat sets in.
    first: Option<Instant>,
}

impl Beat {
    /// The beat of one of `together` targets that appear at `now`; `share` is uniform in 0..1.
    pub(super) fn new(now: Instant, interval: Duration, together: usize, share: f64) -> Self {
        let together = u32::try_from(together).unwrap_or(u32::MAX);
        let window = FIRST_STARTS.saturating_mul(together).min(interval);
        Self {
            interval,
            next: now + window + interval.mul_f64(share),
            first: Some(now + window.mul_f64(share)),
        }
    }

    /// The beat of a target that another process has asked before, which goes on with `next`.
    pub(super) const fn resumed(next: Instant, interval: Duration) -> Self {
        Self { interval, next, first: None }
    }

    /// When it starts next; `share` is uniform in 0..1 and strays it by up to half of `jitter`,
    /// a share of the interval, to either side.
    pub(super) fn due(&self, jitter: f64, share: f64) -> Instant {
        let Some(first) = self.first else {
            let half = self.interval.mul_f64(jitter / 2.0);
            return (self.next + self.interval.mul_f64(jitter * share))
                .checked_sub(half)
                .unwrap_or(self.next);
        };
        first
    }

    /// Moves on behind a start. Starts that were missed are left out.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.first.take().is_some() && self.next > now {
            return;
        }
        self.next += self.interval;
        if self.next <= now {
            let behind = now.duration_since(self.next).as_nanos();
            let steps = behind / self.interval.as_nanos().max(1) + 1;
            let steps = u32::try_from(steps).unwrap_or(u32::MAX);
            self.next += self.interval.saturating_mul(steps);
        }
    }

    /// The next start is due `soon` from now, out of turn; the beat goes on from there.
    pub(super) fn hurry(&mut self, now: Instant, soon: Duration) {
        self.first = None;
        self.next = self.next.min(now + soon);
    }
}

/// Targets in the order of their starts, of which a limited number runs.
#[derive(Debug)]
pub(super) struct Lane {
    waiting: BTreeSet<(Instant, u64)>,
    running: usize,
    /// Most that run at a time.
    pub(super) limit: usize,
}

impl Lane {
    pub(super) const fn new(limit: usize) -> Self {
        Self { waiting: BTreeSet::new(), running: 0, limit }
    }

    /// Puts the target `id` down for `due`.
    pub(super) fn put(&mut self, due: Instant, id: u64) {
        self.waiting.insert((due, id));
    }

    /// Takes it out again.
    pub(super) fn remove(&mut self, due: Instant, id: u64) {
        self.waiting.remove(&(due, id));
    }

    /// The next target that is due and may run; it counts as running from here on.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Instant, u64)> {
        if self.running >= self.limit {
            return None;
        }
        let first = self.waiting.first().filter(|(due, _)| *due <= now)?;
        let first = *first;
        self.waiting.remove(&first);
        self.running += 1;
        Some(first)
    }

    /// One that ran has ended.
    pub(super) const fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// When to look again; none while nothing waits or all that may run does.
    pub(super) fn next(&self) -> Option<Instant> {
        let (due, _) = self.waiting.first().filter(|_| self.running < self.limit)?;
        Some(*due)
    }

    pub(super) const fn running(&self) -> usize {
        self.running
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// A number uniform in 0..1 from random bits.
pub(super) fn share(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_single_target_starts_at_once_and_keeps_its_beat() {
        let now = Instant::now();
        let mut beat = Beat::new(now, 4 * SECOND, 1, 0.5);
        let first = beat.due(0.1, 0.9);
        assert!(first - now <= FIRST_STARTS, "{:?}", first - now);
        beat.advance(first);
        let second = beat.due(0.0, 0.0);
        assert_eq!(second - now, FIRST_STARTS + 2 * SECOND, "its place in the interval");
        beat.advance(second);
        assert_eq!(beat.due(0.0, 0.0) - second, 4 * SECOND);
        assert_eq!(beat.due(0.5, 0.0) - second, 3 * SECOND, "as early as half the jitter");
        assert!((beat.due(0.5, 1.0) - second).as_secs_f64() > 4.99);
    }

    #[tokio::test(start_paused = true)]
    async fn missed_starts_are_left_out_and_the_beat_stays() {
        let now = Instant::now();
        let mut beat = Beat::new(now, 2 * SECOND, 1_000_000, 0.25);
        assert_eq!(beat.due(0.0, 0.0) - now, SECOND / 2);
        beat.advance(now + SECOND / 2);
        assert_eq!(beat.due(0.0, 0.0) - now, 5 * SECOND / 2);
        beat.advance(now + 9 * SECOND);
        assert_eq!(beat.due(0.0, 0.0) - now, 21 * SECOND / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_changes_is_looked_at_sooner_and_only_once() {
        let now = Instant::now();
        let mut beat = Beat::new(now, 10 * SECOND, 1, 0.0);
        beat.advance(now);
        beat.advance(now + SECOND);
        beat.hurry(now + SECOND, SECOND / 2);
        assert_eq!(beat.due(0.0, 0.0) - now, SECOND * 3 / 2);
        beat.advance(now + SECOND * 3 / 2);
        assert_eq!(beat.due(0.0, 0.0) - now, SECOND * 23 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_runs_no_more_than_its_limit_and_gives_the_earliest_first() {
        let now = Instant::now();
        let mut lane = Lane::new(2);
        for (after, id) in [(3, 3), (1, 1), (2, 2)] {
            lane.put(now + after * SECOND, id);
        }
        assert_eq!(lane.take(now), None, "nothing is due");
        let later = now + 10 * SECOND;
        assert_eq!(lane.take(later).map(|(_, id)| id), Some(1));
        assert_eq!(lane.take(later).map(|(_, id)| id), Some(2));
        assert_eq!((lane.take(later), lane.next()), (None, None), "the limit is reached");
        lane.ended();
        assert_eq!(lane.next(), Some(now + 3 * SECOND));
        lane.remove(now + 3 * SECOND, 3);
        assert_eq!((lane.take(later), lane.running(), lane.waiting()), (None, 1, 0));
    }
}

//! Clients that are too slow: those who trickle a body, and those who do not take their answer.
//!
//! Only time counts in which the client is what we wait for. No byte sets a timer: there is one for
//! each side, made when the side first has to wait, and looked at when it fires.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes per second, and over which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Least {
    /// Bytes per second; 0: any.
    pub rate: u64,
    /// Over this time.
    pub over: Duration,
}

/// One side of a connection whose rate is looked at.
#[derive(Debug)]
pub(super) struct Watch {
    least: Least,
    /// Since when the client is waited for, if it is.
    since: Option<Instant>,
    /// Time of this look in which it was waited for, before `since`.
    waited: Duration,
    /// What had moved when this look began.
    from: u64,
    timer: Pin<Box<Sleep>>,
}

impl Watch {
    /// Begins to look, now; `moved` bytes have moved before.
    pub(super) fn new(least: Least, moved: u64) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + least.over));
        Self { least, since: None, waited: Duration::ZERO, from: moved, timer }
    }

    /// The client is waited for from now on, or still; ready when it is too slow. `moved` tells how
    /// many bytes have moved in all, and is asked when a look ends.
    pub(super) fn poll_waits(&mut self, cx: &mut Context<'_>, moved: impl Fn() -> u64) -> Poll<()> {
        let mut since = *self.since.get_or_insert_with(Instant::now);
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let waited = self.waited + now.saturating_duration_since(since);
            if waited < self.least.over {
                // There were times in between in which it was not waited for.
                self.timer.as_mut().reset(now + self.least.over.saturating_sub(waited));
                continue;
            }
            let all = moved();
            let wanted = self.least.rate as f64 * self.least.over.as_secs_f64();
            if (all.saturating_sub(self.from) as f64) < wanted {
                return Poll::Ready(());
            }
            since = now;
            (self.from, self.waited, self.since) = (all, Duration::ZERO, Some(now));
            self.timer.as_mut().reset(now + self.least.over);
        }
    }

    /// The client has done something: it is not waited for.
    pub(super) fn moves(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    const LEAST: Least = Least { rate: 100, over: Duration::from_secs(10) };

    /// How long it takes until a client counts as too slow that moves `bytes` each `every`, and of
    /// whom something else is waited for `pause` after each time; at most two minutes.
    async fn slow_after(bytes: u64, every: Duration, pause: Duration) -> Option<Duration> {
        let began = Instant::now();
        let moved = Cell::new(0);
        let mut watch = Watch::new(LEAST, 0);
        while began.elapsed() < Duration::from_secs(120) {
            let slow = poll_fn(|cx| watch.poll_waits(cx, || moved.get()));
            if tokio::time::timeout(every, slow).await.is_ok() {
                return Some(began.elapsed());
            }
            moved.set(moved.get() + bytes);
            watch.moves();
            tokio::time::sleep(pause).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_moves_too_little_for_too_long_is_too_slow_and_nobody_else() {
        let (second, none) = (Duration::from_secs(1), Duration::ZERO);
        for (case, bytes, every, pause, want) in [
            ("nothing", 0, second * 200, none, Some(10_u64)),
            ("a byte at a time", 1, second, none, Some(10)),
            ("just too slow", 98, second, none, Some(10)),
            ("as fast as it must be", 130, second, none, None),
            ("in bursts", 1300, second * 8, none, None),
            ("bursts too far apart", 1000, second * 11, none, Some(10)),
            ("our own pauses do not count", 130, second, second * 9, None),
            ("but in all it is too little", 10, second, second * 4, Some(50)),
        ] {
            let after = slow_after(bytes, every, pause).await;
            let after = after.map(|after| after.as_secs_f64().round() as u64);
            let near = match (after, want) {
                (Some(after), Some(want)) => want.abs_diff(after) <= 6,
                (after, want) => after == want,
            };
            assert!(near, "{case}: {after:?}, not {want:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fast_once_is_no_excuse_for_later() {
        let mut watch = Watch::new(LEAST, 0);
        let began = Instant::now();
        poll_fn(|cx| watch.poll_waits(cx, || 1_000_000)).await;
        assert_eq!(began.elapsed().as_secs(), 20);
    }
}

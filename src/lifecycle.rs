//! Phases of the process, and tasks that outlive their failures.
//!
//! The phase only moves forward. Whoever has to stop something waits for a phase instead of being
//! called: data flows one way here too.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Where the process is on its way. The order is the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sockets are bound, nothing is answered yet.
    Starting,
    /// It serves.
    Serving,
    /// It serves as before and says that it is not ready, so that others turn away.
    Leaving,
    /// Another process accepts in its place: connections end with their next answer, those at rest stay
    /// open for now, so that nobody sends into one that is being closed.
    Replaced,
    /// No new connections; what runs ends by itself or at the deadline. DNS still answers.
    Draining,
    /// Everything ends now.
    Stopped,
}

impl Phase {
    /// Whether clients are served as ever: also by one whose place another process has taken.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Serving | Self::Replaced)
    }
}

/// Moves the process from phase to phase.
#[derive(Debug)]
pub struct Lifecycle(watch::Sender<Phase>);

/// Tells the phase to those who live by it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Phases(watch::Receiver<Phase>);

impl Lifecycle {
    /// A process that is starting.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }

    /// Moves on to `phase`; a step back is ignored.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = phase > *now;
            if forward {
                *now = phase;
            }
            forward
        });
    }

    /// A view for those who live by the phase.
    #[must_use]
    pub fn phases(&self) -> Phases {
        Phases(self.0.subscribe())
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Phases {
    /// The phase now.
    #[must_use]
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once the process has reached `phase` or gone beyond it, or nobody leads it any more.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the process is gone: whoever waits is free to end.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

/// Whether the process would serve a client well right now. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets it; only the application does.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Ready: serving, not draining, and every required registry was heard or restored.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Signs of life of threads that must not stand still. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<Watched>>>);

/// A thread's name, and when it beat last.
type Watched = (String, Weak<AtomicU64>);

/// One thread's sign of life; it counts as long as this lives.
#[derive(Debug)]
pub struct Pulse {
    last: Arc<AtomicU64>,
}

/// Time between two beats of [`Pulse::go_on`].
const BEAT: Duration = Duration::from_millis(500);

impl Pulses {
    /// From now on the thread called `name` is expected to beat.
    #[must_use]
    pub fn add(&self, name: &str) -> Pulse {
        let pulse = Pulse { last: Arc::new(AtomicU64::new(0)) };
        pulse.beat();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((name.to_owned(), Arc::downgrade(&pulse.last)));
        pulse
    }

    /// The threads that have not beaten for as long as this.
    #[must_use]
    pub fn silent_for(&self, limit: Duration) -> Vec<String> {
        let now = STARTED.elapsed();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, last)| last.strong_count() > 0);
        let silent = all.iter().filter(|(_, last)| {
            let last = last.upgrade().map(|last| last.load(Ordering::Relaxed));
            last.is_some_and(|last| now.saturating_sub(Duration::from_millis(last)) > limit)
        });
        silent.map(|(name, _)| name.clone()).collect()
    }
}

impl Pulse {
    /// The thread lives.
    pub fn beat(&self) {
        self.last.store(STARTED.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Beats for as long as the runtime that this is on makes progress; never returns.
    pub async fn go_on(self) {
        loop {
            self.beat();
            tokio::time::sleep(BEAT).await;
        }
    }
}

/// What beats are counted from.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Pause before a task that panicked is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Runs `task` until it returns; when it panics, says so under its `name` and starts it again.
pub async fn supervise<F>(name: &str, mut task: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match tokio::spawn(task()).await {
            Ok(()) => return,
            Err(error) if error.is_cancelled() => return,
            Err(_) => {
                tracing::error!(task = name, "a task panicked; starting it again");
                tokio::time::sleep(RESTART_AFTER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test]
    async fn the_phase_moves_forward_only_and_wakes_who_waits() {
        let lifecycle = Lifecycle::new();
        let mut phases = lifecycle.phases();
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Serving);
        assert_eq!(phases.now(), Phase::Draining);
        phases.reached(Phase::Serving).await;
    }

    #[test]
    fn a_thread_that_stands_still_is_told_by_its_name_and_one_that_ended_is_not() {
        let pulses = Pulses::default();
        let standing = pulses.add("data-0");
        let ended = pulses.add("data-1");
        assert_eq!(pulses.silent_for(Duration::from_secs(60)), [""; 0]);
        drop(ended);
        let limit = Duration::from_millis(20);
        while pulses.silent_for(limit).is_empty() {
            std::hint::spin_loop();
        }
        assert_eq!(pulses.silent_for(limit), ["data-0"]);
        standing.beat();
        assert_eq!(pulses.silent_for(Duration::from_secs(60)), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_until_it_returns() {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        supervise("flaky", move || {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run >= 2, "this test panics on purpose") }
        })
        .await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}

//! Phases of the process, and tasks that outlive their failures.
//!
//! The phase only moves forward. Whoever has to stop something waits for a phase instead of being
//! called: data flows one way here too.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// Where the process is on its way. The order is the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sockets are bound, nothing is answered yet.
    Starting,
    /// It serves.
    Serving,
    /// No new connections; what runs ends by itself or at the deadline. DNS still answers.
    Draining,
    /// Everything ends now.
    Stopped,
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

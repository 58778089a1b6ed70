//! When the state goes to disk: off the async threads, seldom, and once more at the end.

use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{StateToSave, Store};
use crate::lifecycle::{Phase, Phases};
use crate::telemetry::metrics::Register as _;

/// The pause between two writes unless told otherwise: what a crash can lose at most.
pub const PAUSE: Duration = Duration::from_secs(5);

/// Metrics of the store.
#[derive(Debug, Clone)]
pub struct Metrics {
    writes: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics of the store.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let help = "Writes of the last good state to disk, by result.";
        let writes = registry.counter_vec("portolan_store_writes_total", help, &["result"])?;
        Ok(Self { writes })
    }
}

/// Starts the task that saves what `latest` holds: a change at once, the next no sooner than
/// `pause` later. It saves a last time when the phase is [`Phase::Stopped`] or `latest` is closed,
/// and then ends; await it before the process does.
///
/// The value that `latest` holds at the start counts as saved. A write that fails is logged when
/// the reason is a new one, and tried again after `pause`.
pub fn start(
    store: Store,
    mut latest: watch::Receiver<StateToSave>,
    pause: Duration,
    mut phases: Phases,
    metrics: &Metrics,
) -> JoinHandle<()> {
    let written = metrics.writes.with_label_values(&["ok"]);
    let failed = metrics.writes.with_label_values(&["failed"]);
    latest.mark_unchanged();
    let mut saved = latest.borrow().generation;
    tokio::spawn(async move {
        let mut failure: Option<String> = None;
        let mut unsaved = false;
        let mut last_time = false;
        loop {
            // A failed write waits for its pause only, a saved state for the next one.
            if !unsaved && !last_time {
                tokio::select! {
                    changed = latest.changed() => last_time = changed.is_err(),
                    () = phases.reached(Phase::Stopped) => last_time = true,
                }
            }
            // A closed channel does not tell whether its last value was seen.
            let changed =
                latest.has_changed().unwrap_or_else(|_| latest.borrow().generation != saved);
            if last_time && !changed && !unsaved {
                return;
            }
            let state = latest.borrow_and_update().clone();
            saved = state.generation;
            let store = store.clone();
            let outcome = tokio::task::spawn_blocking(move || store.save(&state)).await;
            let problem = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            match &problem {
                None => written.inc(),
                Some(_) => failed.inc(),
            }
            if let Some(error) = &problem
                && problem != failure
            {
                tracing::warn!(error, "the last good state cannot be saved; trying again");
            }
            unsaved = problem.is_some();
            failure = problem;
            if last_time {
                return;
            }
            let mut closing = latest.clone();
            let closed = async move { while closing.changed().await.is_ok() {} };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = closed => last_time = true,
                () = phases.reached(Phase::Stopped) => last_time = true,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Lifecycle;

    fn generation(number: u64) -> StateToSave {
        StateToSave { generation: number, ..StateToSave::default() }
    }

    async fn until(store: &Store, number: u64) {
        while store.load().generation != number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn the_first_change_is_saved_at_once_and_the_last_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (sender, latest) = watch::channel(generation(1));
        let lifecycle = Lifecycle::new();
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let hour = Duration::from_secs(3600);
        let task = start(store.clone(), latest, hour, lifecycle.phases(), &metrics);
        sender.send_replace(generation(2));
        until(&store, 2).await;
        sender.send_replace(generation(3));
        sender.send_replace(generation(4));
        lifecycle.advance(Phase::Stopped);
        task.await.unwrap();
        assert_eq!(store.load().generation, 4);
        assert_eq!(metrics.writes.with_label_values(&["ok"]).get(), 2, "3 was never written");
    }

    #[tokio::test]
    async fn a_state_whose_sender_is_gone_is_saved_too() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (sender, latest) = watch::channel(generation(1));
        let lifecycle = Lifecycle::new();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let task = start(store.clone(), latest, PAUSE, lifecycle.phases(), &metrics);
        sender.send_replace(generation(2));
        drop(sender);
        task.await.unwrap();
        assert_eq!(store.load().generation, 2);
    }
}

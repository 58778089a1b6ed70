//! When the clients that are bound by address go to disk: off the data threads, seldom, and once more
//! at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::source::Sources;
use super::store::{self, Stored};
use super::{Clock, Metrics};
use crate::lifecycle::{Phase, Phases};

/// Pause between two looks at the table: what a crash can lose of new bindings at most.
pub const PAUSE: Duration = Duration::from_secs(5);
/// Looks after which it is written though clients were only seen again.
const SEEN_LOOKS: u32 = 6;

/// Starts the task that looks at the newest table of `tables` every `pause`: counts who is bound,
/// frees the slots of those whose time has ended, and writes to `directory` when a binding was made or
/// moved, or seldom when clients were only seen again. It writes a last time when the phase is
/// [`Phase::Stopped`], and then ends; await it before the process does.
pub fn start(
    tables: watch::Receiver<Arc<Sources>>,
    directory: Option<PathBuf>,
    clock: Clock,
    pause: Duration,
    mut phases: Phases,
    metrics: &Metrics,
) -> JoinHandle<()> {
    let written = metrics.writes.with_label_values(&["ok"]);
    let failed = metrics.writes.with_label_values(&["failed"]);
    let kept = metrics.kept.clone();
    tokio::spawn(async move {
        let (mut moved, mut seen, mut looks) = (false, false, 0);
        let mut failure: Option<String> = None;
        loop {
            let last = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = phases.reached(Phase::Stopped) => true,
            };
            let sources = Arc::clone(&tables.borrow());
            let changes = sources.take_changes();
            (moved, seen, looks) = (moved || changes.0, seen || changes.1, looks + 1);
            let due = moved || seen && (last || looks >= SEEN_LOOKS);
            let to = directory.clone().filter(|_| due && sources.max() > 0);
            let now = clock.millis();
            let looked = tokio::task::spawn_blocking(move || {
                let bindings = sources.bindings(now);
                let count = bindings.len();
                let stored = Stored { seed: sources.seed(), bindings };
                (count, to.map(|directory| store::save(&directory, &stored)))
            });
            let problem = match looked.await {
                Ok((count, saved)) => {
                    kept.set(i64::try_from(count).unwrap_or(i64::MAX));
                    match saved {
                        Some(Ok(())) => {
                            written.inc();
                            (moved, seen, looks) = (false, false, 0);
                            None
                        }
                        Some(Err(error)) => Some(error.to_string()),
                        None => failure.clone(),
                    }
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = &problem
                && due
            {
                failed.inc();
                if failure.as_ref() != Some(error) {
                    tracing::warn!(error, "the sticky clients cannot be saved; trying again");
                }
            }
            failure = problem;
            if last {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::lifecycle::Lifecycle;
    use crate::proxy::sticky::source::Binding;

    #[tokio::test]
    async fn a_binding_is_written_in_the_background_and_the_last_ones_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let lifecycle = Lifecycle::new();
        let sources = Arc::new(metrics.sources(10, [1, 2]));
        let (_tables, latest) = watch::channel(Arc::clone(&sources));
        let clock = Clock::showing(Arc::new(AtomicU64::new(1000)));
        let path = Some(dir.path().to_path_buf());
        let soon = Duration::from_millis(5);
        let task = start(latest, path.clone(), clock.clone(), soon, lifecycle.phases(), &metrics);
        let binding = |key| Binding { key, endpoint: 1, until: 2000 };
        sources.bind(binding(5), 1000);
        let ended = Binding { until: 999, ..binding(6) };
        sources.bind(ended, 998);
        let known = || store::load(dir.path()).unwrap().map(|stored| stored.bindings);
        while known().is_none() {
            tokio::time::sleep(soon).await;
        }
        assert_eq!(known(), Some(vec![binding(5)]));
        lifecycle.advance(Phase::Stopped);
        task.await.unwrap();
        assert_eq!(metrics.kept.get(), 1);

        // Nothing is written before the end, as the pause is an hour.
        let lifecycle = Lifecycle::new();
        let (_tables, latest) = watch::channel(Arc::clone(&sources));
        let hour = Duration::from_secs(3600);
        let task = start(latest, path, clock, hour, lifecycle.phases(), &metrics);
        sources.saw(Binding { until: 3000, ..binding(5) });
        lifecycle.advance(Phase::Stopped);
        task.await.unwrap();
        assert_eq!(known(), Some(vec![Binding { until: 3000, ..binding(5) }]));
    }

    #[tokio::test]
    async fn a_write_that_fails_is_counted_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later");
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let lifecycle = Lifecycle::new();
        let sources = Arc::new(metrics.sources(10, [1, 2]));
        sources.bind(Binding { key: 5, endpoint: 1, until: u64::MAX }, 0);
        let (_tables, latest) = watch::channel(Arc::clone(&sources));
        let soon = Duration::from_millis(5);
        let to = Some(path.clone());
        let task = start(latest, to, Clock::default(), soon, lifecycle.phases(), &metrics);
        while metrics.writes.with_label_values(&["failed"]).get() < 2 {
            tokio::time::sleep(soon).await;
        }
        std::fs::create_dir(&path).unwrap();
        while metrics.writes.with_label_values(&["ok"]).get() == 0 {
            tokio::time::sleep(soon).await;
        }
        assert_eq!(store::load(&path).unwrap().unwrap().bindings.len(), 1);
        lifecycle.advance(Phase::Stopped);
        task.await.unwrap();
    }
}

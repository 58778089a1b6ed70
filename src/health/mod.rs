//! Health: instances are asked by checks, and what they answer becomes verdicts.
//!
//! A snapshot says who is there, the settings say what is asked; [`Checks`] asks, and tells the
//! verdicts by one channel, from which the catalog assembles the next snapshot. Everything that
//! decides is pure: when to ask (`schedule`), what results come to (`tracker`), what follows for an
//! instance (`judge`), who is asked by what (`roster`, `plan`), and what services ask for themselves in
//! their registry (`wish`, `asked`).
//!
//! Outlier detection ([`outlier`], pure; [`outlier_task`] looks and tells) ejects instances by what
//! the proxy saw of them; [`verdicts`] unites its word with that of the checks. [`strategy`] (pure)
//! decides when an unhealthy instance is to be recreated, and [`recreate`] tells it by [`deliver`];
//! what is not through stands in a [`ledger`].

mod asked;
mod asked_config;
mod carried;
mod check;
mod config;
pub mod deliver;
mod judge;
pub mod ledger;
mod metrics;
pub mod on_failure;
pub mod outlier;
pub mod outlier_config;
pub mod outlier_task;
mod plan;
pub mod recreate;
mod roster;
mod rounds;
mod schedule;
mod settle;
mod siblings;
mod status;
pub mod strategy;
mod tracker;
mod trust;
pub mod verdicts;
mod wish;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::check::{Asked, Manner};
use self::roster::Roster;
use self::rounds::Start;
use self::tracker::{Observation, Outcome};
use crate::catalog::Snapshot;
use crate::catalog::verdict::Verdicts;
use crate::lifecycle::{self, Phase, Phases};

pub use asked::RefusedCheck;
pub use asked_config::{AskedLimits, FromRegistry};
pub use carried::Carried;
pub use check::{ChecksConfig, Role, TlsConfig};
pub use config::{HealthConfig, Settings, Unfit};
pub use metrics::Metrics;
pub use outlier_config::OutlierConfig;
pub use outlier_task::{OutlierMetrics, Outliers};
pub use rounds::PushError;
pub use status::{LastResult, Status, TargetStatus};
pub use strategy::{OnFailureConfig, Strategies};

/// Least pause between two tellings of verdicts; the first one after a quiet time goes out at once.
const PAUSE: Duration = Duration::from_millis(20);
/// How many times as long as finding the verdicts the pause is: many changes in large services
/// cost no more than a tenth of a core.
const PAUSE_FACTOR: u32 = 9;
/// Most results that are taken in before the others have their turn.
const RESULTS_MAX: usize = 256;

/// What is pushed for an instance, as the body of `PUT /v1/health/SERVICE/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pushed {
    /// How it is.
    pub status: PushedStatus,
    /// Why; the first line of it is kept, at most 200 bytes.
    #[serde(default)]
    pub output: String,
}

/// How an instance says that it is; the words of Consul are understood too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PushedStatus {
    /// Well.
    #[serde(alias = "passing")]
    Healthy,
    /// It serves, and somebody should look.
    Warning,
    /// It does not serve.
    #[serde(alias = "critical")]
    Unhealthy,
}

/// The checks that run. They end when the last clone is dropped, or the process stops.
#[derive(Clone)]
pub struct Checks {
    shared: Arc<Shared>,
    verdicts: watch::Receiver<Verdicts>,
    /// The task ends when this is dropped.
    _alive: Arc<watch::Sender<()>>,
}

struct Shared {
    roster: Mutex<Roster>,
    /// Told to while the roster is held, so that what is told last is what was found last.
    verdicts: watch::Sender<Verdicts>,
    /// Something was changed from outside.
    wake: Notify,
}

impl Shared {
    fn roster(&self) -> MutexGuard<'_, Roster> {
        // What a panic left behind is still what was found out.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checks")
    }
}

impl Checks {
    /// Starts to check what `snapshots` tell of, on the runtime that it is called in. `restored`
    /// stands for each instance until there is a first result of its own.
    #[must_use]
    pub fn start(
        settings: Arc<Settings>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        restored: &Verdicts,
        metrics: &Metrics,
        phases: &Phases,
    ) -> Self {
        let random = Box::new(crate::random::bits);
        let roster = Roster::new(settings, restored, metrics.clone(), random);
        let (sender, verdicts) = watch::channel(roster.verdicts().clone());
        let roster = Mutex::new(roster);
        let shared = Arc::new(Shared { roster, verdicts: sender, wake: Notify::new() });
        let (alive, gone) = watch::channel(());
        let task = Task { shared: Arc::clone(&shared), snapshots };
        let phases = phases.clone();
        tokio::spawn(async move {
            let run = || task.clone().run_until(gone.clone(), phases.clone());
            lifecycle::supervise("checks", run).await;
        });
        Self { shared, verdicts, _alive: Arc::new(alive) }
    }

    /// What the checks say of all instances, now and whenever that changes; told at most every 20
    /// milliseconds.
    #[must_use]
    pub fn verdicts(&self) -> watch::Receiver<Verdicts> {
        self.verdicts.clone()
    }

    /// To be called before anybody goes by `settings`, which [`Self::replace`] puts in force. Of
    /// services that are checked by them and were not before, instances stand as their registry has
    /// them until there is a first result; returned are those services, of which the verdicts tell now.
    #[must_use]
    pub fn trust(&self, settings: &Settings) -> Vec<Arc<str>> {
        let mut roster = self.shared.roster();
        let trusted = roster.trust(settings, SystemTime::now());
        if !trusted.is_empty() {
            self.shared.verdicts.send_replace(roster.verdicts().clone());
        }
        trusted
    }

    /// Checks by other settings from now on. A check that did not change goes on with all that it
    /// knows; where one changed, the old verdicts stand until it has a first result.
    pub fn replace(&self, settings: Arc<Settings>) {
        self.shared.roster().replace(settings, Instant::now());
        self.shared.wake.notify_one();
    }

    /// Takes in what somebody says of the instances of `service` with this id, of whatever
    /// registry; returns how many there are. Their `check.push` counts it at once.
    ///
    /// # Errors
    /// The service has no such check, or no such instance.
    pub fn push(&self, service: &str, id: &str, pushed: &Pushed) -> Result<usize, PushError> {
        let outcome = match pushed.status {
            PushedStatus::Healthy => Outcome::Passed,
            PushedStatus::Warning => Outcome::Warned,
            PushedStatus::Unhealthy => Outcome::Failed,
        };
        let text = match pushed.output.trim() {
            "" => outcome.word(),
            output => output,
        };
        let seen = Observation::new(outcome, text);
        let count =
            self.shared.roster().push(service, id, &seen, Instant::now(), SystemTime::now())?;
        self.shared.wake.notify_one();
        Ok(count)
    }

    /// All targets with what is known of them and when each is asked next, for the process that takes
    /// over from this one.
    #[must_use]
    pub fn carried(&self) -> Vec<Carried> {
        self.shared.roster().carried(Instant::now())
    }

    /// Targets that the process before this one asked go on with what it knew, and on its beat. To be
    /// called before a snapshot tells of them.
    pub fn carry(&self, carried: Vec<Carried>) {
        self.shared.roster().carry(carried, Instant::now());
    }

    /// An overview of this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.roster().status()
    }

    /// What services, or one of them, ask to be checked in their registry and do not get as they ask.
    #[must_use]
    pub fn refused(&self, service: Option<&str>) -> Vec<RefusedCheck> {
        self.shared.roster().refused(service)
    }

    /// Every target of one service; empty without checks.
    #[must_use]
    pub fn status_of(&self, service: &str) -> Vec<TargetStatus> {
        self.shared.roster().status_of(service)
    }
}

/// The task that asks.
#[derive(Clone)]
struct Task {
    shared: Arc<Shared>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// A probe's result on its way back. It comes back in any case, also when the probe is stopped.
struct Done {
    id: u64,
    manner: Manner,
    started: Instant,
    asked: Option<Asked>,
}

struct Reply {
    done: Option<Done>,
    to: mpsc::UnboundedSender<Done>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // Nobody listens any more when the task has ended.
            let _ = self.to.send(done);
        }
    }
}

impl Task {
    async fn run_until(self, mut gone: watch::Receiver<()>, mut phases: Phases) {
        tokio::select! {
            () = self.run() => {}
            // Nothing is ever sent: a change is the end of the handle.
            _ = gone.changed() => {}
            () = phases.reached(Phase::Stopped) => {}
        }
    }

    async fn run(mut self) {
        let mut running: Running = Running::default();
        // As many can be under way as the limits allow: nothing else bounds it.
        let (reply, mut replies) = mpsc::unbounded_channel();
        let mut results = Vec::with_capacity(RESULTS_MAX);
        let mut quiet_from = Instant::now();
        self.snapshots.mark_changed();
        loop {
            let (next, unsettled) = {
                let roster = self.shared.roster();
                (roster.next(), roster.unsettled())
            };
            tokio::select! {
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
                    self.shared.roster().follow(&snapshot, Instant::now());
                }
                _ = replies.recv_many(&mut results, RESULTS_MAX) => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(far)), if next.is_some() => {}
                () = tokio::time::sleep_until(quiet_from), if unsettled => {}
                () = self.shared.wake.notified() => {}
            }
            let (now, clock) = (Instant::now(), SystemTime::now());
            let (starts, gone) = {
                let mut roster = self.shared.roster();
                for Done { id, manner, started, asked } in results.drain(..) {
                    running.0.remove(&id);
                    roster.finished(id, manner, asked, started, now, clock);
                }
                let starts = roster.due(now, clock);
                let told = if now >= quiet_from { roster.settle(clock) } else { None };
                if let Some(verdicts) = told {
                    let cost = Instant::now().duration_since(now);
                    quiet_from = Instant::now() + PAUSE.max(cost * PAUSE_FACTOR);
                    self.shared.verdicts.send_replace(verdicts);
                }
                (starts, roster.take_gone())
            };
            for id in gone {
                if let Some(probe) = running.0.remove(&id) {
                    probe.abort();
                }
            }
            for start in starts {
                running.0.insert(start.id, ask(start, now, reply.clone()));
            }
        }
    }
}

/// Probes under way; they are stopped when this is dropped.
#[derive(Default)]
struct Running(HashMap<u64, AbortHandle>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

fn ask(start: Start, started: Instant, to: mpsc::UnboundedSender<Done>) -> AbortHandle {
    let Start { id, check, target } = start;
    let done = Done { id, manner: check.manner, started, asked: None };
    let mut reply = Reply { done: Some(done), to };
    let probe = async move {
        let asked = check.ask(&target).await;
        if let Some(done) = &mut reply.done {
            done.asked = Some(asked);
        }
    };
    tokio::spawn(probe).abort_handle()
}

/// A moment that does not come.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}

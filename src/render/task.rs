//! The life of one resource: wait for a change that concerns it, render, check, replace, reload.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::Wants;
use super::data::{Asked, Want};
use super::resource::{Evaluation, RenderError, Resource};
use super::status::{Meters, ReloadStatus, ResourceStatus};
use super::write::{self, Staged};
use crate::catalog::Snapshot;
use crate::exec::{self, Files, Terms};

/// Pause after the first failure; each further one doubles it, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// One resource with all that its life needs. Cheap to clone: it starts again after a panic.
#[derive(Clone)]
pub(super) struct Task {
    resource: Arc<Resource>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    status: Arc<watch::Sender<ResourceStatus>>,
    meters: Meters,
    wants: Wants,
}

/// What the last evaluation saw; as long as it would see the same, the file stays as it is.
struct Basis {
    snapshot: Arc<Snapshot>,
    asked: Asked,
}

/// What rendering came to.
enum Rendered {
    /// The file says what it should; `true` when it had to be replaced for that.
    Current(bool),
    /// A registry must be heard first.
    Held(Arc<str>),
    /// The template fails on what it saw; it will until that changes.
    Refused(RenderError),
    /// Something around it failed that may pass.
    Failed(RenderError),
}

impl Task {
    pub(super) fn new(
        resource: Resource,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        status: watch::Sender<ResourceStatus>,
        meters: Meters,
        wants: Wants,
    ) -> Self {
        Self { resource: Arc::new(resource), snapshots, status: Arc::new(status), meters, wants }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.resource.name
    }

    /// Keeps the file up to date until nobody publishes any more.
    pub(super) async fn run(mut self) {
        let mut basis: Option<Basis> = None;
        let mut again = false;
        let mut failures = 0;
        let mut retry_at: Option<Instant> = None;
        // A file that the template read is another one.
        let mut touched = false;
        let mut files: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(std::future::pending());
        loop {
            let retry = retry_at.is_some_and(|at| at <= Instant::now());
            let mut snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            let stale = match &basis {
                Some(basis) => touched || basis.asked.differs(&basis.snapshot, &snapshot),
                None => snapshot.generation > 0,
            };
            touched = false;
            let mut wrote = false;
            if stale || (again && retry) {
                if stale {
                    snapshot = self.settled(basis.as_ref(), snapshot).await;
                }
                let (asked, rendered) = self.render(&snapshot).await;
                if let Some(asked) = &asked {
                    self.want(asked.want(), matches!(rendered, Rendered::Refused(_)));
                }
                again = matches!(rendered, Rendered::Failed(_));
                wrote = matches!(rendered, Rendered::Current(true));
                self.tell(&snapshot, rendered);
                if let Some(asked) = &asked {
                    files = Box::pin(asked.files_changed());
                }
                basis = asked.map(|asked| Basis { snapshot, asked });
            } else if let Some(basis) = &mut basis {
                let agrees = |status: &ResourceStatus| {
                    status.error.is_none() && status.waiting_for.is_none()
                };
                if !again && agrees(&self.status.borrow()) {
                    self.agrees_with(snapshot.generation);
                }
                basis.snapshot = snapshot;
            }
            let due = |status: &ResourceStatus| status.reload.as_ref().is_some_and(|r| r.due);
            let reload = due(&self.status.borrow()) && (wrote || retry || retry_at.is_none());
            if reload {
                self.reload().await;
            }
            if stale || retry || reload {
                if again || due(&self.status.borrow()) {
                    let pause = RETRY_MIN.saturating_mul(1 << failures.min(6)).min(RETRY_MAX);
                    failures += 1;
                    retry_at = Some(Instant::now() + pause);
                } else {
                    failures = 0;
                    retry_at = None;
                }
            }
            let pause = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.snapshots.changed() => if changed.is_err() { return },
                () = pause => {}
                () = &mut files => {
                    touched = true;
                    files = Box::pin(std::future::pending());
                }
            }
        }
    }

    /// The snapshot to render, once changes have paused for as long as they have to. What has to
    /// pause is found out by an evaluation when there was none that knew all it asked for.
    async fn settled(&mut self, basis: Option<&Basis>, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        if self.resource.config.wait.min.0.is_zero() {
            return snapshot;
        }
        let whole = basis.filter(|basis| basis.asked.waits_for().is_none());
        let asked = if let Some(basis) = whole {
            basis.asked.clone()
        } else {
            let (resource, from) = (Arc::clone(&self.resource), Arc::clone(&snapshot));
            let evaluated = tokio::task::spawn_blocking(move || resource.evaluate(&from).asked);
            match evaluated.await {
                Ok(asked) if asked.waits_for().is_none() => asked,
                _ => return snapshot,
            }
        };
        self.quiet(asked, snapshot).await
    }

    /// Asks the registries to follow what is wanted; one that failed half-way goes on wanting what
    /// it wanted before.
    fn want(&self, want: &Want, failed: bool) {
        self.wants.send_if_modified(|wants| {
            let before = wants.get(&self.resource.name);
            let mut now = want.clone();
            if let Some(before) = before.filter(|_| failed) {
                now.add(before);
            }
            let other = before != Some(&now);
            if other {
                wants.insert(Arc::clone(&self.resource.name), now);
            }
            other
        });
    }

    /// Waits until nothing that was `asked` for has changed for the least wait, or the longest one
    /// is over; returns the latest snapshot.
    async fn quiet(&mut self, asked: Asked, mut snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let wait = self.resource.config.wait;
        if wait.min.0.is_zero() {
            return snapshot;
        }
        let longest = wait.max.map_or(wait.min.0 * 4, |max| max.0.max(wait.min.0));
        let deadline = Instant::now() + longest;
        let mut until = Instant::now() + wait.min.0;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until.min(deadline)) => return snapshot,
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return snapshot;
                    }
                    let now = Arc::clone(&self.snapshots.borrow_and_update());
                    if asked.differs(&snapshot, &now) {
                        until = Instant::now() + wait.min.0;
                    }
                    snapshot = now;
                }
            }
        }
    }

    /// Brings the file to what it should say at `snapshot`.
    async fn render(&self, snapshot: &Arc<Snapshot>) -> (Option<Asked>, Rendered) {
        let (resource, from) = (Arc::clone(&self.resource), Arc::clone(snapshot));
        let evaluated = tokio::task::spawn_blocking(move || {
            let Evaluation { asked, output } = resource.evaluate(&from);
            if let Some(registry) = asked.waits_for() {
                return (asked.clone(), Err(Rendered::Held(Arc::clone(registry))));
            }
            let staged = output.map_err(Rendered::Refused).and_then(|bytes| {
                if write::is_current(&resource.destination, &bytes) {
                    return Ok(None);
                }
                write::stage(&resource.destination, resource.config.mode, &bytes)
                    .map(Some)
                    .map_err(Rendered::Failed)
            });
            (asked, staged)
        });
        let (asked, staged) = match evaluated.await {
            Ok(evaluated) => evaluated,
            Err(error) => {
                let message =
                    format!("{}: rendering failed: {error}", self.resource.source.display());
                return (None, Rendered::Refused(RenderError::Template(message)));
            }
        };
        let rendered = match staged {
            Ok(None) => Rendered::Current(false),
            Ok(Some(staged)) => self.place(staged).await,
            Err(rendered) => rendered,
        };
        (Some(asked), rendered)
    }

    /// Checks the staged file and puts it in its place.
    async fn place(&self, staged: Staged) -> Rendered {
        if let Some(check) = &self.resource.config.check {
            let files = Files { source: Some(staged.path()), destination: None };
            let terms = Terms::within(self.resource.config.timeout.0);
            if let Err(failure) = exec::run_line(&check.with(files), terms).await {
                self.meters.check_failed.inc();
                return Rendered::Failed(RenderError::Check {
                    name: Arc::clone(&self.resource.name),
                    outcome: failure.to_string(),
                    kept: staged.reject(),
                });
            }
            self.meters.checked.inc();
        }
        match tokio::task::spawn_blocking(move || staged.commit()).await {
            Ok(Ok(())) => Rendered::Current(true),
            Ok(Err(error)) => Rendered::Failed(error),
            Err(error) => Rendered::Failed(RenderError::Template(error.to_string())),
        }
    }

    /// Runs the reload command; what is due stays due until it succeeds.
    async fn reload(&self) {
        let Some(command) = &self.resource.config.reload else { return };
        let outcome = exec::run_line(command, Terms::within(self.resource.config.timeout.0)).await;
        let template = &*self.resource.name;
        let error =
            outcome.err().map(|failure| format!("the reload of [template.{template}] {failure}"));
        match &error {
            None => self.meters.reloaded.inc(),
            Some(_) => self.meters.reload_failed.inc(),
        }
        self.status.send_modify(|status| {
            let before = status.reload.take().and_then(|reload| reload.error);
            match &error {
                Some(error) if before.as_ref() != Some(error) => {
                    tracing::warn!(template, error, "reload failed; trying again");
                }
                None => tracing::info!(template, "reloaded"),
                Some(_) => {}
            }
            let tried_at = Some(SystemTime::now());
            status.reload = Some(ReloadStatus { due: error.is_some(), tried_at, error });
        });
    }

    fn agrees_with(&self, generation: u64) {
        self.meters.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.status.send_if_modified(|status| {
            let newer = status.generation != generation;
            status.generation = generation;
            newer
        });
    }

    /// Puts the outcome into status, metrics and log.
    fn tell(&self, snapshot: &Snapshot, rendered: Rendered) {
        let template = &*self.resource.name;
        let refused = matches!(rendered, Rendered::Refused(_));
        if refused {
            self.meters.render_failed.inc();
        } else {
            self.meters.rendered.inc();
        }
        let (error, waiting_for, wrote) = match rendered {
            Rendered::Current(wrote) => (None, None, wrote),
            Rendered::Held(registry) => (None, Some(registry), false),
            Rendered::Refused(error) | Rendered::Failed(error) => {
                (Some(error.to_string()), None, false)
            }
        };
        let current = error.is_none() && waiting_for.is_none();
        if wrote {
            self.meters.written.inc();
            tracing::info!(template, generation = snapshot.generation, "file replaced");
        }
        if current {
            self.meters.generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
        }
        self.status.send_modify(|status| {
            if let Some(error) = &error
                && status.error.as_ref() != Some(error)
            {
                tracing::warn!(template, error, "the file stays as it is");
            }
            if let Some(registry) = &waiting_for
                && status.waiting_for.is_none()
            {
                tracing::info!(template, registry = &**registry, "waiting for a registry");
            }
            status.error = error;
            status.waiting_for = waiting_for;
            if current {
                status.generation = snapshot.generation;
            }
            if wrote {
                status.written_at = Some(SystemTime::now());
                if self.resource.config.reload.is_some() {
                    status.reload.get_or_insert_default().due = true;
                }
            }
        });
    }
}

//! The life of one unit: wait for a change that concerns it, render it, have its readers told.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::Wants;
use super::data::{Asked, Want};
use super::debt::Debt;
use super::place::{Move, Way};
use super::reload::pause;
use super::resource::RenderError;
use super::unit::{Member, Rendered, Round, Unit};
use crate::catalog::Snapshot;

/// How many of a template's inputs the status names.
const INPUTS_SHOWN: usize = 32;

/// Resolves when a file that a template read is another one.
type Touched = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One unit with all that its life needs. Cheap to clone: it starts again after a panic.
#[derive(Clone)]
pub(super) struct Task {
    unit: Arc<Unit>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    wants: Wants,
}

/// What the last evaluations saw; as long as they would see the same, the files stay as they are.
struct Basis {
    snapshot: Arc<Snapshot>,
    asked: Vec<Asked>,
}

impl Basis {
    fn differs(&self, now: &Snapshot) -> bool {
        self.asked.iter().any(|asked| asked.differs(&self.snapshot, now))
    }
}

impl Task {
    pub(super) fn new(
        unit: Arc<Unit>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        wants: Wants,
    ) -> Self {
        Self { unit, snapshots, wants }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.unit.name
    }

    /// Keeps the files up to date until nobody publishes any more.
    pub(super) async fn run(mut self) {
        let mut basis: Option<Basis> = None;
        let mut failures = 0;
        let mut retry_at: Option<Instant> = None;
        let mut touched = false;
        let mut files: Touched = Box::pin(std::future::pending());
        // What an earlier life of this unit has written may have to be rolled back still.
        if let Some(debt) = self.unit.ledger.debt(&self.unit.key) {
            self.await_verdict(&debt).await;
        }
        loop {
            let retry = retry_at.is_some_and(|at| at <= Instant::now());
            let mut snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            let stale = match &basis {
                Some(basis) => touched || basis.differs(&snapshot),
                None => snapshot.generation > 0,
            };
            touched = false;
            if stale || retry {
                if stale {
                    snapshot = self.settled(basis.as_ref(), snapshot).await;
                }
                self.done(snapshot.generation.saturating_sub(1));
                let Round { drafts, rendered, debt } = self.unit.round(&snapshot).await;
                let again = rendered.iter().any(|r| matches!(r, Rendered::Failed(_)));
                for (member, ((asked, took), rendered)) in
                    self.unit.members.iter().zip(drafts.iter().zip(rendered))
                {
                    if let Some(asked) = asked {
                        self.want(member, asked.want(), matches!(rendered, Rendered::Refused(_)));
                    }
                    let inputs = asked.as_ref().map(Asked::inputs);
                    tell(member, snapshot.generation, (inputs, *took), rendered);
                }
                let asked: Option<Vec<Asked>> =
                    drafts.into_iter().map(|(asked, _)| asked).collect();
                if let Some(asked) = &asked {
                    files = any_of(asked);
                }
                basis = asked.map(|asked| Basis { snapshot: Arc::clone(&snapshot), asked });
                failures = if again { failures + 1 } else { 0 };
                retry_at = again.then(|| Instant::now() + pause(failures));
                if let Some(debt) = debt {
                    self.await_verdict(&debt).await;
                }
            } else if let Some(basis) = &mut basis {
                if retry_at.is_none() {
                    self.unit.members.iter().for_each(|m| agrees_with(m, snapshot.generation));
                }
                basis.snapshot = Arc::clone(&snapshot);
            }
            self.done(snapshot.generation);
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

    /// Tells the reloaders that nothing more will be asked of them at `generation`.
    fn done(&self, generation: u64) {
        for reloader in self.unit.reloaders() {
            reloader.done(&self.unit.name, generation);
        }
    }

    /// The snapshot to render, once changes have paused for as long as they have to. What has to
    /// pause is found out by an evaluation when there was none that knew all it asked for.
    async fn settled(&mut self, basis: Option<&Basis>, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        if self.unit.members.iter().all(|m| m.resource.config.wait.min.0.is_zero()) {
            return snapshot;
        }
        let whole = |asked: &[Asked]| asked.iter().all(|asked| asked.waits_for().is_none());
        let asked = if let Some(basis) = basis.filter(|basis| whole(&basis.asked)) {
            basis.asked.clone()
        } else {
            let (unit, from) = (Arc::clone(&self.unit), Arc::clone(&snapshot));
            let evaluated = tokio::task::spawn_blocking(move || {
                let members = unit.members.iter();
                members.map(|member| member.resource.evaluate(&from).asked).collect::<Vec<_>>()
            });
            match evaluated.await {
                Ok(asked) if whole(&asked) => asked,
                _ => return snapshot,
            }
        };
        self.quiet(&asked, snapshot).await
    }

    /// Asks the registries to follow what is wanted; one that failed half-way goes on wanting what
    /// it wanted before.
    fn want(&self, member: &Member, want: &Want, failed: bool) {
        self.wants.send_if_modified(|wants| {
            let name = &member.resource.name;
            let before = wants.get(name);
            let mut now = want.clone();
            if let Some(before) = before.filter(|_| failed) {
                now.add(before);
            }
            let other = before != Some(&now);
            if other {
                wants.insert(Arc::clone(name), now);
            }
            other
        });
    }

    /// Waits until nothing that was `asked` for has changed for the least wait, or the longest one
    /// is over; returns the latest snapshot. In a group the longest waits count.
    async fn quiet(&mut self, asked: &[Asked], mut snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let waits = || self.unit.members.iter().map(|member| member.resource.config.wait);
        let least = waits().map(|wait| wait.min.0).max().unwrap_or_default();
        if least.is_zero() {
            return snapshot;
        }
        // Whoever shares a reload need not wait for this.
        self.done(u64::MAX);
        let longest = waits().map(|wait| wait.max.map_or(wait.min.0 * 4, |max| max.0));
        let deadline = Instant::now() + longest.max().unwrap_or_default().max(least);
        let mut until = Instant::now() + least;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until.min(deadline)) => return snapshot,
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return snapshot;
                    }
                    let now = Arc::clone(&self.snapshots.borrow_and_update());
                    if asked.iter().any(|asked| asked.differs(&snapshot, &now)) {
                        until = Instant::now() + least;
                    }
                    snapshot = now;
                }
            }
        }
    }

    /// In a group that rolls back: waits for the first reload of what was written, and puts the old
    /// files back when it fails.
    async fn await_verdict(&self, debt: &Arc<Debt>) {
        let rolls_back = self.unit.group.is_some_and(|group| group.roll_back);
        if !rolls_back || debt.intent.moves.iter().all(|step| step.kept.is_none() && !step.new) {
            return;
        }
        self.done(u64::MAX);
        let outcome = debt.outcome().await;
        let (unit, written) = (Arc::clone(&self.unit), Arc::clone(debt));
        let Err(why) = outcome else {
            // Fails only when the runtime ends; the next start finds and removes what is left.
            let _ = tokio::task::spawn_blocking(move || {
                written.intent.moves.iter().for_each(Move::forget);
            })
            .await;
            return;
        };
        let rolled = tokio::task::spawn_blocking(move || unit.roll_back(&written)).await;
        let error = match rolled {
            Ok(Ok(())) => {
                let group = &*self.unit.name;
                tracing::error!(group, why, "a reload failed; the old files are back");
                format!("the reload {why}; all old files of the group are back until a change")
            }
            Ok(Err(error)) => {
                format!("the reload {why}; the old files cannot be put back: {error}")
            }
            Err(error) => format!("the reload {why}; putting the old files back failed: {error}"),
        };
        for member in &self.unit.members {
            member.status.send_modify(|status| status.error = Some(error.clone()));
        }
    }
}

/// Resolves when a file that one of these read is another one.
fn any_of(asked: &[Asked]) -> Touched {
    let mut files: Vec<Touched> = Vec::new();
    for asked in asked {
        files.push(Box::pin(asked.files_changed()));
    }
    Box::pin(std::future::poll_fn(move |context| {
        let any = files.iter_mut().any(|file| file.as_mut().poll(context).is_ready());
        if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }))
}

fn agrees_with(member: &Member, generation: u64) {
    member.status.send_if_modified(|status| {
        let agrees = status.error.is_none() && status.waiting_for.is_none();
        let newer = status.generation != generation && agrees;
        if newer {
            member.meters.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
            status.generation = generation;
        }
        newer
    });
}

/// Puts the outcome into status, metrics and log.
fn tell(
    member: &Member,
    generation: u64,
    (inputs, took): (Option<Vec<String>>, Duration),
    rendered: Rendered,
) {
    let template = &*member.resource.name;
    let meters = &member.meters;
    meters.took.observe(took.as_secs_f64());
    match rendered {
        Rendered::Refused(RenderError::Template(_)) => meters.render_failed.inc(),
        _ => meters.rendered.inc(),
    }
    let (error, waiting_for, way) = match rendered {
        Rendered::Current(way) => (None, None, way),
        Rendered::Held(registry) => (None, Some(registry), None),
        Rendered::Refused(error) | Rendered::Failed(error) => (Some(error.to_string()), None, None),
        Rendered::Behind(other) => {
            let message = format!("it changes together with [template.{other}], which cannot");
            (Some(message), None, None)
        }
    };
    let current = error.is_none() && waiting_for.is_none();
    if way.is_some() {
        meters.written.inc();
        tracing::info!(template, generation, "file replaced");
    }
    if current {
        meters.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }
    member.status.send_modify(|status| {
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
        if way == Some(Way::InPlace) && !status.in_place {
            tracing::info!(template, "the file is written in place; a reader may see a part of it");
        }
        status.rendered_at = Some(SystemTime::now());
        status.render_microseconds = Some(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if let Some(mut inputs) = inputs {
            status.inputs = inputs.len();
            inputs.truncate(INPUTS_SHOWN);
            status.asked_for = inputs;
        }
        status.error = error;
        status.waiting_for = waiting_for;
        if current {
            status.generation = generation;
        }
        if let Some(way) = way {
            status.written_at = Some(SystemTime::now());
            status.in_place = way == Way::InPlace;
        }
    });
}

//! Files rendered from the snapshot: evaluated, checked, replaced at once, their readers told.
//!
//! Each template, or group of templates, is one task, so that a template that fails, a check that
//! hangs or a reload that does not work holds up no other. It is rendered again when something
//! changed that its templates asked for, and only then. Readers are told by reloaders, one for each
//! distinct way, so that a command that many templates share runs once for all of them.
//!
//! ```text
//! unit     draw, stage, check ── journal: intent ── place ──┐
//! reloader                            wait for the others, run, repeat ── journal: taken back
//! ```

mod action;
mod attributes;
mod child;
mod data;
mod debt;
pub mod engine;
mod fault;
mod format;
pub mod functions;
mod journal;
mod language;
mod layout;
mod place;
mod preview;
mod recover;
mod reload;
mod resource;
mod stage;
mod status;
mod task;
mod unit;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub use child::{Ended, EnvConfig, ExecConfig, Order, Restart, supervise};
pub use data::{Asked, Scope, Want};
pub use language::{Delimiters, Language};
pub use preview::{Preview, preview};
pub use resource::{Evaluation, Mode, RenderError, Resource, ResourceConfig, Wait};
pub use status::{CheckStatus, Metrics, ReloadStatus, ResourceStatus};
pub use writing::{
    GroupConfig, OutputFormat, Owner, ReloadHttp, ReloadSignal, SignalName, Url, WriteMode,
};

use crate::catalog::Snapshot;
use crate::lifecycle::{self, Phase, Phases};
use action::Action;
use debt::{Debt, Ledger};
use journal::{Identity, Journal, Key};
use reload::{Pace, Reloader};
use task::Task;
use unit::{Member, Unit};

/// What each template asks the registries for, by its name, as far as it has been evaluated.
pub type Wants = Arc<watch::Sender<BTreeMap<Arc<str>, Want>>>;

/// What rendering takes from the process around it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// What is rendered. Nothing is of a snapshot of generation 0, which nobody published.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Everything runs until [`Phase::Stopped`].
    pub phases: Phases,
    /// Metrics of all templates.
    pub metrics: Metrics,
    /// Where templates tell what they ask for.
    pub wants: Wants,
    /// Where the journal of reloads is kept; without it, in memory.
    pub data_dir: Option<PathBuf>,
}

/// All resources, rendering. Dropping it ends their tasks; files stay as they are, and what is owed
/// to their readers stays in the journal.
#[derive(Debug)]
pub struct Renderer {
    around: Surroundings,
    ledger: Arc<Ledger>,
    units: BTreeMap<Arc<str>, Running>,
    reloaders: BTreeMap<Identity, (Arc<Reloader>, Alive)>,
}

/// A task ends when this is dropped.
type Alive = watch::Sender<()>;

/// A unit whose task runs.
#[derive(Debug)]
struct Running {
    unit: Arc<Unit>,
    alive: Alive,
}

impl Renderer {
    /// Finishes what a crash left, then renders `resources` and runs the reloads that are owed. Must
    /// be called within a tokio runtime.
    pub async fn start(
        resources: Vec<Resource>,
        groups: &BTreeMap<String, GroupConfig>,
        around: Surroundings,
    ) -> Self {
        let destinations: Vec<PathBuf> =
            resources.iter().map(|resource| resource.destination.clone()).collect();
        let rolls_back = groups.iter().filter(|(_, group)| group.roll_back);
        let rolls_back: BTreeSet<String> =
            rolls_back.map(|(name, _)| format!("[group.{name}]")).collect();
        let (data_dir, metrics) = (around.data_dir.clone(), around.metrics.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let (journal, found) =
                Journal::open(data_dir.as_deref(), metrics.journal_failures.clone());
            let intents = found.iter().map(|(_, intent, _)| intent);
            recover::finish(intents, &destinations, &rolls_back);
            Ledger::new(journal, found, metrics.pending)
        });
        let ledger = opened.await.unwrap_or_else(|error| {
            let error = error.to_string();
            tracing::error!(error, "the journal of reloads cannot be opened; it is kept in memory");
            let (journal, _) = Journal::open(None, around.metrics.journal_failures.clone());
            Ledger::new(journal, Vec::new(), around.metrics.pending.clone())
        });
        let mut renderer = Self {
            around,
            ledger: Arc::new(ledger),
            units: BTreeMap::new(),
            reloaders: BTreeMap::new(),
        };
        let reloads = resources.iter().any(|resource| resource.reload.is_some());
        if reloads && !renderer.ledger.on_disk() {
            tracing::warn!("no [node] data_dir: a reload that a crash prevents is not run later");
        }
        renderer.follow(resources, groups);
        renderer
    }

    /// Ends the tasks of templates that are not among `resources` as they are; the others go on.
    pub fn keep(&mut self, resources: &[Resource], groups: &BTreeMap<String, GroupConfig>) {
        let wanted = by_unit(resources.iter().collect());
        self.units.retain(|name, running| {
            let same = wanted.get(name).is_some_and(|members| {
                running.unit.group == group_of(members[0], groups)
                    && running.unit.members.len() == members.len()
                    && running.unit.members.iter().zip(members).all(|(a, b)| a.resource.same(b))
            });
            if !same {
                running.unit.end();
            }
            same
        });
    }

    /// Renders `resources` and nothing else from now on. Those that did not change go on with what
    /// they do, and whatever is owed to a reader stays owed.
    pub fn follow(&mut self, resources: Vec<Resource>, groups: &BTreeMap<String, GroupConfig>) {
        self.keep(&resources, groups);
        self.follow_reloaders(&resources);
        let mut started = BTreeSet::new();
        for (name, members) in by_unit(resources) {
            if !self.units.contains_key(&name) {
                let group = group_of(&members[0], groups);
                let running = self.start_unit(Arc::clone(&name), group, members);
                self.units.insert(Arc::clone(&name), running);
                started.insert(name);
            }
        }
        for debt in self.ledger.debts() {
            self.assign(&debt, &started);
        }
        // Their tasks begin when they know what is owed.
        for name in started {
            if let Some(running) = self.units.get(&name) {
                self.spawn(Arc::clone(&running.unit), running.alive.subscribe());
            }
        }
    }

    /// One reloader for each distinct way in which `resources` tell their readers.
    fn follow_reloaders(&mut self, resources: &[Resource]) {
        let mut wanted: BTreeMap<Identity, (&Action, Pace, Vec<Arc<str>>)> = BTreeMap::new();
        for resource in resources {
            let Some(action) = &resource.reload else { continue };
            let config = &resource.config;
            let limit = config.reload_timeout.unwrap_or(config.timeout).0;
            let interval =
                config.reload_interval.map_or(std::time::Duration::ZERO, |least| least.0);
            let (_, pace, sharers) = wanted
                .entry(action.identity())
                .or_insert_with(|| (action, Pace::default(), Vec::new()));
            pace.limit = pace.limit.max(limit);
            pace.interval = pace.interval.max(interval);
            sharers.push(unit_name(resource));
        }
        self.reloaders.retain(|identity, _| wanted.contains_key(identity));
        for (identity, (action, pace, sharers)) in wanted {
            let (reloader, _) = self.reloaders.entry(identity).or_insert_with(|| {
                let reloader = Arc::new(Reloader::new(action.clone(), Arc::clone(&self.ledger)));
                let alive = Alive::default();
                let (name, runs) = (format!("reload by {action}"), Arc::clone(&reloader));
                run(name, &self.around.phases, alive.subscribe(), move || Arc::clone(&runs).run());
                (reloader, alive)
            });
            reloader.follow(pace, &sharers);
        }
    }

    fn start_unit(
        &self,
        name: Arc<str>,
        group: Option<GroupConfig>,
        members: Vec<Resource>,
    ) -> Running {
        let key = match group {
            Some(_) => Key::of("group", name.as_ref().as_ref()),
            None => Key::of("template", &members[0].destination),
        };
        let member = |resource: Resource| {
            let identity = resource.reload.as_ref().map(Action::identity);
            let reloader = identity.and_then(|identity| self.reloaders.get(&identity));
            Member {
                status: Arc::new(watch::Sender::new(ResourceStatus::of(&resource))),
                meters: self.around.metrics.meters(&resource.name),
                reloader: reloader.map(|(reloader, _)| Arc::clone(reloader)),
                resource,
            }
        };
        let members = members.into_iter().map(member).collect();
        let (ledger, metrics) = (Arc::clone(&self.ledger), &self.around.metrics);
        let unit = Unit::new(name, key, group, members, ledger, metrics.roll_backs.clone());
        Running { unit: Arc::new(unit), alive: Alive::default() }
    }

    /// Sees to it that somebody pays `debt`: the unit that made its files, or whoever tells the same
    /// reader. `started` are the units that do not know of it yet.
    fn assign(&self, debt: &Arc<Debt>, started: &BTreeSet<Arc<str>>) {
        let made = |unit: &Unit| {
            unit.key == *debt.key()
                || unit.members.iter().any(|member| debt.is_of(&member.resource.destination))
        };
        if let Some((name, running)) = self.units.iter().find(|(_, running)| made(&running.unit)) {
            let ways: BTreeSet<Identity> =
                running.unit.reloaders().map(|reloader| Arc::clone(&reloader.identity)).collect();
            let told_otherwise = !debt.owed().is_subset(&ways);
            if told_otherwise {
                debt.owe(ways);
            }
            if debt.owed().is_empty() {
                self.ledger.settle(debt);
            } else if told_otherwise || started.contains(name) {
                running.unit.wish(debt, 0);
            }
            return;
        }
        let mut left = debt.owed();
        left.retain(|identity| self.reloaders.contains_key(identity));
        debt.owe(left.clone());
        if left.is_empty() {
            let of = &*debt.intent.name;
            tracing::warn!(of, "a pending reload is dropped: no template states it any more");
            self.ledger.settle(debt);
        }
        for (reloader, _) in left.iter().filter_map(|identity| self.reloaders.get(identity)) {
            reloader.wish(debt, 0, Vec::new());
        }
    }

    fn spawn(&self, unit: Arc<Unit>, gone: watch::Receiver<()>) {
        let wants = Arc::clone(&self.around.wants);
        let task = Task::new(unit, self.around.snapshots.clone(), wants);
        let name = format!("template {}", task.name());
        run(name, &self.around.phases, gone, move || task.clone().run());
    }

    /// How each resource stands, sorted by name.
    #[must_use]
    pub fn status(&self) -> Vec<ResourceStatus> {
        let members = self.units.values().flat_map(|running| running.unit.members.iter());
        let mut all: Vec<_> = members.map(|member| member.status.borrow().clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Returns once every file says what `generation` or a later one says.
    pub async fn applied(&self, generation: u64) {
        for status in self.statuses().into_values() {
            // An error means that the task has ended: nothing more will be applied.
            let mut status = status;
            let _ = status.wait_for(|status| status.generation >= generation).await;
        }
    }

    /// The statuses as they change, by name.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<Arc<str>, watch::Receiver<ResourceStatus>> {
        let members = self.units.values().flat_map(|running| running.unit.members.iter());
        members.map(|m| (Arc::clone(&m.resource.name), m.status.subscribe())).collect()
    }
}

/// Runs `task` until it returns, the process stops, or nobody holds the sender of `gone`.
fn run<F: Future<Output = ()> + Send + 'static>(
    name: String,
    phases: &Phases,
    gone: watch::Receiver<()>,
    task: impl Fn() -> F + Send + Sync + 'static,
) {
    let phases = phases.clone();
    tokio::spawn(async move {
        lifecycle::supervise(&name, || {
            let (task, mut phases, mut gone) = (task(), phases.clone(), gone.clone());
            async move {
                tokio::select! {
                    () = task => {}
                    () = phases.reached(Phase::Stopped) => {}
                    // Nothing is ever sent: a change is the end of whoever holds the sender.
                    _ = gone.changed() => {}
                }
            }
        })
        .await;
    });
}

/// The unit of a resource: its group, or itself. No template can have a group's name here.
fn unit_name(resource: &Resource) -> Arc<str> {
    match &resource.config.group {
        Some(group) => format!("[group.{group}]").into(),
        None => Arc::clone(&resource.name),
    }
}

/// The resources of each unit, sorted by name.
fn by_unit<R: std::borrow::Borrow<Resource>>(resources: Vec<R>) -> BTreeMap<Arc<str>, Vec<R>> {
    let mut units: BTreeMap<Arc<str>, Vec<R>> = BTreeMap::new();
    for resource in resources {
        units.entry(unit_name(resource.borrow())).or_default().push(resource);
    }
    for members in units.values_mut() {
        members.sort_by(|a, b| a.borrow().name.cmp(&b.borrow().name));
    }
    units
}

/// What is configured of the group of `resource`, if it is in one.
fn group_of(resource: &Resource, groups: &BTreeMap<String, GroupConfig>) -> Option<GroupConfig> {
    let group = resource.config.group.as_ref()?;
    Some(groups.get(group).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests;

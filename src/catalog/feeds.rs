//! What the registries have said up to this moment, as far as it counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::assemble::{Inputs, Source};
use super::guard::{Held, admit};
use super::operations::Operations;
use super::publish::Plan;
use super::source::{RegistryState, RegistryView};
use super::stale::StalePolicy;
use super::verdict::Verdicts;

/// A registry's states as they come, with what the configuration says about it.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Who wins for the same instance id.
    pub priority: i32,
    /// What it says now, and wakes when it says something else.
    pub state: watch::Receiver<RegistryState>,
    /// For how long it may be silent.
    pub stale: StalePolicy,
}

impl Feed {
    /// A registry that may be silent for ever.
    #[must_use]
    pub fn new(name: &str, priority: i32, state: watch::Receiver<RegistryState>) -> Self {
        Self { name: name.into(), priority, state, stale: StalePolicy::default() }
    }
}

/// What has counted so far, by registry; it outlives plans.
#[derive(Default)]
pub(super) struct Feeds {
    admitted: BTreeMap<Arc<str>, RegistryView>,
    /// When the first silence becomes too long.
    expiry: Option<SystemTime>,
}

impl Feeds {
    /// What is said now and counts: the guard holds back what it must.
    pub(super) fn inputs<C>(&mut self, plan: &Plan<C>) -> Inputs {
        let now = SystemTime::now();
        self.expiry = None;
        let mut admitted = BTreeMap::new();
        let mut sources = Vec::with_capacity(plan.feeds.len());
        for feed in &plan.feeds {
            let state = feed.state.borrow().clone();
            let ends = feed.stale.ends(&state);
            if let Some(end) = ends.filter(|end| *end > now) {
                self.expiry = Some(self.expiry.map_or(end, |first| first.min(end)));
            }
            let counts = feed.stale.at(&state, now);
            let known = self.admitted.get(&feed.name);
            let (state, held) = counted(plan, known, state);
            if let Some(view) = state.view() {
                admitted.insert(Arc::clone(&feed.name), view.clone());
            }
            let name = Arc::clone(&feed.name);
            sources.push(Source { name, priority: feed.priority, state, held, counts });
        }
        self.admitted = admitted;
        let verdicts = plan.verdicts.borrow().clone();
        let operations = Arc::clone(&plan.spoken.operations.borrow());
        Inputs::new(sources, Arc::clone(&plan.settings), verdicts).with(operations)
    }

    /// Returns when the silence of a registry has become too long since the inputs were taken.
    pub(super) async fn expires(&self) {
        match self.expiry {
            // A moment later, so that the clock has passed it for sure.
            Some(end) => {
                let left = end.duration_since(SystemTime::now()).unwrap_or_default();
                tokio::time::sleep(left + std::time::Duration::from_millis(1)).await;
            }
            None => std::future::pending().await,
        }
    }
}

/// The state with the view that counts, and what is held of it.
fn counted<C>(
    plan: &Plan<C>,
    known: Option<&RegistryView>,
    state: RegistryState,
) -> (RegistryState, Arc<[Held]>) {
    match state {
        RegistryState::Syncing => (RegistryState::Syncing, Arc::new([])),
        RegistryState::Live(view) => {
            let (view, held) = admit(plan.guard, known, &view);
            (RegistryState::Live(view), held.into())
        }
        RegistryState::Stale { last, since, why } => {
            let (last, held) = admit(plan.guard, known, &last);
            (RegistryState::Stale { last, since, why }, held.into())
        }
    }
}

/// Wakes when any registry, a verdict or an operator says something new.
pub(super) struct Wakes {
    waiting: JoinSet<Option<Heard>>,
}

/// What is heard; each waits again by itself.
enum Heard {
    Registry(watch::Receiver<RegistryState>),
    Verdicts(watch::Receiver<Verdicts>),
    Operator(watch::Receiver<Arc<Operations>>),
}

impl Wakes {
    pub(super) fn of<C>(plan: &Plan<C>) -> Self {
        let mut wakes = Self { waiting: JoinSet::new() };
        for feed in &plan.feeds {
            let mut state = feed.state.clone();
            // What is there already is read with the first snapshot of this plan; a state that
            // comes between the two is new for this receiver and wakes it.
            state.mark_unchanged();
            wakes.wait_for(Heard::Registry(state));
        }
        let mut verdicts = plan.verdicts.clone();
        verdicts.mark_unchanged();
        wakes.wait_for(Heard::Verdicts(verdicts));
        let mut operations = plan.spoken.operations.clone();
        operations.mark_unchanged();
        wakes.wait_for(Heard::Operator(operations));
        wakes
    }

    fn wait_for(&mut self, mut heard: Heard) {
        // What ended keeps its last word and never wakes again.
        self.waiting.spawn(async move {
            let changed = match &mut heard {
                Heard::Registry(state) => state.changed().await,
                Heard::Verdicts(verdicts) => verdicts.changed().await,
                Heard::Operator(operations) => operations.changed().await,
            };
            changed.ok().map(|()| heard)
        });
    }

    pub(super) async fn changed(&mut self) {
        loop {
            match self.waiting.join_next().await {
                Some(Ok(Some(heard))) => {
                    self.wait_for(heard);
                    // Others that are ready too belong to the same publish.
                    while let Some(Ok(Some(heard))) = self.waiting.try_join_next() {
                        self.wait_for(heard);
                    }
                    return;
                }
                Some(_) => {}
                None => std::future::pending::<()>().await,
            }
        }
    }
}

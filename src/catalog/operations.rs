//! What operators say of instances and nodes beyond registries and checks: drain, maintenance,
//! weight. One input among others to [`assemble`](super::assemble): it does not reach any face by
//! another way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::history::Identity;
use super::model::{Health, Instance, Presence, Weight};

/// What the cause says first of an instance that an operator took out; no failure of its own.
pub const MAINTENANCE: &str = "maintenance by ";
/// Longest reason that is taken, in bytes.
pub const REASON_MAX: usize = 500;

/// Whom an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One instance, whether it is there or not.
    Instance {
        /// Its service.
        service: Arc<str>,
        /// Its registry.
        registry: Arc<str>,
        /// Its id there.
        id: Arc<str>,
    },
    /// Every instance on a node, also those that come later.
    Node(Arc<str>),
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Does {
    /// Its own clients stay, no new ones come.
    Drain,
    /// No work at all.
    Maintenance,
    /// Another share of the work.
    Weight(Weight),
}

impl Does {
    /// Lower-case word, as the API, metrics and logs write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
            Self::Weight(_) => "weight",
        }
    }

    /// What of a target it sets: there is one operation for each at a time.
    #[must_use]
    pub const fn aspect(self) -> Aspect {
        match self {
            Self::Drain | Self::Maintenance => Aspect::State,
            Self::Weight(_) => Aspect::Weight,
        }
    }
}

/// What of a target an operation sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// Whether it gets work.
    State,
    /// How much.
    Weight,
}

/// One word of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number; never given twice.
    pub number: u64,
    /// Whom it is about.
    pub target: Target,
    /// What it does.
    pub does: Does,
    /// Who said so.
    pub who: Arc<str>,
    /// When.
    pub since: SystemTime,
    /// Why, in the operator's words, or empty.
    pub reason: Arc<str>,
    /// When what runs there is cut; none: never.
    pub deadline: Option<SystemTime>,
    /// Whether the deadline has passed.
    #[serde(default)]
    pub over: bool,
}

impl Operation {
    /// Who said so and why, as a cause tells it.
    #[must_use]
    pub fn cause(&self) -> String {
        let does = match self.does {
            Does::Drain => "drained by ",
            Does::Maintenance => MAINTENANCE,
            Does::Weight(_) => "weight by ",
        };
        let reason = if self.reason.is_empty() { "" } else { ": " };
        let over = if self.over { "; its deadline has passed" } else { "" };
        format!("{does}{}{reason}{}{over}", self.who, self.reason)
    }
}

/// That there are as many operations as there may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are {max} operations already ([operations] max); undo some that are not needed")]
pub struct Full {
    /// How many there may be.
    pub max: usize,
}

/// All that operators say at one moment. Cheap to share, changed by its owner only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operations {
    /// One more with each change.
    pub version: u64,
    last: u64,
    by_number: BTreeMap<u64, Arc<Operation>>,
    /// By service, then by registry and id.
    instances: BTreeMap<Arc<str>, BTreeMap<Identity, Said>>,
    nodes: BTreeMap<Arc<str>, Said>,
}

/// What is said of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Drain or maintenance.
    pub state: Option<Arc<Operation>>,
    /// Weight.
    pub weight: Option<Arc<Operation>>,
}

impl Said {
    fn of(&mut self, aspect: Aspect) -> &mut Option<Arc<Operation>> {
        match aspect {
            Aspect::State => &mut self.state,
            Aspect::Weight => &mut self.weight,
        }
    }
}

impl FromIterator<Operation> for Operations {
    fn from_iter<I: IntoIterator<Item = Operation>>(all: I) -> Self {
        let mut operations = Self::default();
        for operation in all {
            operations.last = operations.last.max(operation.number);
            operations.insert(Arc::new(operation));
        }
        operations
    }
}

impl Operations {
    /// Every operation, in the order in which they were said.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.by_number.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Takes `operation` in place of what was said of the same target and aspect; its number is
    /// given here.
    ///
    /// # Errors
    /// There are `max` already.
    pub fn put(&mut self, operation: Operation, max: usize) -> Result<Arc<Operation>, Full> {
        let replaces =
            self.at(&operation.target).and_then(|said| said.of(operation.does.aspect()).clone());
        if replaces.is_none() && self.len() >= max {
            return Err(Full { max });
        }
        if let Some(old) = replaces {
            self.remove(old.number);
        }
        self.last += 1;
        self.version += 1;
        let operation = Arc::new(Operation { number: self.last, ..operation });
        self.insert(Arc::clone(&operation));
        Ok(operation)
    }

    /// Takes back what is said of `aspect` of `target`; none: nothing was.
    pub fn undo(&mut self, target: &Target, aspect: Aspect) -> Option<Arc<Operation>> {
        let number = self.at(target)?.of(aspect).as_ref()?.number;
        self.remove(number)
    }

    /// Takes back the operation of this number.
    pub fn remove(&mut self, number: u64) -> Option<Arc<Operation>> {
        let operation = self.by_number.remove(&number)?;
        if let Some(said) = self.at(&operation.target) {
            *said.of(operation.does.aspect()) = None;
            let silent = *said == Said::default();
            match &operation.target {
                Target::Node(node) if silent => {
                    self.nodes.remove(node);
                }
                Target::Instance { service, registry, id } if silent => {
                    if let Some(known) = self.instances.get_mut(service) {
                        known.remove(&(Arc::clone(registry), Arc::clone(id)));
                    }
                    self.instances.retain(|_, known| !known.is_empty());
                }
                _ => {}
            }
        }
        self.version += 1;
        Some(operation)
    }

    /// Marks those whose deadline is over at `now`; gives them back.
    pub fn pass(&mut self, now: SystemTime) -> Vec<Arc<Operation>> {
        let over = |o: &&Arc<Operation>| !o.over && o.deadline.is_some_and(|end| end <= now);
        let over: Vec<_> = self.by_number.values().filter(over).cloned().collect();
        for operation in &over {
            self.insert(Arc::new(Operation { over: true, ..Operation::clone(operation) }));
            self.version += 1;
        }
        over
    }

    /// The next deadline that is not over yet.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        self.iter().filter(|operation| !operation.over).filter_map(|o| o.deadline).min()
    }

    /// What counts for `instance` of `service`: of its own state and its node's the stricter one,
    /// its own weight before its node's.
    #[must_use]
    pub fn of(&self, service: &str, instance: &Instance) -> Said {
        if self.is_empty() {
            return Said::default();
        }
        let key = || (Arc::clone(&instance.registry), Arc::clone(&instance.id));
        let own = self.instances.get(service).and_then(|known| known.get(&key()));
        let node = instance.node.as_ref().and_then(|node| self.nodes.get(&node.name));
        let states = [own, node].into_iter().flatten().filter_map(|said| said.state.as_ref());
        let strictness = |o: &&Arc<Operation>| (o.over, o.does == Does::Maintenance);
        let weight = |said: Option<&Said>| said.and_then(|said| said.weight.clone());
        Said {
            // Of equals the first, which is its own.
            state: states.rev().max_by_key(strictness).cloned(),
            weight: weight(own).or_else(|| weight(node)),
        }
    }

    /// When what runs at `instance` of `service` is to be cut, as far as an operator said.
    #[must_use]
    pub fn deadline(&self, service: &str, instance: &Instance) -> Option<SystemTime> {
        self.of(service, instance).state.and_then(|operation| operation.deadline)
    }

    /// `instance` of `service` as operators want it.
    #[must_use]
    pub fn apply(&self, service: &str, instance: Arc<Instance>) -> Arc<Instance> {
        let Said { state, weight } = self.of(service, &instance);
        if state.is_none() && weight.is_none() {
            return instance;
        }
        let mut instance = Arc::unwrap_or_clone(instance);
        if let Some(Operation { does: Does::Weight(weight), .. }) = weight.as_deref() {
            instance.weight = *weight;
        }
        if let Some(operation) = state {
            let presence = match (operation.does, operation.over) {
                // What is over is as good as gone: nothing new, and nothing that runs on.
                (_, true) => Presence::Leaving,
                (Does::Drain, false) => Presence::Draining,
                _ => Presence::Active,
            };
            if operation.does == Does::Maintenance {
                // Of no weight, so that it gets nothing when all others fail either.
                instance.health = Health::Unhealthy;
                instance.weight = Weight::NONE;
                instance.cause = operation.cause().into();
            }
            if instance.presence == Presence::Active || presence == Presence::Leaving {
                instance.presence = presence;
                instance.cause = operation.cause().into();
            }
        }
        Arc::new(instance)
    }

    /// Names of the services and of the nodes about which something else is said in `before`.
    #[must_use]
    pub fn differing(&self, before: &Self) -> (BTreeSet<Arc<str>>, BTreeSet<Arc<str>>) {
        let (mut services, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        let pairs = [(self, before), (before, self)];
        for (number, operation) in pairs.iter().flat_map(|(from, _)| &from.by_number) {
            if self.by_number.get(number) == before.by_number.get(number) {
                continue;
            }
            match &operation.target {
                Target::Instance { service, .. } => services.insert(Arc::clone(service)),
                Target::Node(node) => nodes.insert(Arc::clone(node)),
            };
        }
        (services, nodes)
    }

    fn insert(&mut self, operation: Arc<Operation>) {
        let said = match &operation.target {
            Target::Node(node) => self.nodes.entry(Arc::clone(node)).or_default(),
            Target::Instance { service, registry, id } => {
                let known = self.instances.entry(Arc::clone(service)).or_default();
                known.entry((Arc::clone(registry), Arc::clone(id))).or_default()
            }
        };
        let old = said.of(operation.does.aspect()).replace(Arc::clone(&operation));
        if let Some(old) = old {
            self.by_number.remove(&old.number);
        }
        self.by_number.insert(operation.number, operation);
    }

    fn at(&mut self, target: &Target) -> Option<&mut Said> {
        match target {
            Target::Node(node) => self.nodes.get_mut(node),
            Target::Instance { service, registry, id } => {
                let known = self.instances.get_mut(service)?;
                known.get_mut(&(Arc::clone(registry), Arc::clone(id)))
            }
        }
    }
}

/// What operators say, as the publisher hears it, and up to where it has listened.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// What they say now, and wakes when they say something else.
    pub operations: watch::Receiver<Arc<Operations>>,
    /// The version of [`Operations`] that is in force everywhere.
    pub heard: Arc<watch::Sender<u64>>,
}

impl Default for Spoken {
    /// Nobody will ever say anything.
    fn default() -> Self {
        Self { operations: watch::channel(Arc::default()).1, heard: Arc::default() }
    }
}

#[cfg(test)]
#[path = "operations_tests.rs"]
pub(crate) mod tests;

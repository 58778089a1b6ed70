//! A snapshot: everything that is known at one moment, and the number of that moment.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::guard::Held;
use super::interest::Wanted;
use super::keys::Keys;
use super::model::{Nodes, Service};
use super::shards::{Change, Shards};
use super::source::{Parts, Problem, SourceService};

/// What the catalog knew at one moment. Never changes once it is published.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Number of this state: Unix milliseconds at the start, one more per publish.
    pub generation: u64,
    /// Services by name.
    pub services: Shards<Arc<str>, Service>,
    /// How each configured registry stands, in the order of the configuration.
    pub registries: Arc<[RegistryStatus]>,
    /// Keys of those registries that have some, by priority.
    pub keys: Vec<(Arc<str>, Keys)>,
    /// What registries say word for word, of those that have such, by priority.
    pub documents: Vec<(Arc<str>, Arc<str>)>,
    /// What each registry that was heard tells by itself, by priority.
    pub told: Vec<Told>,
}

/// What one registry tells by itself, before it is united with what others tell.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its name in the configuration.
    pub registry: Arc<str>,
    /// Its services by name.
    pub services: Shards<Arc<str>, SourceService>,
    /// The nodes that it lists.
    pub nodes: Nodes,
}

/// How one registry stood when the snapshot was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RegistryStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Whether it ever spoke, now or in the state on disk.
    pub heard: bool,
    /// Set while it does not answer.
    pub stale: Option<Staleness>,
    /// Whether it was silent for longer than `max_stale`, so that its instances are drained.
    pub silent: bool,
    /// How many services it tells of.
    pub services: usize,
    /// What it said and what was refused, beyond single services.
    pub problems: Arc<[Problem]>,
    /// Losses that are not believed yet.
    pub held: Arc<[Held]>,
    /// Why it may lack what is there, while it may.
    pub suspect: Option<Arc<str>>,
    /// The services whose absence there is a fact.
    #[serde(skip)]
    pub known: Arc<Wanted>,
    /// What was read there beside single services.
    #[serde(skip)]
    pub parts: Arc<Parts>,
    /// The datacenter that it tells of, when it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<Arc<str>>,
}

/// Since when a registry has not answered, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Staleness {
    /// Last contact.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub since: SystemTime,
    /// What went wrong.
    pub why: Arc<str>,
}

impl Snapshot {
    /// The service called `name`, letter case included.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// Calls `found` for each service that is not the same in `before`; costs what changed.
    pub fn changes_since<'a>(
        &'a self,
        before: &'a Self,
        found: impl FnMut(Change<'a, Arc<str>, Service>),
    ) {
        self.services.changes_since(&before.services, found);
    }

    /// Whether the documents are the same as in `other`; compares allocations.
    #[must_use]
    pub fn same_documents(&self, other: &Self) -> bool {
        self.documents.len() == other.documents.len()
            && self
                .documents
                .iter()
                .zip(&other.documents)
                .all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1))
    }

    /// Whether the registry called `name` ever spoke; one that is not configured never did.
    #[must_use]
    pub fn heard(&self, name: &str) -> bool {
        self.registries.iter().any(|registry| &*registry.name == name && registry.heard)
    }

    /// Whether what the registry called `name` said last still counts: it was heard, and has not been
    /// silent for so long that its instances are drained.
    #[must_use]
    pub fn counts(&self, name: &str) -> bool {
        let counts = |registry: &RegistryStatus| registry.heard && !registry.silent;
        self.registries.iter().any(|registry| &*registry.name == name && counts(registry))
    }

    /// The first registry that may have a service called `name` without our knowing.
    #[must_use]
    pub fn unsure_of(&self, name: &str) -> Option<&Arc<str>> {
        let unsure = |registry: &&RegistryStatus| registry.unsure_of(name);
        self.registries.iter().find(unsure).map(|registry| &registry.name)
    }

    /// The keys of the registry called `name`; none when it has none.
    #[must_use]
    pub fn keys_of(&self, name: &str) -> Option<&Keys> {
        self.keys.iter().find(|(registry, _)| &**registry == name).map(|(_, keys)| keys)
    }

    /// What the registry called `name` tells by itself, once it was heard.
    #[must_use]
    pub fn told_by(&self, name: &str) -> Option<&Told> {
        self.told.iter().find(|told| &*told.registry == name)
    }
}

impl RegistryStatus {
    /// Whether it may have a service called `name` without our knowing.
    #[must_use]
    pub fn unsure_of(&self, name: &str) -> bool {
        !self.heard || !self.known.contains(name)
    }
}

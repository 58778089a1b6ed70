//! What a registry says: its view of services, how fresh it is, and what it had to refuse.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::interest::Wanted;
use super::keys::Keys;
use super::model::{Instance, Meta, Nodes};
use super::shards::Shards;

/// One service as one registry sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceService {
    /// Name of the service.
    pub name: Arc<str>,
    /// Tags that the service itself bears; instances have them too, already added.
    pub tags: Arc<[Arc<str>]>,
    /// Facts about the service.
    pub meta: Arc<Meta>,
    /// Its instances, each with another id.
    pub instances: Vec<Arc<Instance>>,
    /// What was refused about it, in words.
    #[serde(default)]
    pub problems: Vec<Arc<str>>,
    /// Why this may lack instances that are there, while it may: the guard then holds losses.
    #[serde(skip)]
    pub suspect: Option<Arc<str>>,
}

/// Something that a registry said and that was refused. It costs its owner only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it stands: `file:line:column`, a service, an id.
    pub place: Arc<str>,
    /// What is wrong and what to write instead.
    pub message: Arc<str>,
}

/// All that a registry says at one moment. Cheap to clone; a new view shares with the one before
/// it every service that did not change, and that sharing is how changes are found.
#[derive(Debug, Clone, Default)]
pub struct RegistryView {
    /// Services by name.
    pub services: Shards<Arc<str>, SourceService>,
    /// Keys by path, as far as they are wanted.
    pub keys: Keys,
    /// The nodes that it lists, as far as that list is wanted.
    pub nodes: Nodes,
    /// The datacenter that all of this is of, when the registry knows it.
    pub datacenter: Option<Arc<str>>,
    /// What was refused beyond single services.
    pub problems: Arc<[Problem]>,
    /// Why all of this may lack what is there, while it may: the registry has just come back, has
    /// another leader, or counts anew. The guard then holds losses until a second read.
    pub suspect: Option<Arc<str>>,
    /// The services that were read: of any other one the absence here is no fact. All of them,
    /// unless a registry reads only what is wanted.
    pub known: Arc<Wanted>,
    /// What was read beside them; absence in any other part is no fact either.
    pub parts: Arc<Parts>,
}

/// Parts of a registry beside single services, and which of them were read. Everything, unless a
/// registry reads only what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The list of all services.
    pub names: bool,
    /// The list of all nodes.
    pub nodes: bool,
    /// Prefixes of the keys that were read; none: all keys there are.
    pub keys: Option<BTreeSet<Arc<str>>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { names: true, nodes: true, keys: None }
    }
}

impl Parts {
    /// Whether every key that begins with `prefix` was read.
    #[must_use]
    pub fn has_keys(&self, prefix: &str) -> bool {
        let read = self.keys.as_ref();
        read.is_none_or(|read| read.iter().any(|wider| prefix.starts_with(&**wider)))
    }
}

impl RegistryView {
    /// The view that holds exactly `services`, sharing with `self` each one that is equal.
    #[must_use]
    pub fn replaced(&self, services: Vec<SourceService>, problems: Vec<Problem>) -> Self {
        let mut next = self.services.clone();
        let mut seen = std::collections::HashSet::with_capacity(services.len());
        for service in services {
            seen.insert(Arc::clone(&service.name));
            let known = next.get(&*service.name);
            if known.is_none_or(|known| **known != service) {
                next.insert(Arc::clone(&service.name), Arc::new(service));
            }
        }
        if next.len() != seen.len() {
            let gone: Vec<_> =
                next.iter().map(|(name, _)| name).filter(|n| !seen.contains(*n)).cloned().collect();
            for name in gone {
                next.remove(&*name);
            }
        }
        Self { services: next, problems: problems.into(), ..self.clone() }
    }

    /// The view in which `service` stands as given and all else as before.
    #[must_use]
    pub fn with(&self, service: SourceService) -> Self {
        let mut next = self.clone();
        next.services.insert(Arc::clone(&service.name), Arc::new(service));
        next
    }
}

/// How a registry stands, with the view that goes with it. A failure never empties a view.
#[derive(Debug, Clone)]
pub enum RegistryState {
    /// It has not answered yet, and nothing was on disk.
    Syncing,
    /// It answers; an empty view means that there are really no services.
    Live(RegistryView),
    /// It does not answer (any more); what it said last still counts.
    Stale {
        /// The last good view, perhaps from disk.
        last: RegistryView,
        /// When the last contact was.
        since: SystemTime,
        /// What went wrong, with the next step.
        why: Arc<str>,
    },
}

impl RegistryState {
    /// The view that counts, if there ever was one.
    #[must_use]
    pub const fn view(&self) -> Option<&RegistryView> {
        match self {
            Self::Syncing => None,
            Self::Live(view) | Self::Stale { last: view, .. } => Some(view),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, tag: &str) -> SourceService {
        SourceService {
            name: name.into(),
            tags: Arc::new([tag.into()]),
            meta: Arc::default(),
            instances: Vec::new(),
            problems: Vec::new(),
            suspect: None,
        }
    }

    #[test]
    fn a_new_view_shares_what_is_equal_and_drops_what_is_gone() {
        let first =
            RegistryView::default().replaced(vec![service("a", "1"), service("b", "1")], vec![]);
        let second = first.replaced(vec![service("a", "1"), service("c", "1")], vec![]);
        let mut told = Vec::new();
        second.services.changes_since(&first.services, |(name, before, now)| {
            told.push((name.to_string(), before.is_some(), now.is_some()));
        });
        told.sort();
        assert_eq!(told, [("b".into(), true, false), ("c".into(), false, true)]);
    }

    #[test]
    fn an_unchanged_view_is_the_same_version() {
        let first = RegistryView::default().replaced(vec![service("a", "1")], vec![]);
        let second = first.replaced(vec![service("a", "1")], vec![]);
        assert!(second.services.same(&first.services));
    }
}

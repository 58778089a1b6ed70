//! What the catalog knows about each question of a template. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::instances::{id, node_name};
use super::scope::{Reach, Scope, Unreached};
use crate::catalog::model::Node;
use crate::catalog::{
    Instance, Key, RegistryStatus, Shards, Snapshot, SourceService, Told, Wanted,
};

/// What is known about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<T> {
    Known(T),
    /// Not known yet: this registry may know it.
    Waiting(Arc<str>),
    /// There will be no answer: why, in words.
    Failed(String),
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Known(value) => Found::Known(map(value)),
            Self::Waiting(registry) => Found::Waiting(registry),
            Self::Failed(why) => Found::Failed(why),
        }
    }
}

impl<T> From<Unreached> for Found<T> {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Unsure(registries) => {
                let first = registries.into_iter().next();
                Self::Waiting(first.unwrap_or_else(|| Arc::from("a registry")))
            }
            Unreached::Nobody(why) => Self::Failed(why),
        }
    }
}

macro_rules! reach {
    ($scope:expr, $snapshot:expr, $datacenter:expr) => {
        match $scope.reach($snapshot, $datacenter) {
            Ok(reach) => reach,
            Err(unreached) => return unreached.into(),
        }
    };
}

/// Names of services with their tags.
pub(super) type Names = Vec<(Arc<str>, Arc<[Arc<str>]>)>;

/// All services, by name.
pub(super) fn names(scope: &Scope, snapshot: &Snapshot, datacenter: &str) -> Found<Names> {
    let reach = reach!(scope, snapshot, datacenter);
    let unread = |status: &RegistryStatus| !status.heard || !status.parts.names;
    if let Some(registry) = reach.silent(snapshot, unread) {
        return Found::Waiting(registry);
    }
    let mut names: Names = match &reach {
        Reach::All => {
            let services = snapshot.services.iter();
            services.map(|(name, service)| (Arc::clone(name), Arc::clone(&service.tags))).collect()
        }
        Reach::Only(registry) => {
            let services = snapshot.told_by(registry).map(|told| &told.services);
            services.into_iter().flat_map(Shards::values).map(tagged).collect()
        }
    };
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Found::Known(names)
}

/// A service of one registry with the tags of all its instances.
fn tagged(service: &Arc<SourceService>) -> (Arc<str>, Arc<[Arc<str>]>) {
    let of_instances = service.instances.iter().flat_map(|instance| instance.tags.iter());
    let mut tags: Vec<Arc<str>> = service.tags.iter().chain(of_instances).cloned().collect();
    tags.sort_unstable();
    tags.dedup();
    (Arc::clone(&service.name), tags.into())
}

/// The key at `path`; none when there is none.
pub(super) fn key(
    scope: &Scope,
    snapshot: &Snapshot,
    path: &str,
    datacenter: &str,
) -> Found<Option<Arc<Key>>> {
    let reach = reach!(scope, snapshot, datacenter);
    let concerned = snapshot.keys.iter().filter(|(registry, _)| reach.covers(registry));
    if let Some(key) = concerned.into_iter().find_map(|(_, keys)| keys.get(path)) {
        return Found::Known(Some(Arc::clone(key)));
    }
    let unread = |status: &RegistryStatus| !status.heard || !status.parts.has_keys(path);
    reach.silent(snapshot, unread).map_or(Found::Known(None), Found::Waiting)
}

/// The keys that begin with `prefix`, by path.
pub(super) fn tree(
    scope: &Scope,
    snapshot: &Snapshot,
    prefix: &str,
    datacenter: &str,
) -> Found<BTreeMap<Arc<str>, Arc<Key>>> {
    let reach = reach!(scope, snapshot, datacenter);
    let unread = |status: &RegistryStatus| !status.heard || !status.parts.has_keys(prefix);
    if let Some(registry) = reach.silent(snapshot, unread) {
        return Found::Waiting(registry);
    }
    let mut found = BTreeMap::new();
    for (_, keys) in snapshot.keys.iter().filter(|(registry, _)| reach.covers(registry)) {
        for (path, key) in keys.iter().filter(|(path, _)| path.starts_with(prefix)) {
            found.entry(Arc::clone(path)).or_insert_with(|| Arc::clone(key));
        }
    }
    Found::Known(found)
}

/// confd's keys as they are shown: below the configured prefixes, without the common front.
pub(super) fn store(scope: &Scope, snapshot: &Snapshot) -> Found<BTreeMap<String, Arc<str>>> {
    let mut shown = BTreeMap::new();
    for prefix in &scope.keys {
        let keys = match tree(scope, snapshot, prefix, "") {
            Found::Known(keys) => keys,
            Found::Waiting(registry) => return Found::Waiting(registry),
            Found::Failed(why) => return Found::Failed(why),
        };
        for (path, key) in keys {
            let rest = path.strip_prefix(&*scope.prefix).unwrap_or(&path);
            let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
            shown.insert(format!("/{}", parts.join("/")), Arc::clone(&key.value));
        }
    }
    Found::Known(shown)
}

/// Nodes by name.
pub(super) type NodesByName = BTreeMap<Arc<str>, Arc<Node>>;

/// All nodes: those that registries list, and those of the instances of registries that list none.
pub(super) fn nodes(scope: &Scope, snapshot: &Snapshot, datacenter: &str) -> Found<NodesByName> {
    let reach = reach!(scope, snapshot, datacenter);
    let unread = |status: &RegistryStatus| !status.heard || !status.parts.nodes;
    if let Some(registry) = reach.silent(snapshot, unread) {
        return Found::Waiting(registry);
    }
    let mut nodes = NodesByName::new();
    for told in snapshot.told.iter().filter(|told| reach.covers(&told.registry)) {
        if told.nodes.is_empty() {
            for node in of_instances(told) {
                if !nodes.contains_key(&node.name) {
                    nodes.insert(Arc::clone(&node.name), Arc::new(node.clone()));
                }
            }
        }
        for (name, node) in told.nodes.iter() {
            nodes.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(node));
        }
    }
    Found::Known(nodes)
}

fn of_instances(told: &Told) -> impl Iterator<Item = &Node> {
    let instances = told.services.values().flat_map(|service| &service.instances);
    instances.filter_map(|instance| instance.node.as_ref())
}

/// A service and one of its instances.
pub(super) type Placed = (Arc<str>, Arc<Instance>);

/// A node and what runs on it, by id; none when there is no such node.
pub(super) fn node(
    scope: &Scope,
    snapshot: &Snapshot,
    name: &str,
    datacenter: &str,
) -> Found<Option<(Arc<Node>, Vec<Placed>)>> {
    let name = if name.is_empty() { &*scope.host } else { name };
    let nodes = match nodes(scope, snapshot, datacenter) {
        Found::Known(nodes) => nodes,
        Found::Waiting(registry) => return Found::Waiting(registry),
        Found::Failed(why) => return Found::Failed(why),
    };
    let Some(node) = nodes.get(name) else { return Found::Known(None) };
    let reach = reach!(scope, snapshot, datacenter);
    if let Some(registry) = reach.silent(snapshot, |status| *status.known != Wanted::All) {
        return Found::Waiting(registry);
    }
    let mut placed: Vec<Placed> = Vec::new();
    for (service, united) in snapshot.services.iter() {
        let here = |instance: &&Arc<Instance>| {
            node_name(instance) == name && reach.covers(&instance.registry)
        };
        let here = united.instances.iter().filter(here);
        placed.extend(here.map(|instance| (Arc::clone(service), Arc::clone(instance))));
    }
    placed.sort_by(|a, b| (id(&a.1), &a.0).cmp(&(id(&b.1), &b.0)));
    Found::Known(Some((Arc::clone(node), placed)))
}

/// The datacenters that registries follow, sorted.
pub(super) fn datacenters(scope: &Scope, snapshot: &Snapshot) -> Found<Vec<Arc<str>>> {
    let reach = scope.registry.clone().map_or(Reach::All, Reach::Only);
    let unread = |status: &RegistryStatus| {
        !status.heard || status.datacenter.is_none() && !status.parts.nodes
    };
    if let Some(registry) = reach.silent(snapshot, unread) {
        return Found::Waiting(registry);
    }
    let concerned = snapshot.registries.iter().filter(|status| reach.covers(&status.name));
    let mut found: Vec<_> = concerned.filter_map(|status| status.datacenter.clone()).collect();
    found.sort_unstable();
    found.dedup();
    Found::Known(found)
}

/// Whether some registry that is shown does not answer.
pub(super) fn is_stale(scope: &Scope, snapshot: &Snapshot) -> bool {
    let reach = scope.registry.clone().map_or(Reach::All, Reach::Only);
    let silent = |status: &RegistryStatus| !status.heard || status.stale.is_some();
    reach.silent(snapshot, silent).is_some()
}

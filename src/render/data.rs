//! What a template sees: a lazy view of one snapshot that remembers what was asked for.

mod answer;
mod files;
mod instances;
mod laid_out;
mod notes;
mod pairs;
mod records;
mod scope;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

pub use scope::Scope;
pub(super) use view::View;

use super::engine::go::value::Value;
use super::functions::Query;
use super::functions::query::ServiceQuery;
use crate::catalog::{Instance, Interest, Snapshot};
use answer::Found;
use files::Files;
use instances::look_the_same;
use scope::Reach;

/// What a template wants of the registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// Of every registry.
    pub everywhere: Interest,
    /// Of single ones, by name.
    pub of: BTreeMap<Arc<str>, Interest>,
}

impl Want {
    /// Wants what `other` wants too.
    pub fn add(&mut self, other: &Self) {
        self.everywhere.add(&other.everywhere);
        for (registry, interest) in &other.of {
            self.of.entry(Arc::clone(registry)).or_default().add(interest);
        }
    }
}

/// What a template asked for while it was evaluated; the same answers give the same output.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    scope: Arc<Scope>,
    /// Queries for instances behind the service that answers them, sorted by it.
    services: Vec<(Arc<str>, Arc<ServiceQuery>)>,
    /// The datacenters that they name.
    elsewhere: BTreeSet<String>,
    /// Services of which everything is shown, as Jinja does.
    whole: BTreeSet<Arc<str>>,
    /// Whether names without tags were asked for.
    names: bool,
    /// Everything else that a Go template asked for.
    others: BTreeSet<Query>,
    /// What was not known.
    missing: BTreeSet<Query>,
    missing_whole: BTreeSet<Arc<str>>,
    missing_names: bool,
    files: Files,
    want: Want,
    /// What the file waits for, in words.
    waiting: Option<Arc<str>>,
}

impl Asked {
    /// Whether an answer is another one in `now` than in `before`. Costs what was asked for without
    /// an answer, and what changed; what a template cannot see is no difference.
    ///
    /// While something is not known, nothing else counts: the file is not written anyway.
    #[must_use]
    pub fn differs(&self, before: &Snapshot, now: &Snapshot) -> bool {
        if self.lacks_any() {
            return self.is_known_now(now)
                || self.missing.iter().any(|query| self.scope.moved(before, now, query));
        }
        self.services_differ(before, now) || {
            let keys = changed_keys(before, now);
            self.others.iter().any(|query| self.differs_in(query, before, now, &keys))
        }
    }

    fn lacks_any(&self) -> bool {
        self.missing_names || !self.missing.is_empty() || !self.missing_whole.is_empty()
    }

    /// Whether all that was not known is known now.
    fn is_known_now(&self, now: &Snapshot) -> bool {
        let known = |query: &Query| !matches!(self.scope.answer(now, query), Found::Waiting(_));
        self.missing.iter().all(known)
            && self.missing_whole.iter().all(|name| self.scope.silent_of(now, name).is_none())
            && (!self.missing_names
                || matches!(answer::names(&self.scope, now, ""), Found::Known(_)))
    }

    fn services_differ(&self, before: &Snapshot, now: &Snapshot) -> bool {
        if self.services.is_empty() && self.whole.is_empty() && !self.names {
            return false;
        }
        let mut differs = false;
        now.changes_since(before, |(name, was, is)| {
            if differs {
                return;
            }
            differs |= self.names && was.is_some() != is.is_some();
            differs |= self.queries_of(name).any(|query| {
                let seen = |snapshot| instances::instances(&self.scope, snapshot, query);
                match (seen(before), seen(now)) {
                    (Found::Known(was), Found::Known(is)) => !look_the_same(&was, &is),
                    (was, is) => was != is,
                }
            });
            if self.whole.contains(&**name) {
                differs |= match (was, is) {
                    (Some(was), Some(is)) => {
                        !look_whole(&was.eligible, &is.eligible)
                            || !look_whole(&was.instances, &is.instances)
                    }
                    (None, None) => false,
                    _ => true,
                };
            }
        });
        differs
            || self.elsewhere.iter().any(|datacenter| self.scope.turned(before, now, datacenter))
    }

    /// The queries that the service called `name` answers.
    fn queries_of(&self, name: &Arc<str>) -> impl Iterator<Item = &ServiceQuery> {
        let first = self.services.partition_point(|(asked, _)| asked < name);
        let behind = self.services.get(first..).unwrap_or_default().iter();
        behind.take_while(move |(asked, _)| asked == name).map(|(_, query)| &**query)
    }

    /// Whether the answer to `query` is another one; `keys` are the paths of those that changed.
    fn differs_in(
        &self,
        query: &Query,
        before: &Snapshot,
        now: &Snapshot,
        keys: &BTreeSet<Arc<str>>,
    ) -> bool {
        let scope = &*self.scope;
        let touched = |prefix: &str| keys.iter().any(|path| path.starts_with(prefix));
        let moved = |datacenter: &str| scope.turned(before, now, datacenter);
        let unchanged = before.services.same(&now.services);
        match query {
            Query::Service(_) | Query::File(_) => false,
            Query::Services(datacenter) => {
                (!unchanged || moved(datacenter))
                    && answer::names(scope, before, datacenter)
                        != answer::names(scope, now, datacenter)
            }
            Query::Key(path, datacenter) => {
                let value = |snapshot| {
                    answer::key(scope, snapshot, path, datacenter)
                        .map(|key| key.map(|key| Arc::clone(&key.value)))
                };
                (keys.contains(&**path) || moved(datacenter)) && value(before) != value(now)
            }
            Query::Tree(prefix, datacenter) => {
                let tree = |snapshot| answer::tree(scope, snapshot, prefix, datacenter);
                (touched(prefix) || moved(datacenter)) && tree(before) != tree(now)
            }
            Query::Store if scope.catalog_keys => laid_out::differs(scope, before, now),
            Query::Store => {
                scope.keys.iter().any(|prefix| touched(prefix))
                    && answer::store(scope, before) != answer::store(scope, now)
            }
            Query::Nodes(datacenter, _) => {
                let nodes = |snapshot| answer::nodes(scope, snapshot, datacenter);
                (!unchanged || !same_nodes(before, now)) && nodes(before) != nodes(now)
            }
            Query::Node(name, datacenter) => {
                if unchanged && same_nodes(before, now) {
                    return false;
                }
                let node = |snapshot| answer::node(scope, snapshot, name, datacenter);
                match (node(before), node(now)) {
                    (Found::Known(Some((was, on))), Found::Known(Some((is, of)))) => {
                        let split = |placed: Vec<answer::Placed>| placed.into_iter().unzip();
                        let (was_names, on): (Vec<_>, Vec<_>) = split(on);
                        let (is_names, of): (Vec<_>, Vec<_>) = split(of);
                        was != is || was_names != is_names || !look_the_same(&on, &of)
                    }
                    (was, is) => was != is,
                }
            }
            Query::Datacenters => {
                answer::datacenters(scope, before) != answer::datacenters(scope, now)
            }
            Query::Generation => before.generation != now.generation,
            Query::Stale => answer::is_stale(scope, before) != answer::is_stale(scope, now),
        }
    }

    /// What must be known before the file is rendered, in words: the name of a registry whose
    /// silence may be why something is missing, or a key that must be there.
    #[must_use]
    pub const fn waits_for(&self) -> Option<&Arc<str>> {
        self.waiting.as_ref()
    }

    /// What registries have to follow for these answers.
    #[must_use]
    pub const fn want(&self) -> &Want {
        &self.want
    }

    /// What was asked for, in words, sorted: services, keys, files.
    #[must_use]
    pub fn inputs(&self) -> Vec<String> {
        let queried = self.services.iter().map(|(name, _)| name);
        let services = queried.chain(&self.whole).collect::<BTreeSet<_>>();
        let services = services.into_iter().map(|name| format!("service {name:?}"));
        let names = self.names.then(|| "services".to_owned());
        let others = self.others.iter().map(|query| match query {
            Query::Service(query) => format!("service {:?}", query.name),
            Query::Services(_) => "services".into(),
            Query::Node(name, _) => format!("node {name:?}"),
            Query::Nodes(..) => "nodes".into(),
            Query::Datacenters => "datacenters".into(),
            Query::Key(path, _) => format!("key {path:?}"),
            Query::Tree(prefix, _) => format!("keys below {prefix:?}"),
            Query::Store => "keys".into(),
            Query::File(path) => format!("file {path}"),
            Query::Generation => "generation".into(),
            Query::Stale => "stale".into(),
        });
        names.into_iter().chain(services).chain(others).collect()
    }

    /// Returns when a file that was read is another one; never when none was.
    pub(super) fn files_changed(&self) -> impl Future<Output = ()> + Send + use<> {
        files::changed(&self.files)
    }
}

/// Whether nothing differs but why instances stand as they do.
fn look_whole(a: &[Arc<Instance>], b: &[Arc<Instance>]) -> bool {
    let same = |(a, b): (&Arc<Instance>, &Arc<Instance>)| {
        Arc::ptr_eq(a, b) || {
            let told = Instance { cause: Arc::clone(&b.cause), ..Instance::clone(a) };
            told == **b
        }
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// The paths of the keys that are not the same in both; costs what changed.
fn changed_keys(before: &Snapshot, now: &Snapshot) -> BTreeSet<Arc<str>> {
    let mut paths = BTreeSet::new();
    let registries = before.keys.iter().chain(&now.keys).map(|(registry, _)| registry);
    for registry in registries.collect::<BTreeSet<_>>() {
        let none = crate::catalog::Keys::default();
        let (was, is) = (before.keys_of(registry), now.keys_of(registry));
        is.unwrap_or(&none).changes_since(was.unwrap_or(&none), |(path, _, _)| {
            paths.insert(Arc::clone(path));
        });
    }
    paths
}

fn same_nodes(before: &Snapshot, now: &Snapshot) -> bool {
    before.told.len() == now.told.len()
        && before.told.iter().zip(&now.told).all(|(a, b)| a.nodes.same(&b.nodes))
}

impl Scope {
    /// What is known about `query`, as a value.
    fn answer(&self, snapshot: &Snapshot, query: &Query) -> Found<Value> {
        match query {
            Query::Service(query) => instances::instances(self, snapshot, query)
                .map(|found| records::instances(query.service(), found)),
            Query::Services(datacenter) => {
                answer::names(self, snapshot, datacenter).map(records::names)
            }
            Query::Node(name, datacenter) => {
                answer::node(self, snapshot, name, datacenter).map(records::node)
            }
            Query::Nodes(datacenter, near) => {
                let near = if near == "_agent" { &*self.host } else { near };
                let found = answer::nodes(self, snapshot, datacenter);
                found.map(|found| records::nodes(&found, near))
            }
            Query::Datacenters => answer::datacenters(self, snapshot).map(Value::strings),
            Query::Key(path, datacenter) => {
                answer::key(self, snapshot, path, datacenter).map(pairs::key)
            }
            Query::Tree(prefix, datacenter) => answer::tree(self, snapshot, prefix, datacenter)
                .map(|keys| pairs::tree(prefix, keys)),
            Query::Store if self.catalog_keys => laid_out::store(self, snapshot).map(pairs::store),
            Query::Store => answer::store(self, snapshot).map(pairs::store),
            Query::Generation => Found::Known(Value::int(snapshot.generation as i64)),
            Query::Stale => Found::Known(answer::is_stale(self, snapshot).into()),
            Query::File(path) => match files::read(self, path).1 {
                Ok(text) => Found::Known(text.into()),
                Err(why) => Found::Failed(why),
            },
        }
    }

    /// Whether other registries follow `datacenter` than before.
    fn turned(&self, before: &Snapshot, now: &Snapshot, datacenter: &str) -> bool {
        !datacenter.is_empty() && self.reach(before, datacenter) != self.reach(now, datacenter)
    }

    /// Whether `query` has to be asked of other registries than before.
    fn moved(&self, before: &Snapshot, now: &Snapshot, query: &Query) -> bool {
        let datacenter = match query {
            Query::Service(query) => &query.datacenter,
            Query::Services(datacenter)
            | Query::Node(_, datacenter)
            | Query::Nodes(datacenter, _)
            | Query::Key(_, datacenter)
            | Query::Tree(_, datacenter) => datacenter,
            Query::Datacenters
            | Query::Store
            | Query::File(_)
            | Query::Generation
            | Query::Stale => return false,
        };
        self.turned(before, now, datacenter)
    }

    /// The registry that may have instances of the service called `name` while none is known.
    fn silent_of(&self, snapshot: &Snapshot, name: &str) -> Option<Arc<str>> {
        let reach = self.registry.clone().map_or(Reach::All, Reach::Only);
        let covers = |instance: &Arc<Instance>| reach.covers(&instance.registry);
        let known = snapshot.service(name).is_some_and(|found| found.instances.iter().any(covers));
        if known { None } else { reach.silent(snapshot, |status| status.unsure_of(name)) }
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;

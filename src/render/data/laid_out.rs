//! confd's keys when the catalog itself stands for them: what is known of each, and what that takes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::layout::{self, Concern, Pairs, Shown};
use super::answer::Found;
use super::scope::{Reach, Scope};
use crate::catalog::{Interest, RegistryStatus, Service, Snapshot, Wanted};

/// A snapshot that remembers what was looked at.
struct Looked<'a> {
    snapshot: &'a Snapshot,
    services: RefCell<BTreeSet<String>>,
    names: Cell<bool>,
}

impl Shown for Looked<'_> {
    fn service(&self, name: &str) -> Option<Arc<Service>> {
        if !self.names.get() {
            self.services.borrow_mut().insert(name.to_owned());
        }
        self.snapshot.service(name).map(Arc::clone)
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.names.set(true);
        let mut names: Vec<Arc<str>> =
            self.snapshot.services.iter().map(|(name, _)| Arc::clone(name)).collect();
        names.sort_unstable();
        names
    }

    fn generation(&self) -> u64 {
        self.snapshot.generation
    }
}

/// The keys of `scope`, by their paths.
pub(super) fn store(scope: &Scope, snapshot: &Snapshot) -> Found<BTreeMap<String, Arc<str>>> {
    let looked = Looked { snapshot, services: RefCell::default(), names: Cell::new(false) };
    let mut pairs = Pairs::new();
    for prefix in &scope.keys {
        layout::add(&looked, prefix, &mut pairs);
    }
    // What nobody has said yet is not absent.
    let unread = |status: &RegistryStatus| {
        !status.heard || !status.parts.names || *status.known != Wanted::All
    };
    let services = looked.services.take();
    let silent = looked.names.get().then(|| Reach::All.silent(snapshot, unread)).flatten();
    let silent =
        silent.or_else(|| services.iter().find_map(|name| scope.silent_of(snapshot, name)));
    match silent {
        Some(registry) => Found::Waiting(registry),
        None => {
            Found::Known(pairs.into_iter().map(|(key, value)| (key, Arc::from(value))).collect())
        }
    }
}

/// What registries have to follow for these keys.
pub(super) fn interest(scope: &Scope) -> Interest {
    let mut interest = Interest::default();
    for prefix in &scope.keys {
        match layout::concern(prefix) {
            Concern::Nothing | Concern::Generation => {}
            Concern::One(name) => {
                let services = Wanted::Names(BTreeSet::from([name.into()]));
                interest.add(&Interest { services, ..Interest::default() });
            }
            Concern::All => interest.add(&Interest::everything()),
        }
    }
    interest
}

/// Whether the keys are others in `now` than in `before`. Costs what changed, and the keys when
/// something of theirs did.
pub(super) fn differs(scope: &Scope, before: &Snapshot, now: &Snapshot) -> bool {
    let concerns: Vec<Concern> = scope.keys.iter().map(|prefix| layout::concern(prefix)).collect();
    if concerns.contains(&Concern::Generation) && before.generation != now.generation {
        return true;
    }
    let mut touched = false;
    now.changes_since(before, |(name, _, _)| {
        touched |= concerns.iter().any(|concern| match concern {
            Concern::Nothing | Concern::Generation => false,
            Concern::One(one) => **one == **name,
            Concern::All => true,
        });
    });
    touched && store(scope, before) != store(scope, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Address, Instance};

    fn snapshot(generation: u64, services: &[(&str, &str)], heard: bool) -> Snapshot {
        let mut snapshot = Snapshot { generation, ..Snapshot::default() };
        let status = RegistryStatus { name: "r".into(), heard, ..RegistryStatus::default() };
        snapshot.registries = Arc::new([status]);
        for (name, address) in services {
            let instance = Instance::bare("r", "a", Address::parse(address).unwrap());
            let instances: Arc<[Arc<Instance>]> = Arc::new([Arc::new(instance)]);
            let service = Service {
                name: (*name).into(),
                tags: Arc::new([]),
                meta: Arc::default(),
                eligible: Arc::clone(&instances),
                instances,
                problems: Arc::new([]),
            };
            snapshot.services.insert((*name).into(), Arc::new(service));
        }
        snapshot
    }

    fn scope(keys: &[&str]) -> Scope {
        let keys = keys.iter().map(|key| (*key).into()).collect();
        Scope { keys, catalog_keys: true, ..Scope::default() }
    }

    #[test]
    fn a_registry_that_was_not_heard_is_waited_for_where_it_may_know_more() {
        let known = |keys: &[&str], services: &[(&str, &str)], heard| {
            matches!(store(&scope(keys), &snapshot(1, services, heard)), Found::Known(_))
        };
        let web = [("web", "10.0.0.1")];
        assert!(known(&["services/web"], &web, true));
        assert!(known(&["services/web"], &web, false), "it is there, whoever else is silent");
        assert!(!known(&["services/db"], &web, false));
        assert!(known(&["services/db"], &web, true));
        assert!(!known(&["services"], &web, false));
        assert!(known(&["generation"], &[], false));
    }

    #[test]
    fn only_changes_of_what_is_asked_for_make_a_difference() {
        let before = snapshot(1, &[("web", "10.0.0.1"), ("db", "10.0.0.2")], true);
        let mut now = before.clone();
        now.generation = 2;
        let other = snapshot(2, &[("db", "10.0.0.3")], true);
        now.services.insert("db".into(), Arc::clone(other.service("db").unwrap()));
        for (keys, want) in [
            (&["services/web"][..], false),
            (&["services/db"], true),
            (&["services/db/a/port"], false),
            (&["names"], false),
            (&["services"], true),
            (&["services/web", "generation"], true),
            (&["other"], false),
        ] {
            assert_eq!(differs(&scope(keys), &before, &now), want, "{keys:?}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_followed() {
        let one = interest(&scope(&["services/web", "generation", "other"]));
        assert!(one.wants("web") && !one.wants("db") && !one.names);
        assert_eq!(interest(&scope(&["tags/v1"])), Interest::everything());
    }
}

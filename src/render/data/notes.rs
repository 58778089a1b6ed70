//! What an evaluation asks for, noted as it comes, and put in order once at its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::functions::Query;
use super::super::functions::query::ServiceQuery;
use super::files::Mark;
use super::scope::{Reach, Scope, Unreached};
use super::{Asked, laid_out};
use crate::catalog::{Interest, Snapshot, Wanted};

/// The notes of one evaluation.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// All but `services` and what these and `whole` want.
    asked: Asked,
    /// In the order in which they were asked.
    services: Vec<(Arc<str>, Arc<ServiceQuery>)>,
}

impl Notes {
    pub(super) fn new(scope: Arc<Scope>) -> Self {
        Self { asked: Asked { scope, ..Asked::default() }, services: Vec::new() }
    }

    /// `query` was asked, not a file's.
    pub(super) fn query(&mut self, snapshot: &Snapshot, query: &Query) {
        let asked = &mut self.asked;
        match query {
            // Each comes once: who asks keeps the answers.
            Query::Service(query) => {
                self.services.push((query.service(), Arc::clone(query)));
                return;
            }
            Query::Services(datacenter) => asked.wish(snapshot, datacenter, |i| i.names = true),
            Query::Node(_, datacenter) => asked.wish(snapshot, datacenter, |interest| {
                interest.add(&Interest::everything());
                interest.nodes = true;
            }),
            Query::Nodes(datacenter, _) => asked.wish(snapshot, datacenter, |i| i.nodes = true),
            Query::Datacenters => {
                for status in snapshot.registries.iter().filter(|one| one.datacenter.is_none()) {
                    asked.want.of.entry(Arc::clone(&status.name)).or_default().nodes = true;
                }
            }
            Query::Key(path, datacenter) | Query::Tree(path, datacenter) => {
                asked.wish(snapshot, datacenter, |interest| {
                    interest.keys.insert(path.as_str().into());
                });
            }
            Query::Store if asked.scope.catalog_keys => {
                let interest = laid_out::interest(&asked.scope);
                asked.want.everywhere.add(&interest);
            }
            Query::Store => {
                let scope = Arc::clone(&asked.scope);
                let keys = scope.keys.iter().cloned();
                asked.wish(snapshot, "", |interest| interest.keys.extend(keys));
            }
            Query::File(_) | Query::Generation | Query::Stale => {}
        }
        asked.others.insert(query.clone());
    }

    /// The file at `path` was read when it stood as `mark` says.
    pub(super) fn file(&mut self, path: &str, mark: Option<Mark>) {
        self.asked.files.insert(path.to_owned(), mark);
        self.asked.others.insert(Query::File(path.to_owned()));
    }

    /// Everything about the service called `name` is shown.
    pub(super) fn whole(&mut self, snapshot: &Snapshot, name: &str) {
        let asked = &mut self.asked;
        if asked.whole.contains(name) {
            return;
        }
        let name: Arc<str> = name.into();
        if let Some(registry) = asked.scope.silent_of(snapshot, &name) {
            asked.missing_whole.insert(Arc::clone(&name));
            asked.waiting.get_or_insert(registry);
        }
        asked.whole.insert(name);
    }

    /// The names of all services are shown; `silent` may know more.
    pub(super) fn names(&mut self, snapshot: &Snapshot, silent: Option<&Arc<str>>) {
        self.asked.names = true;
        self.asked.wish(snapshot, "", |interest| interest.names = true);
        if let Some(registry) = silent {
            self.asked.missing_names = true;
            self.asked.waiting.get_or_insert_with(|| Arc::clone(registry));
        }
    }

    /// `query` was asked, which `registry` may answer some time.
    pub(super) fn missing(&mut self, query: &Query, registry: &Arc<str>) {
        self.asked.missing.insert(query.clone());
        self.asked.waiting.get_or_insert_with(|| Arc::clone(registry));
    }

    /// The file waits for what `told` says, unless it waits for the answer to `query` anyway.
    pub(super) fn lacks(&mut self, query: &Query, told: String) {
        if !self.asked.missing.contains(query) {
            self.asked.waiting.get_or_insert_with(|| told.into());
        }
    }

    /// All of it in order, with what is wanted of registries.
    pub(super) fn sealed(self, snapshot: &Snapshot) -> Asked {
        let Self { mut asked, mut services } = self;
        services.sort_by(|(a, _), (b, _)| a.cmp(b));
        let here = services.iter().filter(|(_, query)| query.datacenter.is_empty());
        let here = here.map(|(name, _)| name).chain(&asked.whole).cloned();
        let mut names: BTreeSet<Arc<str>> = here.collect();
        if !names.is_empty() {
            asked.wish(snapshot, "", |interest| {
                if let Wanted::Names(own) = &mut interest.services {
                    own.append(&mut names);
                }
            });
        }
        for (name, query) in services.iter().filter(|(_, query)| !query.datacenter.is_empty()) {
            asked.wish(snapshot, &query.datacenter, |interest| {
                if let Wanted::Names(own) = &mut interest.services {
                    own.insert(Arc::clone(name));
                }
            });
            if !asked.elsewhere.contains(&query.datacenter) {
                asked.elsewhere.insert(query.datacenter.clone());
            }
        }
        asked.services = services;
        asked
    }
}

impl Asked {
    /// What is wanted of the registries that follow `datacenter`.
    fn wish(&mut self, snapshot: &Snapshot, datacenter: &str, wish: impl FnOnce(&mut Interest)) {
        match self.scope.reach(snapshot, datacenter) {
            Ok(Reach::All) => wish(&mut self.want.everywhere),
            Ok(Reach::Only(registry)) => wish(self.want.of.entry(registry).or_default()),
            Err(Unreached::Unsure(registries)) => {
                for registry in registries {
                    self.want.of.entry(registry).or_default().nodes = true;
                }
            }
            Err(Unreached::Nobody(_)) => {}
        }
    }
}

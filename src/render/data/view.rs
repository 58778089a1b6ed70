//! One snapshot as the template of one evaluation sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::functions::{Answer, Query, Source};
use super::answer::{self, Found};
use super::notes::Notes;
use super::{Asked, Scope, files};
use crate::catalog::{Instance, Service, Snapshot};

/// One snapshot, as the template of one evaluation sees it.
#[derive(Debug)]
pub(in crate::render) struct View {
    snapshot: Arc<Snapshot>,
    scope: Arc<Scope>,
    notes: Mutex<Notes>,
    /// When the evaluation is given up.
    deadline: Option<Instant>,
}

impl View {
    pub(in crate::render) fn new(
        snapshot: Arc<Snapshot>,
        scope: Arc<Scope>,
        deadline: Option<Instant>,
    ) -> Self {
        let notes = Mutex::new(Notes::new(Arc::clone(&scope)));
        Self { snapshot, scope, notes, deadline }
    }

    /// When the evaluation is given up.
    pub(in crate::render) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The instances of the service called `name` that get work.
    pub(in crate::render) fn eligible(&self, name: &str) -> Arc<[Arc<Instance>]> {
        self.whole(name).map(|service| self.shown(&service.eligible)).unwrap_or_default()
    }

    /// All instances of the service called `name`.
    pub(in crate::render) fn all(&self, name: &str) -> Arc<[Arc<Instance>]> {
        self.whole(name).map(|service| self.shown(&service.instances)).unwrap_or_default()
    }

    /// Those of the registries that are shown; copies nothing when all are.
    fn shown(&self, instances: &Arc<[Arc<Instance>]>) -> Arc<[Arc<Instance>]> {
        match &self.scope.registry {
            None => Arc::clone(instances),
            Some(only) => instances.iter().filter(|i| i.registry == *only).cloned().collect(),
        }
    }

    fn whole(&self, name: &str) -> Option<&Arc<Service>> {
        self.notes().whole(&self.snapshot, name);
        self.snapshot.service(name)
    }

    /// The names of all services, sorted.
    pub(in crate::render) fn names(&self) -> Vec<Arc<str>> {
        let (names, silent) = match answer::names(&self.scope, &self.snapshot, "") {
            Found::Known(names) => (names, None),
            Found::Waiting(registry) => (Vec::new(), Some(registry)),
            Found::Failed(_) => (Vec::new(), None),
        };
        self.notes().names(&self.snapshot, silent.as_ref());
        names.into_iter().map(|(name, _)| name).collect()
    }

    /// The generation of the snapshot.
    pub(in crate::render) fn generation(&self) -> u64 {
        self.notes().query(&self.snapshot, &Query::Generation);
        self.snapshot.generation
    }

    /// Whether a registry that is shown does not answer.
    pub(in crate::render) fn stale(&self) -> bool {
        self.notes().query(&self.snapshot, &Query::Stale);
        answer::is_stale(&self.scope, &self.snapshot)
    }

    /// The template cannot go without another answer to `query`, which was answered.
    pub(in crate::render) fn lacks(&self, query: &Query) {
        let told = match query {
            Query::Key(path, _) => format!("key {path:?}"),
            Query::Tree(prefix, _) => format!("a key below {prefix:?}"),
            // Whoever may know it is told already.
            _ => return,
        };
        self.notes().lacks(query, told);
    }

    /// What was asked for; at the end of the evaluation, for it is taken out.
    pub(in crate::render) fn asked(&self) -> Asked {
        let notes = std::mem::take(&mut *self.notes());
        notes.sealed(&self.snapshot)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for View {
    fn ask(&self, query: &Query) -> Answer {
        if let Query::File(path) = query {
            let (mark, text) = files::read(&self.scope, path);
            self.notes().file(path, mark);
            return text.map_or_else(Answer::Failed, |text| Answer::Ready(text.into()));
        }
        let found = self.scope.answer(&self.snapshot, query);
        let mut notes = self.notes();
        notes.query(&self.snapshot, query);
        match found {
            Found::Known(value) => Answer::Ready(value),
            Found::Waiting(registry) => {
                notes.missing(query, &registry);
                Answer::NotYet
            }
            Found::Failed(why) => Answer::Failed(why),
        }
    }
}

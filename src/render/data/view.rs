//! One snapshot as the template of one evaluation sees it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::super::functions::{Answer, Query, Source};
use super::answer::{self, Found};
use super::{Asked, Scope, files, want};
use crate::catalog::{Instance, Snapshot};

/// One snapshot, as the template of one evaluation sees it.
#[derive(Debug)]
pub(in crate::render) struct View {
    snapshot: Arc<Snapshot>,
    scope: Arc<Scope>,
    asked: Mutex<Asked>,
    /// When the evaluation is given up.
    deadline: Option<Instant>,
}

impl View {
    pub(in crate::render) fn new(
        snapshot: Arc<Snapshot>,
        scope: Arc<Scope>,
        deadline: Option<Instant>,
    ) -> Self {
        let asked = Asked { scope: Arc::clone(&scope), ..Asked::default() };
        Self { snapshot, scope, asked: Mutex::new(asked), deadline }
    }

    /// When the evaluation is given up.
    pub(in crate::render) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The instances of the service called `name` that get work.
    pub(in crate::render) fn eligible(&self, name: &str) -> Arc<[Arc<Instance>]> {
        self.whole(name);
        let service = self.snapshot.service(name);
        service.map(|service| self.shown(&service.eligible)).unwrap_or_default()
    }

    /// All instances of the service called `name`.
    pub(in crate::render) fn all(&self, name: &str) -> Arc<[Arc<Instance>]> {
        self.whole(name);
        let service = self.snapshot.service(name);
        service.map(|service| self.shown(&service.instances)).unwrap_or_default()
    }

    /// Those of the registries that are shown; copies nothing when all are.
    fn shown(&self, instances: &Arc<[Arc<Instance>]>) -> Arc<[Arc<Instance>]> {
        match &self.scope.registry {
            None => Arc::clone(instances),
            Some(only) => instances.iter().filter(|i| i.registry == *only).cloned().collect(),
        }
    }

    fn whole(&self, name: &str) {
        let silent = self.scope.silent_of(&self.snapshot, name);
        self.note(|asked| {
            if asked.whole.contains(name) {
                return;
            }
            asked.whole.insert(name.to_owned());
            let service = name.into();
            asked.wish(&self.snapshot, "", |interest| want(interest, &service));
            if let Some(registry) = silent {
                asked.missing_whole.insert(name.to_owned());
                asked.waiting.get_or_insert(registry);
            }
        });
    }

    /// The names of all services, sorted.
    pub(in crate::render) fn names(&self) -> Vec<Arc<str>> {
        let found = answer::names(&self.scope, &self.snapshot, "");
        self.note(|asked| {
            asked.names = true;
            asked.wish(&self.snapshot, "", |interest| interest.names = true);
            if let Found::Waiting(registry) = &found {
                asked.missing_names = true;
                asked.waiting.get_or_insert_with(|| Arc::clone(registry));
            }
        });
        match found {
            Found::Known(names) => names.into_iter().map(|(name, _)| name).collect(),
            Found::Waiting(_) | Found::Failed(_) => Vec::new(),
        }
    }

    /// The generation of the snapshot.
    pub(in crate::render) fn generation(&self) -> u64 {
        self.note(|asked| asked.others.extend([Query::Generation]));
        self.snapshot.generation
    }

    /// Whether a registry that is shown does not answer.
    pub(in crate::render) fn stale(&self) -> bool {
        self.note(|asked| asked.others.extend([Query::Stale]));
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
        self.note(|asked| {
            if !asked.missing.contains(query) {
                asked.waiting.get_or_insert_with(|| told.into());
            }
        });
    }

    /// What was asked for so far.
    pub(in crate::render) fn asked(&self) -> Asked {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: impl FnOnce(&mut Asked)) {
        note(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Source for View {
    fn ask(&self, query: &Query) -> Answer {
        if let Query::File(path) = query {
            let (mark, text) = files::read(&self.scope, path);
            self.note(|asked| {
                asked.files.insert(path.clone(), mark);
                asked.others.insert(query.clone());
            });
            return text.map_or_else(Answer::Failed, |text| Answer::Ready(text.into()));
        }
        let found = self.scope.answer(&self.snapshot, query);
        self.note(|asked| {
            asked.note(&self.snapshot, query);
            if let Found::Waiting(registry) = &found {
                asked.missing.insert(query.clone());
                asked.waiting.get_or_insert_with(|| Arc::clone(registry));
            }
        });
        match found {
            Found::Known(value) => Answer::Ready(value),
            Found::Waiting(_) => Answer::NotYet,
            Found::Failed(why) => Answer::Failed(why),
        }
    }
}

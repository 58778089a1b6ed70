//! What a template sees: a lazy view of one snapshot that remembers what was asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::{Interest, Service, Snapshot, Wanted};

/// What a template asked for while it was evaluated; the same answers give the same output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Services by name, there or not.
    pub services: BTreeSet<String>,
    /// Whether it asked which services there are.
    pub names: bool,
    /// Whether it asked for the generation, which makes every change its own.
    pub generation: bool,
}

impl Asked {
    /// Whether an answer is another one in `now` than in `before`. Costs what was asked for, and
    /// what changed when the names were.
    #[must_use]
    pub fn differs(&self, before: &Snapshot, now: &Snapshot) -> bool {
        if self.generation && before.generation != now.generation {
            return true;
        }
        let same = |name: &String| match (before.service(name), now.service(name)) {
            (None, None) => true,
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        if !self.services.iter().all(same) {
            return true;
        }
        let mut named_otherwise = false;
        if self.names {
            now.changes_since(before, |(_, was, is)| {
                named_otherwise |= was.is_some() != is.is_some();
            });
        }
        named_otherwise
    }

    /// A registry whose silence may be why something is missing: one that was never heard while the
    /// names were asked for, or that did not read a service which is not there. Absence is then not
    /// a fact.
    #[must_use]
    pub fn waits_for<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Arc<str>> {
        let silent = || snapshot.registries.iter().find(|registry| !registry.heard);
        let named = silent().filter(|_| self.names).map(|registry| &registry.name);
        let mut missing = self.services.iter().filter(|name| snapshot.service(name).is_none());
        named.or_else(|| missing.find_map(|name| snapshot.unsure_of(name)))
    }

    /// How many things it asked for.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.services.len() + usize::from(self.names) + usize::from(self.generation)
    }

    /// What registries have to follow for these answers.
    #[must_use]
    pub fn interest(&self) -> Interest {
        let names = self.services.iter().map(|name| Arc::from(&**name)).collect();
        Interest { services: Wanted::Names(names), names: self.names, ..Interest::default() }
    }
}

/// One snapshot, as the template of one evaluation sees it.
#[derive(Debug)]
pub(super) struct View {
    snapshot: Arc<Snapshot>,
    asked: Mutex<Asked>,
}

impl View {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, asked: Mutex::default() }
    }

    /// The service called `name`; copies nothing of it.
    pub(super) fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.note(|asked| {
            if !asked.services.contains(name) {
                asked.services.insert(name.to_owned());
            }
        });
        self.snapshot.service(name).map(Arc::clone)
    }

    /// The names of all services, sorted.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.note(|asked| asked.names = true);
        let mut names: Vec<_> =
            self.snapshot.services.iter().map(|(name, _)| Arc::clone(name)).collect();
        names.sort_unstable();
        names
    }

    /// The generation of the snapshot.
    pub(super) fn generation(&self) -> u64 {
        self.note(|asked| asked.generation = true);
        self.snapshot.generation
    }

    /// What was asked for so far.
    pub(super) fn asked(&self) -> Asked {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: impl FnOnce(&mut Asked)) {
        note(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

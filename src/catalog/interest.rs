//! What zones, routes and templates want, so that registries follow only that.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Which services are wanted with their instances.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Wanted {
    /// All that there are.
    #[default]
    All,
    /// Those of these names.
    Names(BTreeSet<Arc<str>>),
}

impl Wanted {
    /// Whether the service called `name` is among them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.contains(name),
        }
    }
}

/// What is wanted of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// The services whose instances are wanted.
    pub services: Wanted,
    /// Whether the names of all services are wanted.
    pub names: bool,
    /// Prefixes of wanted keys; `""` wants all.
    pub keys: BTreeSet<Arc<str>>,
    /// Whether the list of all nodes is wanted.
    pub nodes: bool,
}

impl Default for Interest {
    fn default() -> Self {
        Self {
            services: Wanted::Names(BTreeSet::new()),
            names: false,
            keys: BTreeSet::new(),
            nodes: false,
        }
    }
}

impl Interest {
    /// All services, no key and no list of nodes: what a zone wants.
    #[must_use]
    pub const fn everything() -> Self {
        Self { services: Wanted::All, names: true, keys: BTreeSet::new(), nodes: false }
    }

    /// Whether the instances of the service called `name` are wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.services.contains(name)
    }

    /// Wants what `other` wants too.
    pub fn add(&mut self, other: &Self) {
        match (&mut self.services, &other.services) {
            (Wanted::Names(own), Wanted::Names(more)) => own.extend(more.iter().cloned()),
            (own, Wanted::All) => *own = Wanted::All,
            (Wanted::All, Wanted::Names(_)) => {}
        }
        self.names |= other.names;
        self.keys.extend(other.keys.iter().cloned());
        self.nodes |= other.nodes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanting_all_swallows_names_and_nothing_is_ever_taken_away() {
        let mut interest = Interest::default();
        assert!(!interest.wants("web"));
        let names = BTreeSet::from(["web".into()]);
        interest.add(&Interest { services: Wanted::Names(names), ..Interest::default() });
        assert!(interest.wants("web") && !interest.wants("db"));
        interest.add(&Interest::everything());
        interest.add(&Interest::default());
        assert!(interest.wants("db") && interest.names);
    }
}

//! What operators say about services beyond their registries, as the catalog needs it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::health::WhenNoneHealthy;
use super::model::{Instance, Meta};
use super::wish;

/// What an operator says about one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSettings {
    /// Who is eligible when nobody is healthy.
    pub when_none_healthy: WhenNoneHealthy,
    /// Replaces every registered port by this one, unnamed.
    pub port: Option<u16>,
    /// Whether its instances have to pass checks of their own before they get work.
    pub checked: bool,
    /// The service whose eligible instances take over when none here is healthy.
    pub backup: Option<Arc<str>>,
}

/// Settings by service name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    by_name: BTreeMap<Arc<str>, ServiceSettings>,
    /// The services that each one stands in for.
    stands_in_for: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Whether services may ask for checks in their registry.
    may_ask: bool,
}

/// What an instance has to do with checks beyond its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Nobody asks it.
    No,
    /// Its service asks for it in its registry.
    Asked,
    /// The operator has it asked.
    Configured,
}

/// What counts where nothing is said.
static NONE: ServiceSettings = ServiceSettings {
    when_none_healthy: WhenNoneHealthy::None,
    port: None,
    checked: false,
    backup: None,
};

impl FromIterator<(Arc<str>, ServiceSettings)> for Settings {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, ServiceSettings)>>(settings: I) -> Self {
        let by_name: BTreeMap<_, _> = settings.into_iter().collect();
        let mut stands_in_for: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        for (name, settings) in &by_name {
            if let Some(backup) = &settings.backup {
                stands_in_for.entry(Arc::clone(backup)).or_default().push(Arc::clone(name));
            }
        }
        Self { by_name, stands_in_for, may_ask: false }
    }
}

impl Settings {
    /// What is said about the service called `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> &ServiceSettings {
        self.by_name.get(name).unwrap_or(&NONE)
    }

    /// The same, and whether services may ask for checks in their registry.
    #[must_use]
    pub fn with_asking(self, may_ask: bool) -> Self {
        Self { may_ask, ..self }
    }

    /// Whether `instance` of the service called `name`, with this `meta`, is checked. A check that is
    /// configured stands in place of all that the service asks for.
    #[must_use]
    pub fn checked(&self, name: &str, meta: &Meta, instance: &Instance) -> Checked {
        if self.of(name).checked {
            Checked::Configured
        } else if self.may_ask && wish::of(meta, instance).is_some() {
            Checked::Asked
        } else {
            Checked::No
        }
    }

    /// Every service about which something is said.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &ServiceSettings)> {
        self.by_name.iter()
    }

    /// Adds to `names` those that one of them stands in for, and so on.
    pub fn with_dependents(&self, names: &mut HashSet<Arc<str>>) {
        if self.stands_in_for.is_empty() {
            return;
        }
        let mut open: Vec<Arc<str>> = names.iter().cloned().collect();
        while let Some(name) = open.pop() {
            for dependent in self.stands_in_for.get(&name).into_iter().flatten() {
                if names.insert(Arc::clone(dependent)) {
                    open.push(Arc::clone(dependent));
                }
            }
        }
    }

    /// `names` so that each stands behind the service that stands in for it.
    pub(super) fn in_order(&self, names: HashSet<Arc<str>>) -> Vec<Arc<str>> {
        let mut names: Vec<_> = names.into_iter().collect();
        if !self.stands_in_for.is_empty() {
            names.sort_by_cached_key(|name| self.depth(name));
        }
        names
    }

    /// How many services stand behind `name` in turn. A circle is refused in the configuration;
    /// here it only has to end.
    fn depth(&self, name: &str) -> usize {
        let mut depth = 0;
        let mut at = name;
        while let Some(backup) = &self.of(at).backup
            && depth <= self.by_name.len()
        {
            depth += 1;
            at = backup;
        }
        depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_comes_after_those_that_stand_in_for_it_and_changes_with_them() {
        let backed = |by: &str| ServiceSettings { backup: Some(by.into()), ..NONE.clone() };
        let settings: Settings =
            [("a".into(), backed("b")), ("b".into(), backed("c"))].into_iter().collect();
        let mut names = HashSet::from(["c".into(), "x".into()]);
        settings.with_dependents(&mut names);
        let order = settings.in_order(names);
        let place = |name: &str| order.iter().position(|n| &**n == name).unwrap();
        assert_eq!(order.len(), 4);
        assert!(place("c") < place("b") && place("b") < place("a"));
    }
}

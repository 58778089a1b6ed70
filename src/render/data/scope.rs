//! Which part of the catalog a template is shown, and which registries a question concerns.

use std::path::PathBuf;
use std::sync::Arc;

use crate::catalog::{RegistryStatus, Snapshot};

/// What a template may see: from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The registry whose services and keys are shown; none: those of all, by priority.
    pub registry: Option<Arc<str>>,
    /// Front of the paths of confd's keys that is not shown; no slash at either end.
    pub prefix: String,
    /// Prefixes of confd's keys, whole paths without a slash in front.
    pub keys: Vec<Arc<str>>,
    /// Whether confd's keys are those of the catalog itself.
    pub catalog_keys: bool,
    /// Files outside of this folder are refused to `file`; none for everywhere.
    pub sandbox: Option<PathBuf>,
    /// Largest file that `file` reads, in bytes.
    pub file_max: u64,
    /// The name of this host: the node that `node` without a name means.
    pub host: Arc<str>,
}

impl Default for Scope {
    /// Everything, of a host without a name.
    fn default() -> Self {
        Self {
            registry: None,
            prefix: String::new(),
            keys: Vec::new(),
            catalog_keys: false,
            sandbox: None,
            file_max: 16 << 20,
            host: Arc::from(""),
        }
    }
}

/// The registries that a question concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    All,
    Only(Arc<str>),
}

/// Why a question concerns none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreached {
    /// One of these may follow the datacenter; their lists of nodes will tell.
    Unsure(Vec<Arc<str>>),
    /// Nobody follows it: what to write.
    Nobody(String),
}

impl Scope {
    /// The registries that follow `datacenter`; without one those of the configuration.
    pub(super) fn reach(&self, snapshot: &Snapshot, datacenter: &str) -> Result<Reach, Unreached> {
        if datacenter.is_empty() {
            return Ok(self.registry.clone().map_or(Reach::All, Reach::Only));
        }
        let follows =
            |registry: &&RegistryStatus| registry.datacenter.as_deref() == Some(datacenter);
        let of_this_name = |registry: &&RegistryStatus| {
            registry.datacenter.is_none() && &*registry.name == datacenter
        };
        let all = || snapshot.registries.iter();
        if let Some(found) = all().find(follows).or_else(|| all().find(of_this_name)) {
            return Ok(Reach::Only(Arc::clone(&found.name)));
        }
        let unsure = |registry: &&RegistryStatus| {
            registry.datacenter.is_none() && (!registry.heard || !registry.parts.nodes)
        };
        let unsure: Vec<_> = all().filter(unsure).map(|found| Arc::clone(&found.name)).collect();
        if !unsure.is_empty() {
            return Err(Unreached::Unsure(unsure));
        }
        Err(Unreached::Nobody(format!(
            "no registry follows the datacenter {datacenter:?}; add a [registry.{datacenter}.consul] \
             with `datacenter = {datacenter:?}`"
        )))
    }
}

impl Reach {
    /// Whether the registry called `name` is concerned.
    pub(super) fn covers(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => **only == *name,
        }
    }

    /// The first one concerned that may know what we do not, by `unsure`; also one that is not
    /// there at all.
    pub(super) fn silent(
        &self,
        snapshot: &Snapshot,
        unsure: impl Fn(&RegistryStatus) -> bool,
    ) -> Option<Arc<str>> {
        let mut concerned =
            snapshot.registries.iter().filter(|one| self.covers(&one.name)).peekable();
        match self {
            // A snapshot from before the registry was configured.
            Self::Only(name) if concerned.peek().is_none() => Some(Arc::clone(name)),
            _ => concerned.find(|one| unsure(one)).map(|one| Arc::clone(&one.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Parts;

    fn snapshot(registries: &[(&str, Option<&str>, bool)]) -> Snapshot {
        let registries = registries.iter().map(|(name, datacenter, nodes)| RegistryStatus {
            name: (*name).into(),
            heard: true,
            datacenter: datacenter.map(Into::into),
            parts: Arc::new(Parts { nodes: *nodes, ..Parts::default() }),
            ..RegistryStatus::default()
        });
        Snapshot { registries: registries.collect(), ..Snapshot::default() }
    }

    #[test]
    fn a_datacenter_is_asked_of_the_registry_that_follows_it_or_may() {
        let only = |name: &str| Ok(Reach::Only(name.into()));
        let unsure = |name: &str| Err(Unreached::Unsure(vec![name.into()]));
        for (case, registries, asked, want) in [
            ("none named", &[("a", Some("dc1"), true)][..], "", Ok(Reach::All)),
            ("told", &[("a", Some("dc1"), true), ("b", Some("dc2"), true)], "dc2", only("b")),
            ("not told yet", &[("a", Some("dc1"), true), ("b", None, false)], "dc2", unsure("b")),
            ("by its name", &[("dc2", None, true)], "dc2", only("dc2")),
        ] {
            assert_eq!(Scope::default().reach(&snapshot(registries), asked), want, "{case}");
        }
        let nobody = Scope::default().reach(&snapshot(&[("a", Some("dc1"), true)]), "dc9");
        let Err(Unreached::Nobody(why)) = nobody else { panic!("{nobody:?}") };
        assert!(why.contains("[registry.dc9.consul]") && why.contains("datacenter = \"dc9\""));
    }
}

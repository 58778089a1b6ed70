//! How an endpoint that is out of the tables stands in the catalog. Pure.

use std::sync::Arc;

use super::downed::is_down;
use super::upstream::Endpoint;
use crate::catalog::assemble::Settings;
use crate::catalog::{Instance, Presence, Snapshot};

/// Services that stand behind each other at most.
const BACKUPS_MAX: usize = 16;

/// How an endpoint stands in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    NotLooked,
    Here,
    /// Here, and unhealthy.
    Down,
    Left,
    /// Its registry does not tell at the moment.
    Unsure,
}

/// How `endpoint` stands, `found` being the instance of its identity.
pub(super) fn standing(
    endpoint: &Endpoint,
    found: Option<&Arc<Instance>>,
    snapshot: &Snapshot,
) -> Standing {
    let at = endpoint.address;
    let there = |instance: &&Arc<Instance>| {
        instance.address.ip() == Some(at.ip())
            && instance.ports.iter().any(|port| port.number == at.port())
    };
    match found.filter(there) {
        Some(instance) if instance.presence == Presence::Leaving => Standing::Left,
        Some(instance) if is_down(instance) => Standing::Down,
        Some(_) => Standing::Here,
        None => {
            let registry = &endpoint.instance.registry;
            let silent = snapshot.registries.iter().any(|r| r.name == *registry && !r.heard);
            if silent { Standing::Unsure } else { Standing::Left }
        }
    }
}

/// The service called `name`, the one that stands in for it, and so on.
pub(super) fn chain(name: &str, settings: &Settings) -> Vec<Arc<str>> {
    let mut names = vec![Arc::from(name)];
    let mut at = name;
    while let Some(backup) = &settings.of(at).backup
        && names.len() <= BACKUPS_MAX
    {
        names.push(Arc::clone(backup));
        at = backup;
    }
    names
}

//! Names of DNS told by HTTP: why they are answered as they are, and as Mesos-DNS tells them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use super::publish::Tables;
use super::sight::Sight;
use crate::api::{self, MesosQuestion};
use crate::dns::Forwarder;
use crate::dns::explain::explain;
use crate::dns::inquire::type_of;
use crate::dns::mesos_api;
use crate::dns::wire::Name;

/// A function that tells why a name is answered as it is. What the catalog decided about an
/// instance, and since when, comes from `sight`; what is known of names that are not ours, from
/// `forwarder`.
pub(super) fn explainer(
    tables: &Arc<ArcSwap<Tables>>,
    sight: &Sight,
    forwarder: Forwarder,
) -> api::Explain {
    let (tables, sight) = (Arc::clone(tables), sight.clone());
    Arc::new(move |name, word, client| {
        let word = word.to_ascii_uppercase();
        let (name, qtype) = (Name::parse(name)?, type_of(&word)?);
        let tables = tables.load_full();
        let told = explain(&tables.dns, &tables.snapshot, &name, (&word, qtype), client);
        let mut value = serde_json::to_value(&told).map_err(|error| error.to_string())?;
        if told.code == "forwarded" {
            let forward = forwarder.told_of(tables.dns.settings(), &name, qtype);
            value["forward"] = serde_json::to_value(forward).unwrap_or_default();
        }
        let services = value["services"].as_array_mut();
        for service in services.into_iter().flatten() {
            let why = service["service"].as_str().and_then(|name| sight.why(name));
            let why = why.and_then(|why| serde_json::to_value(why).ok()).unwrap_or_default();
            let decided = why["instances"].as_array();
            for instance in service["instances"].as_array_mut().into_iter().flatten() {
                let same = |other: &&Value| {
                    other["id"] == instance["id"] && other["registry"] == instance["registry"]
                };
                let Some(other) = decided.and_then(|all| all.iter().find(same)) else { continue };
                instance["since"] = other["since"].clone();
                if instance["reason"].is_null() {
                    instance["reason"] = other["reason"].clone();
                }
            }
        }
        Ok(value)
    })
}

/// A function that gives the HTTP API of Mesos-DNS for a zone.
pub(super) fn mesos_faces(
    tables: &Arc<ArcSwap<Tables>>,
) -> Arc<dyn Fn(&str) -> axum::Router + Send + Sync> {
    let tables = Arc::clone(tables);
    Arc::new(move |zone| {
        let (tables, zone) = (Arc::clone(&tables), zone.to_owned());
        api::mesos(Arc::new(move |question| {
            let tables = tables.load();
            match question {
                MesosQuestion::Config => mesos_api::config(&tables.dns, &zone),
                MesosQuestion::Hosts(name) => mesos_api::hosts(&tables.dns, name),
                MesosQuestion::Services(name) => mesos_api::services(&tables.dns, name),
                MesosQuestion::Enumerate => {
                    mesos_api::enumerate(&tables.dns, &tables.snapshot, &zone)
                }
            }
        }))
    })
}

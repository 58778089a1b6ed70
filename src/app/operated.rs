//! What runs at whom operators spoke of, for the API, the status and the clock.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::publish::Tables;
use super::sight::Sight;
use crate::api::operate::told;
use crate::catalog::operations::{Operation, Operations, Target};
use crate::catalog::{Instance, Presence, Service, Snapshot};
use crate::proxy::departed::Departed;
use crate::proxy::upstream::Endpoint;

/// What has to be seen to tell of operations. Cheap to clone.
#[derive(Clone)]
pub(super) struct View {
    pub(super) tables: Arc<ArcSwap<Tables>>,
    pub(super) departed: Arc<Mutex<Departed>>,
    pub(super) sight: Sight,
    pub(super) operations: watch::Receiver<Arc<Operations>>,
}

impl View {
    /// Every operation, and who has left.
    pub(super) fn overview(&self) -> Value {
        let snapshot = Arc::clone(&self.tables.load().snapshot);
        let operations = Arc::clone(&self.operations.borrow());
        let told: Vec<Value> =
            operations.iter().map(|operation| self.told(operation, &snapshot)).collect();
        let departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "generation": snapshot.generation,
            "operations": told,
            "leaving": departed.leaving(Instant::now()),
        })
    }

    /// An operation, with what runs at whom it is about.
    pub(super) fn told(&self, operation: &Operation, snapshot: &Snapshot) -> Value {
        let mut told = told(operation);
        let mut instances = Vec::new();
        match &operation.target {
            Target::Instance { service, registry, id } => {
                let found = found(&operation.target, snapshot).map(|(_, instance)| instance);
                instances.push(self.instance(service, registry, id, found));
            }
            Target::Node(node) => {
                let mut services: Vec<_> = snapshot.services.values().collect();
                services.sort_by(|a, b| a.name.cmp(&b.name));
                for service in services {
                    let on = |i: &&Arc<Instance>| i.node.as_ref().is_some_and(|n| n.name == *node);
                    instances.extend(service.instances.iter().filter(on).map(|instance| {
                        let (registry, id) = (&instance.registry, &instance.id);
                        self.instance(&service.name, registry, id, Some(instance))
                    }));
                }
                let left = self.left(node, &instances);
                instances.extend(left);
            }
        }
        let in_flight: u64 = instances.iter().filter_map(|i| i["in_flight"].as_u64()).sum();
        if let Some(told) = told.as_object_mut() {
            told.insert("in_flight".into(), in_flight.into());
            told.insert("instances".into(), instances.into());
        }
        told
    }

    /// Instances of `node` that are gone while something still runs there; `listed` are not.
    fn left(&self, node: &str, listed: &[Value]) -> Vec<Value> {
        let listed = |registry: &str, id: &str| {
            listed.iter().any(|known| known["registry"] == registry && known["id"] == id)
        };
        let departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        departed
            .on_node(node)
            .filter(|(_, e)| !listed(&e.instance.registry, &e.instance.id) && e.in_flight() > 0)
            .map(|(service, endpoint)| {
                json!({
                    "service": service,
                    "registry": endpoint.instance.registry,
                    "id": endpoint.instance.id,
                    "node": node,
                    "state": "gone",
                    "in_flight": endpoint.in_flight(),
                    "endpoints": [
                        { "address": endpoint.address, "in_flight": endpoint.in_flight() }
                    ],
                })
            })
            .collect()
    }

    fn instance(
        &self,
        service: &Arc<str>,
        registry: &str,
        id: &str,
        found: Option<&Arc<Instance>>,
    ) -> Value {
        let (endpoints, in_flight) = self.running(service, registry, id);
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|e| json!({ "address": e.address, "in_flight": e.in_flight() }))
            .collect();
        json!({
            "service": service,
            "registry": registry,
            "id": id,
            "node": found.and_then(|found| found.node.as_ref()).map(|node| Arc::clone(&node.name)),
            "address": found.map(|found| found.address.to_string()),
            "state": found.map_or("gone", |found| match found.presence {
                Presence::Active => found.health.word(),
                Presence::Draining => "draining",
                Presence::Leaving => "leaving",
            }),
            "weight": found.map(|found| found.weight.value()),
            "in_flight": in_flight,
            "endpoints": endpoints,
        })
    }

    /// The endpoints of an instance, and what runs there and at those that it had.
    pub(super) fn running(
        &self,
        service: &Arc<str>,
        registry: &str,
        id: &str,
    ) -> (Vec<Arc<Endpoint>>, u32) {
        let tables = self.tables.load();
        let services = self.services(service);
        let own = |e: &&Arc<Endpoint>| *e.instance.registry == *registry && *e.instance.id == *id;
        let endpoints = services.iter().flat_map(|name| tables.proxy.all_endpoints(name));
        let endpoints: Vec<_> = endpoints.filter(own).cloned().collect();
        let listed: u32 = endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
        let departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        let out = departed.in_flight(&services, registry, id);
        (endpoints, listed + out)
    }

    /// The services whose upstreams may use instances of `service`.
    pub(super) fn services(&self, service: &Arc<str>) -> Vec<Arc<str>> {
        let mut names = HashSet::from([Arc::clone(service)]);
        self.sight.settings().with_dependents(&mut names);
        names.into_iter().collect()
    }
}

/// The instance that `target` is, when it is there.
pub(super) fn found<'a>(
    target: &Target,
    snapshot: &'a Snapshot,
) -> Option<(&'a Arc<Service>, &'a Arc<Instance>)> {
    let Target::Instance { service, registry, id } = target else { return None };
    let service = snapshot.service(service)?;
    let own = |i: &&Arc<Instance>| i.registry == *registry && i.id == *id;
    Some((service, service.instances.iter().find(own)?))
}

//! Which instances answer a query of a Go template, and what such a template sees of them. Pure.

use std::cmp::Ordering;
use std::sync::Arc;

use super::super::functions::query::{ServiceQuery, State};
use super::answer::Found;
use super::scope::Scope;
use crate::catalog::{Health, Instance, Presence, Snapshot};

/// How an instance stands, in the terms of Consul's checks.
pub(super) const fn state(instance: &Instance) -> State {
    match (instance.presence, instance.health) {
        (Presence::Draining | Presence::Leaving, _) => State::Maintenance,
        (Presence::Active, Health::Unhealthy) => State::Critical,
        (Presence::Active, Health::Warning) => State::Warning,
        (Presence::Active, Health::Unknown | Health::Healthy) => State::Passing,
    }
}

/// The id as its registry spells it.
pub(super) fn id(instance: &Instance) -> &Arc<str> {
    instance.meta.get("consul.id").unwrap_or(&instance.id)
}

/// The name of the node, or `""`.
pub(super) fn node_name(instance: &Instance) -> &str {
    instance.node.as_ref().map_or("", |node| &node.name)
}

/// The instances that `query` asks for, by node and then by id; those of the node that it wants
/// near come first. Copies nothing when they are all that `service` has, in the order that it has.
pub(super) fn instances(
    scope: &Scope,
    snapshot: &Snapshot,
    query: &ServiceQuery,
) -> Found<Arc<[Arc<Instance>]>> {
    if query.parameters.contains_key("sameness-group") {
        let why = "sameness groups are not followed; name the peer, as in \"web?peer=NAME\"";
        return Found::Failed(why.into());
    }
    let reach = match scope.reach(snapshot, &query.datacenter) {
        Ok(reach) => reach,
        Err(unreached) => return unreached.into(),
    };
    let name = query.service();
    let all = snapshot.service(&name).map(|service| &service.instances);
    let mut told = all.into_iter().flat_map(|all| all.iter());
    if !told.any(|instance| reach.covers(&instance.registry))
        && let Some(registry) = reach.silent(snapshot, |status| status.unsure_of(&name))
    {
        return Found::Waiting(registry);
    }
    let Some(all) = all else { return Found::Known(Arc::default()) };
    let asked = |one: &&Arc<Instance>| reach.covers(&one.registry) && is_asked(query, one);
    let near = if query.near == "_agent" { &*scope.host } else { &query.near };
    let order = |a: &Arc<Instance>, b: &Arc<Instance>| by_place(near, a, b);
    if all.iter().all(|one| asked(&one)) && all.is_sorted_by(|a, b| order(a, b).is_le()) {
        return Found::Known(Arc::clone(all));
    }
    let mut found: Vec<_> = all.iter().filter(asked).cloned().collect();
    found.sort_by(order);
    Found::Known(found.into())
}

/// Who comes first: those of the node `near`, then by node, then by id.
fn by_place(near: &str, a: &Instance, b: &Instance) -> Ordering {
    let (on, of) = (node_name(a), node_name(b));
    let far = |node: &str| !near.is_empty() && node != near;
    far(on).cmp(&far(of)).then_with(|| on.cmp(of)).then_with(|| id(a).cmp(id(b)))
}

fn is_asked(query: &ServiceQuery, instance: &Instance) -> bool {
    let fact =
        |key: &str, default: &'static str| instance.meta.get(key).map_or(default, |value| &**value);
    let bears = |(parameter, value): (&String, &String)| match parameter.as_str() {
        "ns" => fact("consul.namespace", "default") == value,
        "partition" => fact("consul.partition", "default") == value,
        _ => fact("consul.peer", "") == value,
    };
    query.states.contain(state(instance))
        && (query.tag.is_empty() || instance.has_tag(&query.tag))
        && query.parameters.iter().all(bears)
}

/// Whether a template sees no difference between the two. Why an instance stands as it does is
/// nothing that it sees.
pub(super) fn look_the_same(a: &[Arc<Instance>], b: &[Arc<Instance>]) -> bool {
    let same = |(a, b): (&Arc<Instance>, &Arc<Instance>)| {
        Arc::ptr_eq(a, b)
            || (id(a) == id(b)
                && a.address == b.address
                && a.port("") == b.port("")
                && a.tags == b.tags
                && a.meta == b.meta
                && a.weight == b.weight
                && a.node == b.node
                && state(a) == state(b))
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

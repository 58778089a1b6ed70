//! Blue-green pairs: two apps whose labels name the same `HAPROXY_DEPLOYMENT_GROUP` are one service
//! to clients, and the older one is emptied as far as the newer one serves. Pure.
//!
//! What is drained is what marathon-lb drains, but for two things: of a newer app without health
//! checks those instances count that run, not those that are wanted; and what labels ask for is
//! asked by the newer app.

use std::cmp::Ordering;
use std::sync::Arc;

use super::app::App;
use super::wanted::Words;
use crate::catalog::model::Meta;
use crate::catalog::{Health, Instance, Presence, SourceService};

/// Begins the labels that ask a balancer for something.
const ASKS: &str = "HAPROXY_";

/// The meta of an app's own service when it is one of a pair: what it asks a balancer for is asked
/// by the pair, once.
pub(super) fn without_wishes(meta: &Meta) -> Meta {
    // A balancer of all groups takes service ports alone for a wish.
    let wish = |key: &str| key.starts_with(ASKS) || key == "marathon.service-ports";
    let own = meta.iter().filter(|(key, _)| !wish(key));
    own.map(|(key, value)| (Arc::clone(key), Arc::clone(value))).collect()
}

/// The service called `name` of the `members` of one group; none without members.
pub(super) fn united(
    words: &Words,
    name: &Arc<str>,
    members: &[Arc<App>],
) -> Option<SourceService> {
    let mut members: Vec<&Arc<App>> = members.iter().collect();
    members.sort_by(|a, b| age(a, b));
    let (oldest, newest) = (*members.first()?, *members.last()?);
    let mut instances = oldest.instances.clone();
    for newer in members.iter().skip(1) {
        instances = merged(oldest, instances, newer);
    }
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    let mut problems: Vec<Arc<str>> = newest.problems.clone();
    if members.len() > 2 {
        let count = members.len();
        problems.push(format!("{count} apps are of one deployment group; two make a pair").into());
    }
    Some(SourceService {
        name: Arc::clone(name),
        tags: Arc::new([]),
        meta: Arc::new(meta(words, newest, oldest)),
        instances,
        problems,
        suspect: None,
    })
}

/// The older one first.
fn age(a: &App, b: &App) -> Ordering {
    let started = |app: &App| app.group.as_ref().map(|group| Arc::clone(&group.started_at));
    let started = started(a).cmp(&started(b));
    started.then_with(|| a.version.cmp(&b.version)).then_with(|| a.id.cmp(&b.id))
}

/// The `instances` of the `older` app and those of the `newer` one, of which the first ones of the
/// retiring app, in the order of their ids, are drained.
fn merged(older: &App, instances: Vec<Arc<Instance>>, newer: &App) -> Vec<Arc<Instance>> {
    let group = newer.group.as_ref();
    // With both colours to stay, the one that was scaled up last is the one that grows.
    let (one, other) = (&older.scale.grown_at, &newer.scale.grown_at);
    let swapped = group.is_some_and(|group| group.hybrid) && one > other;
    let (retiring, coming, grows) = if swapped {
        (newer.instances.clone(), instances, older)
    } else {
        (instances, newer.instances.clone(), newer)
    };
    let target = |app: &App| app.group.as_ref().and_then(|group| group.target);
    let target = target(grows).or_else(|| target(older)).or_else(|| target(newer)).unwrap_or(1);
    let stays = |instance: &&Arc<Instance>| instance.presence == Presence::Active;
    let serving = coming
        .iter()
        .filter(stays)
        .filter(|own| grows.checks == 0 || own.health == Health::Healthy)
        .count();
    let there = retiring.iter().filter(stays).count();
    let mut drained = serving.min((serving + there).saturating_sub(target));
    let mut all: Vec<Arc<Instance>> = retiring;
    all.sort_by(|a, b| a.id.cmp(&b.id));
    for instance in &mut all {
        if drained > 0 && instance.presence == Presence::Active {
            Arc::make_mut(instance).presence = Presence::Draining;
            drained -= 1;
        }
    }
    all.extend(coming);
    all
}

/// The meta of a pair: that of its newer app, under the pair's id. Where one of both stands in for the
/// other at a service port, the pair stays at the older one's: clients are there.
fn meta(words: &Words, newest: &App, oldest: &App) -> Meta {
    let mut meta = Meta::clone(&newest.meta);
    let Some(group) = &newest.group else { return meta };
    meta.insert(Arc::clone(&words.app), Arc::clone(&group.id));
    meta.insert(Arc::clone(&words.kind), Arc::clone(&words.kind_group));
    let Some(alternative) = group.alternative.map(|port| port.to_string()) else { return meta };
    let Some(own) = newest.meta.get(&words.service_ports) else { return meta };
    let other = oldest.meta.get(&words.service_ports).map_or("", |ports| &**ports);
    let other: Vec<&str> = other.split(',').collect();
    let ports = own.split(',').enumerate().map(|(index, port)| {
        let told = format!("HAPROXY_{index}_PORT");
        match other.get(index) {
            Some(other) if [port, other].contains(&&*alternative) && !meta.contains_key(&*told) => {
                *other
            }
            _ => port,
        }
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    meta.insert(Arc::clone(&words.service_ports), ports.into());
    meta
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;

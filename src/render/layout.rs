//! The catalog as keys, for templates that know keys only: confd's backend `catalog`.
//!
//! ```text
//! /services/SERVICE/INSTANCE/…   instances that get work: the set that DNS and proxy use
//! /instances/SERVICE/INSTANCE/…  all instances, with what speaks against some
//! /names/SERVICE                 how many instances get work; 0 stands there too
//! /meta/SERVICE/KEY              facts about the service
//! /tags/TAG/SERVICE              the services that bear a tag
//! /nodes/NODE/…                  the machines below the instances
//! /generation                    the number of the state, only for who asks for this key
//! ```
//!
//! What stands below an instance is listed at [`instance`]. A prefix is a folder or a key, and only
//! what is asked for is looked at: `/services/web` depends on that one service.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use crate::catalog::{Address, Instance, Presence, Service};

/// What the layout is made of. Whoever answers remembers what was asked.
pub(super) trait Shown {
    /// The service called `name`.
    fn service(&self, name: &str) -> Option<Arc<Service>>;
    /// The names of all services, sorted.
    fn names(&self) -> Vec<Arc<str>>;
    /// The number of the state.
    fn generation(&self) -> u64;
}

/// Which services the keys below a prefix are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Concern {
    /// None: there are no such keys.
    Nothing,
    /// Not the services, but the number of the state.
    Generation,
    /// The one of this name.
    One(String),
    /// All of them.
    All,
}

/// Which services the keys below `prefix` are made of.
pub(super) fn concern(prefix: &str) -> Concern {
    let mut parts = prefix.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some("services" | "instances" | "names" | "meta"), Some(name)) => {
            Concern::One(plain(name))
        }
        (None | Some("services" | "instances" | "names" | "meta" | "tags" | "nodes"), _) => {
            Concern::All
        }
        (Some("generation"), _) => Concern::Generation,
        (Some(_), _) => Concern::Nothing,
    }
}

/// Keys with their values, each with a slash at its start.
pub(super) type Pairs = BTreeMap<String, String>;

/// Adds every key at or below `prefix` to `pairs`.
pub(super) fn add(shown: &impl Shown, prefix: &str, pairs: &mut Pairs) {
    let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
    let mut found = Pairs::new();
    let tree = parts.first().copied();
    let wanted = |name: &str| tree.is_none_or(|tree| tree == name);
    if wanted("services") {
        each(shown, &parts, |service| {
            instances(&mut found, "services", service, &service.eligible);
        });
    }
    if wanted("instances") {
        each(shown, &parts, |service| {
            instances(&mut found, "instances", service, &service.instances);
        });
    }
    if wanted("names") {
        each(shown, &parts, |service| {
            put(&mut found, &["names", &service.name], &service.eligible.len());
        });
    }
    if wanted("meta") {
        each(shown, &parts, |service| {
            for (key, value) in service.meta.iter() {
                put(&mut found, &["meta", &service.name, key], value);
            }
        });
    }
    // These lie across services.
    let across = &parts[..parts.len().min(1)];
    if wanted("tags") {
        each(shown, across, |service| {
            for tag in service.tags.iter() {
                put(&mut found, &["tags", tag, &service.name], &service.name);
            }
        });
    }
    if wanted("nodes") {
        each(shown, across, |service| nodes(&mut found, service));
    }
    if tree == Some("generation") {
        put(&mut found, &["generation"], &shown.generation());
    }
    let folder = parts.iter().fold(String::new(), |folder, part| folder + "/" + part);
    let within = |key: &String| {
        key.strip_prefix(&folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    pairs.extend(found.into_iter().filter(|(key, _)| within(key)));
}

/// Calls `found` for the service that the second part names, or for all.
fn each(shown: &impl Shown, parts: &[&str], mut found: impl FnMut(&Service)) {
    match parts.get(1) {
        Some(name) => {
            if let Some(service) = shown.service(&plain(name)) {
                found(&service);
            }
        }
        None => {
            for name in shown.names() {
                if let Some(service) = shown.service(&name) {
                    found(&service);
                }
            }
        }
    }
}

fn instances(pairs: &mut Pairs, tree: &str, service: &Service, instances: &[Arc<Instance>]) {
    for one in instances {
        instance(pairs, &[tree, &service.name, &one.id], service, one);
    }
}

/// `id`, `address`, `port` (the first), `endpoint` (address and port, IPv6 in brackets), `health`,
/// `weight`, `registry`; `node`, `locality` and `group` where they are known; `ports/NAME`,
/// `tags/TAG`, `meta/KEY`; below `/instances` also `presence` and `eligible`.
fn instance(pairs: &mut Pairs, path: &[&str], service: &Service, one: &Instance) {
    let mut own = |name: &[&str], value: &str| put(pairs, &[path, name].concat(), value);
    own(&["id"], &one.id);
    own(&["address"], &one.address.to_string());
    own(&["health"], one.health.word());
    own(&["weight"], &one.weight.value().to_string());
    own(&["registry"], &one.registry);
    if let Some(port) = one.port("") {
        own(&["port"], &port.to_string());
        let endpoint = match &one.address {
            Address::Ip(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
            address => format!("{address}:{port}"),
        };
        own(&["endpoint"], &endpoint);
    }
    for port in one.ports.iter().filter(|port| !port.name.is_empty()) {
        own(&["ports", &port.name], &port.number.to_string());
    }
    for tag in one.tags.iter() {
        own(&["tags", tag], tag);
    }
    for (key, value) in &one.meta {
        own(&["meta", key], value);
    }
    if let Some(node) = &one.node {
        own(&["node"], &node.name);
    }
    for (name, value) in [("locality", &one.locality), ("group", &one.group)] {
        if let Some(value) = value {
            own(&[name], value);
        }
    }
    if path.first() == Some(&"instances") {
        let presence = match one.presence {
            Presence::Active => "active",
            Presence::Draining => "draining",
            Presence::Leaving => "leaving",
        };
        own(&["presence"], presence);
        let eligible = service.eligible.iter().any(|other| other.id == one.id);
        own(&["eligible"], if eligible { "true" } else { "false" });
    }
}

/// `name`, `address` where it is known, `meta/KEY`, and `services/SERVICE/INSTANCE` with the id.
fn nodes(pairs: &mut Pairs, service: &Service) {
    for one in service.instances.iter() {
        let Some(node) = &one.node else { continue };
        put(pairs, &["nodes", &node.name, "name"], &node.name);
        if let Some(address) = &node.address {
            put(pairs, &["nodes", &node.name, "address"], address);
        }
        for (key, value) in &node.meta {
            put(pairs, &["nodes", &node.name, "meta", key], value);
        }
        put(pairs, &["nodes", &node.name, "services", &service.name, &one.id], &one.id);
    }
}

fn put(pairs: &mut Pairs, path: &[&str], value: &(impl ToString + ?Sized)) {
    if path.iter().any(|part| part.is_empty()) {
        return;
    }
    let key = path.iter().fold(String::new(), |mut key, part| {
        // Writing to a string never fails.
        let _ = write!(key, "/{}", segment(part));
        key
    });
    pairs.insert(key, value.to_string());
}

/// `name` as one part of a path: a slash as `%2F`, and `%` as `%25` so that no two names meet.
fn segment(name: &str) -> String {
    match name {
        "." | ".." => name.replace('.', "%2E"),
        _ => name.replace('%', "%25").replace('/', "%2F"),
    }
}

/// The name that [`segment`] made a part of.
fn plain(part: &str) -> String {
    part.replace("%2E", ".").replace("%2F", "/").replace("%25", "%")
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;

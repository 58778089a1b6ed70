//! What the catalog knows, in the words of rancher-metadata: one table for each container, service,
//! stack and host.
//!
//! | ours | theirs |
//! |---|---|
//! | instance | container |
//! | service; the parts of its name, or `rancher.stack` and `rancher.environment` | service, stack, environment |
//! | node | host |
//! | meta | labels; keys that begin with `rancher.` have a meaning of their own |
//!
//! Identities are those of `rancher.uuid`, or else made of the names (RFC 9562 §5.5), so that they
//! are the same in every process and after every restart.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::chart::Chart;
use super::node::{Live, Node, Record};
use super::place::{Placed, create_index};
use super::version::Version;
use crate::catalog::model::{Health, Instance, Meta, Node as Machine, Presence};

/// Where identities made of names begin.
const NAMESPACE: [u8; 16] = *b"portolan.catalog";
/// Start of the key of a link.
const LINK: &str = "rancher.link.";
/// Start of the key of something for `metadata` of a service.
const METADATA: &str = "rancher.metadata.";
/// Start of the keys that are no labels.
const OWN: &str = "rancher.";

/// An identity made of `kind` and `names`: version 5 (RFC 9562 §5.5).
fn made(kind: &str, names: &[&str]) -> Arc<str> {
    let mut hash = Sha1::new();
    hash.update(NAMESPACE);
    hash.update(kind);
    for name in names {
        hash.update([0]);
        hash.update(name);
    }
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.finalize()[..16]);
    let number = u128::from_be_bytes(bits);
    let number = number & !(0xf << 76) | (5 << 76);
    let number = number & !(0b11 << 62) | (0b10 << 62);
    let text = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
        .into()
}

/// The identity of a container.
pub(super) fn container_uuid(placed: &Placed, instance: &Instance) -> Arc<str> {
    let told = instance.meta.get("rancher.uuid").cloned();
    told.unwrap_or_else(|| {
        made("container", &[&instance.registry, &placed.service.name, &instance.id])
    })
}

/// The name of a container, as it is told.
pub(super) fn container_name(instance: &Instance) -> &Arc<str> {
    instance.meta.get("rancher.container").unwrap_or(&instance.id)
}

/// The identity of a service.
pub(super) fn service_uuid(placed: &Placed) -> Arc<str> {
    let told = placed.service.meta.get("rancher.uuid").cloned();
    told.unwrap_or_else(|| made("service", &[&placed.service.name]))
}

/// The identity of a stack.
pub(super) fn stack_uuid(placed: &Placed) -> Arc<str> {
    made("stack", &[&placed.environment.to_lowercase(), &placed.stack.to_lowercase()])
}

/// The identity of a host.
pub(super) fn host_uuid(machine: &Machine) -> Arc<str> {
    let told = machine.meta.get("rancher.uuid").cloned();
    told.unwrap_or_else(|| made("host", &[&machine.name]))
}

/// The identity of an environment.
pub(super) fn environment_uuid(name: &str) -> Arc<str> {
    made("environment", &[name])
}

fn labels(meta: &Meta) -> Node {
    let own = meta.iter().filter(|(key, _)| !key.starts_with(OWN));
    Node::table(own.map(|(key, value)| (Arc::clone(key), Node::Text(Arc::clone(value)))).collect())
}

fn below(meta: &Meta, prefix: &str, value: impl Fn(&str) -> Node, version: Version) -> Node {
    let found = meta.iter().filter_map(|(key, told)| {
        let key = key.strip_prefix(prefix)?;
        Some((version.cased(&key.into()), value(told)))
    });
    Node::table(found.collect())
}

/// `web.shop` as `shop/web`.
fn link(target: &str) -> Node {
    let mut parts = target.trim_end_matches('.').split('.');
    let service = parts.next().unwrap_or_default();
    Node::text(
        &parts.next().map_or_else(|| service.to_owned(), |stack| format!("{stack}/{service}")),
    )
}

fn tags(tags: &[Arc<str>]) -> Node {
    Node::list(tags.iter().map(|tag| Node::Text(Arc::clone(tag))))
}

fn record<const N: usize>(entries: [(&str, Node); N]) -> Record {
    entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

/// One container.
pub(super) fn container(
    chart: &Chart,
    placed: &Placed,
    nth: u32,
    version: Version,
) -> Option<Record> {
    let instance = placed.container(nth)?;
    let name = version.cased(container_name(instance));
    let ip = instance.address.ip().map(|ip| ip.to_canonical().to_string());
    let told = |key: &str| instance.meta.get(key).map(|told| &**told);
    let index = create_index(instance).unwrap_or_else(|| i64::from(nth) + 1);
    let machine = instance.node.as_ref().and_then(|node| chart.host(chart.host_named(&node.name)?));
    let hostname = match (&instance.address, told("rancher.hostname")) {
        (_, Some(told)) => Node::text(told),
        (crate::catalog::Address::Name(name), None) => Node::Text(Arc::clone(name)),
        (crate::catalog::Address::Ip(_), None) => Node::Text(Arc::clone(&name)),
    };
    let state = match instance.presence {
        Presence::Active => "running",
        Presence::Draining | Presence::Leaving => "stopping",
    };
    let health = match instance.health {
        Health::Unknown => None,
        Health::Healthy | Health::Warning => Some("healthy"),
        Health::Unhealthy => Some("unhealthy"),
    };
    let ports = instance.ports.iter().filter_map(|port| {
        let number = port.number;
        Some(Node::text(&match instance.address.ip()?.to_canonical() {
            IpAddr::V4(ip) => format!("{ip}:{number}:{number}/tcp"),
            IpAddr::V6(ip) => format!("[{ip}]:{number}:{number}/tcp"),
        }))
    });
    Some(record([
        ("create_index", Node::number(index)),
        ("external_id", Node::Text(Arc::clone(&instance.id))),
        ("health_state", Node::maybe(health)),
        ("host_uuid", machine.map_or(Node::Null, |machine| Node::Text(host_uuid(machine)))),
        ("hostname", hostname),
        ("ips", Node::list(ip.as_deref().map(Node::text))),
        ("labels", labels(&instance.meta)),
        ("links", below(&instance.meta, LINK, link, version)),
        ("name", Node::Text(name)),
        ("ports", Node::list(ports)),
        ("primary_ip", Node::maybe(ip.as_deref())),
        ("service_index", Node::text(&index.to_string())),
        ("service_name", Node::Text(version.cased(&placed.name))),
        ("service_uuid", Node::Text(service_uuid(placed))),
        ("stack_name", Node::Text(version.cased(&placed.stack))),
        ("stack_uuid", Node::Text(stack_uuid(placed))),
        ("start_count", Node::number(1)),
        ("state", Node::text(state)),
        ("tags", tags(&instance.tags)),
        ("uuid", Node::Text(container_uuid(placed, instance))),
    ]))
}

/// One service, the `number`th of the chart.
pub(super) fn service(placed: &Placed, number: u32, version: Version) -> Record {
    let meta = &placed.service.meta;
    let told = |key: &str| Node::maybe(meta.get(key).map(|told| &**told));
    let containers = if version.names_only() {
        let names = placed.containers().map(|instance| version.cased(container_name(instance)));
        Node::list(names.map(Node::Text))
    } else {
        Node::Live(Live::Members(number))
    };
    let ports: BTreeSet<u16> = placed
        .containers()
        .flat_map(|instance| instance.ports.iter().map(|port| port.number))
        .collect();
    let last = (0..)
        .zip(placed.containers())
        .map(|(nth, instance)| create_index(instance).unwrap_or_else(|| i64::from(nth) + 1));
    let name = version.cased(&placed.name);
    let kind = meta.get("rancher.kind").map_or("service", |told| &**told);
    record([
        ("containers", containers),
        ("create_index", Node::number(last.max().unwrap_or(0))),
        ("expose", Node::list([])),
        ("external_ips", Node::list([])),
        ("fqdn", told("rancher.fqdn")),
        ("health_check", Node::Null),
        ("hostname", told("rancher.hostname")),
        ("kind", Node::text(kind)),
        ("labels", labels(meta)),
        ("links", below(meta, LINK, link, version)),
        ("metadata", below(meta, METADATA, Node::text, Version::oldest())),
        ("name", Node::Text(Arc::clone(&name))),
        ("ports", Node::list(ports.iter().map(|port| Node::text(&format!("{port}:{port}/tcp"))))),
        ("primary_service_name", Node::Text(name)),
        ("scale", Node::number(placed.len() as u64)),
        ("sidekicks", Node::list([])),
        ("stack_name", Node::Text(version.cased(&placed.stack))),
        ("stack_uuid", Node::Text(stack_uuid(placed))),
        ("state", Node::text("active")),
        ("tags", tags(&placed.service.tags)),
        ("token", Node::Null),
        ("uuid", Node::Text(service_uuid(placed))),
        ("vip", told("rancher.vip")),
    ])
}

/// One stack, the `number`th of the chart.
pub(super) fn stack(chart: &Chart, number: u32, version: Version) -> Option<Record> {
    let range = chart.stack(number)?;
    let first = chart.service(range.start)?;
    let services = if version.names_only() {
        let services = range.filter_map(|service| chart.service(service));
        Node::list(services.map(|placed| Node::Text(version.cased(&placed.name))))
    } else {
        Node::Live(Live::Within(number))
    };
    Some(record([
        ("environment_name", Node::Text(Arc::clone(&first.environment))),
        ("environment_uuid", Node::Text(environment_uuid(&first.environment))),
        ("name", Node::Text(version.cased(&first.stack))),
        ("services", services),
        ("uuid", Node::Text(stack_uuid(first))),
    ]))
}

/// One host.
pub(super) fn host(machine: &Machine, version: Version) -> Record {
    let address = machine.address.as_ref().map(ToString::to_string);
    let mut host = record([
        ("agent_ip", Node::maybe(address.as_deref())),
        ("hostname", Node::Text(Arc::clone(&machine.name))),
        ("labels", labels(&machine.meta)),
        ("name", Node::Text(Arc::clone(&machine.name))),
        ("state", Node::text("active")),
        ("uuid", Node::Text(host_uuid(machine))),
    ]);
    let id = machine.meta.get("rancher.host_id").and_then(|id| id.parse::<i64>().ok());
    if let Some(id) = id.filter(|_| version.tells_host_id()) {
        host.insert("hostId".into(), Node::number(id));
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_of_version_five_and_differ_by_kind_and_name() {
        let all = [made("a", &["b", "c"]), made("a", &["bc"]), made("ab", &["c"]), made("a", &[])];
        for id in &all {
            assert_eq!((id.len(), &id[14..15]), (36, "5"), "{id}");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(made("host", &["node-1"]), made("host", &["node-1"]));
    }
}

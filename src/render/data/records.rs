//! What the catalog knows, as the records that Go templates know. Each field becomes a value when
//! it is asked for.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::engine::go::text::Text;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::{Items, Object, Value};
use super::super::functions::objects::{
    CATALOG_NODE, CATALOG_SNIPPET, HEALTH_CHECK, HEALTH_SERVICE, NODE, NODE_SERVICE, Record,
    SERVICE_ADDRESS, WEIGHTS, port, tags,
};
use super::answer::{Names, NodesByName, Placed};
use super::instances::{id, node_name, state};
use crate::catalog::model::{Meta, Node};
use crate::catalog::{Address, Health, Instance};

/// Facts that a registry notes under names of its own begin with this.
const OWN: &str = "consul.";
/// Tagged addresses.
const ADDRESS: &str = "consul.address.";

static STRINGS: (Type, Type) = (Type::String, Type::String);
static ADDRESSES: (Type, Type) = (Type::String, Type::Any);

/// The instances of a service, as `service` gives them.
struct Instances {
    service: Arc<str>,
    instances: Arc<[Arc<Instance>]>,
}

impl Items for Instances {
    fn len(&self) -> usize {
        self.instances.len()
    }

    fn at(&self, index: usize) -> Value {
        let Some(instance) = self.instances.get(index) else { return Value::Nil };
        let (service, instance) = (Arc::clone(&self.service), Arc::clone(instance));
        Value::object(HealthService { service, instance })
    }
}

/// A list of `HealthService` records.
pub(super) fn instances(service: Arc<str>, instances: Arc<[Arc<Instance>]>) -> Value {
    Value::list(&HEALTH_SERVICE.of, Instances { service, instances })
}

struct HealthService {
    service: Arc<str>,
    instance: Arc<Instance>,
}

impl Object for HealthService {
    fn type_of(&self) -> Type {
        HEALTH_SERVICE.of
    }

    fn field(&self, name: &str) -> Option<Value> {
        let instance = &self.instance;
        let node = instance.node.as_ref();
        let fact = |key: &str| instance.meta.get(key).map_or_else(|| "".into(), Value::from);
        Some(match name {
            "Node" => node.map_or_else(|| "".into(), |node| Value::from(&node.name)),
            "NodeID" => node
                .and_then(|node| node.meta.get("consul.id"))
                .map_or_else(|| "".into(), Value::from),
            "NodeAddress" => address(node.and_then(|node| node.address.as_ref())),
            "NodeDatacenter" => fact("consul.datacenter"),
            "NodeTaggedAddresses" => tagged(node.map(|node| &node.meta)),
            "NodeMeta" => facts(node.map(|node| &node.meta)),
            "ServiceMeta" => facts(Some(&instance.meta)),
            "Address" => address(Some(&instance.address)),
            "ServiceTaggedAddresses" => service_addresses(instance),
            "ID" => Value::from(id(instance)),
            "Name" => Value::from(&self.service),
            "Tags" => sorted_tags(&instance.tags),
            "Checks" => checks(&self.service, instance),
            "Status" => Value::fixed(state(instance).word()),
            "Port" => port(instance.port("").unwrap_or(0)),
            "Weights" => weights(instance),
            "Namespace" => fact("consul.namespace"),
            _ => return None,
        })
    }

    fn fields(&self) -> &[&'static str] {
        HEALTH_SERVICE.fields
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn address(address: Option<&Address>) -> Value {
    match address {
        None => "".into(),
        Some(Address::Name(name)) => Value::from(name),
        Some(Address::Ip(IpAddr::V4(ip))) => dotted(*ip).into(),
        Some(Address::Ip(ip)) => Text::shown(ip).into(),
    }
}

/// What nearly every instance shows, without a formatter.
fn dotted(ip: Ipv4Addr) -> Text {
    let (mut text, mut len) = ([0; 16], 0);
    for octet in ip.octets() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
        let zeros = usize::from(octet < 100) + usize::from(octet < 10);
        for byte in digits.into_iter().skip(zeros).chain([b'.']) {
            text[len] = byte;
            len += 1;
        }
    }
    Text::from(&text[..len - 1])
}

fn sorted_tags(own: &[Arc<str>]) -> Value {
    let mut sorted: Vec<&Arc<str>> = own.iter().collect();
    sorted.sort_unstable();
    tags(sorted)
}

/// The facts that somebody wrote, without those that the registry notes.
fn facts(meta: Option<&Meta>) -> Value {
    let written = meta.into_iter().flatten().filter(|(key, _)| !key.starts_with(OWN));
    Value::map(&STRINGS, written.map(|(key, value)| (key.into(), value.into())).collect())
}

/// Addresses by tag.
fn tagged(meta: Option<&Meta>) -> Value {
    let told = meta.into_iter().flatten();
    let told =
        told.filter_map(|(key, value)| Some((key.strip_prefix(ADDRESS)?.into(), value.into())));
    Value::map(&STRINGS, told.collect())
}

/// Addresses with ports by tag.
fn service_addresses(instance: &Instance) -> Value {
    let record = |(key, value): (&Arc<str>, &Arc<str>)| {
        let tag = key.strip_prefix(ADDRESS)?;
        let (address, number) = value
            .rsplit_once(':')
            .and_then(|(address, number)| Some((address, number.parse().ok()?)))
            .filter(|(address, _): &(&str, u16)| !address.contains(':') || address.starts_with('['))
            .unwrap_or((value, 0));
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let fields = [("Address", address.into()), ("Port", port(number))];
        Some((tag.into(), Record::value(&SERVICE_ADDRESS, &fields)))
    };
    Value::map(&ADDRESSES, instance.meta.iter().filter_map(record).collect())
}

/// What the catalog keeps of an instance's checks: how they stand, as one.
fn checks(service: &Arc<str>, instance: &Instance) -> Value {
    let fields = [
        ("Node", node_name(instance).into()),
        ("CheckID", format!("service:{}", id(instance)).into()),
        ("Name", format!("Service '{service}' checks").into()),
        ("Status", Value::fixed(state(instance).word())),
        ("Notes", "".into()),
        ("Output", "".into()),
        ("ServiceID", id(instance).into()),
        ("ServiceName", service.into()),
        ("ServiceTags", Value::strings(instance.tags.iter())),
        ("Type", "".into()),
    ];
    Record::list(&HEALTH_CHECK, vec![Record::value(&HEALTH_CHECK, &fields)])
}

/// The weight counts for how the instance stands; the other one is Consul's default.
fn weights(instance: &Instance) -> Value {
    let own = port(instance.weight.value());
    let (passing, warning) = match instance.health {
        Health::Warning => (port(1), own),
        _ => (own, port(1)),
    };
    Record::value(&WEIGHTS, &[("Passing", passing), ("Warning", warning)])
}

/// A service of which only the name and the tags are known.
struct Snippet {
    name: Arc<str>,
    tags: Arc<[Arc<str>]>,
}

impl Object for Snippet {
    fn type_of(&self) -> Type {
        CATALOG_SNIPPET.of
    }

    fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "Name" => Value::from(&self.name),
            "Tags" => sorted_tags(&self.tags),
            _ => return None,
        })
    }

    fn fields(&self) -> &[&'static str] {
        CATALOG_SNIPPET.fields
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A list of `CatalogSnippet` records.
pub(super) fn names(names: Names) -> Value {
    let snippet = |(name, tags)| Value::object(Snippet { name, tags });
    Record::list(&CATALOG_SNIPPET, names.into_iter().map(snippet).collect())
}

fn node_record(node: &Node) -> Value {
    let fact = |key: &str| node.meta.get(key).map_or_else(|| "".into(), Value::from);
    Record::value(
        &NODE,
        &[
            ("ID", fact("consul.id")),
            ("Node", Value::from(&node.name)),
            ("Address", address(node.address.as_ref())),
            ("Datacenter", fact("consul.datacenter")),
            ("TaggedAddresses", tagged(Some(&node.meta))),
            ("Meta", facts(Some(&node.meta))),
        ],
    )
}

/// A list of `Node` records, the one called `near` first.
pub(super) fn nodes(nodes: &NodesByName, near: &str) -> Value {
    let mut nodes: Vec<_> = nodes.values().collect();
    nodes.sort_by_key(|node| !near.is_empty() && *node.name != *near);
    Record::list(&NODE, nodes.into_iter().map(|node| node_record(node)).collect())
}

/// A `CatalogNode` record, or nil.
pub(super) fn node(found: Option<(Arc<Node>, Vec<Placed>)>) -> Value {
    let Some((node, placed)) = found else { return Value::Nil };
    let service = |(service, instance): &Placed| {
        Record::value(
            &NODE_SERVICE,
            &[
                ("ID", id(instance).into()),
                ("Service", service.into()),
                ("Tags", sorted_tags(&instance.tags)),
                ("Meta", facts(Some(&instance.meta))),
                ("Port", port(instance.port("").unwrap_or(0))),
                ("Address", address(Some(&instance.address))),
                ("EnableTagOverride", false.into()),
            ],
        )
    };
    let services = Record::list(&NODE_SERVICE, placed.iter().map(service).collect());
    Record::value(&CATALOG_NODE, &[("Node", node_record(&node)), ("Services", services)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_everywhere() {
        for octet in 0..=255 {
            let ip = Ipv4Addr::new(octet, 0, 255 - octet, octet / 3);
            assert_eq!(dotted(ip), ip.to_string().into());
        }
    }
}

//! What the catalog knows, as the records that Go templates know. Each field becomes a value when
//! it is asked for.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::engine::go::types::{Type, UintKind};
use super::super::engine::go::value::{Items, Object, Value};
use super::super::functions::objects::{
    CATALOG_NODE, CATALOG_SNIPPET, HEALTH_CHECK, HEALTH_SERVICE, KEY_PAIR, KEY_VALUE, NODE,
    NODE_SERVICE, Record, SERVICE_ADDRESS, WEIGHTS, port, tags,
};
use super::answer::{Names, NodesByName, Placed, id, node_name, status};
use crate::catalog::model::{Meta, Node};
use crate::catalog::{Address, Health, Instance, Key};

/// Facts that a registry notes under names of its own begin with this.
const OWN: &str = "consul.";
/// Tagged addresses.
const ADDRESS: &str = "consul.address.";

static STRINGS: (Type, Type) = (Type::String, Type::String);
static ADDRESSES: (Type, Type) = (Type::String, Type::Any);

/// The instances of a service, as `service` gives them.
struct Instances {
    service: Arc<str>,
    instances: Vec<Arc<Instance>>,
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
pub(super) fn instances(service: &str, instances: Vec<Arc<Instance>>) -> Value {
    Value::list(&HEALTH_SERVICE.of, Instances { service: service.into(), instances })
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
            "Status" => Value::fixed(status(instance)),
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
        Some(Address::Ip(ip)) => ip.to_string().into(),
    }
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
        ("Status", Value::fixed(status(instance))),
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

/// A list of `CatalogSnippet` records.
pub(super) fn names(names: &Names) -> Value {
    let snippet = |(name, own): &(Arc<str>, Arc<[Arc<str>]>)| {
        Record::value(&CATALOG_SNIPPET, &[("Name", name.into()), ("Tags", sorted_tags(own))])
    };
    Record::list(&CATALOG_SNIPPET, names.iter().map(snippet).collect())
}

/// A key as `key`, `ls` and `tree` give it: with its path below the prefix asked for.
struct Pair {
    key: Arc<Key>,
    /// How many bytes of the path stand in front of what is shown as `Key`.
    skipped: usize,
}

impl Object for Pair {
    fn type_of(&self) -> Type {
        KEY_PAIR.of
    }

    fn field(&self, name: &str) -> Option<Value> {
        let key = &self.key;
        let number = |number: u64| Value::Uint(number, UintKind::U64);
        Some(match name {
            "Path" => Value::from(&key.path),
            "Key" => key.path.get(self.skipped..).unwrap_or_default().into(),
            "Value" => Value::from(&key.value),
            "Exists" => true.into(),
            "CreateIndex" => number(key.create_index),
            "ModifyIndex" => number(key.modify_index),
            "LockIndex" => number(key.lock_index),
            "Flags" => number(key.flags),
            "Session" => Value::from(&key.session),
            _ => return None,
        })
    }

    fn fields(&self) -> &[&'static str] {
        KEY_PAIR.fields
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A `KeyPair` record, or nil.
pub(super) fn key(key: Option<Arc<Key>>) -> Value {
    key.map_or(Value::Nil, |key| Value::object(Pair { key, skipped: 0 }))
}

/// A list of `KeyPair` records of keys that begin with `prefix`.
pub(super) fn tree(prefix: &str, keys: BTreeMap<Arc<str>, Arc<Key>>) -> Value {
    let pair = |(path, key): (Arc<str>, Arc<Key>)| {
        let rest = path.strip_prefix(prefix).unwrap_or(&path);
        let skipped = path.len() - rest.trim_start_matches('/').len();
        Value::object(Pair { key, skipped })
    };
    let keys = keys.into_iter().filter(|(path, _)| !path.ends_with('/'));
    Record::list(&KEY_PAIR, keys.map(pair).collect())
}

/// A list of confd's pairs.
pub(super) fn store(keys: BTreeMap<String, Arc<str>>) -> Value {
    let pair = |(key, value): (String, Arc<str>)| {
        Record::value(&KEY_VALUE, &[("Key", key.into()), ("Value", value.into())])
    };
    Record::list(&KEY_VALUE, keys.into_iter().map(pair).collect())
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

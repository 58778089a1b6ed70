//! The instances of one service out of Consul's health answer. Pure.
//!
//! What becomes what is written for users in `docs/consul.md`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::checks::{RawCheck, verdict};
use super::decode::{Wish, parse};
use crate::catalog::model::parse_text;
use crate::catalog::model::{META_VALUE_MAX, Meta, NAME_MAX, Node, Port, parse_name, parse_port};
use crate::catalog::{Address, Health, Instance, SourceService, Weight};

/// Most refusals told for one service; behind them only their number.
const PROBLEMS_MAX: usize = 100;

type Text<'a> = Cow<'a, str>;
type Map<'a, V> = Option<BTreeMap<Text<'a>, V>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow)]
    node: RawNode<'a>,
    #[serde(borrow)]
    service: RawService<'a>,
    #[serde(borrow)]
    checks: Option<Vec<RawCheck<'a>>>,
}

/// A node as every answer tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RawNode<'a> {
    #[serde(rename = "ID", borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) node: Text<'a>,
    #[serde(borrow)]
    address: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) datacenter: Option<Text<'a>>,
    #[serde(borrow)]
    tagged_addresses: Map<'a, Text<'a>>,
    #[serde(borrow)]
    meta: Map<'a, Text<'a>>,
    #[serde(borrow)]
    locality: Option<RawLocality<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService<'a> {
    #[serde(rename = "ID", borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    address: Option<Text<'a>>,
    #[serde(borrow)]
    tags: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    meta: Map<'a, Text<'a>>,
    port: Option<i64>,
    #[serde(borrow)]
    tagged_addresses: Map<'a, RawTagged<'a>>,
    weights: Option<RawWeights>,
    #[serde(borrow)]
    peer_name: Option<Text<'a>>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    partition: Option<Text<'a>>,
    #[serde(borrow)]
    locality: Option<RawLocality<'a>>,
}

#[derive(Deserialize)]
struct RawTagged<'a> {
    #[serde(alias = "Address", borrow)]
    address: Text<'a>,
    #[serde(alias = "Port", default)]
    port: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawWeights {
    passing: Option<i64>,
    warning: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawLocality<'a> {
    #[serde(borrow)]
    region: Option<Text<'a>>,
    #[serde(borrow)]
    zone: Option<Text<'a>>,
}

/// Decodes `/v1/health/service/NAME` for the service called `name`; `None` when no instance counts.
/// Instances equal to those in `last` are shared with it.
///
/// # Errors
/// When it is no such answer or has too many instances: then nothing in it counts.
pub(super) fn members(
    body: &[u8],
    name: &Arc<str>,
    wish: &Wish,
    last: Option<&SourceService>,
) -> Result<Option<SourceService>, String> {
    let entries: Vec<Entry<'_>> = parse("instances", body)?;
    if entries.len() > wish.instances_max {
        return Err(format!(
            "{} instances, more than {}; raise `max_instances` of [registry.{}.consul]",
            entries.len(),
            wish.instances_max,
            wish.registry
        ));
    }
    let mut refusals = Vec::new();
    let mut instances: Vec<Arc<Instance>> = Vec::with_capacity(entries.len());
    let mut ids = HashSet::with_capacity(entries.len());
    for entry in entries {
        let tags = entry.service.tags.as_deref().unwrap_or_default();
        if !wish.tags.iter().all(|wanted| tags.iter().any(|tag| **tag == **wanted)) {
            continue;
        }
        match instance(&entry, wish, &mut refusals) {
            Ok(instance) if ids.insert(Arc::clone(&instance.id)) => instances.push(instance.into()),
            Ok(instance) => refusals.push(format!("instance {}: listed twice", instance.id)),
            Err(why) => {
                refusals.push(format!("instance {}/{}: {why}", entry.node.node, entry.service.id));
            }
        }
    }
    if instances.is_empty() && refusals.is_empty() {
        return Ok(None);
    }
    instances.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    share(&mut instances, last);
    refusals.sort_unstable();
    let more = refusals.len().saturating_sub(PROBLEMS_MAX);
    refusals.truncate(PROBLEMS_MAX);
    if more > 0 {
        refusals.push(format!("{more} more are refused"));
    }
    Ok(Some(SourceService {
        name: Arc::clone(name),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances,
        problems: refusals.into_iter().map(Arc::from).collect(),
        suspect: None,
    }))
}

/// Puts the allocations of `last` in the place of equal ones. Both are sorted by id.
fn share(instances: &mut [Arc<Instance>], last: Option<&SourceService>) {
    let Some(last) = last else { return };
    let mut known = last.instances.iter().peekable();
    for instance in instances {
        while known.next_if(|known| known.id < instance.id).is_some() {}
        if let Some(known) = known.next_if(|known| known.id == instance.id)
            && known == instance
        {
            *instance = Arc::clone(known);
        }
    }
}

fn instance(
    entry: &Entry<'_>,
    wish: &Wish,
    refusals: &mut Vec<String>,
) -> Result<Instance, String> {
    let Entry { node, service, checks } = entry;
    let id = id(node, service)?;
    let told = |text: &Option<Text<'_>>| {
        text.as_deref().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    let tagged = wish.address_tag.as_deref().and_then(|tag| {
        let of_service = service.tagged_addresses.as_ref()?.get(tag);
        of_service.map(|tagged| (tagged.address.to_string(), tagged.port))
    });
    let of_node = wish
        .address_tag
        .as_deref()
        .and_then(|tag| node.tagged_addresses.as_ref()?.get(tag).map(ToString::to_string));
    let own_port = service.port.unwrap_or(0);
    let (address, port) = match (tagged, told(&service.address)) {
        (Some((address, port)), _) => (address, if port == 0 { own_port } else { port }),
        (None, Some(address)) => (address, own_port),
        (None, None) => {
            let address = of_node.or_else(|| told(&node.address));
            (address.ok_or("it has no address, and neither has its node")?, own_port)
        }
    };
    let verdict = verdict(checks.as_deref().unwrap_or_default());
    let ports: Arc<[Port]> = match port {
        0 => Arc::new([]),
        number => Arc::new([Port { name: "".into(), number: parse_port(number)? }]),
    };
    let mut drop_bad = |why: String| refusals.push(format!("instance {id}: {why}"));
    let mut tags: Vec<Arc<str>> = Vec::new();
    for tag in service.tags.iter().flatten() {
        match parse_text("tag", tag, NAME_MAX) {
            Ok(tag) if tags.contains(&tag) => {}
            Ok(tag) => tags.push(tag),
            Err(why) => drop_bad(why),
        }
    }
    let weight = weight(service.weights.as_ref(), verdict.health, &mut drop_bad);
    let zone = |locality: &Option<RawLocality<'_>>| {
        locality.as_ref().and_then(|at| told(&at.zone).or_else(|| told(&at.region)))
    };
    let locality = zone(&service.locality).or_else(|| zone(&node.locality));
    let locality = locality.map(|text| parse_name("locality", &text)).transpose()?;
    let meta = service_meta(node, service, &mut drop_bad);
    let node = node_of(node, &mut drop_bad)?;
    Ok(Instance {
        address: Address::parse(&address)?,
        ports,
        tags: tags.into(),
        meta,
        weight,
        locality,
        node: Some(node),
        health: verdict.health,
        cause: verdict.cause,
        presence: verdict.presence,
        ..Instance::bare(&wish.registry, &id, Address::Name("".into()))
    })
}

/// `NODE/ID`, since an id is unique on its node only; of a peer `PEER:NODE/ID`. Spaces, which
/// Consul allows in ids, are written as `%20`.
fn id(node: &RawNode<'_>, service: &RawService<'_>) -> Result<Arc<str>, String> {
    let peer = service.peer_name.as_deref().filter(|peer| !peer.is_empty());
    let id = match peer {
        Some(peer) => format!("{peer}:{}/{}", node.node, service.id),
        None => format!("{}/{}", node.node, service.id),
    };
    parse_name("id", &id.replace(' ', "%20"))
}

fn weight(
    weights: Option<&RawWeights>,
    health: Health,
    drop_bad: &mut impl FnMut(String),
) -> Weight {
    let told = weights.and_then(|w| if health == Health::Warning { w.warning } else { w.passing });
    let Some(raw) = told else { return Weight::ONE };
    Weight::try_from(raw).unwrap_or_else(|why| {
        drop_bad(format!("{why}; {} is used", if raw > 0 { "the largest" } else { "1" }));
        let largest = Weight::try_from(i64::from(Weight::MAX)).unwrap_or(Weight::ONE);
        if raw > 0 { largest } else { Weight::ONE }
    })
}

fn service_meta(
    node: &RawNode<'_>,
    service: &RawService<'_>,
    drop_bad: &mut impl FnMut(String),
) -> Meta {
    let mut meta = Meta::new();
    for (key, value) in service.meta.iter().flatten() {
        add(&mut meta, key, value, drop_bad);
    }
    for (tag, tagged) in service.tagged_addresses.iter().flatten() {
        let v6 = tagged.address.contains(':');
        let told = match (tagged.port, v6) {
            (0, _) => tagged.address.to_string(),
            (port, false) => format!("{}:{port}", tagged.address),
            (port, true) => format!("[{}]:{port}", tagged.address),
        };
        add(&mut meta, &format!("consul.address.{tag}"), &told, drop_bad);
    }
    add(&mut meta, "consul.id", &service.id, drop_bad);
    for (key, value) in [
        ("consul.datacenter", &node.datacenter),
        ("consul.peer", &service.peer_name),
        ("consul.namespace", &service.namespace),
        ("consul.partition", &service.partition),
    ] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            add(&mut meta, key, value, drop_bad);
        }
    }
    meta
}

/// The node that `raw` tells of.
pub(super) fn node_of(
    raw: &RawNode<'_>,
    drop_bad: &mut impl FnMut(String),
) -> Result<Node, String> {
    let address = raw.address.as_deref().filter(|address| !address.is_empty());
    Ok(Node {
        name: parse_name("node name", &raw.node)?,
        address: address.map(Address::parse).transpose()?,
        meta: node_meta(raw, drop_bad),
    })
}

fn node_meta(node: &RawNode<'_>, drop_bad: &mut impl FnMut(String)) -> Meta {
    let mut meta = Meta::new();
    for (key, value) in node.meta.iter().flatten() {
        add(&mut meta, key, value, drop_bad);
    }
    for (tag, address) in node.tagged_addresses.iter().flatten() {
        add(&mut meta, &format!("consul.address.{tag}"), address, drop_bad);
    }
    meta
}

pub(super) fn add(meta: &mut Meta, key: &str, value: &str, drop_bad: &mut impl FnMut(String)) {
    let read = parse_name("meta key", key)
        .and_then(|key| Ok((key, parse_text("meta value", value, META_VALUE_MAX)?)));
    match read {
        Ok((key, value)) => drop(meta.insert(key, value)),
        Err(why) => drop_bad(why),
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;

//! What a services file says: its tree decoded into services, bad entries refused one by one. Pure.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::value::{Refusal, entries, flag, integer, items, name, text};
use crate::catalog::model::{
    META_VALUE_MAX, Meta, NAME_MAX, Node, Port, parse_name, parse_port, parse_text,
};
use crate::catalog::{Address, Health, Instance, Presence, Problem, SourceService, Weight};
use crate::registry::tree::{self, Entry, Notation, Tree};
use crate::suggest;

/// Most refusals told for one service; behind them only their number.
const PROBLEMS_MAX: usize = 100;
/// Keys of a service, of an instance and of a node.
const SERVICE_KEYS: [&str; 3] = ["tags", "meta", "instance"];
const INSTANCE_KEYS: [&str; 12] = [
    "id", "address", "port", "ports", "weight", "locality", "tags", "meta", "group", "node",
    "health", "draining",
];
const NODE_KEYS: [&str; 3] = ["name", "address", "meta"];

/// All that a file says.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) services: Vec<SourceService>,
    pub(super) problems: Vec<Problem>,
}

/// Decodes `text`, the content of `file`, for the registry called `registry`.
///
/// # Errors
/// When it does not parse or has more than `instances_max` instances: then nothing in it counts,
/// since a part of a file is not what its author means.
pub(super) fn decode(
    registry: &Arc<str>,
    file: &str,
    text: &str,
    notation: Notation,
    instances_max: usize,
) -> Result<Decoded, String> {
    let tree = tree::parse(notation, file, text)?;
    let source = Source { file, text, registry, lines: OnceCell::new() };
    let mut decoded = Decoded { services: Vec::new(), problems: Vec::new() };
    let mut count = 0;
    for entry in entries(tree).map_err(|refusal| source.told(&refusal))? {
        if entry.key != "service" {
            let message = suggest::unknown_key(&entry.key, "the file", &["service"]);
            let refusal = Refusal { at: entry.at, path: entry.key, message };
            decoded.problems.push(source.problem(&refusal));
            continue;
        }
        match entries(entry.value) {
            Ok(services) => {
                for service in services {
                    let at = service.at;
                    let path = format!("service.{}", service.key);
                    match source.service(service) {
                        Ok(service) => {
                            count += service.instances.len();
                            decoded.services.push(service);
                        }
                        Err(refusal) => {
                            let at = refusal.at.or(at);
                            let refusal = Refusal { at, ..refusal.under(&path) };
                            decoded.problems.push(source.problem(&refusal));
                        }
                    }
                }
            }
            Err(refusal) => decoded.problems.push(source.problem(&refusal.under("service"))),
        }
    }
    if count > instances_max {
        return Err(format!(
            "{file} has {count} instances, more than {instances_max}; \
             raise `max_instances` of [registry.{registry}.file] or split the file"
        ));
    }
    Ok(decoded)
}

struct Source<'a> {
    file: &'a str,
    text: &'a str,
    registry: &'a Arc<str>,
    /// First byte of each line, found out once and only when something is refused.
    lines: OnceCell<Vec<usize>>,
}

impl Source<'_> {
    /// `file:line:column`, or the path for notations that tell no positions.
    fn place(&self, refusal: &Refusal) -> String {
        match refusal.at {
            Some(at) => {
                let lines = self.lines.get_or_init(|| tree::line_starts(self.text));
                let line = lines.partition_point(|start| *start <= at).max(1);
                let before = self.text.get(lines[line - 1]..at).unwrap_or_default();
                let column = before.chars().count() + 1;
                format!("{}:{line}:{column}", self.file)
            }
            None if refusal.path.is_empty() => self.file.to_owned(),
            None => format!("{}: {}", self.file, refusal.path),
        }
    }

    fn told(&self, refusal: &Refusal) -> String {
        format!("{}: {}", self.place(refusal), refusal.in_words())
    }

    fn problem(&self, refusal: &Refusal) -> Problem {
        Problem { place: self.place(refusal).into(), message: refusal.in_words().into() }
    }

    fn service(&self, entry: Entry) -> Result<SourceService, Refusal> {
        let name = parse_name("service name", &entry.key)
            .map_err(|message| Refusal::new(entry.at, message))?;
        let path = format!("service.{name}");
        let mut refusals = Vec::new();
        let (mut tags, mut meta, mut listed) = (Vec::new(), Meta::new(), Vec::new());
        for Entry { key, at, value } in entries(entry.value)? {
            let read = match key.as_str() {
                "tags" => tags_of(value).map(|read| tags = read),
                "meta" => meta_of(value).map(|read| meta = read),
                "instance" => items(value).map(|read| listed = read),
                _ => {
                    let place = format!("[service.{name}]");
                    Err(Refusal::new(at, suggest::unknown_key(&key, &place, &SERVICE_KEYS)))
                }
            };
            if let Err(refusal) = read {
                refusals.push(refusal.under(&key).under(&path));
            }
        }
        let mut instances = Vec::with_capacity(listed.len());
        let mut ids = HashSet::with_capacity(listed.len());
        for (index, item) in listed.into_iter().enumerate() {
            let at = item.at;
            let read = self.instance(item, &tags).and_then(|instance| {
                if ids.insert(Arc::clone(&instance.id)) {
                    return Ok(instance);
                }
                let message = format!(
                    "the id {:?} is taken by an instance above it; give each instance its own `id`",
                    instance.id
                );
                Err(Refusal::new(at, message))
            });
            match read {
                Ok(instance) => instances.push(Arc::new(instance)),
                Err(refusal) => {
                    let at = refusal.at.or(at);
                    let refusal = refusal.under(&format!("{path}.instance[{index}]"));
                    refusals.push(Refusal { at, ..refusal });
                }
            }
        }
        let mut problems: Vec<Arc<str>> =
            refusals.iter().take(PROBLEMS_MAX).map(|refusal| self.told(refusal).into()).collect();
        if refusals.len() > PROBLEMS_MAX {
            problems.push(format!("{} more are refused", refusals.len() - PROBLEMS_MAX).into());
        }
        Ok(SourceService {
            name,
            tags: tags.into(),
            meta: Arc::new(meta),
            instances,
            problems,
            suspect: None,
        })
    }

    fn instance(&self, tree: Tree, service_tags: &[Arc<str>]) -> Result<Instance, Refusal> {
        let whole = tree.at;
        let (mut id, mut address, mut port, mut ports) = (None, None, None, None);
        let (mut weight, mut locality, mut group, mut node) = (Weight::ONE, None, None, None);
        let (mut tags, mut meta) = (service_tags.to_vec(), Meta::new());
        let (mut health, mut cause, mut presence) = (Health::Unknown, "", Presence::Active);
        for Entry { key, at, value } in entries(tree)? {
            let place = value.at;
            // A value of the right type that breaks a rule: told at the value.
            let ruled = |message| Refusal::new(place, message);
            let read = match key.as_str() {
                "id" => text(value)
                    .and_then(|v| parse_name("id", &v).map_err(ruled))
                    .map(|v| id = Some(v)),
                "address" => text(value)
                    .and_then(|v| Address::parse(&v).map_err(ruled))
                    .map(|v| address = Some(v)),
                "port" => integer(&value)
                    .and_then(|v| parse_port(v).map_err(ruled))
                    .map(|v| port = Some(v)),
                "ports" => ports_of(value).map(|v| ports = Some(v)),
                "weight" => integer(&value)
                    .and_then(|v| Weight::try_from(v).map_err(ruled))
                    .map(|v| weight = v),
                "locality" => name(value, "locality").map(|v| locality = Some(v)),
                "group" => name(value, "group").map(|v| group = Some(v)),
                "tags" => tags_of(value).map(|own| {
                    for tag in own {
                        if !tags.contains(&tag) {
                            tags.push(tag);
                        }
                    }
                }),
                "meta" => meta_of(value).map(|v| meta = v),
                "node" => node_of(value).map(|v| node = Some(v)),
                "health" => health_of(value).map(|v| {
                    health = v;
                    cause = "stated by the file";
                }),
                "draining" => flag(&value).map(|v| {
                    if v {
                        presence = Presence::Draining;
                    }
                }),
                _ => {
                    let message = suggest::unknown_key(&key, "an instance", &INSTANCE_KEYS);
                    Err(Refusal::new(at, message))
                }
            };
            read.map_err(|refusal| refusal.under(&key))?;
        }
        let Some(address) = address else {
            return Err(Refusal::new(whole, "the instance has no `address`; add one"));
        };
        let ports: Vec<Port> = match (port, ports) {
            (None, None) => Vec::new(),
            (Some(number), None) => vec![Port { name: "".into(), number }],
            (None, Some(ports)) => ports,
            (Some(_), Some(_)) => {
                let message = "the instance has both `port` and `ports`; keep one of them";
                return Err(Refusal::new(whole, message));
            }
        };
        let id = id.unwrap_or_else(|| default_id(&address, ports.first()));
        Ok(Instance {
            id,
            registry: Arc::clone(self.registry),
            address,
            ports: ports.into(),
            tags: tags.into(),
            meta,
            weight,
            group,
            locality,
            node,
            health,
            cause: cause.into(),
            presence,
        })
    }
}

/// `address:port`, with brackets around an IPv6 address; the address alone without a port.
fn default_id(address: &Address, port: Option<&Port>) -> Arc<str> {
    match (address.ip(), port) {
        (Some(ip), Some(port)) => std::net::SocketAddr::new(ip, port.number).to_string().into(),
        (None, Some(port)) => format!("{address}:{}", port.number).into(),
        (_, None) => address.to_string().into(),
    }
}

fn tags_of(tree: Tree) -> Result<Vec<Arc<str>>, Refusal> {
    let mut tags: Vec<Arc<str>> = Vec::new();
    for (index, item) in items(tree)?.into_iter().enumerate() {
        let at = item.at;
        let tag = text(item)
            .and_then(|v| parse_text("tag", &v, NAME_MAX).map_err(|m| Refusal::new(at, m)))
            .map_err(|refusal| refusal.under(&format!("[{index}]")))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn meta_of(tree: Tree) -> Result<Meta, Refusal> {
    let mut meta = Meta::new();
    for Entry { key, at, value } in entries(tree)? {
        let value_at = value.at;
        let parsed = parse_name("meta key", &key).map_err(|m| Refusal::new(at, m)).and_then(|k| {
            let value = text(value)?;
            let value = parse_text("meta value", &value, META_VALUE_MAX)
                .map_err(|m| Refusal::new(value_at, m))?;
            Ok((k, value))
        });
        let (key, value) = parsed.map_err(|refusal| refusal.under(&key))?;
        meta.insert(key, value);
    }
    Ok(meta)
}

fn ports_of(tree: Tree) -> Result<Vec<Port>, Refusal> {
    let mut ports = Vec::new();
    for Entry { key, at, value } in entries(tree)? {
        let value_at = value.at;
        let port =
            parse_name("port name", &key).map_err(|m| Refusal::new(at, m)).and_then(|name| {
                let number = parse_port(integer(&value)?).map_err(|m| Refusal::new(value_at, m))?;
                Ok(Port { name, number })
            });
        ports.push(port.map_err(|refusal| refusal.under(&key))?);
    }
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ports)
}

fn node_of(tree: Tree) -> Result<Node, Refusal> {
    let whole = tree.at;
    let (mut called, mut address, mut meta) = (None, None, Meta::new());
    for Entry { key, at, value } in entries(tree)? {
        let place = value.at;
        let read = match key.as_str() {
            "name" => name(value, "node name").map(|v| called = Some(v)),
            "address" => text(value)
                .and_then(|v| Address::parse(&v).map_err(|m| Refusal::new(place, m)))
                .map(|v| address = Some(v)),
            "meta" => meta_of(value).map(|v| meta = v),
            _ => Err(Refusal::new(at, suggest::unknown_key(&key, "a node", &NODE_KEYS))),
        };
        read.map_err(|refusal| refusal.under(&key))?;
    }
    let name = called.ok_or_else(|| Refusal::new(whole, "the node has no `name`; add one"))?;
    Ok(Node { name, address, meta })
}

fn health_of(tree: Tree) -> Result<Health, Refusal> {
    let at = tree.at;
    let word = text(tree)?;
    let all = [Health::Unknown, Health::Healthy, Health::Warning, Health::Unhealthy];
    all.into_iter().find(|health| health.word() == word).ok_or_else(|| {
        let remedy = suggest::remedy(&word, &all.map(Health::word), "Known values");
        Refusal::new(at, format!("unknown health `{word}`{remedy}"))
    })
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;

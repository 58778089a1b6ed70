//! The answers of Rancher's metadata service: kept word for word for the metadata API, and the
//! services and containers in them as services and instances for all else.
//!
//! What everybody is told in the newest version counts: its containers that belong to a service
//! become instances of `service.stack`, at the ports that they have inside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::answers::Limits;
use crate::catalog::model::{META_VALUE_MAX, Meta, Node, Port, parse_name, parse_text};
use crate::catalog::{Address, Health, Instance, Presence, Problem, RegistryView, SourceService};
use crate::registry::tree::{self, Notation};

type Table = Map<String, Value>;

/// Reads `text`, the content of `file`, for the registry called `registry`, sharing with `last` what
/// is the same. Pure.
pub(super) fn decode(
    registry: &Arc<str>,
    file: &str,
    text: &str,
    notation: Notation,
    limits: Limits,
    last: &RegistryView,
) -> Result<RegistryView, String> {
    let Value::Object(top) = parse(file, text, notation)? else {
        return Err(format!("{file}: is no table of clients, each with its answers"));
    };
    if top.contains_key("Data") && top.contains_key("Version") {
        return Err(format!(
            "{file}: is what Rancher's subscriber saves, not answers: ask its server for \
             /latest with `Accept: application/json`, and write that under `default`"
        ));
    }
    let mut reading = Reading {
        registry,
        problems: Vec::new(),
        services: BTreeMap::new(),
        clients: 0,
        entries: 0,
    };
    let versioned = top.keys().any(|key| is_version(key));
    if versioned {
        for (version, value) in &top {
            match value {
                Value::Object(clients) => reading.clients(clients),
                other => reading.refuse(version, format!("is {}, not a table", word(other))),
            }
        }
    } else {
        reading.clients(&top);
    }
    let sections = if versioned { newest(&top) } else { Some(&top) };
    if let Some(Value::Object(default)) = sections.and_then(|sections| sections.get("default")) {
        reading.default(default);
    }
    for (count, max, key) in [
        (reading.clients, limits.clients, "max_clients"),
        (reading.entries, limits.entries, "max_entries"),
    ] {
        if count > max {
            return Err(format!("{file}: has {count}, more than `{key}` = {max}; raise it"));
        }
    }
    let services = reading.services.into_values().map(|(service, _)| service).collect();
    let document = Value::Object(top).to_string();
    let known = last.document.as_ref().filter(|known| ***known == *document);
    let document = known.cloned().unwrap_or_else(|| document.into());
    Ok(RegistryView { document: Some(document), ..last.replaced(services, reading.problems) })
}

/// JSON that is none is often YAML: a comma too many is not minded there.
fn parse(file: &str, text: &str, notation: Notation) -> Result<Value, String> {
    match notation {
        Notation::Json => serde_json::from_str(text).or_else(|error| {
            let place = format!("{file}:{}:{}", error.line(), error.column().max(1));
            let yaml = tree::yaml(file, text).ok().filter(Value::is_object);
            yaml.ok_or_else(|| format!("{place}: {error}"))
        }),
        Notation::Yaml => tree::yaml(file, text),
        Notation::Toml => Err(format!("{file}: is no JSON and no YAML, by its name")),
    }
}

/// Whether `key` names a version.
fn is_version(key: &str) -> bool {
    let date = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    key == "latest" || (key.len() == 10 && key.bytes().enumerate().all(date))
}

fn newest(top: &Table) -> Option<&Table> {
    let highest =
        || top.iter().filter(|(key, _)| is_version(key)).map(|(_, value)| value).next_back();
    top.get("latest").or_else(highest)?.as_object()
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// What was read so far.
struct Reading<'a> {
    registry: &'a Arc<str>,
    problems: Vec<Problem>,
    /// Services by name, and the ids in each.
    services: BTreeMap<Arc<str>, (SourceService, BTreeSet<Arc<str>>)>,
    clients: usize,
    entries: usize,
}

impl Reading<'_> {
    fn refuse(&mut self, place: &str, message: String) {
        self.problems.push(Problem { place: place.into(), message: message.into() });
    }

    fn clients(&mut self, clients: &Table) {
        self.clients = self.clients.max(clients.len());
        for (client, value) in clients {
            if client != "default" && client.parse::<IpAddr>().is_err() {
                let message = "is no address, and not `default`: nobody is told this".to_owned();
                self.refuse(client, message);
            } else if !value.is_object() {
                self.refuse(client, format!("is {}, not a table", word(value)));
            }
        }
    }

    fn default(&mut self, default: &Table) {
        let list = |key: &str| {
            let items = default.get(key).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(Value::as_object)
        };
        let hosts: BTreeMap<&str, &Table> =
            list("hosts").filter_map(|host| Some((text(host, "uuid")?, host))).collect();
        for service in list("services") {
            self.entries += 1;
            self.service(service);
        }
        for container in list("containers") {
            self.entries += 1;
            let host = text(container, "host_uuid").and_then(|uuid| hosts.get(uuid));
            self.container(container, host.copied());
        }
    }

    /// The service that `told` names by `name` and its stack.
    fn named(&mut self, name: Option<&str>, told: &Table) -> Option<Arc<str>> {
        let stack = text(told, "stack_name").unwrap_or("default");
        match parse_name("service", &format!("{}.{stack}", name?).to_ascii_lowercase()) {
            Ok(name) => Some(name),
            Err(message) => {
                self.refuse(name.unwrap_or_default(), message);
                None
            }
        }
    }

    fn meta(&mut self, place: &str, facts: Vec<(String, &str)>) -> Meta {
        let mut meta = Meta::new();
        for (key, value) in facts {
            let key = parse_name("label", &key);
            match (key, parse_text("label", value, META_VALUE_MAX)) {
                (Ok(key), Ok(value)) => drop(meta.insert(key, value)),
                (Err(message), _) | (_, Err(message)) => self.refuse(place, message),
            }
        }
        meta
    }

    fn service(&mut self, told: &Table) {
        let Some(name) = self.named(text(told, "name"), told) else { return };
        let mut facts = labels(told);
        for (key, ours) in [
            ("uuid", "rancher.uuid"),
            ("vip", "rancher.vip"),
            ("fqdn", "rancher.fqdn"),
            ("hostname", "rancher.hostname"),
            ("kind", "rancher.kind"),
        ] {
            facts.extend(text(told, key).map(|value| (ours.to_owned(), value)));
        }
        let links = told.get("links").and_then(Value::as_object).into_iter().flatten();
        let links: Vec<(String, String)> = links
            .filter_map(|(alias, target)| {
                let (stack, service) = target.as_str()?.split_once('/')?;
                Some((
                    format!(
                        "rancher.link.{}",
                        alias.split_once('/').map_or(&**alias, |(_, own)| own)
                    ),
                    format!("{service}.{stack}").to_ascii_lowercase(),
                ))
            })
            .collect();
        facts.extend(links.iter().map(|(alias, target)| (alias.clone(), &**target)));
        let meta = self.meta(&name, facts);
        self.of(&name).0.meta = Arc::new(meta);
    }

    fn of(&mut self, name: &Arc<str>) -> &mut (SourceService, BTreeSet<Arc<str>>) {
        self.services.entry(Arc::clone(name)).or_insert_with(|| {
            let service = SourceService {
                name: Arc::clone(name),
                tags: Arc::new([]),
                meta: Arc::default(),
                instances: Vec::new(),
                problems: Vec::new(),
                suspect: None,
            };
            (service, BTreeSet::new())
        })
    }

    fn container(&mut self, told: &Table, host: Option<&Table>) {
        let own = text(told, "name").unwrap_or_default();
        // Without a service or an address there is nothing to find.
        let Some(name) = self.named(text(told, "service_name"), told) else { return };
        let Some(address) = text(told, "primary_ip").filter(|ip| !ip.is_empty()) else { return };
        let Ok(ip) = address.parse::<IpAddr>() else {
            return self.refuse(own, format!("primary_ip {address:?} is no IP address"));
        };
        let id = match parse_name("uuid", text(told, "uuid").unwrap_or(own)) {
            Ok(id) => id,
            Err(message) => return self.refuse(own, message),
        };
        let mut facts = labels(told);
        facts.push(("rancher.container".to_owned(), own));
        facts.extend(text(told, "uuid").map(|uuid| ("rancher.uuid".to_owned(), uuid)));
        let index = told.get("create_index").and_then(Value::as_i64).map(|index| index.to_string());
        facts.extend(index.as_deref().map(|index| ("rancher.create_index".to_owned(), index)));
        let meta = self.meta(own, facts);
        let node = host.and_then(|host| {
            let name =
                parse_name("host", text(host, "name").or_else(|| text(host, "uuid"))?).ok()?;
            let address = text(host, "agent_ip").and_then(|ip| Address::parse(ip).ok());
            let facts = labels(host);
            Some(Node { name, address, meta: self.meta(own, facts) })
        });
        let health = match text(told, "health_state") {
            Some("healthy" | "updating-healthy") => Health::Healthy,
            Some("unhealthy" | "updating-unhealthy") => Health::Unhealthy,
            _ => Health::Unknown,
        };
        let presence = match text(told, "state") {
            Some("stopping" | "stopped" | "removing" | "removed" | "purged") => Presence::Leaving,
            _ => Presence::Active,
        };
        let instance = Instance {
            ports: ports(told),
            meta,
            node,
            health,
            presence,
            ..Instance::bare(self.registry, &id, Address::Ip(ip))
        };
        let (service, ids) = self.of(&name);
        if ids.insert(id) {
            service.instances.push(Arc::new(instance));
        }
    }
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}

fn labels(table: &Table) -> Vec<(String, &str)> {
    let labels = table.get("labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?))).collect()
}

/// The ports inside of the container: 80 of `0.0.0.0:8080:80/tcp`. The only one has no name.
fn ports(told: &Table) -> Arc<[Port]> {
    let list = told.get("ports").and_then(Value::as_array).into_iter().flatten();
    let numbers: BTreeSet<u16> = list
        .filter_map(|port| {
            let (port, _) = port.as_str()?.split_once("/tcp")?;
            port.rsplit(':').next()?.parse().ok().filter(|number| *number != 0)
        })
        .collect();
    let only = numbers.len() == 1;
    let name = |number: u16| if only { Arc::from("") } else { Arc::from(number.to_string()) };
    let mut ports: Vec<Port> =
        numbers.into_iter().map(|number| Port { name: name(number), number }).collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports.into()
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;

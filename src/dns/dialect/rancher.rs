//! The names of Rancher 1.x, over any registry, and those of an `answers` file.
//!
//! | name | records |
//! |---|---|
//! | `service.stack.environment.zone`, `service.stack.zone` | A, AAAA: the VIP, or else each container |
//! | `container.stack.environment.zone`, `container.stack.zone` | A or AAAA of one container |
//! | `alias` | for the containers that have such a link |
//! | `name.12345678-abc.zone` | `name` as the container with this identity sees it |
//! | `rancher-metadata.zone` | 169.254.169.250 |
//!
//! `web.shop.prod` is the service `web` of the stack `shop` in the environment `prod`; a name with
//! fewer dots is of the zone's `environment`, and of the stack `default`. Meta of a service or an
//! instance tells more: `rancher.stack`, `rancher.environment`, `rancher.vip`; of an instance
//! `rancher.container` (default: its id) and `rancher.uuid`. `rancher.link.ALIAS` (a service, as
//! `web.shop`, `web.shop.prod` or whole with a dot at its end) is a link of the service, which comes
//! before one of the same name of the instance. `rancher.sees` lists linked environments,
//! `rancher.search` more names where a container searches, each parted by spaces.
//!
//! A client that is the address of an instance finds names without environment in its own, searches
//! `stack.environment.zone`, `environment.zone` and the zone, and with `isolate` sees no environment
//! but its own and those it is linked with. When no instance is eligible one failing one is shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{Belonging, Dialect, Records, concerns, is_host_label, meta, shown};
use crate::catalog::model::{Instance, Presence, Service};
use crate::dns::config::WhenEmpty;
use crate::dns::lookup::{client_view, everybody};
use crate::dns::node::Data;
use crate::dns::wire::Name;
use crate::dns::zone_settings::ZoneSettings;

/// The dialect `rancher`.
pub(super) const RANCHER: Dialect = Dialect {
    ttl: 10,
    alternatives: &["rancher.internal"],
    belongs: Some((Belonging::Environment, "default")),
    scopes: true,
    own,
    ..Dialect::new("rancher", list)
};

/// Where containers find the metadata service.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 250));
/// Stack of services that tell none.
const STACK: &str = "default";
/// Start of the key of a link.
const LINK: &str = "rancher.link.";
/// Characters of an identity that stand in a name.
const IDENTITY: usize = 12;

fn own(zone: &ZoneSettings, _: &[SocketAddr], out: &mut Records) {
    if let Some(name) = out.checked(zone.apex.child("rancher-metadata")) {
        out.put(&name, Data::address(METADATA));
    }
}

fn list(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    match service.meta.get("rancher.answers") {
        Some(kind) => list_answers(zone, kind, service, out),
        None => list_live(zone, service, out),
    }
}

/// An entry of an `answers` file; see the registry `rancher-answers`.
fn list_answers(zone: &ZoneSettings, kind: &str, service: &Service, out: &mut Records) {
    if let Some(ttl) = service.meta.get("rancher.ttl").and_then(|told| told.parse().ok()) {
        out.mark().ttl = ttl;
    }
    let fact = |key: &str| service.meta.get(key).map(|told| &**told);
    let view = fact("rancher.client").map(|client| {
        let identity = |_| Name::label(client.to_ascii_lowercase().as_bytes());
        client.parse().map_or_else(identity, client_view)
    });
    if kind == "search" {
        let view = view.unwrap_or_else(everybody);
        list_search(&view, 0, fact("rancher.search").unwrap_or_default(), out);
        return;
    }
    let Some(name) = out.checked(Name::parse(fact("rancher.name").unwrap_or_default())) else {
        return;
    };
    let data: Vec<Data> = match kind {
        "a" => {
            let shown = shown(zone, service).into_iter();
            shown.filter_map(|instance| instance.address.ip()).map(Data::address).collect()
        }
        "txt" => {
            let texts = service.meta.iter().filter(|(key, _)| key.starts_with("rancher.text."));
            texts.map(|(_, text)| Data::text(text)).collect()
        }
        _ => {
            let Some(target) = out.checked(Name::parse(fact("rancher.target").unwrap_or_default()))
            else {
                return;
            };
            vec![if kind == "ptr" { Data::Ptr(target) } else { Data::Cname(target) }]
        }
    };
    // The same name in each domain of the zone.
    let domains = || std::iter::once(&zone.apex).chain(&zone.others);
    let below = domains().find(|domain| name.is_in(domain));
    for data in data {
        match (&view, below) {
            (None, Some(from)) => {
                if let Some(name) = name.moved(from, &zone.apex) {
                    out.put(&name, data);
                }
            }
            (Some(view), Some(from)) => {
                for name in domains().filter_map(|to| name.moved(from, to)) {
                    out.put_in(view, &name, data.clone());
                }
            }
            (None, None) => out.put_in(&everybody(), &name, data),
            (Some(view), None) => out.put_in(view, &name, data),
        }
    }
}

fn list_search(view: &Name, from: u8, names: &str, out: &mut Records) {
    let here = Name::root();
    for (order, text) in names.split_whitespace().take(64).enumerate() {
        if let Some(name) = out.checked(Name::parse(text)) {
            out.put_in(view, &here, Data::Search(from + order as u8, name));
        }
    }
}

/// Where a service belongs.
struct Home {
    /// `environment.zone`.
    environment: Name,
    /// `stack.environment.zone`.
    stack: Name,
    /// The labels of the service and its stack, without the environment.
    path: String,
}

fn home(zone: &ZoneSettings, service: &Service) -> Result<Home, String> {
    let parts: Vec<&str> = service.name.split('.').collect();
    let (mut path, mut environment) = match parts[..] {
        [name] => (format!("{name}.{STACK}"), &*zone.belongs),
        [..] if parts.len() == 2 => (service.name.to_string(), &*zone.belongs),
        [.., last] => (parts[..parts.len() - 1].join("."), last),
        [] => (String::new(), &*zone.belongs),
    };
    if let Some(stack) = meta(service, "rancher.stack") {
        path = format!("{}.{stack}", parts.first().copied().unwrap_or_default());
    }
    environment = meta(service, "rancher.environment").unwrap_or(environment);
    let environment = zone.apex.under(environment)?;
    let stack = environment.child(path.rsplit('.').next().unwrap_or_default())?;
    Ok(Home { environment, stack, path })
}

fn list_live(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let Some(home) = out.checked(home(zone, service)) else { return };
    let mut shown = shown(zone, service);
    let here = |instance: &&Arc<Instance>| {
        zone.shows(&instance.registry) && instance.presence == Presence::Active
    };
    if shown.is_empty() {
        let willing = |instance: &&Arc<Instance>| instance.weight.value() > 0;
        shown = service.instances.iter().filter(here).find(willing).into_iter().collect();
    }
    let vip = meta(service, "rancher.vip").and_then(|text| {
        let ip = text.parse::<IpAddr>();
        out.checked(ip.map_err(|_| format!("rancher.vip {text:?} is no address")))
    });
    let names = [home.environment.under(&home.path), zone.apex.under(&home.path)];
    for name in names {
        let Some(name) = out.checked(name) else { continue };
        if let Some(ip) = vip.filter(|_| concerns(zone, service)) {
            out.put(&name, Data::address(ip));
            continue;
        }
        for instance in &shown {
            out.about(instance);
            out.put_address(&name, instance, shown.len() == 1);
        }
        if shown.is_empty() && zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
            out.put(&name, Data::Here);
        }
    }
    for instance in service.instances.iter().filter(here) {
        out.about(instance);
        list_container(zone, &home, instance, out);
        list_views(zone, &home, service, instance, out);
    }
}

fn list_container(zone: &ZoneSettings, home: &Home, instance: &Instance, out: &mut Records) {
    let Some(ip) = instance.address.ip() else { return };
    let own = instance.meta.get("rancher.container").unwrap_or(&instance.id);
    if !is_host_label(own) {
        return;
    }
    let Some(name) = out.checked(home.stack.child(own)) else { return };
    out.put(&name, Data::address(ip));
    out.put_reverse(ip, name);
    let stack = String::from_utf8_lossy(home.stack.first_label()).into_owned();
    if let Some(name) = out.checked(zone.apex.child(&stack).and_then(|stack| stack.child(own))) {
        out.put(&name, Data::address(ip));
    }
}

/// What the container itself sees: by its address, and by its identity.
fn list_views(
    zone: &ZoneSettings,
    home: &Home,
    service: &Service,
    instance: &Instance,
    out: &mut Records,
) {
    let mut views: Vec<Name> = instance.address.ip().map(client_view).into_iter().collect();
    if let Some(uuid) = instance.meta.get("rancher.uuid") {
        let identity: String = uuid.chars().take(IDENTITY).collect();
        views.push(Name::label(identity.to_ascii_lowercase().as_bytes()));
    }
    let mut links: BTreeMap<&str, &str> = BTreeMap::new();
    for facts in [&instance.meta, &*service.meta] {
        for (key, target) in facts {
            if let Some(alias) = key.strip_prefix(LINK) {
                links.insert(alias, target);
            }
        }
    }
    let fact = |key: &str| {
        instance.meta.get(key).or_else(|| service.meta.get(key)).map_or("", |told| &**told)
    };
    let root = Name::root();
    for view in &views {
        for (order, name) in [&home.stack, &home.environment, &zone.apex].into_iter().enumerate() {
            out.put_in(view, &root, Data::Search(order as u8, name.clone()));
        }
        list_search(view, 3, fact("rancher.search"), out);
        let linked = fact("rancher.sees").split_whitespace().map(|name| zone.apex.under(name));
        let mut sees = vec![home.environment.clone()];
        for name in linked {
            sees.extend(out.checked(name));
        }
        for (order, environment) in sees.iter().enumerate() {
            for domain in std::iter::once(&zone.apex).chain(&zone.others) {
                if let Some(name) = environment.moved(&zone.apex, domain) {
                    out.put_in(view, &root, Data::Sees(order as u8, name));
                }
            }
        }
        for (alias, target) in &links {
            let target = match target.split('.').count() {
                _ if target.ends_with('.') => Name::parse(target),
                1 => home.stack.child(target),
                2 => home.environment.under(target),
                _ => zone.apex.under(target),
            };
            let (alias, target) = (out.checked(root.under(alias)), out.checked(target));
            if let (Some(alias), Some(target)) = (alias, target) {
                out.put_in(view, &alias, Data::Cname(target));
            }
        }
    }
}

#[cfg(test)]
#[path = "rancher_tests.rs"]
mod tests;

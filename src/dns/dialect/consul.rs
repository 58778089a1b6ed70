//! The names that Consul gives to services, for clients that were written for it.
//!
//! | name | records |
//! |---|---|
//! | `[tag.]service.service.zone` | A, AAAA, SRV; all labels before the service are one tag |
//! | `_service._tcp[.service].zone`, `_service._tag[.service].zone` | A, AAAA, SRV |
//! | `service.virtual.zone` | the virtual address that Consul gave to the service |
//! | `node.node.zone` | A or AAAA of a node, be it healthy or not, TXT of its meta |
//! | `0a000001.addr.zone` | the address that is spelled, known or not |
//!
//! Each name may carry the datacenter before the apex. Where the zone states its own, instances of
//! others (meta `consul.datacenter`) show below theirs only, as with Consul. Addresses point back
//! to their node, or else to their service. SRV records name the node where the instance has no
//! address of its own, else its address.
//!
//! What differs from Consul on purpose: a name that exists, or has names below it, is never
//! NXDOMAIN; the SOA of a negative answer is that of the apex and may be kept for `negative_ttl`;
//! SOA and NS stand at the apex only; the question comes back in the client's spelling; what does
//! not fit by UDP sets TC unless `truncate = false`; weights choose who comes first among addresses
//! too; PTR records have a TTL. An instance without a port has no SRV, one of weight 0 no record.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Dialect, Records, concerns, hex, shown};
use crate::catalog::model::{Address, Instance, Service};
use crate::dns::config::WhenEmpty;
use crate::dns::node::{Data, Record, Srv};
use crate::dns::wire::Name;
use crate::dns::zone_settings::ZoneSettings;

/// The dialect `consul`.
pub(super) const CONSUL: Dialect =
    Dialect { datacenter: Some("dc1"), addresses: Some("addr"), ..Dialect::new("consul", list) };

/// Keys of a node's meta whose value is all of the text.
const VALUE_ONLY: &str = "rfc1035-";
/// Meta of an instance: the datacenter that it is in.
const DATACENTER: &str = "consul.datacenter";
/// Meta of an instance: the virtual address of its service, perhaps with a port.
const VIRTUAL: &str = "consul.address.consul-virtual";
/// Facts that the registry adds to those of a node.
const ADDED: &str = "consul.";

fn list(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let here = |instance: &&Arc<Instance>| zone.shows(&instance.registry);
    for (told, instances) in by_datacenter(service.instances.iter().filter(here)) {
        let place = Place::of(zone, told, out);
        let back = place.full.child("service").and_then(|all| all.child(&service.name));
        for instance in instances {
            list_reverse(&place, &back, instance, out);
            for above in &place.owners {
                list_node(zone, above, instance, out);
                list_virtual(above, service, instance, out);
            }
        }
    }
    let shown = shown(zone, service);
    if shown.is_empty() {
        if zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
            list_empty(zone, service, out);
        }
        return;
    }
    let mut places: Vec<(Place, Vec<Shown<'_>>)> = Vec::new();
    for (told, instances) in by_datacenter(shown.into_iter()) {
        let place = Place::of(zone, told, out);
        let instances = instances.into_iter().map(|i| Shown::of(&place, i, out)).collect();
        places.push((place, instances));
    }
    let mut by_owner: BTreeMap<&Name, Vec<&Shown<'_>>> = BTreeMap::new();
    for (place, instances) in &places {
        for above in &place.owners {
            by_owner.entry(above).or_default().extend(instances);
        }
    }
    for (above, mut instances) in by_owner {
        // As their records will stand: what is in order is sorted in no time, name by name.
        instances.sort_by(|a, b| a.address.cmp(&b.address));
        list_service(above, service, &instances, out);
    }
}

/// The instances by the datacenter that each tells.
fn by_datacenter<'a>(
    instances: impl Iterator<Item = &'a Arc<Instance>>,
) -> BTreeMap<Option<&'a str>, Vec<&'a Arc<Instance>>> {
    let mut by: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for instance in instances {
        by.entry(instance.meta.get(DATACENTER).map(|told| &**told)).or_default().push(instance);
    }
    by
}

/// Names that go with a datacenter.
struct Place {
    /// The names below which its instances show: the apex, its own, or both.
    owners: Vec<Name>,
    /// The name with the datacenter, as names in answers are spelled.
    full: Name,
    /// Above the names of nodes there.
    nodes: Option<Name>,
    /// Above the names of addresses there.
    addresses: Option<Name>,
}

impl Place {
    fn of(zone: &ZoneSettings, told: Option<&str>, out: &mut Records) -> Self {
        let apex = &zone.apex;
        let below = told.and_then(|told| apex.child(told).ok());
        let owners = match (&below, &zone.own_datacenter) {
            (None, _) => vec![apex.clone()],
            // The same name as the apex; see how names are looked up.
            (Some(below), _) if zone.datacenter.as_ref() == Some(below) => vec![apex.clone()],
            (Some(below), Some(_)) => vec![below.clone()],
            (Some(below), None) => vec![apex.clone(), below.clone()],
        };
        let full = below.or_else(|| zone.datacenter.clone()).unwrap_or_else(|| apex.clone());
        let nodes = out.checked(full.child("node"));
        let addresses = out.checked(full.child("addr"));
        Self { owners, full, nodes, addresses }
    }
}

/// An eligible instance, and its records as they stand under each name of its service.
struct Shown<'a> {
    instance: &'a Instance,
    address: Option<Record>,
    place: Option<Record>,
}

impl<'a> Shown<'a> {
    fn of(place: &Place, instance: &'a Instance, out: &mut Records) -> Self {
        out.about(instance);
        let ip = instance.address.ip();
        let place = instance.port("").and_then(|port| {
            let (target, weight) = (target(place, instance, out)?, instance.weight.value());
            Some(out.record(Data::Srv(Srv { target, port, priority: 1, weight, glue: ip })))
        });
        Self { instance, address: ip.map(|ip| out.record(Data::address(ip))), place }
    }
}

fn list_empty(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let base = zone.apex.child("service").and_then(|all| all.child(&service.name));
    let Some(base) = out.checked(base) else { return };
    out.put(&base, Data::Here);
    for tag in service.tags.iter() {
        if let Some(name) = out.checked(base.under(tag)) {
            out.put(&name, Data::Here);
        }
    }
}

fn list_service(above: &Name, service: &Service, instances: &[&Shown<'_>], out: &mut Records) {
    let Some(all) = out.checked(above.child("service")) else { return };
    let Some(base) = out.checked(all.child(&service.name)) else { return };
    let mut by_tag: BTreeMap<&str, Vec<&Shown<'_>>> = BTreeMap::new();
    for shown in instances {
        for tag in shown.instance.tags.iter() {
            let bearing = by_tag.entry(tag).or_default();
            if bearing.last().is_none_or(|last| !std::ptr::eq(*last, *shown)) {
                bearing.push(shown);
            }
        }
    }
    // A tag with a dot has no name of the form `_service._tag`: there it would be two labels.
    let names = |tag: &str, own: Name, out: &mut Records| {
        let mut names = vec![own];
        if !tag.contains('.') {
            let form = format!("_{}._{tag}", service.name);
            names.extend(
                [&all, above].into_iter().filter_map(|above| out.checked(above.under(&form))),
            );
        }
        names
    };
    let mut of_all = names("tcp", base.clone(), out);
    for (tag, bearing) in by_tag {
        let Some(own) = out.checked(base.under(tag)) else { continue };
        let names = names(tag, own, out);
        if bearing.len() == instances.len() {
            of_all.extend(names);
        } else {
            list_set(names, &bearing, out);
        }
    }
    list_set(of_all, instances, out);
}

/// The records of `instances`, which are all or those of one tag, under each of `owners`.
fn list_set(owners: Vec<Name>, instances: &[&Shown<'_>], out: &mut Records) {
    for shown in instances.iter().filter(|shown| shown.instance.address.ip().is_none()) {
        out.about(shown.instance);
        for owner in &owners {
            out.put_address(owner, shown.instance, instances.len() == 1);
        }
    }
    let mut records = Vec::with_capacity(2 * instances.len());
    records.extend(instances.iter().filter_map(|shown| shown.address.clone()));
    records.extend(instances.iter().filter_map(|shown| shown.place.clone()));
    out.put_alike(owners, records);
}

/// Whether the address of `instance` is that of its node.
fn on_node(instance: &Instance) -> Option<&crate::catalog::model::Node> {
    instance.node.as_ref().filter(|node| node.address.as_ref() == Some(&instance.address))
}

fn target(place: &Place, instance: &Instance, out: &mut Records) -> Option<Name> {
    let name = match (instance.address.ip(), on_node(instance)) {
        (None, _) => Name::parse(&instance.address.to_string()),
        (Some(_), Some(node)) => place.nodes.as_ref()?.under(&node.name),
        (Some(ip), None) => place.addresses.as_ref()?.child(&hex(ip)),
    };
    out.checked(name)
}

fn list_node(zone: &ZoneSettings, above: &Name, instance: &Instance, out: &mut Records) {
    let Some(node) = &instance.node else { return };
    let Some(ip) = node.address.as_ref().and_then(Address::ip) else { return };
    let Some(name) = out.checked(above.child("node").and_then(|all| all.under(&node.name))) else {
        return;
    };
    out.put_for(zone.node_ttl, &name, Data::address(ip));
    for (key, value) in node.meta.iter().filter(|(key, _)| !key.starts_with(ADDED)) {
        let text =
            if key.starts_with(VALUE_ONLY) { value.to_string() } else { format!("{key}={value}") };
        out.put_for(zone.node_ttl, &name, Data::text(&text));
    }
}

/// The virtual address that was given to the service, whoever is healthy.
fn list_virtual(above: &Name, service: &Service, instance: &Instance, out: &mut Records) {
    let Some(told) = instance.meta.get(VIRTUAL) else { return };
    let ip = told.parse().ok().or_else(|| told.parse().ok().map(|at: SocketAddr| at.ip()));
    let Some(ip): Option<IpAddr> = ip else {
        out.problem(format!("the virtual address {told:?} is no IP address"));
        return;
    };
    let name = above.child("virtual").and_then(|all| all.child(&service.name));
    if let Some(name) = out.checked(name) {
        out.put(&name, Data::address(ip));
    }
}

/// Addresses point back to the node, or else to the service (`back`), whoever is healthy.
fn list_reverse(
    place: &Place,
    back: &Result<Name, String>,
    instance: &Instance,
    out: &mut Records,
) {
    if let Some(node) = &instance.node
        && let Some(ip) = node.address.as_ref().and_then(Address::ip)
        && let Some(name) = place.nodes.as_ref().and_then(|all| out.checked(all.under(&node.name)))
    {
        out.put_reverse(ip, name);
    }
    if on_node(instance).is_none()
        && let Some(ip) = instance.address.ip()
        && let Some(name) = out.checked(back.clone())
    {
        out.put_reverse(ip, name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{instance, listed, service, service_of, settings};

    #[test]
    fn a_service_has_these_names_and_no_others() {
        let settings = settings("listen = []\n[zone.consul]\ndialect = \"consul\"");
        for (case, name, instances, want) in [
            (
                "no tags",
                "web",
                &["a 10.0.0.1 80"][..],
                &[
                    "1.0.0.10.in-addr.arpa. PTR web.service.dc1.consul.",
                    "_web._tcp.consul. A 10.0.0.1",
                    "_web._tcp.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                    "_web._tcp.service.consul. A 10.0.0.1",
                    "_web._tcp.service.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                    "web.service.consul. A 10.0.0.1",
                    "web.service.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                ][..],
            ),
            (
                "a tag with a dot is one tag and has no name of the form _service._tag",
                "w",
                &["a 10.0.0.1 - v1.2", "b 10.0.0.2 - -"],
                &[
                    "1.0.0.10.in-addr.arpa. PTR w.service.dc1.consul.",
                    "2.0.0.10.in-addr.arpa. PTR w.service.dc1.consul.",
                    "_w._tcp.consul. A 10.0.0.1",
                    "_w._tcp.consul. A 10.0.0.2",
                    "_w._tcp.service.consul. A 10.0.0.1",
                    "_w._tcp.service.consul. A 10.0.0.2",
                    "v1.2.w.service.consul. A 10.0.0.1",
                    "w.service.consul. A 10.0.0.1",
                    "w.service.consul. A 10.0.0.2",
                ],
            ),
            (
                "a tag, a node",
                "w",
                &["a 10.0.0.1 80 prod n1"],
                &[
                    "1.0.0.10.in-addr.arpa. PTR n1.node.dc1.consul.",
                    "_w._prod.consul. A 10.0.0.1",
                    "_w._prod.consul. SRV 1 1 80 n1.node.dc1.consul.",
                    "_w._prod.service.consul. A 10.0.0.1",
                    "_w._prod.service.consul. SRV 1 1 80 n1.node.dc1.consul.",
                    "_w._tcp.consul. A 10.0.0.1",
                    "_w._tcp.consul. SRV 1 1 80 n1.node.dc1.consul.",
                    "_w._tcp.service.consul. A 10.0.0.1",
                    "_w._tcp.service.consul. SRV 1 1 80 n1.node.dc1.consul.",
                    "n1.node.consul. A 10.0.0.1",
                    "prod.w.service.consul. A 10.0.0.1",
                    "prod.w.service.consul. SRV 1 1 80 n1.node.dc1.consul.",
                    "w.service.consul. A 10.0.0.1",
                    "w.service.consul. SRV 1 1 80 n1.node.dc1.consul.",
                ],
            ),
            ("nobody", "none", &[], &[]),
        ] {
            let (lines, problems) = listed(&settings, &service(name, instances));
            assert_eq!(lines, want, "{case}");
            assert!(problems.is_empty(), "{case}: {problems:?}");
        }
    }

    #[test]
    fn a_service_whose_name_has_a_dot_is_left_out_for_it_would_read_as_a_tag() {
        let settings = settings("listen = []\n[zone.consul]\ndialect = \"consul\"");
        let (lines, problems) = listed(&settings, &service("a.b", &["x 10.0.0.1 80"]));
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(problems, ["\"a.b\" has a dot; it has to be one label of a DNS name"]);
    }

    #[test]
    fn instances_of_another_datacenter_show_below_its_label_and_elsewhere_only_if_none_is_told() {
        let mut far = instance("a 10.0.0.1 80");
        far.meta.insert("consul.datacenter".into(), "dc2".into());
        let service = service_of("w", vec![far, instance("b 10.0.0.2 80")]);
        for (told, want) in [
            ("datacenter = \"dc1\"", &["w.service.consul. A 10.0.0.2"][..]),
            ("", &["w.service.consul. A 10.0.0.1", "w.service.consul. A 10.0.0.2"]),
        ] {
            let settings =
                settings(&format!("listen = []\n[zone.consul]\ndialect = \"consul\"\n{told}"));
            let (lines, _) = listed(&settings, &service);
            let of = |name: &str| -> Vec<&str> {
                let start = format!("{name} A ");
                lines.iter().filter(|line| line.starts_with(&start)).map(|l| &**l).collect()
            };
            assert_eq!(of("w.service.consul."), want, "{told}");
            assert_eq!(of("w.service.dc2.consul."), ["w.service.dc2.consul. A 10.0.0.1"], "{told}");
            let target = "w.service.dc2.consul. SRV 1 1 80 0a000001.addr.dc2.consul.";
            assert!(lines.iter().any(|line| line == target), "{lines:#?}");
        }
    }

    #[test]
    fn a_virtual_address_stands_whoever_is_healthy_and_nodes_do_too() {
        let settings = settings("listen = []\n[zone.consul]\ndialect = \"consul\"");
        let mut down = instance("a 10.0.0.1 80 - n1");
        down.health = crate::catalog::Health::Unhealthy;
        // As Consul tells it in TaggedAddresses of a service in the mesh.
        down.meta.insert("consul.address.consul-virtual".into(), "240.0.0.7:80".into());
        let (lines, problems) = listed(&settings, &service_of("w", vec![down]));
        assert_eq!(
            lines,
            [
                "1.0.0.10.in-addr.arpa. PTR n1.node.dc1.consul.",
                "n1.node.consul. A 10.0.0.1",
                "w.virtual.consul. A 240.0.0.7",
            ]
        );
        assert!(problems.is_empty(), "{problems:?}");
    }
}

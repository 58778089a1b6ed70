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
use crate::dns::node::{Data, Srv};
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
    for instance in service.instances.iter().filter(here) {
        list_reverse(zone, service, instance, out);
        for above in owners(zone, instance) {
            list_node(zone, &above, instance, out);
            list_virtual(&above, service, instance, out);
        }
    }
    let shown = shown(zone, service);
    if shown.is_empty() {
        if zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
            list_empty(zone, service, out);
        }
        return;
    }
    let mut by_owner: BTreeMap<Name, Vec<&Arc<Instance>>> = BTreeMap::new();
    for instance in &shown {
        for above in owners(zone, instance) {
            by_owner.entry(above).or_default().push(instance);
        }
    }
    for (above, instances) in by_owner {
        list_service(zone, &above, service, &instances, out);
    }
}

/// The names below which `instance` shows: the apex, that of its datacenter, or both.
fn owners(zone: &ZoneSettings, instance: &Instance) -> Vec<Name> {
    let apex = || vec![zone.apex.clone()];
    let Some(told) = instance.meta.get(DATACENTER) else { return apex() };
    let Ok(below) = zone.apex.child(told) else { return apex() };
    match &zone.own_datacenter {
        // The same name as the apex; see how names are looked up.
        _ if zone.datacenter.as_ref() == Some(&below) => apex(),
        Some(_) => vec![below],
        None => vec![zone.apex.clone(), below],
    }
}

/// The name with the datacenter of `instance`, as names in answers are spelled.
fn full(zone: &ZoneSettings, instance: &Instance) -> Name {
    let told = instance.meta.get(DATACENTER).and_then(|told| zone.apex.child(told).ok());
    told.or_else(|| zone.datacenter.clone()).unwrap_or_else(|| zone.apex.clone())
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

fn list_service(
    zone: &ZoneSettings,
    above: &Name,
    service: &Service,
    instances: &[&Arc<Instance>],
    out: &mut Records,
) {
    let base = above.child("service").and_then(|all| all.child(&service.name));
    let Some(base) = out.checked(base) else { return };
    let mut by_tag: BTreeMap<&str, Vec<&Arc<Instance>>> = BTreeMap::new();
    for instance in instances {
        for tag in instance.tags.iter() {
            by_tag.entry(tag).or_default().push(instance);
        }
    }
    let set = |tag: &str, owner: &Name, instances: &[&Arc<Instance>], out: &mut Records| {
        list_set(zone, above, service, (tag, owner), instances, out);
    };
    set("tcp", &base, instances, out);
    for (tag, instances) in by_tag {
        if let Some(name) = out.checked(base.under(tag)) {
            set(tag, &name, &instances, out);
        }
    }
}

/// The records of `instances`, which are all or those of one tag, under `owner` and under the
/// names of the form `_service._tag`.
fn list_set(
    zone: &ZoneSettings,
    above: &Name,
    service: &Service,
    (tag, owner): (&str, &Name),
    instances: &[&Arc<Instance>],
    out: &mut Records,
) {
    // A tag with a dot has no name of the form `_service._tag`: there it would be two labels.
    let mut owners = vec![owner.clone()];
    if !tag.contains('.') {
        let of = |above: Result<Name, String>| {
            above?.child(&format!("_{tag}"))?.child(&format!("_{}", service.name))
        };
        for name in [of(above.child("service")), of(Ok(above.clone()))] {
            owners.extend(out.checked(name));
        }
    }
    for instance in instances {
        out.about(instance);
        for owner in &owners {
            out.put_address(owner, instance, instances.len() == 1);
        }
        let Some(port) = instance.port("") else { continue };
        let Some(target) = out.checked(target(zone, instance)) else { continue };
        for owner in &owners {
            out.put(
                owner,
                Data::Srv(Srv {
                    target: target.clone(),
                    port,
                    priority: 1,
                    weight: instance.weight.value(),
                    glue: instance.address.ip(),
                }),
            );
        }
    }
}

/// Whether the address of `instance` is that of its node.
fn on_node(instance: &Instance) -> Option<&crate::catalog::model::Node> {
    instance.node.as_ref().filter(|node| node.address.as_ref() == Some(&instance.address))
}

fn target(zone: &ZoneSettings, instance: &Instance) -> Result<Name, String> {
    let Some(ip) = instance.address.ip() else {
        return Name::parse(&instance.address.to_string());
    };
    match on_node(instance) {
        Some(node) => full(zone, instance).child("node")?.under(&node.name),
        None => full(zone, instance).child("addr")?.child(&hex(ip)),
    }
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

/// Addresses point back to the node, or else to the service, whoever is healthy.
fn list_reverse(zone: &ZoneSettings, service: &Service, instance: &Instance, out: &mut Records) {
    let full = full(zone, instance);
    if let Some(node) = &instance.node
        && let Some(ip) = node.address.as_ref().and_then(Address::ip)
        && let Some(name) = out.checked(full.child("node").and_then(|all| all.under(&node.name)))
    {
        out.put_reverse(ip, name);
    }
    if on_node(instance).is_none()
        && let Some(ip) = instance.address.ip()
        && let Some(name) =
            out.checked(full.child("service").and_then(|all| all.child(&service.name)))
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

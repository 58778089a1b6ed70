//! The names that Consul gives to services, for clients that were written for it.
//!
//! | name | records |
//! |---|---|
//! | `[tag.]service.service.zone` | A, AAAA, SRV; all labels before the service are one tag |
//! | `_service._tcp[.service].zone`, `_service._tag[.service].zone` | SRV |
//! | `node.node.zone` | A or AAAA of a node, TXT of its meta |
//! | `0a000001.addr.zone` | the address that is spelled, known or not |
//!
//! Each name may carry the datacenter before the apex. Addresses point back to their node, or else
//! to their service. What differs from Consul on purpose: a name that exists, or has names below
//! it, is never NXDOMAIN; the SOA of a negative answer is that of the apex and may be kept for
//! `negative_ttl`; the question comes back in the client's spelling; what does not fit by UDP
//! always sets TC. An instance without a port has no SRV.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Dialect, Records, concerns, hex, shown};
use crate::catalog::model::{Address, Instance, Service};
use crate::dns::config::WhenEmpty;
use crate::dns::node::{Data, Srv};
use crate::dns::settings::ZoneSettings;
use crate::dns::wire::Name;

/// The dialect `consul`.
pub(super) const CONSUL: Dialect =
    Dialect { name: "consul", datacenter: Some("dc1"), addresses: Some("addr"), list };

/// Keys of a node's meta whose value is all of the text.
const VALUE_ONLY: &str = "rfc1035-";

fn list(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let Some(base) =
        out.checked(zone.apex.child("service").and_then(|all| all.child(&service.name)))
    else {
        return;
    };
    let shown = shown(zone, service);
    if shown.is_empty() {
        if zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
            out.put(&base, Data::Here);
            for tag in service.tags.iter() {
                if let Some(name) = out.checked(base.under(tag)) {
                    out.put(&name, Data::Here);
                }
            }
        }
        return;
    }
    let mut by_tag: BTreeMap<&str, Vec<&Arc<Instance>>> = BTreeMap::new();
    for instance in &shown {
        for tag in instance.tags.iter() {
            by_tag.entry(tag).or_default().push(instance);
        }
        list_node(zone, instance, out);
        list_reverse(zone, service, instance, out);
    }
    list_set(zone, service, &base, "tcp", &shown, out);
    for (tag, instances) in by_tag {
        if let Some(name) = out.checked(base.under(tag)) {
            list_set(zone, service, &name, tag, &instances, out);
        }
    }
}

/// The records of `instances`, which are all or those of one tag.
fn list_set(
    zone: &ZoneSettings,
    service: &Service,
    owner: &Name,
    tag: &str,
    instances: &[&Arc<Instance>],
    out: &mut Records,
) {
    // A tag with a dot has no name of the form `_service._tag`: there it would be two labels.
    let mut srv_owners = vec![owner.clone()];
    if !tag.contains('.') {
        let of = |above: Result<Name, String>| {
            above?.child(&format!("_{tag}"))?.child(&format!("_{}", service.name))
        };
        for name in [of(zone.apex.child("service")), of(Ok(zone.apex.clone()))] {
            srv_owners.extend(out.checked(name));
        }
    }
    for instance in instances {
        out.put_address(owner, instance, instances.len() == 1);
        let Some(port) = instance.port("") else { continue };
        let Some(target) = out.checked(target(zone, instance)) else { continue };
        for owner in &srv_owners {
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

fn target(zone: &ZoneSettings, instance: &Instance) -> Result<Name, String> {
    match instance.address.ip() {
        Some(ip) => full(zone).child("addr")?.child(&hex(ip)),
        None => Name::parse(&instance.address.to_string()),
    }
}

/// The apex with the datacenter before it, as names in answers are spelled.
fn full(zone: &ZoneSettings) -> &Name {
    zone.datacenter.as_ref().unwrap_or(&zone.apex)
}

fn list_node(zone: &ZoneSettings, instance: &Instance, out: &mut Records) {
    let Some(node) = &instance.node else { return };
    let Some(ip) = node.address.as_ref().and_then(Address::ip) else { return };
    let Some(name) = out.checked(zone.apex.child("node").and_then(|all| all.under(&node.name)))
    else {
        return;
    };
    out.put(&name, Data::address(ip));
    for (key, value) in &node.meta {
        let text =
            if key.starts_with(VALUE_ONLY) { value.to_string() } else { format!("{key}={value}") };
        out.put(&name, Data::text(&text));
    }
}

fn list_reverse(zone: &ZoneSettings, service: &Service, instance: &Instance, out: &mut Records) {
    let Some(ip) = instance.address.ip() else { return };
    let on_node =
        instance.node.as_ref().filter(|node| node.address.as_ref() == Some(&instance.address));
    let name = match on_node {
        Some(node) => full(zone).child("node").and_then(|all| all.under(&node.name)),
        None => full(zone).child("service").and_then(|all| all.child(&service.name)),
    };
    if let Some(name) = out.checked(name) {
        out.put_reverse(ip, name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{listed, service, settings};

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
                    "_web._tcp.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
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
                    "_w._prod.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                    "_w._prod.service.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                    "_w._tcp.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                    "_w._tcp.service.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                    "n1.node.consul. A 10.0.0.1",
                    "prod.w.service.consul. A 10.0.0.1",
                    "prod.w.service.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
                    "w.service.consul. A 10.0.0.1",
                    "w.service.consul. SRV 1 1 80 0a000001.addr.dc1.consul.",
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
}

//! The plain dialect: every name ends in `service.zone`.
//!
//! | name | records |
//! |---|---|
//! | `service.zone` | A, AAAA of all; SRV of the unnamed or first port; TXT of the service's meta |
//! | `_port._tcp.service.zone` | SRV of the named port |
//! | `id.service.zone` | A or AAAA of one instance, TXT of its meta |
//!
//! A dot in the name of a service parts labels. An id that is no host label (`10.0.0.1:80`) gives
//! way to the address, as `ip-0a000001.service.zone`. Addresses point back to the latter names.

use super::{Dialect, Records, concerns, hex, is_host_label, shown};
use crate::catalog::model::{Instance, Service};
use crate::dns::config::WhenEmpty;
use crate::dns::node::{Data, Srv};
use crate::dns::wire::Name;
use crate::dns::zone_settings::ZoneSettings;

/// The dialect `plain`.
pub(super) const PLAIN: Dialect = Dialect::new("plain", list);

fn list(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let Some(base) = out.checked(zone.apex.under(&service.name)) else { return };
    let shown = shown(zone, service);
    if shown.is_empty() {
        if zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
            out.put(&base, Data::Here);
        }
        return;
    }
    out.put_meta(&base, &service.meta);
    // Under the base stand those of all instances.
    let mut all = Vec::with_capacity(2 * shown.len());
    for instance in &shown {
        out.about(instance);
        match instance.address.ip() {
            Some(ip) => all.push(out.record(Data::address(ip))),
            None => out.put_address(&base, instance, shown.len() == 1),
        }
        let Some(own) = own_name(&base, instance, out) else { continue };
        if let Some(ip) = instance.address.ip() {
            out.put_reverse(ip, own.clone());
        }
        let srv = |port: u16| {
            Data::Srv(Srv {
                target: own.clone(),
                port,
                priority: 1,
                weight: instance.weight.value(),
                glue: instance.address.ip(),
            })
        };
        if let Some(port) = instance.port("") {
            all.push(out.record(srv(port)));
        }
        for port in instance.ports.iter().filter(|port| !port.name.is_empty()) {
            let name = base.child("_tcp").and_then(|tcp| tcp.child(&format!("_{}", port.name)));
            if let Some(name) = out.checked(name) {
                out.put(&name, srv(port.number));
            }
        }
    }
    out.put_alike(vec![base], all);
}

/// The name of one instance, with its records put under it.
fn own_name(base: &Name, instance: &Instance, out: &mut Records) -> Option<Name> {
    let own = match instance.address.ip() {
        _ if is_host_label(&instance.id) => base.child(&instance.id),
        Some(ip) => base.child(&format!("ip-{}", hex(ip))),
        // Nothing to put under a name of ours: the host name is the name.
        None => return out.checked(Name::parse(&instance.address.to_string())),
    };
    let own = out.checked(own)?;
    out.put_address(&own, instance, true);
    out.put_meta(&own, &instance.meta);
    Some(own)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{listed, service, settings};

    #[test]
    fn a_service_has_these_names_and_no_others() {
        let settings = settings("listen = []\n[zone.svc]");
        for (case, name, instances, want) in [
            (
                "ids that are labels",
                "Web",
                &["a 10.0.0.1 80", "b fd00::1 81"][..],
                &[
                    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. \
                     PTR b.web.svc.",
                    "1.0.0.10.in-addr.arpa. PTR a.web.svc.",
                    "a.web.svc. A 10.0.0.1",
                    "b.web.svc. AAAA fd00::1",
                    "web.svc. A 10.0.0.1",
                    "web.svc. AAAA fd00::1",
                    "web.svc. SRV 1 1 80 a.web.svc.",
                    "web.svc. SRV 1 1 81 b.web.svc.",
                ][..],
            ),
            (
                "named ports and an id that is an address",
                "db",
                &["10.0.0.2:99 10.0.0.2 admin=99,sql=3306"],
                &[
                    "2.0.0.10.in-addr.arpa. PTR ip-0a000002.db.svc.",
                    "_admin._tcp.db.svc. SRV 1 1 99 ip-0a000002.db.svc.",
                    "_sql._tcp.db.svc. SRV 1 1 3306 ip-0a000002.db.svc.",
                    "db.svc. A 10.0.0.2",
                    "db.svc. SRV 1 1 99 ip-0a000002.db.svc.",
                    "ip-0a000002.db.svc. A 10.0.0.2",
                ],
            ),
            (
                "a dot parts labels, no ports",
                "a.b",
                &["x 10.0.0.3 -"],
                &[
                    "3.0.0.10.in-addr.arpa. PTR x.a.b.svc.",
                    "a.b.svc. A 10.0.0.3",
                    "x.a.b.svc. A 10.0.0.3",
                ],
            ),
            (
                "a host name alone is an alias",
                "ext",
                &["x:1 db.example.com 5432"],
                &["ext.svc. CNAME db.example.com.", "ext.svc. SRV 1 1 5432 db.example.com."],
            ),
            ("nobody", "none", &[], &[]),
        ] {
            let (lines, problems) = listed(&settings, &service(name, instances));
            assert_eq!(lines, want, "{case}");
            assert!(problems.is_empty(), "{case}: {problems:?}");
        }
    }

    #[test]
    fn what_does_not_fit_into_dns_is_left_out_and_told() {
        let settings = settings("listen = []\n[zone.svc]");
        let long = "x".repeat(64);
        for (case, service, want) in [
            ("long name", service(&long, &["a 10.0.0.1 80"]), "has 64 bytes"),
            ("empty label", service("a..b", &["a 10.0.0.1 80"]), "is empty"),
            (
                "host name beside an address",
                service("w", &["a 10.0.0.1 80", "b h.example 80"]),
                "\"b\" is left out of w.svc.",
            ),
            ("port name", service("w", &["a 10.0.0.1 a.b=80"]), "\"_a.b\" has a dot"),
        ] {
            let (_, problems) = listed(&settings, &service);
            assert_eq!(problems.len(), 1, "{case}: {problems:?}");
            assert!(problems[0].contains(want), "{case}: {problems:?}");
        }
    }

    #[test]
    fn an_empty_service_exists_only_where_the_zone_says_nodata() {
        let empty = service("w", &[]);
        let settings_nodata = settings("listen = []\n[zone.svc]\nwhen_empty = \"nodata\"");
        assert_eq!(listed(&settings_nodata, &empty).0, ["w.svc. (no records)"]);
        assert!(listed(&settings("listen = []\n[zone.svc]"), &empty).0.is_empty());
    }
}

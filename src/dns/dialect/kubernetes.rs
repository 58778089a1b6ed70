//! The names of the Kubernetes DNS specification 1.1.0, over any registry.
//!
//! | name | records |
//! |---|---|
//! | `service.namespace.svc.zone` | A, AAAA: the cluster address, or else each ready instance |
//! | `host.service.namespace.svc.zone` | A or AAAA of an instance of a service without one |
//! | `_port._proto.service.namespace.svc.zone` | SRV of the named port |
//! | `1-2-3-4.namespace.pod.zone` | A or AAAA of an instance, by its address |
//! | `dns-version.zone` | TXT `1.1.0` |
//!
//! `web.prod` is the service `web` of the namespace `prod`; a name without a dot is of the zone's
//! `namespace`. Meta of a service or of an instance tells more: `kubernetes.namespace`,
//! `kubernetes.cluster_ip`, `kubernetes.external_name`; of an instance `kubernetes.hostname`, and
//! `kubernetes.protocol.PORT` (default `tcp`). A host without a name is called by its address with
//! dashes. Addresses point back to their names. A service without a ready instance is NXDOMAIN as
//! the specification has it, or NODATA by `when_empty`; with a cluster address it stays.

use std::net::{IpAddr, SocketAddr};

use super::{Belonging, Dialect, Records, concerns, dashed, is_host_label, meta, shown};
use crate::catalog::model::{Instance, Service};
use crate::dns::config::WhenEmpty;
use crate::dns::node::{Data, Srv};
use crate::dns::set::Rules;
use crate::dns::wire::Name;
use crate::dns::zone_settings::ZoneSettings;

/// The dialect `kubernetes`.
pub(super) const KUBERNETES: Dialect = Dialect {
    ttl: 5,
    belongs: Some((Belonging::Namespace, "default")),
    rules: Rules { hundred: Some(1), groups: false },
    own,
    ..Dialect::new("kubernetes", list)
};

/// The version of the specification.
const VERSION: &str = "1.1.0";

fn own(zone: &ZoneSettings, _: &[SocketAddr], out: &mut Records) {
    if let Some(name) = out.checked(zone.apex.child("dns-version")) {
        out.put(&name, Data::text(VERSION));
    }
}

fn list(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let (name, namespace) = match meta(service, "kubernetes.namespace") {
        Some(namespace) => (&*service.name, namespace),
        None => service.name.split_once('.').unwrap_or((&service.name, &zone.belongs)),
    };
    let spaces = zone.apex.child("svc").and_then(|all| all.child(namespace));
    let Some(base) = out.checked(spaces.and_then(|space| space.child(name))) else { return };
    let shown = shown(zone, service);
    if let Some(external) = meta(service, "kubernetes.external_name") {
        if let Some(target) = out.checked(Name::parse(external)) {
            out.put(&base, Data::Cname(target));
        }
        return;
    }
    let cluster = meta(service, "kubernetes.cluster_ip").filter(|text| *text != "None");
    let cluster = cluster.and_then(|text| {
        let ip = text.parse().map_err(|_| format!("kubernetes.cluster_ip {text:?} is no address"));
        out.checked(ip)
    });
    if let Some(ip) = cluster.filter(|_| concerns(zone, service)) {
        out.put(&base, Data::address(ip));
        out.put_reverse(ip, base.clone());
    }
    if shown.is_empty() && zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
        out.put(&base, Data::Here);
    }
    for instance in &shown {
        out.about(instance);
        list_pod(zone, namespace, instance, out);
        let host =
            if cluster.is_some() { None } else { list_host(&base, instance, shown.len(), out) };
        let target = host.as_ref().unwrap_or(&base);
        let glue = cluster.or_else(|| instance.address.ip());
        list_ports(&base, target, (instance, glue), out);
    }
}

/// The addresses of an instance of a headless service; returns its own name.
fn list_host(base: &Name, instance: &Instance, all: usize, out: &mut Records) -> Option<Name> {
    out.put_address(base, instance, all == 1);
    let ip = instance.address.ip()?;
    let host = match instance.meta.get("kubernetes.hostname") {
        Some(host) => host.to_string(),
        None => dashed(ip),
    };
    let own = out.checked(base.child(&host))?;
    out.put(&own, Data::address(ip));
    out.put_reverse(ip, own.clone());
    Some(own)
}

fn list_ports(
    base: &Name,
    target: &Name,
    (instance, glue): (&Instance, Option<IpAddr>),
    out: &mut Records,
) {
    for port in instance.ports.iter().filter(|port| !port.name.is_empty()) {
        let told = instance.meta.get(&*format!("kubernetes.protocol.{}", port.name));
        let protocol = told.map_or("tcp", |told| told);
        let name = base.child(&format!("_{}", protocol.to_ascii_lowercase()));
        let name = name.and_then(|name| name.child(&format!("_{}", port.name)));
        let Some(name) = out.checked(name) else { continue };
        let weight = instance.weight.value();
        let (target, port) = (target.clone(), port.number);
        out.put(&name, Data::Srv(Srv { target, port, priority: 0, weight, glue }));
    }
}

fn list_pod(zone: &ZoneSettings, namespace: &str, instance: &Instance, out: &mut Records) {
    let Some(ip) = instance.address.ip() else { return };
    let label = dashed(ip);
    // `::1` becomes `--1`, which is no label of a host.
    if !is_host_label(&label) {
        return;
    }
    let pod = zone.apex.child("pod").and_then(|all| all.child(namespace)?.child(&label));
    if let Some(pod) = out.checked(pod) {
        out.put(&pod, Data::address(ip));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{instance, listed, service, service_of, settings};
    use super::*;

    const ZONE: &str = "listen = []\n[zone.\"cluster.local\"]\ndialect = \"kubernetes\"";

    fn told(mut service: Service, facts: &[(&str, &str)]) -> Service {
        service.meta = Arc::new(facts.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        service
    }

    #[test]
    fn a_service_has_these_names_and_no_others() {
        let settings = settings(ZONE);
        for (case, service, want) in [
            (
                "headless, a host name, a protocol",
                {
                    let mut named = instance("a 10.0.0.1 dns=53,web=80");
                    named.meta.insert("kubernetes.hostname".into(), "h".into());
                    named.meta.insert("kubernetes.protocol.dns".into(), "UDP".into());
                    service_of("w.prod", vec![named])
                },
                &[
                    "1.0.0.10.in-addr.arpa. PTR h.w.prod.svc.cluster.local.",
                    "10-0-0-1.prod.pod.cluster.local. A 10.0.0.1",
                    "_dns._udp.w.prod.svc.cluster.local. SRV 0 1 53 h.w.prod.svc.cluster.local.",
                    "_web._tcp.w.prod.svc.cluster.local. SRV 0 1 80 h.w.prod.svc.cluster.local.",
                    "h.w.prod.svc.cluster.local. A 10.0.0.1",
                    "w.prod.svc.cluster.local. A 10.0.0.1",
                ][..],
            ),
            (
                "a cluster address, no unnamed port",
                told(
                    service("w", &["a 10.0.0.1 80,web=80"]),
                    &[("kubernetes.cluster_ip", "10.96.0.1")],
                ),
                &[
                    "1.0.96.10.in-addr.arpa. PTR w.default.svc.cluster.local.",
                    "10-0-0-1.default.pod.cluster.local. A 10.0.0.1",
                    "_web._tcp.w.default.svc.cluster.local. SRV 0 1 80 w.default.svc.cluster.local.",
                    "w.default.svc.cluster.local. A 10.96.0.1",
                ],
            ),
            (
                "an external name",
                told(service("w", &[]), &[("kubernetes.external_name", "db.example.com")]),
                &["w.default.svc.cluster.local. CNAME db.example.com."],
            ),
            (
                "nobody is ready behind a cluster address",
                told(service("w", &[]), &[("kubernetes.cluster_ip", "10.96.0.1")]),
                &[
                    "1.0.96.10.in-addr.arpa. PTR w.default.svc.cluster.local.",
                    "w.default.svc.cluster.local. A 10.96.0.1",
                ],
            ),
            ("nobody is ready", service("w", &[]), &[]),
        ] {
            let (lines, problems) = listed(&settings, &service);
            assert_eq!(lines, want, "{case}");
            assert!(problems.is_empty(), "{case}: {problems:?}");
        }
        let nodata = super::super::testing::settings(&format!("{ZONE}\nwhen_empty = \"nodata\""));
        let (lines, _) = listed(&nodata, &service("w", &[]));
        assert_eq!(lines, ["w.default.svc.cluster.local. (no records)"]);
    }

    #[test]
    fn the_zone_tells_its_version_and_where_services_belong_by_default() {
        let settings = settings(&format!("{ZONE}\nnamespace = \"shop\""));
        let own = settings.zones[0].own_records(&[]);
        let version =
            own.zone.iter().find(|(name, _)| name.to_string().starts_with("dns-version."));
        assert_eq!(version.unwrap().1.data, Data::text("1.1.0"));
        let (lines, _) = listed(&settings, &service("w", &["a ::1 -"]));
        assert!(lines.contains(&"w.shop.svc.cluster.local. AAAA ::1".to_owned()), "{lines:?}");
    }
}

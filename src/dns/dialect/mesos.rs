//! The names of Mesos-DNS, over any registry, of healthy tasks only.
//!
//! | name | records |
//! |---|---|
//! | `task.fw.zone`, `task-HHHHH-sN.fw.zone` | A, AAAA of the task; the latter of one task |
//! | `task.fw.slave.zone`, `task-HHHHH-sN.fw.slave.zone` | A, AAAA of its agent |
//! | `_task._tcp.fw[.slave].zone`, the same with `_udp` | SRV of host ports |
//! | `_name._proto.fw.zone`, `_port._name._proto.fw.zone` | SRV of named ports |
//! | `leader`, `master`, `masterN`, `slave`, `fw`, `ns1` and their SRV | the cluster itself |
//!
//! A service is a task name, an instance a task. Meta of an instance or of its service tells
//! `mesos.framework` (default: the zone's `framework`), `mesos.task_id` (the id of the instance),
//! `mesos.agent_id` (the name of its node), `mesos.discovery` (the name of its DiscoveryInfo),
//! `mesos.protocol.PORT` (`tcp`, `udp`; both), and `mesos.kind`: `task`, `framework`, or `master`,
//! of which the one that bears the tag `leader` leads, or else the first. Ports with names are
//! those of a DiscoveryInfo. HHHHH is five characters of zbase32 of the SHA-1 of the task id, sN
//! the last part of the agent id.
//!
//! What differs on purpose: tasks that fail their checks have no names; a negative answer has the
//! SOA of the apex; replies may be as long as the client's EDNS says.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::{Belonging, Dialect, Records, Stars, concerns, shown};
use crate::catalog::model::{Instance, Service};
use crate::dns::config::WhenEmpty;
use crate::dns::node::{Data, Srv};
use crate::dns::wire::Name;
use crate::dns::zone_settings::ZoneSettings;

/// The dialect `mesos`.
pub(super) const MESOS: Dialect = Dialect {
    ttl: 60,
    belongs: Some((Belonging::Framework, "marathon")),
    stars: Stars::Dropped,
    own,
    ..Dialect::new("mesos", list)
};

/// Port of an agent that tells none.
const AGENT_PORT: u16 = 5051;
/// Weight of every SRV record.
const WEIGHT: u16 = 1;
/// Alphabet of zbase32.
const ZBASE32: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// What an instance is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Task,
    Framework,
    Master,
}

/// A task as names tell it; for the HTTP API too.
#[derive(Debug)]
pub struct Task<'a> {
    /// Its framework, as it is called.
    pub framework: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Its name, or that of its DiscoveryInfo.
    pub name: &'a str,
    agent: &'a str,
    agent_ip: Option<IpAddr>,
    discovery: bool,
}

impl<'a> Task<'a> {
    /// `instance` of `service` in `zone`; none when it is no task.
    #[must_use]
    pub fn of(
        zone: &'a ZoneSettings,
        service: &'a Service,
        instance: &'a Instance,
    ) -> Option<Self> {
        if kind(service, instance) != Kind::Task {
            return None;
        }
        let node = instance.node.as_ref();
        let discovery = fact(service, instance, "mesos.discovery");
        let named = instance.ports.iter().any(|port| !port.name.is_empty());
        Some(Self {
            framework: fact(service, instance, "mesos.framework").unwrap_or(&zone.belongs),
            id: fact(service, instance, "mesos.task_id").unwrap_or(&instance.id),
            name: discovery.unwrap_or(&service.name),
            agent: fact(service, instance, "mesos.agent_id")
                .or_else(|| node.map(|node| &*node.name))
                .unwrap_or_default(),
            agent_ip: node
                .map_or(Some(&instance.address), |node| node.address.as_ref())
                .and_then(crate::catalog::Address::ip),
            discovery: named || discovery.is_some(),
        })
    }
}

fn fact<'a>(service: &'a Service, instance: &'a Instance, key: &str) -> Option<&'a str> {
    instance.meta.get(key).or_else(|| service.meta.get(key)).map(|told| &**told)
}

fn kind(service: &Service, instance: &Instance) -> Kind {
    match fact(service, instance, "mesos.kind") {
        Some("framework") => Kind::Framework,
        Some("master") => Kind::Master,
        _ => Kind::Task,
    }
}

/// `text` as a label: lower case, `.` and `_` as `-`, other bytes dropped, no `-` at its ends, at
/// most 63 bytes.
#[must_use]
pub fn label(text: &str) -> String {
    let kept = text.chars().filter_map(|c| match c.to_ascii_lowercase() {
        '.' | '_' => Some('-'),
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' => Some(c),
        _ => None,
    });
    let whole: String = kept.collect();
    let cut: String = whole.trim_start_matches('-').chars().take(63).collect();
    cut.trim_end_matches('-').to_owned()
}

/// `text` with each part between its dots as a label.
#[must_use]
pub fn fragment(text: &str) -> String {
    let parts: Vec<String> = text.split('.').map(label).filter(|part| !part.is_empty()).collect();
    parts.join(".")
}

/// The first five characters of zbase32 of the SHA-1 of `id`.
fn hash(id: &str) -> String {
    let sum = Sha1::digest(id.as_bytes());
    let bits = sum.iter().take(4).fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte));
    (0..5).map(|n| char::from(ZBASE32[(bits >> (27 - 5 * n) & 31) as usize])).collect()
}

fn own(zone: &ZoneSettings, listen: &[SocketAddr], out: &mut Records) {
    let Some(server) = out.checked(zone.apex.child("ns1")) else { return };
    for addr in listen.iter().filter(|addr| !addr.ip().is_unspecified()) {
        out.put(&server, Data::address(addr.ip()));
    }
}

fn list(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let shown = shown(zone, service);
    let masters: Vec<&Arc<Instance>> =
        shown.iter().filter(|i| kind(service, i) == Kind::Master).copied().collect();
    if !masters.is_empty() {
        list_masters(zone, &masters, out);
    }
    for instance in &shown {
        out.about(instance);
        match kind(service, instance) {
            Kind::Master => {}
            Kind::Framework => list_framework(zone, service, instance, out),
            Kind::Task => {
                if let Some(task) = Task::of(zone, service, instance) {
                    list_task(zone, &task, instance, service, out);
                }
            }
        }
    }
    if shown.is_empty() && zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
        let framework = zone.apex.under(&fragment(&zone.belongs));
        let name = framework.and_then(|above| above.child(&label(&service.name)));
        if let Some(name) = out.checked(name) {
            out.put(&name, Data::Here);
        }
    }
}

fn list_task(
    zone: &ZoneSettings,
    task: &Task<'_>,
    instance: &Instance,
    service: &Service,
    out: &mut Records,
) {
    let below =
        |apex: Result<Name, String>| apex.and_then(|apex| apex.under(&fragment(task.framework)));
    let Some(tasks) = out.checked(below(Ok(zone.apex.clone()))) else { return };
    let Some(agents) = out.checked(below(zone.apex.child("slave"))) else { return };
    let name = label(task.name);
    let agent = label(task.agent.rsplit('-').next().unwrap_or_default());
    let canonical = format!("{name}-{}-{agent}", hash(task.id));
    let canonical = canonical.trim_end_matches('-').to_owned();
    for label in [&name, &canonical] {
        if let (Some(own), Some(ip)) = (out.checked(tasks.child(label)), instance.address.ip()) {
            out.put(&own, Data::address(ip));
        }
        if let (Some(own), Some(ip)) = (out.checked(agents.child(label)), task.agent_ip) {
            out.put(&own, Data::address(ip));
        }
    }
    if let Some(ip) = task.agent_ip.filter(|_| instance.node.is_some()) {
        list_agent(zone, ip, out);
    }
    let (own, agent) = (tasks.child(&canonical), agents.child(&canonical));
    let (Some(own), Some(agent)) = (out.checked(own), out.checked(agent)) else { return };
    let agent_ip = task.agent_ip;
    let mut put = |above: &Name, labels: &[&str], port: u16, target: (&Name, Option<IpAddr>)| {
        let name = labels
            .iter()
            .rev()
            .try_fold(above.clone(), |name, label| name.child(&format!("_{label}")));
        if let Some(name) = out.checked(name) {
            out.put(&name, srv(target.0, port, target.1));
        }
    };
    // Host ports: those of the task itself where it shares the address of its agent.
    let host_ports: Vec<u16> = match fact(service, instance, "mesos.host_ports") {
        Some(told) => told.split(',').filter_map(|port| port.trim().parse().ok()).collect(),
        None if instance.address.ip() == agent_ip => {
            instance.ports.iter().map(|port| port.number).collect()
        }
        None if task.discovery => Vec::new(),
        None => instance.ports.iter().map(|port| port.number).collect(),
    };
    for port in host_ports {
        for protocol in ["tcp", "udp"] {
            put(&agents, &[&name, protocol], port, (&agent, agent_ip));
            if !task.discovery {
                put(&tasks, &[&name, protocol], port, (&agent, agent_ip));
            }
        }
    }
    if !task.discovery {
        return;
    }
    for port in instance.ports.iter() {
        let told = fact(service, instance, &format!("mesos.protocol.{}", port.name));
        let told = told.map(|told| label(&told.to_ascii_lowercase()));
        let protocols = told.map_or_else(|| vec!["tcp".to_owned(), "udp".to_owned()], |p| vec![p]);
        for protocol in protocols {
            let target = (&own, instance.address.ip());
            put(&tasks, &[&name, &protocol], port.number, target);
            let port_name = label(&port.name);
            if !port_name.is_empty() {
                put(&tasks, &[&port_name, &name, &protocol], port.number, target);
            }
        }
    }
}

fn srv(target: &Name, port: u16, glue: Option<IpAddr>) -> Data {
    Data::Srv(Srv { target: target.clone(), port, priority: 0, weight: WEIGHT, glue })
}

fn list_agent(zone: &ZoneSettings, ip: IpAddr, out: &mut Records) {
    let Some(name) = out.checked(zone.apex.child("slave")) else { return };
    out.put(&name, Data::address(ip));
    let service = zone.apex.child("_tcp").and_then(|tcp| tcp.child("_slave"));
    if let Some(service) = out.checked(service) {
        out.put(&service, srv(&name, AGENT_PORT, Some(ip)));
    }
}

fn list_framework(zone: &ZoneSettings, service: &Service, instance: &Instance, out: &mut Records) {
    let called = fact(service, instance, "mesos.framework").unwrap_or(&service.name);
    let called = fragment(called);
    let Some(name) = out.checked(zone.apex.under(&called)) else { return };
    let Some(ip) = instance.address.ip() else { return };
    out.put(&name, Data::address(ip));
    let service =
        zone.apex.child("_tcp").and_then(|tcp| tcp.child(&format!("_{}", label(&called))));
    if let (Some(port), Some(service)) = (instance.port(""), out.checked(service)) {
        out.put(&service, srv(&name, port, Some(ip)));
    }
}

/// The names of the masters; they are numbered in the order of their addresses.
fn list_masters(zone: &ZoneSettings, masters: &[&Arc<Instance>], out: &mut Records) {
    let leader = masters.iter().find(|master| master.has_tag("leader")).or_else(|| masters.first());
    let of = |label: &str| zone.apex.child(label);
    if let Some((leader, ip)) = leader.and_then(|leader| Some((leader, leader.address.ip()?)))
        && let Some(name) = out.checked(of("leader"))
    {
        out.put(&name, Data::address(ip));
        for protocol in ["_tcp", "_udp"] {
            let service = of(protocol).and_then(|name| name.child("_leader"));
            if let (Some(service), Some(port)) = (out.checked(service), leader.port("")) {
                out.put(&service, srv(&name, port, Some(ip)));
            }
        }
    }
    let addresses: BTreeSet<IpAddr> =
        masters.iter().filter_map(|master| master.address.ip()).collect();
    for (number, ip) in addresses.into_iter().enumerate() {
        for label in ["master".to_owned(), format!("master{number}")] {
            if let Some(name) = out.checked(of(&label)) {
                out.put(&name, Data::address(ip));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{instance, listed, service, service_of, settings};
    use super::*;

    const ZONE: &str = "listen = []\n[zone.mesos]\ndialect = \"mesos\"";

    #[test]
    fn labels_are_made_as_mesos_dns_makes_them() {
        for (text, want) in [
            ("Web.Shop_1", "web-shop-1"),
            ("--a b--", "ab"),
            ("ünï", "n"),
            (&"x".repeat(70), &*"x".repeat(63)),
        ] {
            assert_eq!(label(text), want, "{text}");
        }
        assert_eq!(fragment("Shop.Marathon_1"), "shop.marathon-1");
        // SHA-1 of "abc" begins with a9993e36 (FIPS 180-2, appendix A).
        assert_eq!(hash("abc"), "igcuh");
    }

    fn task(text: &str, agent: &str, facts: &[(&str, &str)]) -> Instance {
        let mut task = instance(text);
        task.node = Some(crate::catalog::model::Node {
            name: "20150101-S3".into(),
            address: Some(crate::catalog::Address::parse(agent).unwrap()),
            meta: crate::catalog::model::Meta::new(),
        });
        task.meta.extend(facts.iter().map(|(key, value)| ((*key).into(), (*value).into())));
        task
    }

    #[test]
    fn a_task_without_discovery_has_its_host_ports_on_both_sides() {
        let task = task("abc 10.0.0.1 31000", "10.0.0.1", &[]);
        let (lines, problems) = listed(&settings(ZONE), &service_of("Web", vec![task]));
        assert_eq!(
            lines,
            [
                "_slave._tcp.mesos. SRV 0 1 5051 slave.mesos.",
                "_web._tcp.marathon.mesos. SRV 0 1 31000 web-igcuh-s3.marathon.slave.mesos.",
                "_web._tcp.marathon.slave.mesos. SRV 0 1 31000 web-igcuh-s3.marathon.slave.mesos.",
                "_web._udp.marathon.mesos. SRV 0 1 31000 web-igcuh-s3.marathon.slave.mesos.",
                "_web._udp.marathon.slave.mesos. SRV 0 1 31000 web-igcuh-s3.marathon.slave.mesos.",
                "slave.mesos. A 10.0.0.1",
                "web-igcuh-s3.marathon.mesos. A 10.0.0.1",
                "web-igcuh-s3.marathon.slave.mesos. A 10.0.0.1",
                "web.marathon.mesos. A 10.0.0.1",
                "web.marathon.slave.mesos. A 10.0.0.1",
            ]
        );
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn a_task_with_discovery_has_its_ports_by_name_and_its_own_address() {
        let facts = [
            ("mesos.framework", "Shop.Fw"),
            ("mesos.discovery", "front"),
            ("mesos.protocol.dns", "udp"),
            ("mesos.host_ports", "31000"),
        ];
        let task = task("abc 9.0.0.1 dns=53,web=80", "10.0.0.1", &facts);
        let (lines, problems) = listed(&settings(ZONE), &service_of("web", vec![task]));
        let srv: Vec<&String> = lines.iter().filter(|line| line.starts_with('_')).collect();
        let (own, agent) = ("front-igcuh-s3.shop.fw.mesos.", "front-igcuh-s3.shop.fw.slave.mesos.");
        let mut want = vec![
            "_slave._tcp.mesos. SRV 0 1 5051 slave.mesos.".to_owned(),
            format!("_dns._front._udp.shop.fw.mesos. SRV 0 1 53 {own}"),
            format!("_front._udp.shop.fw.mesos. SRV 0 1 53 {own}"),
            format!("_front._tcp.shop.fw.slave.mesos. SRV 0 1 31000 {agent}"),
            format!("_front._udp.shop.fw.slave.mesos. SRV 0 1 31000 {agent}"),
        ];
        for name in ["_front._tcp", "_front._udp", "_web._front._tcp", "_web._front._udp"] {
            want.push(format!("{name}.shop.fw.mesos. SRV 0 1 80 {own}"));
        }
        want.sort();
        assert_eq!(srv, want.iter().collect::<Vec<_>>());
        assert!(lines.contains(&"front.shop.fw.mesos. A 9.0.0.1".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"front.shop.fw.slave.mesos. A 10.0.0.1".to_owned()), "{lines:#?}");
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn masters_and_frameworks_have_names_of_their_own_and_failing_tasks_have_none() {
        let kind = |mut instance: Instance, kind: &str| {
            instance.meta.insert("mesos.kind".into(), kind.into());
            instance
        };
        let masters = vec![
            kind(instance("a 10.0.0.2 5050"), "master"),
            kind(instance("b 10.0.0.1 5050 leader"), "master"),
        ];
        let (lines, _) = listed(&settings(ZONE), &service_of("masters", masters));
        assert_eq!(
            lines,
            [
                "_leader._tcp.mesos. SRV 0 1 5050 leader.mesos.",
                "_leader._udp.mesos. SRV 0 1 5050 leader.mesos.",
                "leader.mesos. A 10.0.0.1",
                "master.mesos. A 10.0.0.1",
                "master.mesos. A 10.0.0.2",
                "master0.mesos. A 10.0.0.1",
                "master1.mesos. A 10.0.0.2",
            ]
        );
        let framework = kind(instance("f 10.0.0.9 8080"), "framework");
        let (lines, _) = listed(&settings(ZONE), &service_of("marathon", vec![framework]));
        assert_eq!(
            lines,
            ["_marathon._tcp.mesos. SRV 0 1 8080 marathon.mesos.", "marathon.mesos. A 10.0.0.9",]
        );
        let mut down = instance("x 10.0.0.1 80");
        down.health = crate::catalog::Health::Unhealthy;
        assert!(listed(&settings(ZONE), &service_of("w", vec![down])).0.is_empty());
        assert!(listed(&settings(ZONE), &service("w", &[])).0.is_empty());
    }
}

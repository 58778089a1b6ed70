//! Answers for generated services, read by another implementation and compared with a model that
//! is slow, short and obviously right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use proptest::prelude::*;

use super::dialect::testing::{instance, service, service_of, settings};
use super::hostile::{ask, reply, with_opt};
use super::wire::{Name, rcode, rtype};
use super::zone::ZoneTable;
use super::{Action, Transport, respond};
use crate::catalog::model::{Instance, Service, Weight};
use crate::catalog::{RegistryStatus, Snapshot};

const ZONES: &str = "listen = [\"10.9.9.9:53\"]\n\
    [zone.consul]\ndialect = \"consul\"\nregistries = [\"test\"]\n\
    [zone.svc]\nwhen_empty = \"nodata\"\nttl = \"7s\"\nservice_ttl = { \"s*\" = \"3s\" }\n\
    records = { \"@\" = [\"TXT hi\"], \"web\" = [\"A 10.7.7.7\"], \"alias\" = [\"CNAME web.svc\"] }\n\
    [zone.mesos]\ndialect = \"mesos\"\n[zone.\"discover.internal\"]\ndialect = \"rancher\"\n\
    [zone.\"cluster.local\"]\ndialect = \"kubernetes\"\n[zone.sky]\ndialect = \"skydns\"";

/// One instance as generated: id, address, port, tag, node, registry.
type Raw = (u8, u8, u8, u8, u8, u8);

fn world() -> impl Strategy<Value = BTreeMap<u8, Vec<Raw>>> {
    let instance = (0..6u8, 0..9u8, 0..4u8, 0..4u8, 0..3u8, 0..4u8);
    prop::collection::btree_map(0..12u8, prop::collection::vec(instance, 0..5), 0..8)
}

fn service_name(raw: u8) -> String {
    match raw {
        0 => "Web".to_owned(),
        1 => "web".to_owned(),
        2 => "api.web".to_owned(),
        3 => "x".repeat(64),
        4 => "a..b".to_owned(),
        5 => "ns".to_owned(),
        n => format!("s{n}"),
    }
}

fn instance_of((id, raw_address, raw_port, tag, node, registry): Raw) -> Instance {
    let id = ["a", "b", "api", "10.0.0.1:80", "Web", "-x"][usize::from(id)];
    let address = match raw_address {
        7 => "fd00::7".to_owned(),
        8 => "h.example.com".to_owned(),
        n => format!("10.0.0.{n}"),
    };
    let port = ["-", "80", "sql=90,web=91", "80,adm=99"][usize::from(raw_port)];
    let tag = ["-", "prod", "v1.2", "prod,tcp"][usize::from(tag)];
    let node = ["", "n1", "n2.rack"][usize::from(node)];
    let mut instance = instance(&format!("{id} {address} {port} {tag} {node}"));
    if registry == 0 {
        instance.registry = "other".into();
    }
    instance.meta.insert("k".into(), "v".into());
    instance.weight = Weight::try_from(1 + i64::from(raw_port)).unwrap();
    instance.group = (raw_port == 2).then(|| "g".into());
    for (key, value) in [
        ("rancher.link.db", "web.shop"),
        ("kubernetes.cluster_ip", "10.96.0.1"),
        ("mesos.kind", "master"),
        ("skydns.mail", "true"),
        ("consul.address.consul-virtual", "240.0.0.1"),
        ("consul.datacenter", "dc3"),
    ]
    .into_iter()
    .skip(usize::from(raw_address))
    .step_by(3)
    {
        instance.meta.insert(key.into(), value.into());
    }
    instance
}

fn services(world: &BTreeMap<u8, Vec<Raw>>) -> Vec<Service> {
    let of = |(name, raw): (&u8, &Vec<Raw>)| {
        service_of(&service_name(*name), raw.iter().copied().map(instance_of).collect())
    };
    world.iter().map(of).collect()
}

fn heard(generation: u64, services: Vec<Service>) -> Snapshot {
    let registries = ["test", "other"].map(|name| RegistryStatus {
        name: name.into(),
        heard: true,
        stale: None,
        services: 0,
        problems: Arc::new([]),
        ..RegistryStatus::default()
    });
    let services = services.into_iter().map(|s| (Arc::clone(&s.name), Arc::new(s)));
    Snapshot {
        generation,
        services: services.collect(),
        registries: Arc::new(registries),
        ..Snapshot::default()
    }
}

/// The next state: what is equal keeps its allocation, as the catalog has it.
fn next(before: &Snapshot, services: Vec<Service>) -> Snapshot {
    let mut snapshot = before.clone();
    snapshot.generation += 1;
    let names: BTreeSet<Arc<str>> = services.iter().map(|s| Arc::clone(&s.name)).collect();
    let gone: Vec<_> =
        before.services.iter().map(|(n, _)| n).filter(|n| !names.contains(*n)).cloned().collect();
    for name in gone {
        snapshot.services.remove(&*name);
    }
    for service in services {
        if before.service(&service.name).is_none_or(|known| **known != service) {
            snapshot.services.insert(Arc::clone(&service.name), Arc::new(service));
        }
    }
    snapshot
}

fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"))
}

fn addresses(message: &Message) -> BTreeSet<IpAddr> {
    let of = |record: &hickory_proto::rr::Record| match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    message.answers.iter().filter_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn compiling_the_difference_gives_what_compiling_everything_gives(
        worlds in prop::collection::vec(world(), 1..6)
    ) {
        let settings = settings(ZONES);
        let mut before = heard(1, Vec::new());
        let mut table = ZoneTable::compile(&settings, None, &before);
        for world in &worlds {
            let now = next(&before, services(world));
            let old_keys = table.all_keys();
            table = ZoneTable::compile(&settings, Some((&table, &before)), &now);
            let whole = ZoneTable::compile(&settings, None, &now);
            let keys: BTreeSet<Name> = table.all_keys().into_iter().collect();
            prop_assert_eq!(&keys, &whole.all_keys().into_iter().collect::<BTreeSet<_>>());
            for key in keys.iter().chain(&old_keys) {
                for qtype in [rtype::A, rtype::AAAA, rtype::SRV, rtype::TXT, rtype::PTR, rtype::ANY] {
                    let query = with_opt(super::hostile::query(key.wire(), qtype, 1), 1232, 0, b"");
                    let a = reply(&table, &query, Transport::Udp);
                    let b = reply(&whole, &query, Transport::Udp);
                    prop_assert_eq!(&a, &b, "{} {}", key, qtype);
                    read(&a.1);
                }
            }
            let problems = |table: &ZoneTable| -> BTreeSet<(Arc<str>, Arc<str>)> {
                table.problems().map(|(a, b)| (Arc::clone(a), Arc::clone(b))).collect()
            };
            prop_assert_eq!(problems(&table), problems(&whole));
            before = now;
        }
    }

    #[test]
    fn addresses_and_codes_are_those_of_the_model(world in world(), transport in any::<bool>()) {
        let settings = settings(ZONES);
        let services = services(&world);
        let table = ZoneTable::compile(&settings, None, &heard(9, services));
        let transport = if transport { Transport::Tcp } else { Transport::Udp };
        for raw in 5..12u8 {
            let name = service_name(raw);
            let known = world.get(&raw);
            let shown = |all: bool| -> Vec<Instance> {
                let of = known.into_iter().flatten().copied().map(instance_of);
                of.filter(|instance| all || &*instance.registry == "test").collect()
            };
            let ips = |shown: &[Instance], v4: bool| -> BTreeSet<IpAddr> {
                let ips = shown.iter().filter_map(|instance| instance.address.ip());
                ips.filter(|ip| ip.is_ipv4() == v4).collect()
            };
            let consul = format!("{name}.service.consul");
            let plain = format!("{name}.svc");
            for (asked, shown, exists) in [
                (consul.clone(), shown(false), !shown(false).is_empty()),
                (consul.replace("service.", "service.dc1."), shown(false), !shown(false).is_empty()),
                (consul.replace("service.", "service.dc2."), vec![], false),
                // The name server of the zone shares its name with one of the services.
                (plain, shown(true), known.is_some() || raw == 5),
            ] {
                if raw == 5 && asked.ends_with("svc") {
                    continue;
                }
                for (qtype, v4) in [(rtype::A, true), (rtype::AAAA, false)] {
                    let (_, bytes) = reply(&table, &ask(&asked, qtype), transport);
                    let message = read(&bytes);
                    prop_assert_eq!(addresses(&message), ips(&shown, v4), "{} {}", asked, qtype);
                    let want = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
                    // A service of one host name that cannot be put anywhere shows nothing.
                    let bare = shown.iter().all(|i| i.address.ip().is_none() && i.ports.is_empty());
                    if !(exists && bare) {
                        prop_assert_eq!(message.metadata.response_code, want, "{}", asked);
                    }
                    let negative = message.answers.is_empty();
                    prop_assert_eq!(message.authorities.len(), usize::from(negative), "{}", asked);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), tcp: bool) {
        let settings = settings(ZONES);
        let table = ZoneTable::compile(&settings, None, &heard(1, Vec::new()));
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let (action, out) = reply(&table, &bytes, transport);
        prop_assert_eq!(action == Action::Drop, out.is_empty());
    }

    #[test]
    fn no_broken_query_makes_it_panic(
        at in prop::collection::vec((0..80usize, any::<u8>()), 1..6), cut in 0..80usize
    ) {
        let settings = settings(ZONES);
        let web = service("web", &["a 10.0.0.1 80"]);
        let table = ZoneTable::compile(&settings, None, &heard(1, vec![web]));
        let mut query = with_opt(ask("web.service.consul", rtype::SRV), 1232, 0, b"\0\x03\0\0");
        for (at, byte) in at {
            let length = query.len();
            query[at % length] = byte;
        }
        let cut = query.len() - cut % 20;
        for query in [&query[..], &query[..cut]] {
            let (action, out) = reply(&table, query, Transport::Udp);
            prop_assert!(out.len() <= 1232);
            if action == Action::Reply && out.len() > 12 {
                prop_assert!(Message::from_vec(&out).is_ok(), "{:02x?}", out);
            }
        }
    }
}

#[test]
fn srv_records_bring_the_addresses_of_their_targets_and_of_no_others() {
    let settings = settings(ZONES);
    let instances =
        (1..=60).map(|n| instance(&format!("i{n} 10.0.{}.{} 80", n % 7, n / 2))).collect();
    let table = ZoneTable::compile(&settings, None, &heard(3, vec![service_of("web", instances)]));
    for payload in (512..=1232).step_by(16) {
        let query = with_opt(ask("web.service.consul", rtype::SRV), payload, 0, b"\0\x03\0\0");
        for seed in 0..60 {
            let mut out = Vec::new();
            let client = "10.1.1.1".parse().unwrap();
            respond(&table, &query, Transport::Udp, client, seed, &mut out);
            assert!(out.len() <= usize::from(payload));
            let message = read(&out);
            let targets: Vec<String> = message
                .answers
                .iter()
                .map(|record| match &record.data {
                    RData::SRV(srv) => srv.target.to_string(),
                    other => panic!("{other}"),
                })
                .collect();
            let mut owners = BTreeSet::new();
            for record in &message.additionals {
                let owner = record.name.to_string();
                assert!(targets.contains(&owner), "{owner} is nobody's target");
                let RData::A(a) = &record.data else { panic!("{record}") };
                assert_eq!(owner, format!("{:08x}.addr.dc1.consul.", u32::from(a.0)));
                assert!(owners.insert(owner), "an address twice");
            }
            assert!(message.metadata.truncation && message.edns.is_some());
        }
    }
    let (_, bytes) = reply(&table, &ask("web.service.consul", rtype::SRV), Transport::Tcp);
    let message = read(&bytes);
    assert_eq!((message.answers.len(), message.additionals.len()), (60, 60));
}

#[test]
fn every_record_comes_first_for_some_seed() {
    let settings = settings(ZONES);
    let web = service("web", &["a 10.0.0.1 80", "b 10.0.0.2 80", "c 10.0.0.3 80"]);
    let table = ZoneTable::compile(&settings, None, &heard(3, vec![web]));
    for qtype in [rtype::A, rtype::SRV] {
        let first: BTreeSet<String> = (0..9)
            .map(|seed| {
                let mut out = Vec::new();
                let client = "10.1.1.1".parse().unwrap();
                let query = ask("web.service.consul", qtype);
                respond(&table, &query, Transport::Udp, client, seed, &mut out);
                read(&out).answers[0].to_string()
            })
            .collect();
        assert_eq!(first.len(), 3, "{first:?}");
    }
}

#[test]
fn the_other_names_of_a_zone_are_answered_too() {
    let settings = settings(ZONES);
    let web = service("web", &["a 10.0.0.1 80 prod n1", "b fd00::7 80"]);
    let table = ZoneTable::compile(&settings, None, &heard(0x1_0000_0005, vec![web]));
    for (name, qtype, want) in [
        ("consul", rtype::NS, "ns.consul."),
        ("consul", rtype::SOA, "ns.consul. hostmaster.consul. 5 3600 600 86400 5"),
        ("ns.consul", rtype::A, "10.9.9.9"),
        ("n1.node.dc1.consul", rtype::A, "10.0.0.1"),
        ("0A000001.addr.consul", rtype::A, "10.0.0.1"),
        ("fd000000000000000000000000000007.addr.dc1.consul", rtype::AAAA, "fd00::7"),
        ("_web._tcp.dc1.consul", rtype::SRV, "1 1 80 n1.node.dc1.consul."),
        (
            "_web._tcp.dc1.consul",
            rtype::SRV,
            "1 1 80 fd000000000000000000000000000007.addr.dc1.consul.",
        ),
        ("_web._prod.service.consul", rtype::SRV, "1 1 80 n1.node.dc1.consul."),
        ("1.0.0.10.in-addr.arpa", rtype::PTR, "n1.node.dc1.consul."),
        ("1.0.0.10.in-addr.arpa", rtype::PTR, "a.web.svc."),
        ("web.svc", rtype::SRV, "1 1 80 a.web.svc."),
    ] {
        let (_, bytes) = reply(&table, &ask(name, qtype), Transport::Udp);
        let message = read(&bytes);
        let answers: Vec<String> =
            message.answers.iter().map(|record| record.data.to_string()).collect();
        assert!(answers.iter().any(|answer| answer == want), "{name}: {answers:?}, not {want}");
    }
    for (name, qtype, code, soa) in [
        ("1.0.0.10.in-addr.arpa", rtype::A, rcode::NOERROR, 1),
        ("9.0.0.10.in-addr.arpa", rtype::PTR, rcode::REFUSED, 0),
        ("0a00000g.addr.consul", rtype::A, rcode::NXDOMAIN, 1),
        ("0a000001.addr.consul", rtype::AAAA, rcode::NOERROR, 1),
        ("addr.consul", rtype::A, rcode::NOERROR, 1),
    ] {
        let (_, bytes) = reply(&table, &ask(name, qtype), Transport::Udp);
        let message = read(&bytes);
        assert_eq!(u16::from(message.metadata.response_code), code, "{name}");
        assert_eq!((message.answers.len(), message.authorities.len()), (0, soa), "{name}");
    }
}

#[test]
fn a_target_of_several_records_brings_its_address_once_wherever_the_answer_starts() {
    let settings = settings(ZONES);
    let web = service("web", &["a 10.0.0.1 80", "b 10.0.0.1 81", "c 10.0.0.1 82", "d 10.0.0.2 80"]);
    let table = ZoneTable::compile(&settings, None, &heard(3, vec![web]));
    for seed in 0..8 {
        let mut out = Vec::new();
        let client = "10.1.1.1".parse().unwrap();
        let query = with_opt(ask("web.service.consul", rtype::SRV), 1232, 0, b"");
        respond(&table, &query, Transport::Udp, client, seed, &mut out);
        let message = read(&out);
        assert_eq!((message.answers.len(), message.additionals.len()), (4, 2), "seed {seed}");
    }
}

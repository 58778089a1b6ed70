//! Who comes first, who is left out, what is followed: read by another implementation.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};

use super::config::DnsConfig;
use super::dialect::testing::{instance, service_of};
use super::hostile::{ask, with_opt};
use super::wire::rtype;
use super::{Settings, Transport, ZoneTable, respond};
use crate::catalog::locality::{Localities, LocalityConfig};
use crate::catalog::model::{Health, Instance, Service, Weight};
use crate::catalog::{RegistryStatus, Snapshot};

const EAST: &str = "10.1.0.1";
const WEST: &str = "10.2.0.1";
const NOWHERE: &str = "192.0.2.1";

fn settings(text: &str) -> Arc<Settings> {
    let config: DnsConfig = toml::from_str(&format!("listen = []\n{text}")).unwrap();
    let place = |network: &str| LocalityConfig { networks: vec![network.parse().unwrap()] };
    let tables: BTreeMap<String, LocalityConfig> =
        [("east".into(), place("10.1.0.0/16")), ("west".into(), place("10.2.0.0/16"))].into();
    let localities = Arc::new(Localities::new(&tables, None));
    Arc::new(Settings::compile_in(&config, "edge-1", Path::new(""), &localities).unwrap())
}

fn table(settings: &Arc<Settings>, services: Vec<Service>) -> ZoneTable {
    let services = services.into_iter().map(|s| (Arc::clone(&s.name), Arc::new(s)));
    let heard = RegistryStatus { name: "test".into(), heard: true, ..RegistryStatus::default() };
    let registries = Arc::new([heard]);
    let services = services.collect();
    let snapshot = Snapshot { generation: 1, services, registries, ..Snapshot::default() };
    ZoneTable::compile(settings, None, &snapshot)
}

fn reply(
    table: &ZoneTable,
    client: &str,
    query: &[u8],
    transport: Transport,
    seed: u64,
) -> Message {
    let mut out = Vec::new();
    let client: IpAddr = client.parse().unwrap();
    respond(table, query, transport, client, seed, &mut out);
    Message::from_vec(&out).unwrap()
}

fn answers(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

fn by_udp(table: &ZoneTable, client: &str, name: &str, seed: u64) -> Vec<String> {
    answers(&reply(table, client, &ask(name, rtype::A), Transport::Udp, seed))
}

fn at(text: &str, locality: &str) -> Instance {
    Instance { locality: Some(locality.into()), ..instance(text) }
}

fn spread() -> Service {
    let mut down = at("e3 10.0.1.3 80", "east");
    down.health = Health::Unhealthy;
    service_of(
        "web",
        vec![
            at("e1 10.0.1.1 80", "east"),
            at("e2 10.0.1.2 80", "east"),
            down,
            at("w1 10.0.2.1 80", "west"),
            instance("n1 10.0.3.1 80"),
        ],
    )
}

#[test]
fn near_instances_come_first_or_alone_until_too_few_of_them_are_left() {
    let first = table(&settings("[zone.svc]"), vec![spread()]);
    let only = table(&settings("[zone.svc]\nnear = \"only\""), vec![spread()]);
    let thin = table(&settings("[zone.svc]\nnear = \"only\"\nnear_min = \"70%\""), vec![spread()]);
    let off = table(&settings("[zone.svc]\nnear = \"off\""), vec![spread()]);
    let mut first_of_all = std::collections::BTreeSet::new();
    for seed in 0..24u64 {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let near = by_udp(&first, EAST, "web.svc", seed);
        assert_eq!(near.len(), 4);
        assert!(near[..2].iter().all(|ip| ip.starts_with("10.0.1.")), "{near:?}");
        assert_eq!(by_udp(&first, WEST, "web.svc", seed)[0], "10.0.2.1");
        let mut alone = by_udp(&only, EAST, "web.svc", seed);
        alone.sort();
        assert_eq!(alone, ["10.0.1.1", "10.0.1.2"]);
        assert_eq!(by_udp(&only, WEST, "web.svc", seed), ["10.0.2.1"]);
        assert_eq!(by_udp(&only, NOWHERE, "web.svc", seed).len(), 4);
        // Two of three are less than 70 %: everybody is as near.
        assert_eq!(by_udp(&thin, EAST, "web.svc", seed).len(), 4);
        first_of_all.insert(by_udp(&off, EAST, "web.svc", seed)[0].clone());
        let srv = reply(&only, EAST, &ask("web.svc", rtype::SRV), Transport::Udp, seed);
        assert_eq!((srv.answers.len(), srv.additionals.len()), (2, 2));
    }
    assert_eq!(first_of_all.len(), 4, "near = off: anybody may be first");
}

#[test]
fn the_first_address_is_drawn_by_weight_and_all_orders_occur() {
    let heavy = Instance { weight: Weight::try_from(8).unwrap(), ..instance("a 10.0.0.1 80") };
    let web = service_of("web", vec![heavy, instance("b 10.0.0.2 80"), instance("c 10.0.0.3 80")]);
    let even = ["a 10.0.0.1 80", "b 10.0.0.2 80", "c 10.0.0.3 80", "d 10.0.0.4 80"];
    let even = service_of("even", even.iter().map(|text| instance(text)).collect());
    let table = table(&settings("[zone.svc]"), vec![web, even]);
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    let mut orders = std::collections::BTreeSet::new();
    let mut seed = 88_172_645_463_325_252;
    for _ in 0..5_000 {
        seed = super::express::next_seed(seed);
        *first.entry(by_udp(&table, NOWHERE, "web.svc", seed)[0].clone()).or_default() += 1;
        orders.insert(by_udp(&table, NOWHERE, "even.svc", seed));
    }
    assert!((3_850..4_150).contains(&first["10.0.0.1"]), "{first:?}");
    assert!((430..570).contains(&first["10.0.0.2"]), "{first:?}");
    assert_eq!(orders.len(), 24, "four addresses have 24 orders");
}

#[test]
fn aliases_are_followed_as_far_as_we_know_the_way_and_never_in_circles() {
    let records = "records = { a = [\"CNAME b.svc\"], b = [\"CNAME web.svc\"], \
        out = [\"CNAME x.example\"], x = [\"CNAME y.svc\"], y = [\"CNAME x.svc\"], \
        z = [\"CNAME nobody.svc\"], s = [\"CNAME srv.svc\"], srv = [\"SRV 1 2 80 h.example\"] }";
    let web = service_of("web", vec![instance("i 10.0.0.1 80"), instance("k 10.0.0.2 80")]);
    let host = service_of("host", vec![instance("i b.svc 80")]);
    let table = table(&settings(&format!("[zone.svc]\n{records}")), vec![web, host]);
    let of = |name: &str, qtype: u16| {
        let message = reply(&table, NOWHERE, &ask(name, qtype), Transport::Udp, 0);
        let owners: Vec<String> =
            message.answers.iter().map(|record| record.name.to_string()).collect();
        (message.metadata.response_code, owners.join(" "), answers(&message).join(" "))
    };
    let ok = ResponseCode::NoError;
    let told = |code, owners: &str, data: &str| (code, owners.to_owned(), data.to_owned());
    assert_eq!(
        of("a.svc", rtype::A),
        told(ok, "a.svc. b.svc. web.svc. web.svc.", "b.svc. web.svc. 10.0.0.1 10.0.0.2")
    );
    assert_eq!(of("host.svc", rtype::A).1, "host.svc. b.svc. web.svc. web.svc.");
    assert_eq!(of("a.svc", rtype::CNAME), told(ok, "a.svc.", "b.svc."));
    assert_eq!(of("out.svc", rtype::A), told(ok, "out.svc.", "x.example."));
    assert_eq!(of("z.svc", rtype::A), told(ok, "z.svc.", "nobody.svc."));
    assert_eq!(of("s.svc", rtype::SRV), told(ok, "s.svc. srv.svc.", "srv.svc. 1 2 80 h.example."));
    let circle = of("x.svc", rtype::A);
    assert!(circle.2.split(' ').count() <= 8, "{circle:?}");
}

#[test]
fn limits_of_answers_are_kept_and_told_as_the_zone_says() {
    let many: Vec<Instance> = (0..60).map(|n| instance(&format!("i{n} 10.0.0.{n} 80"))).collect();
    let services = || vec![service_of("web", many.clone())];
    let zone = |more: &str| table(&settings(&format!("[zone.svc]\n{more}")), services());
    let plain = ask("web.svc", rtype::A);
    let edns = with_opt(plain.clone(), 1232, 0, b"");
    for (case, more, query, transport, count, cut) in [
        ("nothing said", "", &plain, Transport::Udp, 30, true),
        ("nothing said, EDNS", "", &edns, Transport::Udp, 60, false),
        ("three by plain UDP", "udp_answer_limit = 3", &plain, Transport::Udp, 3, true),
        ("in silence", "udp_answer_limit = 3\ntruncate = false", &plain, Transport::Udp, 3, false),
        ("not with EDNS", "udp_answer_limit = 3", &edns, Transport::Udp, 60, false),
        ("not by TCP", "udp_answer_limit = 3", &plain, Transport::Tcp, 60, false),
        ("five for all", "a_record_limit = 5", &edns, Transport::Udp, 5, false),
        ("five by TCP too", "a_record_limit = 5", &plain, Transport::Tcp, 5, false),
    ] {
        let message = reply(&zone(more), NOWHERE, query, transport, 7);
        assert_eq!((message.answers.len(), message.metadata.truncation), (count, cut), "{case}");
    }
}

#[test]
fn configured_views_come_before_the_zones_and_other_domains_say_the_same() {
    let text = "[zone.svc]\nalternatives = [\"other.test\"]\nttl = \"9s\"\n\
        records = { static = [\"A 10.5.5.5\", \"TXT two words\"], \"@\" = [\"MX 10 mail.svc\"] }\n\
        [view.inside]\nnetworks = [\"10.1.0.0/16\"]\nttl = \"4s\"\n\
        records = { \"web.svc\" = [\"A 10.4.4.4\"], \"deep.new.svc\" = [\"A 10.4.4.5\"], \"far.example\" = [\"A 10.4.4.6\"] }";
    let web = service_of("web", vec![instance("i 10.0.0.1 80")]);
    let table = table(&settings(text), vec![web]);
    for (client, name, want) in [
        (EAST, "web.svc", "10.4.4.4"),
        (WEST, "web.svc", "10.0.0.1"),
        (EAST, "i.web.svc", "10.0.0.1"),
        (EAST, "deep.new.svc", "10.4.4.5"),
        (EAST, "FAR.example", "10.4.4.6"),
        (WEST, "web.other.test", "10.0.0.1"),
        (WEST, "static.other.test", "10.5.5.5"),
    ] {
        assert_eq!(by_udp(&table, client, name, 1), [want], "{client} {name}");
    }
    let code = |client: &str, name: &str, qtype: u16| {
        let message = reply(&table, client, &ask(name, qtype), Transport::Udp, 1);
        (message.metadata.response_code, message.authorities.len(), answers(&message).join(" "))
    };
    let (ok, gone, refused) =
        (ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::Refused);
    assert_eq!(code(EAST, "new.svc", rtype::A), (ok, 1, String::new()), "a name below it is there");
    assert_eq!(code(WEST, "new.svc", rtype::A), (gone, 1, String::new()));
    assert_eq!(code(EAST, "far.example", rtype::AAAA), (ok, 1, String::new()));
    assert_eq!(code(WEST, "far.example", rtype::A), (refused, 0, String::new()));
    assert_eq!(code(WEST, "svc", rtype::MX), (ok, 0, "10 mail.svc.".to_owned()));
    assert_eq!(code(WEST, "static.svc", rtype::TXT), (ok, 0, "two words".to_owned()));
    let pointers =
        reply(&table, WEST, &ask("1.0.0.10.in-addr.arpa", rtype::PTR), Transport::Udp, 1);
    assert_eq!(answers(&pointers), ["i.web.svc."], "only the zone itself is pointed at");
    assert_eq!(pointers.answers[0].ttl, 9, "an address has the TTL of its zone");
}

#[test]
fn groups_shares_and_stars_are_answered_as_skydns_does() {
    let one = |id: &str, ip: &str, weight: i64, group: &str| Instance {
        weight: Weight::try_from(weight).unwrap(),
        group: (!group.is_empty()).then(|| group.into()),
        ..instance(&format!("{id} {ip} 80"))
    };
    let top =
        service_of("dom", vec![one("a", "10.0.0.1", 10, "g1"), one("b", "10.0.0.2", 30, "g1")]);
    let sub = service_of("sub.dom", vec![one("c", "10.0.0.3", 1, "g2")]);
    let table = table(&settings("[zone.sky]\ndialect = \"skydns\""), vec![top, sub]);
    let of = |name: &str| {
        let mut found = by_udp(&table, NOWHERE, name, 1);
        found.sort();
        found
    };
    assert_eq!(of("dom.sky"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(of("sub.dom.sky"), ["10.0.0.3"]);
    assert_eq!(of("any.sub.dom.sky"), ["10.0.0.3"]);
    assert_eq!(of("a.*.sky"), ["10.0.0.1"]);
    let srv = reply(&table, NOWHERE, &ask("dom.sky", rtype::SRV), Transport::Udp, 0);
    let mut shares = answers(&srv);
    shares.sort();
    assert_eq!(shares, ["10 25 80 a.dom.sky.", "10 75 80 b.dom.sky."]);
    assert_eq!(srv.answers[0].ttl, 3600);
}

#[test]
fn mesos_leaves_stars_out_of_names() {
    let web = service_of("web", vec![instance("t 10.0.0.1 80")]);
    let table = table(&settings("[zone.mesos]\ndialect = \"mesos\""), vec![web]);
    for name in ["web.marathon.mesos", "*.web.*.marathon.mesos", "web.marathon.*.mesos"] {
        assert_eq!(by_udp(&table, NOWHERE, name, 1), ["10.0.0.1"], "{name}");
    }
    let gone = reply(&table, NOWHERE, &ask("*.mesos", rtype::MX), Transport::Udp, 1);
    assert_eq!(gone.metadata.response_code, ResponseCode::NoError);
}

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};

use super::super::testing::{instance, listed, service_of, settings};
use super::*;
use crate::catalog::model::{Health, Meta};
use crate::catalog::{RegistryStatus, Snapshot};
use crate::dns::hostile::ask;
use crate::dns::wire::rtype;
use crate::dns::{Action, Settings, Transport, ZoneTable, respond};

const ZONE: &str = "listen = []\n[zone.\"discover.internal\"]\ndialect = \"rancher\"\n";

fn with(text: &str, facts: &[(&str, &str)]) -> Instance {
    let mut instance = instance(text);
    instance.meta = facts.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    instance
}

fn told(name: &str, facts: &[(&str, &str)], instances: &[&str]) -> Service {
    let mut service = service_of(name, instances.iter().map(|text| instance(text)).collect());
    let meta: Meta = facts.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    service.meta = Arc::new(meta);
    service
}

fn table(settings: &Arc<Settings>, services: Vec<Service>) -> ZoneTable {
    let services = services.into_iter().map(|s| (Arc::clone(&s.name), Arc::new(s)));
    let heard = RegistryStatus { name: "test".into(), heard: true, ..RegistryStatus::default() };
    let snapshot = Snapshot {
        generation: 1,
        services: services.collect(),
        registries: Arc::new([heard]),
        ..Snapshot::default()
    };
    ZoneTable::compile(settings, None, &snapshot)
}

/// What `client` is told: each record's data, or the code.
fn asked(table: &ZoneTable, client: &str, name: &str, qtype: u16) -> String {
    let mut out = Vec::new();
    let client: IpAddr = client.parse().unwrap();
    match respond(table, &ask(name, qtype), Transport::Udp, client, 0, &mut out) {
        Action::Reply => {}
        other => return format!("{other:?}"),
    }
    let message = Message::from_vec(&out).unwrap();
    if message.answers.is_empty() {
        return match message.metadata.response_code {
            ResponseCode::NoError => "NODATA".to_owned(),
            code => format!("{code:?}"),
        };
    }
    let mut data: Vec<String> =
        message.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    data.join(" ")
}

fn shop() -> Vec<Service> {
    vec![
        service_of(
            "web.shop.prod",
            vec![with(
                "w1 10.0.0.1 80",
                &[
                    ("rancher.link.db", "mysql"),
                    ("rancher.link.cache", "redis.infra"),
                    ("rancher.uuid", "0123abcd-0ef4-4444-8888-000000000000"),
                    ("rancher.sees", "infra"),
                ],
            )],
        ),
        service_of("mysql.shop.prod", vec![instance("m1 10.0.0.2 -")]),
        service_of("redis.infra.prod", vec![instance("r1 10.0.0.3 -")]),
        service_of("mysql.shop.test", vec![instance("m1 10.9.0.2 -")]),
        service_of("dns.core.infra", vec![instance("d1 10.7.0.1 -")]),
        told("vip.shop.prod", &[("rancher.vip", "10.8.0.1")], &["v1 10.0.0.8 -"]),
    ]
}

#[test]
fn who_asks_decides_what_a_name_means() {
    let open = table(&settings(ZONE), shop());
    let apart = table(&settings(&format!("{ZONE}isolate = true")), shop());
    let (inside, outside) = ("10.0.0.1", "192.0.2.1");
    for (client, name, want, want_apart) in [
        (inside, "db", "10.0.0.2 mysql.shop.prod.discover.internal.", ""),
        (inside, "cache", "10.0.0.3 redis.infra.prod.discover.internal.", ""),
        (outside, "db", "Refused", ""),
        ("10.0.0.2", "db", "Refused", ""),
        // Searched: the stack, the environment, the zone.
        (inside, "mysql", "10.0.0.2", ""),
        (inside, "redis.infra", "10.0.0.3", ""),
        (inside, "redis.infra.prod", "10.0.0.3", ""),
        (inside, "nobody", "Refused", ""),
        // Without the environment it is that of the client, else all of them.
        (inside, "mysql.shop.discover.internal", "10.0.0.2", ""),
        (inside, "mysql.shop.rancher.internal", "10.0.0.2", ""),
        (outside, "mysql.shop.rancher.internal", "10.0.0.2 10.9.0.2", ""),
        (outside, "mysql.shop.prod.rancher.internal", "10.0.0.2", ""),
        (inside, "mysql.shop.test.discover.internal", "10.9.0.2", "NXDomain"),
        (inside, "dns.core.infra.discover.internal", "10.7.0.1", ""),
        (inside, "vip.shop.prod.discover.internal", "10.8.0.1", ""),
        (inside, "w1.shop.prod.discover.internal", "10.0.0.1", ""),
        (inside, "rancher-metadata.rancher.internal", "169.254.169.250", ""),
        // By identity, whoever asks.
        (
            outside,
            "db.0123abcd-0ef.discover.internal",
            "10.0.0.2 mysql.shop.prod.discover.internal.",
            "",
        ),
        (outside, "redis.infra.0123ABCD-0EF.rancher.internal", "10.0.0.3", ""),
        (outside, "db.ffffffff-fff.discover.internal", "NXDomain", ""),
        (outside, "0123abcd-0ef.discover.internal", "NODATA", ""),
    ] {
        assert_eq!(asked(&open, client, name, rtype::A), want, "{client} {name}");
        let want = if want_apart.is_empty() { want } else { want_apart };
        assert_eq!(asked(&apart, client, name, rtype::A), want, "apart: {client} {name}");
    }
    assert_eq!(asked(&open, inside, "mysql", rtype::AAAA), "NODATA");
    assert_eq!(asked(&open, inside, "mysql.shop.prod.discover.internal", rtype::AAAA), "NODATA");
}

#[test]
fn one_failing_instance_is_shown_when_none_is_healthy() {
    let mut services = vec![instance("a 10.0.0.1 80"), instance("b 10.0.0.2 80")];
    for instance in &mut services {
        instance.health = Health::Unhealthy;
    }
    let (lines, _) = listed(&settings(ZONE), &service_of("w.s.e", services));
    let of: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("w.s.e.discover.internal. A")).collect();
    assert_eq!(of, ["w.s.e.discover.internal. A 10.0.0.1"]);
}

#[test]
fn an_answers_file_is_looked_through_in_its_order() {
    let a = |name: &str, client: &str, ip: &str| {
        let mut facts =
            vec![("rancher.answers", "a"), ("rancher.name", name), ("rancher.ttl", "7")];
        if !client.is_empty() {
            facts.push(("rancher.client", client));
        }
        told(&format!("{client}/{name}"), &facts, &[&format!("i {ip} -")])
    };
    let search = told(
        "10.0.0.5/search",
        &[
            ("rancher.answers", "search"),
            ("rancher.client", "10.0.0.5"),
            ("rancher.search", "s.e.discover.internal e.discover.internal"),
        ],
        &[],
    );
    let alias = told(
        "10.0.0.5/link",
        &[
            ("rancher.answers", "cname"),
            ("rancher.client", "10.0.0.5"),
            ("rancher.name", "link"),
            ("rancher.target", "web.s.e.discover.internal"),
        ],
        &[],
    );
    let text = told(
        "t",
        &[("rancher.answers", "txt"), ("rancher.name", "t.example"), ("rancher.text.0", "hi")],
        &[],
    );
    let table = table(
        &settings(ZONE),
        vec![
            a("web.s.e.rancher.internal", "", "10.1.0.1"),
            a("web.s.e.discover.internal", "10.0.0.6", "10.1.0.6"),
            a("alias", "10.0.0.5", "10.1.0.2"),
            a("outside.example", "", "10.1.0.3"),
            a("alias", "aaaaaaaa-bbb", "10.1.0.4"),
            search,
            alias,
            text,
        ],
    );
    for (client, name, want) in [
        ("10.0.0.5", "alias", "10.1.0.2"),
        ("10.0.0.9", "alias", "Refused"),
        ("10.0.0.5", "web", "10.1.0.1"),
        ("10.0.0.5", "link", "10.1.0.1 web.s.e.discover.internal."),
        ("10.0.0.9", "web.s.e.discover.internal", "10.1.0.1"),
        ("10.0.0.9", "web.s.e.rancher.internal", "10.1.0.1"),
        ("10.0.0.6", "web.s.e.rancher.internal", "10.1.0.6"),
        ("10.0.0.9", "OUTSIDE.example", "10.1.0.3"),
        ("10.0.0.9", "alias.aaaaaaaa-bbb.discover.internal", "10.1.0.4"),
        ("10.0.0.9", "nobody.discover.internal", "NXDomain"),
    ] {
        assert_eq!(asked(&table, client, name, rtype::A), want, "{client} {name}");
    }
    assert_eq!(asked(&table, "10.0.0.9", "t.example", rtype::TXT), "hi");
}

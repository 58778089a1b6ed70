//! Every dialect through a strict resolver, explained, and told by HTTP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use portolan::catalog::SourceService;
use serde_json::Value;

use crate::clients::{get, get_by_socket};
use crate::dns_forward::unbound;
use crate::dns_wire::{Reply, ask};
use crate::peers::own_address;
use crate::rig::{Rig, instance, within};

const ZONES: &str = "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.\"svc.test\"]\n\
    [dns.zone.consul]\ndialect = \"consul\"\n[dns.zone.mesos]\ndialect = \"mesos\"\n\
    [dns.zone.\"discover.internal\"]\ndialect = \"rancher\"\n\
    [dns.zone.\"cluster.local\"]\ndialect = \"kubernetes\"\n\
    [dns.zone.\"sky.test\"]\ndialect = \"skydns\"\n";

/// A service whose instances have facts and named ports.
fn told(name: &str, facts: &[(&str, &str)], addresses: &[&str]) -> SourceService {
    let instances = addresses.iter().enumerate().map(|(index, address)| {
        let mut own = instance(&format!("i{index}"), address.parse().unwrap());
        own.ports = own
            .ports
            .iter()
            .flat_map(|port| {
                let named = portolan::catalog::model::Port { name: "http".into(), ..port.clone() };
                [port.clone(), named]
            })
            .collect();
        own.meta = facts.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        own.node = Some(portolan::catalog::model::Node {
            name: format!("n{index}").into(),
            address: Some(own.address.clone()),
            meta: portolan::catalog::model::Meta::new(),
        });
        Arc::new(own)
    });
    SourceService {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: instances.collect(),
        problems: Vec::new(),
        suspect: None,
    }
}

/// Status and records of a reply, without letter case and how long they may be kept.
fn told_by(reply: &Reply) -> (String, BTreeSet<String>) {
    let record = |line: &String| {
        let mut words: Vec<_> = line.to_lowercase().split(' ').map(str::to_owned).collect();
        words.remove(1);
        words.join(" ")
    };
    (reply.status.clone(), reply.answer.iter().map(record).collect())
}

fn stub(zone: &str, dns: SocketAddr) -> String {
    let (ip, port) = (dns.ip(), dns.port());
    format!("stub-zone:\n name: \"{zone}\"\n stub-addr: {ip}@{port}\n stub-prime: no\n")
}

#[tokio::test]
async fn a_strict_resolver_finds_the_names_of_every_dialect() {
    let web = told(
        "web.shop.prod",
        &[("rancher.link.db", "mysql"), ("rancher.uuid", "0123abcd-0ef4")],
        &["10.0.0.1:80", "10.0.0.2:80"],
    );
    let vip = told("vip.prod", &[("kubernetes.cluster_ip", "10.96.0.1")], &["10.0.0.3:80"]);
    let mysql = told("mysql.shop.prod", &[], &["10.0.0.4:3306"]);
    let virtual_ip = ("consul.address.consul-virtual", "240.0.0.1");
    let plain = told("plain", &[virtual_ip], &["10.0.0.5:80"]);
    let boss = told("boss", &[("mesos.kind", "master")], &["10.0.0.6:5050"]);
    let scheduler = told("marathon", &[("mesos.kind", "framework")], &["10.0.0.7:8080"]);
    let rig = Rig::start(ZONES, vec![web, vip, mysql, plain, boss, scheduler]).await;
    let dns = rig.address("dns").await;
    let directory = tempfile::tempdir().unwrap();
    let front = own_address();
    let zones = [
        "svc.test",
        "consul",
        "mesos",
        "discover.internal",
        "rancher.internal",
        "cluster.local",
        "sky.test",
        "10.in-addr.arpa",
    ];
    let strict = format!(
        "qname-minimisation: yes\nqname-minimisation-strict: yes\nuse-caps-for-id: yes\n\
         harden-below-nxdomain: yes\nlocal-zone: \"test.\" nodefault\n\
         local-zone: \"10.in-addr.arpa.\" nodefault\n{}",
        zones.map(|zone| stub(zone, dns)).concat()
    );
    let _unbound = unbound(directory.path(), front, &strict).await;
    let mut wrong = Vec::new();
    for (question, status, answers) in [
        ("web.shop.prod.svc.test A", "NOERROR", 2),
        ("_http._tcp.web.shop.prod.svc.test SRV", "NOERROR", 2),
        ("plain.service.consul A", "NOERROR", 1),
        ("_plain._tcp.service.dc1.consul SRV", "NOERROR", 1),
        ("_plain._tcp.consul SRV", "NOERROR", 1),
        ("n1.node.dc1.consul A", "NOERROR", 1),
        ("0a000003.addr.dc1.consul A", "NOERROR", 1),
        ("node.consul A", "NOERROR", 0),
        ("plain.virtual.consul A", "NOERROR", 1),
        ("web-shop-prod.marathon.mesos A", "NOERROR", 2),
        ("_http._plain._tcp.marathon.mesos SRV", "NOERROR", 1),
        ("_plain._tcp.marathon.slave.mesos SRV", "NOERROR", 1),
        ("slave.mesos A", "NOERROR", 5),
        ("_tcp.mesos A", "NOERROR", 0),
        ("plain.marathon.mesos A", "NOERROR", 1),
        ("plain.marathon.slave.mesos A", "NOERROR", 1),
        ("leader.mesos A", "NOERROR", 1),
        ("_leader._tcp.mesos SRV", "NOERROR", 1),
        ("master.mesos A", "NOERROR", 1),
        ("master0.mesos A", "NOERROR", 1),
        ("marathon.mesos A", "NOERROR", 1),
        ("_marathon._tcp.mesos SRV", "NOERROR", 1),
        ("_slave._tcp.mesos SRV", "NOERROR", 1),
        ("ns1.mesos A", "NOERROR", 1),
        ("web.shop.prod.discover.internal A", "NOERROR", 2),
        ("web.shop.rancher.internal A", "NOERROR", 2),
        ("i0.shop.prod.rancher.internal A", "NOERROR", 2),
        ("db.0123abcd-0ef.discover.internal A", "NOERROR", 2),
        ("rancher-metadata.rancher.internal A", "NOERROR", 1),
        ("vip.prod.svc.cluster.local A", "NOERROR", 1),
        ("_http._tcp.vip.prod.svc.cluster.local SRV", "NOERROR", 1),
        ("_http._tcp.plain.default.svc.cluster.local SRV", "NOERROR", 1),
        ("10-0-0-5.plain.default.svc.cluster.local A", "NOERROR", 1),
        ("10-0-0-5.default.pod.cluster.local A", "NOERROR", 1),
        ("dns-version.cluster.local TXT", "NOERROR", 1),
        ("svc.cluster.local A", "NOERROR", 0),
        ("i1.web.shop.prod.sky.test A", "NOERROR", 1),
        ("prod.sky.test A", "NOERROR", 4),
        ("*.shop.prod.sky.test A", "NOERROR", 3),
        ("sky.test SRV", "NOERROR", 7),
        ("any.shop.prod.sky.test A", "NOERROR", 3),
        ("nobody.sky.test A", "NXDOMAIN", 0),
        ("nobody.svc.cluster.local A", "NXDOMAIN", 0),
        ("-x 10.96.0.1", "NOERROR", 1),
    ] {
        let reply = ask("dig", front, question).await;
        let got = (&*reply.status, reply.answer.len());
        if got != (status, answers) {
            wrong.push(format!("{question}: {}", reply.text));
        }
    }
    // And every name that stands in any table is what it is when we are asked ourselves.
    let held: Vec<String> =
        rig.app.tables().dns.held().map(|(name, rtype)| format!("{name} TYPE{rtype}")).collect();
    assert!(held.len() > 200, "{} questions", held.len());
    for some in held.chunks(8) {
        let asking: Vec<_> = some
            .iter()
            .cloned()
            .map(|question| {
                tokio::spawn(async move {
                    let through = told_by(&ask("dig", front, &question).await);
                    let direct = told_by(&ask("dig", dns, &question).await);
                    (through != direct).then(|| format!("{question}: {through:?} not {direct:?}"))
                })
            })
            .collect();
        for asked in asking {
            wrong.extend(asked.await.unwrap());
        }
    }
    println!("{} names and types through a strict resolver", held.len());
    // The canonical name of a task is known by where its SRV record leads to.
    let ports = ask("dig", front, "_plain._tcp.marathon.slave.mesos SRV").await;
    let target = ports.answer.first().and_then(|record| record.split(' ').nth(7)).unwrap();
    for name in [target, &target.replace(".slave.", ".")] {
        let reply = ask("dig", front, &format!("{name} A")).await;
        if reply.answer.len() != 1 {
            wrong.push(format!("{name}: {}", reply.text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_explained_is_what_is_answered() {
    let config = format!("{ZONES}[dns.zone.narrow]\nregistries = []\n");
    let mut services = vec![told("plain", &[], &["10.0.0.5:80", "10.0.0.6:80"])];
    let mut down = services[0].instances[1].as_ref().clone();
    down.health = portolan::catalog::Health::Unhealthy;
    down.cause = "on fire".into();
    services[0].instances[1] = Arc::new(down);
    let rig = Rig::start(&config, services).await;
    let dns = rig.address("dns").await;
    let socket = rig.directory().join("admin.sock");
    for (name, qtype) in [
        ("plain.svc.test", "A"),
        ("plain.service.consul", "A"),
        ("_plain._tcp.service.consul", "SRV"),
        ("plain.marathon.mesos", "A"),
        ("plain.default.default.discover.internal", "A"),
        ("plain.default.svc.cluster.local", "A"),
        ("plain.sky.test", "SRV"),
        ("nobody.sky.test", "A"),
    ] {
        let path = format!("/v1/dns/explain?name={name}&type={qtype}&client=127.0.0.1");
        let answer = get_by_socket(&socket, &path).await;
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        let reply = ask("dig", dns, &format!("{name} {qtype}")).await;
        assert_eq!(told["code"], *reply.status, "{name}");
        let told_answers = told["answers"].as_array().unwrap();
        assert_eq!(told_answers.len(), reply.answer.len(), "{name}: {told:#}");
        for record in told_answers {
            let words: Vec<&str> = record.as_str().unwrap().split(' ').collect();
            let line = format!("{} {} IN {}", words[0], words[1], words[2..].join(" "));
            assert!(reply.answer.contains(&line), "{name}: {line}: {}", reply.text);
        }
        if reply.status != "NOERROR" {
            continue;
        }
        let instances = told["services"][0]["instances"].as_array().unwrap();
        let of = |id: &str| instances.iter().find(|instance| instance["id"] == id).unwrap();
        assert_eq!((&of("i0")["answered"], &of("i1")["answered"]), (&true.into(), &false.into()));
        assert_eq!(of("i1")["reason"], "unhealthy: on fire", "{name}");
        assert!(of("i1")["since"].is_string() && of("i0")["since"].is_string(), "{name}");
    }
    let answer = get_by_socket(&socket, "/v1/dns/explain?name=plain.narrow").await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    let reason = told["services"][0]["instances"][0]["reason"].as_str().unwrap();
    assert_eq!(reason, "the zone shows no instances of the registry mem");
    assert_eq!(get_by_socket(&socket, "/v1/dns/explain?name=a&type=x").await.status, 400);
}

#[tokio::test]
async fn mesos_clients_find_their_http_api_and_a_reload_takes_it_away() {
    let with = ZONES.replace("\"mesos\"\n", "\"mesos\"\nhttp_listen = \"127.0.0.1:0\"\n");
    let rig = Rig::start(&with, vec![told("web", &[], &["10.0.0.1:80"])]).await;
    let at = rig.address("mesos").await;
    let json = async |path: &str| -> Value {
        serde_json::from_str(&get(at, path).await.body)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    assert!(json("/v1/version").await["Version"].is_string());
    assert_eq!(json("/v1/config").await["Domain"], "mesos");
    let hosts = json("/v1/hosts/web.marathon.mesos").await;
    assert_eq!(hosts[0]["ip"], "10.0.0.1");
    let services = json("/v1/services/_web._tcp.marathon.mesos.").await;
    assert_eq!((&services[0]["port"], &services[0]["ip"]), (&"80".into(), &"10.0.0.1".into()));
    let all = json("/v1/enumerate").await;
    assert_eq!(all["frameworks"][0]["tasks"][0]["name"], "web");
    rig.reload(ZONES).await;
    within("the end of it", async {
        while tokio::net::TcpStream::connect(at).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_answers_file_is_answered_from_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.json");
    let write = |ip: &str| {
        let text = format!(
            "{{\"127.0.0.1\": {{\"a\": {{\"alias.\": {{\"answer\": [\"{ip}\"]}}}}}}, \"default\": \
             {{\"a\": {{\"web.s.e.rancher.internal.\": {{\"answer\": [\"{ip}\"], \"ttl\": 42}}}}}}}}"
        );
        let aside = Path::new(&path).with_extension("new");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, &path).unwrap();
    };
    write("10.0.0.1");
    let config = format!(
        "[registry.answers.rancher-answers]\npath = {:?}\npoll = \"50ms\"\n{ZONES}",
        path.display().to_string()
    );
    let rig = Rig::start_beside(&config).await;
    let dns = rig.address("dns").await;
    for ip in ["10.0.0.1", "10.0.0.2"] {
        write(ip);
        for name in ["alias", "web.s.e.discover.internal", "web.s.e.rancher.internal"] {
            within(name, async {
                let question = format!("+norecurse {name}. A");
                let wanted = format!(" IN A {ip}");
                while !ask("dig", dns, &question).await.answer.iter().any(|a| a.ends_with(&wanted))
                {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
        }
    }
    let reply = ask("dig", dns, "web.s.e.discover.internal. A").await;
    let told: Vec<&str> = reply.answer.iter().map(String::as_str).collect();
    assert_eq!(told, ["web.s.e.discover.internal. 42 IN A 10.0.0.2"]);
}

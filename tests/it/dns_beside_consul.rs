//! The dialect `consul` beside the real one: one catalog, one list of questions, equal answers but
//! for those that differ on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::clients::{Dns, Reply};
use crate::support::consul::{Consul, Entry};
use crate::support::{address, known, start, until};

/// How long the two may differ after a change.
const PATIENCE: Duration = Duration::from_secs(20);

/// One instance as the catalog is told: node, its address, service, id, address of its own, port,
/// tags, weight, state of its check.
struct Told(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u16,
    &'static [&'static str],
    u16,
    &'static str,
);

const CATALOG: &[Told] = &[
    Told("n1", "10.0.0.1", "web", "web1", "", 80, &["prod", "v1.2"], 3, "passing"),
    Told("n2", "10.0.0.2", "web", "web2", "", 80, &["prod"], 1, "passing"),
    Told("n3", "10.0.0.3", "web", "web3", "10.9.0.3", 81, &["test"], 1, "warning"),
    Told("n4", "10.0.0.4", "web", "web4", "10.9.0.4", 82, &["prod"], 1, "critical"),
    Told("n1", "10.0.0.1", "gone", "gone1", "", 83, &["prod"], 1, "critical"),
    Told("n2", "10.0.0.2", "Mixed-Case", "m1", "10.9.0.5", 84, &["Blue"], 1, "passing"),
    Told("n3", "10.0.0.3", "portless", "p1", "10.9.0.6", 0, &[], 1, "passing"),
    Told("n4", "10.0.0.4", "six", "s1", "fd00::6", 85, &["prod"], 1, "passing"),
    Told("n1", "10.0.0.1", "outside", "o1", "db.example.com", 86, &[], 1, "passing"),
    Told("rack.n5", "10.0.0.5", "dotted", "d1", "", 87, &["a.b.c"], 1, "passing"),
    Told("n2", "10.0.0.2", "light", "l1", "10.9.0.7", 88, &[], 0, "passing"),
];

async fn tell(consul: &Consul) {
    for Told(node, at, service, id, own, port, tags, weight, status) in CATALOG {
        let body = json!({
            "Node": node, "Address": at,
            "NodeMeta": {"rack": format!("r-{node}"), "rfc1035-note": "as it is"},
            "Service": {
                "ID": id, "Service": service, "Address": own, "Port": port, "Tags": tags,
                "Weights": {"Passing": weight, "Warning": 2},
            },
            "Check": {"CheckID": format!("c-{id}"), "Name": "c", "ServiceID": id, "Status": status},
        });
        consul.put("/v1/catalog/register", body).await;
    }
}

/// Every name that is asked for.
fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for Told(node, at, service, _, own, _, tags, ..) in CATALOG {
        for zone in ["consul", "dc1.consul", "dc2.consul"] {
            names.insert(format!("{service}.service.{zone}"));
            names.insert(format!("_{service}._tcp.service.{zone}"));
            names.insert(format!("_{service}._udp.service.{zone}"));
            names.insert(format!("_{service}._tcp.{zone}"));
            names.insert(format!("nobody.{service}.service.{zone}"));
            for tag in *tags {
                names.insert(format!("{tag}.{service}.service.{zone}"));
                names.insert(format!("_{service}._{tag}.service.{zone}"));
                names.insert(format!("_{service}._{tag}.{zone}"));
            }
            names.insert(format!("{node}.node.{zone}"));
            for ip in [at, own] {
                if let Ok(ip) = ip.parse::<std::net::Ipv4Addr>() {
                    names.insert(format!("{:08x}.addr.{zone}", u32::from(ip)));
                }
            }
        }
        for ip in [at, own] {
            if let Ok(ip) = ip.parse::<std::net::IpAddr>() {
                let name = hickory_proto::rr::Name::from(ip).to_ascii();
                names.insert(name.trim_end_matches('.').to_owned());
            }
        }
    }
    for zone in ["consul", "dc1.consul"] {
        for name in [
            "nobody.service",
            "nobody.node",
            "zz.addr",
            "_x._tcp.service",
            "service",
            "node",
            "addr",
            "nobody",
        ] {
            names.insert(format!("{name}.{zone}"));
        }
    }
    names.insert("fd000000000000000000000000000006.addr.consul".to_owned());
    names
}

/// Why the answers of the two differ on purpose; none: they must not.
fn on_purpose(name: &str, qtype: RecordType, them: &Answer, us: &Answer) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let is_srv = qtype == RecordType::SRV;
    let empty = |answer: &Answer| answer.1.is_empty();
    let without_service = lower.starts_with('_') && !lower.contains(".service.");
    Some(if lower.contains("light") {
        "an instance of weight 0 gets no work"
    } else if lower.contains("portless") && is_srv {
        "an instance without a port has no SRV record"
    } else if lower.contains("dc2") && empty(them) && empty(us) {
        "another datacenter that nobody tells of: it has no names, theirs is an error"
    } else if without_service && !is_srv {
        "a name that has SRV records exists for other types too, and has addresses"
    } else if lower.contains(".addr.dc2.") {
        "another datacenter that nobody tells of spells no addresses"
    } else if lower.contains(".addr.") && empty(us) && us.0 == ResponseCode::NoError {
        "an address of another type than was asked for is no answer: NODATA"
    } else if them.0 == ResponseCode::NXDomain && us.0 == ResponseCode::NoError && empty(us) {
        "a name with names below it, or with records of another type, exists"
    } else if lower.contains(".arpa") && qtype != RecordType::PTR {
        "the name of an address exists for other types too"
    } else if lower.contains(".arpa") && empty(them) == empty(us) && us.1.is_superset(&them.1) {
        "an address points back to each name that it has, not to the first one"
    } else if qtype == RecordType::TXT && empty(us) && us.0 == ResponseCode::NoError {
        "the text of a service: there is none; addresses are no answer"
    } else if lower.starts_with("nobody.node.") || lower.starts_with("zz.addr.") {
        "a name that is not there is NXDOMAIN whatever is asked of it"
    } else {
        return None;
    })
}

/// Code and records, without regard to letter case.
type Answer = (ResponseCode, BTreeSet<String>);

fn answer(reply: &Reply) -> Answer {
    let records = reply
        .0
        .answers
        .iter()
        .map(|record| format!("{} {}", record.record_type(), record.data).to_ascii_lowercase());
    (reply.code(), records.collect())
}

fn cases(name: &str) -> [String; 3] {
    let mixed = name.char_indices().map(|(at, letter)| {
        if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    });
    [name.to_owned(), name.to_ascii_uppercase(), mixed.collect()]
}

async fn ask(server: &Dns, name: &str, qtype: RecordType) -> Reply {
    server.ask(name, qtype).await
}

fn config(consul: &Consul) -> String {
    format!(
        "[node]\nworkers = 1\n[registry.dc1.consul]\naddress = \"http://{}\"\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.consul]\ndialect = \"consul\"\n\
         datacenter = \"dc1\"\n[admin]\nsocket = \"admin.sock\"\n",
        consul.address()
    )
}

#[tokio::test]
async fn it_answers_as_the_real_one_does_but_where_it_differs_on_purpose() {
    let consul = Consul::start_with_dns().await;
    tell(&consul).await;
    let directory = tempfile::tempdir().unwrap();
    let app = start(&config(&consul), directory.path()).await;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for Told(_, _, service, ..) in CATALOG {
        *counts.entry(service).or_default() += 1;
    }
    for (service, count) in &counts {
        known(&app, service, *count).await;
    }
    let ours: SocketAddr = address(&app, "dns").await;
    let (them, us) = (Dns::to(consul.dns()).await, Dns::to(ours).await);
    let mut asked = 0;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for name in names() {
        for qtype in [
            RecordType::A,
            RecordType::AAAA,
            RecordType::SRV,
            RecordType::TXT,
            RecordType::PTR,
            RecordType::MX,
        ] {
            for spelled in cases(&name) {
                asked += 1;
                let theirs = answer(&ask(&them, &spelled, qtype).await);
                let reply = ask(&us, &spelled, qtype).await;
                assert_eq!(reply.0.queries[0].name().to_ascii().trim_end_matches('.'), spelled);
                let own = answer(&reply);
                if own == theirs {
                    continue;
                }
                match on_purpose(&spelled, qtype, &theirs, &own) {
                    Some(reason) => *reasons.entry(reason).or_default() += 1,
                    None if spelled != name => {}
                    None => wrong.push(format!("{spelled} {qtype}: Consul {theirs:?}, we {own:?}")),
                }
            }
        }
    }
    println!("{asked} questions; on purpose: {reasons:#?}");
    assert!(asked > 3_000, "only {asked} questions");
    assert!(wrong.is_empty(), "{} differ: {:#?}", wrong.len(), &wrong[..wrong.len().min(150)]);
    let _: Value = consul.get("/v1/status/leader").await;
    app.stop().await;
}

/// One step of a maintenance, and how many instances of `kept` are in work behind it.
type Step = (&'static str, Option<&'static str>, bool, usize);

#[tokio::test]
async fn what_is_in_maintenance_is_left_out_where_the_real_one_leaves_it_out() {
    const STEPS: &[Step] = &[
        ("one instance", Some("kept-1"), true, 1),
        ("both", Some("kept-2"), true, 0),
        ("the second is back", Some("kept-2"), false, 1),
        ("the node too", None, true, 0),
        ("the instance is back, the node is not", Some("kept-1"), false, 0),
        ("all are back", None, false, 2),
    ];
    let consul = Consul::start_with_dns().await;
    let entry = |service: &str, id: &str, at: &str| Entry::new(service, id, at.parse().unwrap());
    for entry in [
        entry("kept", "kept-1", "10.9.1.1:90").tagged("v1"),
        entry("kept", "kept-2", "10.9.1.2:91").tagged("v1").weighing(3),
        entry("other", "other-1", "10.9.1.3:92"),
    ] {
        consul.register(&entry).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let app = start(&config(&consul), directory.path()).await;
    known(&app, "kept", 2).await;
    known(&app, "other", 1).await;
    let (them, us) = (Dns::to(consul.dns()).await, Dns::to(address(&app, "dns").await).await);
    let names = [
        "kept.service.consul",
        "kept.service.dc1.consul",
        "v1.kept.service.consul",
        "_kept._tcp.service.consul",
        "_kept._v1.service.dc1.consul",
        "other.service.consul",
        "_other._tcp.service.consul",
        "consul.service.consul",
        "agent.node.consul",
        "0a090101.addr.consul",
    ];
    let mut compared = 0;
    for (case, id, on, left) in STEPS {
        consul.maintenance(*id, *on).await;
        // Its own answers may take a moment: the agent tells the catalog.
        until(case, async || {
            let told = answer(&ask(&them, names[0], RecordType::A).await);
            (told.1.len() == *left).then_some(())
        })
        .await;
        for name in names {
            for qtype in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
                let mut last = None;
                let same = async || {
                    let theirs = answer(&ask(&them, name, qtype).await);
                    let own = answer(&ask(&us, name, qtype).await);
                    let same = own == theirs || on_purpose(name, qtype, &theirs, &own).is_some();
                    last = Some((theirs, own));
                    same.then_some(())
                };
                let waited = tokio::time::timeout(PATIENCE, until(name, same)).await;
                assert!(waited.is_ok(), "{case}, {name} {qtype}: they, we: {last:?}");
                compared += 1;
            }
        }
    }
    println!("{compared} answers compared in {} steps of maintenance", STEPS.len());
    app.stop().await;
}

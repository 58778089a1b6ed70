//! The names of Mesos-DNS, fed from Marathon alone.
//!
//! `tests/golden/marathon/services.json` is what the registry `marathon` makes of the apps beside
//! it; a test in that room holds it to that.

use std::net::SocketAddr;
use std::path::Path;

use portolan::catalog::SourceService;

use crate::dns_wire::ask;
use crate::rig::Rig;

const ZONE: &str = "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.mesos]\ndialect = \"mesos\"\n";

fn services() -> Vec<SourceService> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/marathon/services.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The data of the records of the answer, sorted.
async fn answers(dns: SocketAddr, question: &str) -> Vec<String> {
    let reply = ask("dig", dns, question).await;
    let data = reply.answer.iter().map(|record| {
        let words: Vec<&str> = record.split_whitespace().collect();
        words[4..].join(" ")
    });
    let mut data: Vec<String> = data.collect();
    data.sort();
    data
}

#[tokio::test]
async fn the_names_of_mesos_dns_are_made_of_what_marathon_tells() {
    let rig = Rig::start(ZONE, services()).await;
    let dns = rig.address("dns").await;
    let mut wrong = Vec::new();
    for (question, wanted) in [
        // Tasks that are well, by the app's path backwards.
        ("web-shop.marathon.mesos A", &["10.0.1.1", "10.0.1.2"][..]),
        ("web-shop.marathon.slave.mesos A", &["10.0.1.1", "10.0.1.2"]),
        // A task with an address of its own, and its agent.
        ("dns.marathon.mesos A", &["9.0.1.7"]),
        ("dns.marathon.slave.mesos A", &["10.0.1.1"]),
        ("slave.mesos A", &["10.0.1.1", "10.0.1.2"]),
        // Who leads, and the framework: the leading Marathon.
        ("leader.mesos A", &["10.0.0.9"]),
        ("master.mesos A", &["10.0.0.9"]),
        ("master0.mesos A", &["10.0.0.9"]),
        ("_leader._tcp.mesos SRV", &["0 1 8080 leader.mesos."]),
        ("marathon.mesos A", &["10.0.0.9"]),
        ("_marathon._tcp.mesos SRV", &["0 1 8080 marathon.mesos."]),
        // What the configuration advertises.
        ("marathon-lb.marathon.mesos A", &["10.0.0.5"]),
        ("nobody.marathon.mesos A", &[]),
    ] {
        let told = answers(dns, question).await;
        if told != wanted {
            wrong.push(format!("{question}: {told:?}"));
        }
    }
    // Ports by name and by protocol; where they lead to is the name of one task.
    for (question, ports) in [
        ("_web-shop._tcp.marathon.mesos SRV", &["31010", "31020"][..]),
        ("_http._web-shop._tcp.marathon.mesos SRV", &["31010", "31020"]),
        ("_http._web-shop._udp.marathon.mesos SRV", &[]),
        ("_web-shop._tcp.marathon.slave.mesos SRV", &["31010", "31020"]),
        ("_dns._udp.marathon.mesos SRV", &["53"]),
        ("_dns._dns._udp.marathon.mesos SRV", &["53"]),
        ("_dns._tcp.marathon.mesos SRV", &[]),
        ("_dns._udp.marathon.slave.mesos SRV", &[]),
    ] {
        let told = answers(dns, question).await;
        let mut of: Vec<&str> = told.iter().filter_map(|data| data.split(' ').nth(2)).collect();
        of.sort_unstable();
        if of != ports {
            wrong.push(format!("{question}: {told:?}"));
        }
        for target in told.iter().filter_map(|data| data.split(' ').nth(3)) {
            let address = answers(dns, &format!("{target} A")).await;
            if address.len() != 1 {
                wrong.push(format!("{question}: {target}: {address:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

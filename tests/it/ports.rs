//! Ports that come and go with the services that ask for them in the registry.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan::catalog::SourceService;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::child::Running;
use crate::clients::get_by_socket;
use crate::origin::Origin;
use crate::peers::own_ip;
use crate::rig::{Client, Rig, service, within};
use crate::support::{replace, until};

/// A rig whose listener `apps` opens what services ask for, at an address of its own.
async fn rig(more: &str) -> (Rig, std::net::IpAddr) {
    let ip = own_ip();
    let config = format!(
        "[node]\nworkers = 1\n[listener.apps.tcp]\nbind = [\"{ip}:0\"]\nports = \"from-registry\"\n{more}"
    );
    (Rig::start(&config, Vec::new()).await, ip)
}

/// A service that asks for `ports`.
fn asking(name: &str, ports: &str, at: &[SocketAddr]) -> SourceService {
    let meta = BTreeMap::from([("portolan-port".into(), ports.into())]);
    SourceService { meta: Arc::new(meta), ..service(name, at) }
}

/// Returns once someone accepts at `at`, with what it said first.
async fn answers(at: SocketAddr) -> (Client, char) {
    within(&format!("{at} answers"), async {
        loop {
            if let Ok(stream) = TcpStream::connect(at).await {
                let mut client = Client::over(stream);
                let first = client.bytes(1).await[0];
                return (client, first.into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Returns once nobody accepts at `at`.
async fn refuses(at: SocketAddr) {
    within(&format!("{at} is closed"), async {
        while TcpStream::connect(at).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Why services do not have what they ask for, once it is `count` of them.
async fn refused(rig: &Rig, count: usize) -> Vec<(String, String)> {
    let socket = rig.directory().join("admin.sock");
    within(&format!("{count} refused"), async {
        loop {
            let status = get_by_socket(&socket, "/v1/status").await.json();
            let told = status["refused_ports"].as_array().unwrap();
            if told.len() == count {
                let word = |told: &Value, key: &str| told[key].as_str().unwrap().to_owned();
                return told.iter().map(|one| (word(one, "service"), word(one, "why"))).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_port_leads_to_whoever_asks_for_it_and_moves_without_a_gap() {
    let (a, b) = (Origin::lettered('a').await, Origin::lettered('b').await);
    let (rig, ip) = rig("").await;
    let (first, second) = (SocketAddr::new(ip, 20_001), SocketAddr::new(ip, 20_002));
    rig.tell(vec![asking("a", "20001", &[a.address]), asking("b", "20002", &[b.address])]).await;
    let (mut held, name) = answers(first).await;
    assert_eq!(name, 'a');
    assert_eq!(answers(second).await.1, 'b');
    rig.metric_is("portolan_listener_ports{listener=\"apps\",state=\"open\"}", 2.0).await;

    // Whoever comes meanwhile gets the one or the other, and never nobody.
    rig.say(vec![service("a", &[a.address]), asking("b", "20001", &[b.address])]);
    let mut seen = Vec::new();
    within("the other service", async {
        while seen.last() != Some(&'b') {
            let mut client = Client::connect(first).await;
            seen.push(client.bytes(1).await[0].into());
        }
    })
    .await;
    assert!(seen.iter().all(|name| ['a', 'b'].contains(name)), "{seen:?}");
    refuses(second).await;
    // A connection to an instance that is there goes on, though its port leads elsewhere now.
    held.send("x").await;
    assert_eq!(held.bytes(1).await, b"x");

    rig.reload("[node]\nworkers = 1\n").await;
    refuses(first).await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_under_its_service_and_tried_again() {
    let origin = Origin::lettered('a').await;
    let (rig, ip) = rig("from_registry = { allowed = [\"20000-20009\"], max = 2 }\n").await;
    let at = |port| SocketAddr::new(ip, port);
    let taken = TcpListener::bind(at(20_000)).await.unwrap();
    let to = [origin.address];
    rig.tell(vec![
        asking("first", "20001", &to),
        asking("late", "20001", &to),
        asking("more", "20002", &to),
        asking("taken", "20000", &to),
        asking("wrong", "22, http", &to),
    ])
    .await;
    assert_eq!(answers(at(20_001)).await.1, 'a');
    let told = refused(&rig, 4).await;
    for (service, why) in [
        ("late", "port 20001 is that of the service \"first\""),
        ("taken", "port 20000 is one too many; let [listener.apps.tcp] from_registry.max be above"),
        ("wrong", "port 22 is not among those allowed (20000-20009)"),
        ("wrong", "is no port"),
    ] {
        let known = |(of, told): &(String, String)| of == service && told.contains(why);
        assert!(told.iter().any(known), "{service}: {why}: {told:#?}");
    }

    rig.tell(vec![asking("first", "20001", &to), asking("taken", "20000", &to)]).await;
    let told = refused(&rig, 1).await;
    assert!(told[0].0 == "taken" && told[0].1.contains("it is in use"), "{told:?}");
    let why = get_by_socket(&rig.directory().join("admin.sock"), "/v1/why?service=taken").await;
    assert!(why.json()["refused_ports"][0].as_str().unwrap().contains("it is in use"));
    drop(taken);
    assert_eq!(answers(at(20_000)).await.1, 'a');
    refused(&rig, 0).await;
}

/// Files that a process has open, and the memory that it has for itself, in kB.
fn taken(id: u32) -> (usize, u64) {
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kilobytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    (files, private.filter_map(kilobytes).sum())
}

fn services(file: &Path, ports: std::ops::Range<u16>, to: SocketAddr) {
    let one = |port| {
        format!(
            "[service.s{port}]\nmeta = {{ portolan-port = \"{port}\" }}\n\
             [[service.s{port}.instance]]\naddress = \"{}\"\nport = {}\n",
            to.ip(),
            to.port()
        )
    };
    let other = "[[service.other.instance]]\naddress = \"127.0.0.1\"\nport = 1\n";
    replace(file, &(ports.map(one).collect::<String>() + other));
}

#[tokio::test]
async fn a_thousand_ports_appear_in_one_change_and_leave_nothing_behind() {
    const PORTS: std::ops::Range<u16> = 20_000..21_000;
    let whole = std::env::var_os("PORTOLAN_FULL").is_some();
    let rounds = if whole { 60 } else { 4 };
    let (origin, ip) = (Origin::lettered('a').await, own_ip());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    services(&file("services.toml"), 0..0, origin.address);
    let config = format!(
        "[node]\nworkers = 2\n[registry.apps.file]\npath = \"services.toml\"\n\
         [listener.apps.tcp]\nbind = [\"{ip}:0\"]\nports = \"from-registry\"\n\
         [admin]\nsocket = \"admin.sock\"\n"
    );
    fs::write(file("portolan.toml"), config).unwrap();
    let portolan = Running::start(&file("portolan.toml")).await;
    portolan.ready(&file("admin.sock")).await;
    let open = async |count: f64| {
        let name = "portolan_listener_ports{listener=\"apps\",state=\"open\"} ";
        within("the ports", async {
            loop {
                let page = get_by_socket(&file("admin.sock"), "/metrics").await.body;
                let line = page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
                if line == Some(count) || (count == 0.0 && line.is_none()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    open(0.0).await;
    let mut found = Vec::new();
    let (files, _) = taken(portolan.id());
    // The first round fills what is kept for the next one.
    for round in 0..rounds {
        let began = Instant::now();
        services(&file("services.toml"), PORTS, origin.address);
        for port in PORTS.rev() {
            assert_eq!(answers(SocketAddr::new(ip, port)).await.1, 'a', "{port}");
        }
        let took = began.elapsed();
        open(1000.0).await;
        let with = taken(portolan.id());
        services(&file("services.toml"), 0..0, origin.address);
        open(0.0).await;
        // Workers close their descriptors when they hear of it, a moment later.
        until("the descriptors are closed", async || {
            (taken(portolan.id()).0 < files + 8).then_some(())
        })
        .await;
        refuses(SocketAddr::new(ip, PORTS.start)).await;
        let without = taken(portolan.id());
        println!(
            "round {round}: 1000 ports accepted {took:?} after the change; files and kB with them {with:?}, without {without:?}"
        );
        found.push((took, without));
    }
    // What is remembered of services that left is dropped after a while: a level, and no slope.
    let most = |half: &[(Duration, (usize, u64))]| half.iter().map(|(_, (_, kb))| *kb).max();
    let (early, late) = found.split_at(rounds / 2);
    let (early, late) = (most(early).unwrap(), most(late).unwrap());
    // In the few rounds of the short form all sorts of things still fill up.
    let share = if whole { 10 } else { 1 };
    assert!(late <= early + early / share, "{early} kB, then {late} kB: {found:?}");
    if whole {
        let late = found.iter().filter(|(took, _)| *took > Duration::from_secs(1)).count();
        assert_eq!(late, 0, "{found:?}");
    }
}

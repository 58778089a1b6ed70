//! Health across the borders of hosts: network namespaces with a cable each, one of them cut or slowed.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;

use crate::child::{PORTOLAN, Running};
use crate::clients::get_by_socket;
use crate::support::netns::Lan;
use crate::support::{listing, until};

/// A page whose end is what is looked for: it takes its time on a slow cable.
const PAGE: usize = 16 << 10;
/// What checks say: every 200 ms at the latest 10 % later, 300 ms for an answer, two in a row.
const INTERVAL: Duration = Duration::from_millis(220);
const TIMEOUT: Duration = Duration::from_millis(300);
const FALL: u32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_and_a_slow_cable_are_seen_in_time_and_others_are_not_affected() {
    let Some(lan) = Lan::new(&["edge", "one", "two", "client"]) else { return };
    let mut at = Vec::new();
    for (host, name) in [("one", "one"), ("two", "two")] {
        let listener = lan.listen(host, 8080);
        at.push((name, listener.local_addr().unwrap()));
        let page = format!("{}end\n", ".".repeat(PAGE));
        let router = Router::new()
            .route("/page", get(move || std::future::ready(page.clone())))
            .fallback(move || std::future::ready(name));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("services.toml"), listing("web", &at)).unwrap();
    let text = "[node]\nworkers = 1\ndata_dir = \"state\"\n[registry.local.file]\npath = \"services.toml\"\n\
                [service.web]\npolicy = \"round-robin\"\ncheck.http = { path = \"/page\", body = \"end\", \
                interval = \"200ms\", timeout = \"300ms\", rise = 1, fall = 2 }\n\
                [listener.web.http]\nbind = [\"0.0.0.0:80\"]\ntimeouts = { connect = \"300ms\" }\n\
                [route.all]\nlistener = \"web\"\nservice = \"web\"\n";
    fs::write(directory.path().join("portolan.toml"), text).unwrap();
    let mut command = lan.command("edge", PORTOLAN);
    command.args(["run", "--config"]).arg(directory.path().join("portolan.toml"));
    let process = Running::spawn(command);
    process.logged("serving").await;
    let admin = directory.path().join("state/admin.sock");
    let edge = SocketAddr::from((lan.address("edge"), 80));

    let states = async || {
        let told = get_by_socket(&admin, "/v1/services/web").await.json();
        let of = |id: &str| {
            let all = told["instances"].as_array()?;
            let one = all.iter().find(|instance| instance["id"] == id)?;
            Some(one["eligible"] == true)
        };
        Some((of("one")?, of("two")?))
    };
    let reach = async |what: &str, wanted: (bool, bool)| {
        until(what, async || (states().await? == wanted).then_some(())).await;
    };
    // Who answers a request from outside; nothing but a name is good.
    let ask = || {
        lan.inside("client", move || {
            use std::io::{Read, Write};
            let mut stream =
                std::net::TcpStream::connect_timeout(&edge, Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
        })
    };
    reach("both are well", (true, true)).await;
    let full = std::env::var_os("PORTOLAN_FULL").is_some();
    // Within the limits that the checks state, and what a crowded machine adds.
    let limit = (INTERVAL + TIMEOUT) * FALL + Duration::from_millis(if full { 300 } else { 8000 });

    let began = Instant::now();
    lan.cable("one", false);
    // Meanwhile requests go on: who is not reached is left for the other.
    for _ in 0..10 {
        assert_eq!(ask(), "two");
    }
    reach("the one behind the cut cable has failed", (false, true)).await;
    let took = began.elapsed();
    println!("borders: a cut cable is seen after {took:?}");
    assert!(took < limit, "{took:?}");
    lan.cable("one", true);
    reach("both are well again", (true, true)).await;
    // ARP took note that nobody was there; both answer in the end.
    until("both answer", async || (ask() == "one").then_some(())).await;

    match lan.slow("two", "64kbit") {
        Ok(_) => {}
        Err(why) => return println!("skipped: a slow cable ({why}); the kernel has no tbf"),
    }
    let slow = lan.tool(
        "two",
        &[
            "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "64kbit", "burst",
            "1600", "latency", "400ms",
        ],
    );
    slow.unwrap();
    let began = Instant::now();
    reach("the one behind the slow cable has failed", (true, false)).await;
    let took = began.elapsed();
    println!("borders: a slow cable is seen after {took:?}");
    assert!(took < limit, "{took:?}");
    for _ in 0..10 {
        assert_eq!(ask(), "one");
    }
    for (host, device) in [("sw", "to-two"), ("two", "eth0")] {
        lan.tool(host, &["tc", "qdisc", "delete", "dev", device, "root"]).unwrap();
    }
    reach("both are well at last", (true, true)).await;
}

//! The express lane under load and under reloads, and the limits of TCP, with clients of many kinds.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use portolan::app::{App, Options};
use portolan::net::adopt::Adopted;
use portolan::net::listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::dns_wire::{ask, query};
use crate::peers::own_address;
use crate::rig::{Rig, service, within};
use crate::support::{Memory, address, known, load, start_with};

/// Questions a second: less when nothing was optimised, for the client shares the machine.
const RATE: u32 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
const RELOADS: u32 = 20;

fn config(round: u32) -> String {
    // Each round has other limits, and every second one another zone too.
    let zone = if round.is_multiple_of(2) { "" } else { "[dns.zone.more]\n" };
    format!(
        "[node]\nworkers = 1\n\
         [dns]\nlisten = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\nrate_limit = {}\n\
         [dns.zone.svc]\n{zone}",
        200 + round
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_is_lost_while_the_configuration_reloads_twenty_times() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Memory::new("mem");
    registry.tell("web", &["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()]);
    let app = start_with(&config(0), directory.path(), &[&registry]).await;
    known(&app, "web", 2).await;
    let dns = app.addresses("dns").await[0];
    let questions = directory.path().join("questions");
    std::fs::write(&questions, "web.svc A\nnobody.svc A\nweb.svc AAAA\n").unwrap();
    let mut dnsperf = Command::new("dnsperf");
    dnsperf
        .args(["-e", "-T", "1", "-c", "8", "-q", "1000", "-t", "20", "-l", "5"])
        .args(["-Q", &RATE.to_string()])
        .args(["-s", &dns.ip().to_string(), "-p", &dns.port().to_string(), "-d"])
        .arg(&questions)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let child = dnsperf.spawn().expect("dnsperf; `scripts/install-peers --debian` installs it");
    let reloads = async {
        for round in 1..=RELOADS {
            let loaded = load(&config(round), directory.path()).unwrap();
            within("reload", app.reload(loaded)).await.unwrap();
            assert_eq!(app.addresses("dns").await[0], dns, "the socket stays");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let (output, ()) = tokio::join!(within("dnsperf", child.wait_with_output()), reloads);
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok())
    };
    println!("{RELOADS} reloads at {RATE} a second: {}", text.replace('\n', " | "));
    assert_eq!(field("Queries lost:"), Some(0), "{text}");
    assert!(field("Queries completed:").unwrap() > 4 * RATE, "{text}");
    assert!(!text.contains("SERVFAIL") && !text.contains("REFUSED"), "{text}");
    app.stop().await;
}

#[tokio::test]
async fn a_wildcard_answers_each_client_from_the_address_that_it_asked() {
    let rig = Rig::start(
        "[dns]\nlisten = [\"0.0.0.0:0\", \"[::]:0\"]\n[dns.zone.svc]\n",
        vec![service("web", &["10.0.0.1:80".parse().unwrap()])],
    )
    .await;
    // dig and kdig take no reply that comes from elsewhere.
    for bound in rig.app.addresses("dns").await {
        let asked = if bound.is_ipv4() { ["127.0.0.1", "127.0.0.53"] } else { ["::1", "::1"] };
        for ip in asked {
            let server = SocketAddr::new(ip.parse().unwrap(), bound.port());
            for tool in ["dig", "kdig"] {
                let reply = ask(tool, server, "web.svc A").await;
                assert_eq!(reply.status, "NOERROR", "{server} by {tool}: {}", reply.text);
            }
        }
    }
}

#[tokio::test]
async fn dig_and_kdig_find_our_cookies_good_and_read_why_they_were_refused() {
    let rig = Rig::start(
        "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.svc]\n\
         [dns.zone.closed]\nallow = [\"192.0.2.0/24\"]\n",
        vec![service("web", &["10.0.0.1:80".parse().unwrap()])],
    )
    .await;
    let dns = rig.address("dns").await;
    let first = ask("dig", dns, "+cookie=2464c4abcf10c957 web.svc A").await;
    let line = first.text.lines().find(|line| line.contains("COOKIE: ")).unwrap().to_owned();
    assert!(line.ends_with("(good)"), "{}", first.text);
    let cookie = line.split_whitespace().nth(2).unwrap();
    let again = ask("dig", dns, &format!("+cookie={cookie} web.svc A")).await;
    assert!(again.status == "NOERROR" && again.text.contains("(good)"), "{}", again.text);
    let other = ask("kdig", dns, "+cookie web.svc A").await;
    assert!(other.status == "NOERROR" && other.text.contains("COOKIE"), "{}", other.text);
    for (name, why) in [("web.closed A", "EDE: 18"), ("example.org A", "EDE: 20")] {
        let refused = ask("dig", dns, name).await;
        assert!(refused.status == "REFUSED" && refused.text.contains(why), "{}", refused.text);
    }
    rig.metric_is(
        "portolan_dns_queries_total{lane=\"express\",qtype=\"A\",rcode=\"REFUSED\",transport=\"udp\"}",
        2.0,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_and_a_slow_reader_keep_nobody_from_an_answer() {
    const IDLE: usize = 8_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let idle = limit.current.map_or(IDLE, |most| IDLE.min(most as usize / 2 - 500));
    let directory = tempfile::tempdir().unwrap();
    let registry = Memory::new("mem");
    let many: Vec<SocketAddr> =
        (0..2000u16).map(|n| ([10, 1, (n >> 8) as u8, n as u8], 80).into()).collect();
    registry.tell("web", &many);
    let text = "[node]\nworkers = 1\n[dns]\nlisten = [\"127.0.0.1:0\"]\n\
                tcp_max_connections = 1000\ntcp_max_per_client = 20000\n[dns.zone.svc]\n";
    let app = start_with(text, directory.path(), &[&registry]).await;
    known(&app, "web", 2000).await;
    let dns = address(&app, "dns").await;
    let framed = |query: &[u8]| [&(query.len() as u16).to_be_bytes()[..], query].concat();
    // Asks for 32,000 bytes a hundred times and reads none of it.
    let mut slow = TcpStream::connect(dns).await.unwrap();
    slow.write_all(&framed(&query(1, "web.svc")).repeat(100)).await.unwrap();
    let mut held = Vec::new();
    for number in 0..idle {
        held.push(within("connect", TcpStream::connect(dns)).await.unwrap());
        if number % 500 == 0 {
            let mut stream = within("connect", TcpStream::connect(dns)).await.unwrap();
            stream.write_all(&framed(&query(2, "nobody.svc"))).await.unwrap();
            let length = within("an answer", stream.read_u16()).await.unwrap();
            assert!(length > 12, "after {number} idle ones");
        }
    }
    let by_udp = ask("dig", dns, "+notcp +ignore web.svc A").await;
    assert_eq!(by_udp.status, "NOERROR");
    println!("{idle} idle connections, 1,000 places: all answered");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_sockets_that_was_handed_over_is_served_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Memory::new("mem");
    registry.tell("web", &["10.0.0.1:80".parse().unwrap()]);
    // As the process before has them: several for UDP, one for TCP, all of one port.
    let (group, tcp) = loop {
        let first = listen::udp(own_address(), "test", &mut Adopted::none());
        let Ok(first) = first else { continue };
        let at = first.local_addr().unwrap();
        if let Ok(tcp) = listen::tcp(at, "test", &mut Adopted::none()) {
            break (listen::group(first, 3, &mut Adopted::none()), tcp);
        }
    };
    let at = tcp.local_addr().unwrap();
    // Questions from before wait in the queues, whichever the kernel chose.
    let mut early = Vec::new();
    for id in 0..20 {
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(&query(id, "web.svc"), at).await.unwrap();
        early.push(client);
    }
    let mut descriptors: Vec<OwnedFd> = group.into_iter().map(Into::into).collect();
    descriptors.push(tcp.into());
    let text = format!(
        "[node]\nworkers = 1\n[dns]\nlisten = [\"{at}\"]\nexpress_workers = 1\n[dns.zone.svc]\n"
    );
    let options = Options {
        feeds: vec![registry.feed()],
        adopted: Adopted::of(descriptors),
        ..Options::default()
    };
    let loaded = load(&text, directory.path()).unwrap();
    let app = within("start", Box::pin(App::start(loaded, options))).await.unwrap();
    assert_eq!(address(&app, "dns").await, at);
    for client in early {
        let mut reply = [0; 512];
        let length = within("an early answer", client.recv(&mut reply)).await.unwrap();
        assert!(length > 12);
    }
    assert_eq!(ask("dig", at, "+tcp web.svc SOA").await.status, "NOERROR");
    app.stop().await;
    // All of it was let go.
    std::net::UdpSocket::bind(at).unwrap();
}

//! UDP listeners: datagrams of every size both ways, flows that stay where they are, what becomes of
//! them when their instance goes, and limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::time::Duration;

use portolan::catalog::SourceService;
use tokio::net::UdpSocket;
use tokio::process::Command;

use crate::dns_forward::unbound;
use crate::dns_wire::ask;
use crate::peers::{own_address, own_ip, start};
use crate::rig::{Rig, service, within};
use crate::support::until;

/// A rig with one worker and the listener `web`, by UDP, to the service `web` at `endpoints`.
async fn rig(bind: &str, more: &str, endpoints: &[SocketAddr]) -> Rig {
    Rig::start(&config(bind, more), web(endpoints)).await
}

fn config(bind: &str, more: &str) -> String {
    format!(
        "[node]\nworkers = 1\n[listener.web.udp]\nbind = [\"{bind}\"]\nservice = \"web\"\n{more}"
    )
}

fn web(endpoints: &[SocketAddr]) -> Vec<SourceService> {
    vec![service("web", endpoints)]
}

const HERE: &str = "127.0.0.1:0";
const TURNS: &str = "[service.web]\npolicy = \"round-robin\"\n";

/// A client from a port of its own; it takes replies from nobody but `to`.
async fn client_from(ip: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn client(rig: &Rig) -> UdpSocket {
    client_from("127.0.0.1", rig.address("web").await).await
}

async fn got(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let length = within("a reply", socket.recv(&mut buffer)).await.unwrap();
    buffer.truncate(length);
    buffer
}

/// What `socket` gets for `bytes`.
async fn said(socket: &UdpSocket, bytes: &[u8]) -> Vec<u8> {
    socket.send(bytes).await.unwrap();
    got(socket).await
}

/// The same in words.
async fn word(socket: &UdpSocket, word: &str) -> String {
    String::from_utf8(said(socket, word.as_bytes()).await).unwrap()
}

/// An endpoint that gives everything back.
async fn echo() -> SocketAddr {
    echo_at("127.0.0.1").await
}

async fn echo_at(ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 70_000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    address
}

/// An endpoint that says who it is, and from which port it was asked.
async fn named(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind(HERE).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 2000]).await {
            let _ = socket.send_to(format!("{name} {}", from.port()).as_bytes(), from).await;
        }
    });
    address
}

/// An endpoint that the test plays.
async fn played() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(HERE).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// What an endpoint that the test plays was sent, and from where.
async fn heard(endpoint: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 2000];
    let (length, from) = within("a datagram", endpoint.recv_from(&mut buffer)).await.unwrap();
    (String::from_utf8(buffer[..length].to_vec()).unwrap(), from)
}

/// Where nobody listens, and nobody will.
fn nobody() -> SocketAddr {
    let socket = StdSocket::bind((own_ip(), 0)).unwrap();
    socket.local_addr().unwrap()
}

fn flows(result: &str) -> String {
    format!("portolan_udp_flows_total{{listener=\"web\",result=\"{result}\"}}")
}

fn dropped(reason: &str) -> String {
    format!("portolan_udp_dropped_total{{listener=\"web\",reason=\"{reason}\"}}")
}

const OPEN: &str = "portolan_udp_flows{listener=\"web\"}";
const SIZES: [usize; 7] = [0, 1, 512, 1472, 1473, 9000, 65_507];

#[tokio::test]
async fn datagrams_of_every_size_go_both_ways_whole_and_replies_come_from_where_they_were_asked() {
    for (bind, from, to, endpoint) in [
        (HERE, "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1", "127.0.0.2", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.3", "127.0.0.1", "::1"),
        ("[::1]:0", "::1", "::1", "127.0.0.1"),
        ("[::]:0", "::1", "::1", "::1"),
    ] {
        let rig = rig(bind, "", &[echo_at(endpoint).await]).await;
        let port = rig.address("web").await.port();
        let client = client_from(from, (to.parse::<IpAddr>().unwrap(), port).into()).await;
        let mut bytes = 0;
        for size in SIZES {
            let sent: Vec<u8> = (0..=250).cycle().take(size).collect();
            assert!(said(&client, &sent).await == sent, "{bind} {to}: {size} bytes");
            bytes += size;
        }
        for from in ["client", "endpoint"] {
            let labels = format!("{{from=\"{from}\",listener=\"web\"}}");
            let datagrams = format!("portolan_udp_datagrams_total{labels}");
            rig.metric_is(&datagrams, SIZES.len() as f64).await;
            rig.metric_is(&format!("portolan_udp_bytes_total{labels}"), bytes as f64).await;
        }
        rig.metric_is(OPEN, 1.0).await;
    }
}

#[tokio::test]
async fn a_burst_of_one_client_arrives_whole_and_in_order() {
    let rig = rig(HERE, "", &[echo().await]).await;
    let client = client(&rig).await;
    for n in 0..100_u8 {
        client.send(&[n; 100]).await.unwrap();
    }
    for n in 0..100_u8 {
        assert_eq!(got(&client).await, [n; 100]);
    }
}

#[tokio::test]
async fn a_flow_stays_with_its_endpoint_and_is_one_of_client_and_address_asked() {
    for (policy, spreads) in
        [("round-robin", true), ("p2c", true), ("least-connections", true), ("maglev", false)]
    {
        let endpoints = [named("one").await, named("two").await, named("three").await];
        let more = format!("[service.web]\npolicy = \"{policy}\"\n");
        let rig = rig("0.0.0.0:0", &more, &endpoints).await;
        let port = rig.address("web").await.port();
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut clients = Vec::new();
        for to in ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"] {
            let to = (to.parse::<IpAddr>().unwrap(), port).into();
            clients.push(client_from("127.0.0.1", to).await);
        }
        for round in 0..5 {
            for (number, client) in clients.iter().enumerate() {
                let answer = word(client, "who?").await;
                let known = seen.entry(number.to_string()).or_insert_with(|| answer.clone());
                assert_eq!(*known, answer, "{policy}, round {round}, client {number}");
            }
        }
        let ports: BTreeSet<&str> = seen.values().map(|s| s.split_once(' ').unwrap().1).collect();
        assert_eq!(ports.len(), 4, "{policy}: each flow has a port of its own: {seen:?}");
        let names: BTreeSet<&str> = seen.values().map(|s| s.split_once(' ').unwrap().0).collect();
        if policy == "round-robin" {
            assert_eq!(names.len(), 3, "{seen:?}");
        }
        assert!(spreads || names.len() == 1, "by the source, all are one client: {seen:?}");
    }
}

#[tokio::test]
async fn one_socket_that_sends_to_two_of_our_addresses_has_two_flows() {
    let rig = rig("0.0.0.0:0", "", &[named("one").await]).await;
    let port = rig.address("web").await.port();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut ports = BTreeSet::new();
    for to in ["127.0.0.1", "127.0.0.2"] {
        let to: SocketAddr = (to.parse::<IpAddr>().unwrap(), port).into();
        client.send_to(b"who?", to).await.unwrap();
        let mut buffer = [0; 100];
        let (length, from) = within("a reply", client.recv_from(&mut buffer)).await.unwrap();
        assert_eq!(from, to);
        ports.insert(buffer[..length].to_vec());
    }
    assert_eq!(ports.len(), 2);
    rig.metric_is(OPEN, 2.0).await;
}

#[tokio::test]
async fn a_flow_ends_when_nothing_comes_for_the_idle_time_and_not_while_something_does() {
    let rig = rig(HERE, "timeouts = { idle = \"1s\" }\n", &[named("one").await]).await;
    let (quiet, busy) = (client(&rig).await, client(&rig).await);
    let (first, busy_first) = (word(&quiet, "a").await, word(&busy, "a").await);
    within("the end of the quiet one", async {
        while rig.metric(OPEN).await != Some(1.0) {
            assert_eq!(word(&busy, "b").await, busy_first);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    rig.metric_is(&flows("idle"), 1.0).await;
    assert_eq!(word(&busy, "b").await, busy_first);
    assert_ne!(word(&quiet, "c").await, first, "another flow, by another port");
}

#[tokio::test]
async fn a_flow_ends_with_the_last_reply_where_their_number_is_known() {
    let rig = rig(HERE, "responses = 1\n", &[named("one").await]).await;
    let client = client(&rig).await;
    let mut ports = BTreeSet::new();
    for n in 1..=3 {
        ports.insert(word(&client, "a").await);
        rig.metric_is(OPEN, 0.0).await;
        rig.metric_is(&flows("answered"), f64::from(n)).await;
    }
    assert_eq!(ports.len(), 3);
}

#[tokio::test]
async fn beyond_its_limits_nobody_begins_a_flow_and_those_that_are_there_live_on() {
    let more = "flows_max = 4\nflows_per_client = 2\ntimeouts = { idle = \"3s\" }\n";
    let rig = rig("0.0.0.0:0", more, &[echo().await]).await;
    let at: SocketAddr = ([127, 0, 0, 1], rig.address("web").await.port()).into();
    let mut inside = Vec::new();
    for from in ["127.0.0.1", "127.0.0.1", "127.0.0.5"] {
        inside.push(client_from(from, at).await);
        assert_eq!(word(inside.last().unwrap(), "in").await, "in");
    }
    let third = client_from("127.0.0.1", at).await;
    third.send(b"out").await.unwrap();
    rig.metric_is(&dropped("client"), 1.0).await;
    inside.push(client_from("127.0.0.6", at).await);
    assert_eq!(word(&inside[3], "in").await, "in");
    let fifth = client_from("127.0.0.7", at).await;
    fifth.send(b"out").await.unwrap();
    rig.metric_is(&dropped("flows"), 1.0).await;
    for client in &inside {
        assert_eq!(word(client, "still").await, "still");
    }
    rig.metric_is(OPEN, 4.0).await;
    // When some have ended there is room again, for those who were refused too.
    rig.metric_is(OPEN, 0.0).await;
    assert_eq!(word(&third, "now").await, "now");
    assert_eq!(word(&fifth, "now").await, "now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_new_sources_is_held_at_the_limit_and_ends_no_flow() {
    let rig = rig("0.0.0.0:0", "flows_max = 300\n", &[named("one").await]).await;
    let at: SocketAddr = ([127, 0, 0, 1], rig.address("web").await.port()).into();
    let mut inside = Vec::new();
    for _ in 0..10 {
        let client = client_from("127.0.0.1", at).await;
        let first = word(&client, "in").await;
        inside.push((client, first));
    }
    let flood = tokio::task::spawn_blocking(move || {
        for n in 0..10_000_u16 {
            let [high, low] = n.to_be_bytes();
            let source = StdSocket::bind((IpAddr::from([127, 7, high, low]), 0)).unwrap();
            source.send_to(b"flood", at).unwrap();
        }
    });
    while !flood.is_finished() {
        for (client, _) in &inside {
            // What the kernel has no room for is lost, as it is on every way.
            client.send(b"in").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(rig.metric(OPEN).await.unwrap() <= 300.0);
    }
    flood.await.unwrap();
    rig.metric_is(OPEN, 300.0).await;
    assert!(rig.metric(&dropped("flows")).await.unwrap() > 1000.0);
    for (client, first) in &inside {
        assert_eq!(insists(client, b"in").await, *first, "the flow that it had");
    }
    // Nobody gave way to another.
    rig.metric_is(&flows("begun"), 300.0).await;
}

/// Sends `bytes` until there is an answer, as clients do.
async fn insists(client: &UdpSocket, bytes: &[u8]) -> String {
    within("an answer", async {
        loop {
            // It may be refused, when the listener is gone for a moment.
            let _ = client.send(bytes).await;
            let mut buffer = [0; 2000];
            let patience = Duration::from_millis(100);
            if let Ok(Ok(length)) = tokio::time::timeout(patience, client.recv(&mut buffer)).await {
                return String::from_utf8(buffer[..length].to_vec()).unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_gives_way_to_another_with_the_next_datagram() {
    let (gone, there) = (nobody(), named("there").await);
    let rig = rig(HERE, TURNS, &[gone, there]).await;
    for _ in 0..6 {
        let client = client(&rig).await;
        assert!(insists(&client, b"a").await.starts_with("there "));
    }
    let retries = "portolan_proxy_connect_retries_total{listener=\"web\"}";
    assert!(rig.metric(retries).await.unwrap() >= 2.0);
    // Alone it is tried again and again, and the flow finds it when somebody is there again.
    rig.tell(web(&[gone])).await;
    let client = client(&rig).await;
    for _ in 0..3 {
        client.send(b"a").await.unwrap();
    }
    let back = until("its port", async || UdpSocket::bind(gone).await.ok()).await;
    let hears = async {
        loop {
            client.send(b"a").await.unwrap();
            let mut buffer = [0; 100];
            let patience = Duration::from_millis(100);
            let one = tokio::time::timeout(patience, back.recv_from(&mut buffer)).await;
            if let Ok(Ok((_, from))) = one {
                back.send_to(b"back", from).await.unwrap();
                return;
            }
        }
    };
    within("the endpoint that is back", hears).await;
    assert_eq!(got(&client).await, b"back");
}

#[tokio::test]
async fn without_an_endpoint_datagrams_are_dropped_and_the_next_one_finds_it_when_it_is_there() {
    // Longer than anybody waits here.
    let rig = rig(HERE, "timeouts = { idle = \"1m\" }\n", &[]).await;
    let client = client(&rig).await;
    client.send(b"a").await.unwrap();
    rig.metric_is(&dropped("nobody"), 1.0).await;
    // A flow to nobody is none.
    rig.metric_is(OPEN, 0.0).await;
    rig.tell(web(&[named("there").await])).await;
    assert!(word(&client, "b").await.starts_with("there "));
}

#[tokio::test]
async fn who_is_full_gives_way_and_when_all_are_datagrams_are_dropped() {
    let more = format!("{TURNS}max_connections = 1\n");
    let rig = rig(HERE, &more, &[named("one").await, named("two").await]).await;
    let clients = [client(&rig).await, client(&rig).await, client(&rig).await];
    let (first, second) = (word(&clients[0], "a").await, word(&clients[1], "a").await);
    assert_ne!(first.split(' ').next(), second.split(' ').next());
    clients[2].send(b"a").await.unwrap();
    rig.metric_is(&dropped("full"), 1.0).await;
    assert_eq!(word(&clients[0], "b").await, first);
}

#[tokio::test]
async fn by_default_a_flow_stays_with_an_instance_that_leaves_for_its_drain_and_moves_then() {
    let (one, at_one) = played().await;
    let two = named("two").await;
    let rig = rig(HERE, "[service.web]\ndrain = \"1s\"\n", &[at_one]).await;
    let client = client(&rig).await;
    client.send(b"first").await.unwrap();
    let (_, flow) = heard(&one).await;
    rig.tell(web(&[two])).await;
    client.send(b"second").await.unwrap();
    assert_eq!(heard(&one).await, ("second".into(), flow), "it stays for now");
    one.send_to(b"answer", flow).await.unwrap();
    assert_eq!(got(&client).await, b"answer");
    rig.metric_is("portolan_proxy_cut_total{listener=\"web\",reason=\"left\"}", 1.0).await;
    assert!(word(&client, "third").await.starts_with("two "));
    rig.metric_is(&flows("moved"), 1.0).await;
    // It is the same flow.
    rig.metric_is(&flows("begun"), 1.0).await;
}

#[tokio::test]
async fn a_flow_that_moves_goes_elsewhere_at_once_and_late_replies_still_arrive() {
    let (one, at_one) = played().await;
    let (two, at_two) = played().await;
    let rig = rig(HERE, "moved = \"move\"\n", &[at_one]).await;
    let client = client(&rig).await;
    client.send(b"first").await.unwrap();
    let (_, flow) = heard(&one).await;
    rig.tell(web(&[at_two])).await;
    client.send(b"second").await.unwrap();
    let (second, flow_of_two) = heard(&two).await;
    assert_eq!(second, "second");
    one.send_to(b"late", flow).await.unwrap();
    assert_eq!(got(&client).await, b"late");
    two.send_to(b"answer", flow_of_two).await.unwrap();
    assert_eq!(got(&client).await, b"answer");
    rig.metric_is(OPEN, 1.0).await;
    rig.metric_is(&flows("moved"), 1.0).await;
}

#[tokio::test]
async fn a_flow_that_is_dropped_ends_at_once_and_its_client_begins_another() {
    let (one, at_one) = played().await;
    let two = named("two").await;
    let rig = rig(HERE, "moved = \"drop\"\n", &[at_one]).await;
    let client = client(&rig).await;
    client.send(b"first").await.unwrap();
    let (_, flow) = heard(&one).await;
    rig.tell(web(&[two])).await;
    // Though nobody sends anything.
    rig.metric_is(&flows("left"), 1.0).await;
    rig.metric_is(OPEN, 0.0).await;
    one.send_to(b"late", flow).await.unwrap();
    assert!(word(&client, "second").await.starts_with("two "));
    rig.metric_is(&flows("begun"), 2.0).await;
}

#[tokio::test]
async fn a_sticky_client_comes_back_to_its_endpoint_with_its_next_flow() {
    let more = format!("sticky = {{ source = \"1h\" }}\nresponses = 1\n{TURNS}");
    let rig = rig("0.0.0.0:0", &more, &[named("one").await, named("two").await]).await;
    let at: SocketAddr = ([127, 0, 0, 1], rig.address("web").await.port()).into();
    let mut names = BTreeSet::new();
    for from in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        let name = async || {
            let answer = word(&client_from(from, at).await, "a").await;
            answer.split_once(' ').unwrap().0.to_owned()
        };
        let first = name().await;
        for _ in 0..4 {
            assert_eq!(name().await, first, "{from}");
        }
        names.insert(first);
    }
    assert_eq!(names.len(), 2, "the others take turns");
}

#[tokio::test]
async fn reloads_keep_flows_and_a_listener_that_is_taken_away_ends_them_and_frees_its_port() {
    let own = own_address();
    let rig = rig(&own.to_string(), "", &[named("one").await]).await;
    let client = client_from("127.0.0.1", own).await;
    let first = word(&client, "a").await;
    for idle in 20..30 {
        let more = format!("timeouts = {{ idle = \"{idle}s\" }}\nflows_max = {idle}\n");
        rig.reload(&config(&own.to_string(), &more)).await;
        assert_eq!(word(&client, "b").await, first, "after a reload");
    }
    rig.reload("[node]\nworkers = 1\n").await;
    rig.metric_is(&flows("closed"), 1.0).await;
    let other = within("the port", async {
        loop {
            match UdpSocket::bind(own).await {
                Ok(socket) => return socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    drop(other);
    rig.reload(&config(&own.to_string(), "")).await;
    assert!(insists(&client, b"c").await.starts_with("one "));
}

#[tokio::test]
async fn several_workers_share_out_the_clients_and_each_keeps_its_own() {
    let text = config(HERE, "flows_max = 60\n").replace("workers = 1", "workers = 3");
    let rig = Rig::start(&text, web(&[named("one").await])).await;
    let at = rig.address("web").await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let client = client_from("127.0.0.1", at).await;
        let first = word(&client, "a").await;
        clients.push((client, first));
    }
    for (client, first) in &clients {
        assert_eq!(word(client, "b").await, *first);
    }
    // The limit is one for all workers.
    let late = client_from("127.0.0.1", at).await;
    late.send(b"a").await.unwrap();
    rig.metric_is(&dropped("flows"), 1.0).await;
    rig.metric_is(OPEN, 60.0).await;
}

#[tokio::test]
async fn a_drain_waits_for_flows_that_are_there_and_serves_who_comes_meanwhile() {
    let rig = rig(HERE, "timeouts = { idle = \"2s\" }\n", &[named("one").await]).await;
    let at = rig.address("web").await;
    let client = client_from("127.0.0.1", at).await;
    let first = word(&client, "a").await;
    let late = client_from("127.0.0.1", at).await;
    let meanwhile = async {
        let mut of_late = None;
        // For less than its idle time: the flow that was there ends, the later one would not.
        for _ in 0..10 {
            assert_eq!(word(&client, "b").await, first);
            let answer = word(&late, "b").await;
            assert_eq!(*of_late.get_or_insert_with(|| answer.clone()), answer);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (cut, ()) = tokio::join!(rig.app.drain(Duration::from_secs(60)), meanwhile);
    assert_eq!(cut, 0, "it ended by itself");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_whoever_still_sends() {
    let rig = rig(HERE, "", &[named("one").await]).await;
    let client = client(&rig).await;
    word(&client, "a").await;
    assert_eq!(rig.app.drain(Duration::from_millis(200)).await, 1);
}

/// Local data for a resolver that is authoritative for it.
fn names() -> String {
    let mut zone = String::from("local-zone: \"plain.test.\" static\n");
    for n in 0..100 {
        let _ = writeln!(zone, "local-data: \"n{n}.plain.test. 300 A 192.0.2.{n}\"");
    }
    zone
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_goes_through_whole_while_instances_come_and_go() {
    let (one, two) = (own_address(), own_address());
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let _one = unbound(directories[0].path(), one, &names()).await;
    let _two = unbound(directories[1].path(), two, &names()).await;
    let rig = rig(HERE, &format!("moved = \"move\"\n{TURNS}"), &[one, two]).await;
    let at = rig.address("web").await;
    for n in 0..10 {
        let answer = ask("dig", at, &format!("+short n{n}.plain.test A")).await;
        assert_eq!(answer.text.trim(), format!("192.0.2.{n}"));
    }
    let questions = directories[0].path().join("questions");
    let all: Vec<String> = (0..100).map(|n| format!("n{n}.plain.test A")).collect();
    std::fs::write(&questions, all.join("\n")).unwrap();
    let mut command = Command::new("dnsperf");
    command
        .args(["-s", "127.0.0.1", "-p", &at.port().to_string(), "-d"])
        .arg(&questions)
        .args(["-l", "2", "-c", "8", "-q", "50", "-t", "5"])
        .stdout(std::process::Stdio::piped());
    let mut running = start(&mut command);
    let mut changes = 0;
    let status = loop {
        tokio::select! {
            status = running.wait() => break status.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let instances = [vec![one], vec![two], vec![one, two]];
                rig.tell(web(&instances[changes % 3])).await;
                changes += 1;
            }
        }
    };
    let mut said = String::new();
    let mut stdout = running.stdout.take().unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut said).await.unwrap();
    println!("{said}");
    assert!(status.success() && changes > 3, "{said}");
    assert!(said.contains("Queries lost:         0 (0.00%)"), "{said}");
    let codes = said.lines().find(|line| line.contains("Response codes:")).unwrap();
    assert!(codes.contains("NOERROR") && codes.contains("(100.00%)"), "{codes}");
}

#[tokio::test]
async fn what_arrives_through_us_arrives_through_nginx_and_the_same() {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    assert!(
        std::path::Path::new(MODULE).exists(),
        "no stream module; `scripts/install-peers --debian` installs it"
    );
    let (echo, front) = (echo().await, own_address());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nginx.conf");
    let text = format!(
        "load_module {MODULE};\ndaemon off;\nuser root;\nmaster_process off;\npid nginx.pid;\n\
         error_log error.log;\nevents {{}}\n\
         stream {{ server {{ listen {front} udp; proxy_pass {echo}; proxy_buffer_size 64k; }} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    let nginx = start(command.arg("-p").arg(directory.path()).arg("-c").arg(&file));
    let rig = rig(HERE, "", &[echo]).await;
    let (through_nginx, through_us) = (client_from("127.0.0.1", front).await, client(&rig).await);
    assert_eq!(insists(&through_nginx, b"ready").await, "ready");
    while tokio::time::timeout(Duration::from_millis(50), got(&through_nginx)).await.is_ok() {}
    for size in SIZES.into_iter().filter(|size| *size > 0) {
        let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
        let both = (said(&through_nginx, &bytes).await, said(&through_us, &bytes).await);
        assert!(both.0 == bytes && both.1 == bytes, "{size} bytes");
    }
    drop(nginx);
}

#[tokio::test]
async fn at_the_limit_of_open_files_flows_that_are_there_go_on_and_datagrams_of_others_are_shed() {
    let echo = echo().await;
    let directory = tempfile::tempdir().unwrap();
    let (file, at) = (directory.path().join("portolan.toml"), own_address());
    let services = format!(
        "[[service.web.instance]]\nid = \"a\"\naddress = \"127.0.0.1\"\nport = {}\n",
        echo.port()
    );
    std::fs::write(directory.path().join("services.toml"), services).unwrap();
    let text = config(&at.to_string(), "");
    std::fs::write(&file, format!("{text}[registry.local.file]\npath = \"services.toml\"\n"))
        .unwrap();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 100 && exec \"$0\" run --config \"$1\""])
        .arg(crate::child::PORTOLAN)
        .arg(&file);
    let mut portolan = crate::child::Running::spawn(limited);
    portolan.logged("serving").await;
    let ip = at.ip().to_string();
    let first = client_from(&ip, at).await;
    assert_eq!(insists(&first, b"a").await, "a");
    let mut outside = Vec::new();
    for _ in 0..150 {
        let client = client_from(&ip, at).await;
        client.send(b"b").await.unwrap();
        outside.push(client);
    }
    portolan.logged("no descriptor or no port for a new flow; its datagrams are dropped").await;
    // Each answer that comes is there by the time a later question of somebody else is answered.
    while insists(&first, b"c").await != "c" {}
    let mut buffer = [0; 10];
    outside.retain(|client| client.try_recv(&mut buffer).is_err());
    let (inside, outside) = (150 - outside.len(), outside.len());
    assert!(inside >= 10 && outside >= 50, "{inside} are in, {outside} were shed");
    while insists(&first, b"d").await != "d" {}
    portolan.signal(rustix::process::Signal::KILL);
    portolan.ended().await;
}

/// Each must get what it sent and nothing of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_flows_at_once_get_their_own_replies() {
    let rig = rig(HERE, "", &[echo().await, echo().await]).await;
    let at = rig.address("web").await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..200_u32 {
        clients.spawn(async move {
            let client = client_from("127.0.0.1", at).await;
            for round in 0..20 {
                let own = format!("{number}/{round}");
                // One that was lost for want of room in the kernel is asked again.
                let mut answer = insists(&client, own.as_bytes()).await;
                while answer != own {
                    let (of, old) = answer.split_once('/').unwrap();
                    assert!(of == number.to_string() && old.parse::<u32>().unwrap() < round + 1);
                    answer = insists(&client, own.as_bytes()).await;
                }
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    rig.metric_is(OPEN, 200.0).await;
}

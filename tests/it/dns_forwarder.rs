//! The forwarder against upstreams that misbehave, one way after the other, and one that is real.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UdpSocket, UnixStream};

use crate::dns_forward::unbound;
use crate::dns_scripted::{Does, Scripted, look, read};
use crate::dns_wire::{ask, query};
use crate::peers::own_address;
use crate::rig::{Rig, within};
use crate::support;

/// A forwarder to `upstreams`, with `more` in `[dns.forward]` and behind it.
async fn forwarder(upstreams: &[&Scripted], more: &str) -> (Rig, SocketAddr) {
    let upstreams: Vec<String> =
        upstreams.iter().map(|upstream| format!("\"{}\"", upstream.address)).collect();
    let config = format!(
        "[dns]\nlisten = [\"127.0.0.1:0\"]\nexpress_queue = 5000\n\
         [dns.forward]\nupstreams = [{}]\n{more}",
        upstreams.join(", ")
    );
    let rig = Rig::start(&config, Vec::new()).await;
    let dns = rig.address("dns").await;
    (rig, dns)
}

/// What the admin face says to `GET path`.
async fn told(rig: &Rig, path: &str) -> serde_json::Value {
    let socket = rig.directory().join("admin.sock");
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    within(path, stream.read_to_string(&mut page)).await.unwrap();
    serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Asks for `name` until what is told fits.
async fn until(dns: SocketAddr, name: &str, wanted: impl Fn(u8, Option<(u32, u8)>) -> bool) {
    within(name, async {
        loop {
            let (code, address) = look(dns, name).await;
            if wanted(code, address) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

const REJECTED: &str = "portolan_dns_forward_rejected_total";
const IMPATIENT: &str = "timeout = \"1s\"\n";

#[tokio::test]
async fn a_thousand_clients_who_wait_cost_the_upstream_one_query() {
    let upstream = Scripted::start(&[Does::Answer(300, 1)]).await;
    let (rig, dns) = forwarder(&[&upstream], "timeout = \"60s\"\nmax_per_client = 2000\n").await;
    upstream.hold();
    let mut clients = Vec::new();
    for n in 0..20_u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(dns).await.unwrap();
        for id in 0..50 {
            socket.send(&query(n * 50 + id, "popular.example")).await.unwrap();
        }
        // What was sent is taken before the kernel's queue is full.
        rig.metric_is("portolan_dns_forward_waiting", f64::from(n + 1) * 50.0).await;
        clients.push(socket);
    }
    // What was sent to it may still be on its way.
    within("the query", async {
        while upstream.count("popular.example") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(upstream.count("popular.example"), 1);
    upstream.let_go();
    for (n, socket) in clients.iter().enumerate() {
        let mut ids = Vec::new();
        for _ in 0..50 {
            let mut reply = [0; 512];
            let length = within("a reply", socket.recv(&mut reply)).await.unwrap();
            ids.push(u16::from_be_bytes([reply[0], reply[1]]));
            assert_eq!(read(&reply[..length]), (0, Some((300, 1))));
        }
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(n as u16 * 50..n as u16 * 50 + 50), "{ids:?}");
    }
    assert_eq!(upstream.count("popular.example"), 1);
    rig.metric_is("portolan_dns_forward_coalesced_total", 999.0).await;
    rig.metric_is("portolan_dns_forward_waiting", 0.0).await;
}

#[tokio::test]
async fn what_ran_out_is_given_while_nobody_answers_and_what_is_new_once_somebody_does() {
    let upstream = Scripted::start(&[Does::Answer(1, 1)]).await;
    let more = "timeout = \"1s\"\nstale_after = \"50ms\"\nstale_recheck = \"0s\"\nprefetch = \"0%\"\n\
                probe_interval = \"20ms\"\nprobe_interval_max = \"20ms\"\n";
    let (rig, dns) = forwarder(&[&upstream], more).await;
    assert_eq!(look(dns, "a.example").await, (0, Some((1, 1))));
    upstream.does(&[Does::Missing(1)]);
    assert_eq!(look(dns, "nobody.example").await, (3, None));
    upstream.does(&[Does::Silence]);
    until(dns, "a.example", |code, address| code == 0 && address == Some((30, 1))).await;
    let reply = ask("dig", dns, "a.example A").await;
    assert!(reply.text.contains("EDE: 3"), "{}", reply.text);
    // It was learned later, and may not have run out yet.
    let reply = support::until("a stale NXDOMAIN", async || {
        let reply = ask("dig", dns, "nobody.example A").await;
        reply.text.contains("EDE: 19").then_some(reply)
    })
    .await;
    assert_eq!(reply.status, "NXDOMAIN", "{}", reply.text);
    // What was never known is not known now.
    let reply = ask("dig", dns, "new.example A").await;
    assert_eq!(reply.status, "SERVFAIL", "{}", reply.text);
    assert!(reply.text.contains("EDE: 22"), "{}", reply.text);
    let up = format!("portolan_dns_forward_upstream_up{{upstream=\"{}\"}}", upstream.address);
    rig.metric_is(&up, 0.0).await;
    assert_eq!(look(dns, "a.example").await, (0, Some((30, 1))));
    let status = told(&rig, "/v1/status").await;
    let first = &status["dns"]["forward"]["upstreams"][0];
    assert_eq!(first["up"], false, "{status}");
    assert!(first["suspected_since"].is_string(), "{status}");
    // Probes find out by themselves.
    upstream.does(&[Does::Answer(1, 2)]);
    rig.metric_is(&up, 1.0).await;
    until(dns, "a.example", |_, address| address.is_some_and(|(_, last)| last == 2)).await;
    support::until("the stale ones", async || {
        let stale = rig.metric("portolan_dns_forward_cache_total{result=\"stale\"}").await?;
        (stale >= 4.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stale_answer_waits_for_the_upstream_for_a_moment_only_and_is_left_alone_then() {
    let upstream = Scripted::start(&[Does::Answer(1, 1)]).await;
    let more =
        "timeout = \"1s\"\nstale_after = \"60s\"\nstale_recheck = \"1h\"\nprefetch = \"0%\"\n";
    let (_rig, dns) = forwarder(&[&upstream], more).await;
    assert_eq!(look(dns, "a.example").await, (0, Some((1, 1))));
    upstream.does(&[Does::Silence]);
    until(dns, "a.example", |_, address| address == Some((30, 1))).await;
    let asked = upstream.count("a.example");
    for _ in 0..20 {
        assert_eq!(look(dns, "a.example").await, (0, Some((30, 1))));
    }
    assert_eq!(upstream.count("a.example"), asked, "it failed just now");
}

#[tokio::test]
async fn popular_names_are_fetched_anew_before_they_run_out() {
    let upstream = Scripted::start(&[Does::Answer(4, 1)]).await;
    let (rig, dns) = forwarder(&[&upstream], "prefetch = \"70%\"\nprefetch_hits = 2\n").await;
    look(dns, "rare.example").await;
    look(dns, "popular.example").await;
    upstream.does(&[Does::Answer(4, 2)]);
    until(dns, "popular.example", |_, address| address.is_some_and(|(_, last)| last == 2)).await;
    assert_eq!(upstream.count("popular.example"), 2);
    assert_eq!(upstream.count("rare.example"), 1);
    rig.metric_is("portolan_dns_forward_prefetched_total", 1.0).await;
    // Nobody waited for it.
    rig.metric_is("portolan_dns_forward_cache_total{result=\"miss\"}", 2.0).await;
}

#[tokio::test]
async fn ttls_are_those_of_the_upstream_less_the_time_that_passed() {
    let upstream = Scripted::start(&[Does::Answer(300, 1)]).await;
    let (rig, dns) =
        forwarder(&[&upstream], "ttl_max = \"600s\"\nnegative_ttl_max = \"20s\"\n").await;
    assert_eq!(look(dns, "a.example").await, (0, Some((300, 1))));
    until(dns, "a.example", |_, address| address.is_some_and(|(ttl, _)| ttl < 300)).await;
    assert_eq!(upstream.count("a.example"), 1);
    upstream.does(&[Does::Answer(u32::MAX >> 1, 1)]);
    assert_eq!(look(dns, "huge.example").await, (0, Some((600, 1))));
    upstream.does(&[Does::Answer(0, 1)]);
    for _ in 0..3 {
        assert_eq!(look(dns, "zero.example").await, (0, Some((0, 1))));
    }
    assert_eq!(upstream.count("zero.example"), 3);
    upstream.does(&[Does::Missing(300)]);
    for _ in 0..3 {
        let reply = ask("dig", dns, "nobody.example A").await;
        assert_eq!(reply.status, "NXDOMAIN");
        let soa = reply.authority.first().unwrap();
        let ttl: u32 = soa.split(' ').nth(1).unwrap().parse().unwrap();
        assert!((10..=20).contains(&ttl), "{soa}");
    }
    assert_eq!(upstream.count("nobody.example"), 1);
    rig.metric_is("portolan_dns_forward_cache_entries", 3.0).await;
    // What it holds is told, with the time that is left.
    let why = told(&rig, "/v1/dns/explain?name=a.example").await;
    assert_eq!(why["code"], "forwarded");
    let kept = &why["forward"]["cached"][0];
    assert_eq!((kept["state"].as_str(), kept["code"].as_str()), (Some("fresh"), Some("NOERROR")));
    assert!(kept["answers"][0].as_str().unwrap().ends_with("A 10.0.0.1"), "{why}");
    let address = upstream.address.to_string();
    assert_eq!(why["forward"]["upstreams"][0]["address"], address);
}

#[tokio::test]
async fn each_domain_has_its_own_upstreams_and_the_longest_counts() {
    let (world, corp, db) = (
        Scripted::start(&[Does::Answer(300, 1)]).await,
        Scripted::start(&[Does::Answer(300, 2)]).await,
        Scripted::start(&[Does::Answer(300, 3)]).await,
    );
    let more = format!(
        "[dns.forward.zone.\"corp.example\"]\nupstreams = [\"{}\"]\n\
         [dns.forward.zone.\"db.corp.example\"]\nupstreams = [\"{}\"]\n\
         [dns.forward.zone.\"closed.example\"]\nupstreams = []\n",
        corp.address, db.address
    );
    let (_rig, dns) = forwarder(&[&world], &more).await;
    for (name, want) in [
        ("www.example", (0, Some((300, 1)))),
        ("corp.example", (0, Some((300, 2)))),
        ("a.b.corp.example", (0, Some((300, 2)))),
        ("a.db.corp.example", (0, Some((300, 3)))),
        ("a.closed.example", (5, None)),
    ] {
        assert_eq!(look(dns, name).await, want, "{name}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_said_to_be_cut_and_is_whole_by_tcp() {
    let upstream = Scripted::start(&[Does::Cut]).await;
    let (_rig, dns) = forwarder(&[&upstream], "").await;
    let reply = ask("dig", dns, "+ignore many.example A").await;
    assert!(reply.flags.contains("tc"), "{}", reply.text);
    assert_eq!(upstream.asked(), [("many.example".to_owned(), false)], "no TCP for nobody");
    let reply = ask("dig", dns, "+tcp many.example A").await;
    assert_eq!(reply.answer.len(), 100, "{}", reply.text);
    let asked = upstream.asked().len();
    // From now on it is known, and cut here.
    let reply = ask("dig", dns, "+ignore +bufsize=1232 many.example A").await;
    assert!(reply.flags.contains("tc"), "{}", reply.text);
    assert!((50..100).contains(&reply.answer.len()), "{}", reply.text);
    let reply = ask("dig", dns, "+ignore +noedns many.example A").await;
    assert!(reply.flags.contains("tc") && reply.answer.len() < 35, "{}", reply.text);
    assert_eq!(ask("dig", dns, "many.example A").await.answer.len(), 100);
    assert_eq!(upstream.asked().len(), asked);
}

#[tokio::test]
async fn forged_replies_are_not_believed_and_are_counted() {
    let poison = [Does::WrongId, Does::WrongQuestion, Does::WrongPort, Does::Answer(300, 1)];
    let upstream = Scripted::start(&poison).await;
    let (rig, dns) = forwarder(&[&upstream], "").await;
    assert_eq!(look(dns, "a.example").await, (0, Some((300, 1))));
    assert_eq!(look(dns, "a.example").await.1.unwrap().1, 1, "nor kept");
    rig.metric_is(&format!("{REJECTED}{{reason=\"id\"}}"), 1.0).await;
    rig.metric_is(&format!("{REJECTED}{{reason=\"question\"}}"), 1.0).await;
    // Who guesses again and again on one socket finds it closed: the question goes by TCP.
    let mut flood = [Does::WrongId; 10];
    flood[9] = Does::Answer(300, 2);
    upstream.does(&flood);
    assert_eq!(look(dns, "b.example").await, (0, Some((300, 2))));
    rig.metric_is(&format!("{REJECTED}{{reason=\"many\"}}"), 1.0).await;
    assert!(upstream.asked().contains(&("b.example".to_owned(), true)));
}

#[tokio::test]
async fn who_fails_in_any_way_is_passed_over_for_the_next() {
    for (case, script) in [
        ("silent", &[Does::Silence][..]),
        ("SERVFAIL", &[Does::Code(2)]),
        ("REFUSED", &[Does::Code(5)]),
        ("NOTIMP", &[Does::Code(4)]),
        ("FORMERR", &[Does::Code(1)]),
        ("garbage", &[Does::Garbage]),
        ("lame", &[Does::Referral]),
        ("another id only", &[Does::WrongId]),
    ] {
        let (bad, good) =
            (Scripted::start(script).await, Scripted::start(&[Does::Answer(300, 1)]).await);
        let (rig, dns) = forwarder(&[&bad, &good], IMPATIENT).await;
        assert_eq!(look(dns, "a.example").await, (0, Some((300, 1))), "{case}");
        assert!(bad.count("a.example") > 0, "{case}");
        // From now on the other one is the faster.
        assert_eq!(look(dns, "b.example").await, (0, Some((300, 1))), "{case}");
        assert_eq!(bad.count("b.example"), 0, "{case}");
        rig.metric_is("portolan_dns_forwards_total{result=\"answered\"}", 2.0).await;
    }
    let bad = Scripted::start(&[Does::CutAndClosed]).await;
    let good = Scripted::start(&[Does::Cut]).await;
    let (_rig, dns) = forwarder(&[&bad, &good], IMPATIENT).await;
    assert_eq!(ask("dig", dns, "+tcp many.example A").await.answer.len(), 100);
    assert!(bad.asked().contains(&("many.example".to_owned(), true)));
}

#[tokio::test]
async fn when_all_refuse_it_is_servfail_with_a_reason_and_not_asked_again_at_once() {
    let upstream = Scripted::start(&[Does::Code(5)]).await;
    let (_rig, dns) = forwarder(&[&upstream], "failure_ttl = \"1h\"\n").await;
    let reply = ask("dig", dns, "a.example A").await;
    assert_eq!(reply.status, "SERVFAIL", "{}", reply.text);
    assert!(reply.text.contains("EDE: 22"), "{}", reply.text);
    let reply = ask("dig", dns, "a.example A").await;
    assert!(reply.text.contains("EDE: 13"), "{}", reply.text);
    assert_eq!(upstream.count("a.example"), 1);
    // An old server that does not know EDNS is asked without.
    upstream.does(&[Does::Code(1)]);
    assert_eq!(look(dns, "b.example").await, (2, None));
    assert_eq!(upstream.count("b.example"), 2);
}

#[tokio::test]
async fn an_alias_of_ours_that_leads_outside_is_followed_there() {
    let upstream = Scripted::start(&[Does::Alias(300)]).await;
    let zone = "[dns.zone.svc]\nttl = \"9s\"\n\
                records = { db = [\"CNAME Db.example\"], two = [\"CNAME db.svc\"], lost = [\"CNAME nobody.svc\"] }\n";
    let (rig, dns) = forwarder(&[&upstream], &format!("{IMPATIENT}{zone}")).await;
    for tool in ["dig", "kdig"] {
        for options in ["", "+tcp", "+noedns"] {
            let reply = ask(tool, dns, &format!("{options} two.svc A")).await;
            assert_eq!(reply.status, "NOERROR", "{tool} {options}: {}", reply.text);
            assert!(reply.flags.contains("aa"), "{tool} {options}: {}", reply.text);
            let lines: Vec<String> = reply
                .answer
                .iter()
                .map(|line| {
                    line.split(' ')
                        .filter(|w| w.parse::<u32>().is_err())
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect();
            assert_eq!(
                lines,
                [
                    "db.example. IN CNAME target.example.",
                    "db.svc. IN CNAME db.example.",
                    "target.example. IN A 10.0.0.9",
                    "two.svc. IN CNAME db.svc.",
                ],
                "{tool} {options}: {}",
                reply.text
            );
        }
    }
    assert_eq!(upstream.count("db.example"), 1);
    rig.metric_is("portolan_dns_forward_aliases_total", 6.0).await;
    // Who may not have it followed, or asks for the alias, gets the alias.
    for question in ["+norecurse two.svc A", "db.svc CNAME"] {
        let reply = ask("dig", dns, question).await;
        assert!(reply.answer.iter().all(|line| line.contains("CNAME")), "{}", reply.text);
    }
    // One that leads nowhere in a zone of ours is not asked of others.
    assert_eq!(ask("dig", dns, "lost.svc A").await.answer.len(), 1);
    assert_eq!(upstream.count("nobody.svc"), 0);
    upstream.does(&[Does::Missing(60)]);
    let reply = ask("dig", dns, "db.svc AAAA").await;
    assert_eq!((&*reply.status, reply.answer.len()), ("NXDOMAIN", 1), "{}", reply.text);
    upstream.does(&[Does::Silence]);
    let reply = ask("dig", dns, "db.svc TXT").await;
    assert_eq!(reply.status, "SERVFAIL", "{}", reply.text);
    let why = told(&rig, "/v1/dns/explain?name=db.svc").await;
    assert_eq!(why["answers"].as_array().unwrap().len(), 1, "{why}");
}

#[tokio::test]
async fn what_is_not_below_the_first_search_domain_is_looked_for_down_the_list_at_once() {
    let upstream = Scripted::start(&[Does::Answer(300, 1)]).await;
    let corp = Scripted::start(&[Does::Missing(60)]).await;
    let more = format!(
        "[dns.forward.zone.\"corp.example\"]\nupstreams = [\"{}\"]\n\
         [dns.zone.svc]\nrecords = {{ own = [\"A 10.0.0.7\"], \"web.prod\" = [\"A 10.0.0.8\"] }}\n\
         [dns.view.here]\nnetworks = [\"127.0.0.0/8\"]\n\
         search = [\"prod.svc\", \"svc\", \"corp.example\"]\n",
        corp.address
    );
    let (rig, dns) = forwarder(&[&upstream], &more).await;
    for (name, alias, address) in [
        ("web.prod.svc", None, "10.0.0.8"),
        ("own.prod.svc", Some("own.svc"), "10.0.0.7"),
        ("www.example.org.prod.svc", Some("www.example.org"), "10.0.0.1"),
        ("www.example.org.svc", Some("www.example.org"), "10.0.0.1"),
        ("www.example.org.corp.example", Some("www.example.org"), "10.0.0.1"),
    ] {
        let reply = ask("dig", dns, &format!("{name} A")).await;
        assert_eq!(reply.status, "NOERROR", "{name}: {}", reply.text);
        let aliases: Vec<&str> = reply
            .answer
            .iter()
            .filter_map(|line| line.split_once(" CNAME ").map(|(_, to)| to.trim_end_matches('.')))
            .collect();
        assert_eq!(aliases, alias.as_slice(), "{name}: {}", reply.text);
        assert!(reply.answer.iter().any(|line| line.ends_with(address)), "{name}: {}", reply.text);
    }
    assert_eq!(upstream.count("www.example.org"), 1);
    assert_eq!(corp.count("own.corp.example"), 0);
    // One label is no name of the world, and what is nowhere stays what it was.
    let reply = ask("dig", dns, "nobody.prod.svc A").await;
    assert_eq!(reply.status, "NXDOMAIN", "{}", reply.text);
    assert!(reply.authority.first().unwrap().starts_with("svc."), "{}", reply.text);
    assert_eq!((upstream.count("nobody"), corp.count("nobody.corp.example")), (0, 1));
    rig.metric_is("portolan_dns_forward_searched_total", 4.0).await;
    upstream.does(&[Does::Missing(60)]);
    let reply = ask("dig", dns, "no.where.corp.example A").await;
    assert_eq!(reply.status, "NXDOMAIN", "{}", reply.text);
}

#[tokio::test]
async fn an_upstream_that_leads_back_to_us_is_noticed() {
    let upstream = Scripted::start(&[]).await;
    let (rig, dns) = forwarder(&[&upstream], IMPATIENT).await;
    upstream.does(&[Does::Relay(dns.port())]);
    assert_eq!(look(dns, "a.example").await, (2, None));
    rig.metric_is("portolan_dns_forward_loops_total", 1.0).await;
    assert_eq!(upstream.count("a.example"), 1, "and no more than once");
}

#[tokio::test]
async fn one_client_cannot_take_all_the_places() {
    let upstream = Scripted::start(&[Does::Answer(300, 1)]).await;
    let (rig, dns) = forwarder(&[&upstream], "timeout = \"60s\"\nmax_per_client = 3\n").await;
    upstream.hold();
    let socket = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    socket.connect(dns).await.unwrap();
    for id in 0..5 {
        socket.send(&query(id, &format!("n{id}.example"))).await.unwrap();
    }
    let over = "portolan_dns_forward_over_limit_total{limit=\"max_per_client\"}";
    rig.metric_is(over, 2.0).await;
    for _ in 0..2 {
        let mut reply = [0; 512];
        let length = within("a refusal", socket.recv(&mut reply)).await.unwrap();
        assert_eq!(read(&reply[..length]), (2, None));
    }
    let other = look(dns, "other.example");
    let letting = async {
        rig.metric_is("portolan_dns_forward_waiting", 4.0).await;
        upstream.let_go();
    };
    assert_eq!(tokio::join!(other, letting).0, (0, Some((300, 1))));
}

#[tokio::test]
async fn a_real_resolver_may_die_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = own_address();
    let zone = |last: u8| {
        format!(
            "local-zone: \"plain.test.\" static\n\
             local-data: \"plain.test. 300 SOA ns.plain.test. host.plain.test. 1 2 3 4 60\"\n\
             local-data: \"a.plain.test. 1 A 192.0.2.{last}\"\n"
        )
    };
    let mut server = unbound(directory.path(), upstream, &zone(1)).await;
    let config = format!(
        "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.forward]\nupstreams = [\"{upstream}\"]\n\
         timeout = \"1s\"\nstale_recheck = \"100ms\"\nprobe_interval = \"50ms\"\n"
    );
    let rig = Rig::start(&config, Vec::new()).await;
    let dns = rig.address("dns").await;
    assert_eq!(look(dns, "a.plain.test").await, (0, Some((1, 1))));
    assert_eq!(look(dns, "nobody.plain.test").await.0, 3);
    server.kill().await.unwrap();
    until(dns, "a.plain.test", |_, address| address == Some((30, 1))).await;
    assert_eq!(look(dns, "nobody.plain.test").await.0, 3);
    assert_eq!(look(dns, "unknown.plain.test").await.0, 2);
    let _server = unbound(directory.path(), upstream, &zone(2)).await;
    until(dns, "a.plain.test", |_, address| address.is_some_and(|(_, last)| last == 2)).await;
}

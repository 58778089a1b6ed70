//! DNS on the wire, asked by the tools that people use, and by bytes where those are too polite.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portolan::catalog::SourceService;
use portolan::catalog::model::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::peers::output;
use crate::rig::{Rig, instance, service, within};

const CONFIG: &str = "[node]\nname = \"edge-1\"\n[dns]\nlisten = [\"127.0.0.1:0\"]\n\
                      [dns.zone.svc]\n[dns.zone.consul]\ndialect = \"consul\"\n";

/// `web`: three instances of port 8080 and tag `prod`; `db`: one by IPv6, with a named port; `big`:
/// 400 addresses.
fn services() -> Vec<SourceService> {
    let address = |last: u16, port| {
        let [high, low] = last.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], port))
    };
    let mut web = service("web", &[]);
    web.tags = Arc::new(["prod".into()]);
    web.meta = Arc::new([("team".into(), "shop".into())].into());
    web.instances = (1..=3)
        .map(|n| {
            let mut own = instance(&format!("web-{n}"), address(n, 8080));
            own.tags = Arc::new(["prod".into()]);
            Arc::new(own)
        })
        .collect();
    let mut db = service("db", &[]);
    let mut own = instance("db-1", "[fd00::1]:3306".parse().unwrap());
    own.ports = Arc::new([Port { name: "sql".into(), number: 3306 }]);
    db.instances.push(Arc::new(own));
    let big: Vec<SocketAddr> = (1000..1400).map(|n| address(n, 80)).collect();
    vec![web, db, service("big", &big)]
}

async fn rig() -> (Rig, SocketAddr) {
    let rig = Rig::start(CONFIG, services()).await;
    let dns = rig.address("dns").await;
    (rig, dns)
}

/// What a tool showed of one reply: lines of records with single spaces.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) status: String,
    pub(crate) flags: BTreeSet<String>,
    pub(crate) answer: BTreeSet<String>,
    pub(crate) authority: BTreeSet<String>,
    pub(crate) additional: BTreeSet<String>,
}

impl Reply {
    fn read(text: String) -> Self {
        let mut reply = Self::default();
        let mut section = None;
        for line in text.lines() {
            if let Some(rest) =
                line.split("status: ").nth(1).or_else(|| line.split(" rcode: ").nth(1))
            {
                reply.status = rest.split([',', ';']).next().unwrap_or_default().to_owned();
            }
            if let Some(flags) = line.to_lowercase().split("flags: ").nth(1) {
                let flags = flags.split([';', ',']).next().unwrap_or_default();
                reply.flags.extend(flags.split_whitespace().map(str::to_owned));
            }
            if line.starts_with(";;") {
                section =
                    ["ANSWER", "AUTHORITY", "ADDITIONAL"].into_iter().find(|s| line.contains(s));
            } else if !line.starts_with(';') && !line.trim().is_empty() {
                let record = line.split_whitespace().collect::<Vec<_>>().join(" ");
                match section {
                    Some("ANSWER") => reply.answer.insert(record),
                    Some("AUTHORITY") => reply.authority.insert(record),
                    Some("ADDITIONAL") => reply.additional.insert(record),
                    _ => false,
                };
            }
        }
        reply.text = text;
        reply
    }
}

/// What `tool` (dig, kdig or drill) says to `question`, which may hold its options.
pub(crate) async fn ask(tool: &str, server: SocketAddr, question: &str) -> Reply {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let patience: &[&str] = match tool {
        "dig" => &["+tries=1", "+time=10"],
        "kdig" => &["+retry=0", "+time=10"],
        _ => &[],
    };
    let mut arguments = vec![&*at, "-p", &*port];
    arguments.extend(patience);
    arguments.extend(question.split_whitespace());
    Reply::read(output(tool, &arguments).await)
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test]
async fn dig_kdig_and_drill_read_the_same_answers() {
    let (rig, dns) = rig().await;
    let serial = rig.app.tables().snapshot.generation as u32;
    let soa = |apex: &str| {
        format!("{apex}. 5 IN SOA ns.{apex}. hostmaster.{apex}. {serial} 3600 600 86400 5")
    };
    let (svc, consul) = (soa("svc"), soa("consul"));
    let (svc, consul) = ([&*svc], [&*consul]);
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let three_a =
        ["web.svc. 0 IN A 10.0.0.1", "web.svc. 0 IN A 10.0.0.2", "web.svc. 0 IN A 10.0.0.3"];
    let cases: &[Case] = &[
        ("A", "web.svc A", "NOERROR", &three_a, &[], &[]),
        ("A by TCP", "+tcp web.svc A", "NOERROR", &three_a, &[], &[]),
        ("AAAA", "db.svc AAAA", "NOERROR", &["db.svc. 0 IN AAAA fd00::1"], &[], &[]),
        ("no address of that family", "web.svc AAAA", "NOERROR", &[], &svc, &[]),
        (
            "SRV with the addresses beside it",
            "web.svc SRV",
            "NOERROR",
            &[
                "web.svc. 0 IN SRV 1 1 8080 web-1.web.svc.",
                "web.svc. 0 IN SRV 1 1 8080 web-2.web.svc.",
                "web.svc. 0 IN SRV 1 1 8080 web-3.web.svc.",
            ],
            &[],
            &[
                "web-1.web.svc. 0 IN A 10.0.0.1",
                "web-2.web.svc. 0 IN A 10.0.0.2",
                "web-3.web.svc. 0 IN A 10.0.0.3",
            ],
        ),
        (
            "SRV of a named port",
            "_sql._tcp.db.svc SRV",
            "NOERROR",
            &["_sql._tcp.db.svc. 0 IN SRV 1 1 3306 db-1.db.svc."],
            &[],
            &["db-1.db.svc. 0 IN AAAA fd00::1"],
        ),
        ("a name with names below it only", "_tcp.db.svc A", "NOERROR", &[], &svc, &[]),
        ("TXT", "web.svc TXT", "NOERROR", &["web.svc. 0 IN TXT \"team=shop\""], &[], &[]),
        ("no such name", "nobody.svc A", "NXDOMAIN", &[], &svc, &[]),
        ("below a name", "x.web-1.web.svc A", "NXDOMAIN", &[], &svc, &[]),
        ("SOA", "svc SOA", "NOERROR", &svc, &[], &[]),
        (
            "consul: a tag",
            "prod.web.service.consul A",
            "NOERROR",
            &[
                "prod.web.service.consul. 0 IN A 10.0.0.1",
                "prod.web.service.consul. 0 IN A 10.0.0.2",
                "prod.web.service.consul. 0 IN A 10.0.0.3",
            ],
            &[],
            &[],
        ),
        (
            "consul: a datacenter",
            "db.service.dc1.consul AAAA",
            "NOERROR",
            &["db.service.dc1.consul. 0 IN AAAA fd00::1"],
            &[],
            &[],
        ),
        (
            "consul: SRV by RFC 2782",
            "_db._tcp.service.consul SRV",
            "NOERROR",
            &[
                "_db._tcp.service.consul. 0 IN SRV 1 1 3306 fd000000000000000000000000000001.addr.dc1.consul.",
            ],
            &[],
            &["fd000000000000000000000000000001.addr.dc1.consul. 0 IN AAAA fd00::1"],
        ),
        (
            "consul: an address",
            "0a000001.addr.dc1.consul A",
            "NOERROR",
            &["0a000001.addr.dc1.consul. 0 IN A 10.0.0.1"],
            &[],
            &[],
        ),
        ("consul: between apex and names", "service.consul A", "NOERROR", &[], &consul, &[]),
        ("consul: no such tag", "test.web.service.consul A", "NXDOMAIN", &[], &consul, &[]),
    ];
    let mut wrong = Vec::new();
    for (case, question, status, answer, authority, additional) in cases {
        for tool in ["dig", "kdig", "drill"] {
            let question = match tool {
                "drill" => question.replace("+tcp", "-t"),
                _ => format!("{question} +noedns"),
            };
            let reply = ask(tool, dns, &question).await;
            let same = reply.status == *status
                && reply.flags.contains("aa")
                && !reply.flags.contains("tc")
                && reply.answer == set(answer)
                && reply.authority == set(authority)
                && reply.additional == set(additional);
            if !same {
                wrong.push(format!("{case}, by {tool}: {}", reply.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let reverse = ask("dig", dns, "-x 10.0.0.1").await;
    let wanted = [
        "1.0.0.10.in-addr.arpa. 0 IN PTR web-1.web.svc.",
        "1.0.0.10.in-addr.arpa. 0 IN PTR web.service.dc1.consul.",
    ];
    assert_eq!(reverse.answer, set(&wanted), "{}", reverse.text);
    let reverse = ask("kdig", dns, "-x fd00::1").await;
    assert!(reverse.text.contains("PTR\tdb-1.db.svc."), "{}", reverse.text);
    // Resolvers that mix the letters of their questions look for them in the answer.
    let letters = ask("dig", dns, "WeB-1.wEb.SVC A").await;
    assert_eq!(letters.answer, set(&["WeB-1.wEb.SVC. 0 IN A 10.0.0.1"]), "{}", letters.text);
    let any = ask("dig", dns, "+notcp web.svc ANY").await;
    assert_eq!((&*any.status, any.answer.len()), ("NOERROR", 3), "one set is enough: {}", any.text);
}

#[tokio::test]
async fn what_is_not_ours_to_say_is_refused() {
    let (_rig, dns) = rig().await;
    for question in
        ["example.org A", ". NS", "version.bind CH TXT", "hostname.bind CH TXT", "web.svc CH A"]
    {
        for tool in ["dig", "kdig"] {
            let question =
                question.replace(" CH ", if tool == "dig" { " CH " } else { " -c CH -t " });
            let reply = ask(tool, dns, &question).await;
            assert_eq!(reply.status, "REFUSED", "{question}, by {tool}: {}", reply.text);
            assert!(reply.answer.is_empty() && !reply.flags.contains("ra"), "{}", reply.text);
        }
    }
    let transfer = ask("dig", dns, "svc AXFR").await;
    assert!(transfer.text.contains("Transfer failed"), "{}", transfer.text);
}

#[tokio::test]
async fn the_generation_is_told_by_nsid_in_every_kind_of_answer() {
    let (rig, dns) = rig().await;
    let generation = rig.app.tables().snapshot.generation;
    let told = format!("edge-1 gen={generation}");
    for question in
        ["web.svc A", "web.svc AAAA", "nobody.svc A", "example.org A", "+tcp web.svc SRV"]
    {
        let reply = ask("dig", dns, &format!("{question} +nsid")).await;
        assert!(reply.text.contains(&format!("(\"{told}\")")), "{question}: {}", reply.text);
        let reply = ask("kdig", dns, &format!("{question} +nsid")).await;
        assert!(reply.text.contains(&format!("\"{told}\"")), "{question}: {}", reply.text);
    }
    rig.tell(vec![]).await;
    let reply = ask("dig", dns, "web.svc A +nsid").await;
    let next = format!("edge-1 gen={}", generation + 1);
    assert!(reply.status == "NXDOMAIN" && reply.text.contains(&next), "{}", reply.text);
}

#[tokio::test]
async fn what_does_not_fit_is_cut_by_udp_and_whole_by_tcp() {
    let (_rig, dns) = rig().await;
    for (options, most) in
        [("+noedns", 512), ("+bufsize=512", 512), ("+bufsize=4096", 1232), ("", 1232)]
    {
        let cut = ask("dig", dns, &format!("+ignore {options} big.svc A")).await;
        assert!(cut.flags.contains("tc"), "{options}: {}", cut.text);
        let size =
            cut.text.split("MSG SIZE  rcvd: ").nth(1).and_then(|size| size.trim().parse().ok());
        assert!(
            size.is_some_and(|size: usize| size <= most && size > most - 32),
            "{options}: {}",
            cut.text
        );
        assert!(!cut.answer.is_empty(), "{options}: a part is better than nothing");
        // Without +ignore, dig asks again by TCP, as every resolver does.
        let whole = ask("dig", dns, &format!("{options} big.svc A")).await;
        assert_eq!(whole.answer.len(), 400, "{options}");
        assert!(!whole.flags.contains("tc"));
    }
    // Each client gets another part.
    let (first, second) =
        tokio::join!(ask("dig", dns, "+ignore big.svc A"), ask("kdig", dns, "+ignore big.svc A"),);
    assert_ne!(first.answer, second.answer);
}

/// A query for `name` of type A with this id.
pub(crate) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

async fn reply(stream: &mut TcpStream) -> Vec<u8> {
    let length = within("a reply", stream.read_u16()).await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    within("a reply", stream.read_exact(&mut reply)).await.unwrap();
    reply
}

#[tokio::test]
async fn ten_queries_in_a_row_by_tcp_are_answered_and_kdig_keeps_its_connection() {
    let (_rig, dns) = rig().await;
    let mut stream = TcpStream::connect(dns).await.unwrap();
    let names = ["web.svc", "nobody.svc", "big.svc", "example.org", "web.service.consul"];
    let all: Vec<u8> =
        (0..10).flat_map(|id| framed(&query(id, names[usize::from(id) % 5]))).collect();
    stream.write_all(&all).await.unwrap();
    let mut told = BTreeSet::new();
    for _ in 0..10 {
        let reply = reply(&mut stream).await;
        let answers = u16::from_be_bytes([reply[6], reply[7]]);
        told.insert((reply[1], reply[3] & 0xf, answers));
    }
    let wanted = |id: u8| {
        let (code, answers) = [(0, 3), (3, 0), (0, 400), (5, 0), (0, 3)][usize::from(id) % 5];
        (id, code, answers)
    };
    assert_eq!(told, (0..10).map(wanted).collect());

    let kept = ask("kdig", dns, "+tcp +keepopen web.svc A nobody.svc A web.svc SRV").await;
    let codes: Vec<&str> = kept.text.matches("status: NOERROR").collect();
    assert_eq!(codes.len(), 2, "{}", kept.text);
    assert!(kept.text.contains("status: NXDOMAIN"), "{}", kept.text);
}

#[tokio::test]
async fn a_tcp_connection_that_says_nothing_is_closed_and_its_owner_misses_nothing() {
    // Others ask in their own time.
    let idle = Duration::from_secs(1);
    let config = CONFIG.replace("[dns]\n", "[dns]\ntcp_idle = \"1s\"\n");
    let rig = Rig::start(&config, services()).await;
    let dns = rig.address("dns").await;
    for (case, bytes, at_once) in [
        ("a length of zero", &[0, 0][..], true),
        ("nothing", &[], false),
        ("half a length", &[0], false),
        ("half a query", &[0, 25, 1, 2, 3], false),
        ("a reply instead of a query", &framed(&[0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]), true),
    ] {
        let began = Instant::now();
        let mut stream = TcpStream::connect(dns).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        // A reset is a close too: there were bytes that nobody wanted.
        let _ = within("a close", stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{case}: {rest:?}");
        assert!(at_once || began.elapsed() >= idle, "{case}: {:?}", began.elapsed());
    }
    // What came before the close is answered.
    let mut stream = TcpStream::connect(dns).await.unwrap();
    stream.write_all(&[framed(&query(7, "web.svc")), vec![0, 0]].concat()).await.unwrap();
    assert_eq!(reply(&mut stream).await[1], 7);
    let mut stream = TcpStream::connect(dns).await.unwrap();
    stream.write_all(&framed(&query(8, "big.svc"))).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(reply(&mut stream).await[1], 8, "the client had ended its side");
    drop(stream);
    rig.metric_is("portolan_dns_tcp_connections", 0.0).await;
}

#[tokio::test]
async fn what_is_no_query_gets_no_answer_and_who_sent_it_is_still_served() {
    let (_rig, dns) = rig().await;
    let socket = tokio::net::UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.unwrap();
    socket.connect(dns).await.unwrap();
    let mut response = query(1, "web.svc");
    response[2] |= 0x80;
    for silent in [&response[..], &[1, 2, 3], &[]] {
        socket.send(silent).await.unwrap();
    }
    let mut broken = query(2, "web.svc");
    broken.truncate(16);
    socket.send(&broken).await.unwrap();
    socket.send(&query(3, "web.svc")).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        let mut reply = [0; 512];
        within("a reply", socket.recv(&mut reply)).await.unwrap();
        told.push((reply[1], reply[3] & 0xf));
    }
    assert_eq!(told, [(2, 1), (3, 0)], "FORMERR for the broken one, and the answer");
}

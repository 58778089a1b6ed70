//! Names of others: forwarded to a real resolver, and a real resolver in front of us.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::{Child, Command};

use crate::dns_wire::ask;
use crate::peers::{own_address, start};
use crate::rig::{Rig, instance, service, within};

/// Starts unbound at `address` with more lines of configuration; returns once it answers.
pub(crate) async fn unbound(directory: &Path, address: SocketAddr, more: &str) -> Child {
    let config = format!(
        "server:\n\
         interface: {ip}@{port}\n\
         access-control: 127.0.0.0/8 allow\n\
         do-not-query-localhost: no\n\
         username: \"\"\nchroot: \"\"\ndirectory: \"{directory}\"\npidfile: \"\"\n\
         use-syslog: no\nlogfile: \"\"\nverbosity: 0\ndo-daemonize: no\nnum-threads: 1\n\
         module-config: \"iterator\"\n\
         local-zone: \"up.test.\" static\nlocal-data: \"up.test. TXT yes\"\n\
         {more}",
        ip = address.ip(),
        port = address.port(),
        directory = directory.display(),
    );
    let file = directory.join("unbound.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("unbound");
    command.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = start(&mut command);
    within("unbound", async {
        while ask("dig", address, "+time=1 +short up.test TXT").await.text.trim() != "\"yes\"" {
            assert!(child.try_wait().unwrap().is_none(), "unbound ended");
        }
    })
    .await;
    child
}

fn config(upstream: SocketAddr, more: &str) -> String {
    format!(
        "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.svc]\n\
         [dns.forward]\nupstreams = [\"{upstream}\"]\n{more}"
    )
}

#[tokio::test]
async fn names_outside_the_zones_are_asked_of_the_upstream_for_those_who_may() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = own_address();
    let mut zone = String::from(
        "local-zone: \"plain.test.\" static\n\
         local-data: \"plain.test. 300 SOA ns.plain.test. host.plain.test. 1 2 3 4 60\"\n\
         local-data: \"a.plain.test. 300 A 192.0.2.1\"\n",
    );
    for n in 0..200 {
        let _ = writeln!(zone, "local-data: \"many.plain.test. A 192.0.2.{n}\"");
    }
    let _unbound = unbound(directory.path(), upstream, &zone).await;
    let web = service("web", &["10.0.0.1:80".parse().unwrap()]);
    let rig = Rig::start(&config(upstream, "cache_size = 0\n"), vec![web.clone()]).await;
    let dns = rig.address("dns").await;
    for tool in ["dig", "kdig"] {
        for options in ["", "+tcp", "+noedns"] {
            let reply = ask(tool, dns, &format!("{options} a.plain.test A")).await;
            let told: Vec<&str> = reply.answer.iter().map(String::as_str).collect();
            assert_eq!(
                told,
                ["a.plain.test. 300 IN A 192.0.2.1"],
                "{tool} {options}: {}",
                reply.text
            );
            assert!(reply.flags.contains("ra"), "{tool} {options}: {}", reply.text);
            let reply = ask(tool, dns, &format!("{options} nobody.plain.test A")).await;
            assert_eq!(reply.status, "NXDOMAIN", "{tool} {options}: {}", reply.text);
            assert_eq!(reply.authority.len(), 1, "{tool} {options}: {}", reply.text);
        }
    }
    // The letters come back as they were sent, whatever the upstream does to them.
    let reply = ask("dig", dns, "A.pLaIn.TeSt A").await;
    assert!(reply.text.contains(";A.pLaIn.TeSt."), "{}", reply.text);
    // Too large for a datagram: cut as the upstream cut it, whole by TCP.
    let reply = ask("dig", dns, "+ignore +bufsize=512 many.plain.test A").await;
    assert!(reply.flags.contains("tc"), "{}", reply.text);
    let reply = ask("dig", dns, "many.plain.test A").await;
    assert_eq!(reply.answer.len(), 200);
    // Our own names never go there, and who does not want recursion gets none.
    assert!(ask("dig", dns, "web.svc A").await.flags.contains("aa"));
    assert_eq!(ask("dig", dns, "nobody.svc A").await.status, "NXDOMAIN");
    assert_eq!(ask("dig", dns, "+norecurse a.plain.test A").await.status, "REFUSED");

    let others = config(upstream, "allow = [\"10.0.0.0/8\"]\n");
    let rig = Rig::start(&others, vec![web]).await;
    let dns = rig.address("dns").await;
    let reply = ask("dig", dns, "a.plain.test A").await;
    assert_eq!(reply.status, "REFUSED", "{}", reply.text);
    assert!(!reply.flags.contains("ra"), "{}", reply.text);
    assert!(ask("dig", dns, "web.svc A").await.flags.contains("aa"));
}

#[tokio::test]
async fn a_dead_upstream_is_servfail_and_our_own_names_do_not_mind() {
    // One refuses, one says nothing.
    let refusing = own_address();
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (case, upstream) in [("refuses", refusing), ("is silent", silent.local_addr().unwrap())] {
        let web = service("web", &["10.0.0.1:80".parse().unwrap()]);
        let rig = Rig::start(&config(upstream, "timeout = \"300ms\"\n"), vec![web]).await;
        let dns = rig.address("dns").await;
        for options in ["", "+tcp", "+noedns"] {
            let reply = ask("dig", dns, &format!("{options} a.plain.test A")).await;
            assert_eq!(reply.status, "SERVFAIL", "it {case}, {options}: {}", reply.text);
            assert!(reply.flags.contains("ra"), "it {case}, {options}: {}", reply.text);
        }
        assert_eq!(ask("dig", dns, "web.svc A").await.answer.len(), 1);
        rig.metric_is("portolan_dns_forwards_total{result=\"failed\"}", 3.0).await;
    }
}

#[tokio::test]
async fn unbound_resolves_our_names_however_strict_it_is() {
    let mut web = service("web", &[]);
    web.tags = Arc::new(["prod".into()]);
    for n in 1..=3 {
        let mut own = instance(&format!("web-{n}"), SocketAddr::from(([10, 0, 0, n], 8080)));
        own.tags = Arc::new(["prod".into()]);
        web.instances.push(Arc::new(own));
    }
    let many: Vec<SocketAddr> = (0..200).map(|n| SocketAddr::from(([10, 1, 0, n], 80))).collect();
    let zones = "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.\"svc.test\"]\nttl = \"60s\"\n\
                 [dns.zone.consul]\ndialect = \"consul\"\n";
    let rig = Rig::start(zones, vec![web, service("many", &many)]).await;
    let dns = rig.address("dns").await;
    let directory = tempfile::tempdir().unwrap();
    let front = own_address();
    let stub = |zone: &str| {
        format!(
            "stub-zone:\n name: \"{zone}\"\n stub-addr: {}@{}\n stub-prime: no\n",
            dns.ip(),
            dns.port()
        )
    };
    // `consul` and `test` are no zones of the Internet: unbound would say so by itself.
    let strict = format!(
        "qname-minimisation: yes\nqname-minimisation-strict: yes\nuse-caps-for-id: yes\n\
         harden-below-nxdomain: yes\nharden-referral-path: no\nlocal-zone: \"test.\" nodefault\n\
         local-zone: \"10.in-addr.arpa.\" nodefault\n\
         {}{}{}",
        stub("svc.test"),
        stub("consul"),
        stub("10.in-addr.arpa")
    );
    let _unbound = unbound(directory.path(), front, &strict).await;
    for (question, status, answers) in [
        ("web.svc.test A", "NOERROR", 3),
        ("web-2.web.svc.test A", "NOERROR", 1),
        ("web.svc.test SRV", "NOERROR", 3),
        ("web.svc.test AAAA", "NOERROR", 0),
        ("nobody.svc.test A", "NXDOMAIN", 0),
        ("many.svc.test A", "NOERROR", 200),
        ("web.service.consul A", "NOERROR", 3),
        ("prod.web.service.consul A", "NOERROR", 3),
        ("web.service.dc1.consul A", "NOERROR", 3),
        ("_web._tcp.service.consul SRV", "NOERROR", 3),
        ("_web._prod.service.consul SRV", "NOERROR", 3),
        ("0a000003.addr.dc1.consul A", "NOERROR", 1),
        ("service.consul A", "NOERROR", 0),
        ("nobody.service.consul A", "NXDOMAIN", 0),
        ("-x 10.0.0.2", "NOERROR", 2),
    ] {
        let reply = ask("dig", front, question).await;
        assert_eq!(
            (&*reply.status, reply.answer.len()),
            (status, answers),
            "{question}: {}",
            reply.text
        );
    }
}

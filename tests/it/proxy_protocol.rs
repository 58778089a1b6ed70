//! The PROXY protocol: who connected is believed of proxies that may say so, and of nobody else.
//! Row 42 of docs/hostile.md. How headers are read is tested beside the code.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::process::Command;

use crate::origin::{OK, Origin};
use crate::peers::{own_address, serving, start};
use crate::rig::{Client, Rig, service};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const FROM_HERE: &str = "proxy_protocol = { from = [\"127.0.0.1/32\"], timeout = \"2500ms\" }";

fn told(result: &str) -> String {
    format!("portolan_proxy_protocol_total{{listener=\"web\",result=\"{result}\"}}")
}

#[tokio::test]
async fn row_42_a_proxy_tells_who_connected_and_whoever_does_not_is_closed_unanswered() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http(FROM_HERE, &[origin.address]).await;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x10\0\0\x50";
    for (header, client) in [
        (&b"PROXY TCP4 192.0.2.7 127.0.0.1 4096 80\r\n"[..], "192.0.2.7"),
        (&v2[..], "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4096 80\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        origin.forget();
        let mut proxy = rig.client().await;
        // Both in one piece: what follows the header is the connection itself.
        proxy.send([header, GET.as_bytes()].concat()).await;
        assert_eq!(proxy.answer().await.status, 200);
        let text = origin.text();
        assert!(text.contains(&format!("x-forwarded-for: {client}\r\n")), "{text}");
        proxy.send(GET).await;
        assert_eq!(proxy.answer().await.status, 200, "only the connection has a header");
    }
    rig.metric_is(&told("told"), 3.0).await;
    rig.metric_is(&told("local"), 1.0).await;
    origin.forget();
    for (what, bytes) in [
        ("none", GET),
        (
            "malformed",
            "PROXY TCP4 192.0.2.7 127.0.0.1 +4096 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        ("timeout", "PROXY TCP4 192.0.2.7"),
    ] {
        let mut proxy = rig.client().await;
        proxy.send(bytes).await;
        let rest = if proxy.is_reset().await { Vec::new() } else { proxy.rest().await };
        assert_eq!(rest, b"", "{what}");
        rig.metric_is(&told(what), 1.0).await;
    }
    assert_eq!(origin.text(), "", "nothing of them went on");
}

#[tokio::test]
async fn row_42_what_a_stranger_tells_of_itself_is_no_header() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("proxy_protocol = { from = [\"10.0.0.0/8\"] }", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send(format!("PROXY TCP4 192.0.2.7 127.0.0.1 4096 80\r\n{GET}")).await;
    assert_eq!(client.answer().await.status, 400);
    assert_eq!(rig.ask(GET).await.status, 200);
}

/// HAProxy before `to`, once for each version.
async fn haproxy(
    directory: &std::path::Path,
    to: SocketAddr,
) -> (tokio::process::Child, [SocketAddr; 2]) {
    let ports = [own_address(), own_address()];
    let mut config = "global\nmaxconn 100\ndefaults\nmode tcp\ntimeout connect 5s\n\
         timeout client 5s\ntimeout server 5s\n"
        .to_owned();
    for (at, send) in ports.iter().zip(["send-proxy", "send-proxy-v2"]) {
        let _ = writeln!(config, "listen {send}\nbind {at}\nserver one {to} {send}");
    }
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut child = start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
    for at in ports {
        serving(&mut child, at).await;
    }
    (child, ports)
}

#[tokio::test]
async fn haproxy_in_front_is_understood_in_both_versions_for_requests_and_for_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Origin::answering(OK).await;
    let web = Rig::http(FROM_HERE, &[origin.address]).await;
    let tcp = format!(
        "[node]\nworkers = 1\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n\
         {FROM_HERE}\n"
    );
    let tcp = Rig::start(&tcp, vec![service("web", &[origin.address])]).await;
    for rig in [&web, &tcp] {
        let (_haproxy, ports) = haproxy(directory.path(), rig.address("web").await).await;
        for at in ports {
            let mut client = Client::connect(at).await;
            client.send(GET).await;
            assert_eq!(client.answer().await.status, 200);
        }
        assert!(rig.metric(&told("told")).await.unwrap() > 1.5, "both told of the client");
    }
}

//! The PROXY protocol towards endpoints: real HAProxy and nginx behind us learn who connected, for
//! connections and for requests, also of clients that HAProxy before us told of.

use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::origin::{OK, Origin};
use crate::peers::{own_address, serving, start};
use crate::rig::{Client, Rig, service, within};
use crate::support::{Memory, start_with};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// HAProxy that takes headers, and answers with whom they tell of: `CLIENT:PORT SERVER:PORT`.
async fn haproxy_behind(directory: &Path) -> (Child, SocketAddr) {
    let at = own_address();
    let config = format!(
        "global\nmaxconn 100\ndefaults\nmode http\ntimeout connect 5s\ntimeout client 5s\n\
         timeout server 5s\nfrontend behind\nbind {at} accept-proxy\n\
         http-request return status 200 content-type text/plain \
         lf-string \"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_authority]\"\n"
    );
    let file = directory.join("behind.cfg");
    std::fs::write(&file, config).unwrap();
    let mut child = start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
    serving(&mut child, at).await;
    (child, at)
}

/// nginx that takes headers, and answers with whom they tell of.
async fn nginx_behind(directory: &Path) -> (Child, SocketAddr) {
    let (at, dir) = (own_address(), directory.display());
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
        .concat();
    let config = format!(
        "{user}daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 64; }}\nhttp {{\naccess_log off;\n{folders}\
         server {{ listen {at} proxy_protocol; location / {{ return 200 \
         \"$proxy_protocol_addr:$proxy_protocol_port \
         $proxy_protocol_server_addr:$proxy_protocol_server_port \"; }} }}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory).arg("-c").arg(file).args(["-e", "stderr"]);
    let mut child = start(&mut command);
    serving(&mut child, at).await;
    (child, at)
}

/// Listeners for bytes and for requests before `web` at `to`, whose connections begin with `version`.
async fn before(version: &str, to: SocketAddr, more: &str) -> Rig {
    let config = format!(
        "[node]\nworkers = 1\n[service.web]\nproxy_protocol = \"{version}\"\n{more}\
         [route.all]\nlistener = \"http\"\nservice = \"web\"\n\
         [listener.tcp.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\nFROM\n\
         [listener.http.http]\nbind = [\"127.0.0.1:0\"]\nFROM\n"
    );
    let from = "proxy_protocol = { from = [\"127.0.0.1/32\"] }";
    let config = config.replace("FROM", if more.contains("told") { from } else { "" });
    Rig::start(&config, vec![service("web", &[to])]).await
}

/// What the endpoint was told of a client that sends `first` before its request; and what is true.
async fn told(rig: &Rig, listener: &str, first: &[u8]) -> (String, String) {
    let at = rig.address(listener).await;
    let mut client = Client::connect(at).await;
    let own = client.stream.local_addr().unwrap();
    client.send([first, GET.as_bytes()].concat()).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.body.trim_end().to_owned(), format!("{own} {at}"))
}

#[tokio::test]
async fn haproxy_and_nginx_behind_us_learn_who_connected_in_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let (_haproxy, haproxy) = haproxy_behind(directory.path()).await;
    let (_nginx, nginx) = nginx_behind(directory.path()).await;
    for (peer, at) in [("haproxy", haproxy), ("nginx", nginx)] {
        for version in ["v1", "v2"] {
            let rig = before(version, at, "").await;
            for listener in ["tcp", "http"] {
                // Several: a connection that is kept would tell of the one before.
                for _ in 0..3 {
                    let (told, is) = told(&rig, listener, b"").await;
                    assert_eq!(told, is, "{peer}, {version}, {listener}");
                }
            }
        }
    }
}

#[tokio::test]
async fn who_a_proxy_before_us_told_of_is_passed_on_in_either_family_with_what_else_it_told() {
    let directory = tempfile::tempdir().unwrap();
    let (_haproxy, at) = haproxy_behind(directory.path()).await;
    let six: Vec<u8> = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2f"[..],
        &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets(),
        &"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets(),
        &[0x10, 0, 0, 80],
        // The name that the client asked for by TLS, and padding.
        &[2, 0, 4],
        b"name",
        &[4, 0, 1, 0],
    ]
    .concat();
    for (version, authority) in [("v2", "name"), ("v1", "")] {
        // HAProxy writes addresses and ports with one colon between them, of either family.
        let rig = before(version, at, "# told\n").await;
        let v4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4096 80\r\n";
        let (told_of, _) = told(&rig, "tcp", v4).await;
        assert_eq!(told_of, "192.0.2.7:4096 198.51.100.1:80", "{version}");
        // A request came to where we listen, whoever passed it on.
        let (told_of, _) = told(&rig, "http", v4).await;
        let http = rig.address("http").await;
        assert_eq!(told_of, format!("192.0.2.7:4096 {http}"), "{version}");
        let (told_of, _) = told(&rig, "tcp", &six).await;
        let want = format!("2001:db8::7:4096 2001:db8::1:80 {authority}");
        assert_eq!(told_of, want.trim_end(), "{version}");
    }
}

#[tokio::test]
async fn haproxy_before_us_and_haproxy_behind_us_agree_on_who_connected() {
    let directory = tempfile::tempdir().unwrap();
    let (_behind, behind) = haproxy_behind(directory.path()).await;
    for version in ["v1", "v2"] {
        let rig = before(version, behind, "# told\n").await;
        let mut config = "global\nmaxconn 100\ndefaults\nmode tcp\ntimeout connect 5s\n\
             timeout client 5s\ntimeout server 5s\n"
            .to_owned();
        let mut ports = Vec::new();
        for (listener, send) in
            [("tcp", "send-proxy"), ("tcp", "send-proxy-v2"), ("http", "send-proxy-v2")]
        {
            let (at, to) = (own_address(), rig.address(listener).await);
            let _ = writeln!(config, "listen p{}\nbind {at}\nserver one {to} {send}", at.port());
            ports.push((at, if listener == "tcp" { at } else { to }));
        }
        let file = directory.path().join(format!("before-{version}.cfg"));
        std::fs::write(&file, config).unwrap();
        let mut child = start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
        for (at, to) in ports {
            serving(&mut child, at).await;
            let mut client = Client::connect(at).await;
            let own = client.stream.local_addr().unwrap();
            client.send(GET).await;
            let answer = client.answer().await;
            assert_eq!(answer.body.trim_end(), format!("{own} {to}"), "{version}");
        }
    }
}

#[tokio::test]
async fn connections_of_a_service_with_headers_serve_one_request_and_others_are_kept() {
    let origin = Origin::answering(OK).await;
    for (more, connections) in [("proxy_protocol = \"v1\"\n", 5), ("", 1)] {
        origin.forget();
        let before = origin.received().len();
        let rig = Rig::http(&format!("[service.web]\n{more}"), &[origin.address]).await;
        let mut client = rig.client().await;
        for _ in 0..5 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(client.answer().await.status, 200);
        }
        assert_eq!(origin.received().len() - before, connections, "{more}");
    }
}

#[tokio::test]
async fn a_client_by_ipv6_is_told_of_to_an_endpoint_by_ipv4_before_its_first_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let config = "[node]\nworkers = 1\n[service.web]\nproxy_protocol = \"v1\"\n\
                  [listener.web.tcp]\nbind = [\"[::1]:0\"]\nservice = \"web\"\n";
    let rig = Rig::start(config, vec![service("web", &[to])]).await;
    let mut client = rig.client().await;
    client.send("hello").await;
    let (stream, _) = within("accept", listener.accept()).await.unwrap();
    let mut endpoint = Client::over(stream);
    let text = String::from_utf8(endpoint.until("hello").await).unwrap();
    let own = client.stream.local_addr().unwrap().port();
    let port = rig.address("web").await.port();
    assert_eq!(text, format!("PROXY TCP6 ::1 ::1 {own} {port}\r\nhello"));
}

#[tokio::test]
async fn checks_of_endpoints_that_want_a_header_begin_with_one_and_those_of_another_port_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let (_behind, behind) = haproxy_behind(directory.path()).await;
    let plain = Origin::answering(OK).await;
    // The port of a check of its own is another door.
    let own = format!("port = {}, ", plain.address.port());
    let elsewhere = SocketAddr::new(plain.address.ip(), behind.port());
    for (version, at, port) in
        [("v1", behind, ""), ("v2", behind, ""), ("v1", elsewhere, &own), ("v2", elsewhere, &own)]
    {
        let config = format!(
            "[node]\nworkers = 1\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\n\
             service = \"web\"\n[service.web]\nproxy_protocol = \"{version}\"\n\
             check.http = {{ path = \"/\", {port}interval = \"50ms\", fall = 1, rise = 1 }}\n"
        );
        let memory = Memory::new("mem");
        memory.tell("web", &[at]);
        let app = start_with(&config, directory.path(), &[&memory]).await;
        let well = app.published(|snapshot| {
            snapshot.service("web").is_some_and(|web| web.eligible.len() == 1)
        });
        within("healthy", well).await;
        app.stop().await;
    }
}

//! What an origin is told about the client, beside nginx: a trusted proxy's word is kept and added
//! to as nginx does, a stranger's is replaced.

use tokio::process::Command;

use crate::origin::{OK, Origin};
use crate::peers::{own_address, serving, start};
use crate::rig::{Client, Rig, header};

const NAMES: [&str; 5] =
    ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-host"];

/// Every value of these headers in the last request that `origin` got.
fn told(origin: &Origin) -> Vec<(&'static str, Option<String>)> {
    let text = origin.text();
    origin.forget();
    NAMES.map(|name| (name, header(&text, name).map(str::to_owned))).into()
}

#[tokio::test]
async fn a_trusted_proxy_is_told_on_as_by_nginx() {
    let origin = Origin::answering_once(OK).await;
    let rig = Rig::http("trusted_proxies = [\"127.0.0.0/8\"]", &[origin.address]).await;
    let portolan = rig.address("web").await;

    let mut nginx_at = own_address();
    nginx_at.set_port(portolan.port());
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr warn;\npid nginx.pid;\n\
         events {{}}\n\
         http {{\n\
         access_log off;\n\
         map $http_x_forwarded_proto $proto {{ '' $scheme; default $http_x_forwarded_proto; }}\n\
         map $http_x_forwarded_port $port {{ '' $server_port; default $http_x_forwarded_port; }}\n\
         map $http_x_forwarded_host $host_told {{ '' $http_host; default $http_x_forwarded_host; }}\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         server {{ listen {nginx_at}; location / {{\n\
         proxy_pass http://{origin};\nproxy_http_version 1.1;\n\
         proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $proto;\n\
         proxy_set_header X-Forwarded-Port $port;\n\
         proxy_set_header X-Forwarded-Host $host_told;\n\
         }} }}\n}}\n",
        origin = origin.address
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut nginx =
        start(Command::new("nginx").arg("-p").arg(directory.path()).arg("-c").arg(file));
    serving(&mut nginx, nginx_at).await;

    for (case, lines) in [
        ("nothing told", "Host: a\r\n"),
        ("a port in Host", "Host: shop.example:8080\r\n"),
        ("an address for Host", "Host: 10.0.0.1\r\n"),
        ("capitals", "Host: Shop.Example\r\n"),
        ("a chain of one", "Host: a\r\nX-Forwarded-For: 1.2.3.4\r\n"),
        ("a chain of two", "Host: a\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\n"),
        (
            "a chain in two lines",
            "Host: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n",
        ),
        ("a chain of IPv6", "Host: a\r\nX-Forwarded-For: 2001:db8::1\r\n"),
        ("an unknown client", "Host: a\r\nX-Forwarded-For: unknown\r\n"),
        ("the scheme", "Host: a\r\nX-Forwarded-Proto: https\r\n"),
        ("the port", "Host: a\r\nX-Forwarded-Port: 443\r\n"),
        ("the host", "Host: a\r\nX-Forwarded-Host: shop.example\r\n"),
        (
            "all of it",
            "Host: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Port: 443\r\nX-Forwarded-Host: shop.example\r\n",
        ),
    ] {
        let mut told_by = Vec::new();
        for address in [nginx_at, portolan] {
            let mut client = Client::connect(address).await;
            client.send(format!("GET / HTTP/1.1\r\n{lines}\r\n")).await;
            assert_eq!(client.answer().await.status, 200, "{case}");
            told_by.push(told(&origin));
        }
        let by_portolan = told_by.pop().unwrap();
        assert_eq!(by_portolan, told_by.pop().unwrap(), "{case}: Portolan, then nginx");
        assert!(by_portolan.iter().all(|(_, value)| value.is_some()), "{case}: {by_portolan:?}");
    }
}

#[tokio::test]
async fn what_a_stranger_says_about_itself_is_replaced() {
    let origin = Origin::answering_once(OK).await;
    let rig = Rig::http("trusted_proxies = [\"10.0.0.0/8\"]", &[origin.address]).await;
    let port = rig.address("web").await.port();
    let lies = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Port: 443\r\nX-Forwarded-Host: b\r\nForwarded: for=1.2.3.4\r\n";
    assert_eq!(rig.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lies}\r\n")).await.status, 200);
    let text = origin.text();
    for name in [&NAMES[..], &["forwarded"]].concat() {
        let lines = text.lines().filter(|line| {
            line.split_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(name))
        });
        assert_eq!(lines.count(), usize::from(name != "forwarded"), "{name} in {text}");
    }
    let wanted = ["a", "127.0.0.1", "http", &port.to_string(), "a"].map(str::to_owned);
    assert_eq!(told(&origin), std::iter::zip(NAMES, wanted.map(Some)).collect::<Vec<_>>());
}

//! Real servers of TLS behind a listener that passes it on, and real clients before it.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::{Child, Command};

use crate::peers::{output, own_address, serving, start};
use crate::rig::{Rig, service};
use crate::secure::Authority;

async fn rig(at: SocketAddr, more: &str) -> Rig {
    let config = format!(
        "[node]\nworkers = 1\n[route.web]\nlistener = \"web\"\nhost = \"*.test\"\nservice = \"web\"\n\
         [listener.web.tls]\nbind = [\"127.0.0.1:0\"]\n{more}"
    );
    Rig::start(&config, vec![service("web", &[at])]).await
}

/// nginx that ends TLS, and answers by itself.
async fn nginx(authority: &Authority, directory: &Path) -> (Child, SocketAddr) {
    let at = own_address();
    authority.server("nginx", &["nginx.test"]);
    let config = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr crit;\npid nginx.pid;\nevents {{}}\n\
         http {{\naccess_log off;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         server {{ listen {at} ssl http2;\nssl_certificate \"{}\";\nssl_certificate_key \"{}\";\n\
         location / {{ return 200 \"nginx $server_protocol $ssl_server_name\"; }} }}\n}}\n",
        authority.path("nginx.crt").display(),
        authority.path("nginx.key").display(),
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut child = start(Command::new("nginx").arg("-p").arg(directory).arg("-c").arg(file));
    serving(&mut child, at).await;
    (child, at)
}

/// HAProxy that does the same; with `accept-proxy` each connection has to begin with a header of the
/// PROXY protocol.
async fn haproxy(authority: &Authority, directory: &Path, more: &str) -> (Child, SocketAddr) {
    let at = own_address();
    authority.server("haproxy", &["haproxy.test"]);
    let read = |end: &str| std::fs::read_to_string(authority.path(&format!("haproxy.{end}")));
    let both = read("crt").unwrap() + &read("key").unwrap();
    std::fs::write(directory.join("both.pem"), both).unwrap();
    let config = format!(
        "global\nmaxconn 100\ndefaults\nmode http\ntimeout connect 5s\ntimeout client 5s\n\
         timeout server 5s\nfrontend web\nbind {at} {more} ssl crt {} alpn h2,http/1.1\n\
         http-request return status 200 content-type text/plain \
         lf-string \"haproxy %[req.ver] %[ssl_fc_sni]\"\n",
        directory.join("both.pem").display()
    );
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut child = start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
    serving(&mut child, at).await;
    (child, at)
}

/// What curl gets that asks for `https://HOST/`, believing `authority` alone.
async fn curl(authority: &Authority, at: SocketAddr, host: &str, version: &str) -> String {
    let ca = authority.path("ca.pem").display().to_string();
    let resolve = format!("{host}:{}:{}", at.port(), at.ip());
    let url = format!("https://{host}:{}/", at.port());
    let arguments = ["-sS", version, "--cacert", &ca, "--resolve", &resolve, &url];
    output("curl", &arguments).await
}

#[tokio::test]
async fn curl_talks_with_nginx_and_with_haproxy_by_their_own_certificates() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let (_nginx, at) = nginx(&authority, directory.path()).await;
    let before = rig(at, "").await;
    let web = before.address("web").await;
    let got = curl(&authority, web, "nginx.test", "--http2").await;
    assert_eq!(got, "nginx HTTP/2.0 nginx.test");
    let got = curl(&authority, web, "nginx.test", "--http1.1").await;
    assert_eq!(got, "nginx HTTP/1.1 nginx.test");

    let (_haproxy, at) = haproxy(&authority, directory.path(), "").await;
    let before = rig(at, "").await;
    let web = before.address("web").await;
    let got = curl(&authority, web, "haproxy.test", "--http2").await;
    assert_eq!(got, "haproxy 2.0 haproxy.test");
    let refused = curl(&authority, web, "nobody.example", "--http2").await;
    assert!(refused.contains("unrecognized name"), "{refused}");

    let arguments = ["s_client", "-connect", &web.to_string(), "-servername", "haproxy.test"];
    let said = output("openssl", &arguments).await;
    assert!(said.contains("Server certificate") && said.contains("Verification error"), "{said}");
}

#[tokio::test]
async fn a_header_of_the_proxy_protocol_goes_before_the_hello_of_the_client_and_before_ours() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let (_haproxy, at) = haproxy(&authority, directory.path(), "accept-proxy").await;
    for version in ["v1", "v2"] {
        let told = format!("[service.web]\nproxy_protocol = \"{version}\"\n");
        let passing = rig(at, &told).await;
        let web = passing.address("web").await;
        let got = curl(&authority, web, "haproxy.test", "--http1.1").await;
        assert_eq!(got, "haproxy 1.1 haproxy.test");

        let ca = authority.path("ca.pem").display().to_string();
        let config = format!(
            "[node]\nworkers = 1\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n\
             {told}[service.web.tls]\nserver_name = \"haproxy.test\"\nca_file = {ca:?}\n"
        );
        let around = Rig::start(&config, vec![service("web", &[at])]).await;
        let answer = around.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((answer.status, &*answer.body), (200, "haproxy 1.1 haproxy.test"));
    }
    let untold = rig(at, "").await;
    let got = curl(&authority, untold.address("web").await, "haproxy.test", "--http1.1").await;
    assert!(got.contains("curl: "), "without one it is refused: {got}");
}

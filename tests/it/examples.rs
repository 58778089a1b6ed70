//! The configurations in `config/` and `docker/`, started as they are and asked one question each.
//!
//! They are used word for word, but for what this machine does not have: each test copies its
//! folder and names the texts that it replaces (addresses, ports, absolute paths, one command).

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portolan::app::{App, Options};
use portolan::catalog::Snapshot;
use portolan::config;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::peers::own_ip;
use crate::secure::Authority;
use crate::support::consul::{Consul, Entry};
use crate::support::marathon::{self, Era, Fake, Net, State};
use crate::support::{says, until};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A copy of `folder` with texts replaced, checked by `portolan check`.
fn copy(folder: &str, replaced: &[(&str, &str)]) -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let mut text = fs::read_to_string(&path).unwrap();
        for (old, new) in replaced {
            if text.contains(old) {
                found.insert(*old);
                text = text.replace(old, &new.replace("HERE", here));
            }
        }
        fs::write(dir.path().join(path.file_name().unwrap()), text).unwrap();
    }
    for (old, _) in replaced {
        assert!(found.contains(old), "{folder} does not say {old:?} any more");
    }
    let checked = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["check", "--config"])
        .arg(dir.path().join("portolan.toml"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && told.contains("no problems"), "{folder}: {complaints}");
    dir
}

/// Starts what stands in `dir` and waits until `service` was read.
async fn start(dir: &TempDir, service: &str) -> App {
    let loaded = config::load(&dir.path().join("portolan.toml")).unwrap();
    let app = App::start(loaded, Options::default()).await.unwrap();
    within("the service", app.published(|snapshot| snapshot.service(service).is_some())).await;
    let nothing_refused = |snapshot: &Snapshot| {
        snapshot.registries.iter().all(|registry| registry.problems.is_empty())
            && snapshot.services.values().all(|service| service.problems.is_empty())
    };
    assert!(nothing_refused(&app.tables().snapshot), "{:?}", app.tables().snapshot);
    app
}

async fn within<T>(what: &str, fact: impl Future<Output = T>) -> T {
    let fact = tokio::time::timeout(PATIENCE, fact).await;
    fact.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// What `dig` says in short, sorted.
async fn dig(server: SocketAddr, name: &str, kind: &str) -> Vec<String> {
    let asked = tokio::process::Command::new("dig")
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string(), name, kind, "+short"])
        .output()
        .await
        .expect("dig is missing; install it with scripts/install-peers");
    let mut lines: Vec<String> =
        String::from_utf8(asked.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Status line and body of the answer to `GET path` for `host`.
async fn get(server: SocketAddr, host: &str, path: &str) -> (String, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = within("an answer", exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// A backend that answers each request with its path; its address.
async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{path}",
                    path.len()
                );
                // The client may have left; the next one is served all the same.
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

async fn address(app: &App, name: &str) -> SocketAddr {
    let addresses = app.addresses(name).await;
    assert_eq!(addresses.len(), 1, "{name}");
    SocketAddr::from(([127, 0, 0, 1], addresses[0].port()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resolver_tells_containers_where_services_are() {
    let dir = copy(
        "config/resolver",
        &[
            ("/var/lib/portolan", "HERE/state"),
            ("\"172.17.0.1:53\"", "\"127.0.0.1:0\""),
            // The machine's own resolver may be missing here.
            ("\"system\"", "\"127.0.0.53\""),
        ],
    );
    let app = start(&dir, "web").await;
    let server = address(&app, "dns").await;
    let two = ["172.17.0.11", "172.17.0.12"];
    assert_eq!(dig(server, "web.svc.internal", "A").await, two);
    assert_eq!(dig(server, "web.service.consul", "A").await, two);
    assert_eq!(
        dig(server, "_sql._tcp.database.svc.internal", "SRV").await,
        ["1 1 5432 db-1.database.svc.internal."]
    );
    assert_eq!(dig(server, "primary.database.service.consul", "A").await, ["172.17.0.21"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ingress_carries_requests_by_host_and_path() {
    let backend = backend().await;
    let port = format!("port = {}", backend.port());
    let dir = copy(
        "config/ingress",
        &[
            ("/var/lib/portolan", "HERE/state"),
            ("\"0.0.0.0:80\"", "\"127.0.0.1:0\""),
            ("\"192.0.2.10:5432\"", "\"127.0.0.1:0\""),
            ("\"127.0.0.1:8611\"", "\"127.0.0.1:0\""),
            ("10.0.1.11", "127.0.0.1"),
            ("10.0.1.12", "127.0.0.1"),
            ("10.0.1.21", "127.0.0.1"),
            ("10.0.1.31", "127.0.0.1"),
            ("port = 8080", &port),
            ("port = 5432", &port),
        ],
    );
    let app = start(&dir, "shop").await;
    let web = address(&app, "web").await;
    let ok = "HTTP/1.1 200 OK".to_owned();
    assert_eq!(get(web, "shop.example", "/cart").await, (ok.clone(), "/cart".into()));
    assert_eq!(get(web, "shop.example", "/api/orders").await, (ok.clone(), "/orders".into()));
    assert_eq!(get(web, "10.0.0.5", "/ready").await, (ok.clone(), "ready\n".into()));
    assert_eq!(get(web, "www.shop.example", "/cart").await.0, "HTTP/1.1 301 Moved Permanently");
    assert_eq!(get(web, "shop.example", "/admin/users").await.0, "HTTP/1.1 403 Forbidden");
    let (status, _) = get(web, "other.example", "/cart").await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    let postgres = address(&app, "postgres").await;
    assert_eq!(get(postgres, "by-tcp", "/query").await, (ok, "/query".into()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecar_renders_what_haproxy_accepts_and_reloads_it() {
    let haproxy = Command::new("haproxy").arg("-v").output();
    haproxy.expect("haproxy is missing; install it with scripts/install-peers");
    let dir = copy(
        "config/sidecar",
        &[
            ("/var/lib/portolan", "HERE/state"),
            ("/etc/haproxy/haproxy.cfg", "HERE/haproxy.cfg"),
            ("systemctl reload haproxy", "cp HERE/haproxy.cfg HERE/loaded.cfg"),
            ("\"127.0.0.1:8611\"", "\"127.0.0.1:0\""),
        ],
    );
    let app = start(&dir, "web").await;
    let loaded = dir.path().join("loaded.cfg");
    let rendered = async {
        loop {
            // Copied by the reload, so that it may be there in part.
            let text = fs::read_to_string(&loaded).unwrap_or_default();
            if text.ends_with("server web-2 10.0.1.12:8080\n") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let text = within("the reload", rendered).await;
    assert!(text.contains("    server web-1 10.0.1.11:8080\n    server web-2"), "{text}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metadata_service_tells_a_container_who_it_is_and_what_a_file_says() {
    let dir = copy(
        "config/metadata",
        &[
            ("/var/lib/portolan", "HERE/state"),
            ("169.254.169.250:80", "127.0.0.1:0"),
            ("172.17.0.1/32", "127.0.0.1/32"),
            ("\"127.0.0.1:8611\"", "\"127.0.0.1:0\""),
        ],
    );
    let app = start(&dir, "web.shop").await;
    let answers = |snapshot: &Snapshot| !snapshot.documents.is_empty();
    within("the answers", app.published(answers)).await;
    let server = address(&app, "metadata").await;
    for (client, path, want) in [
        ("172.17.0.11", "self/container/name", "web-1"),
        ("172.17.0.11", "self/host/agent_ip", "192.0.2.10"),
        ("172.17.0.11", "role", "primary"),
        ("172.17.0.12", "role", "Not found\n"),
        ("172.17.0.12", "licence/seats", "25"),
        ("172.17.0.12", "services/web/containers", "0=web-1\n1=web-2\n"),
    ] {
        // The host is the last line of the request's head but one.
        let host = format!("a\r\nX-Forwarded-For: {client}");
        let (_, body) = get(server, &host, &format!("/latest/{path}")).await;
        assert_eq!(body, want, "{client} {path}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_renderer_writes_what_templates_of_both_programs_say_of_a_consul() {
    let consul = Consul::start().await;
    let key = |path: &str, value: &str| json!({"KV": {"Verb": "set", "Key": path, "Value": STANDARD.encode(value)}});
    let keys = json!([
        key("production/shop/title", "Harbour"),
        key("production/shop/limits/basket", "50"),
        key("test/shop/title", "wrong"),
    ]);
    consul.put("/v1/txn", keys).await;
    let entry = Entry::new("shop", "shop-1", SocketAddr::from(([10, 0, 1, 31], 8080)));
    consul.register(&entry.tagged("http").weighing(3)).await;
    consul.register(&Entry::new("mail", "mail-1", SocketAddr::from(([10, 0, 1, 32], 25)))).await;
    let dir = copy(
        "config/renderer",
        &[
            ("/var/lib/portolan", "HERE/state"),
            ("http://127.0.0.1:8500", &consul.url()),
            ("/etc/nginx/conf.d/upstreams.conf", "HERE/upstreams.conf"),
            ("/etc/shop/settings.env", "HERE/settings.env"),
            ("nginx -s reload", "cp HERE/upstreams.conf HERE/loaded.conf"),
            ("\"127.0.0.1:8611\"", "\"127.0.0.1:0\""),
        ],
    );
    let loaded = config::load(&dir.path().join("portolan.toml")).unwrap();
    let app = App::start(loaded, Options::default()).await.unwrap();
    let upstreams = "upstream shop {\n    server 10.0.1.31:8080 weight=3; # agent\n}\n";
    says(&dir.path().join("loaded.conf"), upstreams).await;
    says(&dir.path().join("settings.env"), "TITLE=Harbour\nLANGUAGE=en\nBASKET=50\n").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_balancer_and_the_names_of_a_marathon_follow_its_apps() {
    let fake = Fake::start(Era::V1_11, 2).await;
    let mut web = marathon::App::new(Net::Host);
    web.service_ports = vec![10_001];
    web.labels = [("HAPROXY_GROUP", "external"), ("HAPROXY_0_VHOST", "web.example")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    fake.act(|world| world.post("/shop/web", web));
    let backend = backend().await;
    fake.act(|world| {
        let (task, mut said) = world.stage("/shop/web", backend);
        said.extend(world.becomes("/shop/web", &task, State::Running));
        said
    });
    let authority = Authority::new();
    authority.server("site", &["web.example"]);
    let urls: Vec<String> = fake.urls().iter().map(|url| format!("{url:?}")).collect();
    let ip = own_ip();
    let dir = copy(
        "config/marathon",
        &[
            ("/var/lib/portolan", "HERE/state"),
            ("\"http://m1.example:8080\", \"http://m2.example:8080\"", &urls.join(", ")),
            ("\"0.0.0.0\"", &format!("\"{ip}\"")),
            ("0.0.0.0:80\"", "127.0.0.1:0\""),
            ("0.0.0.0:443", "127.0.0.1:0"),
            ("0.0.0.0:9091", "127.0.0.1:0"),
            ("10.0.0.5:9090", "127.0.0.1:0"),
            ("10.0.0.5:53", "127.0.0.1:0"),
            ("127.0.0.1:8611", "127.0.0.1:0"),
            ("/etc/portolan/tls", authority.directory.path().to_str().unwrap()),
            // The machine's own resolver may be missing here.
            ("\"system\"", "\"127.0.0.53\""),
        ],
    );
    let app = start(&dir, "web.shop").await;
    let dns = address(&app, "dns").await;
    assert_eq!(dig(dns, "web-shop.marathon.mesos", "A").await, ["127.0.0.1"]);
    assert_eq!(dig(dns, "leader.mesos", "A").await, ["127.0.0.1"]);
    assert_eq!(dig(dns, "marathon-lb.marathon.mesos", "A").await, ["10.0.0.5"]);
    let ok = "HTTP/1.1 200 OK".to_owned();
    let web = address(&app, "web").await;
    assert_eq!(get(web, "web.example", "/cart").await, (ok.clone(), "/cart".into()));
    let secure = address(&app, "secure").await;
    let mut client = authority.trusting().connect(secure, "web.example").await.unwrap();
    client.send("GET /safe HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "/safe");
    let service_port = SocketAddr::new(ip, 10_001);
    // Ports of labels are bound once they are known.
    until("the service port listens", async || TcpStream::connect(service_port).await.ok()).await;
    assert_eq!(get(service_port, "anybody", "/by-port").await, (ok.clone(), "/by-port".into()));
    let apps = address(&app, "apps").await;
    let host = "anybody\r\nX-Marathon-App-Id: /shop/web";
    assert_eq!(get(apps, host, "/by-id").await, (ok, "/by-id".into()));
    let face = address(&app, "haproxy").await;
    let (_, map) = get(face, "a", "/_haproxy_getvhostmap").await;
    assert_eq!(map, "web.example shop_web_10001\n");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_container_serves_the_backends_of_its_compose_file() {
    let backend = backend().await;
    let port = format!("port = {}", backend.port());
    let dir = copy(
        "docker",
        &[
            ("/var/lib/portolan", "HERE/state"),
            ("/etc/portolan/services.toml", "HERE/services.toml"),
            ("\"0.0.0.0:5300\"", "\"127.0.0.1:0\""),
            ("\"0.0.0.0:8080\"", "\"127.0.0.1:0\""),
            ("\"127.0.0.1:8611\"", "\"127.0.0.1:0\""),
            ("address = \"172.30.53.1", "address = \"127.30.53.1"),
            ("port = 8080", &port),
        ],
    );
    let compose = fs::read_to_string(dir.path().join("compose.yaml")).unwrap();
    for address in ["172.30.53.11", "172.30.53.12"] {
        assert!(compose.contains(&format!("ipv4_address: {address}")), "{address}");
    }
    let dockerfile = fs::read_to_string(dir.path().join("Dockerfile")).unwrap();
    assert!(dockerfile.contains(r#"CMD ["run", "--config", "/etc/portolan/portolan.toml"]"#));
    let app = start(&dir, "web").await;
    let dns = address(&app, "dns").await;
    assert_eq!(dig(dns, "web.svc.test", "A").await, ["127.30.53.11", "127.30.53.12"]);
    app.stop().await;
}

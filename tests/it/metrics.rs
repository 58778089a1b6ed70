//! The admin face: who may, what the metrics are called, and whether they are what they seem.

use std::path::Path;

use portolan::app::App;

use crate::clients::{Http, Response, get, tool_with};
use crate::support::{address, backend, known, listing, load, replace, start, until};

const CONFIGURATION: &str = r#"
[node]
workers = 1
data_dir = "data"
[registry.local.file]
path = "services.toml"
[dns]
listen = ["127.0.0.1:0"]
[dns.zone.test]
[listener.web.http]
bind = ["127.0.0.1:0"]
[route.all]
listener = "web"
service = "web"
[listener.raw.tcp]
bind = ["127.0.0.1:0"]
service = "web"
[template.list]
source = "list.j2"
destination = "list"
"#;

async fn launch(directory: &Path, admin: &str) -> App {
    let web = backend("web", 1).await;
    let instances = listing("web", &[("up", web), ("down", web), ("leaving", web)])
        .replace("\"down\"", "\"down\"\nhealth = \"unhealthy\"")
        .replace("\"leaving\"", "\"leaving\"\ndraining = true");
    let bad = "[[service.web.instance]]\naddress = \"10.0.0.1\"\nport = 70000\n";
    std::fs::write(directory.join("services.toml"), instances + bad).unwrap();
    std::fs::write(directory.join("list.j2"), "{{ services() }}").unwrap();
    std::fs::write(directory.join("token"), "s3cret\n").unwrap();
    let app = start(&format!("{CONFIGURATION}[admin]\n{admin}"), directory).await;
    known(&app, "web", 3).await;
    assert_eq!(get(address(&app, "web").await, "/").await.body, "web");
    app
}

async fn with(app: &App, method: &str, path: &str, token: &str) -> Response {
    let mut admin = app.admin_address().unwrap();
    if admin.ip().is_unspecified() {
        admin.set_ip([127, 0, 0, 1].into());
    }
    let mut client = Http::to(admin).await;
    let authorization =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    client.send(method, path, &authorization).await;
    client.receive().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_as_prometheus_wants_them_and_tell_what_the_catalog_knows() {
    let directory = tempfile::tempdir().unwrap();
    let app = launch(directory.path(), "listen = \"127.0.0.1:0\"\n").await;
    let admin = app.admin_address().unwrap();
    let response = until("the request is counted", async || {
        let response = get(admin, "/metrics").await;
        let counted = "portolan_proxy_requests_total{class=\"2xx\",listener=\"web\"} 1\n";
        response.body.contains(counted).then_some(response)
    });
    let response = response.await;
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let judged = tool_with("promtool", &["check", "metrics"], &response.body).await;
    let words = format!(
        "{}{}",
        String::from_utf8_lossy(&judged.stdout),
        String::from_utf8_lossy(&judged.stderr)
    );
    assert!(judged.status.success() && words.is_empty(), "{words}");

    let generation = format!("portolan_generation {}", app.tables().snapshot.generation);
    for line in [
        "portolan_service_instances{service=\"web\",state=\"unknown\"} 1",
        "portolan_service_instances{service=\"web\",state=\"unhealthy\"} 1",
        "portolan_service_instances{service=\"web\",state=\"draining\"} 1",
        "portolan_service_eligible_instances{service=\"web\"} 1",
        "portolan_service_problems{service=\"web\"} 1",
        "portolan_registry_up{registry=\"local\"} 1",
        "portolan_registry_refused_entries{registry=\"local\"} 1",
        "portolan_listener_connections{listener=\"raw\"} 0",
        &generation,
    ] {
        assert!(response.body.lines().any(|told| told == line), "{line} in\n{}", response.body);
    }

    replace(&directory.path().join("services.toml"), "[service.other]\n");
    let gone = until("the service is gone", async || {
        let text = get(admin, "/metrics").await.body;
        (!text.contains("service=\"web\"")).then_some(text)
    });
    assert!(gone.await.contains("portolan_service_eligible_instances{service=\"other\"} 0"));
    std::fs::remove_file(directory.path().join("services.toml")).unwrap();
    until("the registry is down", async || {
        let text = get(admin, "/metrics").await.body;
        text.contains("portolan_registry_up{registry=\"local\"} 0").then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_on_loopback_needs_no_token_and_changing_does() {
    let directory = tempfile::tempdir().unwrap();
    let app = launch(directory.path(), "listen = \"127.0.0.1:0\"\ntoken_file = \"token\"\n").await;
    for (method, path, token, status) in [
        ("GET", "/metrics", "", 200),
        ("GET", "/v1/status", "", 200),
        ("GET", "/v1/services/gone", "", 404),
        ("GET", "/nothing", "", 404),
        ("POST", "/v1/reload", "", 401),
        ("POST", "/v1/reload", "wrong", 401),
        ("POST", "/v1/reload", "s3cret", 422),
        ("POST", "/metrics", "", 401),
    ] {
        let response = with(&app, method, path, token).await;
        assert_eq!(response.status, status, "{method} {path} {token:?}: {}", response.body);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_loopback_reading_needs_the_token_too_and_without_one_the_check_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let refused = load("[admin]\nlisten = \"0.0.0.0:8611\"\n", directory.path()).unwrap_err();
    let want = "portolan.toml:2:1: 0.0.0.0:8611 is reachable from outside: set `token_file`, or listen on 127.0.0.1";
    assert_eq!(refused, [want]);

    let app = launch(directory.path(), "listen = \"0.0.0.0:0\"\ntoken_file = \"token\"\n").await;
    for (method, path, token, status) in [
        ("GET", "/healthz", "", 200),
        ("GET", "/readyz", "", 200),
        ("GET", "/metrics", "", 401),
        ("GET", "/v1/status", "", 401),
        ("GET", "/v1/status", "s3cret", 200),
        ("POST", "/healthz", "", 405),
        ("POST", "/v1/reload", "", 401),
    ] {
        let response = with(&app, method, path, token).await;
        assert_eq!(response.status, status, "{method} {path} {token:?}: {}", response.body);
    }
    app.stop().await;
}

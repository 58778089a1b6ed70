//! From a registry to all faces: what one of them tells, the others tell too.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use hickory_proto::rr::RecordType;
use portolan::app::App;
use tempfile::TempDir;

use crate::clients::{Dns, Http, answering, dig, get_by_socket, tool};
use crate::support::{address, backend, known, listing, replace, says, soon, start, until};

const CONFIGURATION: &str = r#"
[node]
workers = 1
[registry.local.file]
path = "services.toml"
[dns]
listen = ["127.0.0.1:0"]
[dns.zone."svc.test"]
[listener.web.http]
bind = ["127.0.0.1:0"]
[route.all]
listener = "web"
service = "web"
[service.web]
policy = "round-robin"
[template.list]
source = "list.j2"
destination = "list"
[admin]
socket = "admin.sock"
"#;
const TEMPLATE: &str =
    "{% for i in service('web') %}{{ i.id }}={{ i.address }}:{{ i.port }}\n{% endfor %}";

/// What a rendered file says of these instances.
fn rendered(instances: &[(&str, SocketAddr)]) -> String {
    let lines: Vec<String> = instances.iter().map(|(id, at)| format!("{id}={at}\n")).collect();
    lines.concat()
}

fn set(words: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    words.into_iter().collect()
}

async fn launch(directory: &TempDir, services: &str) -> App {
    std::fs::write(directory.path().join("services.toml"), services).unwrap();
    std::fs::write(directory.path().join("list.j2"), TEMPLATE).unwrap();
    start(CONFIGURATION, directory.path()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_requests_and_the_file_tell_the_same_three_and_a_second_later_the_same_two() {
    let directory = tempfile::tempdir().unwrap();
    let all = [
        ("web-1", backend("web-1", 11).await),
        ("web-2", backend("web-2", 12).await),
        ("web-3", backend("web-3", 13).await),
    ];
    let app = launch(&directory, &listing("web", &all)).await;
    known(&app, "web", 3).await;
    let (dns, web) = (address(&app, "dns").await, address(&app, "web").await);
    let file = directory.path().join("list");

    let ips = set(["127.0.0.11", "127.0.0.12", "127.0.0.13"].map(str::to_owned));
    assert_eq!(dig(dns, "web.svc.test", "A").await, ips);
    let srv = |(id, at): &(&str, SocketAddr)| format!("1 1 {} {id}.web.svc.test.", at.port());
    assert_eq!(dig(dns, "web.svc.test", "SRV").await, set(all.iter().map(srv)));
    let server = format!("@{}", dns.ip());
    let port = dns.port().to_string();
    let full = ["+noall", "+answer", "+additional", "+noidn", "web.svc.test", "SRV"];
    let told = tool("kdig", &[&[&server, "-p", &port][..], &full].concat()).await;
    for (id, at) in &all {
        let glue = told.lines().find(|line| line.starts_with(&format!("{id}.web.svc.test.")));
        let ip = glue.and_then(|line| line.split_whitespace().last());
        assert_eq!(ip, Some(at.ip().to_string().as_str()), "{told}");
    }
    let url = format!("http://{web}/[1-6]");
    let bodies = tool("curl", &["-sS", "--max-time", "20", "-w", "\n", &url]).await;
    assert_eq!(
        set(bodies.lines().map(str::to_owned)),
        set(["web-1", "web-2", "web-3"].map(str::to_owned))
    );
    says(&file, &rendered(&all)).await;
    let admin = directory.path().join("admin.sock");
    let told = get_by_socket(&admin, "/v1/services/web").await.json();
    assert_eq!(told["eligible"], 3, "{told}");

    let two = [all[0], all[2]];
    let (resolver, mut client) = (Dns::to(dns).await, Http::to(web).await);
    let changed = Instant::now();
    replace(&directory.path().join("services.toml"), &listing("web", &two));
    until("DNS tells two", async || {
        (resolver.addresses("web.svc.test").await.len() == 2).then_some(())
    })
    .await;
    until("requests reach two", async || {
        (answering(&mut client, 3).await.len() == 2).then_some(())
    })
    .await;
    says(&file, &rendered(&two)).await;
    soon("all faces followed", changed.elapsed());

    assert_eq!(
        dig(dns, "web.svc.test", "A").await,
        set(["127.0.0.11", "127.0.0.13"].map(str::to_owned))
    );
    assert_eq!(dig(dns, "web.svc.test", "SRV").await, set(two.iter().map(srv)));
    assert_eq!(dig(dns, "web-2.web.svc.test", "A").await, BTreeSet::new());
    let bodies = tool("curl", &["-sS", "--max-time", "20", "-w", "\n", &url]).await;
    assert_eq!(set(bodies.lines().map(str::to_owned)), set(["web-1", "web-3"].map(str::to_owned)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_gets_no_work_gets_none_by_any_face() {
    let directory = tempfile::tempdir().unwrap();
    let (up, other) = (backend("up", 11).await, backend("other", 12).await);
    let app = launch(&directory, &listing("web", &[("up", up), ("other", other)])).await;
    let (dns, web) = (address(&app, "dns").await, address(&app, "web").await);
    let resolver = Dns::to(dns).await;
    for refused in ["health = \"unhealthy\"", "draining = true", "weight = 0"] {
        let both = listing("web", &[("up", up), ("other", other)]);
        replace(&directory.path().join("services.toml"), &both);
        says(&directory.path().join("list"), &rendered(&[("other", other), ("up", up)])).await;
        replace(&directory.path().join("services.toml"), &format!("{both}{refused}\n"));
        says(&directory.path().join("list"), &rendered(&[("up", up)])).await;
        assert_eq!(resolver.addresses("web.svc.test").await, [up.ip()].into(), "{refused}");
        let mut client = Http::to(web).await;
        assert_eq!(answering(&mut client, 4).await, set(["up".to_owned()]), "{refused}");
    }
    // The last one gone is no failure: there is nobody, and every face says so.
    replace(&directory.path().join("services.toml"), "[service]\n");
    says(&directory.path().join("list"), "").await;
    let gone = resolver.ask("web.svc.test", RecordType::A).await;
    assert_eq!(gone.code().to_string(), "Non-Existent Domain");
    assert_eq!(Http::to(web).await.get("/").await.status, 503);
    app.stop().await;
}

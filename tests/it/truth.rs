//! The truth about instances through failures of their registry: what is held, what is stale, who
//! stands in, and the answer to why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan::app::{App, Options};
use portolan::catalog::stale::{StalePolicy, WhenStale};
use portolan::catalog::{RegistryState, RegistryView};
use serde_json::Value;
use tempfile::TempDir;

use crate::child::portolan;
use crate::clients::{Dns, dig, get, get_by_socket, tool};
use crate::support::{Memory, address, backend, known, load, start_with, within};

const CONFIGURATION: &str = r#"
[node]
workers = 1
[dns]
listen = ["127.0.0.1:0"]
[dns.zone."svc.test"]
[listener.web.http]
bind = ["127.0.0.1:0"]
[route.all]
listener = "web"
service = "web"
[service.web]
backup = "standby"
[admin]
socket = "admin.sock"
"#;

async fn three() -> [SocketAddr; 3] {
    [backend("web-1", 11).await, backend("web-2", 12).await, backend("web-3", 13).await]
}

async fn eligible(app: &App, service: &str, count: usize) {
    let there = app.published(|snapshot| {
        snapshot.service(service).map_or(0, |service| service.eligible.len()) == count
    });
    within("eligible", there).await;
}

async fn why(directory: &TempDir, service: &str) -> Value {
    let path = format!("/v1/why?service={service}");
    let answer = get_by_socket(&directory.path().join("admin.sock"), &path).await;
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_suspect_registry_takes_away_is_held_shown_and_believed_after_the_second_read() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Memory::new("mem");
    registry.tell("web", &three().await);
    let app = start_with(CONFIGURATION, directory.path(), &[&registry]).await;
    known(&app, "web", 3).await;
    let dns = address(&app, "dns").await;
    let before = dig(dns, "web.svc.test", "A").await;

    let empty =
        RegistryView { suspect: Some("it has just come back".into()), ..Default::default() };
    registry.say(RegistryState::Live(empty.clone()));
    let held = app.published(|snapshot| !snapshot.registries[0].held.is_empty());
    within("held", held).await;
    assert_eq!(dig(dns, "web.svc.test", "A").await, before, "nothing is taken away");
    let told = why(&directory, "web").await;
    assert_eq!(told["registries"][0]["held"][0]["lost"], 3, "{told}");
    assert_eq!(told["registries"][0]["suspect"], "it has just come back");

    registry.say(RegistryState::Live(RegistryView { suspect: None, ..empty }));
    eligible(&app, "web", 0).await;
    assert!(dig(dns, "web.svc.test", "A").await.is_empty(), "the second read is believed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_takes_over_in_dns_and_proxy_when_the_last_healthy_instance_goes_and_hands_back() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Memory::new("mem");
    let (own, standby) = (backend("own", 11).await, backend("standby", 21).await);
    registry.tell("standby", &[standby]);
    registry.tell("web", &[own]);
    let app = start_with(CONFIGURATION, directory.path(), &[&registry]).await;
    known(&app, "web", 1).await;
    let (dns, web) = (address(&app, "dns").await, address(&app, "web").await);
    for (told, ip, name) in [
        (vec![own], "127.0.0.11", "own"),
        (vec![], "127.0.0.21", "standby"),
        (vec![own], "127.0.0.11", "own"),
    ] {
        registry.tell("web", &told);
        let stands = app.published(|snapshot| {
            let web = snapshot.service("web").unwrap();
            web.eligible.iter().any(|instance| instance.address.to_string() == ip)
        });
        within("the right one", stands).await;
        assert_eq!(dig(dns, "web.svc.test", "A").await, [ip.to_owned()].into());
        assert_eq!(get(web, "/").await.body, name);
        assert_eq!(why(&directory, "web").await["backup"]["active"], name == "standby");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_silent_for_too_long_does_what_when_stale_says() {
    let judged = async |then: WhenStale, status: ResponseCode, alone: bool| {
        let directory = tempfile::tempdir().unwrap();
        let registry = Memory::new("mem");
        registry.tell("web", &three().await);
        let stale = StalePolicy { max: Some(Duration::from_secs(3)), then };
        let mut feed = registry.feed();
        feed.stale = stale;
        let options = Options { feeds: vec![feed], ..Options::default() };
        let loaded = load(CONFIGURATION, directory.path()).unwrap();
        let app = within("start", Box::pin(App::start(loaded, options))).await.unwrap();
        eligible(&app, "web", 3).await;
        let dns = address(&app, "dns").await;
        let last = registry.view();
        let (since, why) = (SystemTime::now(), Arc::from("connection refused"));
        registry.say(RegistryState::Stale { last, since, why });
        let told = app.published(|snapshot| snapshot.registries[0].stale.is_some());
        within("stale", told).await;
        let dns = Dns::to(dns).await;
        let code = async || dns.ask("web.svc.test", RecordType::A).await.code();
        assert_eq!(code().await, ResponseCode::NoError, "{then:?}: not yet too long");
        if !alone {
            eligible(&app, "web", 0).await;
        }
        assert_eq!(code().await, status, "{then:?}");
        app.stop().await;
    };
    tokio::join!(
        judged(WhenStale::Serve, ResponseCode::NoError, true),
        judged(WhenStale::Servfail, ResponseCode::ServFail, false),
        judged(WhenStale::Drain, ResponseCode::NXDomain, false),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_tells_by_the_command_line_who_is_there_who_is_gone_and_since_when() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Memory::new("mem");
    let all = three().await;
    registry.tell("web", &all);
    let app = start_with(CONFIGURATION, directory.path(), &[&registry]).await;
    known(&app, "web", 3).await;
    registry.tell("web", &all[..2]);
    known(&app, "web", 2).await;
    let file = directory.path().join("portolan.toml");
    std::fs::write(&file, CONFIGURATION).unwrap();
    let config = file.to_str().unwrap();
    let ended = portolan(&["why", "service/web", "--config", config]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in [
        "service/web".to_owned(),
        "2 eligible".to_owned(),
        format!("+ {0} ({0}): trusted: nobody checks it", all[0]),
        format!("- {} (gone): gone: its registry does not tell of it any more", all[2]),
        "registry mem says unknown".to_owned(),
        "registry mem: live".to_owned(),
    ] {
        assert!(ended.stdout.contains(&line), "{line} is not in:\n{}", ended.stdout);
    }
    let ended = portolan(&["why", "service/wbe", "--config", config]).await;
    assert_eq!(ended.code, Some(69));
    assert!(ended.stdout.contains("service/wbe: no registry tells of it"), "{ended:?}");
    let ended = portolan(&["why", "web", "--config", config]).await;
    assert!(ended.stderr.contains("say what it is: service/web"), "{ended:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_pushed_by_the_admin_face_counts_at_once_and_a_bad_one_is_told_what_it_lacks()
 {
    let directory = tempfile::tempdir().unwrap();
    let registry = Memory::new("mem");
    let [one, ..] = three().await;
    registry.tell("web", &[one]);
    let checked = CONFIGURATION.replace(
        "[service.web]\nbackup = \"standby\"",
        "[service.web]\ncheck.push = { ttl = \"1h\" }",
    );
    let app = start_with(&checked, directory.path(), &[&registry]).await;
    known(&app, "web", 1).await;
    eligible(&app, "web", 0).await;
    let socket = directory.path().join("admin.sock");
    let push = async |path: &str, body: &str| {
        let url = format!("http://portolan/v1/health/{path}");
        let socket = socket.to_str().unwrap();
        let form = ["-s", "--unix-socket", socket, "-X", "PUT", "-d", body, &url];
        tool("curl", &form).await
    };
    assert_eq!(push(&format!("web/{one}"), r#"{"status": "healthy"}"#).await, r#"{"instances":1}"#);
    eligible(&app, "web", 1).await;
    let gone = r#"{"status": "critical", "output": "disk full"}"#;
    push(&format!("web/{one}"), gone).await;
    eligible(&app, "web", 0).await;
    let told = why(&directory, "web").await;
    assert_eq!(told["instances"][0]["reason"], "unhealthy: push: disk full", "{told}");
    assert_eq!(told["checks"][0]["last"]["result"], "failed", "{told}");
    for (path, body, want) in [
        (format!("web/{one}"), "{}", "missing field `status`"),
        ("web/other".to_owned(), gone, "has no instance \"other\""),
        (format!("db/{one}"), gone, "the service \"db\" has no check.push"),
    ] {
        let told = push(&path, body).await;
        assert!(told.contains(want), "{want} is not in {told}");
    }
    app.stop().await;
}

//! The last good answer survives: restarts with the state on disk, without it, and with a bad one.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::child::Running;
use crate::clients::{Dns, get, get_by_socket};
use crate::support::{address, backend, granted, known, listing, replace, start, until, within};

const CONFIGURATION: &str = r#"
[node]
workers = 1
data_dir = "data"
[registry.local.file]
path = "services.json"
[dns]
listen = ["127.0.0.1:0"]
[dns.zone.test]
[listener.web.http]
bind = ["127.0.0.1:0"]
[route.all]
listener = "web"
service = "web"
"#;

const SERVICES: usize = 1000;
const INSTANCES: usize = 10;

/// The bound that is stated, and what is asked of a build that was not optimised.
const BOUND: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 200 });

fn ten_thousand(web: std::net::SocketAddr) -> String {
    let mut text = format!(
        "{{\"service\": {{\"web\": {{\"instance\": [{{\"address\": \"{}\", \"port\": {}}}]}}",
        web.ip(),
        web.port()
    );
    for service in 0..SERVICES {
        write!(text, ",\n\"s{service}\": {{\"instance\": [").unwrap();
        for instance in 0..INSTANCES {
            let (comma, high, low) =
                (if instance == 0 { "" } else { "," }, service / 250, service % 250);
            write!(text, "{comma}{{\"address\": \"10.{high}.{low}.{instance}\", \"port\": 80}}")
                .unwrap();
        }
        text.push_str("]}");
    }
    text.push_str("}}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_its_registry_answers_as_before_at_once_and_says_that_it_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let services = directory.path().join("services.json");
    std::fs::write(&services, ten_thousand(backend("web", 1).await)).unwrap();
    let app = start(CONFIGURATION, directory.path()).await;
    known(&app, "s999", INSTANCES).await;
    let dns = Dns::to(address(&app, "dns").await).await;
    let names: Vec<String> = (0..SERVICES).step_by(37).map(|n| format!("s{n}.test")).collect();
    let mut before = Vec::new();
    for name in &names {
        before.push(dns.addresses(name).await);
    }
    assert!(before.iter().all(|addresses| addresses.len() == INSTANCES));
    let generation = app.tables().snapshot.generation;
    app.stop().await;
    std::fs::remove_file(&services).unwrap();

    let started = Instant::now();
    let app = start(CONFIGURATION, directory.path()).await;
    let dns = Dns::to(address(&app, "dns").await).await;
    let first = dns.ask(&names[0], RecordType::A).await;
    let took = started.elapsed();
    println!("{} instances from disk: the first answer after {took:?}", SERVICES * INSTANCES);
    assert!(took < granted(BOUND), "{took:?}");
    assert!(app.readiness().ready());
    assert!(first.generation() > generation, "generations go on across restarts");
    for (name, before) in names.iter().zip(before) {
        assert_eq!(dns.addresses(name).await, before, "{name}");
    }
    assert_eq!(get(address(&app, "web").await, "/").await.body, "web");
    let admin = directory.path().join("data/admin.sock");
    assert_eq!(get_by_socket(&admin, "/readyz").await.status, 200);
    let status = get_by_socket(&admin, "/v1/status").await.json();
    assert_eq!(status["ready"], true);
    let why = status["registries"][0]["stale"]["why"].as_str().unwrap();
    // Which of the two depends on whether the file was looked for before the first snapshot.
    let restored = why == "restored from disk; not heard since the start";
    let missing = format!("cannot read {}: No such file", services.display());
    assert!(restored || why.starts_with(&missing), "{why}");
    let unknown = dns.ask("nobody.test", RecordType::A).await;
    assert_eq!(unknown.code(), ResponseCode::NXDomain, "what was heard once is known");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_at_the_start_is_saved_too_with_its_generation() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("data/state.json");
    let services = directory.path().join("services.json");
    std::fs::write(&services, "{\"service\": {\"web\": {}}}").unwrap();
    let mut saved = 0;
    for start_number in 1..=5 {
        let app = start(CONFIGURATION, directory.path()).await;
        known(&app, "web", 0).await;
        let reached = app.tables().snapshot.generation;
        assert!(reached > saved, "start {start_number}: {reached} after {saved}");
        app.stop().await;
        let text = std::fs::read_to_string(&state).unwrap();
        let body: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        saved = body["generation"].as_u64().unwrap();
        assert!(saved >= reached, "start {start_number}: {reached} but {text}");
    }
}

/// Leaves two states on disk: one without and one with a second instance.
async fn two_states(directory: &Path) {
    let (one, two) = (([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 80).into());
    let services = directory.join("services.toml");
    let text = CONFIGURATION.replace("services.json", "services.toml");
    for instances in [&[("one", one)][..], &[("one", one), ("two", two)]] {
        std::fs::write(&services, listing("web", instances)).unwrap();
        let app = start(&text, directory).await;
        known(&app, "web", instances.len()).await;
        app.stop().await;
    }
    std::fs::remove_file(&services).unwrap();
    std::fs::write(directory.join("portolan.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_was_damaged_is_refused_by_name_and_the_one_before_it_counts() {
    let directory = tempfile::tempdir().unwrap();
    Box::pin(two_states(directory.path())).await;
    let state = directory.path().join("data/state.json");
    let sound = std::fs::read(&state).unwrap();
    let mut flipped = sound.clone();
    let last = flipped.len() - 10;
    flipped[last] ^= 1;
    let half = sound[..sound.len() / 2].to_vec();
    for (case, bytes, instances, why) in [
        ("sound", sound.clone(), 2, None),
        (
            "a flipped bit",
            flipped,
            1,
            Some("its checksum does not match: it was changed or damaged"),
        ),
        ("half of it", half, 1, Some("it is cut: ")),
        ("empty", Vec::new(), 1, Some("the file is cut in its first line")),
    ] {
        // Each process leaves a newer state behind; both files are put back for the next one.
        let former = std::fs::read(directory.path().join("data/state.json.1")).unwrap();
        std::fs::write(&state, bytes).unwrap();
        let mut process = Running::start(&directory.path().join("portolan.toml")).await;
        let dns = Dns::to(process.address("dns").await).await;
        assert_eq!(dns.addresses("web.test").await.len(), instances, "{case}");
        if let Some(why) = why {
            let log = process.logged("a state on disk is not used").await;
            let told = log["file"].as_str().unwrap();
            assert!(told.starts_with(&format!("{}: {why}", state.display())), "{case}: {told}");
        }
        process.signal(rustix::process::Signal::TERM);
        assert!(process.ended().await.success(), "{case}");
        std::fs::write(directory.path().join("data/state.json.1"), former).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_spoken_of_yet_is_unknown_and_not_absent() {
    let directory = tempfile::tempdir().unwrap();
    let app = start(CONFIGURATION, directory.path()).await;
    let dns = Dns::to(address(&app, "dns").await).await;
    let admin = directory.path().join("data/admin.sock");
    let web = address(&app, "web").await;
    assert_eq!(dns.ask("web.test", RecordType::A).await.code(), ResponseCode::ServFail);
    assert_eq!(get(web, "/").await.status, 503);
    let ready = get_by_socket(&admin, "/readyz").await;
    assert_eq!((ready.status, &*ready.body), (503, "registry local was not heard yet\n"));
    assert_eq!(get_by_socket(&admin, "/healthz").await.status, 200);

    let at = backend("web", 1).await;
    let text = format!(
        "{{\"service\": {{\"web\": {{\"instance\": [{{\"address\": \"{}\", \"port\": {}}}]}}}}}}",
        at.ip(),
        at.port()
    );
    replace(&directory.path().join("services.json"), &text);
    within("heard", app.published(|snapshot| snapshot.heard("local"))).await;
    assert_eq!(dns.addresses("web.test").await, [at.ip()].into());
    assert_eq!(dns.ask("other.test", RecordType::A).await.code(), ResponseCode::NXDomain);
    assert_eq!(get(web, "/").await.body, "web");
    until("it is ready", async || {
        (get_by_socket(&admin, "/readyz").await.status == 200).then_some(())
    })
    .await;
    app.stop().await;
}

//! The metadata API: every route, version and form, who asks, polls that wait, and ten thousand of
//! them at rest.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portolan::app::App;
use portolan::catalog::RegistryState;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::child::Running;
use crate::clients::{Http, Response, get, get_by_socket, refuses, whole};
use crate::support::{
    Memory, address, granted, known, listing, load, replace, start, start_with, until, within,
};

const METADATA: &str = "[metadata]\nlisten = \"127.0.0.1:0\"\n";
/// Who asks when it does not matter.
const SOMEBODY: [u8; 4] = [127, 0, 0, 1];

/// One request from this address, on a connection of its own.
async fn ask(server: SocketAddr, from: [u8; 4], path: &str, headers: &str) -> Response {
    let mut stream = connect(server, from).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    within(path, stream.read_to_end(&mut bytes)).await.unwrap();
    whole(&bytes).unwrap_or_else(|| panic!("{path}: {:?}", String::from_utf8_lossy(&bytes))).0
}

async fn connect(server: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(from), 0).into()).unwrap();
    within("connect", socket.connect(server)).await.unwrap()
}

/// A poll that waits: its connection, on which nothing has come yet.
async fn poll(server: SocketAddr, path: &str, value: &str, more: &str) -> Http {
    let mut client = Http::to(server).await;
    client.send("GET", &format!("{path}?wait=true&value={value}{more}"), "").await;
    client
}

async fn polls_at_rest(app: &App, count: usize) {
    let line = format!("portolan_metadata_polls {count}");
    let admin = app.admin_address().unwrap();
    let there = async || {
        let metrics = get(admin, "/metrics").await.body;
        metrics.lines().any(|told| told == line).then_some(())
    };
    until(&line, there).await;
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metadata").join(name)
}

/// Holds `got` to the file; with PORTOLAN_GOLDEN=write it becomes the file, to be read by somebody.
fn holds(name: &str, got: &str) {
    let file = golden(name);
    if std::env::var_os("PORTOLAN_GOLDEN").is_some_and(|told| told == "write") {
        fs::write(&file, got).unwrap();
    }
    let want = fs::read_to_string(&file).unwrap_or_default();
    for (line, (got, want)) in got.lines().zip(want.lines()).enumerate() {
        assert_eq!(got, want, "{}:{}", file.display(), line + 1);
    }
    assert!(got == want, "{}: is longer or shorter", file.display());
}

/// All of `paths` in the three forms, as one text.
async fn told(server: SocketAddr, from: [u8; 4], version: &str, paths: &[&str]) -> String {
    let mut told = String::new();
    for path in paths {
        let path = format!("{version}{path}");
        for accept in ["text/plain", "application/json", "application/yaml"] {
            let response = ask(server, from, &path, &format!("Accept: {accept}\r\n")).await;
            let kind = response.header("content-type").unwrap();
            assert!(kind.starts_with(accept), "{path}: {kind}");
            let generation = response.generation().to_string();
            let body = response.body.replace(&generation, "GENERATION");
            let status = response.status;
            let _ = writeln!(told, "---- {path} {accept} {status}\n{body}");
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answers_file_is_told_as_it_was_always_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(golden("answers.json"), dir.path().join("answers.json")).unwrap();
    let text = format!(
        "[registry.answers.rancher-answers]\npath = \"answers.json\"\nkind = \"metadata\"\n{METADATA}"
    );
    let app = start(&text, dir.path()).await;
    known(&app, "shop.front", 1).await;
    let server = address(&app, "metadata").await;
    const PATHS: &[&str] = &[
        "",
        "/",
        "/who",
        "/version",
        "/nothing",
        "/half%2Fpath",
        "/half%2fpath/a+key",
        "/kinds",
        "/kinds/flag",
        "/kinds/number",
        "/kinds/half",
        "/kinds/round",
        "/kinds/text",
        "/kinds/empty",
        "/kinds/mixed",
        "/kinds/mixed/5/k",
        "/kinds/mixed/6/1/0",
        "/kinds/mixed/last%20one/uuid",
        "/kinds/none",
        "/kinds/void/",
        "/KINDS/Number",
        "/services",
        "/services/shop/containers/0",
        "/containers",
        "/containers/0/ports/0",
        "/containers/c0000000-0000-4000-8000-000000000002/primary_ip",
        "/later/only-this/uuid",
        "/self/container",
        "/self/service/token",
        "/nobody",
    ];
    let everybody = told(server, SOMEBODY, "", &["/", "/2014-01-01/who", "/favicon.ico"]).await;
    holds("answers.root.txt", &everybody);
    for version in ["2015-07-25", "2016-07-29", "latest"] {
        let mut all = told(server, SOMEBODY, &format!("/{version}"), PATHS).await;
        let own =
            ["/", "/who", "/self", "/self/container/name", "/self/service", "/self/service/token"];
        let _ = writeln!(all, "==== the container at 127.0.0.21");
        all += &told(server, [127, 0, 0, 21], &format!("/{version}"), &own).await;
        holds(&format!("answers.{version}.txt"), &all);
    }
    // What the file says, all of it, but for the version, which is the generation.
    let said: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(golden("answers.json")).unwrap()).unwrap();
    for version in ["2015-07-25", "2016-07-29"] {
        let path = format!("/{version}");
        let mut got = ask(server, SOMEBODY, &path, "Accept: application/json\r\n").await.json();
        let mut want = said[version]["default"].clone();
        assert!(got["version"].is_string());
        if let Some(round) = want.pointer_mut("/kinds/round") {
            // JSON knows no difference between 7.0 and 7, and Go writes the latter.
            *round = 7.into();
        }
        for table in [&mut got, &mut want] {
            table.as_object_mut().unwrap().remove("version");
        }
        assert_eq!(got, want, "{version}");
    }
    app.stop().await;
}

async fn catalog(dir: &Path, more: &str) -> (App, SocketAddr) {
    fs::copy(golden("services.toml"), dir.join("services.toml")).unwrap();
    let text = format!(
        "[registry.local.file]\npath = \"services.toml\"\n{METADATA}environment = \"main\"\n{more}"
    );
    let app = start(&text, dir).await;
    known(&app, "Web.Shop.prod", 2).await;
    let server = address(&app, "metadata").await;
    (app, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_is_told_in_the_words_of_containers_services_stacks_and_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let (app, server) = catalog(dir.path(), "").await;
    const PATHS: &[&str] = &[
        "",
        "/version",
        "/environment_name",
        "/environments",
        "/networks",
        "/services/web",
        "/services/2/name",
        "/services/web/containers/0",
        "/services/db/vip",
        "/hosts",
        "/hosts/node-a",
        "/hosts/1",
        "/containers/web-1",
        "/containers/c0ffee00-0000-4000-8000-000000000001/name",
        "/containers/web-2/health_state",
        "/containers/web-2/ports",
        "/containers/six",
        "/containers/named",
        "/self",
    ];
    let root = told(server, SOMEBODY, "", &["/", "/2014-01-01"]).await;
    holds("catalog.root.txt", &root);
    for version in ["2015-07-25", "2015-12-19", "2016-07-29", "latest"] {
        let mut all = told(server, SOMEBODY, &format!("/{version}"), PATHS).await;
        for list in [
            "/containers",
            "/services",
            "/stacks",
            "/services/web/containers",
            "/stacks/shop/services",
        ] {
            let listed = ask(server, SOMEBODY, &format!("/{version}{list}"), "").await.body;
            let _ = writeln!(all, "---- /{version}{list} text/plain 200\n{listed}");
        }
        let own = [
            "/self",
            "/self/container/name",
            "/self/service/name",
            "/self/stack/name",
            "/self/host",
        ];
        let _ = writeln!(all, "==== the container at 127.0.0.11");
        all += &told(server, [127, 0, 0, 11], &format!("/{version}"), &own).await;
        // The latest is the newest, word for word.
        all = all.replace("/latest", "/2016-07-29");
        let version = if version == "latest" { "2016-07-29" } else { version };
        holds(&format!("catalog.{version}.txt"), &all);
    }
    // All three forms are the same tree.
    let whole =
        ask(server, [127, 0, 0, 11], "/latest", "Accept: application/json\r\n").await.json();
    assert_eq!(whole["services"].as_array().unwrap().len(), 3);
    assert_eq!(whole["self"]["service"]["containers"], whole["services"][2]["containers"]);
    assert_eq!(whole["containers"].as_array().unwrap().len(), 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_told_by_the_connection_or_by_a_proxy_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (app, server) =
        catalog(dir.path(), "trusted_proxies = [\"127.0.0.1/32\", \"127.0.0.2/32\"]\n").await;
    for (case, from, forwarded, want) in [
        ("itself", [127, 0, 0, 11], "", "web-1"),
        ("another", [127, 0, 0, 13], "", "db-1"),
        ("nobody", [127, 0, 0, 9], "", "Not found\n"),
        ("a proxy for it", [127, 0, 0, 1], "127.0.0.11", "web-1"),
        ("two proxies", [127, 0, 0, 1], "127.0.0.12, 127.0.0.2", "web-2"),
        ("what a stranger says before", [127, 0, 0, 1], "127.0.0.11, 127.0.0.9", "Not found\n"),
        ("a stranger", [127, 0, 0, 9], "127.0.0.11", "Not found\n"),
        ("it itself says another", [127, 0, 0, 13], "127.0.0.11", "db-1"),
        ("with a port", [127, 0, 0, 1], "127.0.0.11:999", "web-1"),
        ("nonsense", [127, 0, 0, 1], "unknown", "Not found\n"),
        ("two lines", [127, 0, 0, 1], "127.0.0.12\r\nX-Forwarded-For: 127.0.0.2", "web-2"),
    ] {
        let headers = if forwarded.is_empty() {
            String::new()
        } else {
            format!("X-Forwarded-For: {forwarded}\r\n")
        };
        let told = ask(server, from, "/latest/self/container/name", &headers).await;
        assert_eq!(told.body, want, "{case}");
    }
    app.stop().await;
}

const FED: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, host], 80))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_is_answered_by_what_concerns_it_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new("memory");
    memory.tell("web", &[at(1)]);
    let app = start_with(&format!("{METADATA}{FED}"), dir.path(), &[&memory]).await;
    known(&app, "web", 1).await;
    let server = address(&app, "metadata").await;

    // What differs is told at once.
    let first =
        poll(server, "/latest/version", "init", "&maxWait=10").await.receive().await.unwrap();
    let mut generation: u64 = first.body.parse().unwrap();
    assert_eq!(first.generation(), generation);
    let web = get(server, "/latest/services/web").await;
    let tag = web.header("etag").unwrap().trim_matches('"').to_owned();

    let mut scale = poll(server, "/latest/services/web/scale", "1", "").await;
    let mut table = poll(server, "/latest/services/web", &tag, "").await;
    let mut later = poll(server, "/latest/services/db/scale", "", "").await;
    polls_at_rest(&app, 3).await;
    for round in 1..=20_u8 {
        let mut version = poll(server, "/latest/version", &generation.to_string(), "").await;
        polls_at_rest(&app, 4).await;
        memory.tell("other", &[at(100 + round)]);
        let told = version.receive().await.unwrap();
        let newer: u64 = told.body.parse().unwrap();
        assert!(newer > generation, "{newer} after {generation}");
        generation = newer;
        polls_at_rest(&app, 3).await;
    }
    // None of the others was answered; each is, by its own change.
    memory.tell("db", &[at(7)]);
    let told = later.receive().await.unwrap();
    assert_eq!((told.status, &*told.body), (200, "1"));
    polls_at_rest(&app, 2).await;
    memory.tell("web", &[at(1), at(2)]);
    let told = scale.receive().await.unwrap();
    assert_eq!((&*told.body, told.generation() > generation), ("2", true));
    let told = table.receive().await.unwrap();
    assert_eq!(told.status, 200);
    assert_ne!(told.header("etag").unwrap().trim_matches('"'), tag);
    // The connections go on.
    assert_eq!(scale.get("/latest/services/web/scale").await.body, "2");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_ends_by_its_time_by_a_drain_and_when_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new("memory");
    memory.tell("web", &[at(1)]);
    let text = format!("{METADATA}wait_max = \"300ms\"\npolls = 2\n{FED}");
    let app = start_with(&text, dir.path(), &[&memory]).await;
    known(&app, "web", 1).await;
    let server = address(&app, "metadata").await;
    // It asks for ever, and gets as long as it may have.
    let asked = Instant::now();
    let told = poll(server, "/latest/services/web/scale", "1", "&maxWait=999999").await;
    let told = { told }.receive().await.unwrap();
    assert_eq!((told.status, &*told.body), (200, "1"));
    assert!(asked.elapsed() >= Duration::from_millis(300));
    let told = poll(server, "/latest/nobody", "1", "").await.receive().await.unwrap();
    assert_eq!((told.status, &*told.body), (404, "Not found\n"));

    let text = text.replace("300ms", "100s");
    app.reload(load(&text, dir.path()).unwrap()).await.unwrap();
    let server = address(&app, "metadata").await;
    let mut first = poll(server, "/latest/services/web/scale", "1", "&maxWait=99").await;
    let second = poll(server, "/latest/services/web/scale", "1", "&maxWait=99").await;
    polls_at_rest(&app, 2).await;
    let refused =
        poll(server, "/latest/services/web/scale", "1", "").await.receive().await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    // Others are served all the same.
    assert_eq!(get(server, "/latest/services/web/scale").await.body, "1");
    drop(second);
    polls_at_rest(&app, 1).await;
    // What comes behind a poll waits for its turn.
    first.send("GET", "/latest/services/web/name", "").await;
    app.drain(Duration::ZERO).await;
    let told = first.receive().await.unwrap();
    assert_eq!((told.status, &*told.body, told.header("connection")), (200, "1", Some("close")));
    refuses(server).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_after_a_state_was_shown_is_told_that_or_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new("memory");
    let app = start_with(METADATA, dir.path(), &[&memory]).await;
    let mut client = Http::to(address(&app, "metadata").await).await;
    for round in 1..=100_u8 {
        memory.tell("web", &[at(round)]);
        let there = |snapshot: &portolan::catalog::Snapshot| {
            let web = snapshot.service("web");
            web.is_some_and(|web| {
                web.instances[0].address.to_string().ends_with(&format!(".{round}"))
            })
        };
        within("published", app.published(there)).await;
        let shown = app.tables().snapshot.generation;
        let told = client.get("/latest/containers/0/primary_ip").await;
        assert_eq!(told.body, format!("127.0.0.{round}"));
        assert!(told.generation() >= shown);
        let version: u64 = client.get("/latest/version").await.body.parse().unwrap();
        assert!(version >= shown);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answers_file_is_followed_and_survives_a_restart_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answers.json");
    fs::write(&file, "{\"default\": {\"who\": \"one\"}}").unwrap();
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[registry.answers.rancher-answers]\npath = \"answers.json\"\n\
         kind = \"metadata\"\n{METADATA}{FED}"
    );
    let app = start(&text, dir.path()).await;
    let heard = |snapshot: &portolan::catalog::Snapshot| !snapshot.documents.is_empty();
    within("heard", app.published(heard)).await;
    let server = address(&app, "metadata").await;
    let mut waiting = poll(server, "/latest/who", "one", "").await;
    polls_at_rest(&app, 1).await;
    replace(&file, "{\"default\": {\"who\": \"two\"}}");
    assert_eq!(waiting.receive().await.unwrap().body, "two");
    app.stop().await;
    fs::remove_file(&file).unwrap();
    let app = start(&text, dir.path()).await;
    let server = address(&app, "metadata").await;
    assert_eq!(get(server, "/2016-07-29/who").await.body, "two");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_hostile_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (app, server) = catalog(dir.path(), "response_max = \"4KiB\"\n").await;
    let long = "a".repeat(8000);
    let deep = "/a".repeat(4000);
    let beyond = "a".repeat(20_000);
    for (case, path, want) in [
        ("up", "/latest/../../etc/passwd", 404),
        ("up, escaped", "/latest/%2e%2e/%2e%2e", 404),
        ("nul", "/latest/%00", 404),
        ("no UTF-8", "/latest/%ff%fe", 404),
        ("half an escape", "/latest/%f", 400),
        ("long", &format!("/latest/{long}"), 404),
        ("deep", &format!("/latest{deep}"), 404),
        ("too long", &format!("/latest/{beyond}"), 431),
        ("a huge index", "/latest/containers/99999999999999999999999", 404),
        ("a negative one", "/latest/containers/-1", 404),
        ("slashes", "/latest///services////web/name//", 200),
        ("no version", "/nobody/services", 404),
        ("a whole URL", "http://rancher-metadata/latest/services", 200),
        ("too large", "/latest/containers", 200),
    ] {
        assert_eq!(ask(server, SOMEBODY, path, "").await.status, want, "{case}");
    }
    let large = ask(server, SOMEBODY, "/latest", "Accept: application/json\r\n").await;
    assert_eq!((large.status, large.body.contains("response_max")), (500, true));
    for (case, bytes, want) in [
        (
            "another method",
            "POST /latest HTTP/1.1\r\nHost: a\r\n\r\n",
            Some("405 Method Not Allowed"),
        ),
        (
            "a body",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            Some("413 Content Too Large"),
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n", Some("400 Bad Request")),
        ("not HTTP", "\u{16}\u{3}\u{1}\u{2}hello\r\n\r\n", Some("400 Bad Request")),
        ("an old one", "GET /latest/services/web/name HTTP/1.0\r\n\r\n", Some("200 OK")),
    ] {
        let mut stream = connect(server, SOMEBODY).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        within(case, stream.read_to_end(&mut told)).await.unwrap();
        let told = String::from_utf8(told).unwrap();
        let status = told.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        assert_eq!(status, want, "{case}: {told}");
    }
    // Two at once, byte by byte, and only the head.
    let mut client = Http::to(server).await;
    client.send("GET", "/latest/services/web/name", "").await;
    client.send("GET", "/latest/services/db/name", "").await;
    assert_eq!(client.receive().await.unwrap().body, "web");
    assert_eq!(client.receive().await.unwrap().body, "db");
    let mut stream = connect(server, SOMEBODY).await;
    for byte in b"HEAD /latest/services HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
    }
    let mut told = String::new();
    within("a head", stream.read_to_string(&mut told)).await.unwrap();
    assert!(told.contains("\r\nContent-Length: 21\r\n") && told.ends_with("\r\n\r\n"), "{told}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_opens_changes_and_closes_it() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new("memory");
    memory.tell("web", &[at(1)]);
    let app = start_with(FED, dir.path(), &[&memory]).await;
    known(&app, "web", 1).await;
    assert!(app.addresses("metadata").await.is_empty());
    let reload = async |text: &str| app.reload(load(text, dir.path()).unwrap()).await.unwrap();
    let report = reload(&format!("{METADATA}{FED}")).await;
    assert_eq!(report.changed, ["metadata"]);
    let server = address(&app, "metadata").await;
    let mut client = Http::to(server).await;
    assert_eq!(client.get("/latest/environment_name").await.body, "default");
    // Another setting counts for connections that are open.
    reload(&format!("{METADATA}environment = \"other\"\n{FED}")).await;
    assert_eq!(client.get("/latest/environment_name").await.body, "other");
    assert_eq!(client.get("/latest/stacks/default/environment_name").await.body, "other");
    assert_eq!(address(&app, "metadata").await, server);
    let two = format!("[metadata]\nlisten = [\"{server}\", \"127.0.0.2:0\"]\n{FED}");
    reload(&two).await;
    assert_eq!(app.addresses("metadata").await.len(), 2);
    // Closed, a poll is told what is so, and an idle connection ends.
    let mut waiting = poll(server, "/latest/services/web/scale", "1", "").await;
    polls_at_rest(&app, 1).await;
    reload(FED).await;
    assert_eq!(waiting.receive().await.unwrap().body, "1");
    client.closed().await;
    refuses(server).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_not_shown_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, hidden) = (Memory::new("seen"), Memory::new("hidden"));
    seen.tell("web", &[at(1)]);
    hidden.tell("web", &[at(2)]);
    hidden.tell("db", &[at(3)]);
    let text = "[registry.seen.file]\npath = \"none.toml\"\nrequired = false\n[metadata]\n\
                listen = \"127.0.0.1:0\"\nregistries = [\"seen\"]\n";
    let app = start_with(text, dir.path(), &[&seen, &hidden]).await;
    known(&app, "db", 1).await;
    known(&app, "web", 2).await;
    let server = address(&app, "metadata").await;
    assert_eq!(get(server, "/latest/services").await.body, "0=web\n");
    assert_eq!(get(server, "/latest/containers").await.body, "0=127.0.0.1%3A80\n");
    hidden.say(RegistryState::Live(portolan::catalog::RegistryView::default()));
    known(&app, "web", 1).await;
    assert_eq!(get(server, "/latest/containers").await.body, "0=127.0.0.1%3A80\n");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_registry_has_spoken_of_yet_is_not_called_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Memory::new("first"), Memory::new("second"));
    first.tell("web", &[at(1)]);
    second.tell("db", &[at(3)]);
    let spoken = second.view();
    second.say(RegistryState::Syncing);
    let app = start_with(&format!("{METADATA}{FED}"), dir.path(), &[&first, &second]).await;
    known(&app, "web", 1).await;
    let server = address(&app, "metadata").await;
    assert_eq!(get(server, "/latest/services/web/name").await.body, "web");
    assert_eq!(get(server, "/latest/services/db/name").await.status, 503);
    let mut waiting = poll(server, "/latest/services/db/name", "", "").await;
    polls_at_rest(&app, 1).await;
    second.say(RegistryState::Live(spoken));
    assert_eq!(waiting.receive().await.unwrap().body, "db");
    assert_eq!(get(server, "/latest/services/nobody/name").await.status, 404);
    app.stop().await;
}

/// Polls at rest.
const POLLS: usize = 10_000;
/// Resident memory of the process with all of them.
const MEMORY_MAX: u64 = 100 << 20;
/// From a change to the last answer: what is promised, and what code has that is not optimised.
const ANSWERED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 4000 } else { 1000 });

fn resident(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The server is a process of its own, and so are we, its clients: each has its descriptors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_polls_rest_in_little_memory_and_are_answered_at_once() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let services = dir.path().join("services.toml");
    fs::write(&services, listing("web", &[("a", at(9))])).unwrap();
    let socket = dir.path().join("admin.sock");
    let text = format!(
        "[node]\nworkers = 1\n[registry.local.file]\npath = \"services.toml\"\n{METADATA}\
         [admin]\nsocket = \"{}\"\n",
        socket.display()
    );
    fs::write(dir.path().join("portolan.toml"), text).unwrap();
    let mut running = Running::start(&dir.path().join("portolan.toml")).await;
    running.ready(&socket).await;
    let server = running.address("metadata").await;
    let generation = get(server, "/latest/version").await.body;
    let empty = resident(running.id());

    // Most wait for any change, others for one of their own path, as different as may be.
    let path = |number: usize| match number % 10 {
        0 => format!("/latest/services/web/scale?wait=true&value=1&maxWait=120&{number}"),
        1 => "/latest/self/container/uuid?wait=true&value=none&maxWait=120".to_owned(),
        2 => format!("/latest/services/later-{number}/name?wait=true&value=&maxWait=120"),
        _ => format!("/latest/version?wait=true&value={generation}&maxWait=120"),
    };
    let mut clients = Vec::with_capacity(POLLS);
    for number in 0..POLLS {
        let mut stream = within("connect", TcpStream::connect(server)).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", path(number));
        stream.write_all(request.as_bytes()).await.unwrap();
        clients.push((number, stream));
    }
    let all = format!("portolan_metadata_polls {POLLS}");
    let resting = async || {
        let metrics = get_by_socket(&socket, "/metrics").await.body;
        metrics.lines().any(|line| line == all).then_some(())
    };
    until(&all, resting).await;
    let with = resident(running.id());

    // The only change that all of them wait for: a second instance, our own address, and names.
    let mut changed = listing("web", &[("a", at(9)), ("b", at(1))]);
    for number in (2..POLLS).step_by(10) {
        let _ = writeln!(changed, "[service.later-{number}]");
    }
    let mut answers = JoinSet::new();
    for (number, mut stream) in clients {
        answers.spawn(async move {
            let mut read = Vec::with_capacity(512);
            while whole(&read).is_none() {
                assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{number} was closed");
            }
            (number, whole(&read).unwrap().0.status, stream)
        });
    }
    let started = Instant::now();
    replace(&services, &changed);
    let mut open = Vec::with_capacity(POLLS);
    within("all answers", async {
        while let Some(answer) = answers.join_next().await {
            let (number, status, stream) = answer.unwrap();
            assert_eq!(status, 200, "{number}");
            open.push(stream);
        }
    })
    .await;
    let answered = started.elapsed();
    let after = resident(running.id());
    let mib = |bytes: u64| bytes >> 20;
    let report = format!(
        "{POLLS} polls: {} MiB resident with them at rest, {} before, {} after; {} bytes each; the \
         last answered {answered:?} after the change",
        mib(with),
        mib(empty),
        mib(after),
        with.saturating_sub(empty) / POLLS as u64
    );
    println!("{report}");
    assert!(with <= MEMORY_MAX && after <= MEMORY_MAX, "{report}");
    assert!(answered <= granted(ANSWERED), "{report}");
    drop(open);
    running.signal(rustix::process::Signal::TERM);
    assert!(running.ended().await.success());
}

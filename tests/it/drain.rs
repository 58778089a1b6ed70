//! The drain contract: who leaves has its time and is cut then; operators drain, take out and weigh,
//! by API and command line; and everybody who waits is told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use portolan::catalog::model::{Meta, Node};
use portolan::catalog::{Health, Instance, Presence, SourceService};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::child::{Running, portolan};
use crate::origin::{Exchange, OK, Origin};
use crate::rig::{Client, Rig, instance, service, within};
use crate::support::{listing, replace, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const TO_THE_END: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";

/// Answers by the path: a tunnel that shouts, a download that goes on by every byte that `go` tells
/// of, or nothing special.
async fn slow() -> (Origin, tokio::sync::watch::Sender<usize>) {
    let (go, wait) = tokio::sync::watch::channel(1);
    let origin = Origin::start(move |exchange| answer(exchange, wait.clone())).await;
    (origin, go)
}

async fn answer(mut exchange: Exchange, mut go: tokio::sync::watch::Receiver<usize>) -> Option<()> {
    loop {
        let head = exchange.head().await?;
        let path = head.split(' ').nth(1)?.to_owned();
        let (start, chunked) = match &*path {
            "/chat" => {
                exchange.send(SWITCHING).await?;
                loop {
                    let bytes = exchange.some().await?;
                    exchange.send(bytes.to_ascii_uppercase()).await?;
                }
            }
            "/chunked" => (CHUNKED, true),
            "/close" => (TO_THE_END, false),
            "/long" | "/long?a=b" => (LONG, false),
            "/mute" => return exchange.rest().await,
            _ => {
                exchange.send(OK).await?;
                continue;
            }
        };
        exchange.send(start).await?;
        let mut sent = 0;
        while sent < 1000 {
            let more = async { go.wait_for(|until| *until > sent).await.ok().map(|until| *until) };
            let until = tokio::select! {
                until = more => until?,
                // Nobody says anything meanwhile; an end is noted.
                said = exchange.some() => {
                    said?;
                    continue;
                }
            };
            for _ in sent..until.min(1000) {
                exchange.send(if chunked { "1\r\nx\r\n" } else { "x" }).await?;
            }
            sent = until.min(1000);
        }
        if chunked {
            exchange.send("0\r\n\r\n").await?;
        } else if path == "/close" {
            return Some(());
        }
    }
}

/// A rig with the listeners `web` (HTTP) and `raw` (TCP) before the service `web`, of which what
/// runs has `drain`.
async fn rig(drain: &str, more: &str, instances: Vec<Instance>) -> Rig {
    let config = format!(
        "[node]\nworkers = 2\ndata_dir = \"data\"\n\
         [service.web]\npolicy = \"round-robin\"\ndrain = \"{drain}\"\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [listener.raw.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n{more}"
    );
    Rig::start(&config, vec![of(instances)]).await
}

fn of(instances: Vec<Instance>) -> SourceService {
    SourceService {
        instances: instances.into_iter().map(Arc::new).collect(),
        ..service("web", &[])
    }
}

fn on(node: &str, instance: Instance) -> Instance {
    let node = Node { name: node.into(), address: None, meta: Meta::default() };
    Instance { node: Some(node), ..instance }
}

/// A download that has begun.
async fn begun(rig: &Rig, path: &str) -> Client {
    let mut client = rig.client().await;
    // One that knows no chunks gets the end of the body by the end of the connection.
    let version = if path == "/close" { "1.0" } else { "1.1" };
    client.send(format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n")).await;
    let head = String::from_utf8(client.until("\r\n\r\n").await).unwrap().to_ascii_lowercase();
    let framing = match path {
        "/chunked" => "chunked",
        "/long" => "content-length: 1000",
        _ => "connection: close",
    };
    assert!(head.contains(framing), "{path}: {head}");
    client
}

async fn tunnel(rig: &Rig) -> Client {
    let mut client = rig.client().await;
    client.send(UPGRADE).await;
    assert_eq!(client.answer().await.status, 101);
    client
}

async fn shouts(client: &mut Client, word: &str) {
    client.send(word).await;
    assert_eq!(client.bytes(word.len()).await, word.to_ascii_uppercase().as_bytes());
}

/// A connection through the listener `raw` in which the origin answers one request.
async fn raw(rig: &Rig) -> Client {
    let mut client = Client::connect(rig.address("raw").await).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 200);
    client
}

/// One request to the admin face over the unix socket.
async fn admin(rig: &Rig, method: &str, path: &str, body: &Value) -> (u16, Value) {
    admin_at(&rig.directory().join("admin.sock"), method, path, body).await
}

async fn admin_at(socket: &Path, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let stream = within("the admin socket", UnixStream::connect(socket)).await.unwrap();
    exchange(stream, method, path, "", body).await
}

async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
    body: &Value,
) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    within("the admin face", stream.read_to_string(&mut text)).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| body.to_owned().into()))
}

/// The lines of an audit log.
fn audited(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Receives what is posted, and answers so often with 500 first.
async fn receiver(failures: usize) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(failures));
    let take = move |body: axum::body::Bytes| {
        let fails = left
            .fetch_update(
                std::sync::atomic::Ordering::SeqCst,
                std::sync::atomic::Ordering::SeqCst,
                |left| left.checked_sub(1),
            )
            .is_ok();
        if !fails {
            sender.send(serde_json::from_slice(&body).unwrap()).unwrap();
        }
        let status = if fails { 500 } else { 204 };
        std::future::ready(StatusCode::from_u16(status).unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/drained", axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_at_an_instance_that_left_goes_on_to_its_end() {
    let (old, go) = slow().await;
    let new = Origin::answering(OK).await;
    let rig = rig("30s", "", vec![instance("old", old.address)]).await;
    let mut downloads = Vec::new();
    for path in ["/chunked", "/close", "/long"] {
        downloads.push((path, begun(&rig, path).await));
    }
    let (mut chat, mut tcp) = (tunnel(&rig).await, raw(&rig).await);
    rig.metric_is("portolan_proxy_leaving_in_flight", 0.0).await;

    rig.tell(vec![of(vec![instance("new", new.address)])]).await;
    rig.metric_is("portolan_proxy_leaving_in_flight", 5.0).await;
    // Nothing new from that generation on.
    old.forget();
    for _ in 0..20 {
        assert_eq!(rig.ask(GET).await.status, 200);
        raw(&rig).await;
    }
    assert_eq!(old.text(), "");
    // What runs goes on, as long as it takes.
    shouts(&mut chat, "still here").await;
    tcp.send(GET).await;
    assert_eq!(tcp.answer().await.status, 200);
    go.send_replace(1000);
    for (path, mut client) in downloads {
        let body = match path {
            "/chunked" => client.until("0\r\n\r\n").await,
            "/close" => client.rest().await,
            _ => client.bytes(1000).await,
        };
        assert_eq!(String::from_utf8_lossy(&body).matches('x').count(), 1000, "{path}");
    }
    drop((chat, tcp));
    rig.metric_is("portolan_proxy_leaving_in_flight", 0.0).await;
    let cut = rig.metric("portolan_proxy_cut_total{listener=\"web\",reason=\"left\"}").await;
    assert!(cut.unwrap_or(0.0) < 0.5, "{cut:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_deadline_what_still_runs_is_cut_visibly_and_counted() {
    let drain = Duration::from_secs(2);
    for leaving in [false, true] {
        let (old, _go) = slow().await;
        let new = Origin::answering(OK).await;
        let rig = rig("2s", "", vec![instance("old", old.address)]).await;
        let mut clients = Vec::new();
        for path in ["/chunked", "/close", "/long"] {
            clients.push((path, begun(&rig, path).await));
        }
        clients.push(("/chat", tunnel(&rig).await));
        clients.push(("tcp", raw(&rig).await));

        let mut now = vec![instance("new", new.address)];
        if leaving {
            let old = instance("old", old.address);
            now.push(Instance { presence: Presence::Leaving, ..old });
        }
        let began = Instant::now();
        rig.tell(vec![of(now)]).await;
        for (what, client) in &mut clients {
            assert!(
                client.is_reset().await,
                "{what}: an orderly end would look like a whole answer"
            );
            assert!(began.elapsed() >= drain, "{what}: cut after {:?}", began.elapsed());
        }
        // The origin sees the end of all of them as well.
        old.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
        rig.metric_is("portolan_proxy_cut_total{listener=\"web\",reason=\"left\"}", 4.0).await;
        rig.metric_is("portolan_proxy_cut_total{listener=\"raw\",reason=\"left\"}", 1.0).await;
        rig.metric_is("portolan_proxy_leaving_endpoints", 0.0).await;
        assert_eq!(rig.ask(GET).await.status, 200, "others go on");
        // One that is back at the same address, as a container that was started anew, starts anew.
        rig.tell(vec![of(vec![instance("old", old.address)])]).await;
        assert_eq!(rig.ask(GET).await.status, 200, "what was cut is over");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_has_its_line_in_the_access_log_with_what_was_sent_and_why() {
    let (old, go) = slow().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let config = format!(
        "[node]\nworkers = 1\n[service.web]\ndrain = \"300ms\"\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         access_log = {{ to = {file:?}, sample = \"0%\" }}\n"
    );
    let rig = Rig::start(&config, vec![of(vec![instance("old", old.address)])]).await;
    let mut clients = Vec::new();
    for path in ["/chunked", "/long?a=b"] {
        let mut client = rig.client().await;
        let lines = "User-Agent: t/1\r\nReferer: http://b/\r\nContent-Length: 2\r\n";
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\nhi")).await;
        client.until("\r\n\r\n").await;
        clients.push(client);
    }
    // Seven bytes of each body, which the chunked one has as chunks.
    go.send(7).unwrap();
    for _ in 0..7 {
        clients[0].until("x").await;
    }
    clients[1].bytes(7).await;
    let mut chat = tunnel(&rig).await;
    shouts(&mut chat, "hello").await;
    clients.push(chat);
    // One that has no answer yet.
    let mut mute = rig.client().await;
    mute.send("GET /mute HTTP/1.1\r\nHost: a\r\n\r\n").await;
    old.seen("the request", |_| old.text().contains("/mute")).await;
    clients.push(mute);

    let new = Origin::answering(OK).await;
    rig.tell(vec![of(vec![instance("new", new.address)])]).await;
    for client in &mut clients {
        assert!(client.is_reset().await);
    }
    let lines = until("four lines", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= 4).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for (path, query, status, bytes, agent) in [
        ("/chunked", None, Some(200), (2, 7), Some("t/1")),
        ("/long", Some("a=b"), Some(200), (2, 7), Some("t/1")),
        ("/chat", None, Some(101), (5, 5), None),
        ("/mute", None, None, (0, 0), None),
    ] {
        let line = lines.iter().find(|line| line["path"] == path).unwrap();
        assert_eq!(line["error"], "cut-left", "{line}");
        assert_eq!(line["status"].as_u64(), status, "{line}");
        assert_eq!(line["query"].as_str(), query, "{line}");
        assert_eq!(line["user_agent"].as_str(), agent, "{line}");
        assert_eq!((&line["host"], &line["route"]), (&json!("a"), &json!("all")), "{line}");
        assert_eq!((&line["instance"], &line["attempts"]), (&json!("old"), &json!(1)), "{line}");
        let got = (line["bytes_in"].as_u64().unwrap(), line["bytes_out"].as_u64().unwrap());
        assert_eq!(got, bytes, "{line}");
        assert!(line["duration_ms"].as_f64().unwrap() >= 300.0, "{line}");
    }
    let errors =
        "portolan_proxy_request_errors_total{listener=\"web\",reason=\"cut\",route=\"all\"}";
    rig.metric_is(errors, 4.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_with_the_end_of_the_process_has_its_line_too() {
    let (origin, _go) = slow().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let config = format!(
        "[node]\nworkers = 1\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\naccess_log = {{ to = {file:?} }}\n"
    );
    let rig = Rig::start(&config, vec![of(vec![instance("old", origin.address)])]).await;
    let mut client = begun(&rig, "/long").await;
    client.bytes(1).await;
    within("the end", rig.app.stop()).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let line: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!((&line["error"], &line["path"]), (&json!("cut-stopped"), &json!("/long")), "{line}");
    assert_eq!((&line["status"], &line["bytes_out"]), (&json!(200), &json!(1)), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_back_in_time_or_merely_fails_is_not_cut() {
    let (old, go) = slow().await;
    let rig = rig("3s", "", vec![instance("old", old.address)]).await;
    let mut chat = tunnel(&rig).await;
    let mut download = begun(&rig, "/chunked").await;
    rig.tell(vec![of(vec![])]).await;
    shouts(&mut chat, "gone").await;
    // Back before its deadline, and still there long after it: as one that fails.
    rig.tell(vec![of(vec![instance("old", old.address)])]).await;
    let sick = Instance { health: Health::Unhealthy, ..instance("old", old.address) };
    rig.tell(vec![of(vec![sick])]).await;
    assert_eq!(rig.ask(GET).await.status, 503);
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        shouts(&mut chat, "still here").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A reload that takes the route away changes nothing for it, nor for what comes then.
    rig.reload(
        "[node]\nworkers = 2\ndata_dir = \"data\"\n[service.web]\ndrain = \"3s\"\n\
         [listener.raw.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"other\"\n",
    )
    .await;
    shouts(&mut chat, "without a route").await;
    go.send_replace(1000);
    download.until("0\r\n\r\n").await;
    rig.tell(vec![of(vec![])]).await;
    assert!(chat.is_reset().await, "left, with nobody who leads there any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_maintenance_and_weight_are_in_force_when_they_are_answered() {
    let (a, b) = (Origin::answering(OK).await, Origin::answering(OK).await);
    let instances = || vec![instance("a", a.address), instance("b", b.address)];
    let rig = rig("30s", "", instances()).await;
    let reach = async || {
        a.forget();
        b.forget();
        for _ in 0..30 {
            assert_eq!(rig.ask(GET).await.status, 200);
        }
        (!a.text().is_empty(), !b.text().is_empty())
    };
    assert_eq!(reach().await, (true, true));
    for (path, does, state) in
        [("/v1/drain", "drain", "draining"), ("/v1/maintenance", "maintenance", "unhealthy")]
    {
        let order = json!({ "id": "a", "reason": "new disk" });
        let (status, told) = admin(&rig, "POST", path, &order).await;
        assert_eq!(status, 200, "{told}");
        let operation = &told["operation"];
        assert_eq!((&operation["does"], &operation["reason"]), (&json!(does), &json!("new disk")));
        assert_eq!(operation["instances"][0]["state"], state);
        assert!(operation["who"].as_str().unwrap().starts_with("uid "), "{operation}");
        assert_eq!(reach().await, (false, true), "{does}");
        let (_, why) = admin(&rig, "GET", "/v1/why?service=web", &Value::Null).await;
        let text = why["instances"][0].to_string();
        assert!(text.contains("new disk") && text.contains("operator uid"), "{text}");
        let (_, status) = admin(&rig, "GET", "/v1/status", &Value::Null).await;
        assert_eq!(status["operations"][0]["does"], does);
        let (status, told) = admin(&rig, "POST", "/v1/ready", &json!({ "id": "a" })).await;
        assert_eq!((status, &told["undone"]), (200, &json!(true)), "{told}");
        assert_eq!(reach().await, (true, true), "ready again after {does}");
    }
    let order = json!({ "id": "b", "weight": 0 });
    let (status, told) = admin(&rig, "POST", "/v1/weight", &order).await;
    assert_eq!((status, &told["operation"]["weight"]), (200, &json!(0)), "{told}");
    assert_eq!(reach().await, (true, false), "weight");
    let number = told["operation"]["number"].as_u64().unwrap();
    rig.metric_is("portolan_operations{does=\"weight\"}", 1.0).await;
    let path = format!("/v1/operations/{number}");
    assert_eq!(admin(&rig, "DELETE", &path, &Value::Null).await.0, 200);
    assert_eq!(admin(&rig, "DELETE", &path, &Value::Null).await.0, 404);
    assert_eq!(reach().await, (true, true));
    for (path, order, status, part) in [
        ("/v1/drain", json!({ "id": "z" }), 404, "\"z\""),
        ("/v1/drain", json!({ "node": "z" }), 404, "\"z\""),
        ("/v1/drain", json!({}), 400, "`id`"),
        ("/v1/drain", json!({ "id": "a", "zzz": 1 }), 400, "zzz"),
        ("/v1/weight", json!({ "id": "a", "weight": 1001 }), 400, "1000"),
        ("/v1/ready", json!({ "id": "a" }), 404, "mem/web/a"),
    ] {
        let (found, told) = admin(&rig, "POST", path, &order).await;
        assert_eq!(found, status, "{path} {order}: {told}");
        assert!(told.as_str().unwrap().contains(part), "{path} {order}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_deadline_cuts_and_every_change_is_noted() {
    let (old, _go) = slow().await;
    let rig = rig("30s", "", vec![instance("old", old.address)]).await;
    let (mut chat, mut tcp) = (tunnel(&rig).await, raw(&rig).await);
    let began = Instant::now();
    let order = json!({ "id": "old", "deadline": "3s", "reason": "rack 7" });
    let (status, told) = admin(&rig, "POST", "/v1/drain", &order).await;
    assert_eq!((status, &told["operation"]["in_flight"]), (200, &json!(2)), "{told}");
    shouts(&mut chat, "still here").await;
    assert!(chat.is_reset().await && tcp.is_reset().await);
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    rig.metric_is("portolan_proxy_cut_total{listener=\"web\",reason=\"deadline\"}", 1.0).await;
    // The deadline is noted beside the cut: what comes next has its line behind it.
    let file = rig.directory().join("data/audit.jsonl");
    let noted =
        async |count| until("lines", async || (audited(&file).len() >= count).then_some(())).await;
    noted(2).await;
    admin(&rig, "POST", "/v1/drain", &json!({ "id": "nobody", "reason": "a typo" })).await;
    admin(&rig, "POST", "/v1/ready", &json!({ "id": "old" })).await;
    assert_eq!(rig.ask(GET).await.status, 200, "ready again");
    noted(4).await;
    let lines = audited(&file);
    let told: Vec<_> = lines
        .iter()
        .map(|l| (l["what"].as_str().unwrap(), l["target"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("drain", "mem/web/old"),
            ("deadline", "mem/web/old"),
            ("drain", "nobody"),
            ("undo", "mem/web/old")
        ]
    );
    assert_eq!((&lines[0]["reason"], &lines[0]["result"]), (&json!("rack 7"), &json!("done")));
    assert!(lines[0]["who"].as_str().unwrap().starts_with("uid "), "{}", lines[0]);
    assert!(lines[2]["result"].as_str().unwrap().contains("refused"), "{}", lines[2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_with_the_instances_that_come_later() {
    let (a, b) = (Origin::answering(OK).await, Origin::answering(OK).await);
    let first = vec![on("one", instance("a", a.address)), on("two", instance("b", b.address))];
    let rig = rig("30s", "", first.clone()).await;
    let (status, told) = admin(&rig, "POST", "/v1/drain", &json!({ "node": "one" })).await;
    assert_eq!((status, told["operation"]["instances"].as_array().unwrap().len()), (200, 1));
    let c = Origin::answering(OK).await;
    let mut all = first;
    all.push(on("one", instance("c", c.address)));
    // The rig waits for instances as they are told; these are changed by the operator.
    rig.say(vec![of(all)]);
    let drained = rig.app.published(|snapshot| {
        let web = snapshot.service("web").unwrap();
        web.instances.len() == 3 && web.eligible.len() == 1
    });
    within("the later one is drained too", drained).await;
    for _ in 0..30 {
        assert_eq!(rig.ask(GET).await.status, 200);
    }
    assert_eq!((a.text(), c.text()), (String::new(), String::new()));
    let (_, told) = admin(&rig, "GET", "/v1/operations", &Value::Null).await;
    assert_eq!(told["operations"][0]["instances"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_destroy_an_instance_is_told_once_when_it_is_empty() {
    let (hook, mut events) = receiver(2).await;
    let (old, go) = slow().await;
    let more =
        format!("[operations.webhook]\nurl = \"http://{hook}/drained\"\nretry_min = \"10ms\"\n");
    let web = || on("host-1", instance("old", old.address));
    let rig = rig("30s", &more, vec![web(), instance("other", old.address)]).await;
    // It has both ways: drained by an operator, or gone from its registry.
    let mut download = begun(&rig, "/long").await;
    let other = begun(&rig, "/long").await;
    let (_, told) = admin(&rig, "POST", "/v1/drain", &json!({ "id": "old" })).await;
    let (_, twice) = admin(&rig, "POST", "/v1/drain", &json!({ "id": "other" })).await;
    let sum = |told: &Value| told["operation"]["in_flight"].as_u64().unwrap();
    assert_eq!(sum(&told) + sum(&twice), 2);
    tokio::time::sleep(Duration::from_millis(500)).await;
    go.send_replace(1000);
    download.bytes(1000).await;
    drop(other);
    let mut first = Vec::new();
    for _ in 0..2 {
        first.push(within("an event", events.recv()).await.unwrap());
    }
    first.sort_by_key(|event| event["id"].to_string());
    let event = &first[0];
    assert_eq!((&event["event"], &event["state"]), (&json!("drained"), &json!("draining")));
    assert_eq!((&event["id"], &event["service"]), (&json!("old"), &json!("web")));
    assert_eq!((&event["node"], &event["in_flight"]), (&json!("host-1"), &json!(0)));
    assert_eq!(event["port"], json!(old.address.port()));
    assert_eq!(event["address"], json!(old.address.ip().to_string()));
    assert!(event["generation"].is_u64() && event["since"].is_string(), "{event}");
    assert_eq!(first[1]["id"], json!("other"));

    // One that leaves with a request that runs.
    let new = slow().await;
    rig.say(vec![of(vec![instance("new", new.0.address)])]);
    within("published", rig.app.published(|s| s.service("web").unwrap().eligible.len() == 1)).await;
    let mut last = begun(&rig, "/long").await;
    rig.tell(vec![of(vec![])]).await;
    rig.metric_is("portolan_proxy_leaving_in_flight", 1.0).await;
    new.1.send_replace(1000);
    last.bytes(1000).await;
    let event = within("an event", events.recv()).await.unwrap();
    assert_eq!((&event["id"], &event["state"]), (&json!("new"), &json!("leaving")));
    rig.metric_is("portolan_operations_drained_events_total{end=\"acknowledged\"}", 3.0).await;
    assert!(events.try_recv().is_err(), "each is told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_over_tcp_need_the_token() {
    let origin = Origin::answering(OK).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "secret\n").unwrap();
    let services = listing("web", &[("a", origin.address)]);
    std::fs::write(directory.path().join("services.toml"), services).unwrap();
    let text = "[registry.local.file]\npath = \"services.toml\"\n\
                [listener.raw.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n\
                [operations]\naudit_log = \"changes.jsonl\"\n\
                [admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n";
    let app = crate::support::start(text, directory.path()).await;
    crate::support::known(&app, "web", 1).await;
    let ask = async |method: &str, path: &str, headers: &str| {
        let stream = TcpStream::connect(app.admin_address().unwrap()).await.unwrap();
        exchange(stream, method, path, headers, &json!({ "id": "a" })).await
    };
    let bearer = "Authorization: Bearer secret\r\n";
    for (method, path) in [
        ("POST", "/v1/drain"),
        ("POST", "/v1/maintenance"),
        ("POST", "/v1/weight"),
        ("POST", "/v1/ready"),
        ("DELETE", "/v1/operations/1"),
    ] {
        assert_eq!(ask(method, path, "").await.0, 401, "{method} {path}");
        let wrong = "Authorization: Bearer secreT\r\n";
        assert_eq!(ask(method, path, wrong).await.0, 401, "{method} {path}");
    }
    let eligible = || app.tables().snapshot.service("web").unwrap().eligible.len();
    assert_eq!(eligible(), 1);
    assert_eq!(ask("GET", "/v1/operations", "").await.0, 200, "reading is free on loopback");
    assert_eq!(ask("POST", "/v1/drain", bearer).await.0, 200);
    assert_eq!(eligible(), 0);
    let lines = audited(&directory.path().join("changes.jsonl"));
    assert!(lines[0]["who"].as_str().unwrap().starts_with("127.0.0.1:"), "{lines:?}");
    app.stop().await;
}

/// A process before `origin`, and its configuration.
async fn process(origin: SocketAddr) -> (TempDir, Running, String) {
    let directory = tempfile::tempdir().unwrap();
    let services = listing("web", &[("a", origin), ("b", origin)]);
    std::fs::write(directory.path().join("services.toml"), services).unwrap();
    let text = "[node]\nworkers = 1\ndata_dir = \"data\"\n\
                [registry.local.file]\npath = \"services.toml\"\n\
                [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                [service.web]\npolicy = \"round-robin\"\ndrain = \"500ms\"\n\
                [admin]\nsocket = \"admin.sock\"\n";
    let file = directory.path().join("portolan.toml");
    std::fs::write(&file, text).unwrap();
    let running = Running::start(&file).await;
    running.ready(&directory.path().join("admin.sock")).await;
    (directory, running, file.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_waits_until_the_last_request_has_ended_and_a_restart_forgets_nothing() {
    let (origin, go) = slow().await;
    let (directory, mut running, config) = process(origin.address).await;
    let socket = directory.path().join("admin.sock");
    let web = running.address("web").await;
    // One request at each of both, by turns.
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(web).await;
        client.send("GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("x").await;
        clients.push(client);
    }
    let short =
        ["drain", "a", "--wait", "--timeout", "300ms", "--reason", "why not", "-c", &config];
    let ended = portolan(&short).await;
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(ended.stdout.contains("drain of local/web/a by uid "), "{ended:?}");
    assert!(ended.stdout.contains(": why not"), "{ended:?}");
    assert!(ended.stderr.contains("still running: 1 at web/a"), "{ended:?}");

    let config_too = config.clone();
    let waiting =
        tokio::spawn(async move { portolan(&["drain", "a", "--wait", "-c", &config_too]).await });
    // It asks at least once more after this.
    until("the second drain", async || {
        let (_, told) = admin_at(&socket, "GET", "/v1/operations", &Value::Null).await;
        (told["operations"][0]["number"] == 2).then_some(())
    })
    .await;
    assert!(!waiting.is_finished());
    go.send_replace(1000);
    for client in &mut clients {
        client.until("0\r\n\r\n").await;
    }
    let ended = within("the command", waiting).await.unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("nothing runs there any more"), "{ended:?}");

    let weighed = portolan(&["weight", "b", "7", "-c", &config]).await;
    assert_eq!(weighed.code, Some(0), "{weighed:?}");
    // A crash right after the word was given loses none.
    running.signal(Signal::KILL);
    running.ended().await;
    let running = Running::start(Path::new(&config)).await;
    running.ready(&socket).await;
    let listed = portolan(&["operations", "-c", &config]).await;
    assert!(
        listed.stdout.contains("2 drain of local/web/a") && listed.stdout.contains("weight 7"),
        "{listed:?}"
    );
    assert!(listed.stdout.contains("web/a: draining, 0 in flight"), "{listed:?}");
    let undone = portolan(&["drain", "a", "--undo", "-c", &config]).await;
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let undone = portolan(&["weight", "b", "--undo", "-c", &config]).await;
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let listed = portolan(&["operations", "-c", &config]).await;
    assert_eq!(listed.stdout, "no operator has said anything\n");
    let nobody = portolan(&["drain", "z", "-c", &config]).await;
    assert_eq!(nobody.code, Some(69), "{nobody:?}");
    assert!(nobody.stderr.contains("no registry tells of an instance \"z\""), "{nobody:?}");
    let twice = portolan(&["maintenance", "a", "--undo", "-c", &config]).await;
    assert_eq!(twice.code, Some(69), "{twice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_is_a_line_in_the_log_for_each_endpoint() {
    let (origin, _go) = slow().await;
    let (directory, running, _config) = process(origin.address).await;
    let mut client = Client::connect(running.address("web").await).await;
    client.send(UPGRADE).await;
    client.until("\r\n\r\n").await;
    let mut second = Client::connect(running.address("web").await).await;
    second.send("GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n").await;
    second.until("x").await;
    replace(&directory.path().join("services.toml"), "[service.web]\n");
    assert!(client.is_reset().await && second.is_reset().await);
    let message = "what still ran at an instance that left was cut";
    let lines = [running.logged(message).await, running.logged_after(1, message).await];
    let sum = |field: &str| lines.iter().map(|line| line[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("requests"), sum("tunnels"), sum("connections")), (1, 1, 0), "{lines:?}");
    for line in &lines {
        assert_eq!((&line["service"], &line["reason"]), (&json!("web"), &json!("left")));
        assert!(line["after_seconds"].as_f64().unwrap() >= 0.5, "{line}");
    }
}

#[tokio::test]
async fn help_teaches_how_to_drain() {
    for (arguments, words) in [
        (&["--help"][..], &["drain", "maintenance", "weight", "ready", "operations"][..]),
        (
            &["drain", "--help"],
            &[
                "--wait",
                "--timeout",
                "--deadline",
                "--node",
                "--reason",
                "--undo",
                "portolan drain web-1 --wait && docker stop web-1",
                "75",
            ],
        ),
        (&["maintenance", "--help"], &["no work at all", "--node", "--undo"]),
        (&["weight", "--help"], &["0 (no new work) to 1000", "--undo"]),
    ] {
        let ended = portolan(arguments).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}");
        let text = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(text.contains(word), "{arguments:?} lacks {word:?}:\n{}", ended.stdout);
        }
    }
    assert_eq!(portolan(&["drain"]).await.code, Some(2));
    assert_eq!(portolan(&["drain", "a", "--node", "b"]).await.code, Some(2));
    assert_eq!(portolan(&["weight", "a", "-c", "/dev/null"]).await.code, Some(2));
}

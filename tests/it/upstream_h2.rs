//! HTTP/2 to endpoints, in the clear and over TLS: what arrives there, what comes back, and that
//! nothing which may have been done is ever done twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::origin::{OK, Origin};
use crate::rig::{Rig, within};
use crate::support::h2 as client;
use crate::upstream_tls::{Authority, acceptor, nginx};

/// What an [`H2Origin`] does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Reads it all and answers `ok`.
    Answer,
    /// The same, with trailers behind it, and messages as gRPC has them.
    Trailers,
    /// Answers at once by a head alone, as gRPC tells an error.
    TrailersOnly,
    /// Begins to answer at once, and sends back what comes as it comes.
    Echo,
    /// Refuses the stream: nothing was done.
    Refuse,
    /// Does it, and resets the stream with this reason instead of an answer.
    Reset(Reason),
    /// Does it, and breaks the connection.
    Break,
    /// Begins to answer, and resets the stream then.
    ResetWithin,
    /// Says GOAWAY with the id of this stream as the last, answers it, and closes.
    LastOne,
    /// Waits to be told.
    Wait,
}

/// A server of HTTP/2 that acts on the n-th request as it was told, and counts what it did.
struct H2Origin {
    address: SocketAddr,
    /// Requests that were acted on, by path: those that were refused are not among them.
    done: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Every head that came.
    heads: Arc<Mutex<Vec<Request<()>>>>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    connections: Arc<AtomicUsize>,
    /// Connections that have closed.
    ended: Arc<AtomicUsize>,
    go: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

type Script = Arc<dyn Fn(usize, &str) -> Act + Send + Sync>;

#[derive(Clone)]
struct Serving {
    script: Script,
    number: Arc<AtomicUsize>,
    done: Arc<Mutex<BTreeMap<String, usize>>>,
    heads: Arc<Mutex<Vec<Request<()>>>>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    go: Arc<Notify>,
}

impl H2Origin {
    async fn clear(script: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Self {
        Self::start(None, 100, script).await
    }

    async fn start(
        tls: Option<tokio_rustls::TlsAcceptor>,
        streams: u32,
        script: impl Fn(usize, &str) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let serving = Serving {
            script: Arc::new(script),
            number: Arc::default(),
            done: Arc::default(),
            heads: Arc::default(),
            bodies: Arc::default(),
            go: Arc::default(),
        };
        let (counted, served) = (Arc::clone(&connections), serving.clone());
        let ended = Arc::new(AtomicUsize::new(0));
        let closed = Arc::clone(&ended);
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, SeqCst);
                let (tls, served, closed) = (tls.clone(), served.clone(), Arc::clone(&closed));
                tokio::spawn(async move {
                    let _ = tcp.set_nodelay(true);
                    match tls {
                        None => connection(tcp, streams, served).await,
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(tls) => connection(tls, streams, served).await,
                            Err(_) => None,
                        },
                    };
                    closed.fetch_add(1, SeqCst);
                });
            }
        });
        let Serving { done, heads, bodies, go, .. } = serving;
        Self { address, done, heads, bodies, connections, ended, go, accepting }
    }

    fn done(&self) -> BTreeMap<String, usize> {
        self.done.lock().unwrap().clone()
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection<S>(stream: S, streams: u32, serving: Serving) -> Option<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    let mut connection = builder.handshake::<_, Bytes>(stream).await.ok()?;
    let broken = Arc::new(Notify::new());
    loop {
        let accepted = tokio::select! {
            biased;
            () = broken.notified() => return None,
            accepted = connection.accept() => accepted?,
        };
        let (request, respond) = accepted.ok()?;
        let number = serving.number.fetch_add(1, SeqCst);
        let act = (serving.script)(number, request.uri().path());
        if act == Act::LastOne {
            connection.graceful_shutdown();
        }
        tokio::spawn(perform(act, request, respond, serving.clone(), Arc::clone(&broken)));
    }
}

/// The trailers of a call that went well.
fn all_is_well() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())])
}

async fn perform(
    act: Act,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    serving: Serving,
    broken: Arc<Notify>,
) -> Option<()> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    serving.heads.lock().unwrap().push(Request::from_parts(head, ()));
    if act == Act::Refuse {
        respond.send_reset(Reason::REFUSED_STREAM);
        return None;
    }
    if act == Act::Echo {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut send = respond.send_response(head, false).ok()?;
        while let Some(piece) = body.data().await {
            let piece = piece.ok()?;
            let _ = body.flow_control().release_capacity(piece.len());
            send.send_data(piece, false).ok()?;
        }
        return send.send_trailers(all_is_well()).ok();
    }
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        let _ = body.flow_control().release_capacity(piece.len());
        all.extend_from_slice(&piece);
    }
    serving.bodies.lock().unwrap().push(all.into());
    *serving.done.lock().unwrap().entry(path).or_default() += 1;
    let head = || Response::builder().status(200);
    match act {
        Act::Refuse | Act::Echo => {}
        Act::TrailersOnly => {
            let grpc = head().header("content-type", "application/grpc").header("grpc-status", "5");
            respond.send_response(grpc.body(()).unwrap(), true).ok()?;
        }
        Act::Wait => {
            serving.go.notified().await;
            respond.send_response(head().body(()).unwrap(), true).ok()?;
        }
        Act::Answer | Act::LastOne => {
            let mut send = respond.send_response(head().body(()).unwrap(), false).ok()?;
            send.send_data(Bytes::from_static(b"ok"), true).ok()?;
        }
        Act::Trailers => {
            let grpc = head().header("content-type", "application/grpc").body(()).unwrap();
            let mut send = respond.send_response(grpc, false).ok()?;
            send.send_data(Bytes::from_static(b"\0\0\0\0\x02ok"), false).ok()?;
            send.send_trailers(all_is_well()).ok()?;
        }
        Act::Reset(reason) => respond.send_reset(reason),
        Act::Break => {
            broken.notify_one();
            // To let go of the stream first would reset it, which is something else.
            std::future::pending::<()>().await;
        }
        Act::ResetWithin => {
            let begun = head().header("content-length", "10").body(()).unwrap();
            let mut send = respond.send_response(begun, false).ok()?;
            send.send_data(Bytes::from_static(b"half"), false).ok()?;
            serving.go.notified().await;
            send.send_reset(Reason::INTERNAL_ERROR);
        }
    }
    Some(())
}

/// A rig whose service `web` speaks h2 in the clear, with `more` in its table.
async fn rig(more: &str, origins: &[SocketAddr]) -> Rig {
    Rig::http(&format!("[service.web]\nprotocol = \"h2c\"\n{more}"), origins).await
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nhi")
}

#[tokio::test]
async fn a_request_becomes_one_of_h2_and_its_answer_one_of_http_1() {
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"], false);
    let over_tls = acceptor(&own, None, &[b"h2", b"http/1.1"]);
    for (scheme, tls, keys) in [
        ("http", None, "protocol = \"h2c\"\n".to_owned()),
        (
            "https",
            Some(over_tls),
            format!("protocol = \"h2\"\n[service.web.tls]\n{}", authority.ca()),
        ),
    ] {
        let origin = H2Origin::start(tls, 100, |_, _| Act::Answer).await;
        let rig = Rig::http(&format!("[service.web]\n{keys}"), &[origin.address]).await;
        for n in 0..5 {
            let mut client = rig.client().await;
            let lines = "Host: shop.example\r\nConnection: keep-alive, x-own\r\nKeep-Alive: 5\r\n\
                         X-Own: 1\r\nTE: trailers\r\n";
            let body = "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
            client.send(format!("POST /a%20b?c={n} HTTP/1.1\r\n{lines}{body}")).await;
            let answer = within("an answer", client.answer()).await;
            assert_eq!(answer.status, 200, "{scheme}: {answer:?}");
            assert!(answer.head.starts_with("HTTP/1.1 200 ") && answer.body.contains("ok"));
        }
        let heads = std::mem::take(&mut *origin.heads.lock().unwrap());
        assert_eq!(heads[4].uri(), &*format!("{scheme}://shop.example/a%20b?c=4"));
        for name in ["host", "connection", "keep-alive", "x-own", "transfer-encoding"] {
            assert!(!heads[0].headers().contains_key(name), "{scheme}: {name}");
        }
        assert!(heads[0].headers().contains_key("x-forwarded-for"));
        assert_eq!(origin.bodies.lock().unwrap()[0], "hi");
        assert_eq!(origin.connections.load(SeqCst), 1, "{scheme}: one connection carries all");
    }
}

#[tokio::test]
async fn requests_share_connections_up_to_their_streams_and_those_of_the_endpoint() {
    for (ours, theirs, connections) in [(100, 100, 1), (10, 100, 3)] {
        let origin = H2Origin::start(None, theirs, |_, _| Act::Wait).await;
        let rig = rig(&format!("h2 = {{ max_streams = {ours} }}\n"), &[origin.address]).await;
        let mut clients = Vec::new();
        for n in 0..25 {
            let mut client = rig.client().await;
            client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            clients.push(client);
            within("under way", async {
                while origin.done().len() <= n {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        assert_eq!(origin.connections.load(SeqCst), connections, "{ours} and {theirs}");
        origin.go.notify_waiters();
        for mut client in clients {
            assert_eq!(within("an answer", client.answer()).await.status, 200);
        }
    }
}

#[tokio::test]
async fn no_post_is_done_twice_however_its_stream_or_connection_ends() {
    let all = [
        Act::Refuse,
        Act::Reset(Reason::INTERNAL_ERROR),
        Act::Reset(Reason::CANCEL),
        Act::Reset(Reason::HTTP_1_1_REQUIRED),
        Act::Reset(Reason::ENHANCE_YOUR_CALM),
        Act::Reset(Reason::PROTOCOL_ERROR),
        Act::Reset(Reason::NO_ERROR),
        Act::Break,
        Act::LastOne,
    ];
    for act in all {
        // Every second request is treated so, at both endpoints.
        let script = move |n: usize, _: &str| if n.is_multiple_of(2) { Act::Answer } else { act };
        let (a, b) = (H2Origin::clear(script).await, H2Origin::clear(script).await);
        let retries = "policy = \"round-robin\"\nretries = { budget = \"100%\", attempts = 5 }\n";
        let rig = rig(retries, &[a.address, b.address]).await;
        let mut served = 0;
        for n in 0..12 {
            for method in ["POST", "PATCH", "GET"] {
                let path = format!("/{method}{n}");
                let answer = rig.ask(&request(method, &path)).await;
                let count = [&a, &b].iter().filter_map(|o| o.done().get(&path).copied()).sum();
                let count: usize = count;
                if method == "GET" {
                    assert!(count <= 6, "{act:?} {path}: {count}");
                } else {
                    assert!(count <= 1, "{act:?}: {path} was done {count} times");
                    served += usize::from(answer.status == 200);
                    assert!([200, 502].contains(&answer.status), "{act:?} {path}: {answer:?}");
                    assert!(answer.status != 200 || count == 1, "{act:?} {path}: {count}");
                }
                let harmless = matches!(act, Act::Refuse | Act::LastOne);
                if harmless || method == "GET" && !matches!(act, Act::Reset(_)) {
                    assert_eq!(answer.status, 200, "{act:?} {path}");
                }
            }
        }
        assert!(served > 0, "{act:?}");
    }
}

#[tokio::test]
async fn requests_at_once_on_a_connection_that_breaks_are_done_once_or_not_at_all() {
    let script = |n: usize, _: &str| match n {
        40 => Act::Break,
        n if n % 10 == 9 => Act::LastOne,
        n if n % 7 == 6 => Act::Refuse,
        _ => Act::Answer,
    };
    let origin = H2Origin::clear(script).await;
    let rig = rig("", &[origin.address]).await;
    let mut asked = Vec::new();
    for n in 0..100 {
        let mut client = rig.client().await;
        asked.push(tokio::spawn(async move {
            client.send(request("POST", &format!("/{n}"))).await;
            within("an answer", client.answer()).await.status
        }));
    }
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for one in asked {
        *statuses.entry(one.await.unwrap()).or_default() += 1;
    }
    assert!(origin.done().values().all(|count| *count == 1), "{:?}", origin.done());
    assert!(statuses[&200] >= 50, "{statuses:?}");
}

#[tokio::test]
async fn a_body_too_long_to_be_kept_is_not_sent_again_even_after_a_refusal() {
    // Reads some of it first, then refuses: that is what an endpoint may not do, and some do.
    let origin = H2Origin::clear(|_, _| Act::Reset(Reason::REFUSED_STREAM)).await;
    let rig = rig("", &[origin.address]).await;
    let body = "x".repeat(200_000);
    let mut client = rig.client().await;
    let length = body.len();
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"))
        .await;
    assert_eq!(within("an answer", client.answer()).await.status, 502);
    assert_eq!(origin.bodies.lock().unwrap().len(), 1, "came once");
    assert_eq!(origin.bodies.lock().unwrap()[0].len(), length);
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_visibly_broken() {
    let origin = H2Origin::clear(|_, _| Act::ResetWithin).await;
    let rig = rig("", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("half").await;
    origin.go.notify_one();
    assert_eq!(client.rest().await, b"", "no more of it, and the end");
    assert_eq!(origin.done()["/"], 1);
}

#[tokio::test]
async fn who_speaks_no_h2_is_not_answered_for() {
    let plain = Origin::answering(OK).await;
    let over_h2c = rig("", &[plain.address]).await;
    let status = over_h2c.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status;
    assert!([502, 503].contains(&status), "{status}");
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"], false);
    let origin = H2Origin::start(Some(acceptor(&own, None, &[])), 100, |_, _| Act::Answer).await;
    let keys = format!("[service.web]\nprotocol = \"h2\"\n[service.web.tls]\n{}", authority.ca());
    let rig = Rig::http(&keys, &[origin.address]).await;
    assert_eq!(rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 503, "no ALPN");
    assert!(origin.done().is_empty());
}

#[tokio::test]
async fn messages_of_grpc_pass_and_trailers_are_left_out_for_http_1() {
    let origin = H2Origin::clear(|_, _| Act::Trailers).await;
    let rig = rig("", &[origin.address]).await;
    let answer = rig.ask(&request("POST", "/pkg.Service/Method")).await;
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert_eq!(answer.body, "7\r\n\0\0\0\0\x02ok\r\n0\r\n\r\n");
}

/// What a client of gRPC asks.
fn call() -> Request<()> {
    let lines = [("content-type", "application/grpc"), ("te", "trailers")];
    client::request("POST", "/pkg.Service/Method", &lines)
}

#[tokio::test]
async fn calls_of_grpc_pass_whole_from_h2_to_h2_with_their_trailers() {
    let script = |number, _: &str| if number == 0 { Act::Trailers } else { Act::TrailersOnly };
    let origin = H2Origin::clear(script).await;
    let rig = rig("", &[origin.address]).await;
    let mut peer = client::Peer::connect(rig.address("web").await).await;
    let reply = peer.ask(call(), Some(b"\0\0\0\0\x02hi")).await.unwrap();
    assert_eq!((reply.status, &*reply.body), (200, &b"\0\0\0\0\x02ok"[..]));
    assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
    let reply = peer.ask(call(), Some(b"\0\0\0\0\x02hi")).await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(reply.headers["grpc-status"], "5", "the head is all of the answer");
    let heads = std::mem::take(&mut *origin.heads.lock().unwrap());
    assert_eq!(heads[0].headers()["te"], "trailers", "servers of gRPC insist on it");
    assert_eq!(origin.bodies.lock().unwrap()[1], &b"\0\0\0\0\x02hi"[..]);
}

#[tokio::test]
async fn both_sides_of_a_call_talk_before_either_has_ended() {
    let origin = H2Origin::clear(|_, _| Act::Echo).await;
    let rig = rig("", &[origin.address]).await;
    let mut peer = client::Peer::connect(rig.address("web").await).await;
    let mut asked = peer.begin(call(), false).await;
    let (status, _, mut stream) = asked.head().await.unwrap();
    assert_eq!(status, 200, "before any message");
    for message in ["one", "two", "three"] {
        asked.body.send_data(Bytes::from_static(message.as_bytes()), false).unwrap();
        let piece = within("an echo", stream.data()).await.unwrap().unwrap();
        let _ = stream.flow_control().release_capacity(piece.len());
        assert_eq!(piece, message);
    }
    asked.body.send_data(Bytes::new(), true).unwrap();
    assert!(within("the end", stream.data()).await.is_none());
    let trailers = within("trailers", stream.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let origin = H2Origin::clear(|_, _| Act::Answer).await;
    let rig = rig("", &[origin.address]).await;
    let mut client = rig.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(within("a word", client.answer()).await.status, 100);
    client.send("hi").await;
    assert_eq!(within("an answer", client.answer()).await.status, 200);
    assert!(!origin.heads.lock().unwrap()[0].headers().contains_key("expect"));
}

#[tokio::test]
async fn connections_beyond_keep_alive_close_once_nobody_uses_them() {
    let origin = H2Origin::clear(|_, _| Act::Answer).await;
    let rig = rig("keep_alive = 0\n", &[origin.address]).await;
    for n in 1..=3 {
        assert_eq!(rig.ask(&request("GET", "/")).await.status, 200);
        assert_eq!(origin.connections.load(SeqCst), n);
        within("its end", async {
            while origin.ended.load(SeqCst) < n {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn nginx_is_reached_by_h2_and_its_goodbyes_cost_nothing() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    // It says GOAWAY after every tenth request of a connection.
    let answer = "keepalive_requests 10; return 200 \"$scheme $server_protocol $host\";";
    let (_nginx, at) = nginx(&authority, directory.path(), answer).await;
    let keys = format!(
        "[service.web]\nprotocol = \"h2\"\n[service.web.tls]\nserver_name = \"nginx.test\"\n{}",
        authority.ca()
    );
    let rig = Rig::http(&keys, &[at]).await;
    let mut asked = Vec::new();
    for _ in 0..8 {
        let mut client = rig.client().await;
        asked.push(tokio::spawn(async move {
            for n in 0..25_u32 {
                client.send(request(if n.is_multiple_of(2) { "POST" } else { "GET" }, "/")).await;
                let answer = within("an answer", client.answer()).await;
                let told = (answer.status, &*answer.body);
                assert_eq!(told, (200, "https HTTP/2.0 shop.example"), "{answer:?}");
            }
        }));
    }
    for one in asked {
        one.await.unwrap();
    }
}

//! What happens when somebody is slow, silent or gone, and where requests go at all.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

use crate::origin::{OK, Origin, end_of_request};
use crate::rig::{Client, Rig, service};
use crate::support::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const RETRIES: &str = "portolan_proxy_connect_retries_total{listener=\"web\"}";

/// An address where the kernel refuses every connection. The socket keeps the port.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// An address where a connection is neither taken nor refused: its queue is full and nobody
/// accepts. Keeps what fills the queue.
async fn black_hole() -> (Vec<Socket>, SocketAddr) {
    let (listener, address) = refusing();
    listener.listen(1).unwrap();
    let mut held = vec![listener];
    loop {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // In progress; whether it gets in shows below.
        let _ = filler.connect(&address.into());
        held.push(filler);
        let try_it = tokio::net::TcpStream::connect(address);
        if tokio::time::timeout(Duration::from_millis(100), try_it).await.is_err() {
            return (held, address);
        }
    }
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_gets_408_and_silence_a_close() {
    let origin = Origin::answering(OK).await;
    let more = "timeouts = { request_head = \"300ms\", idle = \"2s\" }";
    let rig = Rig::http(more, &[origin.address]).await;

    let began = Instant::now();
    let mut client = rig.client().await;
    // Byte by byte: each one alone comes in time.
    let answer = loop {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"G").await;
        let readable = tokio::time::timeout(Duration::from_millis(20), client.stream.readable());
        if readable.await.is_ok() {
            break client.answer().await;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    };
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(300));
    rig.metric_is("portolan_proxy_refused_total{listener=\"web\",reason=\"head-timeout\"}", 1.0)
        .await;

    // Before the first request, and between two: closed without a word.
    let mut client = rig.client().await;
    assert_eq!(String::from_utf8(client.rest().await).unwrap(), "", "before the first request");
    let mut client = rig.client().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(String::from_utf8(client.rest().await).unwrap(), "", "between requests");
    assert_eq!(origin.received().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_gives_way_to_the_next() {
    let origin = Origin::answering(OK).await;
    let (_kept, refused) = refusing();
    let (_held, hole) = black_hole().await;
    for (case, dead) in [("refused", refused), ("no answer at all", hole)] {
        let config = "[service.web]\npolicy = \"round-robin\"\n";
        let more = format!("timeouts = {{ connect = \"1s\" }}\n{config}");
        let rig = Rig::http(&more, &[origin.address, dead]).await;
        for method in ["GET", "POST"] {
            // Two in turn: one of them meets the dead one first.
            for _ in 0..2 {
                let request =
                    format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
                let answer = rig.ask(&request).await;
                assert_eq!((answer.status, &*answer.body), (200, "ok"), "{case}: {answer:?}");
            }
        }
        until("a retry", async || rig.metric(RETRIES).await.filter(|retries| *retries >= 1.0))
            .await;
        assert_eq!(origin.text().matches("\r\n\r\nhi").count(), 4, "{case}: bodies");
        rig.tell(vec![service("web", &[dead])]).await;
        let answer = rig.ask(GET).await;
        assert_eq!(answer.status, 503, "{case}, alone: {answer:?}");
        assert_eq!(answer.body, "the service did not answer\n");
        origin.forget();
    }
}

#[tokio::test]
async fn a_silent_origin_is_504_and_one_that_breaks_off_is_told_from_a_complete_answer() {
    let silent = Origin::silent().await;
    let rig = Rig::http("timeouts = { read = \"200ms\" }", &[silent.address]).await;
    let began = Instant::now();
    let answer = rig.ask(GET).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(200));
    silent.seen("the end", |all| all[0].ended).await;

    // Those that say something do so in time.
    let rig = Rig::http("timeouts = { read = \"1s\" }", &[silent.address]).await;
    for (case, part) in [
        ("half a head", "HTTP/1.1 200 OK\r\nContent-"),
        ("a head", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        ("half a body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        ("half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhello"),
        (
            "chunks without an end",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
    ] {
        let closing = Origin::answering_once(part).await;
        let stalling = Origin::answering(part).await;
        for (how, origin) in [("closes", &closing), ("stalls", &stalling)] {
            rig.tell(vec![service("web", &[origin.address])]).await;
            let mut client = rig.client().await;
            client.send(GET).await;
            let got = String::from_utf8(client.rest().await).unwrap();
            let late = part.contains("\r\n\r\n");
            let wanted = if late {
                "HTTP/1.1 200 "
            } else if how == "closes" {
                "HTTP/1.1 502 "
            } else {
                "HTTP/1.1 504 "
            };
            assert!(got.starts_with(wanted), "{case}, then it {how}: {got:?}");
            let whole = got.ends_with("0\r\n\r\n") || got.ends_with("helloworld");
            assert!(!late || !whole, "{case}, then it {how}, and the client can't see it: {got:?}");
        }
    }
}

#[tokio::test]
async fn half_a_body_never_becomes_a_request_at_the_origin() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("timeouts = { read = \"1s\" }", &[origin.address]).await;
    for (case, request) in [
        ("of a length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"),
        (
            "in chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
    ] {
        for how in ["stalls", "ends", "breaks"] {
            origin.forget();
            let mut client = rig.client().await;
            client.send(request).await;
            if how == "stalls" {
                let answer = client.answer().await;
                // Both sides wait; who is blamed first is a matter of the clock.
                assert!([408, 504].contains(&answer.status), "{case}, it {how}: {answer:?}");
            } else {
                origin.seen("the half", |all| all.iter().any(|c| c.text().contains("hello"))).await;
                if how == "ends" {
                    let answer = String::from_utf8(client.finish().await).unwrap();
                    assert!(!answer.contains(" 200 "), "{case}, it {how}: {answer:?}");
                } else {
                    client.stream.set_zero_linger().unwrap();
                    drop(client);
                }
            }
            origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
            for connection in origin.received() {
                assert_eq!(end_of_request(&connection.bytes), None, "{case}, it {how}");
            }
        }
    }
}

#[tokio::test]
async fn what_moves_slowly_but_moves_is_not_cut() {
    let pause = Duration::from_millis(60);
    let origin = Origin::start(move |mut exchange| async move {
        loop {
            let request = exchange.request().await?;
            let length = request.len();
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n").await?;
            for _ in 0..if length > 0 { 50 } else { 0 } {
                exchange.send("x").await?;
                tokio::time::sleep(pause).await;
            }
        }
    })
    .await;
    let rig = Rig::http("timeouts = { read = \"2s\" }", &[origin.address]).await;
    let mut client = rig.client().await;
    // Three seconds up, three seconds down; nothing ever pauses for two.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n").await;
    for _ in 0..50 {
        tokio::time::sleep(pause).await;
        client.send("y").await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.body), (200, &*"x".repeat(50)), "{answer:?}");
}

#[tokio::test]
async fn an_origin_that_closed_an_idle_connection_is_connected_to_anew() {
    let origin = Origin::answering_once(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    for round in 1..=5 {
        for method in ["GET", "POST"] {
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"))
                .await;
            let answer = client.answer().await;
            assert_eq!((answer.status, &*answer.body), (200, "ok"), "round {round}: {answer:?}");
        }
    }
    assert_eq!(origin.text().matches("\r\n\r\nhi").count(), 10, "each was carried once");
}

#[tokio::test]
async fn requests_go_where_the_routes_say_and_nowhere_else() {
    let origin = Origin::answering(OK).await;
    let (_kept, _) = refusing();
    let config = "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                  [route.api]\nlistener = \"web\"\nhost = \"shop.example\"\npath = \"/api\"\n\
                  service = \"web\"\nstrip_prefix = \"/api\"\n\
                  [route.empty]\nlistener = \"web\"\nhost = \"shop.example\"\npath = \"/empty\"\n\
                  service = \"nobody\"\n\
                  [route.ready]\nlistener = \"web\"\npath_exact = \"/ready\"\n\
                  respond = { status = 200, when = \"ready\", body = \"here\" }\n\
                  [route.gone]\nlistener = \"web\"\npath = \"/gone\"\n\
                  respond = { status = 410 }\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    for (case, host, target, status, body, sent) in [
        ("a prefix is taken off", "shop.example", "/api/x?y=/api", 200, "ok", "GET /x?y=/api HTTP"),
        ("and nothing is left", "shop.example", "/api", 200, "ok", "GET / HTTP"),
        ("or a slash", "shop.example:80", "/api/", 200, "ok", "GET / HTTP"),
        ("or a query", "SHOP.example", "/api?q", 200, "ok", "GET /?q HTTP"),
        ("once only", "shop.example", "/api/api/api", 200, "ok", "GET /api/api HTTP"),
        (
            "of an absolute target too",
            "shop.example",
            "http://shop.example/api/x",
            200,
            "ok",
            "GET /x HTTP",
        ),
        ("by segments", "shop.example", "/apis", 404, "no route leads there\n", ""),
        ("no route for the host", "other.example", "/api", 404, "no route leads there\n", ""),
        (
            "nobody there",
            "shop.example",
            "/empty",
            503,
            "no instance of the service is eligible\n",
            "",
        ),
        ("answered here", "a", "/ready", 200, "here", ""),
        ("this path only", "a", "/ready/x", 404, "no route leads there\n", ""),
        ("another status, no body", "a", "/gone/x", 410, "", ""),
    ] {
        origin.forget();
        let answer = rig.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, &*answer.body), (status, body), "{case}: {answer:?}");
        assert!(origin.text().starts_with(sent), "{case}: {:?}", origin.text());
        assert_eq!(origin.text().is_empty(), sent.is_empty(), "{case}: {:?}", origin.text());
    }

    // One connection takes them all, for none of these answers closes it.
    let mut client = rig.client().await;
    for (target, status) in [("/ready", 200), ("/none", 404), ("/gone", 410), ("/ready", 200)] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.answer_to("HEAD").await.status, status);
    }

    rig.app.readiness().set(false);
    let answer = rig.ask("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 503, "while the process is not ready");
    let answer = rig.ask("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 410, "whether the process is ready or not");
}

#[tokio::test]
async fn a_request_that_runs_while_the_process_drains_is_answered_and_told_that_it_is_the_last() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut exchange| {
        let mut wait = wait.clone();
        async move {
            loop {
                let request = exchange.request().await?;
                if request.starts_with("GET /slow") {
                    wait.wait_for(|go| *go).await.ok()?;
                }
                exchange.send(OK).await?;
            }
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut idle = rig.client().await;
    idle.send(GET).await;
    assert_eq!(idle.answer().await.header("connection"), Some("keep-alive"));
    let mut client = rig.client().await;
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.seen("the request", |all| all.iter().any(|c| c.text().contains("/slow"))).await;

    let leaving = async {
        // The idle one closes at once, before the slow one is done.
        assert_eq!(idle.rest().await, b"");
        go.send(true).unwrap();
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert_eq!(client.rest().await, b"");
    };
    let (cut, ()) = tokio::join!(rig.app.drain(Duration::from_secs(20)), leaving);
    assert_eq!(cut, 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_counted() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("[limits]\nconnections = 2\n", &[origin.address]).await;
    let mut held: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut client = rig.client().await;
        client.send(GET).await;
        assert_eq!(client.answer().await.status, 200);
        held.push(client);
    }
    for _ in 0..3 {
        assert_eq!(rig.client().await.rest().await, b"");
    }
    let label = "{listener=\"web\"}";
    let refused =
        "portolan_listener_connections_refused_total{listener=\"web\",reason=\"connections\"}";
    rig.metric_is(refused, 3.0).await;
    rig.metric_is(&format!("portolan_listener_connections{label}"), 2.0).await;
    rig.metric_is(&format!("portolan_listener_connections_accepted_total{label}"), 5.0).await;
    drop(held.pop());
    rig.metric_is(&format!("portolan_listener_connections{label}"), 1.0).await;
    assert_eq!(rig.ask(GET).await.status, 200);
    held[0].send(GET).await;
    assert_eq!(held[0].answer().await.status, 200, "those who are in stay in");
}

//! HTTP/2 from clients: what an endpoint of HTTP/1.1 receives, what the client gets, and how
//! connections end.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::origin::{Exchange, OK, Origin};
use crate::peers::output;
use crate::rig::{Client, Rig, service, within};
use crate::support::h2::{
    END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, NO_ERROR, Outcome, PREFACE, PROTOCOL_ERROR,
    Peer, RST_STREAM, Raw, block, frame, request,
};

/// What the proxy adds to a request of a stranger on 127.0.0.1 for the host `a`.
fn added(port: u16) -> String {
    format!(
        "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-port: {port}\r\n\
         x-forwarded-host: a\r\n"
    )
}

async fn peer(rig: &Rig) -> Peer {
    Peer::connect(rig.address("web").await).await
}

#[tokio::test]
async fn what_reaches_an_endpoint_of_http_1_is_this_byte_for_byte() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let own = added(rig.address("web").await.port());
    let mut peer = peer(&rig).await;
    let mut wrong = Vec::new();
    for (case, request, body, wanted) in [
        (
            "a request",
            request("GET", "/x?y=z", &[("x-one", "1")]),
            None,
            "GET /x?y=z HTTP/1.1\r\nx-one: 1\r\nHost: a\r\n+\r\n",
        ),
        (
            "the same bytes of a path",
            request("GET", "/a/../b/%2e/c%20d", &[]),
            None,
            "GET /a/../b/%2e/c%20d HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "a body with its length",
            request("POST", "/", &[("content-length", "2")]),
            Some("hi"),
            "POST / HTTP/1.1\r\nContent-Length: 2\r\nHost: a\r\n+\r\nhi",
        ),
        (
            "a body without",
            request("POST", "/", &[]),
            Some("hi"),
            "POST / HTTP/1.1\r\nHost: a\r\n+Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        (
            "an empty body",
            request("POST", "/", &[("content-length", "0")]),
            Some(""),
            "POST / HTTP/1.1\r\nContent-Length: 0\r\nHost: a\r\n+\r\n",
        ),
        (
            "crumbs of cookies",
            request("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]),
            None,
            "GET / HTTP/1.1\r\ncookie: a=1; b=2; c=3\r\nHost: a\r\n+\r\n",
        ),
        (
            "the same host in both",
            request("GET", "/", &[("host", "a")]),
            None,
            "GET / HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "te is for this hop",
            request("GET", "/", &[("te", "trailers")]),
            None,
            "GET / HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "an underscore that imitates nothing",
            request("GET", "/", &[("x_y", "1")]),
            None,
            "GET / HTTP/1.1\r\nx_y: 1\r\nHost: a\r\n+\r\n",
        ),
    ] {
        origin.forget();
        match peer.ask(request, body.map(str::as_bytes)).await {
            Ok(reply) if reply.status == 200 && reply.body == b"ok" => {}
            other => wrong.push(format!("{case}: {other:?}")),
        }
        let wanted = wanted.replacen('+', &own, 1);
        let received = origin.text();
        if received != wanted {
            wrong.push(format!("{case}:\n  {received:?}, not\n  {wanted:?}"));
        }
    }
    // A client of the library can't ask so.
    origin.forget();
    let mut raw = Raw::connect(rig.address("web").await, &[]).await;
    let options =
        [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", "*")];
    raw.get(1, &options).await;
    assert_eq!(raw.outcome(1).await, Outcome::Status(200));
    assert_eq!(origin.text(), format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{own}\r\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_connection_is_known_by_how_it_begins_however_slowly() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("timeouts = { request_head = \"2s\" }", &[origin.address]).await;
    // The preface by single bytes, and a request of HTTP/1.1 that begins as it does.
    let mut client = rig.client().await;
    for byte in PREFACE {
        client.send([*byte]).await;
    }
    client.send(frame(4, 0, 0, [])).await;
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&GET))).await;
    let answer = client.bytes(9).await;
    assert_eq!(answer[3], 4, "SETTINGS come first: {answer:?}");
    let mut client = rig.client().await;
    for piece in ["P", "ROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        client.send(piece).await;
    }
    assert_eq!(client.answer().await.status, 200);
    // It is only known at the start of a connection, and only as a whole.
    client.send(PREFACE).await;
    assert_eq!(client.answer().await.status, 505);
    let almost = "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n";
    assert_eq!(rig.ask(almost).await.status, 505);
    let mut client = rig.client().await;
    client.send(&PREFACE[..10]).await;
    assert_eq!(client.answer().await.status, 408);
    // A preface and then nothing is an idle connection; `h2c` by Upgrade is not spoken.
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    assert_eq!(rig.ask(upgrade).await.status, 200);
}

/// Answers `/slow` when it is told to, and all else at once.
async fn slow(mut exchange: Exchange, mut go: watch::Receiver<bool>) -> Option<()> {
    loop {
        let request = exchange.request().await?;
        if request.starts_with("GET /slow") {
            tokio::select! {
                _ = go.wait_for(|go| *go) => {}
                ended = exchange.rest() => ended?,
            }
        }
        exchange.send(OK).await?;
    }
}

#[tokio::test]
async fn streams_run_beside_each_other_up_to_the_limit() {
    let (go, wait) = watch::channel(false);
    let origin = Origin::start(move |exchange| slow(exchange, wait.clone())).await;
    let rig = Rig::http("streams_max = 10", &[origin.address]).await;
    let mut peer = peer(&rig).await;
    // The first answer shows that the settings have come.
    assert_eq!(peer.get("/").await.status, 200);
    let mut running = Vec::new();
    for _ in 0..9 {
        running.push(peer.begin(request("GET", "/slow", &[]), true).await);
    }
    origin
        .seen("nine", |all| {
            all.iter().map(|one| one.text().matches("/slow").count()).sum::<usize>() == 9
        })
        .await;
    rig.metric_is("portolan_proxy_h2_streams{listener=\"web\"}", 9.0).await;
    assert_eq!(peer.get("/").await.text(), "ok", "one that is fast is not held up");
    // Who does not keep to the limit is told that nothing was done.
    let mut raw = Raw::connect(rig.address("web").await, &[]).await;
    let slow = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/slow")];
    for stream in 0..11 {
        raw.get(stream * 2 + 1, &slow).await;
    }
    assert_eq!(raw.outcome(21).await, Outcome::Reset(7), "REFUSED_STREAM");
    go.send_replace(true);
    for asked in running {
        assert_eq!(asked.whole().await.unwrap().text(), "ok");
    }
    assert_eq!(raw.outcome(1).await, Outcome::Status(200));
    rig.metric_is("portolan_proxy_h2_streams{listener=\"web\"}", 0.0).await;
}

#[tokio::test]
async fn answers_come_as_they_are() {
    let origin = Origin::start(|mut exchange| async move {
        loop {
            let request = exchange.request().await?;
            let path = request.split(' ').nth(1)?.to_owned();
            let large = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{}",
                "x".repeat(3_000_000)
            );
            let answer = match &*path {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"e\"\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                "/hop" => {
                    "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
                     Transfer-Encoding: chunked\r\nX-Kept: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                }
                "/103" => {
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nConnection: x\r\n\r\n\
                     HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                }
                "/large" => &large,
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            };
            exchange.send(answer).await?;
            if path == "/short" {
                return Some(());
            }
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut peer = peer(&rig).await;
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("9")),
        ("HEAD", "/head", 200, Some("9")),
    ] {
        let mut asked = peer.begin(request(method, path, &[]), true).await;
        let (told, headers, body) = asked.head().await.unwrap();
        assert_eq!(told.as_u16(), status, "{path}");
        assert!(body.is_end_stream(), "{path} ends with its head");
        let known = headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!(known, length, "{path}");
    }
    let hop = peer.get("/hop").await;
    assert_eq!(hop.text(), "ok");
    let mut names: Vec<&str> = hop.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["date", "x-kept"], "what is about the endpoint's connection stays there");
    assert_eq!(peer.get("/large").await.body.len(), 3_000_000);

    let mut asked = peer.begin(request("GET", "/103", &[]), true).await;
    let interim = poll_fn(|cx| asked.answer.poll_informational(cx));
    let interim = within("an interim answer", interim).await.unwrap().unwrap();
    assert_eq!(interim.status(), 103);
    assert_eq!(interim.headers()["link"], "</a>; rel=preload");
    assert_eq!(asked.whole().await.unwrap().text(), "ok");

    // An answer that breaks off is never taken for a whole one.
    let broken = peer.ask(request("GET", "/short", &[]), None).await;
    assert!(broken.as_ref().is_err_and(h2::Error::is_reset), "{broken:?}");
    assert_eq!(peer.get("/hop").await.status, 200, "others go on");
}

#[tokio::test]
async fn an_endless_answer_comes_piece_by_piece_and_a_client_that_leaves_ends_it() {
    let (go, wait) = watch::channel(0);
    let origin = Origin::start(move |mut exchange| {
        let mut wait = wait.clone();
        async move {
            exchange.request().await?;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            exchange.send(head).await?;
            for event in 1.. {
                tokio::select! {
                    said = wait.wait_for(|go| *go >= event) => drop(said.ok()?),
                    ended = exchange.some() => drop(ended?),
                }
                exchange.send(format!("data: {event}\n\n")).await?;
            }
            Some(())
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut peer = peer(&rig).await;
    let mut asked = peer.begin(request("GET", "/", &[]), true).await;
    let (_, headers, mut body) = asked.head().await.unwrap();
    assert_eq!(headers["content-type"], "text/event-stream");
    for event in 1..4 {
        go.send_replace(event);
        let piece = within("an event", body.data()).await.unwrap().unwrap();
        assert_eq!(piece, format!("data: {event}\n\n"));
    }
    drop((asked, body));
    origin.seen("the end", |all| all[0].ended).await;
    rig.metric_is("portolan_proxy_h2_streams{listener=\"web\"}", 0.0).await;
}

#[tokio::test]
async fn bodies_go_both_ways_at_once() {
    let origin = Origin::start(|mut exchange| async move {
        exchange.head().await?;
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        loop {
            let piece = exchange.some().await?;
            let piece = String::from_utf8(piece).unwrap();
            if piece.contains("0\r\n\r\n") {
                return exchange.send("0\r\n\r\n").await;
            }
            exchange.send(piece.to_uppercase()).await?;
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut peer = peer(&rig).await;
    let mut asked = peer.begin(request("POST", "/", &[]), false).await;
    let (_, _, mut body) = asked.head().await.unwrap();
    for word in ["one", "two", "three"] {
        asked.body.send_data(Bytes::from(word), false).unwrap();
        let piece = within("an echo", body.data()).await.unwrap().unwrap();
        assert_eq!(piece, word.to_uppercase());
    }
    asked.body.send_data(Bytes::new(), true).unwrap();
    while let Some(piece) = within("the end", body.data()).await {
        assert!(piece.unwrap().is_empty());
    }
}

#[tokio::test]
async fn limits_of_bodies_and_refusals_are_answers_and_the_connection_goes_on() {
    let origin = Origin::answering(OK).await;
    let config = "[node]\nworkers = 1\n\
                  [route.small]\nlistener = \"web\"\npath = \"/small\"\nservice = \"web\"\nbody_max = \"4B\"\n\
                  [route.closed]\nlistener = \"web\"\npath = \"/closed\"\nservice = \"web\"\ndeny = [\"127.0.0.0/8\"]\n\
                  [route.nobody]\nlistener = \"web\"\npath = \"/nobody\"\nservice = \"nobody\"\n\
                  [route.here]\nlistener = \"web\"\npath = \"/here\"\nrespond = { status = 200, body = \"here\" }\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\nhead_max = \"1KiB\"\nheaders_max = 10\n\
                  access_log = { to = \"./access.log\", format = \"combined\" }\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    let mut peer = peer(&rig).await;
    let large = "x".repeat(2000);
    let many: Vec<(&str, &str)> = (0..11).map(|_| ("x", "1")).collect();
    for (case, request, body, status) in [
        ("here", request("GET", "/here", &[]), None, 200),
        ("no route", request("GET", "/none", &[]), None, 404),
        ("denied", request("GET", "/closed", &[]), None, 403),
        ("nobody", request("GET", "/nobody", &[]), None, 503),
        ("told", request("POST", "/small", &[("content-length", "5")]), Some("12345"), 413),
        ("untold", request("POST", "/small", &[]), Some("12345"), 413),
        ("small enough", request("POST", "/small", &[]), Some("1234"), 200),
        ("a large head", request("GET", "/here", &[("x", &large)]), None, 431),
        ("many lines", request("GET", "/here", &many), None, 431),
        ("above the root", request("GET", "/../x", &[]), None, 400),
    ] {
        let reply = peer.ask(request, body.map(str::as_bytes)).await;
        let told = reply.map(|reply| (reply.status, reply.body.is_empty(), reply.trailers));
        assert!(matches!(&told, Ok((told, false, None)) if *told == status), "{case}: {told:?}");
    }
    // Far beyond what a head may be, the library answers; no task is spent on it.
    let huge = "x".repeat(30_000);
    let reply = peer.ask(request("GET", "/here", &[("x", &huge)]), None).await.unwrap();
    assert_eq!(reply.status, 431);
    let refused = "portolan_proxy_refused_total{listener=\"web\",reason=\"too-many-headers\"}";
    rig.metric_is(refused, 1.0).await;
    let log = rig.directory().join("access.log");
    crate::support::until("the log", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let told = [
            "\"GET /here HTTP/2.0\" 200 4 ",
            "\"GET /none HTTP/2.0\" 404 ",
            "\"POST /small HTTP/2.0\" 413 ",
            "\"GET /here HTTP/2.0\" 431 ",
        ];
        told.iter().all(|line| text.contains(line)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_ends_the_stream_without_an_error() {
    let rig = Rig::http("", &[]).await;
    let mut raw = Raw::connect(rig.address("web").await, &[]).await;
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    raw.send(frame(HEADERS, END_HEADERS, 1, block(&post))).await;
    assert_eq!(raw.outcome(1).await, Outcome::Status(503));
    assert_eq!(raw.outcome(1).await, Outcome::Reset(NO_ERROR));
    raw.get(3, &GET).await;
    assert_eq!(raw.outcome(3).await, Outcome::Status(503), "the connection goes on");
}

#[tokio::test]
async fn trailers_of_a_request_are_refused_and_nobody_gets_it_as_a_whole() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut peer = peer(&rig).await;
    let mut asked = peer.begin(request("POST", "/", &[]), false).await;
    asked.body.send_data(Bytes::from("hi"), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    asked.body.send_trailers(trailers).unwrap();
    let reply = asked.whole().await.unwrap();
    assert_eq!(
        (reply.status, reply.text()),
        (501, "trailers of requests are not carried\n".into())
    );
    origin.seen("the end", |all| all.iter().all(|one| one.ended)).await;
    assert!(!origin.text().contains("0\r\n\r\n"), "{:?}", origin.text());
}

#[tokio::test]
async fn grpc_clients_are_told_in_their_words() {
    let origin = Origin::answering(OK).await;
    let config = "[node]\nworkers = 1\n\
                  [route.small]\nlistener = \"web\"\npath = \"/small\"\nservice = \"web\"\nbody_max = \"4B\"\n\
                  [route.closed]\nlistener = \"web\"\npath = \"/closed\"\nservice = \"web\"\ndeny = [\"127.0.0.0/8\"]\n\
                  [route.nobody]\nlistener = \"web\"\npath = \"/nobody\"\nservice = \"nobody\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\nheaders_max = 10\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    let mut peer = peer(&rig).await;
    for (path, status, lines) in [
        ("/none", "12", 0),
        ("/closed", "7", 0),
        ("/nobody", "14", 0),
        ("/small", "8", 0),
        ("/small", "8", 20),
    ] {
        let mut headers = vec![("content-type", "application/grpc+proto"), ("te", "trailers")];
        headers.extend((0..lines).map(|_| ("x", "1")));
        if path == "/small" {
            headers.push(("content-length", "5"));
        }
        let mut asked = peer.begin(request("POST", path, &headers), false).await;
        let (http, told, body) = asked.head().await.unwrap();
        assert_eq!(http, 200, "{path}");
        assert_eq!(
            (&told["grpc-status"], &told["content-type"]),
            (&status.parse().unwrap(), &"application/grpc".parse().unwrap()),
            "{path}"
        );
        assert!(told.contains_key("grpc-message"), "{path}: {told:?}");
        assert!(body.is_end_stream(), "{path}: trailers alone");
    }
}

#[tokio::test]
async fn a_stopping_process_says_goaway_twice_and_what_runs_goes_on() {
    let (go, wait) = watch::channel(false);
    let origin = Origin::start(move |exchange| slow(exchange, wait.clone())).await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut idle = peer(&rig).await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut raw = Raw::connect(rig.address("web").await, &[]).await;
    let slow = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/slow")];
    raw.get(1, &slow).await;
    origin.seen("it", |all| all.iter().any(|one| one.text().contains("/slow"))).await;
    let ((), cut) = tokio::join!(
        drained(&mut raw, idle, go, &slow),
        within("drain", rig.app.drain(Duration::from_secs(60)))
    );
    assert_eq!(cut, 0);
}

async fn drained(raw: &mut Raw, idle: Peer, go: watch::Sender<bool>, slow: &[(&str, &str)]) {
    let first = raw.find(|frame| frame.kind == GOAWAY).await.unwrap();
    assert_eq!((first.last_stream(), first.code()), (0x7fff_ffff, NO_ERROR));
    // The answer to the PING behind it shows that the client knows; what it sent before still counts.
    let ping = raw.find(|frame| frame.kind == 6).await.unwrap();
    raw.get(3, slow).await;
    raw.send(frame(6, 1, 0, ping.payload)).await;
    let last = raw.find(|frame| frame.kind == GOAWAY).await.unwrap();
    assert_eq!((last.last_stream(), last.code()), (3, NO_ERROR));
    within("the idle one", idle.connection).await.unwrap().unwrap();
    go.send_replace(true);
    let mut ended = 0;
    while let Some(frame) = raw.next().await {
        assert!(frame.kind != RST_STREAM, "{frame:?}");
        ended += usize::from(frame.flags & END_STREAM != 0 && frame.stream > 0);
    }
    assert_eq!(ended, 2, "both have their answers");
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_a_word_and_pings_do_not_keep_it() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("timeouts = { idle = \"2s\" }", &[origin.address]).await;
    let mut raw = Raw::connect(rig.address("web").await, &[]).await;
    raw.get(1, &GET).await;
    assert_eq!(raw.outcome(1).await, Outcome::Status(200));
    raw.send(frame(6, 0, 0, [0; 8])).await;
    let goaway = raw.find(|frame| frame.kind == GOAWAY).await.unwrap();
    assert_eq!((goaway.last_stream(), goaway.code()), (1, NO_ERROR));
    assert!(raw.find(|_| false).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_at_an_instance_that_has_had_its_time_is_cut_alone() {
    let (go, wait) = watch::channel(false);
    let old = Origin::start(move |exchange| slow(exchange, wait.clone())).await;
    let new = Origin::answering(OK).await;
    let config = "[node]\nworkers = 1\n[service.web]\ndrain = \"200ms\"\n\
                  [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n";
    let rig = Rig::start(config, vec![service("web", &[old.address])]).await;
    let mut peer = peer(&rig).await;
    let asked = peer.begin(request("GET", "/slow", &[]), true).await;
    old.seen("it", |all| all.iter().any(|one| one.text().contains("/slow"))).await;
    rig.tell(vec![service("web", &[new.address])]).await;
    let cut = asked.whole().await;
    assert!(cut.as_ref().is_err_and(h2::Error::is_reset), "{cut:?}");
    rig.metric_is("portolan_proxy_cut_total{listener=\"web\",reason=\"left\"}", 1.0).await;
    assert_eq!(peer.get("/").await.text(), "ok", "the connection goes on");
    drop(go);
}

#[tokio::test]
async fn whoever_leaves_the_queue_is_seen() {
    let (go, wait) = watch::channel(false);
    let origin = Origin::start(move |exchange| slow(exchange, wait.clone())).await;
    let config = "[node]\nworkers = 1\n[service.web]\nmax_connections = 1\n\
                  queue = { size = 1, timeout = \"60s\" }\n\
                  [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    let mut peer = peer(&rig).await;
    let first = peer.begin(request("GET", "/slow", &[]), true).await;
    origin.seen("it", |all| !all.is_empty()).await;
    let mut second = peer.begin(request("GET", "/", &[]), true).await;
    rig.metric_is("portolan_proxy_queue_waiting{listener=\"web\"}", 1.0).await;
    second.body.send_reset(h2::Reason::CANCEL);
    rig.metric_is("portolan_proxy_queue_waiting{listener=\"web\"}", 0.0).await;
    let third = peer.begin(request("GET", "/", &[]), true).await;
    go.send_replace(true);
    assert_eq!(first.whole().await.unwrap().text(), "ok");
    assert_eq!(third.whole().await.unwrap().text(), "ok");
}

#[tokio::test]
async fn whoever_leaves_is_counted_as_gone_and_the_endpoint_hears_of_it() {
    for whole in [true, false] {
        let origin = Origin::silent().await;
        let rig = Rig::http("", &[origin.address]).await;
        let mut peer = peer(&rig).await;
        let mut asked = peer.begin(request("POST", "/", &[]), whole).await;
        origin.seen("it", |all| all.iter().any(|one| one.text().contains("\r\n\r\n"))).await;
        asked.body.send_reset(h2::Reason::CANCEL);
        rig.metric_is("portolan_proxy_requests_total{class=\"none\",listener=\"web\"}", 1.0).await;
        origin.seen("the end", |all| all[0].ended).await;
    }
}

#[tokio::test]
async fn a_limited_rate_is_that_of_each_stream() {
    let origin = Origin::start(|mut exchange| async move {
        loop {
            exchange.request().await?;
            let body = "x".repeat(2500);
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2500\r\n\r\n{body}")).await?;
        }
    })
    .await;
    let config = "[node]\nworkers = 1\n\
                  [route.slow]\nlistener = \"web\"\npath = \"/slow\"\nservice = \"web\"\nlimit_rate = \"1KiB\"\n\
                  [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    let mut peer = peer(&rig).await;
    let began = Instant::now();
    let slow = [
        peer.begin(request("GET", "/slow", &[]), true).await,
        peer.begin(request("GET", "/slow", &[]), true).await,
    ];
    assert_eq!(peer.get("/").await.body.len(), 2500, "another stream is not held up");
    for asked in slow {
        assert_eq!(asked.whole().await.unwrap().body.len(), 2500);
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn a_body_that_stops_coming_gets_408_and_is_not_taken_for_a_whole_one() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("timeouts = { read = \"300ms\" }", &[origin.address]).await;
    let mut peer = peer(&rig).await;
    let mut asked = peer.begin(request("POST", "/", &[]), false).await;
    asked.body.send_data(Bytes::from("hi"), false).unwrap();
    let (status, _, _) = asked.head().await.unwrap();
    assert_eq!(status, 408);
    origin.seen("the end", |all| all.iter().all(|one| one.ended)).await;
    assert!(!origin.text().contains("0\r\n\r\n"), "{:?}", origin.text());
}

#[tokio::test]
async fn a_request_that_may_not_be_sent_twice_is_sent_once() {
    let closing = || {
        Origin::start(|mut exchange| async move {
            exchange.request().await?;
            None
        })
    };
    let (one, two) = (closing().await, closing().await);
    let rig = Rig::http("", &[one.address, two.address]).await;
    let mut peer = peer(&rig).await;
    let came = |method: &str| (one.text() + &two.text()).matches(&format!("{method} / ")).count();
    for (number, body) in [None, Some(&b"hi"[..])].into_iter().enumerate() {
        let reply = peer.ask(request("POST", "/", &[]), body).await.unwrap();
        assert_eq!(reply.status, 502);
        assert_eq!(came("POST"), number + 1);
    }
    assert_eq!(peer.get("/").await.status, 502);
    assert_eq!(came("GET"), 2, "this one may");
}

#[tokio::test]
async fn curl_and_h2load_get_their_answers() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let url = format!("http://{}/", rig.address("web").await);
    let told = output(
        "curl",
        &[
            "-sS",
            "-m",
            "20",
            "--http2-prior-knowledge",
            "-w",
            " %{http_version} %{http_code}",
            &url,
        ],
    )
    .await;
    assert_eq!(told, "ok 2 200");
    let posted = output(
        "curl",
        &["-sS", "-m", "20", "--http2-prior-knowledge", "-d", "a=b", "-w", " %{http_code}", &url],
    )
    .await;
    assert_eq!(posted, "ok 200");
    let load = output("h2load", &["-n", "2000", "-c", "4", "-m", "20", "-t", "1", &url]).await;
    assert!(load.contains("2000 succeeded, 0 failed, 0 errored"), "{load}");
}

#[tokio::test]
async fn a_reset_by_the_library_is_a_protocol_error_and_others_go_on() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut raw = Raw::connect(rig.address("web").await, &[]).await;
    raw.get(1, &[GET[0], GET[1], GET[2], GET[3], ("connection", "close")]).await;
    assert_eq!(raw.outcome(1).await, Outcome::Reset(PROTOCOL_ERROR));
    raw.get(3, &GET).await;
    assert_eq!(raw.outcome(3).await, Outcome::Status(200));
    let _: Client = rig.client().await;
}

//! HTTP/2 by clients that mean harm, frame by frame: requests with two meanings never reach an
//! endpoint, and whoever floods loses the connection, while memory stays small and others are served.

use std::fs;
use std::time::Duration;

use crate::child::Running;
use crate::origin::{OK, Origin};
use crate::rig::{Rig, within};
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GET, GOAWAY, HEADERS, Outcome,
    PING, PRIORITY, PROTOCOL_ERROR, Peer, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, frame,
};

/// A request whose lines differ from those of a GET of `/` at `a`.
fn lines<'a>(
    changed: &[(&'a str, &'a str)],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for (name, value) in GET {
        match changed.iter().find(|(changed, _)| *changed == name) {
            Some((_, "-")) => {}
            Some(other) => lines.push(*other),
            None => lines.push((name, value)),
        }
    }
    lines.extend(more);
    lines
}

#[tokio::test]
async fn row_36_a_request_with_two_meanings_never_reaches_an_endpoint() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let reset = Outcome::Reset(PROTOCOL_ERROR);
    let bad = Outcome::Status(400);
    let post = |more: &[(&'static str, &'static str)]| lines(&[(":method", "POST")], more);
    let mut wrong = Vec::new();
    for (case, request, wanted) in [
        ("another host than the authority", lines(&[], &[("host", "b")]), bad),
        ("two hosts", lines(&[], &[("host", "a"), ("host", "a")]), bad),
        ("no host", lines(&[(":authority", "-")], &[]), bad),
        ("a user", lines(&[(":authority", "u@a")], &[]), bad),
        ("a host with a path", lines(&[(":authority", "-")], &[("host", "a/b")]), bad),
        ("a list of hosts", lines(&[(":authority", "-")], &[("host", "a,b")]), bad),
        ("a port too large", lines(&[(":authority", "a:65536")], &[]), bad),
        ("an authority with a space", lines(&[(":authority", "a b")], &[]), reset),
        ("two authorities", lines(&[], &[(":authority", "a")]), reset),
        (
            "a pseudo-header behind others",
            lines(&[(":path", "-")], &[("x", "1"), (":path", "/")]),
            reset,
        ),
        ("an unknown pseudo-header", lines(&[], &[(":x", "1")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("no path", lines(&[(":path", "-")], &[]), reset),
        ("an empty path", lines(&[(":path", "")], &[]), reset),
        ("a path without a slash", lines(&[(":path", "admin")], &[]), reset),
        ("a path that is a URL", lines(&[(":path", "http://b/")], &[]), reset),
        ("a star by GET", lines(&[(":path", "*")], &[]), bad),
        ("CRLF in the path", lines(&[(":path", "/ HTTP/1.1\r\nX: 1")], &[]), reset),
        ("a space in the path", lines(&[(":path", "/a b")], &[]), reset),
        ("above the root", lines(&[(":path", "/../admin")], &[]), bad),
        ("a hidden slash", lines(&[(":path", "/a%2f..%2fb")], &[]), bad),
        ("a backslash", lines(&[(":path", "/a\\..\\b")], &[]), bad),
        ("another scheme", lines(&[(":scheme", "ftp")], &[]), bad),
        ("no scheme", lines(&[(":scheme", "-")], &[]), reset),
        ("no method", lines(&[(":method", "-")], &[]), reset),
        (
            "a method with a space",
            lines(&[(":method", "GET /x HTTP/1.1\r\n")], &[]),
            Outcome::GoAway(PROTOCOL_ERROR),
        ),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "a:443")], Outcome::Status(405)),
        ("extended CONNECT", lines(&[(":method", "CONNECT")], &[]), reset),
        (
            "a websocket",
            {
                let mut lines = lines(&[(":method", "CONNECT")], &[]);
                lines.insert(0, (":protocol", "websocket"));
                lines
            },
            reset,
        ),
        ("upper case", lines(&[], &[("X-One", "1")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("a name with CRLF", lines(&[], &[("x\r\ny", "1")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("a name with a colon", lines(&[], &[("x:y", "1")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("an empty name", lines(&[], &[("", "1")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("CRLF in a value", lines(&[], &[("x", "1\r\ny: 2")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("LF in a value", lines(&[], &[("x", "1\n")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("NUL in a value", lines(&[], &[("x", "1\0")]), Outcome::GoAway(PROTOCOL_ERROR)),
        ("a space before a value", lines(&[], &[("x", " 1")]), bad),
        ("a space behind a value", lines(&[], &[("x", "1 ")]), bad),
        ("chunked", post(&[("transfer-encoding", "chunked")]), reset),
        ("connection", lines(&[], &[("connection", "x-one")]), reset),
        ("keep-alive", lines(&[], &[("keep-alive", "timeout=5")]), reset),
        ("upgrade", lines(&[], &[("upgrade", "h2c")]), reset),
        ("te", lines(&[], &[("te", "gzip")]), reset),
        ("a twin of a length", post(&[("content_length", "5")]), bad),
        ("a twin of an encoding", post(&[("transfer_encoding", "chunked")]), bad),
        ("lengths that differ", post(&[("content-length", "0"), ("content-length", "5")]), reset),
        ("a list of lengths", post(&[("content-length", "0, 0")]), reset),
        ("a signed length", post(&[("content-length", "+0")]), reset),
        ("no data of a length", post(&[("content-length", "5")]), reset),
    ] {
        let mut raw = Raw::connect(rig.address("web").await, &[]).await;
        raw.get(1, &request).await;
        let outcome = raw.outcome(1).await;
        if outcome != wanted {
            wrong.push(format!("{case}: {outcome:?}, not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The only thing that it ever heard of is the mark.
    let mut peer = Peer::connect(rig.address("web").await).await;
    assert_eq!(peer.get("/mark").await.status, 200);
    let text = origin.text();
    assert!(text.starts_with("GET /mark ") && text.matches("HTTP/1.1").count() == 1, "{text}");
}

#[tokio::test]
async fn row_36_a_body_that_is_not_as_long_as_told_never_becomes_a_whole_request() {
    for (case, frames) in [
        ("too short", vec![frame(DATA, END_STREAM, 1, "hi")]),
        ("too long", vec![frame(DATA, END_STREAM, 1, "hi there, smuggled")]),
        (
            "too long, in pieces",
            vec![frame(DATA, 0, 1, "hello"), frame(DATA, END_STREAM, 1, "GET")],
        ),
        ("an end without data", vec![frame(DATA, END_STREAM, 1, "")]),
    ] {
        let origin = Origin::answering(OK).await;
        let rig = Rig::http("", &[origin.address]).await;
        let mut raw = Raw::connect(rig.address("web").await, &[]).await;
        let post = lines(&[(":method", "POST")], &[("content-length", "5")]);
        raw.send(frame(HEADERS, END_HEADERS, 1, block(&post))).await;
        origin.seen("the head", |all| all.iter().any(|one| one.text().contains("\r\n\r\n"))).await;
        for frame in frames {
            raw.send(frame).await;
        }
        assert_eq!(raw.outcome(1).await, Outcome::Reset(PROTOCOL_ERROR), "{case}");
        origin.seen("the end", |all| all.iter().all(|one| one.ended)).await;
        let text = origin.text();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        // `hello` is what was told; what came behind it is not there.
        assert!(body.len() < 5 || body == "hello", "{case}: {text}");
        within("stop", rig.app.stop()).await;
    }
}

/// A process with one listener, and where it listens.
async fn process(
    origin: &Origin,
    more: &str,
) -> (Running, std::net::SocketAddr, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portolan.toml");
    let services = directory.path().join("services.toml");
    fs::write(&services, crate::support::listing("web", &[("one", origin.address)])).unwrap();
    let config = format!(
        "[node]\nworkers = 1\n[registry.local.file]\npath = \"services.toml\"\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n{more}\n\
         [admin]\nsocket = \"{}\"\n",
        directory.path().join("admin.sock").display()
    );
    fs::write(&file, config).unwrap();
    let running = Running::start(&file).await;
    running.ready(&directory.path().join("admin.sock")).await;
    let address = running.address("web").await;
    (running, address, directory)
}

/// Kilobytes of memory that are in use.
fn rss(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// So much more may be in use by what few clients do; for a hundred answers that nobody reads, about
/// a megabyte each, which are the buffers between the endpoint and the stream.
const GROWTH_KB: u64 = 48 << 10;
const ANSWERS_KB: u64 = 100 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_32_to_35_whoever_floods_loses_the_connection_and_nobody_else_anything() {
    let origin = Origin::answering(OK).await;
    let (running, address, _directory) = process(&origin, "").await;
    let mut other = Peer::connect(address).await;
    assert_eq!(other.get("/").await.status, 200);
    let before = rss(&running);
    let calm = Outcome::GoAway(ENHANCE_YOUR_CALM);
    let get = |stream: u32| frame(HEADERS, END_STREAM | END_HEADERS, stream, block(&GET));
    let open = |stream: u32| frame(HEADERS, END_HEADERS, stream, block(&GET));
    let streams = |each: &dyn Fn(u32) -> Vec<u8>| -> Vec<u8> {
        (0..100_000).flat_map(|number| each(number * 2 + 1)).collect()
    };
    let mut bomb = vec![0x40, 1, b'x', 0x7f, 0xe0, 0x1e];
    bomb.extend(vec![b'y'; 4063]);
    // One line of 4 kB in the table, and then a byte for each time that it is meant.
    let bomb = [block(&GET), bomb, vec![0xbe; 12_000]].concat();
    for (case, bytes) in [
        (
            "row 32: rapid reset",
            streams(&|stream| [get(stream), frame(RST_STREAM, 0, stream, [0, 0, 0, 8])].concat()),
        ),
        (
            "row 33: made to reset, by a window of nothing",
            streams(&|stream| [open(stream), frame(WINDOW_UPDATE, 0, stream, [0; 4])].concat()),
        ),
        (
            "row 33: made to reset, by a window too large",
            streams(&|stream| {
                [open(stream), frame(WINDOW_UPDATE, 0, stream, [0x7f, 0xff, 0xff, 0xff])].concat()
            }),
        ),
        (
            "row 33: made to reset, by a dependency on itself",
            streams(&|stream| {
                [
                    open(stream),
                    frame(PRIORITY, 0, stream, [&stream.to_be_bytes()[..], &[1]].concat()),
                ]
                .concat()
            }),
        ),
        (
            "row 33: made to reset, by what is malformed",
            streams(&|stream| {
                frame(HEADERS, END_STREAM | END_HEADERS, stream, block(&[("x", "1")]))
            }),
        ),
        (
            "row 34: CONTINUATION without end",
            [
                frame(HEADERS, END_STREAM, 1, block(&GET)),
                frame(CONTINUATION, 0, 1, block(&[("x", "1")])).repeat(100_000),
            ]
            .concat(),
        ),
        (
            "row 34: empty CONTINUATION without end",
            [
                frame(HEADERS, END_STREAM, 1, block(&GET)),
                frame(CONTINUATION, 0, 1, "").repeat(100_000),
            ]
            .concat(),
        ),
        ("row 34: a bomb of HPACK", frame(HEADERS, END_STREAM | END_HEADERS, 1, bomb)),
        ("empty DATA", [open(1), frame(DATA, 0, 1, "").repeat(100_000)].concat()),
        ("row 35: SETTINGS", frame(SETTINGS, 0, 0, "").repeat(100_000)),
        (
            "row 35: SETTINGS with content",
            frame(SETTINGS, 0, 0, [0, 4, 0, 0, 0xff, 0xff]).repeat(100_000),
        ),
        ("row 35: PING", frame(PING, 0, 0, [0; 8]).repeat(100_000)),
        ("row 35: answers to no PING", frame(PING, 1, 0, [0; 8]).repeat(100_000)),
        ("row 35: PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1]).repeat(100_000)),
        (
            "row 35: WINDOW_UPDATE",
            [open(1), frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]).repeat(100_000)].concat(),
        ),
        ("frames that nobody knows", frame(0x42, 0, 0, "").repeat(100_000)),
    ] {
        let mut floods = Vec::new();
        for _ in 0..4 {
            let raw = Raw::connect(address, &[]).await;
            floods.push(tokio::spawn(raw.flood(bytes.clone())));
        }
        while !floods.iter().all(tokio::task::JoinHandle::is_finished) {
            let reply =
                within(case, other.ask(crate::support::h2::request("GET", "/", &[]), None)).await;
            assert_eq!(reply.unwrap().status, 200, "{case}: another client");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for flood in floods {
            // That one is an error of its connection as it stands (RFC 9113 §6.9.1).
            let wanted =
                if case.ends_with("of nothing") { Outcome::GoAway(PROTOCOL_ERROR) } else { calm };
            assert_eq!(flood.await.unwrap(), wanted, "{case}");
        }
    }
    let grown = rss(&running).saturating_sub(before);
    println!("hostile h2: {grown} kB more in use after 64 floods, {before} before");
    assert!(grown < GROWTH_KB, "{grown} kB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_35_a_closed_window_holds_little_memory_and_not_for_long() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n";
    let answer = [head.as_bytes(), &vec![b'x'; 4_000_000]].concat();
    let answer: &'static [u8] = Box::leak(answer.into_boxed_slice());
    let origin = Origin::start(move |mut exchange| async move {
        loop {
            exchange.request().await?;
            exchange.send(answer).await?;
        }
    })
    .await;
    let (running, address, _directory) = process(&origin, "timeouts = { read = \"1s\" }").await;
    let mut other = Peer::connect(address).await;
    assert_eq!(other.get("/").await.body.len(), 4_000_000);
    let before = rss(&running);
    let mut clients = Vec::new();
    // With no window at all, and with one that is never read from.
    for window in [0, 0x7fff_ffff] {
        let mut raw = Raw::connect(address, &[(4, window)]).await;
        raw.send(frame(WINDOW_UPDATE, 0, 0, 0x7000_0000_u32.to_be_bytes())).await;
        for stream in 0..50 {
            raw.get(stream * 2 + 1, &GET).await;
        }
        clients.push(raw);
    }
    let mut most = 0;
    let mut raw = clients.remove(0);
    let ended = tokio::spawn(async move {
        let mut reset = 0;
        while reset < 50 {
            let frame = raw.next().await.unwrap();
            assert!(frame.kind != DATA || frame.payload.is_empty(), "{frame:?}");
            reset += usize::from(frame.kind == RST_STREAM);
        }
    });
    while !ended.is_finished() {
        most = most.max(rss(&running).saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ended.await.unwrap();
    println!("closed windows: at most {most} kB more in use for 100 streams of 4 MB");
    assert!(most < ANSWERS_KB, "{most} kB");
    assert_eq!(other.get("/").await.body.len(), 4_000_000, "another client");
}

#[tokio::test]
async fn floods_are_counted_by_what_they_are() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let address = rig.address("web").await;
    for (reason, bytes) in [
        ("frames", frame(PING, 0, 0, [0; 8]).repeat(2000)),
        ("protocol", frame(PING, 0, 1, [0; 8])),
        (
            "calm",
            [frame(HEADERS, END_STREAM, 1, block(&GET)), frame(CONTINUATION, 0, 1, "").repeat(100)]
                .concat(),
        ),
    ] {
        let mut raw = Raw::connect(address, &[]).await;
        raw.send(bytes).await;
        let metric =
            format!("portolan_proxy_h2_closed_total{{listener=\"web\",reason=\"{reason}\"}}");
        rig.metric_is(&metric, 1.0).await;
    }
    // A stream that was taken before it is reset: the answer to a PING shows that it was.
    let silent = Origin::silent().await;
    let rig = Rig::http("", &[silent.address]).await;
    let mut raw = Raw::connect(rig.address("web").await, &[]).await;
    let closed = "portolan_proxy_h2_closed_total{listener=\"web\",reason=\"resets\"}";
    for stream in 0..300 {
        let stream = stream * 2 + 1;
        raw.get(stream, &GET).await;
        raw.send(frame(PING, 0, 0, [0; 8])).await;
        let Some(answer) = raw.find(|frame| frame.kind == PING || frame.kind == GOAWAY).await
        else {
            break;
        };
        if answer.kind == GOAWAY {
            assert_eq!(answer.code(), ENHANCE_YOUR_CALM);
            break;
        }
        raw.send(frame(RST_STREAM, 0, stream, [0, 0, 0, 8])).await;
    }
    rig.metric_is(closed, 1.0).await;
}

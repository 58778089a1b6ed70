//! Requests that servers could read in two ways, byte for byte at the origin: what is refused
//! leaves no trace there, what is carried has one meaning.

use crate::origin::{OK, Origin, Received, end_of_request};
use crate::rig::{Rig, within};

/// What the proxy adds to a request of a stranger on 127.0.0.1 for the host `a`.
fn added(port: u16) -> String {
    format!(
        "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-port: {port}\r\n\
         x-forwarded-host: a\r\n"
    )
}

/// Asks for `/mark` and answers what the origin has received before that, and since `before`.
async fn received_since(rig: &Rig, origin: &Origin, before: usize) -> String {
    let answer = rig.ask("GET /mark HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let (text, port) = (origin.text(), rig.address("web").await.port());
    let mark = format!("GET /mark HTTP/1.1\r\nHost: a\r\n{}\r\n", added(port));
    text[before..].replacen(&mark, "", 1)
}

#[tokio::test]
async fn a_request_with_two_meanings_is_refused_and_the_origin_never_hears_of_it() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let get = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\nhi");
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut cases: Vec<(&str, String, u16)> = vec![
        (
            "row 1: both framings",
            post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + smuggled,
            400,
        ),
        ("row 3: a list of lengths", post("Content-Length: 2, 2\r\n"), 400),
        ("row 4: lengths differ", post("Content-Length: 2\r\nContent-Length: 3\r\n"), 400),
        ("row 4: plus", post("Content-Length: +2\r\n"), 400),
        ("row 4: minus", post("Content-Length: -1\r\n"), 400),
        ("row 4: hexadecimal", post("Content-Length: 0x2\r\n"), 400),
        ("row 5: a space before the colon", post("Content-Length : 2\r\n"), 400),
        ("row 6: an encoding like chunked", post("Transfer-Encoding: xchunked\r\n"), 400),
        ("row 6: two encodings", post("Transfer-Encoding: chunked, identity\r\n"), 400),
        ("row 6: a control character", post("Transfer-Encoding: \x0bchunked\r\n"), 400),
        ("row 6: no encoding at all", post("Transfer-Encoding: identity\r\n"), 400),
        (
            "row 7: encoded in HTTP/1.0",
            format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"),
            400,
        ),
        (
            "row 10: trailers are announced",
            post("Transfer-Encoding: chunked\r\nTrailer: X\r\n") + smuggled,
            400,
        ),
        ("row 11: a folded line", get("X: 1\r\n 2\r\n"), 400),
        ("row 11: nul", get("X: a\0b\r\n"), 400),
        ("row 11: a bare CR", get("X: a\rb\r\n"), 400),
        ("row 12: lines end with LF", "GET / HTTP/1.1\nHost: a\n\n".into(), 400),
        ("row 12: one line ends with LF", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n".into(), 400),
        ("row 13: no Host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("row 14: two Hosts", get("Host: b\r\n"), 400),
        ("row 14: the same Host twice", get("Host: a\r\n"), 400),
        ("row 14: a user", host("user@a"), 400),
        ("row 15: a comma", host("a,b"), 400),
        ("row 15: a space", host("a b"), 400),
        ("row 15: a port too large", host("a:65536"), 400),
        ("row 15: a port of letters", host("a:http"), 400),
        ("row 16: another host in the target", target("http://b/"), 400),
        ("row 18: all of it, but not by OPTIONS", target("*"), 400),
        ("row 19: CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(), 405),
        ("row 20: a space in the target", target("/a b"), 400),
        ("row 20: a control character in the target", target("/a\x01b"), 400),
        ("row 20: DEL in the target", target("/a\x7fb"), 400),
        ("row 20: eight bits in the target", target("/\u{e4}"), 400),
        ("row 21: a fragment", target("/a#b"), 400),
        ("row 22: above the root", target("/../admin"), 400),
        ("row 22: above the root, escaped", target("/%2e%2e/admin"), 400),
        ("row 22: a backslash", target("/a\\..\\admin"), 400),
        ("row 22: a hidden slash", target("/a%2f..%2fadmin"), 400),
        ("row 22: a hidden nul", target("/a%00"), 400),
        ("row 23: parentheses in a name", get("X(y): 1\r\n"), 400),
        ("row 23: an empty name", get(": 1\r\n"), 400),
        ("row 23: eight bits in a name", get("X\u{e4}: 1\r\n"), 400),
        ("row 24: an underscore twin", post("Content_Length: 2\r\n"), 400),
        ("row 24: another one", post("Transfer_Encoding: chunked\r\n"), 400),
        ("row 24: a twin of what proxies tell", get("X_Forwarded_For: 1.2.3.4\r\n"), 400),
        ("row 25: 300 header lines", get(&"X: 1\r\n".repeat(300)), 431),
        ("row 25: 70 kB in one line", get(&format!("X: {}\r\n", "x".repeat(70_000))), 431),
        ("row 26: Host for this hop only", get("Connection: close, Host\r\n"), 400),
        (
            "row 26: X-Forwarded-For for this hop only",
            get("Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n"),
            400,
        ),
        (
            "row 26: the framing for this hop only",
            post("Content-Length: 2\r\nConnection: close, Content-Length\r\n"),
            400,
        ),
        (
            "row 26: the encoding for this hop only",
            post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n") + smuggled,
            400,
        ),
        ("another version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n".into(), 505),
        ("no version", "GET /\r\n\r\n".into(), 400),
        ("no HTTP", "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n".into(), 400),
    ];
    cases.push(("row 25: 1.1 MB", get(&format!("X: {}\r\n", "x".repeat(1_100_000))), 431));
    let mut wrong = Vec::new();
    for (case, request, status) in &cases {
        let before = origin.text().len();
        let mut client = rig.client().await;
        // The answer may come, and the connection break, before all of a large head is sent.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, request.as_bytes()).await;
        let answer = client.answer().await;
        let more = client.finish().await;
        let received = received_since(&rig, &origin, before).await;
        // The project speaks of itself alone, in every answer that it gives by itself.
        let foreign = answer.head.contains("Pingora");
        if answer.status != *status || foreign || !more.is_empty() || !received.is_empty() {
            wrong.push(format!("{case}: {answer:?}, then {more:?}; the origin got {received:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let marks = "portolan_proxy_requests_total{class=\"2xx\",listener=\"web\"}";
    rig.metric_is(marks, cases.len() as f64).await;
}

#[tokio::test]
async fn what_is_carried_reaches_the_origin_with_one_meaning() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let port = rig.address("web").await.port();
    let own = added(port);
    let mut wrong = Vec::new();
    for (case, request, wanted) in [
        (
            "row 2: equal lengths become one",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 2\r\n+\r\nhi",
        ),
        (
            "row 9: extensions of chunks stay here",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             2;x=y\r\nhi\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n+Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        (
            "row 17: the target in origin form",
            "GET http://a/x?y=z HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x?y=z HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "row 17: and without a path",
            "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "row 17: and without a path, with a query",
            "GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /?y HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "row 18: OPTIONS *",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "row 22: the same bytes go on",
            "GET /a/../b/%2e/c%20d HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a/../b/%2e/c%20d HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "row 24: an underscore that imitates nothing",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n+\r\n",
        ),
        (
            "row 27: what is for this hop stays here",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "row 28: an upgrade that nobody knows",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABk\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n+\r\n",
        ),
        (
            "eight bits in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e4}\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e4}\r\n+\r\n",
        ),
        (
            "the letters of names stay",
            "GET / HTTP/1.1\r\nhost: a\r\nx-lOwEr: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx-lOwEr: 1\r\n+\r\n",
        ),
    ] {
        let before = origin.text().len();
        let answer = rig.ask(request).await;
        if answer.status != 200 {
            wrong.push(format!("{case}: {answer:?}"));
            continue;
        }
        let wanted = wanted.replacen('+', &own, 1);
        let received = received_since(&rig, &origin, before).await;
        if received != wanted {
            wrong.push(format!("{case}:\n  {received:?}, not\n  {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_malformed_chunked_body_never_becomes_a_complete_request() {
    let mut wrong = Vec::new();
    let rest = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (case, body) in [
        ("row 8: a negative size", "-1\r\nhi\r\n"),
        ("row 8: a prefix", "0x2\r\nhi\r\n"),
        ("row 8: a size that overflows", "10000000000000002\r\nhi\r\n"),
        ("row 8: a size line that ends with LF", "2\nhi\r\n"),
        ("row 8: no end of the data", "2\r\nhiXX"),
        ("row 8: the data end with LF", "2\r\nhi\n"),
        ("row 8: a space before the size", " 2\r\nhi\r\n"),
        ("row 9: LF in an extension", "2;\nxx\r\nhi\r\n"),
        ("row 9: CR in an extension", "2;a\rb\r\nhi\r\n"),
        ("row 10: a trailer line that ends with LF", "0\r\nX: 1\n\r\n"),
        ("row 10: a folded trailer", "0\r\n X: 1\r\n\r\n"),
        ("row 10: a trailer", "2\r\nhi\r\n0\r\nX: 1\r\n\r\n"),
        ("row 10: framing in a trailer", "0\r\nContent-Length: 9\r\n\r\n"),
    ] {
        // In one piece with the head, or after what was well-formed has gone on already.
        for good in ["", "3\r\nabc\r\n"] {
            let origin = Origin::answering(OK).await;
            let rig = Rig::http("", &[origin.address]).await;
            let mut client = rig.client().await;
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            if good.is_empty() {
                client.send(format!("{head}{body}{rest}")).await;
            } else {
                client.send(format!("{head}{good}")).await;
                let came = |all: &[Received]| all.iter().any(|c| c.text().contains("abc"));
                origin.seen("the first chunk", came).await;
                client.send(format!("{body}{rest}")).await;
            }
            let answer = String::from_utf8(client.finish().await).unwrap();
            origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
            let complete = origin.received().iter().any(|c| end_of_request(&c.bytes).is_some());
            if !answer.starts_with("HTTP/1.1 400 ")
                || answer.matches("HTTP/1.1").count() > 1
                || complete
            {
                wrong.push(format!("{case}, {good:?}: {answer:?}; {:?}", origin.text()));
            }
            within("stop", rig.app.stop()).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `request`, then what looks like another one, in the same breath.
async fn pipelined(rig: &Rig, request: &str) -> String {
    let mut client = rig.client().await;
    client.send(format!("{request}GET /behind HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    String::from_utf8_lossy(&client.finish().await).into_owned()
}

#[tokio::test]
async fn row_28_bytes_behind_an_upgrade_are_no_request_and_no_tunnel_before_101() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    for (case, lines) in [
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"),
        ("a protocol that nobody knows", "Connection: Upgrade\r\nUpgrade: foo\r\n"),
        (
            "a WebSocket that the origin does not take",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        ),
        ("without the word in Connection", "Upgrade: websocket\r\n"),
    ] {
        let before = origin.text().len();
        let answer = pipelined(&rig, &format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).await;
        // At most the first one has an answer; what came behind it reached nobody.
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{case}: {answer:?}");
        assert!(!answer.starts_with("HTTP/1.1 101"), "{case}: {answer:?}");
        let received = received_since(&rig, &origin, before).await;
        assert!(!received.contains("/behind"), "{case}: {received:?}");
    }
}

/// Requests that a lenient listener mends, with what reaches the origin (`+` stands for what the
/// proxy adds), and what may follow on the same connection.
const MENDED: [(&str, &str, &str, &str, bool); 9] = [
    (
        "row 3: a list of equal lengths",
        "content-length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n+\r\nhi",
        true,
    ),
    (
        "row 10: trailers",
        "trailers",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nContent-Length: 9\r\nX: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n+Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        false,
    ),
    (
        "row 10: announced ones, that do not come",
        "trailers",
        "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n+Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        false,
    ),
    (
        "row 12: lines that end with LF",
        "line-end",
        "GET /x HTTP/1.1\nHost: a\nX: 1\n\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nX: 1\r\n+\r\n",
        true,
    ),
    (
        "row 12: the same with a body",
        "line-end",
        "POST /x HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n+\r\nhi",
        true,
    ),
    (
        "row 17: the port that goes without saying",
        "host",
        "GET http://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: A:80\r\n+\r\n",
        false,
    ),
    (
        "row 24: an underscore twin",
        "header-name",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent_Length: 9\r\n\r\nhi",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n+\r\nhi",
        true,
    ),
    (
        "row 24: a twin of an encoding",
        "header-name",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n+\r\nhi",
        true,
    ),
    (
        "row 24: a twin of what proxies tell",
        "header-name",
        "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n+\r\n",
        true,
    ),
];

#[tokio::test]
async fn a_lenient_listener_mends_what_has_one_meaning_and_counts_it() {
    let mut wrong = Vec::new();
    for (case, reason, request, wanted, last) in MENDED {
        let origin = Origin::answering(OK).await;
        let rig = Rig::http("strictness = \"lenient\"", &[origin.address]).await;
        let port = rig.address("web").await.port();
        let own = added(port).replace(
            "host: a\r\n",
            if case.contains("port") { "host: A:80\r\n" } else { "host: a\r\n" },
        );
        let answer = pipelined(&rig, request).await;
        let received = origin.text();
        let behind = received.find("GET /behind");
        let first = &received[..behind.unwrap_or(received.len())];
        let answers = answer.matches("HTTP/1.1 200").count();
        if first != wanted.replacen('+', &own, 1)
            || behind.is_none() != last
            || answers != 2 - usize::from(last)
        {
            wrong.push(format!("{case}: {answer:?}\n  {received:?}, not\n  {wanted:?}"));
        }
        let counted =
            format!("portolan_proxy_mended_total{{listener=\"web\",reason=\"{reason}\"}}");
        rig.metric_is(&counted, 1.0).await;
        // A strict one refuses each of them, and nothing of it becomes a request.
        let strict = Rig::http("", &[origin.address]).await;
        origin.forget();
        let answer = pipelined(&strict, request).await;
        let received = origin.text();
        let complete = end_of_request(received.as_bytes()).is_some();
        if !answer.starts_with("HTTP/1.1 400") || complete || received.contains("/behind") {
            wrong.push(format!("{case}, strict: {answer:?}, {received:?}"));
        }
        within("stop", rig.app.stop()).await;
        within("stop", strict.app.stop()).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_lenient_listener_refuses_what_has_two_meanings_all_the_same() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("strictness = \"lenient\"", &[origin.address]).await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut wrong = Vec::new();
    for (case, request) in [
        (
            "row 1: both framings",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {smuggled}"
            ),
        ),
        (
            "row 3: a list of lengths that differ",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 3\r\n\r\nhi!".into(),
        ),
        (
            "row 6: an encoding like chunked",
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n{smuggled}"),
        ),
        (
            "row 12: line ends of both kinds",
            "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
                .into(),
        ),
        (
            "row 12: the other way round",
            "GET / HTTP/1.1\nHost: a\r\n\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        ),
        ("row 12: a bare CR among them", "GET / HTTP/1.1\nHost: a\nX: a\rb\n\n".into()),
        ("row 16: another host", "GET http://b:80/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("row 16: another port", "GET http://a:8080/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
    ] {
        let before = origin.text().len();
        let mut client = rig.client().await;
        client.send(request).await;
        let answer = client.answer().await;
        let more = client.finish().await;
        let received = received_since(&rig, &origin, before).await;
        if answer.status != 400 || !more.is_empty() || !received.is_empty() {
            wrong.push(format!("{case}: {answer:?}, then {more:?}; the origin got {received:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Requests and answers of every framing: each arrives whole, and where it ends the next begins.

use std::fmt::Write as _;

use crate::origin::{OK, Origin};
use crate::rig::{Answer, Rig};

/// Answers each request with its first line and its body.
async fn echo() -> Origin {
    Origin::start(|mut exchange| async move {
        loop {
            let request = exchange.request().await?;
            let line = request.lines().next().unwrap_or_default();
            let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let told = format!("{line}|{body}");
            let length = told.len();
            exchange
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{told}"))
                .await?;
        }
    })
    .await
}

#[tokio::test]
async fn three_requests_in_a_row_are_answered_in_order_however_they_are_cut() {
    let origin = echo().await;
    let rig = Rig::http("", &[origin.address]).await;
    let requests = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
                    POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
                    POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    2\r\nwo\r\n3\r\nrld\r\n0\r\n\r\n\
                    GET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
    for piece in [requests.len(), 97, 7] {
        let mut client = rig.client().await;
        for part in requests.as_bytes().chunks(piece) {
            client.send(part).await;
            tokio::task::yield_now().await;
        }
        let mut told = Vec::new();
        for _ in 0..4 {
            told.push(client.answer().await.body);
        }
        // How the chunks are cut on the way is nobody's business; what is in them is.
        told[2] = told[2].replace("2\r\nwo\r\n3\r\nrld\r\n", "5\r\nworld\r\n");
        let wanted = [
            "GET /1 HTTP/1.1|",
            "POST /2 HTTP/1.1|hello",
            "POST /3 HTTP/1.1|5\r\nworld\r\n0\r\n\r\n",
            "GET /4 HTTP/1.1|",
        ];
        assert_eq!(told, wanted, "in pieces of {piece}");
        assert_eq!(client.finish().await, b"", "in pieces of {piece}: more than was asked for");
    }
}

#[tokio::test]
async fn what_an_answer_says_about_its_end_is_understood() {
    let chunked = Some("chunked");
    for (case, method, answer, status, encoding, body, origins) in [
        ("a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, None, "ok", 1),
        ("no body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, None, "", 1),
        (
            "HEAD with a length",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
            200,
            None,
            "",
            1,
        ),
        (
            "HEAD, chunked",
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            200,
            chunked,
            "",
            1,
        ),
        ("204", "GET", "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", 204, None, "", 1),
        (
            "304 with the length of what it is about",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: \"x\"\r\n\r\n",
            304,
            None,
            "",
            1,
        ),
        (
            "chunks",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n",
            200,
            chunked,
            "2\r\nok\r\n0\r\n\r\n",
            1,
        ),
        (
            "chunks and trailers",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n\
             2\r\nok\r\n0\r\nX: 1\r\n\r\n",
            200,
            chunked,
            "2\r\nok\r\n0\r\n\r\n",
            1,
        ),
        (
            "both framings",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\n\r\n",
            200,
            chunked,
            "2\r\nok\r\n0\r\n\r\n",
            1,
        ),
        (
            "to the end of the connection",
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
            200,
            chunked,
            "2\r\nok\r\n0\r\n\r\n",
            2,
        ),
        (
            "to the end of the connection, in HTTP/1.0",
            "GET",
            "HTTP/1.0 200 OK\r\n\r\nok",
            200,
            chunked,
            "2\r\nok\r\n0\r\n\r\n",
            2,
        ),
        (
            "a body where there is none",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            None,
            "",
            2,
        ),
        (
            "more than the length",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
            200,
            None,
            "ok",
            2,
        ),
        (
            "a body with 204",
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
            204,
            None,
            "",
            2,
        ),
        (
            "lengths that differ",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
            502,
            None,
            "the service did not answer\n",
            2,
        ),
        ("no HTTP", "GET", "SSH-2.0-x\r\n\r\n", 502, None, "the service did not answer\n", 2),
        ("nothing at all", "GET", "", 502, None, "the service did not answer\n", 2),
    ] {
        // Closes behind what is told by the close, and keeps the connection otherwise.
        let closes = answer.is_empty() || answer.contains("close") || answer.contains("HTTP/1.0");
        let origin = Origin::start(move |mut exchange| async move {
            loop {
                let request = exchange.request().await?;
                let after = request.starts_with("GET /after");
                exchange.send(if after { OK } else { answer }).await?;
                if closes && !after {
                    return Some(());
                }
            }
        })
        .await;
        let rig = Rig::http("", &[origin.address]).await;
        let mut client = rig.client().await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let got = client.answer_to(method).await;
        assert_eq!((got.status, &*got.body), (status, body), "{case}: {got:?}");
        assert_eq!(got.header("transfer-encoding"), encoding, "{case}: {got:?}");
        assert!(encoding.is_none() || got.header("content-length").is_none(), "{case}: {got:?}");
        // An answer of ours to a broken one may close the connection; others leave it usable.
        if status == 502 {
            client = rig.client().await;
        }
        client.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let after = client.answer().await;
        assert_eq!((after.status, &*after.body), (200, "ok"), "{case}: {after:?}");
        assert_eq!(origin.received().len(), origins, "{case}: connections to the origin");
    }
}

#[tokio::test]
async fn what_an_origin_has_said_so_far_is_passed_on_at_once() {
    for parts in [
        ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "one", "two", "end"],
        [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "3\r\none\r\n",
            "3\r\ntwo\r\n",
            "3\r\nend\r\n0\r\n\r\n",
        ],
    ] {
        let (go, step) = tokio::sync::watch::channel(0);
        let origin = Origin::start(move |mut exchange| {
            let mut step = step.clone();
            async move {
                exchange.request().await?;
                for (number, part) in parts.into_iter().enumerate() {
                    step.wait_for(|step| *step >= number).await.ok()?;
                    exchange.send(part).await?;
                }
                exchange.rest().await
            }
        })
        .await;
        let rig = Rig::http("", &[origin.address]).await;
        let mut client = rig.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        // The next part is sent only when the one before it has arrived.
        for (number, word) in [(1, "one"), (2, "two"), (3, "end")] {
            go.send_replace(number);
            client.until(word).await;
        }
    }
}

#[tokio::test]
async fn interim_answers_are_passed_on_before_the_final_one() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    // Twice, for the first may not spoil the second.
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut told = String::new();
        for _ in 0..3 {
            let Answer { status, head, body } = client.answer().await;
            let link = crate::rig::header(&head, "link").unwrap_or_default();
            let _ = write!(told, "{status}{link}{body} ");
        }
        assert_eq!(told, "103</a> 103</b> 200ok ");
    }
}

#[tokio::test]
async fn interim_answers_that_come_with_an_answer_that_a_page_replaces_are_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("busy.txt");
    std::fs::write(&page, "busy").unwrap();
    let origin = Origin::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let config = format!(
        "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\nerror_pages = {{ \"503\" = {page:?} }}\n"
    );
    let rig = Rig::start(&config, vec![crate::rig::service("web", &[origin.address])]).await;
    let mut client = rig.client().await;
    for _ in 0..2 {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                       Content-Length: 2\r\n\r\nhi";
        client.send(request).await;
        let mut told = String::new();
        for _ in 0..3 {
            let Answer { status, head, body } = client.answer().await;
            let link = crate::rig::header(&head, "link").unwrap_or_default();
            let _ = write!(told, "{status}{link}{body} ");
        }
        assert_eq!(told, "100 103</a> 503busy ");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_interim_answer() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    assert_eq!(rig.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_from_the_origin_before_it_sends_its_body() {
    let origin = Origin::start(|mut exchange| async move {
        loop {
            exchange.head().await?;
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n").await?;
            let body = exchange.some().await?;
            let body = String::from_utf8_lossy(&body);
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}")).await?;
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    // The second one may find the connection to the origin of the first.
    for body in ["hi", "ho"] {
        let mut client = rig.client().await;
        client.send(head).await;
        assert_eq!(client.answer().await.status, 100);
        client.send(body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &*answer.body), (200, body));
    }
}

#[tokio::test]
async fn a_client_that_expects_100_of_a_silent_origin_is_not_left_waiting() {
    let origin = Origin::silent().await;
    let rig = Rig::http("timeouts = { read = \"200ms\" }", &[origin.address]).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let answer = rig.ask(head).await;
    // Both are silent; who is blamed first is a matter of the clock.
    assert!([408, 504].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn an_answer_before_the_body_leaves_no_part_of_the_body_behind() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n";
    let origin = Origin::start(move |mut exchange| async move {
        loop {
            let head = exchange.head().await?;
            exchange.send(OK).await?;
            let mut body = if head.starts_with("POST") { smuggled.len() } else { 0 };
            while body > 0 {
                body = body.saturating_sub(exchange.some().await?.len());
            }
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    for (case, sent) in [("all of the body", smuggled), ("a part of it", &smuggled[..30])] {
        let mut client = rig.client().await;
        let length = smuggled.len();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.body, "ok", "{case}");
        client.send(sent).await;
        assert_eq!(client.finish().await, b"", "{case}: part of a body was answered");
        // Whichever connection the next request takes, it is read as a request there.
        let next = rig.ask("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((next.status, &*next.body), (200, "ok"), "{case}");
    }
}

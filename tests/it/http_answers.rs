//! Endpoints that answer as they should not, and clients that leave in every way: nobody ever gets the
//! answer to somebody else's request, and nothing stays behind.

use std::time::Duration;

use socket2::SockRef;

use crate::origin::{OK, Origin, end_of_request};
use crate::rig::{Client, Rig, within};

const OPEN: &str = "portolan_listener_connections{listener=\"web\"}";
/// Where bytes of this kind come back, an answer was taken for that of another request.
const WRONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";

/// Answers each request with its own path; one for `/nasty` with these bytes, and then as before.
async fn numbered(nasty: String) -> Origin {
    Origin::start(move |mut exchange| {
        let nasty = nasty.clone();
        async move {
            loop {
                let request = exchange.request().await?;
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                if path == "/nasty" {
                    exchange.send(&nasty).await?;
                } else {
                    let length = path.len();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    exchange.send(head + &path).await?;
                }
            }
        }
    })
    .await
}

/// Asks for ten numbers, by clients of their own, and fails when one gets another's.
async fn everybody_gets_their_own(case: &str, rig: &Rig) {
    for number in 0..10 {
        let path = format!("/{number}");
        let answer = rig.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!((answer.status, &*answer.body), (200, &*path), "{case}: {answer:?}");
    }
}

#[tokio::test]
async fn rows_37_and_38_no_answer_is_taken_for_that_of_another_request() {
    let storm = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(10);
    let length = WRONG.len();
    for (case, method, nasty, statuses) in [
        ("a storm of 100", "GET", format!("{storm}{OK}"), &[502, 0][..]),
        ("a few hints", "GET", format!("{hints}{OK}"), &[200]),
        (
            "101 that nobody asked for",
            "GET",
            format!("HTTP/1.1 101 Switching\r\n\r\n{WRONG}"),
            &[502],
        ),
        ("204 with a body", "GET", format!("HTTP/1.1 204 No Content\r\n\r\n{WRONG}"), &[204]),
        (
            "204 with a length and a body",
            "GET",
            format!("HTTP/1.1 204 No Content\r\nContent-Length: {length}\r\n\r\n{WRONG}"),
            &[204],
        ),
        ("304 with a body", "GET", format!("HTTP/1.1 304 Not Modified\r\n\r\n{WRONG}"), &[304]),
        (
            "304 with a length and a body",
            "GET",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {length}\r\n\r\n{WRONG}"),
            &[304],
        ),
        (
            "HEAD with a body",
            "HEAD",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{WRONG}"),
            &[200],
        ),
        (
            "HEAD with chunks",
            "HEAD",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{WRONG}"),
            &[200],
        ),
        (
            "both framings",
            "GET",
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n\
                 0\r\n\r\n{WRONG}",
                length + 5
            ),
            &[200, 502],
        ),
        (
            "two lengths",
            "GET",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 50\r\n\r\nok{WRONG}"),
            &[502],
        ),
        (
            "a list of lengths",
            "GET",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2, 50\r\n\r\nok{WRONG}"),
            &[502],
        ),
        (
            "a length with a sign",
            "GET",
            format!("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok{WRONG}"),
            &[502],
        ),
        (
            "chunks that are none",
            "GET",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{WRONG}"),
            &[200, 502],
        ),
        ("bytes behind the answer", "GET", format!("{OK}{WRONG}"), &[200]),
        ("two answers", "GET", format!("{OK}{OK}{WRONG}"), &[200]),
        ("a line behind the answer", "GET", format!("{OK}\r\n"), &[200]),
        ("no HTTP", "GET", "SSH-2.0-x\r\n\r\n".into(), &[502]),
    ] {
        let origin = numbered(nasty).await;
        let rig = Rig::http("timeouts = { read = \"5s\" }", &[origin.address]).await;
        everybody_gets_their_own(case, &rig).await;
        let mut client = rig.client().await;
        client.send(format!("{method} /nasty HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        // What comes next on the client's own connection is not shifted either.
        client.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let told = String::from_utf8_lossy(&client.finish().await).into_owned();
        let finals: Vec<u16> = told
            .split("HTTP/1.1 ")
            .skip(1)
            .filter_map(|answer| answer[..3].parse().ok())
            .filter(|status| *status >= 200)
            .collect();
        let first = finals.first().copied().unwrap_or_default();
        assert!(statuses.contains(&first), "{case}: {first}: {told:?}");
        assert!(finals.len() <= 2, "{case}: {told:?}");
        let after = finals.len() < 2 || told.ends_with("\r\n\r\n/after");
        assert!(after && !told.contains("wrong"), "{case}: {told:?}");
        everybody_gets_their_own(case, &rig).await;
        rig.metric_is(OPEN, 0.0).await;
        within("stop", rig.app.stop()).await;
    }
}

#[tokio::test]
async fn row_37_interim_answers_without_an_end_are_cut() {
    let origin = Origin::start(|mut exchange| async move {
        exchange.request().await?;
        while exchange.send("HTTP/1.1 100 Continue\r\n\r\n").await.is_some() {}
        exchange.rest().await
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let told = client.rest().await;
    assert!(told.len() < 64 << 10, "{} bytes", told.len());
    origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
    rig.metric_is(OPEN, 0.0).await;
}

#[tokio::test]
async fn row_38_what_comes_while_nobody_asks_is_nobodys_answer() {
    let (say, said) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut exchange| {
        let mut said = said.clone();
        async move {
            loop {
                let request = exchange.request().await?;
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let length = path.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                exchange.send(head + &path).await?;
                if path == "/nasty" {
                    said.wait_for(|said| *said).await.ok()?;
                    exchange.send(WRONG).await?;
                    // Nobody reads on here: the connection has to be given up by the other side.
                    return exchange.rest().await;
                }
            }
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let answer = rig.ask("GET /nasty HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.body, "/nasty");
    say.send_replace(true);
    origin.seen("the end", |all| all[0].ended).await;
    everybody_gets_their_own("an answer while nobody asks", &rig).await;

    // Before the first request of a connection: it may be taken for the answer to that, never for
    // another one's. The answer proper comes while nobody asks; were the next one to ask before it
    // is there, nobody could tell it from their own.
    let (answered, mut answers) = tokio::sync::watch::channel(String::new());
    let origin = Origin::start(move |mut exchange| {
        let answered = answered.clone();
        async move {
            exchange.send(WRONG).await?;
            loop {
                let request = exchange.request().await?;
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let length = path.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                let sent = exchange.send(head + &path).await;
                answered.send_replace(path);
                sent?;
            }
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    for number in 0..20 {
        let path = format!("/{number}");
        let answer = rig.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let own = answer.body == path || answer.body == "wrong" || answer.status == 502;
        assert!(own, "{path} got {answer:?}");
        if answer.body == "wrong" {
            within("the answer proper", answers.wait_for(|last| *last == path)).await.unwrap();
        }
    }
}

/// An origin that answers when it is told to.
async fn patient() -> (tokio::sync::watch::Sender<bool>, Origin) {
    let (go, gone) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut exchange| {
        let mut go = gone.clone();
        async move {
            exchange.request().await?;
            // A client that has left ends this, and nobody else has to.
            let told = async { go.wait_for(|go| *go).await.is_ok() };
            let told = tokio::select! {
                told = told => told,
                _ = exchange.rest() => false,
            };
            if !told {
                return None;
            }
            exchange.send(OK).await?;
            exchange.rest().await
        }
    })
    .await;
    (go, origin)
}

#[tokio::test]
async fn row_40_who_ends_its_side_behind_a_request_still_gets_the_answer_or_not_as_configured() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let (go, origin) = patient().await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send(request).await;
    within("end", tokio::io::AsyncWriteExt::shutdown(&mut client.stream)).await.unwrap();
    origin.seen("the request", |all| all.iter().any(|c| c.text().ends_with("hi"))).await;
    go.send_replace(true);
    let told = String::from_utf8(client.rest().await).unwrap();
    assert!(told.starts_with("HTTP/1.1 200") && told.ends_with("ok"), "{told:?}");
    rig.metric_is(OPEN, 0.0).await;

    let (_go, origin) = patient().await;
    let rig = Rig::http("half_close = \"abort\"", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send(request).await;
    origin.seen("the request", |all| all.iter().any(|c| c.text().ends_with("hi"))).await;
    assert_eq!(client.finish().await, b"");
    origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
    rig.metric_is(OPEN, 0.0).await;
}

/// Closes by a reset.
fn break_off(client: Client) {
    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
}

#[tokio::test]
async fn row_40_a_client_that_breaks_off_leaves_nothing_behind() {
    for half_close in ["answer", "abort"] {
        let more = format!("half_close = \"{half_close}\"");
        // In the middle of a body.
        for (case, request) in [
            ("a length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nhello"),
            (
                "chunks",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            ),
        ] {
            let origin = Origin::answering(OK).await;
            let rig = Rig::http(&more, &[origin.address]).await;
            let mut client = rig.client().await;
            client.send(request).await;
            origin.seen("the half", |all| all.iter().any(|c| c.text().contains("hello"))).await;
            break_off(client);
            origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
            let complete = origin.received().iter().any(|c| end_of_request(&c.bytes).is_some());
            assert!(!complete, "{case}: {:?}", origin.text());
            rig.metric_is(OPEN, 0.0).await;
        }
        // While its answer is awaited.
        let (_go, origin) = patient().await;
        let rig = Rig::http(&more, &[origin.address]).await;
        let mut client = rig.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        origin.seen("the request", |all| all.iter().any(|c| !c.bytes.is_empty())).await;
        break_off(client);
        origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
        rig.metric_is(OPEN, 0.0).await;
        // In the middle of an answer without an end.
        let origin = Origin::start(|mut exchange| async move {
            exchange.request().await?;
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            loop {
                exchange.send("5\r\nhello\r\n").await?;
            }
        })
        .await;
        let rig = Rig::http(&more, &[origin.address]).await;
        let mut client = rig.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("hello").await;
        break_off(client);
        rig.metric_is(OPEN, 0.0).await;
        assert_eq!(within("drain", rig.app.drain(Duration::from_secs(20))).await, 0);
    }
}

#[tokio::test]
async fn row_40_peers_that_say_nothing_any_more_are_closed_in_time() {
    let origin = Origin::answering(OK).await;
    let more = "timeouts = { request_head = \"200ms\", idle = \"200ms\", read = \"200ms\" }";
    let rig = Rig::http(more, &[origin.address]).await;
    // In every state that a connection can be in, somebody stays who never says another word.
    let mut silent = Vec::new();
    for words in [
        "",
        "GET",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = rig.client().await;
        client.send(words).await;
        silent.push(client);
    }
    // All of them were in.
    rig.metric_is("portolan_listener_connections_accepted_total{listener=\"web\"}", 7.0).await;
    rig.metric_is(OPEN, 0.0).await;
    origin
        .seen("the end", |all| all.iter().all(|c| c.ended || c.text().ends_with("\r\n\r\n")))
        .await;
    drop(silent);
}

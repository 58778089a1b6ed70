//! Clients that are slow on purpose, and clients that are too many: they are closed, others are served.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::origin::{OK, Origin, end_of_request};
use crate::rig::{Client, Rig, within};

const OPEN: &str = "portolan_listener_connections{listener=\"web\"}";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn slow(what: &str) -> String {
    format!("portolan_proxy_slow_total{{listener=\"web\",what=\"{what}\"}}")
}

#[tokio::test]
async fn row_31_a_body_that_trickles_gets_408_and_its_endpoint_never_sees_it_end() {
    let origin = Origin::answering(OK).await;
    let more = "min_rates = { body = \"1kB\", over = \"500ms\" }";
    let rig = Rig::http(more, &[origin.address]).await;
    for (number, framing) in
        ["Content-Length: 1000000", "Transfer-Encoding: chunked"].iter().enumerate()
    {
        let mut client = rig.client().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await;
        let began = Instant::now();
        // Each byte alone comes long before any timeout.
        let answer = loop {
            let piece = if number == 0 { "x" } else { "1\r\nx\r\n" };
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, piece.as_bytes()).await;
            let readable =
                tokio::time::timeout(Duration::from_millis(20), client.stream.readable());
            if readable.await.is_ok() {
                break client.answer().await;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{framing}");
        };
        assert_eq!(answer.status, 408, "{framing}: {answer:?}");
        assert!(began.elapsed() >= Duration::from_millis(400), "{framing}");
        drop(client);
        rig.metric_is(&slow("body"), number as f64 + 1.0).await;
    }
    origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
    assert!(origin.received().iter().all(|c| end_of_request(&c.bytes).is_none()));
    rig.metric_is(OPEN, 0.0).await;
}

#[tokio::test]
async fn a_body_that_comes_fast_enough_or_waits_for_our_word_is_not_cut() {
    const MORE: &str = "min_rates = { body = \"1kB\", over = \"2500ms\" }";
    let fast_enough = async {
        let origin = Origin::answering(OK).await;
        let rig = Rig::http(MORE, &[origin.address]).await;
        let mut client = rig.client().await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n").await;
        let began = Instant::now();
        for _ in 0..70 {
            client.send([b'x'; 1000]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(began.elapsed() >= Duration::from_secs(3));
        assert_eq!(client.answer().await.status, 200);
    };
    // It may not send before it is told to, and nobody tells it for a while.
    let waits = async {
        let (go, gone) = tokio::sync::watch::channel(false);
        let origin = Origin::start(move |mut exchange| {
            let mut go = gone.clone();
            async move {
                exchange.head().await?;
                go.wait_for(|go| *go).await.ok()?;
                exchange.send("HTTP/1.1 100 Continue\r\n\r\n").await?;
                exchange.some().await?;
                exchange.send(OK).await
            }
        })
        .await;
        let rig = Rig::http(MORE, &[origin.address]).await;
        let mut client = rig.client().await;
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        client.send(head).await;
        tokio::time::sleep(Duration::from_millis(3500)).await;
        go.send_replace(true);
        assert_eq!(client.answer().await.status, 100);
        client.send("hi").await;
        assert_eq!(client.answer().await.status, 200);
    };
    tokio::join!(fast_enough, waits);
}

/// A client that takes little at a time.
async fn narrow(rig: &Rig) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = within("connect", socket.connect(rig.address("web").await)).await.unwrap();
    Client::over(stream)
}

/// An origin whose answers have 64 MB, which no kernel takes off our hands.
async fn large() -> Origin {
    Origin::start(|mut exchange| async move {
        loop {
            exchange.request().await?;
            let length = 64 << 20;
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await?;
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..64 {
                if exchange.send(&piece).await.is_none() {
                    return exchange.rest().await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn row_31_who_does_not_take_its_answer_is_cut_and_who_takes_it_slowly_is_not() {
    let origin = large().await;
    let more = "min_rates = { send = \"10kB\", over = \"2500ms\" }";
    let rig = Rig::http(more, &[origin.address]).await;
    let mut idle = narrow(&rig).await;
    idle.send(GET).await;
    let mut slowly = narrow(&rig).await;
    slowly.send(GET).await;
    let began = Instant::now();
    // Some 80 kB in a second, by small sips, for longer than it takes to be cut.
    let mut sip = [0; 4096];
    while began.elapsed() < Duration::from_secs(6) {
        let read = within("a sip", slowly.stream.read(&mut sip)).await.unwrap();
        assert!(read > 0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.metric_is(&slow("reader"), 1.0).await;
    assert!(idle.is_reset().await);
    rig.metric_is(OPEN, 1.0).await;
    drop(slowly);
    rig.metric_is(OPEN, 0.0).await;
    origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
}

/// A connection to the listener `web` from this address.
async fn from(rig: &Rig, address: &str) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let at = rig.address("web").await;
    Client::over(within("connect", socket.connect(at)).await.unwrap())
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_others_have_theirs() {
    let origin = Origin::answering(OK).await;
    let refused = "portolan_listener_connections_refused_total{listener=\"web\",reason=\"client\"}";
    let rig = Rig::http(
        "connections_per_client = 2\ntrusted_proxies = [\"127.0.0.9/32\"]",
        &[origin.address],
    )
    .await;
    let mut held = Vec::new();
    for address in ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.9", "127.0.0.9", "127.0.0.9"] {
        let mut client = from(&rig, address).await;
        client.send(GET).await;
        assert_eq!(client.answer().await.status, 200, "{address}");
        held.push(client);
    }
    for _ in 0..3 {
        assert_eq!(from(&rig, "127.0.0.1").await.rest().await, b"");
    }
    rig.metric_is(refused, 3.0).await;
    // Whoever is in stays in, and who leaves makes room.
    held[0].send(GET).await;
    assert_eq!(held[0].answer().await.status, 200);
    drop(held.remove(0));
    rig.metric_is(OPEN, 5.0).await;
    let mut next = from(&rig, "127.0.0.1").await;
    next.send(GET).await;
    assert_eq!(next.answer().await.status, 200);

    let tcp = "[node]\nworkers = 1\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n\
         connections_per_client = 1\n";
    let rig = Rig::start(tcp, vec![crate::rig::service("web", &[origin.address])]).await;
    let mut first = from(&rig, "127.0.0.1").await;
    first.send(GET).await;
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(from(&rig, "127.0.0.1").await.rest().await, b"");
    let mut other = from(&rig, "127.0.0.2").await;
    other.send(GET).await;
    assert_eq!(other.answer().await.status, 200);
    rig.metric_is(refused, 1.0).await;
}

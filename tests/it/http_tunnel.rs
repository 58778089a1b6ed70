//! Upgrades: a tunnel after 101 and never before, for as long as something moves in it.

use std::time::Duration;

use tokio::time::Instant;

use crate::origin::{Exchange, OK, Origin, Received};
use crate::rig::{Client, Rig, service, within};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Switches protocols, then sends back what comes, in upper case.
async fn shouting(mut exchange: Exchange) -> Option<()> {
    exchange.head().await?;
    exchange.send(SWITCHING).await?;
    loop {
        let bytes = exchange.some().await?;
        exchange.send(bytes.to_ascii_uppercase()).await?;
    }
}

async fn tunnel(rig: &Rig) -> Client {
    let mut client = rig.client().await;
    client.send(UPGRADE).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

async fn says_back(client: &mut Client, word: &str) {
    client.send(word).await;
    assert_eq!(client.bytes(word.len()).await, word.to_ascii_uppercase().as_bytes());
}

#[tokio::test]
async fn after_101_bytes_pass_both_ways_and_either_end_ends_it() {
    let origin = Origin::start(shouting).await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = tunnel(&rig).await;
    says_back(&mut client, "hello").await;
    // What looks like HTTP is not read as HTTP.
    says_back(&mut client, "GET / HTTP/1.1\r\n\r\n").await;
    let request = origin.text();
    let head = request.split_once("\r\n\r\n").map(|(head, _)| head.to_ascii_lowercase());
    assert!(
        head.is_some_and(|head| head.contains("\r\nconnection: upgrade\r\n")
            && head.contains("\r\nupgrade: websocket")),
        "{request}"
    );
    drop(client);
    origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;

    let origin = Origin::start(|mut exchange| async move {
        exchange.head().await?;
        exchange.send(SWITCHING).await?;
        exchange.send("bye").await
    })
    .await;
    rig.tell(vec![service("web", &[origin.address])]).await;
    let mut client = tunnel(&rig).await;
    assert_eq!(client.rest().await, b"bye");
}

#[tokio::test]
async fn large_frames_pass_whole_while_both_sides_talk_at_once() {
    let origin = Origin::start(shouting).await;
    let rig = Rig::http("", &[origin.address]).await;
    let client = tunnel(&rig).await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let (mut read, mut write) = client.stream.into_split();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &sent).await.unwrap();
        write
    });
    let mut back = vec![0; bytes.len()];
    let reading = tokio::io::AsyncReadExt::read_exact(&mut read, &mut back);
    within("the bytes", reading).await.unwrap();
    assert!(back == bytes.to_ascii_uppercase());
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_tunnel_outlives_reloads_and_the_registry_entry_of_its_origin() {
    let (origin, other) = (Origin::start(shouting).await, Origin::answering(OK).await);
    let config = "[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    let mut client = tunnel(&rig).await;
    says_back(&mut client, "one").await;
    rig.tell(vec![service("web", &[other.address])]).await;
    says_back(&mut client, "two").await;
    rig.tell(vec![]).await;
    says_back(&mut client, "three").await;
    rig.reload(&format!("{config}head_max = \"8KiB\"\n")).await;
    says_back(&mut client, "four").await;
    // Even the listener may go: who is in stays in.
    rig.reload("[limits]\nconnections = 9\n").await;
    says_back(&mut client, "five").await;
}

#[tokio::test]
async fn a_mute_tunnel_is_cut_and_one_that_talks_in_one_direction_is_not() {
    let quiet = Duration::from_secs(3);
    let origin = Origin::start(|mut exchange| async move {
        let head = exchange.head().await?;
        exchange.send(SWITCHING).await?;
        if !head.starts_with("GET /talk") {
            return exchange.rest().await;
        }
        loop {
            exchange.send("x").await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let more = "timeouts = { tunnel = \"3s\", read = \"2s\", idle = \"2s\" }";
    let rig = Rig::http(more, &[origin.address]).await;
    let mute = async {
        let began = Instant::now();
        assert_eq!(tunnel(&rig).await.rest().await, b"");
        assert!(began.elapsed() >= quiet, "cut after {:?}", began.elapsed());
        origin.seen("the end", |all| all.iter().any(|connection| connection.ended)).await;
    };
    // Both for half as long again as a mute tunnel lasts.
    let only_the_client_talks = async {
        let mut client = tunnel(&rig).await;
        for _ in 0..90 {
            client.send("x").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let whole = "x".repeat(90);
        origin.seen("every byte", |all| all.iter().any(|c| c.text().ends_with(&whole))).await;
    };
    let only_the_origin_talks = async {
        let mut client = rig.client().await;
        client.send(UPGRADE.replace("/chat", "/talk")).await;
        assert_eq!(client.answer().await.status, 101);
        let began = Instant::now();
        while began.elapsed() < quiet * 3 / 2 {
            assert_eq!(client.bytes(1).await, b"x");
        }
    };
    tokio::join!(mute, only_the_client_talks, only_the_origin_talks);
}

#[tokio::test]
async fn before_101_nothing_is_a_tunnel() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut exchange| {
        let mut wait = wait.clone();
        async move {
            exchange.head().await?;
            wait.wait_for(|go| *go).await.ok()?;
            exchange.send(SWITCHING).await?;
            exchange.rest().await
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send(format!("{UPGRADE}early")).await;
    let head_only = |all: &[Received]| all.first().is_some_and(|c| c.text().ends_with("\r\n\r\n"));
    origin.seen("the head", head_only).await;
    // A request beside it goes all the way meanwhile, and still nothing but the head is there.
    let other = Origin::answering(OK).await;
    rig.tell(vec![service("web", &[other.address])]).await;
    assert_eq!(rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    assert!(origin.text().ends_with("\r\n\r\n"), "bytes came before 101: {:?}", origin.text());
    go.send(true).unwrap();
    assert_eq!(client.answer().await.status, 101);
    origin.seen("the early bytes", |all| all[0].text().ends_with("early")).await;
}

#[tokio::test]
async fn an_answer_other_than_101_makes_no_tunnel() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(format!("{UPGRADE}{smuggled}")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.body), (200, "ok"));
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, smuggled.as_bytes()).await;
    assert_eq!(client.rest().await, b"", "bytes behind a refused upgrade were answered");
    assert_eq!(rig.ask("GET /mark HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    assert!(!origin.text().contains("smuggled"), "{:?}", origin.text());
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_an_error_of_the_origin() {
    let origin = Origin::start(shouting).await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 502, "{answer:?}");
}

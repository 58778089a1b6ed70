//! TCP listeners: bytes both ways, ends and breaks passed on, whatever the registry says meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::origin::Origin;
use crate::rig::{Client, Rig, service, within};
use crate::support::echo;

/// A rig with one worker and the listener `web`, by TCP, to the service `web` at `origins`.
pub(crate) async fn rig(more: &str, origins: &[SocketAddr]) -> Rig {
    let config = format!(
        "[node]\nworkers = 1\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n{more}"
    );
    Rig::start(&config, vec![service("web", origins)]).await
}

pub(crate) async fn says_back(client: &mut Client, word: &str) {
    client.send(word).await;
    assert_eq!(client.bytes(word.len()).await, word.as_bytes());
}

#[tokio::test]
async fn an_end_is_passed_on_while_the_other_direction_goes_on() {
    let origin = Origin::start(|mut exchange| async move {
        // Nothing is said before the client has ended.
        exchange.rest().await;
        exchange.send("all of it").await
    })
    .await;
    let rig = rig("", &[origin.address]).await;
    let mut client = rig.client().await;
    client.send("hello").await;
    assert_eq!(client.finish().await, b"all of it");
    assert_eq!(origin.text(), "hello");

    let origin = Origin::start(|mut exchange| async move {
        exchange.send("bye").await?;
        exchange.stream.shutdown().await.ok()?;
        exchange.rest().await
    })
    .await;
    rig.tell(vec![service("web", &[origin.address])]).await;
    let mut client = rig.client().await;
    assert_eq!(client.rest().await, b"bye");
    client.send("still here").await;
    origin.seen("what came after the end", |all| all[0].text() == "still here").await;
    assert!(!origin.received()[0].ended);
    drop(client);
    origin.seen("the end", |all| all[0].ended).await;
    rig.metric_is("portolan_proxy_tcp_bytes_total{from=\"client\",listener=\"web\"}", 15.0).await;
    rig.metric_is("portolan_proxy_tcp_bytes_total{from=\"endpoint\",listener=\"web\"}", 12.0).await;
}

#[tokio::test]
async fn a_break_is_passed_on_as_a_break() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig("", &[listener.local_addr().unwrap()]).await;
    for breaks in ["client", "endpoint"] {
        let mut client = rig.client().await;
        client.send("x").await;
        let (mut endpoint, _) = within("accept", listener.accept()).await.unwrap();
        assert_eq!(within("a byte", endpoint.read_u8()).await.unwrap(), b'x');
        if breaks == "client" {
            client.stream.set_zero_linger().unwrap();
            drop(client);
            let read = within("the break", endpoint.read_u8()).await;
            let kind = read.map_err(|error| error.kind());
            assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset));
        } else {
            endpoint.set_zero_linger().unwrap();
            drop(endpoint);
            assert!(client.is_reset().await, "a clean end would look like a whole answer");
        }
    }
}

#[tokio::test]
async fn a_connection_in_which_nothing_moves_is_closed_and_one_that_talks_is_not() {
    let idle = Duration::from_secs(2);
    let origin = Origin::silent().await;
    let rig = rig("timeouts = { idle = \"2s\" }", &[origin.address]).await;
    let mute = async {
        let began = Instant::now();
        let mut client = rig.client().await;
        client.send("x").await;
        client.rest().await;
        assert!(began.elapsed() >= idle, "closed after {:?}", began.elapsed());
        origin.seen("the end", |all| all.iter().any(|connection| connection.ended)).await;
    };
    // One direction is enough.
    let talking = async {
        let mut client = rig.client().await;
        for _ in 0..90 {
            client.send("x").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        origin.seen("every byte", |all| all.iter().any(|c| c.bytes.len() == 90)).await;
    };
    tokio::join!(mute, talking);
}

#[tokio::test]
async fn a_dead_endpoint_gives_way_to_the_next_and_without_one_the_connection_is_closed() {
    let origin = Origin::echoing().await;
    // Bound and not listening: the kernel refuses, and the port stays taken.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead_address = dead.local_addr().unwrap();
    let more = "[service.web]\npolicy = \"round-robin\"\n";
    let rig = rig(more, &[dead_address, origin.address]).await;
    for _ in 0..4 {
        says_back(&mut rig.client().await, "hello").await;
    }
    let retries = rig.metric("portolan_proxy_connect_retries_total{listener=\"web\"}").await;
    assert!(retries.is_some_and(|retries| retries >= 1.0), "{retries:?}");
    rig.tell(vec![service("web", &[dead_address])]).await;
    assert_eq!(rig.client().await.rest().await, b"");
    rig.tell(vec![]).await;
    assert_eq!(rig.client().await.rest().await, b"");
    rig.tell(vec![service("web", &[origin.address])]).await;
    says_back(&mut rig.client().await, "hello").await;
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_else_and_loses_nothing() {
    let echo = echo().await;
    let rig = rig("", &[echo]).await;
    let (slow, mut other) = (rig.client().await, rig.client().await);
    let piece: Vec<u8> = (0..=250).cycle().take(251 * 64).collect();
    let mut sent = 0;
    // Until every buffer on the way is full: nothing more is taken while others are served.
    loop {
        if let Ok(written) = slow.stream.try_write(&piece[sent % 251..]) {
            sent += written;
            continue;
        }
        for _ in 0..10 {
            says_back(&mut other, "quick").await;
        }
        match slow.stream.try_write(&piece[sent % 251..]) {
            Ok(written) => sent += written,
            Err(_) => break,
        }
    }
    let spliced = "portolan_proxy_tcp_spliced_bytes_total{from=\"client\",listener=\"web\"}";
    assert!(rig.metric(spliced).await.unwrap() > 0.0, "the kernel had a part in it");
    let mut whole = slow;
    let back = whole.bytes(sent).await;
    assert!(back.iter().zip(piece.iter().cycle()).all(|(back, sent)| back == sent));
    says_back(&mut whole, "and on").await;
}

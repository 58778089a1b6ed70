//! What arrives at a port of TLS and is no proper handshake, or comes slowly, or too often.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, Error, version};

use crate::origin::{OK, Origin};
use crate::rig::{Client, Rig, within};
use crate::secure::{Authority, Terms, told};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

async fn rig(more: &str) -> (Authority, Origin, Rig) {
    let authority = Authority::new();
    authority.server("a", &["a.example"]);
    let origin = Origin::answering(OK).await;
    let rig = authority.rig(&["a"], more, &[origin.address]).await;
    (authority, origin, rig)
}

async fn handshakes(rig: &Rig, result: &str, count: f64) {
    let name = format!("portolan_tls_handshakes_total{{listener=\"web\",result=\"{result}\"}}");
    rig.metric_is(&name, count).await;
}

/// Others are served.
async fn serves(authority: &Authority, rig: &Rig) {
    let at = rig.address("web").await;
    let mut client = authority.trusting().connect(at, "a.example").await.unwrap();
    client.send(REQUEST).await;
    assert_eq!(client.answer().await.status, 200);
}

/// How the first flight of a client is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Records of one byte each.
    Records,
    /// Records as they are, in many small writes.
    Writes,
}

/// A stream whose first write is cut.
struct Cutting {
    tcp: TcpStream,
    cut: Option<Cut>,
}

impl AsyncRead for Cutting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, out)
    }
}

impl AsyncWrite for Cutting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(cut) = self.cut.take() else {
            return Pin::new(&mut self.tcp).poll_write(cx, bytes);
        };
        // A socket that has never been written to takes all of it.
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        match cut {
            Cut::Writes => pieces.extend(bytes.chunks(7).map(<[u8]>::to_vec)),
            Cut::Records => {
                let mut rest = bytes;
                while let [kind, high, low, a, b, after @ ..] = rest {
                    let length = usize::from(u16::from_be_bytes([*a, *b]));
                    let record = |byte| vec![*kind, *high, *low, 0, 1, byte];
                    pieces.push(after[..length].iter().flat_map(|byte| record(*byte)).collect());
                    rest = &after[length..];
                }
            }
        }
        for piece in pieces {
            match Pin::new(&mut self.tcp).poll_write(cx, &piece) {
                Poll::Ready(Ok(written)) => assert_eq!(written, piece.len()),
                other => panic!("{other:?}"),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_hello_in_pieces_or_in_records_of_one_byte_or_of_several_records_is_understood() {
    let (authority, _origin, rig) = rig("").await;
    let at = rig.address("web").await;
    for cut in [Cut::Writes, Cut::Records] {
        for version in [&version::TLS13, &version::TLS12] {
            let terms = Terms { versions: vec![version], ..authority.trusting() };
            let tcp = TcpStream::connect(at).await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let name = ServerName::try_from("a.example").unwrap();
            let shaken =
                TlsConnector::from(terms.config()).connect(name, Cutting { tcp, cut: Some(cut) });
            let mut client = Client::over(within("the handshake", shaken).await.unwrap());
            client.send(REQUEST).await;
            assert_eq!(client.answer().await.status, 200, "{cut:?}");
        }
    }
    // More than fits into one record.
    let mut alpn: Vec<Vec<u8>> = (0..80).map(|n| vec![b'a' + n % 26; 250]).collect();
    alpn.push(b"http/1.1".to_vec());
    let terms = Terms { alpn, ..authority.trusting() };
    let mut client = terms.connect(at, "a.example").await.unwrap();
    client.send(REQUEST).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn what_is_no_handshake_gets_an_alert_and_http_a_word() {
    let (authority, _origin, rig) = rig("").await;
    let at = rig.address("web").await;
    let long = [vec![22, 3, 1, 0xff, 0xff], vec![0; 70_000]].concat();
    for (case, bytes) in [
        ("garbage", &b"\x00\x01\x02\x03garbage that goes on for a while"[..]),
        ("no hello", &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]),
        ("a record that is too long", &long),
        ("an alert first", &[21, 3, 3, 0, 2, 2, 40]),
        ("data first", &[23, 3, 3, 0, 1, 0]),
        ("SSLv2", &[0x80, 0x2e, 1, 3, 1, 0, 0, 0, 0, 0]),
    ] {
        let mut client = Client::connect(at).await;
        // It may be closed before all of it was sent.
        let _ = client.stream.write_all(bytes).await;
        let rest = client.rest().await;
        assert!(rest.len() <= 7, "{case}: {rest:?}");
        assert!(!rest.starts_with(b"HTTP"), "{case}");
    }
    for request in [REQUEST, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "get / http/1.1\r\n\r\n"] {
        let mut client = Client::connect(at).await;
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400, "{request}");
        assert_eq!(answer.body, "the plain HTTP request was sent to an HTTPS port\n");
        assert_eq!(client.rest().await, b"");
    }
    handshakes(&rig, "plain-http", 3.0).await;
    drop(Client::connect(at).await);
    handshakes(&rig, "closed", 1.0).await;
    serves(&authority, &rig).await;
    handshakes(&rig, "ok", 1.0).await;
}

#[tokio::test]
async fn nothing_in_common_ends_with_the_alert_that_says_so() {
    let (authority, _origin, rig) = rig("tls = { min = \"1.3\" }\n").await;
    let at = rig.address("web").await;
    let terms = Terms { alpn: vec![b"smtp".to_vec()], ..authority.trusting() };
    let error = terms.connect(at, "a.example").await.err().unwrap();
    let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(told(&error), Some(&alert));
    handshakes(&rig, "no-protocol", 1.0).await;
    let terms = Terms { versions: vec![&version::TLS12], ..authority.trusting() };
    let error = terms.connect(at, "a.example").await.err().unwrap();
    let alert = Error::AlertReceived(AlertDescription::ProtocolVersion);
    assert_eq!(told(&error), Some(&alert));
    handshakes(&rig, "failed", 1.0).await;
    // Whoever does not trust us says so.
    let error = Authority::new().trusting().connect(at, "a.example").await.err().unwrap();
    assert!(matches!(told(&error), Some(Error::InvalidCertificate(_))), "{error}");
    handshakes(&rig, "alert", 1.0).await;
    let terms =
        Terms { alpn: vec![b"smtp".to_vec(), b"http/1.1".to_vec()], ..authority.trusting() };
    let client = terms.connect(at, "a.example").await.unwrap();
    assert_eq!(client.stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// Opens a connection, says `bytes`, and waits for its end.
async fn ends(at: SocketAddr, bytes: &[u8]) {
    let mut client = Client::connect(at).await;
    client.send(bytes).await;
    client.rest().await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let (authority, _origin, rig) = rig("tls = { handshake_timeout = \"2s\" }\n").await;
    let at = rig.address("web").await;
    // A connection whose handshake is over has all the time there is.
    let mut client = authority.trusting().connect(at, "a.example").await.unwrap();
    tokio::join!(ends(at, b""), ends(at, &[22, 3, 1]), ends(at, &[22, 3, 1, 1, 0, 1, 0, 0, 252]));
    handshakes(&rig, "timeout", 3.0).await;
    client.send(REQUEST).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn handshakes_beyond_the_limit_are_refused_and_those_that_end_make_room() {
    let (authority, _origin, rig) = rig("tls = { handshakes_max = 2 }\n").await;
    let at = rig.address("web").await;
    // Who has said nothing yet takes no place.
    let _silent = Client::connect(at).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(at).await;
        client.send([22, 3, 1]).await;
        slow.push(client);
    }
    // They may still be on their way in when the third one comes.
    let refused = within("a refusal", async {
        loop {
            match authority.trusting().connect(at, "a.example").await {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    assert!(told(&refused.await).is_none(), "it is closed, and not by an alert");
    handshakes(&rig, "limit", 1.0).await;
    drop(slow);
    handshakes(&rig, "closed", 2.0).await;
    serves(&authority, &rig).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_answer_harms_nobody() {
    let (authority, _origin, rig) = rig("").await;
    let at = rig.address("web").await;
    for _ in 0..20 {
        let mut client = authority.trusting().connect(at, "a.example").await.unwrap();
        client.send(REQUEST).await;
        let (tcp, _) = client.stream.into_inner();
        drop(tcp);
    }
    // A record that nobody can decrypt.
    let mut client = authority.trusting().connect(at, "a.example").await.unwrap();
    let (tcp, _) = client.stream.get_mut();
    tcp.write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
        .await
        .unwrap();
    let mut byte = [0];
    let end = within("the end", client.stream.read(&mut byte)).await;
    assert!(end.is_err(), "{end:?}");
    serves(&authority, &rig).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_is_reset_and_not_closed_in_good_order() {
    let authority = Authority::new();
    authority.server("a", &["a.example"]);
    let origin = Origin::start(|mut exchange| async move {
        exchange.request().await?;
        exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf").await?;
        exchange.rest().await
    })
    .await;
    let more = "[limits]\ndrain = \"10ms\"\n[service.web]\ndrain = \"10ms\"\n";
    let rig = authority.rig(&["a"], more, &[origin.address]).await;
    let at = rig.address("web").await;
    let mut client = authority.trusting().connect(at, "a.example").await.unwrap();
    client.send(REQUEST).await;
    client.until("half").await;
    rig.tell(Vec::new()).await;
    let mut byte = [0];
    let end = within("the end", client.stream.read(&mut byte)).await;
    assert!(end.is_err(), "an end in good order would be taken for the end of the answer: {end:?}");
}

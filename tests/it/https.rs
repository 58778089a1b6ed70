//! HTTP over TLS: certificates by name, swapped while clients come; clients' certificates; what
//! endpoints, logs and people who ask are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_rustls::rustls::{AlertDescription, Error};

use crate::origin::{OK, Origin};
use crate::rig::{Rig, service, within};
use crate::secure::{Authority, Terms, read, shake, shown, told};
use crate::support::until;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// An authority with the certificates `a` and `b`.
fn two() -> Authority {
    let authority = Authority::new();
    authority.server("a", &["a.example", "*.a.example"]);
    authority.server("b", &["b.example", "www.a.example"]);
    authority
}

#[tokio::test]
async fn the_certificate_is_that_of_the_name_and_else_the_first_or_none() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    for refuse in [false, true] {
        let more = if refuse { "unknown_name = \"refuse\"\n" } else { "" };
        let rig = authority.rig(&["a", "b"], more, &[origin.address]).await;
        let at = rig.address("web").await;
        for (name, want) in [
            ("a.example", Some("a")),
            ("A.Example", Some("a")),
            ("x.a.example", Some("a")),
            ("www.a.example", Some("b")),
            ("b.example", Some("b")),
            ("127.0.0.1", Some("a")),
            ("x.y.a.example", (!refuse).then_some("a")),
            ("nobody.example", (!refuse).then_some("a")),
        ] {
            match (Terms::anybody().connect(at, name).await, want) {
                (Ok(client), Some(want)) => {
                    assert_eq!(shown(&client), authority.certificate(want), "{name}");
                }
                (Err(error), None) => {
                    let alert = Error::AlertReceived(AlertDescription::UnrecognisedName);
                    assert_eq!(told(&error), Some(&alert), "{name}");
                }
                (got, want) => panic!("{name}: {:?}, wanted {want:?}", got.err()),
            }
        }
        let refused = "portolan_tls_handshakes_total{listener=\"web\",result=\"unknown-name\"}";
        rig.metric_is(refused, if refuse { 2.0 } else { 0.0 }).await;
    }
}

#[tokio::test]
async fn a_host_of_another_certificate_is_misdirected() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    let rig = authority.rig(&["a", "b"], "", &[origin.address]).await;
    let at = rig.address("web").await;
    for (name, host, want) in [
        ("a.example", "a.example", 200),
        ("a.example", "A.example:443", 200),
        ("a.example", "x.a.example", 200),
        ("a.example", "b.example", 421),
        ("a.example", "www.a.example:443", 421),
        ("a.example", "nobody.example", 200),
        ("b.example", "nobody.example", 421),
        ("nobody.example", "nobody.example", 200),
        ("nobody.example", "b.example", 421),
        ("127.0.0.1", "b.example", 200),
    ] {
        let mut client = Terms::anybody().connect(at, name).await.unwrap();
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, want, "{name} and {host}");
    }
}

#[tokio::test]
async fn endpoints_and_the_log_are_told_that_it_was_tls() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    let log = authority.path("access.log");
    let more = format!("[access_log]\nto = {:?}\n", log.display().to_string());
    let rig = authority.rig(&["a"], &more, &[origin.address]).await;
    let mut client =
        authority.trusting().connect(rig.address("web").await, "a.example").await.unwrap();
    client.send(REQUEST).await;
    assert_eq!(client.answer().await.body, "ok");
    let text = origin.text().to_ascii_lowercase();
    assert!(text.contains("\r\nx-forwarded-proto: https\r\n"), "{text}");
    within("a line", async {
        while !read(&log).ends_with('\n') {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let line = read(&log);
    let fields = "\"tls_version\":\"TLSv1.3\",\"tls_cipher\":\"TLS_AES_256_GCM_SHA384\",\"sni\":\"a.example\"";
    assert!(line.contains(fields), "{line}");
}

#[tokio::test]
async fn why_names_the_certificate_that_is_shown() {
    let authority = two();
    let rig = authority.rig(&["a", "b"], "", &[]).await;
    for (url, want) in [
        ("https://www.a.example/", "\"default\":false,\"expires\":"),
        ("https://www.a.example:444/", "\"name\":\"b\""),
        ("https://nobody.example/", "\"default\":true"),
        ("http://a.example/", "every HTTP listener speaks TLS"),
    ] {
        let mut stream = UnixStream::connect(rig.directory().join("admin.sock")).await.unwrap();
        let request =
            format!("GET /v1/why?url={url} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        within("why", stream.read_to_string(&mut page)).await.unwrap();
        assert!(page.contains(want), "{url}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_swapped_under_load_without_an_error() {
    const SWAPS: usize = 20;
    let authority = Arc::new(two());
    let origin = Origin::answering(OK).await;
    let rig = authority.rig(&["a", "b"], "", &[origin.address]).await;
    let at = rig.address("web").await;
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..3).map(|_| {
        let (authority, done, served) =
            (Arc::clone(&authority), Arc::clone(&done), Arc::clone(&served));
        tokio::spawn(async move {
            let mut kept = authority.trusting().connect(at, "a.example").await.unwrap();
            while !done.load(Ordering::Relaxed) {
                let mut fresh = authority.trusting().connect(at, "a.example").await.unwrap();
                for client in [&mut kept, &mut fresh] {
                    client.send(REQUEST).await;
                    assert_eq!(client.answer().await.status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for swap in 1..=SWAPS {
        authority.server("a", &["a.example", &format!("swap-{swap}.a.example")]);
        let swaps = "portolan_tls_certificate_swaps_total{certificate=\"a\"}";
        rig.metric_is(swaps, swap as f64).await;
    }
    until("enough requests", async || (served.load(Ordering::Relaxed) > SWAPS).then_some(())).await;
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let client = authority.trusting().connect(at, "swap-20.a.example").await.unwrap();
    assert_eq!(shown(&client), authority.certificate("a"));
    let failures = "portolan_tls_certificate_failures_total{certificate=\"a\"}";
    rig.metric_is(failures, 0.0).await;
}

#[tokio::test]
async fn a_reload_brings_and_takes_certificates_and_keeps_sessions() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    let rig = authority.rig(&["a"], "", &[origin.address]).await;
    let at = rig.address("web").await;
    let config = authority.trusting().config();
    let mut client = shake(&config, at, "a.example").await.unwrap();
    client.send(REQUEST).await;
    assert_eq!(client.answer().await.status, 200);
    rig.reload(&authority.configuration(&["a", "b"], "")).await;
    let at = rig.address("web").await;
    let other = authority.trusting().connect(at, "b.example").await.unwrap();
    assert_eq!(shown(&other), authority.certificate("b"));
    let mut resumed = shake(&config, at, "a.example").await.unwrap();
    resumed.send(REQUEST).await;
    assert_eq!(resumed.answer().await.status, 200);
    let sessions = "portolan_tls_sessions_total{listener=\"web\",resumed=\"true\",version=\"1.3\"}";
    rig.metric_is(sessions, 1.0).await;
    // The connection from before goes on.
    client.send(REQUEST).await;
    assert_eq!(client.answer().await.status, 200);
    rig.reload(&authority.configuration(&["b"], "")).await;
    let client = Terms::anybody().connect(rig.address("web").await, "a.example").await.unwrap();
    assert_eq!(shown(&client), authority.certificate("b"));
}

#[tokio::test]
async fn clients_show_certificates_where_they_are_asked_to() {
    let (authority, other) = (two(), Authority::new());
    authority.client("good", false);
    authority.client("late", true);
    other.client("stranger", false);
    let origin = Origin::answering(OK).await;
    let ca = authority.path("ca.pem").display().to_string();
    for (mode, client, want) in [
        ("none", "", Some("")),
        ("none", "good", Some("")),
        ("optional", "", Some("NONE")),
        ("optional", "good", Some("SUCCESS")),
        ("optional", "late", None),
        ("optional", "stranger", None),
        ("required", "", None),
        ("required", "good", Some("SUCCESS")),
        ("required", "late", None),
        ("required", "stranger", None),
    ] {
        let more = match mode {
            "none" => String::new(),
            mode => format!(
                "tls = {{ client_certificate = \"{mode}\", client_ca_file = {ca:?}, \
                 client_headers = true }}\n"
            ),
        };
        let rig = authority.rig(&["a"], &more, &[origin.address]).await;
        let terms = match client {
            "" => authority.trusting(),
            "stranger" => authority.trusting().showing(&other, client),
            _ => authority.trusting().showing(&authority, client),
        };
        origin.forget();
        let answered = ask(&rig, &terms).await;
        assert_eq!(answered, want.is_some(), "{mode}, {client:?}");
        let text = origin.text().to_ascii_lowercase();
        let verify = |word: &str| format!("\r\nx-ssl-client-verify: {word}\r\n");
        match want {
            None => {
                let result =
                    "portolan_tls_handshakes_total{listener=\"web\",result=\"client-certificate\"}";
                rig.metric_is(result, 1.0).await;
            }
            Some("") => assert!(!text.contains("x-ssl-client-"), "{mode}, {client}: {text}"),
            Some(word) => {
                assert!(text.contains(&verify(&word.to_ascii_lowercase())), "{mode}: {text}");
                let subject = "\r\nx-ssl-client-s-dn: cn=good,o=ships\\, boats\r\n";
                assert_eq!(text.contains(subject), word == "SUCCESS", "{text}");
                assert_eq!(text.contains("\r\nx-ssl-client-cn: good\r\n"), word == "SUCCESS");
                assert_eq!(text.contains("\r\nx-ssl-client-sha256: "), word == "SUCCESS");
                assert!(!text.contains("forged"), "{text}");
            }
        }
    }
}

/// Whether a request is answered whose sender says something of a certificate.
async fn ask(rig: &Rig, terms: &Terms) -> bool {
    let at = rig.address("web").await;
    let Ok(mut client) = terms.connect(at, "a.example").await else { return false };
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nX-SSL-Client-Verify: forged\r\n\
                   X-SSL-Client-CN: forged\r\nX-SSL-Client-S-DN: forged\r\n\
                   X-SSL-Client-SHA256: forged\r\n\r\n";
    // In TLS 1.3 a client hears of its certificate only now.
    if client.stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut byte = [0];
    let read = within("an answer or an alert", client.stream.read(&mut byte)).await;
    read.is_ok_and(|read| read == 1)
}

#[tokio::test]
async fn a_session_of_a_listener_that_asks_for_nothing_opens_none_that_asks() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    let ca = authority.path("ca.pem").display().to_string();
    let more = format!(
        "[listener.strict.https]\nbind = [\"127.0.0.1:0\"]\nprotocols = [\"http/1.1\"]\n\
         tls = {{ client_certificate = \"required\", client_ca_file = {ca:?} }}\n\
         [route.strict]\nlistener = \"strict\"\nservice = \"web\"\n"
    );
    let rig = authority.rig(&["a"], &more, &[origin.address]).await;
    let config = authority.trusting().config();
    let mut client = shake(&config, rig.address("web").await, "a.example").await.unwrap();
    client.send(REQUEST).await;
    assert_eq!(client.answer().await.status, 200);
    origin.forget();
    if let Ok(mut client) = shake(&config, rig.address("strict").await, "a.example").await {
        let _ = client.stream.write_all(REQUEST.as_bytes()).await;
        let read = within("an alert", client.stream.read(&mut [0])).await;
        assert!(read.is_err(), "{read:?}");
    }
    assert_eq!(origin.text(), "");
}

#[tokio::test]
async fn websockets_work_over_tls() {
    let authority = two();
    let origin = Origin::start(|mut exchange| async move {
        exchange.head().await?;
        let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
        exchange.send(switching).await?;
        loop {
            let bytes = exchange.some().await?;
            exchange.send(bytes.to_ascii_uppercase()).await?;
        }
    })
    .await;
    let rig = authority.rig(&["a"], "", &[origin.address]).await;
    let mut client =
        authority.trusting().connect(rig.address("web").await, "a.example").await.unwrap();
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.send(upgrade).await;
    assert_eq!(client.answer().await.status, 101);
    let large = "a".repeat(100_000);
    for word in ["hello", &large, "GET / HTTP/1.1\r\n\r\n"] {
        client.send(word).await;
        assert_eq!(client.bytes(word.len()).await, word.to_ascii_uppercase().as_bytes());
    }
    drop(client);
    origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
}

#[tokio::test]
async fn requests_in_one_record_are_answered_in_order_and_bodies_pass_whole() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    let rig = authority.rig(&["a"], "", &[origin.address]).await;
    let mut client =
        authority.trusting().connect(rig.address("web").await, "a.example").await.unwrap();
    client.send(REQUEST.repeat(20)).await;
    for _ in 0..20 {
        assert_eq!(client.answer().await.body, "ok");
    }
    let body = "b".repeat(300_000);
    let length = body.len();
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert!(origin.text().ends_with(&body));
}

#[tokio::test]
async fn an_answer_reaches_a_reader_whole_that_takes_its_time() {
    const LENGTH: usize = 12 << 20;
    let authority = two();
    let origin = Origin::start(|mut exchange| async move {
        loop {
            exchange.request().await?;
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n")).await?;
            exchange.send(vec![b'x'; LENGTH]).await?;
        }
    })
    .await;
    let rig = authority.rig(&["a"], "", &[origin.address]).await;
    let at = rig.address("web").await;
    let mut client = authority.trusting().connect(at, "a.example").await.unwrap();
    for _ in 0..2 {
        client.send(REQUEST).await;
        client.until("\r\n\r\n").await;
        for _ in 0..LENGTH / 65_536 {
            client.bytes(65_536).await;
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn idle_connections_end_with_close_notify_and_running_ones_finish_in_a_drain() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    let more = "timeouts = { idle = \"50ms\" }\n";
    let rig = authority.rig(&["a"], more, &[origin.address]).await;
    let at = rig.address("web").await;
    let mut idle = authority.trusting().connect(at, "a.example").await.unwrap();
    // Without close_notify the library says that the end came too early.
    assert_eq!(within("the end", idle.stream.read(&mut [0])).await.unwrap(), 0);

    let rig = authority.rig(&["a"], "", &[origin.address]).await;
    let at = rig.address("web").await;
    let mut idle = authority.trusting().connect(at, "a.example").await.unwrap();
    idle.send(REQUEST).await;
    assert_eq!(idle.answer().await.status, 200);
    rig.app.drain(Duration::from_secs(20)).await;
    assert_eq!(within("the end", idle.stream.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn two_listeners_may_show_different_certificates_and_http_is_beside_them() {
    let authority = two();
    let origin = Origin::answering(OK).await;
    let more = "certificates = [\"b\", \"a\"]\n[listener.plain.http]\nbind = [\"127.0.0.1:0\"]\n\
                [route.plain]\nlistener = \"plain\"\nredirect = { scheme = \"https\" }\n";
    let rig = authority.rig(&["a", "b"], more, &[origin.address]).await;
    let client = Terms::anybody().connect(rig.address("web").await, "127.0.0.1").await.unwrap();
    assert_eq!(shown(&client), authority.certificate("b"));
    let mut plain = crate::rig::Client::connect(rig.address("plain").await).await;
    plain.send(REQUEST).await;
    assert_eq!(plain.answer().await.header("location"), Some("https://a.example/"));
    rig.tell(vec![service("web", &[origin.address])]).await;
}

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Full as Whole};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;

fn client(at: SocketAddr, settings: Settings) -> Client {
    Client::new(Origin::parse(&format!("http://{at}")).unwrap(), settings)
}

/// A server that reads a head and writes `answer`, on each connection again and again; then it
/// keeps the connection open, or closes it.
async fn scripted(answer: Vec<u8>, close: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = answer.clone();
            tokio::spawn(async move {
                let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    head.extend_from_slice(&buffer[..count]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        if stream.write_all(&answer).await.is_err() || close {
                            return;
                        }
                    }
                }
            });
        }
    });
    (at, connections)
}

fn quick(path: &str) -> Request {
    Request {
        head_within: Duration::from_millis(300),
        body_within: Duration::from_secs(2),
        silence_max: Duration::from_millis(200),
        body_max: 1000,
        ..Request::get(path)
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_silent_garbled_or_too_large_is_an_error_that_says_so() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let many = "A: b\r\n".repeat(200);
    for (case, answer, close, want) in [
        ("cut", format!("{head}abc"), true, "the connection broke"),
        ("half-open", String::new(), false, "no answer within 300ms"),
        ("silent", format!("{head}abc"), false, "the answer stopped: no byte for 200ms"),
        ("no HTTP", "SSH-2.0-x\r\n\r\n".into(), false, "the connection broke"),
        (
            "large, and says so",
            "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".into(),
            false,
            "more than 1000 bytes",
        ),
        (
            "large, and does not say so",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n{}",
                "x".repeat(2048)
            ),
            false,
            "more than 1000 bytes",
        ),
        ("many headers", format!("HTTP/1.1 200 OK\r\n{many}\r\n"), false, "the connection broke"),
    ] {
        let (at, _) = scripted(answer.into_bytes(), close).await;
        let sent = client(at, Settings::default()).send(quick("/")).await;
        let error = sent.map(|reply| reply.status).unwrap_err().to_string();
        assert!(error.contains(want), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_body_byte_by_byte_ends_at_its_limit_of_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let request = Request { body_within: Duration::from_millis(300), ..quick("/") };
    let error = client(at, Settings::default()).send(request).await.unwrap_err();
    assert!(matches!(error, HttpError::Deadline(_)), "{error}");
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection_and_there_are_never_more_than_allowed() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let (at, connections) = scripted(answer, false).await;
    let client = client(at, Settings { connections_max: 3, ..Settings::default() });
    for _ in 0..5 {
        assert_eq!(client.send(quick("/")).await.unwrap().body, "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let all = (0..40).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.send(Request::get("/")).await.unwrap().status })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), StatusCode::OK);
    }
    assert!(connections.load(Ordering::Relaxed) <= 3);
    assert!(!client.multiplexed());
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_costs_nothing() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let (at, _) = scripted(answer, true).await;
    let client = client(at, Settings::default());
    for _ in 0..20 {
        assert_eq!(client.send(quick("/")).await.unwrap().body, "ok");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_only_when_asked_and_only_at_home() {
    let elsewhere =
        "HTTP/1.1 307 No\r\nLocation: http://127.0.0.2:1/x\r\nContent-Length: 0\r\n\r\n";
    let (at, _) = scripted(elsewhere.into(), false).await;
    let request = Request { redirects: 3, ..quick("/") };
    let reply = client(at, Settings::default()).send(request).await.unwrap();
    assert_eq!(reply.status, StatusCode::TEMPORARY_REDIRECT, "not followed to another host");
    let home = "HTTP/1.1 307 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
    let (at, connections) = scripted(home.into(), true).await;
    let client = client(at, Settings::default());
    let request = Request { redirects: 3, ..quick("/") };
    assert!(client.send(request).await.unwrap().status.is_redirection(), "it never ends");
    assert_eq!(connections.load(Ordering::Relaxed), 4);
    assert!(client.send(quick("/")).await.unwrap().status.is_redirection());
    assert_eq!(connections.load(Ordering::Relaxed), 5, "not asked to follow");
}

/// A TLS server with a certificate for `consul.test`: its address, its certificate, how many
/// requests it carries at once now. Each request is answered once `go` says so.
async fn over_tls(
    alpn: &'static [u8],
    streams: u32,
    go: Arc<Notify>,
) -> (SocketAddr, String, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let made = rcgen::generate_simple_self_signed(vec!["consul.test".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::clone(made.cert.der())], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (connections, parked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, waiting) = (Arc::clone(&connections), Arc::clone(&parked));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, go) = (acceptor.clone(), Arc::clone(&go));
            let (counted, waiting) = (Arc::clone(&counted), Arc::clone(&waiting));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                counted.fetch_add(1, Ordering::Relaxed);
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let (go, waiting) = (Arc::clone(&go), Arc::clone(&waiting));
                    async move {
                        if request.uri().path() == "/wait" {
                            let released = go.notified();
                            waiting.fetch_add(1, Ordering::Relaxed);
                            released.await;
                        }
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        Ok::<_, std::convert::Infallible>(http::Response::new(Whole::new(body)))
                    }
                });
                let io = TokioIo::new(stream);
                if alpn == b"h2" {
                    let mut builder = http2::Builder::new(TokioExecutor::new());
                    builder.max_concurrent_streams(streams);
                    let _ = builder.serve_connection(io, service).await;
                } else {
                    let _ = http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    (at, made.cert.pem(), connections, parked)
}

fn trusting(at: SocketAddr, dir: &tempfile::TempDir, pem: &str, name: &str) -> Client {
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let settings = Settings {
        tls: TlsFiles { ca_file: Some(ca_file), ..TlsFiles::default() },
        server_name: Some(name.into()),
        ..Settings::default()
    };
    Client::new(Origin::parse(&format!("https://{at}")).unwrap(), settings)
}

#[tokio::test]
async fn over_http_2_requests_share_a_connection_until_its_streams_are_used_up() {
    let go = Arc::new(Notify::new());
    let (at, pem, connections, parked) = over_tls(b"h2", 10, Arc::clone(&go)).await;
    let dir = tempfile::tempdir().unwrap();
    let client = trusting(at, &dir, &pem, "consul.test");
    let first = client.send(Request { body: "hello".into(), ..Request::get("/") }).await.unwrap();
    assert_eq!((first.body, client.multiplexed()), ("hello".into(), true));
    let waiting: Vec<_> = (0..25)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(Request::get("/wait")).await.unwrap().status })
        })
        .collect();
    let all = async {
        while parked.load(Ordering::Relaxed) < 25 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), all).await.expect("all requests are under way");
    assert_eq!(connections.load(Ordering::Relaxed), 3, "25 requests, 10 streams each");
    go.notify_waiters();
    for one in waiting {
        assert_eq!(one.await.unwrap(), StatusCode::OK);
    }
    client.send(Request::get("/")).await.unwrap();
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn over_tls_without_http_2_and_with_a_name_that_does_not_fit() {
    let (at, pem, connections, _) = over_tls(b"http/1.1", 0, Arc::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let client = trusting(at, &dir, &pem, "consul.test");
    for _ in 0..3 {
        assert_eq!(client.send(Request::get("/")).await.unwrap().status, StatusCode::OK);
    }
    assert_eq!((connections.load(Ordering::Relaxed), client.multiplexed()), (1, false));
    let other = trusting(at, &dir, &pem, "other.test");
    let error = other.send(Request::get("/")).await.unwrap_err().to_string();
    assert!(error.starts_with("no TLS with 127.0.0.1:"), "{error}");
}

//! TLS towards endpoints: who is believed and who is not, sessions that are resumed, files that are
//! read again; with origins of our own and nginx.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{HandshakeKind, RootCertStore, ServerConfig, version};
use tokio_rustls::server::TlsStream;

use crate::origin::{OK, Origin, end_of_request};
use crate::peers::{own_address, serving, start};
use crate::rig::{Rig, service, within};
use crate::support::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An authority, and where its certificate and those that it made lie.
pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let own = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), own.pem()).unwrap();
        let der = own.der().clone();
        Self { directory, issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `ca_file = "…"`.
    pub(crate) fn ca(&self) -> String {
        format!("ca_file = \"{}\"\n", self.file("ca.pem").display())
    }

    /// A certificate for `names`, also as `NAME.pem` and `NAME.key` by the first of them.
    pub(crate) fn certify(&self, names: &[&str], expired: bool) -> Certified {
        let key = KeyPair::generate().unwrap();
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(all).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let made = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{}.pem", names[0])), made.pem()).unwrap();
        std::fs::write(self.file(&format!("{}.key", names[0])), key.serialize_pem()).unwrap();
        Certified { der: made.der().clone(), key: key.serialize_der() }
    }
}

/// A certificate with its key.
pub(crate) struct Certified {
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

/// Takes TLS connections by this certificate; with `clients`, only from those that it certified.
pub(crate) fn acceptor(
    own: &Certified,
    clients: Option<&Authority>,
    alpn: &[&[u8]],
) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der.clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::Pkcs8(own.key.clone().into());
    let mut config = builder.with_single_cert(vec![own.der.clone()], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config).into()
}

/// What one connection to a [`SecureOrigin`] was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shaken {
    resumed: bool,
    asked_for: Option<String>,
    alpn: Option<String>,
    requests: usize,
}

/// An origin that answers by `ok` over TLS, and tells of its handshakes.
struct SecureOrigin {
    address: SocketAddr,
    shaken: Arc<Mutex<Vec<Shaken>>>,
    /// Connections that it has closed.
    gone: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl SecureOrigin {
    /// Answers each request by `answer`; with `rude`, goes without a goodbye after the first.
    async fn answering(acceptor: TlsAcceptor, answer: &'static str, rude: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shaken = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&shaken);
        let gone = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&gone);
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
                let left = Arc::clone(&left);
                tokio::spawn(async move {
                    let tls = acceptor.accept(tcp).await.ok()?;
                    let number = note(&noted, &tls);
                    let requested = || noted.lock().unwrap()[number].requests += 1;
                    let served = serve(tls, answer, rude, requested).await;
                    left.fetch_add(1, SeqCst);
                    served
                });
            }
        });
        Self { address, shaken, gone, accepting }
    }

    fn shaken(&self) -> Vec<Shaken> {
        self.shaken.lock().unwrap().clone()
    }

    fn requests(&self) -> usize {
        self.shaken().iter().map(|one| one.requests).sum()
    }
}

impl Drop for SecureOrigin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn note(noted: &Mutex<Vec<Shaken>>, tls: &TlsStream<TcpStream>) -> usize {
    let session = tls.get_ref().1;
    let mut noted = noted.lock().unwrap();
    noted.push(Shaken {
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        asked_for: session.server_name().map(str::to_owned),
        alpn: session.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap()),
        requests: 0,
    });
    noted.len() - 1
}

async fn serve(
    mut tls: TlsStream<TcpStream>,
    answer: &str,
    rude: bool,
    requested: impl Fn(),
) -> Option<()> {
    let mut unread = Vec::new();
    loop {
        while let Some(end) = end_of_request(&unread) {
            unread.drain(..end);
            requested();
            tls.write_all(answer.as_bytes()).await.ok()?;
            tls.flush().await.ok()?;
            if rude {
                return tls.get_mut().0.shutdown().await.ok();
            }
            if answer.contains("Connection: close") {
                return tls.shutdown().await.ok();
            }
        }
        if tls.read_buf(&mut unread).await.ok()? == 0 {
            return None;
        }
    }
}

async fn ok(acceptor: TlsAcceptor) -> SecureOrigin {
    SecureOrigin::answering(acceptor, OK, false).await
}

/// A rig whose service `web` is reached over TLS, by these keys of its table.
async fn rig(tls: &str, origins: &[SocketAddr]) -> Rig {
    Rig::http(&format!("[service.web.tls]\n{tls}"), origins).await
}

fn faults(reason: &str) -> String {
    let labels = format!("{{listener=\"web\",reason=\"{reason}\",route=\"all\"}}");
    format!("portolan_proxy_request_errors_total{labels}")
}

#[tokio::test]
async fn an_endpoint_that_shows_who_it_is_gets_requests_and_keeps_its_connection() {
    let authority = Authority::new();
    for (case, names, keys, asked_for) in [
        ("by its address", &["127.0.0.1"][..], String::new(), None),
        (
            "by a name",
            &["web.test"],
            "server_name = \"web.test\"\n".to_owned(),
            Some("web.test".to_owned()),
        ),
        ("by 1.3 alone", &["127.0.0.1"], "min = \"1.3\"\n".to_owned(), None),
    ] {
        let own = authority.certify(names, false);
        let origin = ok(acceptor(&own, None, &[b"h2", b"http/1.1"])).await;
        let rig = rig(&(authority.ca() + &keys), &[origin.address]).await;
        for _ in 0..5 {
            let answer = rig.ask(GET).await;
            assert_eq!((answer.status, &*answer.body), (200, "ok"), "{case}");
        }
        let alpn = Some("http/1.1".to_owned());
        let once = Shaken { resumed: false, asked_for, alpn, requests: 5 };
        assert_eq!(origin.shaken(), [once], "{case}: one connection carries all");
    }
}

#[tokio::test]
async fn nobody_else_gets_a_request() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = |names: &[&str], expired| acceptor(&authority.certify(names, expired), None, &[]);
    let trusting = authority.ca();
    let named = format!("{trusting}server_name = \"web.test\"\n");
    let by_12 = {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS12])
            .unwrap()
            .with_no_client_auth();
        let made = authority.certify(&["127.0.0.1"], false);
        let key = PrivateKeyDer::Pkcs8(made.key.into());
        Arc::new(config.with_single_cert(vec![made.der], key).unwrap()).into()
    };
    for (case, acceptor, keys) in [
        ("another authority", own(&["127.0.0.1"], false), other.ca()),
        ("the system's authorities", own(&["127.0.0.1"], false), String::new()),
        ("another name", own(&["other.test"], false), named.clone()),
        ("a name instead of the address", own(&["web.test"], false), trusting.clone()),
        ("another address", own(&["127.0.0.2"], false), trusting.clone()),
        ("expired", own(&["127.0.0.1"], true), trusting.clone()),
        ("too old a version", by_12, format!("{trusting}min = \"1.3\"\n")),
    ] {
        let origin = ok(acceptor).await;
        let rig = rig(&keys, &[origin.address]).await;
        assert_eq!(rig.ask(GET).await.status, 503, "{case}");
        assert_eq!(origin.requests(), 0, "{case}");
        // It is counted just after the answer has gone.
        rig.metric_is(&faults("tls"), 1.0).await;
    }
    let plain = Origin::answering(OK).await;
    let rig = rig(&trusting, &[plain.address]).await;
    assert_eq!(rig.ask(GET).await.status, 503, "no TLS there");
    assert!(!plain.text().contains("GET"), "nothing goes in the clear");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_given_up_and_another_endpoint_is_asked() {
    let authority = Authority::new();
    let silent = Origin::silent().await;
    let origin = ok(acceptor(&authority.certify(&["127.0.0.1"], false), None, &[])).await;
    let more = format!(
        "timeouts = {{ connect = \"2s\" }}\n[service.web]\npolicy = \"round-robin\"\n\
         [service.web.tls]\n{}",
        authority.ca()
    );
    let rig = Rig::http(&more, &[silent.address, origin.address]).await;
    for _ in 0..4 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(rig.ask(post).await.status, 200);
    }
    assert_eq!(origin.requests(), 4);
    assert!(!silent.received().is_empty(), "the silent one was asked too");
}

#[tokio::test]
async fn whoever_is_not_verified_gets_requests_and_that_is_told() {
    let authority = Authority::new();
    let expired = authority.certify(&["other.test"], true);
    let origin = ok(acceptor(&expired, None, &[])).await;
    let rig = rig("verify = false\n", &[origin.address]).await;
    assert_eq!(rig.ask(GET).await.status, 200);
    let tables = rig.app.tables();
    assert_eq!(tables.proxy.settings().unverified(), ["web"]);
    assert_eq!(tables.proxy.settings().way("web"), "http/1.1 over TLS, NOT VERIFIED");
}

#[tokio::test]
async fn an_endpoint_that_demands_a_certificate_gets_ours() {
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"], false);
    authority.certify(&["us"], false);
    let origin = ok(acceptor(&own, Some(&authority), &[])).await;
    let without = rig(&authority.ca(), &[origin.address]).await;
    let status = without.ask(GET).await.status;
    assert!([502, 503].contains(&status), "{status} without one");
    assert_eq!(origin.requests(), 0);
    let ours = format!(
        "{}cert_file = \"{}\"\nkey_file = \"{}\"\n",
        authority.ca(),
        authority.file("us.pem").display(),
        authority.file("us.key").display()
    );
    let with = rig(&ours, &[origin.address]).await;
    assert_eq!(with.ask(GET).await.status, 200);
}

#[tokio::test]
async fn sessions_are_resumed_by_later_connections_of_all_workers() {
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"], false);
    let closing = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let origin = SecureOrigin::answering(acceptor(&own, None, &[]), closing, false).await;
    let config = format!(
        "[node]\nworkers = 2\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n[service.web.tls]\n{}",
        authority.ca()
    );
    let rig = Rig::start(&config, vec![service("web", &[origin.address])]).await;
    for _ in 0..20 {
        assert_eq!(rig.ask(GET).await.status, 200);
    }
    let shaken = origin.shaken();
    assert_eq!(shaken.len(), 20);
    let full = shaken.iter().filter(|one| !one.resumed).count();
    assert_eq!(full, 1, "the first alone was a full handshake");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole_only_after_a_goodbye() {
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"], false);
    let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall there is";
    let measured = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (case, answer, rude, whole) in [
        ("with a goodbye", endless, false, true),
        ("cut off", endless, true, false),
        ("cut off behind its length", measured, true, true),
    ] {
        let origin = SecureOrigin::answering(acceptor(&own, None, &[]), answer, rude).await;
        let rig = rig(&authority.ca(), &[origin.address]).await;
        let mut client = rig.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let got = String::from_utf8(client.rest().await).unwrap();
        // What was cut before any of it had gone on is a 502.
        let ended = if got.contains("chunked") { "0\r\n\r\n" } else { "ok" };
        let seen = got.starts_with("HTTP/1.1 200 ") && got.ends_with(ended);
        assert_eq!(seen, whole, "{case}: {got:?}");
    }
}

#[tokio::test]
async fn a_reload_reads_the_files_again_and_keeps_connections_when_nothing_has_changed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.certify(&["127.0.0.1"], false);
    let origin = ok(acceptor(&own, None, &[])).await;
    let config = format!(
        "[node]\nworkers = 1\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n[service.web.tls]\n{}",
        authority.ca()
    );
    let rig = Rig::start(&config, vec![service("web", &[origin.address])]).await;
    assert_eq!(rig.ask(GET).await.status, 200);
    rig.reload(&config).await;
    assert_eq!(rig.ask(GET).await.status, 200);
    assert_eq!(origin.shaken().len(), 1, "the connection of before");
    let mine = std::fs::read(authority.file("ca.pem")).unwrap();
    std::fs::copy(other.file("ca.pem"), authority.file("ca.pem")).unwrap();
    rig.reload(&config).await;
    assert_eq!(rig.ask(GET).await.status, 503, "nobody here is of that authority");
    std::fs::write(authority.file("ca.pem"), mine).unwrap();
    rig.reload(&config).await;
    assert_eq!(rig.ask(GET).await.status, 200);
    std::fs::write(authority.file("ca.pem"), "nothing").unwrap();
    let problems = portolan::config::parse("t.toml", &config, Path::new("/"), &|_| None);
    let told = format!("{:?}", problems.unwrap_err());
    assert!(told.contains("ca_file") && told.contains("ca.pem"), "{told}");
}

/// Whether a socket of this host has a connection to `address` that it has not closed itself, as
/// `/proc/net/tcp` tells it.
fn has_connection_to(address: SocketAddr) -> bool {
    const ESTABLISHED: &str = "01";
    const CLOSE_WAIT: &str = "08";
    let SocketAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
    let remote = format!("{:08X}:{:04X}", u32::from(*address.ip()).to_be(), address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(2);
        words.next() == Some(&remote) && matches!(words.next(), Some(ESTABLISHED | CLOSE_WAIT))
    })
}

#[tokio::test]
async fn a_post_on_a_kept_connection_that_has_closed_goes_by_a_new_one() {
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"], false);
    // Says nothing of it, and goes after each answer.
    let origin = SecureOrigin::answering(acceptor(&own, None, &[]), OK, true).await;
    let rig = rig(&authority.ca(), &[origin.address]).await;
    for number in 1..=20 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(rig.ask(post).await.status, 200);
        until("the end of the connection, on both sides", async || {
            (origin.gone.load(SeqCst) == number && !has_connection_to(origin.address)).then_some(())
        })
        .await;
    }
    assert_eq!(origin.requests(), 20, "each came once");
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions_and_tunnels_too() {
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"], false);
    let acceptor = acceptor(&own, None, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Gives back what it gets; after an upgrade, byte by byte.
    let echo = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut tls = acceptor.accept(tcp).await.unwrap();
            tokio::spawn(async move {
                let mut unread = Vec::new();
                loop {
                    if let Some(end) = end_of_request(&unread) {
                        let request: Vec<u8> = unread.drain(..end).collect();
                        let head = crate::rig::find(&request, b"\r\n\r\n").unwrap() + 4;
                        if request.starts_with(b"GET") {
                            let go = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                                      Connection: upgrade\r\n\r\n";
                            tls.write_all(go.as_bytes()).await.ok()?;
                            tls.flush().await.ok()?;
                            let (mut read, mut write) = tokio::io::split(tls);
                            return tokio::io::copy(&mut read, &mut write).await.ok();
                        }
                        let length = request.len() - head;
                        let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                        tls.write_all(start.as_bytes()).await.ok()?;
                        tls.write_all(&request[head..]).await.ok()?;
                        tls.flush().await.ok()?;
                    }
                    if tls.read_buf(&mut unread).await.ok()? == 0 {
                        return None;
                    }
                }
            });
        }
    });
    let rig = rig(&authority.ca(), &[address]).await;
    let body: String = (0..3_000_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let mut client = rig.client().await;
    for _ in 0..2 {
        let length = body.len();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await;
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.body == body);
    }
    let mut tunnel = rig.client().await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    tunnel
        .send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{key}\r\n"
        ))
        .await;
    assert_eq!(tunnel.answer().await.status, 101);
    for word in ["hello", "again"] {
        tunnel.send(word).await;
        assert_eq!(tunnel.bytes(5).await, word.as_bytes());
    }
    echo.abort();
}

/// A server of nginx over TLS whose `location /` has `answer`; `ssl` by certificates of `authority`.
pub(crate) async fn nginx(
    authority: &Authority,
    directory: &Path,
    answer: &str,
) -> (tokio::process::Child, SocketAddr) {
    let at = own_address();
    authority.certify(&["nginx.test"], false);
    let config = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr warn;\npid nginx.pid;\n\
         events {{}}\n\
         http {{\naccess_log off;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         server {{ listen {at} ssl http2;\nssl_certificate \"{cert}\";\nssl_certificate_key \"{key}\";\n\
         location / {{ {answer} }} }}\n}}\n",
        cert = authority.file("nginx.test.pem").display(),
        key = authority.file("nginx.test.key").display(),
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut nginx = start(Command::new("nginx").arg("-p").arg(directory).arg("-c").arg(file));
    serving(&mut nginx, at).await;
    (nginx, at)
}

#[tokio::test]
async fn nginx_is_reached_over_tls() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let answer = "return 200 \"$scheme $server_protocol $ssl_session_reused $host\";";
    let (_nginx, at) = nginx(&authority, directory.path(), answer).await;
    let keys = authority.ca() + "server_name = \"nginx.test\"\n";
    let rig = rig(&keys, &[at]).await;
    let mut client = rig.client().await;
    for _ in 0..10 {
        client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        let answer = within("an answer", client.answer()).await;
        assert_eq!((answer.status, &*answer.body), (200, "https HTTP/1.1 . shop.example"));
    }
}

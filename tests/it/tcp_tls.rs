//! TCP listeners where TLS ends, and services whose endpoints are reached over TLS: the same bytes,
//! the same ends, and nobody else at the other end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{AlertDescription, Error, RootCertStore};

use crate::origin::Origin;
use crate::peers::{own_address, serving, start};
use crate::rig::{Client, Rig, service, within};
use crate::secure::{self, Terms, told};
use crate::upstream_tls::{Authority, acceptor};

/// A `tcp` listener `web` to the service `web` at `origins`; `more` goes into its table, and other
/// tables behind it.
async fn rig(more: &str, origins: &[SocketAddr]) -> Rig {
    Rig::start(&configuration(more), vec![service("web", origins)]).await
}

fn configuration(more: &str) -> String {
    format!(
        "[node]\nworkers = 1\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n{more}"
    )
}

/// `[certificate.a]`, for `a.example`.
fn certificate(authority: &Authority) -> String {
    authority.certify(&["a.example"], false);
    format!(
        "[certificate.a]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        authority.file("a.example.pem").display(),
        authority.file("a.example.key").display()
    )
}

fn trusting(authority: &Authority) -> Terms {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file("ca.pem")).unwrap()).unwrap();
    Terms { roots: Some(roots), ..Terms::anybody() }
}

/// What one connection over TLS to an origin was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    resumed: bool,
    asked_for: Option<String>,
    alpn: Option<Vec<u8>>,
    bytes: Vec<u8>,
    /// It ended as it should, with a goodbye.
    ended: bool,
}

/// How an origin ends a connection once the client has.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// By a last word, and a goodbye.
    Polite,
    /// At once after the first bytes, without one.
    Rude,
}

/// An origin that echoes over TLS.
struct Secured {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Secured {
    async fn start(acceptor: TlsAcceptor, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let mut tls = acceptor.accept(tcp).await.ok()?;
                    let number = {
                        let session = tls.get_ref().1;
                        let mut noted = noted.lock().unwrap();
                        noted.push(Seen {
                            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                            asked_for: session.server_name().map(str::to_owned),
                            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
                            ..Seen::default()
                        });
                        noted.len() - 1
                    };
                    let mut piece = vec![0; 16 << 10];
                    loop {
                        let read = tls.read(&mut piece).await.ok()?;
                        if read == 0 {
                            noted.lock().unwrap()[number].ended = true;
                            tls.write_all(b"and bye").await.ok()?;
                            return tls.shutdown().await.ok();
                        }
                        noted.lock().unwrap()[number].bytes.extend(&piece[..read]);
                        tls.write_all(&piece[..read]).await.ok()?;
                        tls.flush().await.ok()?;
                        if matches!(manner, Manner::Rude) {
                            return tls.get_mut().0.shutdown().await.ok();
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn until(&self, what: &str, wanted: impl Fn(&[Seen]) -> bool) {
        within(what, async {
            while !wanted(&self.seen()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_inside_arrives_in_the_clear_and_each_end_is_passed_on_alone() {
    let authority = Authority::new();
    let origin = Origin::start(|mut exchange| async move {
        exchange.send("welcome").await?;
        // Nothing more is said before the client has ended.
        exchange.rest().await;
        exchange.send("all of it").await
    })
    .await;
    let more = "certificates = [\"a\"]\n".to_owned() + &certificate(&authority);
    let rig = rig(&more, &[origin.address]).await;
    let at = rig.address("web").await;
    let mut client = trusting(&authority).connect(at, "a.example").await.unwrap();
    assert_eq!(client.bytes(7).await, b"welcome", "before the client says anything");
    client.send("hello").await;
    origin.seen("hello", |all| all[0].text() == "hello").await;
    assert_eq!(client.finish().await, b"all of it");
    rig.metric_is("portolan_proxy_tcp_ended_total{end=\"whole\",listener=\"web\"}", 1.0).await;

    // The other way round: the endpoint has ended, and the client has not.
    let origin = Origin::start(|mut exchange| async move {
        exchange.send("bye").await?;
        exchange.stream.shutdown().await.ok()?;
        exchange.rest().await
    })
    .await;
    rig.tell(vec![service("web", &[origin.address])]).await;
    let mut client = trusting(&authority).connect(at, "a.example").await.unwrap();
    assert_eq!(client.rest().await, b"bye");
    client.send("still here").await;
    origin.seen("what came after the end", |all| all[0].text() == "still here").await;
    assert!(!origin.received()[0].ended);
    drop(client);
    origin.seen("the end", |all| all[0].ended).await;
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_passed_on_as_a_break() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let more = "tls = {}\n".to_owned() + &certificate(&authority);
    let rig = rig(&more, &[listener.local_addr().unwrap()]).await;
    let at = rig.address("web").await;
    let mut client = trusting(&authority).connect(at, "a.example").await.unwrap();
    client.send("x").await;
    let (mut endpoint, _) = within("accept", listener.accept()).await.unwrap();
    assert_eq!(within("a byte", endpoint.read_u8()).await.unwrap(), b'x');
    client.stream.get_mut().0.shutdown().await.unwrap();
    let read = within("the break", endpoint.read_u8()).await;
    assert_eq!(read.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));

    let mut client = trusting(&authority).connect(at, "a.example").await.unwrap();
    client.send("x").await;
    let (endpoint, _) = within("accept", listener.accept()).await.unwrap();
    endpoint.set_zero_linger().unwrap();
    drop(endpoint);
    assert!(client.is_reset().await, "no goodbye where nobody said one");
}

#[tokio::test]
async fn names_protocols_and_handshakes_are_as_on_https() {
    let authority = Authority::new();
    let origin = Origin::echoing().await;
    let more = "certificates = [\"a\"]\nunknown_name = \"refuse\"\nprotocols = [\"imap\", \"x\"]\n\
                tls = { min = \"1.3\", handshake_timeout = \"2s\" }\n"
        .to_owned()
        + &certificate(&authority);
    let rig = rig(&more, &[origin.address]).await;
    let at = rig.address("web").await;
    let alpn = |list: &[&str]| list.iter().map(|one| one.as_bytes().to_vec()).collect();
    for (name, offers, want) in [
        ("a.example", vec![], Ok(None)),
        ("a.example", vec!["y", "x"], Ok(Some(&b"x"[..]))),
        ("a.example", vec!["y"], Err(AlertDescription::NoApplicationProtocol)),
        ("b.example", vec![], Err(AlertDescription::UnrecognisedName)),
    ] {
        let terms = Terms { alpn: alpn(&offers), ..trusting(&authority) };
        match (terms.connect(at, name).await, want) {
            (Ok(mut client), Ok(want)) => {
                assert_eq!(client.stream.get_ref().1.alpn_protocol(), want);
                client.send("there and back").await;
                assert_eq!(client.bytes(14).await, b"there and back");
            }
            (Err(error), Err(want)) => {
                assert_eq!(told(&error), Some(&Error::AlertReceived(want)), "{name} {offers:?}");
            }
            (got, want) => panic!("{name} {offers:?}: {:?}, wanted {want:?}", got.err()),
        }
    }
    let mut mute = rig.client().await;
    assert_eq!(mute.rest().await, b"");
    let mut plain = rig.client().await;
    plain.send("GET / HTTP/1.1\r\n\r\n").await;
    assert!(plain.rest().await.starts_with(b"HTTP/1.1 400 "));
    for (result, count) in [
        ("ok", 2.0),
        ("unknown-name", 1.0),
        ("no-protocol", 1.0),
        ("timeout", 1.0),
        ("plain-http", 1.0),
    ] {
        let name = format!("portolan_tls_handshakes_total{{listener=\"web\",result=\"{result}\"}}");
        rig.metric_is(&name, count).await;
    }
    // A reload takes TLS away; who is there stays.
    let mut kept = trusting(&authority).connect(at, "a.example").await.unwrap();
    rig.reload(&configuration("")).await;
    let mut client = rig.client().await;
    client.send("in the clear").await;
    assert_eq!(client.bytes(12).await, b"in the clear");
    kept.send("as before").await;
    assert_eq!(kept.bytes(9).await, b"as before");
}

#[tokio::test]
async fn bytes_go_to_endpoints_that_show_who_they_are_and_to_nobody_else() {
    let (authority, other) = (Authority::new(), Authority::new());
    let acceptor_of = |authority: &Authority, names: &[&str]| {
        acceptor(&authority.certify(names, false), None, &[b"imap"])
    };
    let good = Secured::start(acceptor_of(&authority, &["db.test"]), Manner::Polite).await;
    let wrong = Secured::start(acceptor_of(&authority, &["other.test"]), Manner::Polite).await;
    let stranger = Secured::start(acceptor_of(&other, &["db.test"]), Manner::Polite).await;
    let plain = Origin::silent().await;
    let more = format!(
        "timeouts = {{ connect = \"1s\" }}\n[service.web]\npolicy = \"round-robin\"\n\
         [service.web.tls]\nserver_name = \"db.test\"\n{}",
        authority.ca()
    );
    for bad in [wrong.address, stranger.address, plain.address] {
        let rig = rig(&more, &[bad, good.address]).await;
        for _ in 0..4 {
            let mut client = rig.client().await;
            client.send("to the right one").await;
            assert_eq!(client.bytes(16).await, b"to the right one");
            assert_eq!(client.finish().await, b"and bye", "an end is passed on alone");
        }
        let retries = rig.metric("portolan_proxy_connect_retries_total{listener=\"web\"}").await;
        assert!(retries.is_some_and(|retries| retries >= 1.0), "{retries:?}");
        rig.tell(vec![service("web", &[bad])]).await;
        let mut client = rig.client().await;
        client.send("to nobody").await;
        assert_eq!(client.rest().await, b"");
    }
    for bad in [&wrong, &stranger] {
        assert!(bad.seen().iter().all(|seen| seen.bytes.is_empty()), "{:?}", bad.seen());
    }
    assert!(!plain.text().contains("to "), "nothing goes in the clear");
    let seen = good.seen();
    assert_eq!(seen.len(), 12);
    let asked = Some("db.test".to_owned());
    assert!(seen.iter().all(|one| one.asked_for == asked && one.alpn.is_none() && one.ended));
    assert!(seen.iter().any(|one| one.resumed), "sessions are resumed");
}

#[tokio::test]
async fn tls_to_tls_offers_what_was_agreed_on_and_keeps_goodbyes() {
    let authority = Authority::new();
    let own = acceptor(&authority.certify(&["127.0.0.1"], false), None, &[b"imap", b"x"]);
    let polite = Secured::start(own.clone(), Manner::Polite).await;
    let rude = Secured::start(own, Manner::Rude).await;
    let more = format!(
        "protocols = [\"x\", \"y\"]\n{}[service.web.tls]\n{}",
        certificate(&authority),
        authority.ca()
    );
    let rig = rig(&more, &[polite.address]).await;
    let at = rig.address("web").await;
    let bytes: Vec<u8> = (0..3_000_000).map(|n| (n % 251) as u8).collect();
    for offers in [vec![], vec![b"x".to_vec()]] {
        let terms = Terms { alpn: offers.clone(), ..trusting(&authority) };
        let mut client = terms.connect(at, "a.example").await.unwrap();
        let mut back = vec![0; bytes.len()];
        let (mut read, mut write) = tokio::io::split(&mut client.stream);
        let sending = async {
            write.write_all(&bytes).await.unwrap();
            write.flush().await.unwrap();
        };
        let reading = async { read.read_exact(&mut back).await.unwrap() };
        within("all of it", async { tokio::join!(sending, reading) }).await;
        assert!(back == bytes, "every byte came back");
        assert_eq!(client.finish().await, b"and bye");
        polite.until("the end", |seen| seen.last().is_some_and(|one| one.ended)).await;
        assert_eq!(polite.seen().last().unwrap().alpn, offers.first().cloned());
    }
    rig.tell(vec![service("web", &[rude.address])]).await;
    let mut client = trusting(&authority).connect(at, "a.example").await.unwrap();
    client.send("x").await;
    assert!(client.is_reset().await, "it may have been cut off");
    rig.metric_is("portolan_proxy_tcp_ended_total{end=\"endpoint\",listener=\"web\"}", 1.0).await;
}

#[tokio::test]
async fn a_tls_listener_that_passes_on_puts_no_tls_around_it() {
    let authority = Authority::new();
    let own = acceptor(&authority.certify(&["a.example", "127.0.0.1"], false), None, &[]);
    let origin = Secured::start(own, Manner::Polite).await;
    let config = format!(
        "[node]\nworkers = 1\n[listener.web.tls]\nbind = [\"127.0.0.1:0\"]\n[route.a]\n\
         listener = \"web\"\nservice = \"web\"\nhost = \"a.example\"\n\
         [route.in]\nlistener = \"web\"\nservice = \"web\"\nterminate = true\n{}[service.web.tls]\n{}",
        certificate(&authority),
        authority.ca()
    );
    let rig = Rig::start(&config, vec![service("web", &[origin.address])]).await;
    let at = rig.address("web").await;
    let terms = Terms::anybody();
    for (name, asked_for) in [("a.example", Some("a.example")), ("b.example", None)] {
        let mut client = terms.connect(at, name).await.unwrap();
        client.send("hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
        // Of what was ended here a new one leads on, to who shows our address.
        assert_eq!(origin.seen().last().unwrap().asked_for.as_deref(), asked_for);
    }
}

/// What `openssl` gets at `at` that says `input` and waits for the end.
async fn s_client(at: SocketAddr, authority: &secure::Authority, input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-servername", "a.example"])
        .args(["-verify_hostname", "a.example", "-connect", &at.to_string(), "-CAfile"])
        .arg(authority.path("ca.pem"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    let output = within("openssl", child.wait_with_output()).await.unwrap();
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn openssl_before_us_and_behind_us_and_nginx_are_understood() {
    let (authority, directory) = (secure::Authority::new(), tempfile::tempdir().unwrap());
    let origin = Origin::start(|mut exchange| async move {
        let line = exchange.some().await?;
        exchange.send([b"heard ", &line[..]].concat()).await
    })
    .await;
    authority.server("a", &["a.example"]);
    let more = "tls = {}\n".to_owned() + &authority.tables(&["a"]);
    let ended = rig(&more, &[origin.address]).await;
    let said = s_client(ended.address("web").await, &authority, "ahoy\n").await;
    assert!(said.contains("heard ahoy"), "{said}");

    authority.server("db", &["db.test"]);
    let pem = authority.path("db.crt").display().to_string();
    let key = authority.path("db.key").display().to_string();
    let at = own_address();
    let mut s_server = start(
        Command::new("openssl")
            .args(["s_server", "-quiet", "-rev", "-accept", &at.to_string()])
            .args(["-cert", &pem, "-key", &key]),
    );
    serving(&mut s_server, at).await;
    let ca = authority.path("ca.pem").display().to_string();
    let named =
        |name: &str| format!("[service.web.tls]\nserver_name = \"{name}\"\nca_file = {ca:?}\n");
    let onward = rig(&named("db.test"), &[at]).await;
    let mut client = onward.client().await;
    client.send("ahoy\n").await;
    assert_eq!(client.until("\n").await, b"yoha\n", "openssl turns each line round");
    let nobody = rig(&named("other.test"), &[at]).await;
    let mut client = nobody.client().await;
    client.send("ahoy\n").await;
    assert_eq!(client.rest().await, b"");

    let at = own_address();
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\n\
         error_log stderr warn;\npid nginx.pid;\nevents {{}}\n\
         stream {{ server {{ listen {at} ssl;\nssl_certificate {pem};\nssl_certificate_key {key};\n\
         return \"$ssl_protocol $ssl_server_name\\n\"; }} }}\n"
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut nginx =
        start(Command::new("nginx").arg("-p").arg(directory.path()).arg("-c").arg(file));
    serving(&mut nginx, at).await;
    let onward = rig(&named("db.test"), &[at]).await;
    let mut client: Client = onward.client().await;
    let line = client.until("\n").await;
    assert!(String::from_utf8_lossy(&line).ends_with(" db.test\n"), "{line:?}");
}

//! TLS that is passed on by its hello: who gets which connection, what of it arrives, and what those
//! get whom nobody takes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{AlertDescription, ClientConnection, Error, RootCertStore};

use crate::origin::{Origin, Received};
use crate::peers::output;
use crate::rig::{Client, Rig, service, within};
use crate::secure::{Secure, Terms, told};
use crate::upstream_tls::{Authority, acceptor};

/// A `tls` listener `web` with these routes; a service for each of `services`.
async fn rig(more: &str, services: &[(&str, SocketAddr)]) -> Rig {
    let config = configuration(more);
    Rig::start(&config, services.iter().map(|(name, at)| service(name, &[*at])).collect()).await
}

fn configuration(more: &str) -> String {
    format!("[node]\nworkers = 1\n[listener.web.tls]\nbind = [\"127.0.0.1:0\"]\n{more}")
}

/// `[route.NAME]` of that listener, to the service of the same name.
fn route(name: &str, more: &str) -> String {
    format!("[route.{name}]\nlistener = \"web\"\nservice = \"{name}\"\n{more}\n")
}

/// A client that believes who shows a certificate of `authority`.
fn trusting(authority: &Authority) -> Terms {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file("ca.pem")).unwrap()).unwrap();
    Terms { roots: Some(roots), ..Terms::anybody() }
}

/// Speaks TLS by `acceptor`, says `name` and a line's end to each client, and echoes then.
async fn speaker(acceptor: TlsAcceptor, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await.ok()?;
                tls.write_all(format!("{name}\n").as_bytes()).await.ok()?;
                tls.flush().await.ok()?;
                let (mut read, mut write) = split(tls);
                copy(&mut read, &mut write).await.ok()?;
                write.shutdown().await.ok()
            });
        }
    });
    address
}

async fn named(authority: &Authority, name: &'static str, names: &[&str]) -> SocketAddr {
    speaker(acceptor(&authority.certify(names, false), None, &[b"h2", b"postgresql"]), name).await
}

/// Who speaks at the other end.
async fn line(client: &mut Secure) -> String {
    let line = client.until("\n").await;
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

async fn echoes(client: &mut Secure, word: &str) {
    client.send(word).await;
    assert_eq!(client.bytes(word.len()).await, word.as_bytes());
}

async fn hellos(rig: &Rig, result: &str, count: f64) {
    let name = format!("portolan_tls_hello_total{{listener=\"web\",result=\"{result}\"}}");
    rig.metric_is(&name, count).await;
}

/// The hello of a client that asks for `name`.
fn hello(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let alpn = alpn.iter().map(|one| one.to_vec()).collect();
    let config = Terms { alpn, ..Terms::anybody() }.config();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same in records of `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [&[22, 3, 1, 0, piece.len() as u8], piece].concat();
    hello[5..].chunks(size).flat_map(record).collect()
}

#[tokio::test]
async fn a_name_leads_to_who_shows_a_certificate_for_it_and_so_do_protocols_and_none() {
    let authority = Authority::new();
    let a = named(&authority, "a", &["a.example"]).await;
    let below = named(&authority, "below", &["x.b.example", "a.b.example"]).await;
    let db = named(&authority, "db", &["a.example", "c.example"]).await;
    let rest = named(&authority, "rest", &["127.0.0.1", "y.x.b.example", "c.example"]).await;
    let routes = [
        route("a", "host = \"A.example.\""),
        route("below", "host = \"*.b.example\""),
        route("db", "alpn = [\"postgresql\", \"mysql\"]\npriority = 1"),
        route("rest", ""),
    ];
    let services = [("a", a), ("below", below), ("db", db), ("rest", rest)];
    let rig = rig(&routes.concat(), &services).await;
    let at = rig.address("web").await;
    for (name, alpn, want) in [
        ("a.example", &[][..], "a"),
        ("A.Example", &[&b"h2"[..]], "a"),
        ("x.b.example", &[], "below"),
        ("a.b.example", &[], "below"),
        ("y.x.b.example", &[], "rest"),
        ("127.0.0.1", &[], "rest"),
        ("c.example", &[], "rest"),
        ("c.example", &[&b"postgresql"[..]], "db"),
        ("a.example", &[&b"h2"[..], b"postgresql"], "db"),
    ] {
        let alpn = alpn.iter().map(|one| one.to_vec()).collect();
        // It believes nobody else, so that the certificate is the endpoint's own.
        let terms = Terms { alpn, ..trusting(&authority) };
        let mut client = terms.connect(at, name).await.unwrap();
        assert_eq!(line(&mut client).await, want, "{name}");
        echoes(&mut client, "through and through").await;
        assert_eq!(client.finish().await, b"", "{name}: an end is an end");
    }
    hellos(&rig, "routed", 9.0).await;
}

#[tokio::test]
async fn whom_nobody_takes_is_told_so_by_an_alert() {
    let authority = Authority::new();
    let a = named(&authority, "a", &["a.example"]).await;
    let routes = route("a", "host = \"a.example\"\ndeny = [\"192.0.2.0/24\"]");
    let more = "proxy_protocol = { from = [\"127.0.0.2/32\"] }\n".to_owned() + &routes;
    let rig = rig(&more, &[("a", a)]).await;
    let at = rig.address("web").await;
    for name in ["nobody.example", "x.a.example", "127.0.0.1"] {
        let error = Terms::anybody().connect(at, name).await.err().unwrap();
        let alert = Error::AlertReceived(AlertDescription::UnrecognisedName);
        assert_eq!(told(&error), Some(&alert), "{name}");
    }
    hellos(&rig, "unmatched", 3.0).await;
    let connect = at.to_string();
    for name in ["nobody.example", "a.example"] {
        let said =
            output("openssl", &["s_client", "-connect", &connect, "-servername", name]).await;
        let refused = said.contains("SSL alert number 112");
        assert_eq!(refused, name == "nobody.example", "{said}");
    }
    // A client that is not let in, told by a proxy.
    let local = tokio::net::TcpSocket::new_v4().unwrap();
    local.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut proxy = Client::over(local.connect(at).await.unwrap());
    proxy.send("PROXY TCP4 192.0.2.7 127.0.0.1 4096 443\r\n").await;
    proxy.send(hello("a.example", &[])).await;
    assert_eq!(proxy.rest().await, [21, 3, 3, 0, 2, 2, 49]);
    hellos(&rig, "denied", 1.0).await;
}

#[tokio::test]
async fn every_byte_of_a_hello_arrives_as_it_came_however_it_was_cut() {
    let origin = Origin::silent().await;
    let rig =
        rig(&route("a", "host = \"a.example\"\nalpn = [\"x\"]"), &[("a", origin.address)]).await;
    let whole = hello("a.example", &[b"h2", b"x"]);
    for (case, bytes, piece) in [
        ("one piece", whole.clone(), usize::MAX),
        ("pieces of one byte", whole.clone(), 1),
        ("records of one byte", in_records(&whole, 1), 100),
        ("records of seven bytes in pieces of three", in_records(&whole, 7), 3),
        ("something behind it", [&whole[..], b"and more"].concat(), usize::MAX),
    ] {
        origin.forget();
        let mut client = rig.client().await;
        for piece in bytes.chunks(piece.min(bytes.len())) {
            client.send(piece).await;
            // So that most pieces are segments of their own.
            tokio::task::yield_now().await;
        }
        client.send("the rest").await;
        let want = [&bytes[..], b"the rest"].concat();
        origin.seen(case, |all| all.iter().any(|one| one.bytes == want)).await;
    }
}

#[tokio::test]
async fn what_is_no_hello_or_a_slow_or_endless_one_costs_its_client_only() {
    let authority = Authority::new();
    let a = named(&authority, "a", &["a.example"]).await;
    let more = "timeouts = { hello = \"2s\" }\nhello_max = \"4KiB\"\n";
    let rig = rig(&(more.to_owned() + &route("a", "")), &[("a", a)]).await;
    let at = rig.address("web").await;
    let alert = |code: u8| vec![21, 3, 3, 0, 2, 2, code];
    let begun = hello("a.example", &[]);
    let huge = in_records(&begun, 1);
    let long: Vec<Vec<u8>> = (0..40).map(|n| vec![b'a' + n % 26; 200]).collect();
    let long: Vec<&[u8]> = long.iter().map(Vec::as_slice).collect();
    let long = hello("a.example", &long);
    for (case, bytes, result, want) in [
        ("HTTP", &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "plain-http", None),
        ("SSL 2", &[0x80, 0x2e, 1, 3, 1, 0, 0x15], "sslv2", Some(70)),
        ("garbage", &[0x16, 9, 9, 9, 9, 9], "not-tls", Some(50)),
        ("empty", &[22, 3, 1, 0, 0], "malformed", Some(50)),
        ("too long", &long, "too-long", Some(40)),
    ] {
        let mut client = rig.client().await;
        client.send(bytes).await;
        let rest = client.rest().await;
        match want {
            Some(code) => assert_eq!(rest, alert(code), "{case}"),
            None => assert!(rest.starts_with(b"HTTP/1.1 400 "), "{case}: {rest:?}"),
        }
        hellos(&rig, result, 1.0).await;
    }
    assert!(huge.len() < 4 << 10, "{}", huge.len());
    let mut left = rig.client().await;
    left.send(&begun[..9]).await;
    drop(left);
    hellos(&rig, "closed", 1.0).await;
    // Many who never finish, while others are served.
    let began = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut client = rig.client().await;
        client.send(&begun[..20]).await;
        slow.push(client);
    }
    let mut served = trusting(&authority).connect(at, "a.example").await.unwrap();
    assert_eq!(line(&mut served).await, "a");
    for client in &mut slow {
        assert_eq!(client.rest().await, b"");
    }
    assert!(began.elapsed() >= Duration::from_secs(2));
    hellos(&rig, "timeout", 200.0).await;
    echoes(&mut served, "still here").await;
}

#[tokio::test]
async fn a_connection_stays_where_it_is_over_reloads_and_new_ones_go_by_the_new_routes() {
    let authority = Authority::new();
    let a = named(&authority, "a", &["a.example"]).await;
    let b = named(&authority, "b", &["a.example"]).await;
    let services = [("a", a), ("b", b)];
    let rig = rig(&route("a", "host = \"a.example\""), &services).await;
    let at = rig.address("web").await;
    let terms = trusting(&authority);
    let mut kept = terms.connect(at, "a.example").await.unwrap();
    assert_eq!(line(&mut kept).await, "a");
    for round in 0..10 {
        let name = if round % 2 == 0 { "b" } else { "a" };
        rig.reload(&configuration(&route(name, "host = \"a.example\""))).await;
        let mut client = terms.connect(at, "a.example").await.unwrap();
        assert_eq!(line(&mut client).await, name);
        echoes(&mut kept, "and on").await;
    }
}

#[tokio::test]
async fn the_kernel_moves_what_comes_behind_the_hello() {
    const SIZE: usize = 8 << 20;
    let authority = Authority::new();
    let a = named(&authority, "a", &["a.example"]).await;
    let rig = rig(&route("a", ""), &[("a", a)]).await;
    let mut client =
        trusting(&authority).connect(rig.address("web").await, "a.example").await.unwrap();
    assert_eq!(line(&mut client).await, "a");
    let bytes: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
    let mut back = vec![0; SIZE];
    let (mut read, mut write) = split(&mut client.stream);
    let sending = async {
        write.write_all(&bytes).await.unwrap();
        write.flush().await.unwrap();
    };
    let reading = async { read.read_exact(&mut back).await.unwrap() };
    within("all of it", async { tokio::join!(sending, reading) }).await;
    assert!(back == bytes, "every byte came back");
    let moved = "portolan_proxy_tcp_spliced_bytes_total{from=\"client\",listener=\"web\"}";
    let moved = rig.metric(moved).await.unwrap();
    assert!(moved > SIZE as f64 / 4.0, "{moved} of {SIZE}");
}

#[tokio::test]
async fn a_route_may_end_tls_here_and_others_of_the_same_port_do_not() {
    let authority = Authority::new();
    authority.certify(&["in.example"], false);
    let (inside, plain) = (
        Origin::start(|mut exchange| async move {
            exchange.send("plain\n").await?;
            exchange.rest().await
        })
        .await,
        named(&authority, "a", &["a.example"]).await,
    );
    let certificate = format!(
        "[certificate.in]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        authority.file("in.example.pem").display(),
        authority.file("in.example.key").display()
    );
    let routes = [
        route("a", "host = \"a.example\""),
        route("in", "host = \"in.example\"\nterminate = true"),
        certificate,
    ];
    let services = [("a", plain), ("in", inside.address)];
    let rig = rig(&("protocols = [\"x\"]\n".to_owned() + &routes.concat()), &services).await;
    let at = rig.address("web").await;
    let mut passed = trusting(&authority).connect(at, "a.example").await.unwrap();
    assert_eq!(line(&mut passed).await, "a");
    for alpn in [vec![], vec![b"x".to_vec(), b"y".to_vec()]] {
        inside.forget();
        let terms = Terms { alpn: alpn.clone(), ..trusting(&authority) };
        let mut client = terms.connect(at, "in.example").await.unwrap();
        let agreed = client.stream.get_ref().1.alpn_protocol();
        assert_eq!(agreed, (!alpn.is_empty()).then_some(&b"x"[..]));
        assert_eq!(line(&mut client).await, "plain");
        client.send("in the clear").await;
        let arrived = |one: &Received| one.text() == "in the clear";
        inside.seen("what was inside", |all| all.iter().any(arrived)).await;
        assert_eq!(client.finish().await, b"");
    }
    // In pieces, the handshake goes on with what was read already.
    let handshakes = "portolan_tls_handshakes_total{listener=\"web\",result=\"ok\"}";
    rig.metric_is(handshakes, 2.0).await;
    let y = Terms { alpn: vec![b"y".to_vec()], ..trusting(&authority) };
    let error = y.connect(at, "in.example").await.err().unwrap();
    let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(told(&error), Some(&alert));
}

#[tokio::test]
async fn splits_and_clients_that_come_back_work_as_elsewhere() {
    let authority = Authority::new();
    let a = named(&authority, "a", &["a.example"]).await;
    let b = named(&authority, "b", &["a.example"]).await;
    let split = |more: &str| {
        format!("{more}[route.all]\nlistener = \"web\"\nsplit = {{ a = 1, b = 1, gone = 1 }}\n")
    };
    let rig = rig(&split(""), &[("a", a), ("b", b)]).await;
    let terms = trusting(&authority);
    let whom = async |rig: &Rig| {
        let mut client = terms.connect(rig.address("web").await, "a.example").await.unwrap();
        line(&mut client).await
    };
    let mut all = std::collections::BTreeSet::new();
    within("both", async {
        while all.len() < 2 {
            all.insert(whom(&rig).await);
        }
    })
    .await;
    rig.reload(&configuration(&split("sticky = { source = \"1h\" }\n"))).await;
    let first = whom(&rig).await;
    for _ in 0..20 {
        assert_eq!(whom(&rig).await, first);
    }
}

#[tokio::test]
async fn a_thousand_names_lead_where_they_should() {
    let authority = Authority::new();
    let last = named(&authority, "last", &["n999.example"]).await;
    let mut routes = String::new();
    for n in 0..999 {
        let names = format!("host = \"n{n}.example\"\nservice = \"s{n}\"\n");
        writeln!(routes, "[route.r{n}]\nlistener = \"web\"\n{names}").unwrap();
    }
    routes += &route("last", "host = \"n999.example\"");
    let rig = rig(&routes, &[("last", last)]).await;
    let at = rig.address("web").await;
    let mut client = trusting(&authority).connect(at, "n999.example").await.unwrap();
    assert_eq!(line(&mut client).await, "last");
    // A name whose service nobody offers: it is closed, as on a tcp listener.
    let error = Terms::anybody().connect(at, "n5.example").await.err().unwrap();
    assert_eq!(told(&error), None, "{error}");
}

#[tokio::test]
async fn why_tells_which_route_a_name_takes() {
    let authority = Authority::new();
    let a = named(&authority, "a", &["a.example"]).await;
    let routes = [
        route("a", "host = \"*.a.example\"\nalpn = [\"h2\"]"),
        route("b", "host = \"b.a.example\"\nclients = [\"192.0.2.0/24\"]"),
    ];
    let rig = rig(&routes.concat(), &[("a", a)]).await;
    for (asked, want) in [
        ("tls://x.a.example%3Falpn=h2", "as it is carried to service/a (1 endpoint)"),
        ("tls://x.a.example", "it is for clients that offer h2"),
        ("tls://x.a.example:443%3Falpn=h2", "no tls listener is configured for port 443"),
        ("tls://b.a.example%3Falpn=h2", "127.0.0.1 is in none of its `clients`"),
        ("tls://b.a.example&client=192.0.2.1", "closed: no instance of the service is eligible"),
        ("tls://c.example", "no route is for the name"),
        ("tls://", "no route is for clients that name nothing"),
        ("tls://c.example", "[route.b] b.a.example"),
    ] {
        let mut stream = UnixStream::connect(rig.directory().join("admin.sock")).await.unwrap();
        let request =
            format!("GET /v1/why?url={asked} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        within("why", stream.read_to_string(&mut page)).await.unwrap();
        assert!(page.contains(want), "{asked}: {page}");
    }
}

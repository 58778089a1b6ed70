use std::time::Duration;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;

/// A header of version 2.
fn v2(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, protocol], &length, rest].concat()
}

fn v4() -> Vec<u8> {
    [&[192, 0, 2, 1, 198, 51, 100, 2][..], &[0x10, 0, 0, 80]].concat()
}

fn v6() -> Vec<u8> {
    let address = |last| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
    [address(1), address(2), vec![0x10, 0, 0, 80]].concat()
}

/// What `bytes` tell when they come in pieces of `size`, and what stays behind the header.
async fn arrived(bytes: &[u8], size: usize) -> (Result<Option<Told>, ProxyError>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    proxy.set_nodelay(true).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let pieces: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
    let send = async move {
        for piece in pieces {
            // What is refused early is closed early.
            if proxy.write_all(&piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = proxy.shutdown().await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let told = arrive(&mut stream).await;
        let mut rest = Vec::new();
        if told.is_ok() {
            stream.read_to_end(&mut rest).await.unwrap();
        }
        (told, rest)
    };
    tokio::select! { (told, rest) = read => (told, rest), () = send => unreachable!() }
}

fn told(client: &str, server: &str) -> Told {
    let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
    Told { client, server, facts: Vec::new() }
}

#[tokio::test]
async fn a_header_tells_who_connected_and_not_a_byte_behind_it_is_taken() {
    let tcp4 = Some(told("192.0.2.1:4096", "198.51.100.2:80"));
    let more = |facts: &[u8]| tcp4.clone().map(|told| Told { facts: facts.to_vec(), ..told });
    let tcp6 = Some(told("[2001:db8::1]:4096", "[2001:db8::2]:80"));
    let facts = |facts: &[u8]| v2(0x21, 0x11, &[&v4(), facts].concat());
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
    assert_eq!(longest.len(), 107);
    for (case, header, want) in [
        ("1, IPv4", b"PROXY TCP4 192.0.2.1 198.51.100.2 4096 80\r\n".to_vec(), tcp4.clone()),
        ("1, IPv6", b"PROXY TCP6 2001:db8::1 2001:db8::2 4096 80\r\n".to_vec(), tcp6.clone()),
        ("1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), None),
        ("1, unknown with more", b"PROXY UNKNOWN ::1 ::1 1 2\r\n".to_vec(), None),
        ("1, as long as can be", longest.into_bytes(), None),
        ("2, IPv4", v2(0x21, 0x11, &v4()), tcp4.clone()),
        ("2, IPv6", v2(0x21, 0x21, &v6()), tcp6),
        ("2, unix", v2(0x21, 0x31, &[0; 216]), None),
        ("2, unspecified", v2(0x21, 0, &[]), None),
        ("2, unspecified with facts", v2(0x21, 0, &[4, 0, 1, 0]), None),
        ("2, local", v2(0x20, 0, &[]), None),
        ("2, local with addresses", v2(0x20, 0x11, &v4()), None),
        ("2, local with whatever", v2(0x20, 0xff, &[1, 2, 3]), None),
        ("2, facts", facts(&[1, 0, 2, b'h', b'2', 4, 0, 0]), more(&[1, 0, 2, b'h', b'2', 4, 0, 0])),
    ] {
        for rest in ["", "GET / HTTP/1.1\r\n\r\n", "\n\n"] {
            for size in [1, 7, 1000] {
                let bytes = [&header, rest.as_bytes()].concat();
                let (got, left) = arrived(&bytes, size).await;
                assert_eq!(got.unwrap(), want, "{case}, by {size}");
                assert_eq!(left, rest.as_bytes(), "{case}, by {size}");
            }
        }
    }
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused() {
    let line = |rest: &str| format!("PROXY {rest}\r\n").into_bytes();
    let facts = |facts: &[u8]| v2(0x21, 0x11, &[&v4(), facts].concat());
    for (case, header, word) in [
        ("nothing", Vec::new(), "ended"),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "none"),
        ("lower case", b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), "none"),
        ("1, no end", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2".to_vec(), "ended"),
        ("1, a bare LF", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".to_vec(), "malformed"),
        ("1, 108 bytes", line(&format!("UNKNOWN {}", "f".repeat(92))), "malformed"),
        ("1, no family", line("TCP5 1.2.3.4 1.2.3.4 1 2"), "malformed"),
        ("1, the other family", line("TCP4 ::1 ::1 1 2"), "malformed"),
        ("1, IPv4 for IPv6", line("TCP6 1.2.3.4 1.2.3.4 1 2"), "malformed"),
        ("1, a zone", line("TCP6 fe80::1%1 ::1 1 2"), "malformed"),
        ("1, octal", line("TCP4 010.0.0.1 1.2.3.4 1 2"), "malformed"),
        ("1, two spaces", line("TCP4  1.2.3.4 1.2.3.4 1 2"), "malformed"),
        ("1, a space more", line("TCP4 1.2.3.4 1.2.3.4 1 2 "), "malformed"),
        ("1, a port too large", line("TCP4 1.2.3.4 1.2.3.4 65536 2"), "malformed"),
        ("1, a port with a sign", line("TCP4 1.2.3.4 1.2.3.4 +1 2"), "malformed"),
        ("1, a port with zeros", line("TCP4 1.2.3.4 1.2.3.4 01 2"), "malformed"),
        ("1, no port", line("TCP4 1.2.3.4 1.2.3.4 1"), "malformed"),
        ("1, UNKNOWNs", line("UNKNOWNS 1.2.3.4 1.2.3.4 1 2"), "malformed"),
        ("2, version 1", v2(0x11, 0x11, &v4()), "malformed"),
        ("2, no command", v2(0x22, 0x11, &v4()), "malformed"),
        ("2, UDP", v2(0x21, 0x12, &v4()), "malformed"),
        ("2, no family", v2(0x21, 0x41, &v4()), "malformed"),
        ("2, addresses cut short", v2(0x21, 0x11, &v4()[..11]), "malformed"),
        ("2, IPv6 in the room of IPv4", v2(0x21, 0x21, &v4()), "malformed"),
        ("2, unix cut short", v2(0x21, 0x31, &[0; 215]), "malformed"),
        ("2, a fact without length", facts(&[1, 0]), "malformed"),
        ("2, a fact that is too long", facts(&[1, 0, 3, 1, 2]), "malformed"),
        ("2, too long", v2(0x21, 0x11, &vec![0; (16 << 10) + 1]), "malformed"),
        ("2, less than it says", v2(0x21, 0x11, &v4())[..20].to_vec(), "ended"),
    ] {
        for size in [1, 1000] {
            // A megabyte byte by byte would show nothing more.
            let size = if header.len() > 2000 { 1000 } else { size };
            let (got, _) = arrived(&header, size).await;
            assert_eq!(got.unwrap_err().word(), word, "{case}, by {size}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_is_waited_for_as_long_as_the_caller_likes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _proxy = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let limit = Duration::from_secs(3);
    assert!(tokio::time::timeout(limit, arrive(&mut stream)).await.is_err());
}

proptest! {
    #[test]
    fn no_bytes_break_the_readers(head in any::<[u8; 4]>(), rest in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(head) = v2::Head::read(&head) {
            let _ = head.told(&rest);
        }
        let _ = v1::told(&rest);
    }

    #[test]
    fn what_a_proxy_writes_is_read_back(client: SocketAddr, port: u16) {
        let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {0} {0} {1} {port}\r\n", client.ip(), client.port());
        let told = v1::told(line.as_bytes()).unwrap().unwrap();
        prop_assert_eq!((told.client.ip(), told.client.port()), (client.ip(), client.port()));
        prop_assert_eq!(told.server.port(), port);
    }
}

#[tokio::test]
async fn a_header_that_we_send_tells_what_we_were_told() {
    let canonical = told("192.0.2.1:4096", "198.51.100.2:80");
    let six = told("[2001:db8::1]:4096", "[2001:db8::2]:80");
    let mixed = told("[::ffff:192.0.2.1]:4096", "[2001:db8::2]:80");
    for (case, client, server, want) in [
        ("IPv4", "192.0.2.1:4096", "198.51.100.2:80", &canonical),
        ("IPv4 as IPv6", "[::ffff:192.0.2.1]:4096", "[::ffff:198.51.100.2]:80", &canonical),
        ("IPv6", "[2001:db8::1]:4096", "[2001:db8::2]:80", &six),
        ("one of each", "192.0.2.1:4096", "[2001:db8::2]:80", &mixed),
    ] {
        for version in [Version::V1, Version::V2] {
            let header = version.header(client.parse().unwrap(), server.parse().unwrap(), &[]);
            let (got, rest) = arrived(&[&header, &b"more"[..]].concat(), 1000).await;
            assert_eq!(got.unwrap().as_ref(), Some(want), "{case}, {version:?}");
            assert_eq!(rest, b"more");
        }
    }
    for version in [Version::V1, Version::V2] {
        assert_eq!(arrived(&version.own(), 1000).await.0.unwrap(), None);
    }
}

#[tokio::test]
async fn facts_are_passed_on_but_for_checksums_and_padding() {
    let (client, server) = ("192.0.2.1:4096".parse().unwrap(), "198.51.100.2:80".parse().unwrap());
    let facts = [
        &[1, 0, 2, b'h', b'2'][..],
        &[3, 0, 4, 1, 2, 3, 4],
        &[4, 0, 1, 0],
        &[0xea, 0, 1, 9],
        &[0xee, 0, 0],
    ]
    .concat();
    let header = Version::V2.header(client, server, &facts);
    let told = arrived(&header, 1000).await.0.unwrap().unwrap();
    assert_eq!(told.facts, [1, 0, 2, b'h', b'2', 0xea, 0, 1, 9, 0xee, 0, 0]);
    assert!(!Version::V1.header(client, server, &facts).contains(&b'h'));
}

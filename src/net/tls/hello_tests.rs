use std::sync::Arc;

use proptest::prelude::*;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;

use super::super::{TlsFiles, client};
use super::*;

const MAX: usize = 16 << 10;

/// The first flight of a client of rustls.
fn flight(name: &str, alpn: &[&[u8]], only_13: bool) -> Vec<u8> {
    let files = TlsFiles { unverified: true, only_13, ..TlsFiles::default() };
    let config = Arc::new(client(&files, alpn).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The content of a hello by hand, with these extensions.
fn content(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut content = vec![3, 3];
    content.extend([7; 32]);
    content.extend([0, 0, 4, 0x13, 0x01, 0x13, 0x02, 1, 0]);
    let mut all = Vec::new();
    for (kind, extension) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend(long(extension));
    }
    content.extend(long(&all));
    content
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

/// The extension with these names, each with its type.
fn names(names: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let names = names.iter().flat_map(|(kind, name)| [vec![*kind], long(name)].concat());
    (SERVER_NAME, long(&names.collect::<Vec<u8>>()))
}

fn protocols(list: &[&[u8]]) -> (u16, Vec<u8>) {
    (ALPN, long(&list.iter().flat_map(|protocol| short(protocol)).collect::<Vec<u8>>()))
}

/// Rustls wants to know with what one signs, and every hello of today says so.
fn signatures() -> (u16, Vec<u8>) {
    (13, long(&[8, 4, 4, 3]))
}

/// `content` as a message in records of at most `size` bytes.
fn records(content: &[u8], size: usize) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let message = [&[CLIENT_HELLO][..], &length[1..], content].concat();
    in_records(&message, size)
}

fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [&[HANDSHAKE, 3, 1][..], &long(piece)].concat();
    message.chunks(size).flat_map(record).collect()
}

/// A name, and a list of protocols.
type Read = (Option<String>, Vec<Vec<u8>>);

/// What is read of `bytes` that come in pieces of `size`; `None` while it is not whole.
fn read(bytes: &[u8], size: usize) -> Result<Option<Read>, HelloError> {
    let mut reader = HelloReader::new(MAX);
    for piece in bytes.chunks(size.max(1)) {
        if reader.push(piece)? {
            let hello = reader.hello()?;
            let protocols = hello.protocols().map(<[u8]>::to_vec).collect();
            return Ok(Some((hello.name.map(str::to_owned), protocols)));
        }
    }
    assert_eq!(reader.hello(), Err(HelloError::Malformed("not all of it")));
    Ok(None)
}

/// What rustls reads, its name in lower case.
fn read_by_rustls(mut bytes: &[u8]) -> Option<Read> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let protocols = hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect());
            let name = hello.server_name().map(str::to_owned);
            return Some((name, protocols.unwrap_or_default()));
        }
    }
    None
}

fn lower((name, protocols): Read) -> Read {
    (name.map(|name| name.to_ascii_lowercase()), protocols)
}

#[test]
fn hellos_of_clients_are_read_whole_and_byte_by_byte_and_in_records_of_any_size() {
    for (name, alpn, want) in [
        ("a.example", &[][..], Some("a.example")),
        ("Sub.A.Example", &[&b"h2"[..], b"http/1.1"], Some("Sub.A.Example")),
        ("127.0.0.1", &[&b"postgresql"[..]], None),
    ] {
        let want = (want.map(str::to_owned), alpn.iter().map(|one| one.to_vec()).collect());
        for only_13 in [false, true] {
            let bytes = flight(name, alpn, only_13);
            assert_eq!(read_by_rustls(&bytes), Some(lower(want.clone())));
            for size in [1, 2, 5, 7, 100, bytes.len()] {
                assert_eq!(read(&bytes, size), Ok(Some(want.clone())), "{name} by {size}");
                let message = &bytes[RECORD_HEAD..];
                for records in [1, 3, 64] {
                    let cut = in_records(message, records);
                    assert_eq!(read(&cut, size), Ok(Some(want.clone())), "{records} by {size}");
                }
            }
            let whole = bytes.len();
            assert_eq!(read(&bytes[..whole - 1], 9), Ok(None), "one byte is missing");
            let more = [&bytes[..], &[0x17, 3, 3, 0xff, 0xff, 1, 2, 3]].concat();
            assert_eq!(read(&more, whole + 8), Ok(Some(want.clone())), "something behind it");
        }
    }
}

#[test]
fn what_is_in_a_hello_is_read_as_rustls_reads_it() {
    let named = |list: &[(u8, &[u8])]| vec![names(list), signatures()];
    let host = |name: &'static [u8]| vec![names(&[(0, name)]), signatures()];
    let a = Some("a.example");
    let grease = (0x0a0a, Vec::new());
    let ech = (0xfe0d, vec![0, 0, 1, 0, 1, 9, 0, 2, 1, 1, 0, 4, 5, 6, 7, 8]);
    for (case, extensions, want) in [
        ("none", vec![signatures()], Ok(None)),
        ("plain", host(b"a.example"), Ok(a)),
        ("upper case", host(b"A.EXAMPLE"), Ok(Some("A.EXAMPLE"))),
        ("a dot behind it", host(b"a.example."), Ok(a)),
        ("an address", host(b"192.0.2.1"), Ok(None)),
        ("another address", host(b"2001:db8::1"), Ok(None)),
        ("empty", host(b""), Err("bad-name")),
        ("not ASCII", host("ä.example".as_bytes()), Err("bad-name")),
        ("not UTF-8", host(b"a\xff.example"), Err("bad-name")),
        ("NUL", host(b"a.example\0.b.example"), Err("bad-name")),
        ("a blank", host(b"a example"), Err("bad-name")),
        ("a port", host(b"a.example:443"), Err("bad-name")),
        ("a star", host(b"*.example"), Err("bad-name")),
        ("only a dot", host(b"."), Err("bad-name")),
        ("two names", named(&[(0, b"a.example"), (0, b"b.example")]), Err("malformed")),
        ("another type behind it", named(&[(0, b"a.example"), (1, b"b.example")]), Ok(a)),
        ("another type before it", named(&[(1, b"b.example"), (0, b"a.example")]), Err("bad-name")),
        ("no names", vec![(SERVER_NAME, long(&[])), signatures()], Err("malformed")),
        ("nothing", vec![(SERVER_NAME, vec![]), signatures()], Err("malformed")),
        (
            "behind the names",
            vec![(SERVER_NAME, [long(&[0, 0, 1, b'a']), vec![0]].concat()), signatures()],
            Err("malformed"),
        ),
        (
            "the extension twice",
            vec![names(&[(0, b"a.example")]), names(&[(0, b"a.example")]), signatures()],
            Err("malformed"),
        ),
        ("GREASE", [vec![grease], host(b"a.example"), vec![(0x1a1a, vec![0])]].concat(), Ok(a)),
        ("ECH: the outer name", [vec![ech], host(b"a.example")].concat(), Ok(a)),
    ] {
        let bytes = records(&content(&extensions), MAX);
        let got = read(&bytes, bytes.len());
        let word = got.as_ref().err().map(|error| error.word());
        assert_eq!(word, want.err(), "{case}");
        let name = got.ok().flatten().map(|read| lower(read).0);
        let theirs = read_by_rustls(&bytes).map(|read| read.0);
        assert_eq!(name, theirs, "{case}: ours, and what rustls reads");
        assert_eq!(want.ok().map(|name| name.map(str::to_ascii_lowercase)), theirs, "{case}");
    }
    for (case, extension, want) in [
        ("two", protocols(&[b"h2", b"http/1.1"]), Ok(2)),
        ("any bytes", protocols(&[&[0x0a, 0x0a], b"h2"]), Ok(2)),
        ("an empty list", protocols(&[]), Err("malformed")),
        ("an empty one", protocols(&[b"h2", b""]), Err("malformed")),
        ("a lying length", (ALPN, long(&[9, b'h', b'2'])), Err("malformed")),
        ("something behind it", (ALPN, [long(&[1, b'a']), vec![0]].concat()), Err("malformed")),
    ] {
        let bytes = records(&content(&[extension, signatures()]), MAX);
        let got = read(&bytes, bytes.len()).map_err(HelloError::word);
        let theirs = read_by_rustls(&bytes);
        assert_eq!(got.clone().ok().flatten(), theirs, "{case}");
        assert_eq!(got.map(|read| read.map_or(0, |read| read.1.len())), want, "{case}");
    }
}

#[test]
fn what_will_never_be_a_hello_is_told_at_once() {
    let good = content(&[names(&[(0, b"a.example")]), signatures()]);
    let whole = records(&good, MAX);
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let behind = records(&[&good[..], &[0]].concat(), MAX);
    for (case, bytes, want) in [
        ("HTTP", b"GET / HTTP/1.1\r\n".to_vec(), "not-tls"),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40], "not-tls"),
        ("SSL 2", vec![0x80, 0x2e, 1, 3, 1, 0, 0x15], "sslv2"),
        ("SSH", b"SSH-2.0-a\r\n".to_vec(), "not-tls"),
        ("another version", with(1, 2), "not-tls"),
        ("an empty record", vec![22, 3, 1, 0, 0], "malformed"),
        ("a huge record", vec![22, 3, 1, 0x48, 0], "malformed"),
        ("another message", with(5, 2), "not-tls"),
        ("a huge message", with(6, 1), "too-long"),
        ("behind the extensions", behind, "malformed"),
        ("a long session", with(RECORD_HEAD + MESSAGE_HEAD + 34, 33), "malformed"),
    ] {
        let got = read(&bytes, 1).map_err(HelloError::word);
        assert_eq!(got, Err(want), "{case}");
        assert_eq!(read_by_rustls(&bytes), None, "{case}");
    }
    let early = [vec![0x80], vec![b'G'], vec![21], vec![22, 2], vec![22, 3, 1, 0, 1, 2]];
    for bytes in early {
        assert!(read(&bytes, 1).is_err(), "{bytes:?} is waited for");
    }
}

#[test]
fn at_most_so_many_bytes_are_kept_and_heads_of_records_count() {
    let large = |size: usize| content(&[(0x0a0a, vec![0; size]), names(&[(0, b"a.example")])]);
    let fits = records(&large(MAX - 200), MAX - 100);
    assert!(read(&fits, 100).unwrap().is_some());
    assert_eq!(read(&records(&large(MAX), MAX), 100), Err(HelloError::TooLong));
    // The message would fit; its records do not.
    let many = records(&large(MAX / 4), 1);
    assert_eq!(read(&many, 64), Err(HelloError::TooLong));
    // Nor is one waited for that says itself that it is too long.
    assert_eq!(read(&[22, 3, 1, 0x40, 0, 1, 0, 0x40, 1], 9), Err(HelloError::TooLong));
}

#[test]
fn a_hello_without_extensions_asks_for_nothing() {
    let mut bare = content(&[]);
    bare.truncate(bare.len() - 2);
    assert_eq!(read(&records(&bare, MAX), 50), Ok(Some((None, Vec::new()))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 512 }))]

    #[test]
    fn names_and_protocols_are_what_rustls_reads_whatever_they_are(
        name in prop_oneof![
            "[a-zA-Z0-9_.-]{0,24}",
            "[a-z]{1,8}(\\.[a-z0-9]{1,8}){0,3}\\.?",
            "[ -~]{0,12}",
            "([0-9]{1,3}\\.){3}[0-9]{1,3}",
        ],
        list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..4),
        size in 1usize..40,
    ) {
        let list: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
        let extensions = [names(&[(0, name.as_bytes())]), protocols(&list), signatures()];
        let bytes = records(&content(&extensions), size);
        let ours = read(&bytes, size).ok().flatten().map(lower);
        prop_assert_eq!(ours, read_by_rustls(&bytes));
    }

    #[test]
    fn a_hello_in_which_anything_was_changed_is_read_as_rustls_reads_it_or_refused(
        name in "[a-z]{1,12}\\.example",
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        size in 1usize..400,
    ) {
        let mut bytes = flight(&name, &[b"h2", b"http/1.1"], false);
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        // Never a panic; and who is passed on is seen by the endpoint as by us.
        let ours = read(&bytes, size);
        if let Some(theirs) = read_by_rustls(&bytes) {
            prop_assert_eq!(ours.map(|read| read.map(lower)), Ok(Some(theirs)));
        }
    }

    #[test]
    fn what_is_no_hello_at_all_is_no_trouble(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        front in prop::sample::select(vec![&[][..], &[22], &[22, 3, 1, 1, 0], &[22, 3, 1, 1, 0, 1, 0, 0, 200]]),
    ) {
        let bytes = [front, &bytes].concat();
        let whole = read(&bytes, bytes.len()).map(|read| read.map(lower));
        prop_assert_eq!(read(&bytes, 1).map(|read| read.map(lower)), whole);
    }
}

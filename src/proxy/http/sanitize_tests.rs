use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { head_max: 8192, headers_max: 100 };

fn read(request: &str) -> Result<Head, u16> {
    let bytes = request.as_bytes();
    let end = end_of_head(bytes, LIMITS).map_err(|refusal| refusal.status)?.unwrap();
    head(&bytes[..end], LIMITS).map_err(|refusal| refusal.status)
}

#[test]
fn requests_with_one_meaning_pass_and_tell_their_framing() {
    for (case, request, body) in [
        ("get", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Body::None),
        ("length", "POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 2\r\n\r\nhi", Body::Length(2)),
        ("length 0", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Body::None),
        (
            "equal lengths, of which one goes on",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            Body::Length(2),
        ),
        (
            "chunked",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            Body::Chunked,
        ),
        ("1.0 without host", "GET / HTTP/1.0\r\n\r\n", Body::None),
        ("absolute", "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", Body::None),
        ("options *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Body::None),
        ("v6 host", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", Body::None),
        ("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Body::None),
    ] {
        assert_eq!(read(request).map(|head| head.body), Ok(body), "{case}");
    }
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    assert!(read(upgrade).is_ok_and(|head| head.upgrade));
}

#[test]
fn requests_with_two_meanings_are_refused() {
    for (case, request, status) in [
        (
            "row 1: both framings",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "row 3: a list of lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n",
            400,
        ),
        (
            "row 4: lengths differ",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
            400,
        ),
        ("row 4: signed", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n", 400),
        ("row 4: hexadecimal", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n", 400),
        (
            "row 4: overflow",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            400,
        ),
        (
            "row 5: space before the colon",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\n",
            400,
        ),
        (
            "row 6: other encodings",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            400,
        ),
        (
            "row 6: more encodings",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            400,
        ),
        (
            "row 6: twice",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "row 7: encoded 1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("row 11: folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
        ("row 11: nul", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("row 11: bare cr", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("row 12: bare lf", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("row 13: no host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("row 14: two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("row 14: user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("row 15: list of hosts", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        ("row 15: space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("row 15: port", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
        ("row 16: another host in the target", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("row 18: get *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("row 19: connect", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("row 20: space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("row 20: control in the target", "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("row 21: fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("row 23: name with parentheses", "GET / HTTP/1.1\r\nHost: a\r\nX(y): 1\r\n\r\n", 400),
        ("row 24: underscore twin", "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 2\r\n\r\n", 400),
        (
            "row 24: a twin of what only proxies say",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n",
            400,
        ),
        ("row 10: trailers", "GET / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\n\r\n", 400),
        ("row 26: host", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Host\r\n\r\n", 400),
        (
            "row 26: the framing",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: content-length\r\n\r\n",
            400,
        ),
        ("another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("no slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ] {
        assert_eq!(read(request), Err(status), "{case}: {request:?}");
    }
}

#[test]
fn row_25_heads_beyond_the_limits_get_431() {
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(100));
    assert_eq!(read(&many), Err(431));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(8192));
    assert_eq!(end_of_head(large.as_bytes(), LIMITS).map_err(|r| r.status), Err(431));
    let complete = format!("{large}\r\n\r\n");
    assert_eq!(end_of_head(complete.as_bytes(), LIMITS).map_err(|r| r.status), Err(431));
}

#[test]
fn names_that_imitate_those_that_decide_are_told() {
    for (name, want) in [
        ("Content_Length", true),
        ("transfer_encoding", true),
        ("X_Forwarded_For", true),
        ("x-forwarded_for", true),
        ("X_FORWARDED-PROTO", true),
        ("X_Real_IP", true),
        ("X-Forwarded-For", false),
        ("X_Y", false),
        ("Content_Length_", false),
        ("", false),
        ("_", false),
    ] {
        assert_eq!(imitates(name), want, "{name}");
    }
}

/// An independent reading of RFC 9112 §2 to §6, as strict as its grammar: what a head says.
#[derive(Debug, PartialEq, Eq)]
struct Book {
    lines: usize,
    body: Body,
}

fn by_the_book(bytes: &[u8]) -> Option<Book> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let text = text.strip_suffix("\r\n\r\n")?;
    // One empty line before a request is to be tolerated (§2.2).
    let text = text.strip_prefix("\r\n").unwrap_or(text);
    let mut lines = text.split("\r\n");
    let token = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
    };
    let mut first = lines.next()?.split(' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next()?);
    let graphic = target.chars().all(|c| c.is_ascii_graphic());
    if first.next().is_some() || !token(method) || target.is_empty() || !graphic {
        return None;
    }
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }
    let (mut count, mut hosts, mut lengths, mut encodings) = (0, 0, Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let plain = |c: char| c == '\t' || ('\x20'..='\x7e').contains(&c) || c >= '\u{80}';
        if !token(name) || !value.chars().all(plain) {
            return None;
        }
        count += 1;
        match &*name.to_ascii_lowercase() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.parse::<u64>().ok()?),
            "transfer-encoding" => encodings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    lengths.dedup();
    let body = match (&lengths[..], &encodings[..]) {
        ([] | [0], []) => Body::None,
        ([length], []) => Body::Length(*length),
        ([], [chunked]) if chunked == "chunked" && version == "HTTP/1.1" => Body::Chunked,
        _ => return None,
    };
    (hosts == 1 || hosts == 0 && version == "HTTP/1.0").then_some(Book { lines: count, body })
}

/// Heads, most of which nearly are as they should be.
pub(in crate::proxy::http) fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let end = prop_oneof![12 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\n ")];
    let first = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "POST /x?y HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a:80 HTTP/1.1",
        "GET / HTTP/1.0",
        "GET  / HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /a b HTTP/1.1",
        "\r\nGET / HTTP/1.1",
        "GET /",
        "g\u{e4} / HTTP/1.1",
        "GET / http/1.1",
        "GET https://[::1]/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
    ]);
    let line = prop::sample::select(vec![
        "Host: a",
        "Host: a",
        "Host: a",
        "Host: a:80",
        "Host: b",
        "Host:a ",
        "Host: [::1]",
        "host:\ta",
        "Content-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: 0",
        "Content-Length: +2",
        "Content-Length:2\t",
        "content-length: 18446744073709551616",
        "Content-Length : 2",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked ",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer_Encoding: x",
        "Transfer-Encoding: \u{b}chunked",
        "Content_Length: 9",
        "X-A: b",
        "X-A: \u{e4}",
        "X-A",
        ": x",
        " folded",
        "X(a): b",
        "Trailer: X",
        "Connection: close, X-A",
        "Connection: host",
        "Upgrade: x",
        "Connection: keep-alive, Upgrade",
        "Expect: 100-continue",
        "X-A: a\0b",
        "X_Real_IP: 1.2.3.4",
        "X-A: \u{7f}",
        "X-A:",
        "x\u{7f}: 1",
    ]);
    let lines = prop::collection::vec((line, end.clone()), 0..6);
    let lines =
        (Just(("Host: a", "\r\n")), lines, any::<bool>()).prop_map(|(host, mut lines, add)| {
            if add {
                lines.insert(0, host);
            }
            lines
        });
    let after = prop::sample::select(vec!["", "hi", "GET / HTTP/1.1\r\n\r\n", "\r\n\r\n", "\n\n"]);
    ((first, end.clone()), lines, end, after).prop_map(|(first, lines, end, after)| {
        let mut pieces = vec![first.0.as_bytes().to_vec(), first.1.as_bytes().to_vec()];
        for (line, end) in lines {
            pieces.push(line.as_bytes().to_vec());
            pieces.push(end.as_bytes().to_vec());
        }
        pieces.push(end.as_bytes().to_vec());
        pieces.push(after.as_bytes().to_vec());
        pieces
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::proxy::http::fuzz_cases()))]

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        if let Ok(Some(end)) = end_of_head(&bytes, LIMITS) {
            let _ = head(&bytes[..end], LIMITS);
        }
        // What is no whole head is no reason to panic either.
        let _ = head(&bytes, LIMITS);
    }

    #[test]
    fn what_passes_says_the_same_to_whoever_goes_by_the_book_and_has_one_framing(
        pieces in pieces()
    ) {
        let bytes = pieces.concat();
        let Ok(Some(end)) = end_of_head(&bytes, LIMITS) else { return Ok(()) };
        let Ok(read) = head(&bytes[..end], LIMITS) else { return Ok(()) };
        prop_assert_eq!(read.length, end);
        let book = by_the_book(&bytes[..end]);
        prop_assert_eq!(book.as_ref().map(|book| book.body), Some(read.body));
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        prop_assert_eq!(request.parse(&bytes[..end]), Ok(httparse::Status::Complete(end)));
        prop_assert_eq!(Some(request.headers.len()), book.map(|book| book.lines));
        let count = |name: &str| {
            request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count()
        };
        prop_assert!(count("transfer-encoding") <= 1);
        prop_assert!(count("transfer-encoding") == 0 || count("content-length") == 0);
        prop_assert_eq!(count("trailer"), 0);
        prop_assert!(!request.headers.iter().any(|header| imitates(header.name)));
    }

    #[test]
    fn where_a_head_ends_does_not_depend_on_the_pieces_in_which_it_comes(pieces in pieces()) {
        let bytes = pieces.concat();
        let whole = end_of_head(&bytes, LIMITS);
        for cut in 0..bytes.len() {
            match end_of_head(&bytes[..cut], LIMITS) {
                Ok(None) => {}
                early => prop_assert_eq!(early, whole, "cut at {}", cut),
            }
        }
    }

    #[test]
    fn a_well_formed_head_passes(
        target in "/[a-z0-9/._~%-]{0,40}",
        name in "[A-Za-z][A-Za-z0-9-]{0,20}",
        value in "[ -~\u{80}-\u{ff}]{0,60}",
        length in prop::option::of(0..1_000_000_u64),
    ) {
        prop_assume!(!DECIDING.contains(&&*name.to_ascii_lowercase()));
        prop_assume!(!name.eq_ignore_ascii_case("trailer"));
        let length_line = length.map_or_else(String::new, |n| format!("Content-Length: {n}\r\n"));
        let request =
            format!("PUT {target} HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n{length_line}\r\n");
        let want = match length {
            None | Some(0) => Body::None,
            Some(length) => Body::Length(length),
        };
        prop_assert_eq!(read(&request).map(|head| head.body), Ok(want));
    }
}

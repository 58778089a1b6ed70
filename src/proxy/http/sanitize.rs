//! Which requests are carried at all. Pure; both lanes ask here, before anything else is done.
//!
//! A message that two servers could read in two ways is refused (RFC 9112 §11.2): what passes has
//! one meaning only, for us and for whoever comes behind us. The rules are stricter than those of
//! the HTTP library behind the full lane; the tests name each row of what it would let through.

use super::refusal::Refusal;

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the head, its final empty line included.
    pub head_max: usize,
    /// Header lines, at most 255.
    pub headers_max: usize,
}

/// What the head says about the bytes that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing belongs to this request any more.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, to the one of size 0 and its trailers.
    Chunked,
}

/// A request head that may be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of it.
    pub length: usize,
    /// What follows it.
    pub body: Body,
    /// The client asks to switch protocols; what follows belongs to the tunnel, if one is made.
    pub upgrade: bool,
}

/// Where the head of a request ends in `bytes`, if all of it is there.
///
/// # Errors
/// 400 when a line ends with a bare LF, 431 when the head is longer than `limits` allow.
pub fn end_of_head(bytes: &[u8], limits: Limits) -> Result<Option<usize>, Refusal> {
    for at in memchr::memchr_iter(b'\n', bytes) {
        if at >= limits.head_max {
            break;
        }
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(bad("line-end", "a line ends with LF instead of CRLF"));
        }
        if at >= 3 && &bytes[at - 3..at] == b"\r\n\r" {
            return Ok(Some(at + 1));
        }
    }
    if bytes.len() >= limits.head_max {
        return Err(Refusal::new(431, "head-too-large", "the request head is too large"));
    }
    Ok(None)
}

/// Reads the head in `bytes`, which end with its empty line (see [`end_of_head`]).
///
/// # Errors
/// The answer to give instead of carrying the request; the connection is closed after it.
pub fn head(bytes: &[u8], limits: Limits) -> Result<Head, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; 255];
    let most = limits.headers_max.min(headers.len());
    let mut request = httparse::Request::new(&mut headers[..most]);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("syntax", "the head is not complete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "too-many-headers", "there are too many header lines"));
        }
        // With a space too many, the end of the target stands where the version should.
        Err(httparse::Error::Version) if spaces_in_first_line(bytes) == 2 => {
            return Err(Refusal::new(505, "version", "speak HTTP/1.1 or HTTP/1.0"));
        }
        Err(_) => return Err(bad("syntax", "the head is not HTTP")),
    }
    let one_zero = request.version == Some(0);
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let fields = Fields::read(request.headers)?;

    let authority = check_target(method, target)?;
    check_host(&fields, authority, one_zero)?;
    Ok(Head { length: bytes.len(), body: framing(&fields, one_zero)?, upgrade: fields.upgrade })
}

fn spaces_in_first_line(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte != b'\r').filter(|byte| **byte == b' ').count()
}

const fn bad(reason: &'static str, message: &'static str) -> Refusal {
    Refusal::new(400, reason, message)
}

/// The header lines that decide about framing and routing.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    encoded: bool,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for header in headers {
            let (name, value) = (header.name, header.value.trim_ascii());
            if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
                return Err(bad("header-value", "a header value contains a control character"));
            }
            // Servers that map names to variables take '_' for '-': a twin of a framing field.
            if is(name, "content_length") || is(name, "transfer_encoding") {
                return Err(bad("header-name", "a header name imitates a framing header"));
            }
            if is(name, "host") && fields.host.replace(value).is_some() {
                return Err(bad("host", "there is more than one Host"));
            }
            if is(name, "content-length") {
                let length = content_length(value)?;
                if fields.length.is_some_and(|known| known != length) {
                    return Err(bad("content-length", "there are different Content-Lengths"));
                }
                fields.length = Some(length);
            }
            if is(name, "transfer-encoding") {
                if fields.encoded || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("transfer-encoding", "the only Transfer-Encoding is chunked"));
                }
                fields.encoded = true;
            }
            fields.upgrade |= is(name, "upgrade");
        }
        Ok(fields)
    }
}

const fn is(name: &str, known: &str) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// RFC 9110 §8.6: digits only; a list of equal values, which it allows to collapse, is refused.
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    const WHAT: Refusal = bad("content-length", "Content-Length is not a number");
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(WHAT);
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// RFC 9112 §6.3: a request with both framings is an attack or a broken client.
fn framing(fields: &Fields<'_>, one_zero: bool) -> Result<Body, Refusal> {
    match (fields.encoded, fields.length) {
        (true, Some(_)) => {
            Err(bad("two-framings", "there are both Content-Length and Transfer-Encoding"))
        }
        (true, None) if one_zero => {
            Err(bad("transfer-encoding", "HTTP/1.0 has no Transfer-Encoding"))
        }
        (true, None) => Ok(Body::Chunked),
        (false, None | Some(0)) => Ok(Body::None),
        (false, Some(length)) => Ok(Body::Length(length)),
    }
}

/// RFC 9112 §3.2. Returns the authority of a target in absolute form.
fn check_target<'a>(method: &str, target: &'a str) -> Result<Option<&'a str>, Refusal> {
    if method == "CONNECT" {
        return Err(Refusal::new(405, "connect", "CONNECT is not served here"));
    }
    if target.bytes().any(|byte| byte <= b' ' || byte >= 0x7f || byte == b'#') {
        return Err(bad("target", "the target contains a character that must be escaped"));
    }
    if target.starts_with('/') {
        return Ok(None);
    }
    if target == "*" {
        return if method == "OPTIONS" {
            Ok(None)
        } else {
            Err(bad("target", "only OPTIONS may ask for *"))
        };
    }
    let scheme_end = target.find("://").unwrap_or(0);
    let scheme = &target[..scheme_end];
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(bad("target", "the target must start with / or http://"));
    }
    let rest = &target[scheme_end + 3..];
    Ok(Some(&rest[..rest.find(['/', '?']).unwrap_or(rest.len())]))
}

/// RFC 9112 §3.2: one valid Host on HTTP/1.1, the same as in an absolute target.
fn check_host(fields: &Fields<'_>, authority: Option<&str>, one_zero: bool) -> Result<(), Refusal> {
    let Some(host) = fields.host else {
        return if one_zero && authority.is_none() {
            Ok(())
        } else {
            Err(bad("host", "there is no Host"))
        };
    };
    if !valid_authority(host) {
        return Err(bad("host", "Host is not a host name with an optional port"));
    }
    match authority {
        Some(authority) if !authority.as_bytes().eq_ignore_ascii_case(host) => {
            Err(bad("host", "Host and the target name different hosts"))
        }
        _ => Ok(()),
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; nothing else, no user, no list. An empty one is a
/// valid Host (RFC 9110 §7.2).
fn valid_authority(host: &[u8]) -> bool {
    let (name, rest) = if host.first() == Some(&b'[') {
        let Some(end) = host.iter().position(|byte| *byte == b']') else { return false };
        let address = std::str::from_utf8(&host[1..end]).unwrap_or_default();
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (&b""[..], &host[end + 1..])
    } else {
        host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len()))
    };
    let name_ok = name.len() <= 255
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let port_ok = match rest {
        [] => true,
        [b':', digits @ ..] => {
            let text = std::str::from_utf8(digits).unwrap_or("x");
            text.bytes().all(|byte| byte.is_ascii_digit())
                && (text.is_empty() || text.parse::<u16>().is_ok())
        }
        _ => false,
    };
    name_ok && port_ok
}

#[cfg(test)]
mod tests {
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
            (
                "length",
                "POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 2\r\n\r\nhi",
                Body::Length(2),
            ),
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
            (
                "row 4: hexadecimal",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n",
                400,
            ),
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
            (
                "row 16: another host in the target",
                "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
                400,
            ),
            ("row 18: get *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("row 19: connect", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("row 20: space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("row 20: control in the target", "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("row 21: fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("row 23: name with parentheses", "GET / HTTP/1.1\r\nHost: a\r\nX(y): 1\r\n\r\n", 400),
            (
                "row 24: underscore twin",
                "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 2\r\n\r\n",
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

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            if let Ok(Some(end)) = end_of_head(&bytes, LIMITS) {
                let _ = head(&bytes[..end], LIMITS);
            }
        }

        #[test]
        fn heads_made_of_likely_pieces_never_panic(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "GET ", "/", " HTTP/1.1", "\r\n", "Host: ", "a", ":", "Content-Length: ", "1",
                "Transfer-Encoding: chunked", "[::", "]", "http://", " ", "\t", "%", "\0",
            ]), 0..40)
        ) {
            let bytes = pieces.concat().into_bytes();
            if let Ok(Some(end)) = end_of_head(&bytes, LIMITS) {
                let _ = head(&bytes[..end], LIMITS);
            }
        }
    }
}

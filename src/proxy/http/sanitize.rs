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
    /// The client may wait for a word of ours before it sends the body (RFC 9110 §10.1.1).
    pub expects: bool,
}

/// Header lines that decide where a message ends, where it goes or whose it is. Nobody else may write
/// them under a similar name, or have them taken away on the way.
const DECIDING: [&str; 11] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "upgrade",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-host",
    "x-real-ip",
];

pub(super) const LINE_END: Refusal = bad("line-end", "a line ends with LF instead of CRLF");
pub(super) const HEAD_TOO_LARGE: Refusal =
    Refusal::new(431, "head-too-large", "the request head is too large");

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
            return Err(LINE_END);
        }
        if at >= 3 && &bytes[at - 3..at] == b"\r\n\r" {
            return Ok(Some(at + 1));
        }
    }
    if bytes.len() >= limits.head_max {
        return Err(HEAD_TOO_LARGE);
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
    Ok(Head {
        length: bytes.len(),
        body: framing(&fields, one_zero)?,
        upgrade: fields.upgrade,
        expects: fields.expects,
    })
}

/// Whether servers that map names to variables, and take `_` for `-`, would take `name` for one of
/// the header lines that decide.
#[must_use]
pub fn imitates(name: &str) -> bool {
    name.contains('_')
        && DECIDING.iter().any(|known| {
            known.len() == name.len()
                && std::iter::zip(known.bytes(), name.bytes())
                    .all(|(k, n)| k == n.to_ascii_lowercase() || k == b'-' && n == b'_')
        })
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
    expects: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for header in headers {
            let (name, value) = (header.name, header.value.trim_ascii());
            if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
                return Err(bad("header-value", "a header value contains a control character"));
            }
            if imitates(name) {
                return Err(bad("header-name", "a header name imitates another one"));
            }
            // The library behind the full lane would lose them in silence.
            if is(name, "trailer") {
                return Err(bad("trailers", "trailers are not carried"));
            }
            if is(name, "connection") {
                let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let decides = |option: &[u8]| {
                    DECIDING.iter().any(|known| option.eq_ignore_ascii_case(known.as_bytes()))
                        && !option.eq_ignore_ascii_case(b"upgrade")
                };
                if options.any(decides) {
                    return Err(bad("connection", "Connection names a header that must go on"));
                }
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
            fields.expects |= is(name, "expect");
        }
        Ok(fields)
    }
}

const fn is(name: &str, known: &str) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// RFC 9110 §8.6: digits only; a list of equal values, which it allows to collapse, is refused.
pub(super) fn content_length(value: &[u8]) -> Result<u64, Refusal> {
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
        // The library behind the full lane compares them byte by byte, and answers by itself then.
        Some(authority) if authority.as_bytes() != host => {
            Err(bad("host", "Host and the target name different hosts"))
        }
        _ => Ok(()),
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; nothing else, no user, no list. An empty one is a
/// valid Host (RFC 9110 §7.2).
pub(super) fn valid_authority(host: &[u8]) -> bool {
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
#[path = "sanitize_tests.rs"]
pub(super) mod tests;

//! Which requests of HTTP/2 are carried at all, and what they look like then. Pure.
//!
//! What passes has one meaning as HTTP/1.1 too, for most endpoints speak that: the same rules as
//! `sanitize` has for heads of HTTP/1.1, and those of RFC 9113 §8. Some of it the library has
//! looked at already; a line here costs less than finding out later that it no longer does.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::request::Parts;
use http::{Method, Uri};

use crate::proxy::http::refusal::Refusal;
use crate::proxy::http::sanitize::{Limits, content_length, valid_authority};

/// What a header line counts beyond its name and value (RFC 9113 §6.5.2).
const LINE: usize = 32;

const fn bad(reason: &'static str, message: &'static str) -> Refusal {
    Refusal::new(400, reason, message)
}

/// Whether `request` may be carried.
///
/// # Errors
/// The answer to give instead.
pub(super) fn check(request: &Parts, limits: Limits) -> Result<(), Refusal> {
    if request.method == Method::CONNECT {
        return Err(Refusal::new(405, "connect", "CONNECT is not served here"));
    }
    check_size(request, limits)?;
    check_path(request)?;
    if request.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(bad("scheme", "the scheme is neither http nor https"));
    }
    check_fields(&request.headers)?;
    check_host(request)
}

fn check_size(request: &Parts, limits: Limits) -> Result<(), Refusal> {
    if request.headers.len() > limits.headers_max {
        return Err(Refusal::new(431, "too-many-headers", "there are too many header lines"));
    }
    let lines =
        request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if lines.sum::<usize>() + target > limits.head_max {
        return Err(Refusal::new(431, "head-too-large", "the request head is too large"));
    }
    Ok(())
}

fn check_path(request: &Parts) -> Result<(), Refusal> {
    let target = request.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if target.bytes().any(|byte| byte <= b' ' || byte >= 0x7f || byte == b'#') {
        return Err(bad("target", "the target contains a character that must be escaped"));
    }
    match target {
        "*" if request.method == Method::OPTIONS => Ok(()),
        "*" => Err(bad("target", "only OPTIONS may ask for *")),
        _ if target.starts_with('/') => Ok(()),
        _ => Err(bad("target", "the path must start with /")),
    }
}

fn check_fields(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut length = None;
    for (name, value) in headers {
        let bytes = value.as_bytes();
        if !name.as_str().bytes().all(is_token) {
            return Err(bad("header-name", "a header name is no token of lower case"));
        }
        if bytes.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err(bad("header-value", "a header value contains a control character"));
        }
        if bytes.trim_ascii().len() != bytes.len() {
            return Err(bad("header-value", "a header value begins or ends with a space"));
        }
        match name.as_str() {
            "connection" | "proxy-connection" | "keep-alive" | "upgrade" | "transfer-encoding"
            | "http2-settings" => {
                return Err(bad("connection-header", "a header is about connections of HTTP/1.1"));
            }
            // Servers that map names to variables take '_' for '-': a twin of a framing field.
            "content_length" | "transfer_encoding" => {
                return Err(bad("header-name", "a header name imitates a framing header"));
            }
            _ => {}
        }
        if *name == TE && !bytes.eq_ignore_ascii_case(b"trailers") {
            return Err(bad("te", "TE may only say trailers"));
        }
        if *name == CONTENT_LENGTH {
            let told = content_length(bytes)?;
            if length.replace(told).is_some_and(|known| known != told) {
                return Err(bad("content-length", "there are different Content-Lengths"));
            }
        }
    }
    Ok(())
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_lowercase()
        || byte.is_ascii_digit()
        || matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// RFC 9113 §8.3.1: one host, by `:authority`, `Host` or both alike.
fn check_host(request: &Parts) -> Result<(), Refusal> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(bad("host", "there is more than one Host"));
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let Some(either) = authority.or(host) else { return Err(bad("host", "there is no host")) };
    if !valid_authority(either) {
        return Err(bad("host", "the host is not a host name with an optional port"));
    }
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(bad("host", "Host and :authority name different hosts"))
        }
        _ => Ok(()),
    }
}

/// Makes a request that was checked into what a request of HTTP/1.1 looks like: its host in `Host`,
/// its target in origin form, its cookies in one line (RFC 9113 §8.2.3), one Content-Length.
pub(super) fn settle(request: &mut Parts) {
    if !request.headers.contains_key(HOST)
        && let Some(authority) = request.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers.insert(HOST, host);
    }
    if let Some(target) = request.uri.path_and_query().cloned() {
        request.uri = Uri::from(target);
    }
    join(&mut request.headers, COOKIE, |all| all.join(&b"; "[..]));
    join(&mut request.headers, CONTENT_LENGTH, |all| all[0].to_vec());
}

/// Makes one line of several.
fn join(headers: &mut HeaderMap, name: HeaderName, joined: impl FnOnce(&[&[u8]]) -> Vec<u8>) {
    let all: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(one) = HeaderValue::from_bytes(&joined(&all))
    {
        headers.insert(name, one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head_max: 1000, headers_max: 10 };

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request =
            http::Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_has_one_meaning_passes_and_looks_like_http_1_then() {
        for (case, mut request, host, target) in [
            ("authority", request("GET", "http://a:80/x?y", &[]), "a:80", "/x?y"),
            ("both", request("GET", "https://a/", &[("host", "A")]), "A", "/"),
            ("host alone", request("GET", "/x", &[("host", "a")]), "a", "/x"),
            ("te", request("POST", "http://a/", &[("te", "trailers")]), "a", "/"),
            ("options", request("OPTIONS", "*", &[("host", "a")]), "a", "*"),
        ] {
            assert_eq!(check(&request, LIMITS), Ok(()), "{case}");
            settle(&mut request);
            assert_eq!(request.headers["host"], host, "{case}");
            assert_eq!(request.uri.to_string(), target, "{case}");
            assert_eq!(request.uri.authority(), None, "{case}");
        }
    }

    #[test]
    fn crumbs_of_cookies_become_one_line_and_equal_lengths_one() {
        let mut request = request(
            "POST",
            "http://a/",
            &[
                ("cookie", "a=1"),
                ("content-length", "2"),
                ("cookie", "b=2"),
                ("content-length", "2"),
            ],
        );
        assert_eq!(check(&request, LIMITS), Ok(()));
        settle(&mut request);
        let all = |name| request.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("cookie"), ["a=1; b=2"]);
        assert_eq!(all("content-length"), ["2"]);
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        let get = |headers: &[(&str, &str)]| request("GET", "http://a/", headers);
        let many: Vec<(&str, &str)> = (0..11).map(|_| ("x", "1")).collect();
        for (case, request, status, reason) in [
            ("another host", get(&[("host", "b")]), 400, "host"),
            ("two hosts", get(&[("host", "a"), ("host", "a")]), 400, "host"),
            ("no host", request("GET", "/", &[]), 400, "host"),
            ("a user", request("GET", "http://u@a/", &[]), 400, "host"),
            ("a list", request("GET", "/", &[("host", "a,b")]), 400, "host"),
            ("a port too large", request("GET", "http://a:99999/", &[]), 400, "host"),
            ("scheme", request("GET", "ftp://a/", &[]), 400, "scheme"),
            ("a star", request("GET", "*", &[("host", "a")]), 400, "target"),
            ("connect", request("CONNECT", "a:443", &[]), 405, "connect"),
            ("connection", get(&[("connection", "close")]), 400, "connection-header"),
            ("chunked", get(&[("transfer-encoding", "chunked")]), 400, "connection-header"),
            ("upgrade", get(&[("upgrade", "h2c")]), 400, "connection-header"),
            ("te", get(&[("te", "gzip")]), 400, "te"),
            ("a twin", get(&[("content_length", "1")]), 400, "header-name"),
            (
                "lengths differ",
                get(&[("content-length", "1"), ("content-length", "2")]),
                400,
                "content-length",
            ),
            ("signed length", get(&[("content-length", "+1")]), 400, "content-length"),
            ("a space before", get(&[("x", " 1")]), 400, "header-value"),
            ("a tab behind", get(&[("x", "1\t")]), 400, "header-value"),
            ("many lines", get(&many), 431, "too-many-headers"),
            ("a large head", get(&[("x", &"x".repeat(1000))]), 431, "head-too-large"),
            (
                "a large target",
                request("GET", &format!("http://a/{}", "x".repeat(1000)), &[]),
                431,
                "head-too-large",
            ),
        ] {
            let refused =
                check(&request, LIMITS).map_err(|refusal| (refusal.status, refusal.reason));
            assert_eq!(refused, Err((status, reason)), "{case}");
        }
    }
}

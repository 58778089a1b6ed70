//! What gRPC clients are told by us: a status of theirs instead of one of HTTP. Pure.

use std::fmt::Write;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

/// Whether a request with these headers is one of gRPC. (gRPC-Web is not: it reads statuses of HTTP.)
#[must_use]
pub fn asks(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
}

/// The status of gRPC that stands for one of HTTP, as the protocol's own table has it; for what is
/// too large, RESOURCE_EXHAUSTED.
#[must_use]
pub const fn status(http: u16) -> u8 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 | 405 | 501 => 12,
        408 => 4,
        413 | 431 => 8,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// `message` as `grpc-message` has it: percent-encoded.
#[must_use]
pub fn message(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.trim_end().bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Makes `response` an answer of trailers alone: its end is that of its head.
pub fn dress(response: &mut Response<()>, http: u16, text: &str) {
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status(http))));
    if let Ok(message) = HeaderValue::from_str(&message(text)) {
        headers.insert("grpc-message", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_grpc_are_known_by_their_type() {
        for (kind, want) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(asks(&headers), want, "{kind}");
        }
        assert!(!asks(&HeaderMap::new()));
    }

    #[test]
    fn statuses_and_messages_are_those_of_grpc() {
        for (http, want) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (405, 12),
            (408, 4),
            (413, 8),
            (418, 2),
            (429, 14),
            (431, 8),
            (500, 2),
            (501, 12),
            (502, 14),
            (503, 14),
            (504, 14),
        ] {
            assert_eq!(status(http), want, "{http}");
        }
        assert_eq!(message("100 % \u{e4}\n"), "100 %25 %C3%A4");
        let mut response = Response::new(());
        dress(&mut response, 503, "nobody\n");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "nobody");
    }
}

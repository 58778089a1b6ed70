//! What is known of one request at its end.

use std::net::{IpAddr, SocketAddr};

/// Everything that a line can tell. `Authorization` and cookies are not among it, whatever the
/// format. Times are in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The listener.
    pub listener: &'a str,
    /// The route, when one was found.
    pub route: Option<&'a str>,
    /// Who connected.
    pub client: IpAddr,
    /// What was asked for.
    pub request: RequestLine<'a>,
    /// The host that was asked for.
    pub host: Option<&'a [u8]>,
    /// Status of the answer; 499 when the client left before one, 0 when there was none for another
    /// reason.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the end of the request's head to the end of the answer.
    pub duration: u64,
    /// To connect to the endpoint; none when a kept connection was used.
    pub connect: Option<u64>,
    /// From the head being sent to the endpoint to the head of its answer.
    pub first_byte: Option<u64>,
    /// From the last byte of the request's head to its first byte being sent to the endpoint.
    pub added: Option<u64>,
    /// The service that it went to, with the port's name if it has one.
    pub service: Option<&'a str>,
    /// Id of the instance.
    pub instance: Option<&'a str>,
    /// Address of the endpoint.
    pub endpoint: Option<SocketAddr>,
    /// Endpoints that it was given to, one after the other.
    pub attempts: u32,
    /// Generation of the table that decided; 0 when none did.
    pub generation: u64,
    /// The trace that it belongs to: 32 hexadecimal digits.
    pub trace_id: Option<&'a [u8]>,
    /// `X-Request-Id`, as it goes on.
    pub request_id: Option<&'a [u8]>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// `X-Forwarded-For`, as a trusted proxy told it.
    pub forwarded_for: Option<&'a [u8]>,
    /// The version of TLS that it came by.
    pub tls_version: Option<&'a str>,
    /// The cipher suite, by its IANA name.
    pub tls_cipher: Option<&'a str>,
    /// The host that the client named in the handshake.
    pub sni: Option<&'a str>,
    /// Why we did not carry it.
    pub refused: Option<&'a str>,
    /// Whose fault it was that it failed, or why it was cut.
    pub error: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// One of which no more is known than where it came, from whom, and how it began.
    #[must_use]
    pub const fn bare(listener: &'a str, client: IpAddr, request: RequestLine<'a>) -> Self {
        Self {
            listener,
            route: None,
            client,
            request,
            host: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            duration: 0,
            connect: None,
            first_byte: None,
            added: None,
            service: None,
            instance: None,
            endpoint: None,
            attempts: 0,
            generation: 0,
            trace_id: None,
            request_id: None,
            user_agent: None,
            referer: None,
            forwarded_for: None,
            tls_version: None,
            tls_cipher: None,
            sni: None,
            refused: None,
            error: None,
        }
    }
}

/// The first line of a request.
#[derive(Debug, Clone, Copy)]
pub enum RequestLine<'a> {
    /// In its parts, as they were sent.
    Read {
        /// `GET`.
        method: &'a [u8],
        /// `/a?b=c`, or in absolute form.
        target: &'a [u8],
        /// `HTTP/1.1`.
        protocol: &'a [u8],
    },
    /// As it came, for nobody could read it; it may be cut or empty.
    Raw(&'a [u8]),
}

impl<'a> RequestLine<'a> {
    /// The parts of `line`, when it has three and they look like a request's; else the line. Ends
    /// with the line's end, or where `line` does.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Self {
        let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
        let line = &line[..end];
        let mut parts = line.split(|byte| *byte == b' ');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(method), Some(target), Some(protocol), None)
                if !method.is_empty()
                    && method.iter().all(u8::is_ascii_alphabetic)
                    && !target.is_empty()
                    && protocol.starts_with(b"HTTP/") =>
            {
                Self::Read { method, target, protocol }
            }
            _ => Self::Raw(line),
        }
    }
}

/// Path and query of a target, in origin form or in absolute form (RFC 9112 §3.2).
#[must_use]
pub fn path_and_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut path = target;
    if !target.starts_with(b"/")
        && let Some(scheme) = memchr::memmem::find(target, b"://")
    {
        let rest = &target[scheme + 3..];
        path = &rest[memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len())..];
    }
    match memchr::memchr(b'?', path) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_in_its_parts_or_kept_as_it_came() {
        for (line, want) in [
            (&b"GET /a HTTP/1.1\r\nHost: a\r\n"[..], Some(["GET", "/a", "HTTP/1.1"])),
            (b"GET /a HTTP/1.1", Some(["GET", "/a", "HTTP/1.1"])),
            (b"GET /a b HTTP/1.1\r\n", None),
            (b"GET  /a HTTP/1.1\r\n", None),
            (b"\x16\x03\x01", None),
            (b"", None),
        ] {
            let read = match RequestLine::of(line) {
                RequestLine::Read { method, target, protocol } => Some([method, target, protocol]),
                RequestLine::Raw(raw) => {
                    assert!(line.starts_with(raw) && !raw.contains(&b'\n'));
                    None
                }
            };
            assert_eq!(read, want.map(|parts| parts.map(str::as_bytes)), "{line:?}");
        }
    }

    #[test]
    fn a_target_is_told_as_path_and_query() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/a/b?c=d?e", "/a/b", Some("c=d?e")),
            ("http://a/b?c", "/b", Some("c")),
            ("http://a?c", "", Some("c")),
            ("*", "*", None),
            ("/to?u=http://a/", "/to", Some("u=http://a/")),
        ] {
            let want = (path.as_bytes(), query.map(str::as_bytes));
            assert_eq!(path_and_query(target.as_bytes()), want, "{target}");
        }
    }
}

//! One POST of JSON: a connection of its own, HTTP/1.1, the status of the answer and nothing else.
//!
//! Events are rare, so nothing is pooled. Redirects are not followed: they would carry the token of
//! a webhook to somebody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest head of an answer that is read.
const HEAD_MAX: usize = 16 << 10;

/// Where something is posted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    tls: bool,
    host: String,
    port: u16,
    /// `Host` as the URL has it.
    authority: String,
    path: String,
}

impl Target {
    /// Reads a URL of `http` or `https`.
    ///
    /// # Errors
    /// Says what is wrong with it; secrets in it are refused, and not shown.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|_| {
            "is no URL; write it like \"http://deployer.example/recreate\"".to_owned()
        })?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("is no URL of http or https".to_owned()),
        };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err("has a user or password in it; put an Authorization header into the file \
                        of webhook_headers instead"
                .to_owned());
        }
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority,
            path: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
        })
    }
}

/// Header lines of a file: `Name: value`, one per line; empty lines do not count.
///
/// # Errors
/// Tells the number of the line, never what stands in it.
pub fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parts = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        let fits = |(name, value): &(&str, &str)| {
            http::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && http::HeaderValue::from_str(value).is_ok()
        };
        let Some((name, value)) = parts.filter(fits) else {
            return Err(format!("line {} is no header; write it like `Name: value`", number + 1));
        };
        headers.push((name.to_owned(), value.to_owned()));
    }
    Ok(headers)
}

/// Posts `body`, within `limit` from the first packet to the status of the answer.
///
/// # Errors
/// In words: it was not reached, not in time, or the status is not 2xx. Never shows a header.
pub async fn post(
    target: &Target,
    headers: &[(String, String)],
    body: &[u8],
    limit: Duration,
) -> Result<(), String> {
    let posted = tokio::time::timeout(limit, async {
        let address = (target.host.as_str(), target.port);
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("cannot connect to {}: {error}", target.authority))?;
        if target.tls {
            exchange(super::secure::client(stream, &target.host).await?, target, headers, body).await
        } else {
            exchange(stream, target, headers, body).await
        }
    });
    match posted.await {
        Ok(Ok(200..=299)) => Ok(()),
        Ok(Ok(status)) => Err(format!("{} answered {status}", target.authority)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("{} did not answer within {limit:?}", target.authority)),
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    target: &Target,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<u16, String> {
    let broke = |error| format!("{} broke the connection: {error}", target.authority);
    let mut request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: portolan/{}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
        target.path,
        target.authority,
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).await.map_err(broke)?;
    let mut read = Vec::with_capacity(1024);
    loop {
        match status(&read) {
            Ok(Some((status, end))) if status < 200 => drop(read.drain(..end)),
            Ok(Some((status, _))) => return Ok(status),
            Ok(None) if read.len() < HEAD_MAX => {
                if stream.read_buf(&mut read).await.map_err(broke)? == 0 {
                    return Err(format!("{} closed without an answer", target.authority));
                }
            }
            Ok(None) | Err(()) => {
                return Err(format!("what {} answered is no HTTP", target.authority));
            }
        }
    }
}

/// Status and length of the head that `bytes` begin with, when all of it is there.
fn status(bytes: &[u8]) -> Result<Option<(u16, usize)>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => Ok(head.code.map(|code| (code, end))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(()),
    }
}

/// A target that several tasks share.
pub type Shared = Arc<Target>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_of_http_or_https_without_secrets() {
        let target = |tls, host: &str, port, authority: &str, path: &str| Target {
            tls,
            host: host.into(),
            port,
            authority: authority.into(),
            path: path.into(),
        };
        for (url, want) in [
            ("http://a.example/x?y=1", Ok(target(false, "a.example", 80, "a.example", "/x?y=1"))),
            ("https://a.example:8443", Ok(target(true, "a.example", 8443, "a.example:8443", "/"))),
            ("http://[::1]:80/x", Ok(target(false, "::1", 80, "[::1]:80", "/x"))),
            ("http://u:secret@a.example/", Err("user or password")),
            ("ftp://a.example/", Err("http or https")),
            ("a.example", Err("http or https")),
            ("http://a b/", Err("is no URL")),
        ] {
            match (Target::parse(url), want) {
                (Ok(read), Ok(want)) => assert_eq!(read, want, "{url}"),
                (Err(error), Err(part)) => {
                    assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
                }
                (read, _) => panic!("{url}: {read:?}"),
            }
        }
    }

    #[test]
    fn header_lines_are_read_and_a_broken_one_is_told_by_its_number_only() {
        let read = headers("Authorization: Bearer x:y\n\nX-Key:1\n").unwrap();
        let told: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(told, [("Authorization", "Bearer x:y"), ("X-Key", "1")]);
        let error = headers("A: b\nsecret token").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn the_status_is_read_from_a_whole_head_only() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"), Ok(Some((204, 33))));
        assert_eq!(status(b"HTTP/1.1 204 No Con"), Ok(None));
        assert_eq!(status(b"SSH-2.0-x\r\n"), Err(()));
    }
}

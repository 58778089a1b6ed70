//! One POST of JSON to a webhook: its status counts, and nothing else of the answer.
//!
//! Events are rare, so nothing is pooled. Redirects are not followed: they would carry the token of
//! a webhook to somebody else.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};

use super::http::{Client, Origin, Request, Settings};

/// Where something is posted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    origin: Origin,
    /// Path and query.
    path: String,
}

impl Target {
    /// Reads a URL of `http` or `https`.
    ///
    /// # Errors
    /// Says what is wrong with it; a user or password in it is refused and not shown.
    pub fn parse(url: &str) -> Result<Self, String> {
        const FORM: &str = "write it like \"http://deployer.example/recreate\"";
        if url.contains('@') {
            return Err("has a user or password in it; put an Authorization header into the file \
                        of webhook_headers instead"
                .to_owned());
        }
        let after = url.find("://").map_or(0, |at| at + 3);
        let end = url[after..].find(['/', '?']).map_or(url.len(), |at| after + at);
        let (origin, path) = url.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let fits = path.parse::<http::uri::PathAndQuery>().is_ok() && !path.contains('#');
        if !fits {
            return Err(format!("has a path that no URL can have; {FORM}"));
        }
        let origin = Origin::parse(origin)
            .map_err(|_| format!("does not begin with http:// or https:// and a host; {FORM}"))?;
        Ok(Self { origin, path })
    }
}

/// Header lines of a file: `Name: value`, one per line; empty lines do not count.
///
/// # Errors
/// Tells the number of the line, never what stands in it.
pub fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let refuse = || format!("line {} is no header; write it like `Name: value`", number + 1);
        headers.push(read.ok_or_else(refuse)?);
    }
    Ok(headers)
}

/// How a try follows a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// The longest pause before the second try; each later one is up to twice as long.
    pub min: Duration,
    /// The longest pause before any try.
    pub max: Duration,
}

impl Retries {
    /// The pause after so many failed tries: anything up to a bound that doubles (full jitter), so
    /// that those who failed together do not come again together.
    #[must_use]
    pub fn pause(self, tries: u32, random: u64) -> Duration {
        let doubled = self.min.saturating_mul(1 << tries.saturating_sub(1).min(30));
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        doubled.min(self.max.max(self.min)).mul_f64(share)
    }
}

/// Posts `body`, within `limit` from the look-up of the host to the end of the answer.
///
/// # Errors
/// In words: it was not reached, not in time, or the status is not 2xx. Never shows a header.
pub async fn post(
    target: &Target,
    mut headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    limit: Duration,
) -> Result<(), String> {
    headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    let settings = Settings { connect_timeout: limit, connections_max: 1, ..Settings::default() };
    let client = Client::new(target.origin.clone(), settings);
    let request = Request {
        method: Method::POST,
        headers,
        body: Bytes::from(body),
        head_within: limit,
        ..Request::get(target.path.clone())
    };
    let to = target.origin.authority();
    match tokio::time::timeout(limit, client.open(&request)).await {
        Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
        Ok(Ok(answer)) => Err(format!("{to} answered {}", answer.status.as_u16())),
        Ok(Err(error)) => Err(format!("posting to {to}: {error}")),
        Err(_) => Err(format!("{to} did not answer within {}", crate::units::Period(limit))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_of_http_or_https_without_secrets() {
        for (url, want) in [
            ("http://a.example/x?y=1", Ok(("a.example", "/x?y=1"))),
            ("https://a.example:8443", Ok(("a.example:8443", "/"))),
            ("https://a.example?y=1", Ok(("a.example", "/?y=1"))),
            ("http://[::1]:81/x", Ok(("[::1]:81", "/x"))),
            ("http://u:secret@a.example/", Err("user or password")),
            ("ftp://a.example/", Err("http:// or https://")),
            ("a.example", Err("http:// or https://")),
            ("http:///x", Err("http:// or https://")),
            ("http://a.example/a b", Err("path")),
        ] {
            match (Target::parse(url), want) {
                (Ok(read), Ok((authority, path))) => {
                    assert_eq!(
                        (&*read.origin.authority(), &*read.path),
                        (authority, path),
                        "{url}"
                    );
                }
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
        assert_eq!(read[0].1, "Bearer x:y");
        assert_eq!((read[1].0.as_str(), read[1].1.as_bytes()), ("x-key", &b"1"[..]));
        assert!(!format!("{read:?}").contains("Bearer"), "it never gets into a log");
        let error = headers("A: b\nsecret token").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
    }
}

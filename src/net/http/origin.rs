//! Where requests go: scheme, host, port, and the path that stands before every other.

use std::fmt;

use http::Uri;
use serde::{Deserialize, Deserializer, de::Error as _};

/// `http://host:port` or `https://host:port`, perhaps with a path in front of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    tls: bool,
    host: String,
    port: u16,
    base: String,
}

impl Origin {
    /// Reads a URL. The port may be left out; user names, queries and fragments are refused.
    ///
    /// # Errors
    /// Names what is wrong and shows the form. Never repeats a text that may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write it like \"http://127.0.0.1:8500\"";
        if text.contains('@') {
            return Err(format!("a URL with user name or password is refused; {FORM}"));
        }
        let uri: Uri = text.parse().map_err(|error| format!("{text:?}: {error}; {FORM}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("{text:?} begins with neither http:// nor https://; {FORM}")),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("{text:?} names no host; {FORM}"))?;
        if uri.query().is_some() || text.contains('#') {
            return Err(format!("{text:?} has a query or fragment; {FORM}"));
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let base = uri.path().trim_end_matches('/').to_owned();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { tls, host, port, base })
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Host name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, 1 to 65535.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` as the Host header and HTTP/2 write it; the usual port is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        let bracketed = self.host.contains(':');
        let host = if bracketed { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// `path`, which begins with a slash, behind the path of the origin.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The path and query of `location` when it lies at this origin (RFC 9110 §10.2.2).
    #[must_use]
    pub fn here(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(location.to_owned());
        }
        let uri: Uri = location.parse().ok()?;
        let same = uri.scheme_str() == Some(if self.tls { "https" } else { "http" })
            && uri.host().is_some_and(|h| h.trim_matches(['[', ']']) == self.host)
            && uri.port_u16().unwrap_or(if self.tls { 443 } else { 80 }) == self.port;
        same.then(|| uri.path_and_query().map_or_else(|| "/".into(), ToString::to_string))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// `text` as one segment of a path or one value of a query: all but unreserved characters as
/// `%XX` (RFC 3986 §2.3).
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = fmt::Write::write_fmt(&mut out, format_args!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port_and_nothing_secret() {
        for (case, text, want) in [
            ("plain", "http://127.0.0.1:8500", Some("http://127.0.0.1:8500")),
            ("usual port", "https://Consul.example/", Some("https://consul.example")),
            ("v6", "http://[::1]:8500", Some("http://[::1]:8500")),
            ("base", "http://h:1/consul/", Some("http://h:1/consul")),
            ("no scheme", "127.0.0.1:8500", None),
            ("password", "http://u:secret@h:1", None),
            ("query", "http://h:1/?a=b", None),
            ("other scheme", "ftp://h", None),
        ] {
            let read = Origin::parse(text);
            assert_eq!(read.as_ref().ok().map(ToString::to_string).as_deref(), want, "{case}");
            assert!(!format!("{read:?}").contains("secret"), "{case}");
        }
    }

    #[test]
    fn a_location_is_here_only_with_the_same_scheme_host_and_port() {
        let origin = Origin::parse("http://h:8500").unwrap();
        for (case, location, want) in [
            ("path", "/v1/x?y=z", Some("/v1/x?y=z")),
            ("whole", "http://h:8500/v1", Some("/v1")),
            ("other port", "http://h:8501/v1", None),
            ("other scheme", "https://h:8500/v1", None),
            ("other host", "http://evil:8500/v1", None),
            ("host without scheme", "//evil/v1", None),
        ] {
            assert_eq!(origin.here(location).as_deref(), want, "{case}");
        }
    }

    #[test]
    fn what_is_not_plain_in_a_path_is_escaped() {
        assert_eq!(escaped("web-1.x_y~"), "web-1.x_y~");
        assert_eq!(escaped("a/b c&d=é"), "a%2Fb%20c%26d%3D%C3%A9");
    }
}

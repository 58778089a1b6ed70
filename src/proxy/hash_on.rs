//! What hashing policies go by: something of the client or of its request.

use std::net::IpAddr;

use http::HeaderName;
use http::request::Parts;

use super::balance::hash::{mix, of_bytes, of_ip};

/// `hash_on`, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The address that the connection came from.
    Source,
    /// All values of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(Box<str>),
    /// The path, without the query, as it was sent.
    Path,
}

impl HashOn {
    /// Reads `source`, `header:NAME`, `cookie:NAME` or `path`.
    ///
    /// # Errors
    /// Names the value and the forms that there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!("{text:?} is none of \"source\", \"header:NAME\", \"cookie:NAME\" and \"path\"")
        };
        match text.split_once(':') {
            None if text == "source" => Ok(Self::Source),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| refuse()),
            Some(("cookie", name)) if !name.is_empty() && !name.contains([' ', ';', '=', ',']) => {
                Ok(Self::Cookie(name.into()))
            }
            _ => Err(refuse()),
        }
    }

    /// The hash; `None` when the request has no such header or cookie. Without a request, on TCP, it
    /// is always that of the source. Allocates nothing.
    #[must_use]
    pub fn of(&self, source: IpAddr, request: Option<&Parts>) -> Option<u64> {
        match (self, request) {
            (Self::Source, _) | (_, None) => Some(of_ip(source)),
            (Self::Path, Some(request)) => Some(of_bytes(request.uri.path().as_bytes())),
            (Self::Header(name), Some(request)) => {
                let values = request.headers.get_all(name).into_iter();
                let values = values.map(http::HeaderValue::as_bytes).filter(|v| !v.is_empty());
                values.map(of_bytes).reduce(|all, value| mix(all ^ value))
            }
            (Self::Cookie(name), Some(request)) => cookie(request, name).map(of_bytes),
        }
    }
}

/// The value of the first cookie called `name`; an empty one is none.
fn cookie<'a>(request: &'a Parts, name: &str) -> Option<&'a [u8]> {
    let lines = request.headers.get_all(http::header::COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_belongs_together_by_what_is_hashed_and_by_nothing_else() {
        let request = |headers: &[(&str, &str)], path: &str| {
            let mut request = http::Request::builder().uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(()).unwrap().into_parts().0
        };
        let hash = |on: &str, headers: &[(&str, &str)], path: &str| {
            let source = "10.0.0.1".parse().unwrap();
            HashOn::parse(on).unwrap().of(source, Some(&request(headers, path)))
        };
        for (case, on, one, other, same) in [
            ("path", "path", ("", "", "/a?x=1"), ("", "", "/a?x=2"), true),
            ("another path", "path", ("", "", "/a"), ("", "", "/b"), false),
            ("header", "header:X-User", ("x-user", "7", "/a"), ("x-user", "7", "/b"), true),
            ("another header", "header:X-User", ("x-user", "7", "/"), ("x-user", "8", "/"), false),
            ("cookie", "cookie:id", ("cookie", "a=1; id=7", "/"), ("cookie", "id=7;b", "/"), true),
            ("another", "cookie:id", ("cookie", "id=7", "/"), ("cookie", "id=8", "/"), false),
            ("source", "source", ("x-user", "7", "/"), ("x-user", "8", "/b"), true),
        ] {
            let of = |(name, value, path): (&str, &str, &str)| {
                let headers = [(name, value)];
                hash(on, if name.is_empty() { &[] } else { &headers }, path)
            };
            assert_eq!(of(one) == of(other), same, "{case}");
            assert!(of(one).is_some(), "{case}");
        }
        for (on, header) in [
            ("header:X-User", ("x-other", "7")),
            ("header:X-User", ("x-user", "")),
            ("cookie:id", ("cookie", "xid=7; idx=8; id=")),
        ] {
            assert_eq!(hash(on, &[header], "/"), None, "{on} {header:?}");
        }
    }

    #[test]
    fn a_connection_without_requests_goes_by_its_source() {
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for on in ["source", "header:X-User", "cookie:id", "path"] {
            let on = HashOn::parse(on).unwrap();
            assert_eq!(on.of(one, None), Some(of_ip(one)));
            assert_ne!(on.of(one, None), on.of(other, None));
        }
    }
}

//! Where a client is sent instead: the `Location` of a redirect.

use std::fmt::Write as _;

use crate::proxy::config::RedirectConfig;
use crate::proxy::route::{canonical, escape, sendable};

/// What a client asked for, as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `http` or `https`: what the first client used.
    pub scheme: &'a str,
    /// `Host`, with or without a port; `""` if there is none.
    pub host: &'a str,
    /// The path, after the route's edits of it.
    pub path: &'a str,
    /// The query without its `?`.
    pub query: &'a str,
}

/// A redirect, ready to be answered with.
#[derive(Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    to: To,
}

#[derive(Debug, PartialEq, Eq)]
enum To {
    Whole(Box<[Piece]>),
    Parts {
        scheme: Option<&'static str>,
        host: Option<Box<str>>,
        port: Option<u16>,
        /// As it is sent.
        path: Option<Box<str>>,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Path,
    Query,
}

impl Redirect {
    /// Compiles what is written.
    ///
    /// # Errors
    /// What can't be, and what to write.
    pub fn compile(config: &RedirectConfig) -> Result<Self, String> {
        let RedirectConfig { status, scheme, host, port, path, to } = config;
        let parts = scheme.is_some() || host.is_some() || port.is_some() || path.is_some();
        let (to, default) = match to {
            Some(_) if parts => {
                return Err("`to` is a whole address; leave out the other parts".into());
            }
            Some(to) => (To::Whole(pieces(to).map_err(|why| format!("to = {to:?}: {why}"))?), 302),
            None if !parts => {
                return Err("leads back to where it came from; give it `scheme`, `host`, `port`, \
                            `path` or `to`"
                    .into());
            }
            None => {
                let scheme = match scheme.as_deref() {
                    None => None,
                    Some("http") => Some("http"),
                    Some("https") => Some("https"),
                    Some(other) => return Err(format!("scheme = {other:?} is not http or https")),
                };
                if let Some(host) = host.as_deref().filter(|host| !valid_host(host)) {
                    return Err(format!(
                        "host = {host:?} is no host name; scheme, port and path have keys of their own"
                    ));
                }
                if *port == Some(0) {
                    return Err("port = 0 is not between 1 and 65535".into());
                }
                let path = path.as_deref().map(canonical).transpose();
                let path = path.map_err(|why| format!("path = {why}"))?;
                let path = path.map(|path| sendable(&path).into());
                (
                    To::Parts { scheme, host: host.as_deref().map(Into::into), port: *port, path },
                    308,
                )
            }
        };
        let status = status.unwrap_or(default);
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err(format!("status = {status} is not 301, 302, 303, 307 or 308"));
        }
        Ok(Self { status, to })
    }

    /// The address to send a client to. Whatever was asked for, it is one line of ASCII without
    /// spaces, and leads to no other host than the configured one or the one asked for.
    #[must_use]
    pub fn location(&self, asked: Asked<'_>) -> String {
        match &self.to {
            To::Whole(pieces) => whole(pieces, asked),
            To::Parts { scheme, host, port, path } => {
                let path = path.as_deref().unwrap_or(asked.path);
                let mut location = String::with_capacity(64 + path.len() + asked.query.len());
                let known = host.as_deref().unwrap_or_else(|| name_of(asked.host));
                let elsewhere = scheme.is_some() || host.is_some() || port.is_some();
                if elsewhere && !known.is_empty() {
                    let scheme = scheme.unwrap_or(asked.scheme);
                    // Writing to a string never fails.
                    let _ = write!(location, "{scheme}://{known}");
                    let own = if scheme == "https" { 443 } else { 80 };
                    if let Some(port) = port.filter(|port| *port != own) {
                        let _ = write!(location, ":{port}");
                    }
                }
                location.push_str(&rooted(path));
                if !asked.query.is_empty() {
                    location.push('?');
                    location.push_str(&safe(asked.query));
                }
                location
            }
        }
    }
}

fn whole(pieces: &[Piece], asked: Asked<'_>) -> String {
    let mut location = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => location.push_str(text),
            // A path of its own in the front of it would be `//`.
            Piece::Path if location.ends_with('/') => {
                location.push_str(rooted(asked.path).trim_start_matches('/'));
            }
            Piece::Path => location.push_str(&rooted(asked.path)),
            Piece::Query => location.push_str(&safe(asked.query)),
        }
    }
    if asked.query.is_empty() {
        // What was to introduce the query introduces nothing.
        let end = location.trim_end_matches(['?', '&']).len();
        location.truncate(end);
    }
    location
}

/// A path with exactly one slash at its front: two would make a host of what follows.
fn rooted(path: &str) -> String {
    format!("/{}", safe(path.trim_start_matches('/')))
}

/// Escapes what may not stand in an address, in what has passed as the target of a request.
fn safe(text: &str) -> String {
    escape(text, |byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&byte))
}

/// The host of a `Host` header, without its port.
fn name_of(host: &str) -> &str {
    match host.find(']') {
        Some(end) => &host[..=end],
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn valid_host(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = inner {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Cuts `to` at its placeholders: `$path`, `$query`, or both in braces; `$$` is a dollar.
fn pieces(to: &str) -> Result<Box<[Piece]>, String> {
    if let Some(odd) =
        to.chars().find(|c| !c.is_ascii_graphic() || b"<>\"\\^`|".contains(&(*c as u8)))
    {
        return Err(format!("{odd:?} cannot stand in an address; escape it, as %20 for a space"));
    }
    let authority = to.strip_prefix("http://").or_else(|| to.strip_prefix("https://"));
    let fixed = match authority {
        Some(rest) => rest.split(['/', '?', '#', '$']).next().unwrap_or_default(),
        None if to.starts_with('/') && !to.starts_with("//") => "",
        None => return Err("must begin with http://, https:// or one '/'".into()),
    };
    if let Some(rest) = authority {
        let behind = &rest[fixed.len()..];
        let named = name_of(fixed);
        let port = &fixed[named.len()..];
        let port_ok = port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        if !valid_host(named) || !port_ok {
            return Err(format!("{fixed:?} is no host name with an optional port"));
        }
        let path_first = behind.starts_with("$path") || behind.starts_with("${path}");
        if behind.starts_with('$') && !path_first {
            return Err("the host must be fixed; a '/' or $path ends it".into());
        }
    }
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = to;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let known = [
            ("{path}", Some(Piece::Path)),
            ("{query}", Some(Piece::Query)),
            ("path", Some(Piece::Path)),
            ("query", Some(Piece::Query)),
            ("$", None),
        ];
        let found = known.into_iter().find(|(name, _)| behind.starts_with(name));
        let Some((name, piece)) = found else {
            return Err("only $path and $query can be filled in; write $$ for a dollar".into());
        };
        rest = &behind[name.len()..];
        match piece {
            None => text.push('$'),
            Some(piece) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                pieces.push(piece);
            }
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compile(text: &str) -> Result<Redirect, String> {
        Redirect::compile(&toml::from_str(text).unwrap())
    }

    #[test]
    fn a_client_is_sent_where_the_parts_say_and_what_is_not_said_stays() {
        let asked = Asked { scheme: "http", host: "a.example:8080", path: "/x/%7E", query: "q=1" };
        let bare = Asked { scheme: "https", host: "", path: "//evil.example/", query: "" };
        let six = Asked { scheme: "http", host: "[::1]:80", path: "*", query: "" };
        for (case, text, asked, status, want) in [
            ("scheme", "scheme = \"https\"", asked, 308, "https://a.example/x/%7E?q=1"),
            ("host", "host = \"b.example\"", asked, 308, "http://b.example/x/%7E?q=1"),
            ("port", "port = 8443", asked, 308, "http://a.example:8443/x/%7E?q=1"),
            (
                "all",
                "scheme = \"https\"\nhost = \"b\"\nport = 443\npath = \"/y z\"\nstatus = 301",
                asked,
                301,
                "https://b/y%20z?q=1",
            ),
            ("path only", "path = \"/y\"", asked, 308, "/y?q=1"),
            ("no host known", "scheme = \"http\"", bare, 308, "/evil.example/"),
            ("host of another scheme", "host = \"b\"", bare, 308, "https://b/evil.example/"),
            ("IPv6", "scheme = \"https\"", six, 308, "https://[::1]/*"),
            ("whole", "to = \"https://b:1/c?d\"", asked, 302, "https://b:1/c?d"),
            ("whole, path", "to = \"https://b$path?$query\"", asked, 302, "https://b/x/%7E?q=1"),
            (
                "whole, in braces",
                "to = \"https://b/c${path}?z&${query}\"",
                asked,
                302,
                "https://b/c/x/%7E?z&q=1",
            ),
            ("whole, slash twice", "to = \"https://b/$path\"", asked, 302, "https://b/x/%7E"),
            ("no query", "to = \"http://b$path?$query\"", bare, 302, "http://b/evil.example/"),
            ("no query, one of ours", "to = \"/c?z&$query\"", bare, 302, "/c?z"),
            ("no host of it", "to = \"/$path\"", bare, 302, "/evil.example/"),
            ("a star is no host", "to = \"http://b$path\"", six, 302, "http://b/*"),
            ("a dollar", "to = \"/$$path\"", asked, 302, "/$path"),
        ] {
            let redirect = compile(text).unwrap();
            assert_eq!((redirect.status, &*redirect.location(asked)), (status, want), "{case}");
        }
    }

    #[test]
    fn redirects_that_cannot_be_are_refused_with_value_and_remedy() {
        for (text, want) in [
            ("", "leads back to where it came from"),
            ("status = 301", "leads back"),
            ("to = \"/a\"\nhost = \"b\"", "leave out the other parts"),
            ("status = 304\npath = \"/\"", "304 is not 301"),
            ("scheme = \"ftp\"", "\"ftp\" is not http or https"),
            ("host = \"a/b\"", "no host name"),
            ("host = \"a:80\"", "no host name"),
            ("port = 0", "between 1 and 65535"),
            ("path = \"a\"", "must start with '/'"),
            ("to = \"a\"", "must begin with"),
            ("to = \"//a\"", "must begin with"),
            ("to = \"javascript:1\"", "must begin with"),
            ("to = \"http://a b\"", "escape it"),
            ("to = \"http://a\\r\\nX: 1\"", "escape it"),
            ("to = \"http://$path\"", "no host name"),
            ("to = \"http://a$query\"", "the host must be fixed"),
            ("to = \"http://u@a/\"", "no host name"),
            ("to = \"http://a:x/\"", "no host name"),
            ("to = \"/$host\"", "only $path and $query"),
        ] {
            let told = compile(text).unwrap_err();
            assert!(told.contains(want), "{text}: {told}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_was_asked_for_gets_out_of_its_line_or_to_another_host(
            path in "[ -~\r\n\t]{0,20}", query in "[ -~\r\n\t]{0,20}",
        ) {
            for text in ["scheme = \"https\"", "to = \"https://a$path?$query\"", "path = \"/b\""] {
                let asked = Asked { scheme: "http", host: "a", path: &path, query: &query };
                let location = compile(text).unwrap().location(asked);
                prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic()));
                let rest = location.strip_prefix("https://a").unwrap_or(&location);
                prop_assert!(rest.starts_with('/') && !rest.starts_with("//"), "{}", location);
            }
        }
    }
}

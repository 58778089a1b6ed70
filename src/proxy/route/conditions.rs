//! What a route asks for beside host and path: method, header, query, client.

use std::fmt;
use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;

use super::RequestView;
use crate::catalog::networks::Networks;
use crate::proxy::config::RouteConfig;

/// A name and the value that it must have; without one any will do.
type Wanted<N> = (N, Option<Box<str>>);

/// The conditions of one route; all of them must hold.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    methods: Box<[Box<str>]>,
    headers: Box<[Wanted<HeaderName>]>,
    query: Box<[Wanted<Box<str>>]>,
    /// In order, so that equal ones look equal.
    clients: Box<[IpNet]>,
    networks: Networks<()>,
}

/// The first condition that does not hold. Displays as a clause for people.
#[derive(Debug)]
pub(super) enum Failing<'a> {
    Method(&'a Conditions, &'a str),
    Header(&'a HeaderName, Option<&'a str>),
    Query(&'a str, Option<&'a str>),
    Client(IpAddr),
}

impl Conditions {
    /// Reads them; what can't be goes to `tell` with its key.
    pub(super) fn compile(
        config: &RouteConfig,
        tell: &mut dyn FnMut(&'static str, String),
    ) -> Self {
        let wanted = |value: &String| (value != "*").then(|| value.as_str().into());
        let mut methods: Vec<Box<str>> = Vec::new();
        for method in &config.methods {
            if http::Method::from_bytes(method.as_bytes()).is_err() {
                tell("methods", format!("{method:?} is no method; write it like \"GET\""));
            } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
                let capitals = method.to_ascii_uppercase();
                tell("methods", format!("methods are in capitals; write {capitals:?}"));
            }
            methods.push(method.as_str().into());
        }
        methods.sort();
        methods.dedup();
        let mut headers: Vec<Wanted<HeaderName>> = Vec::new();
        for (name, value) in &config.headers {
            let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
                tell("headers", format!("{name:?} is no name of a header"));
                continue;
            };
            if headers.iter().any(|(other, _)| *other == known) {
                tell("headers", format!("{name:?} is there twice; its case does not count"));
            }
            headers.push((known, wanted(value)));
        }
        headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        let query = config.query.iter().map(|(name, value)| (name.as_str().into(), wanted(value)));
        let mut clients: Vec<IpNet> = config.clients.iter().map(IpNet::trunc).collect();
        clients.sort();
        clients.dedup();
        let mut networks = Networks::default();
        for network in &clients {
            networks.insert(*network, ());
        }
        Self {
            methods: methods.into(),
            headers: headers.into(),
            query: query.collect(),
            clients: clients.into(),
            networks,
        }
    }

    /// How many there are: methods and clients count once each, every header and parameter too.
    pub(super) const fn count(&self) -> usize {
        !self.methods.is_empty() as usize
            + self.headers.len()
            + self.query.len()
            + !self.clients.is_empty() as usize
    }

    /// Whether they ask for the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.methods == other.methods
            && self.headers == other.headers
            && self.query == other.query
            && self.clients == other.clients
    }

    /// The first one that does not hold; `None` when all do. Allocates nothing.
    pub(super) fn failing<'a>(&'a self, view: &RequestView<'a>) -> Option<Failing<'a>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|method| **method == *view.method) {
            return Some(Failing::Method(self, view.method));
        }
        if !self.clients.is_empty() && self.networks.of(view.client).is_none() {
            return Some(Failing::Client(view.client));
        }
        for (name, value) in &self.headers {
            let mut lines = view.headers.get_all(name).iter();
            let holds = match value {
                Some(value) => lines.any(|line| line.as_bytes() == value.as_bytes()),
                None => lines.next().is_some(),
            };
            if !holds {
                return Some(Failing::Header(name, value.as_deref()));
            }
        }
        for (name, value) in &self.query {
            if !parameters(view.query).any(|(known, given)| {
                decoded(known).eq(name.bytes())
                    && value.as_ref().is_none_or(|value| decoded(given).eq(value.bytes()))
            }) {
                return Some(Failing::Query(name, value.as_deref()));
            }
        }
        None
    }
}

/// Names and values of a query as they were sent.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// The bytes that a part of a query stands for: `+` is a space, escapes are undone, and what is no
/// escape stands for itself.
fn decoded(part: &str) -> impl Iterator<Item = u8> {
    let mut rest = part.as_bytes();
    std::iter::from_fn(move || {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        Some(match (first, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = &behind[2..];
                digit(*high) << 4 | digit(*low)
            }
            (byte, _) => *byte,
        })
    })
}

const fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => (hex | 0x20) - b'a' + 10,
    }
}

impl fmt::Display for Failing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |f: &mut fmt::Formatter<'_>, value: Option<&str>| match value {
            Some(value) => write!(f, " with the value {value:?}"),
            None => Ok(()),
        };
        match self {
            Self::Method(wanted, method) => {
                write!(f, "the method {method} is none of {}", wanted.methods.join(", "))
            }
            Self::Header(name, wanted) => {
                write!(f, "there is no header {name}")?;
                value(f, *wanted)
            }
            Self::Query(name, wanted) => {
                write!(f, "the query has no parameter {name:?}")?;
                value(f, *wanted)
            }
            Self::Client(client) => write!(f, "the client {client} is in none of `clients`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn conditions(text: &str) -> (Conditions, Vec<String>) {
        let config: RouteConfig = toml::from_str(text).unwrap();
        let mut told = Vec::new();
        let compiled =
            Conditions::compile(&config, &mut |key, what| told.push(format!("{key}: {what}")));
        (compiled, told)
    }

    #[test]
    fn a_request_meets_conditions_or_the_first_that_fails_is_told() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        let view = RequestView {
            host: "a",
            path: "/",
            query: "q=a+b%2fc&empty&odd=%2&name%20x=1",
            method: "GET",
            headers: &headers,
            client: "::ffff:10.1.2.3".parse().unwrap(),
        };
        for (case, text, count, want) in [
            ("none", "", 0, None),
            ("method", "methods = [\"HEAD\", \"GET\"]", 1, None),
            (
                "another method",
                "methods = [\"PUT\", \"POST\"]",
                1,
                Some("the method GET is none of POST, PUT"),
            ),
            ("one of several lines", "headers = { X-A = \"2\" }", 1, None),
            ("any value", "headers = { X-A = \"*\" }", 1, None),
            (
                "another value",
                "headers = { x-A = \"3\" }",
                1,
                Some("there is no header x-a with the value \"3\""),
            ),
            ("no header", "headers = { X-B = \"*\" }", 1, Some("there is no header x-b")),
            ("escaped value", "query = { q = \"a b/c\" }", 1, None),
            ("escaped name", "query = { \"name x\" = \"1\" }", 1, None),
            ("no value", "query = { empty = \"\" }", 1, None),
            ("any of them", "query = { empty = \"*\" }", 1, None),
            ("no escape", "query = { odd = \"%2\" }", 1, None),
            (
                "two, one fails",
                "query = { q = \"*\", p = \"1\" }",
                2,
                Some("the query has no parameter \"p\" with the value \"1\""),
            ),
            ("client", "clients = [\"10.0.0.0/8\", \"fd00::/8\"]", 1, None),
            (
                "another client",
                "clients = [\"10.1.2.4/32\"]",
                1,
                Some("the client ::ffff:10.1.2.3 is in none of `clients`"),
            ),
        ] {
            let (conditions, told) = conditions(text);
            assert_eq!(told, [""; 0], "{case}");
            assert_eq!(conditions.count(), count, "{case}");
            let failing = conditions.failing(&view).map(|failing| failing.to_string());
            assert_eq!(failing.as_deref(), want, "{case}");
        }
    }

    #[test]
    fn conditions_that_cannot_be_are_told_with_their_key() {
        for (text, want) in [
            ("methods = [\"get\"]", "methods: methods are in capitals; write \"GET\""),
            ("methods = [\"A B\"]", "methods: \"A B\" is no method"),
            ("headers = { \"a b\" = \"1\" }", "headers: \"a b\" is no name of a header"),
            ("headers = { A = \"1\", a = \"2\" }", "headers: \"a\" is there twice"),
        ] {
            let (_, told) = conditions(text);
            assert!(told.len() == 1 && told[0].starts_with(want), "{told:?}");
        }
    }
}

//! What a route asks for beside host and path: method, header, query, client.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::RequestView;
use crate::catalog::networks::Networks;
use crate::proxy::config::RouteConfig;

/// One condition of a route.
#[derive(Debug)]
pub(super) enum Condition {
    /// One of these methods; a bit for each of the usual ones.
    Methods { usual: u16, all: Box<[Box<str>]> },
    /// One of these networks, in order, so that equal ones look equal.
    Clients { networks: Box<Networks<()>>, all: Box<[IpNet]> },
    /// A header line with this value, or with any.
    Header { name: HeaderName, value: Option<Box<str>> },
    /// A parameter with this value, or with any.
    Query { name: Arc<str>, value: Option<Box<str>> },
}

/// The conditions of one route; all of them must hold.
pub(super) type Conditions = Arc<[Condition]>;

/// What the routes of a listener have in common, kept once: a request that is matched waits for
/// less memory then.
#[derive(Debug, Default)]
pub(super) struct Common {
    names: HashSet<HeaderName>,
    parameters: HashSet<Arc<str>>,
    conditions: HashMap<Written, Conditions>,
}

/// Conditions as they are written.
type Written = (Vec<String>, BTreeMap<String, String>, BTreeMap<String, String>, Vec<IpNet>);

impl Common {
    /// The conditions of one route, `None` when there is none; what can't be goes to `tell` with its
    /// key.
    pub(super) fn conditions(
        &mut self,
        config: &RouteConfig,
        tell: &mut dyn FnMut(&'static str, String),
    ) -> Option<Conditions> {
        let RouteConfig { methods, headers, query, clients, .. } = config;
        let written = (methods.clone(), headers.clone(), query.clone(), clients.clone());
        if let Some(known) = self.conditions.get(&written) {
            return Some(Arc::clone(known));
        }
        let mut told = false;
        let mut note = |key, message| {
            told = true;
            tell(key, message);
        };
        let mut found = Vec::new();
        found.extend(methods_of(config, &mut note));
        found.extend(clients_of(config));
        self.headers_of(config, &mut found, &mut note);
        for (name, value) in query {
            let known = self.parameters.get(&**name).cloned();
            let name = known.unwrap_or_else(|| name.as_str().into());
            self.parameters.insert(Arc::clone(&name));
            found.push(Condition::Query { name, value: wanted(value) });
        }
        let found = (!found.is_empty()).then(|| Conditions::from(found))?;
        // What is wrong with one route is wrong with each that says the same.
        if !told {
            self.conditions.insert(written, Arc::clone(&found));
        }
        Some(found)
    }

    fn headers_of(
        &mut self,
        config: &RouteConfig,
        found: &mut Vec<Condition>,
        tell: &mut dyn FnMut(&'static str, String),
    ) {
        let mut headers: Vec<(HeaderName, Option<Box<str>>)> = Vec::new();
        for (text, value) in &config.headers {
            let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
                tell("headers", format!("{text:?} is no name of a header"));
                continue;
            };
            if headers.iter().any(|(other, _)| *other == name) {
                tell("headers", format!("{text:?} is there twice; its case does not count"));
            }
            let name = self.names.get(&name).cloned().unwrap_or(name);
            self.names.insert(name.clone());
            headers.push((name, wanted(value)));
        }
        headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        found.extend(headers.into_iter().map(|(name, value)| Condition::Header { name, value }));
    }
}

/// The value that must be there; none: any.
fn wanted(value: &str) -> Option<Box<str>> {
    (value != "*").then(|| value.into())
}

fn methods_of(
    config: &RouteConfig,
    tell: &mut dyn FnMut(&'static str, String),
) -> Option<Condition> {
    let mut all: Vec<Box<str>> = Vec::new();
    for method in &config.methods {
        if http::Method::from_bytes(method.as_bytes()).is_err() {
            tell("methods", format!("{method:?} is no method; write it like \"GET\""));
        } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let capitals = method.to_ascii_uppercase();
            tell("methods", format!("methods are in capitals; write {capitals:?}"));
        }
        all.push(method.as_str().into());
    }
    all.sort();
    all.dedup();
    let usual = all.iter().fold(0, |bits, method| bits | bit(method));
    (!all.is_empty()).then(|| Condition::Methods { usual, all: all.into() })
}

fn clients_of(config: &RouteConfig) -> Option<Condition> {
    let mut all: Vec<IpNet> = config.clients.iter().map(IpNet::trunc).collect();
    all.sort();
    all.dedup();
    let mut networks = Box::<Networks<()>>::default();
    for network in &all {
        networks.insert(*network, ());
    }
    (!all.is_empty()).then(|| Condition::Clients { networks, all: all.into() })
}

/// The first of `conditions` that does not hold; `None` when all do. Allocates nothing.
pub(super) fn failing<'a>(
    conditions: &'a [Condition],
    view: &RequestView<'a>,
) -> Option<Failing<'a>> {
    conditions.iter().find_map(|condition| condition.failing(view))
}

impl Condition {
    fn failing<'a>(&'a self, view: &RequestView<'a>) -> Option<Failing<'a>> {
        let (holds, failing) = match self {
            Self::Methods { usual, all } => {
                let asked = bit(view.method);
                let named = || all.iter().any(|method| **method == *view.method);
                let holds = if asked == 0 { named() } else { usual & asked > 0 };
                (holds, Failing::Method(all, view.method))
            }
            Self::Clients { networks, .. } => {
                (networks.of(view.client).is_some(), Failing::Client(view.client))
            }
            Self::Header { name, value } => {
                let mut lines = view.headers.get_all(name).iter();
                let holds = match value {
                    Some(value) => lines.any(|line| line.as_bytes() == value.as_bytes()),
                    None => lines.next().is_some(),
                };
                (holds, Failing::Header(name, value.as_deref()))
            }
            Self::Query { name, value } => {
                let holds = parameters(view.query).any(|(known, given)| {
                    decoded(known).eq(name.bytes())
                        && value.as_ref().is_none_or(|value| decoded(given).eq(value.bytes()))
                });
                (holds, Failing::Query(name, value.as_deref()))
            }
        };
        (!holds).then_some(failing)
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Methods { all, .. }, Self::Methods { all: others, .. }) => all == others,
            (Self::Clients { all, .. }, Self::Clients { all: others, .. }) => all == others,
            (
                Self::Header { name, value },
                Self::Header { name: other_name, value: other_value },
            ) => name == other_name && value == other_value,
            (Self::Query { name, value }, Self::Query { name: other_name, value: other_value }) => {
                name == other_name && value == other_value
            }
            _ => false,
        }
    }
}

/// The first condition that does not hold. Displays as a clause for people.
#[derive(Debug)]
pub(super) enum Failing<'a> {
    Method(&'a [Box<str>], &'a str),
    Header(&'a HeaderName, Option<&'a str>),
    Query(&'a str, Option<&'a str>),
    Client(IpAddr),
}

/// Names and values of a query as they were sent.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// The bit of a usual method, 0 for any other.
fn bit(method: &str) -> u16 {
    const USUAL: [&str; 8] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
    USUAL.iter().position(|usual| *usual == method).map_or(0, |index| 1 << index)
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
                write!(f, "the method {method} is none of {}", wanted.join(", "))
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
        let compiled = Common::default()
            .conditions(&config, &mut |key, what| told.push(format!("{key}: {what}")));
        (compiled.unwrap_or_else(|| Arc::new([])), told)
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
                "a rare method",
                "methods = [\"PROPFIND\"]",
                1,
                Some("the method GET is none of PROPFIND"),
            ),
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
            assert_eq!(conditions.len(), count, "{case}");
            let failed = failing(&conditions, &view).map(|failing| failing.to_string());
            assert_eq!(failed.as_deref(), want, "{case}");
        }
    }

    #[test]
    fn rare_methods_are_compared_too() {
        let (conditions, _) = conditions("methods = [\"PROPFIND\", \"GET\"]");
        let headers = HeaderMap::new();
        for (method, holds) in [("PROPFIND", true), ("GET", true), ("LOCK", false), ("PUT", false)]
        {
            let client = IpAddr::from([10, 0, 0, 1]);
            let (host, path, query) = ("", "/", "");
            let view = RequestView { host, path, query, method, headers: &headers, client };
            assert_eq!(failing(&conditions, &view).is_none(), holds, "{method}");
        }
    }

    #[test]
    fn what_is_written_alike_is_kept_once_and_what_is_wrong_is_told_each_time() {
        let mut common = Common::default();
        let mut told = 0;
        let mut of =
            |text: &str| common.conditions(&toml::from_str(text).unwrap(), &mut |_, _| told += 1);
        let [first, second] = [0, 0].map(|_| of("headers = { x-a = \"1\" }").unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(of("").is_none());
        assert!(of("methods = [\"get\"]").is_some() && of("methods = [\"get\"]").is_some());
        assert_eq!(told, 2);
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

//! Which route a request takes: the most specific host, then the most specific path.
//!
//! Matching looks at a normalised view of the request and never at the bytes that go on. Each
//! step is one hash look-up, per host candidate and per path segment, so that ten thousand routes
//! cost what ten do.

pub mod explain;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::config::{RespondConfig, RouteConfig};
use super::route_metrics::RouteHandle;
use crate::catalog::model::parse_name;

/// What routes see of a request: a normalised view, never the bytes that go on.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// `Host` as it was sent, with or without a port; `""` if there is none.
    pub host: &'a str,
    /// The path as [`normalise`] gives it.
    pub path: &'a str,
    /// The query as it was sent, without its `?`; `""` if there is none.
    pub query: &'a str,
    /// The method as it was sent.
    pub method: &'a str,
    /// Header lines.
    pub headers: &'a http::HeaderMap,
    /// Address of the client: the peer, or whom trusted proxies tell.
    pub client: IpAddr,
}

/// One compiled route.
#[derive(Debug, PartialEq)]
pub struct Route {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it leads.
    pub target: Target,
    /// Taken off the front of the path before it goes on.
    pub strip_prefix: Option<Box<str>>,
    /// As it was configured.
    pub config: RouteConfig,
    /// What is counted of it.
    pub counters: RouteHandle,
}

/// Where a route or a TCP listener leads.
#[derive(Debug, PartialEq)]
pub enum Target {
    /// To the endpoints of a service.
    Service(ServiceRef),
    /// To an answer of our own.
    Respond(RespondConfig),
}

/// A service and one of its ports, as users write it: `web` or `web:metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRef {
    /// As it is written; the key of the upstream.
    pub key: Arc<str>,
    /// The service.
    pub service: Arc<str>,
    /// The port's name, `""` for the unnamed one.
    pub port: Arc<str>,
}

impl ServiceRef {
    /// Reads `service` or `service:port-name`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (service, port) = text.split_once(':').unwrap_or((text, ""));
        Self { key: text.into(), service: service.into(), port: port.into() }
    }
}

/// The routes of one listener.
#[derive(Debug, Default, PartialEq)]
pub struct RouteTable {
    exact: HashMap<Box<str>, Paths>,
    /// By the suffix behind the `*`, dot included.
    below: HashMap<Box<str>, Paths>,
    any: Paths,
}

#[derive(Debug, Default, PartialEq)]
struct Paths {
    exact: HashMap<Box<str>, Arc<Route>>,
    /// By the prefix without a slash at its end; `""` takes every path.
    prefix: HashMap<Box<str>, Arc<Route>>,
}

impl RouteTable {
    /// Compiles routes given by name.
    ///
    /// # Errors
    /// One line per route that can't be: the route's name, the key, what is wrong.
    pub fn compile<'a>(
        routes: impl IntoIterator<Item = (&'a str, &'a RouteConfig)>,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut table = Self::default();
        let mut problems = Vec::new();
        for (name, config) in routes {
            if let Err(problem) = table.add(name, config) {
                problems.push((name.to_owned(), problem));
            }
        }
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    fn add(&mut self, name: &str, config: &RouteConfig) -> Result<(), String> {
        let target = match (&config.service, &config.respond) {
            (Some(service), None) => {
                parse_name("service", service)?;
                Target::Service(ServiceRef::parse(service))
            }
            (None, Some(respond)) if !(200..=599).contains(&respond.status) => {
                return Err(format!(
                    "respond.status = {} is not between 200 and 599",
                    respond.status
                ));
            }
            (None, Some(respond)) => Target::Respond(respond.clone()),
            _ => return Err("needs either `service` or `respond`, exactly one".into()),
        };
        let rooted = |key: &str, path: &Option<String>| match path {
            Some(path) if !path.starts_with('/') => {
                Err(format!("{key} = {path:?} must start with '/'"))
            }
            _ => Ok(()),
        };
        rooted("path", &config.path)?;
        rooted("path_exact", &config.path_exact)?;
        rooted("strip_prefix", &config.strip_prefix)?;
        let strip = config.strip_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/'));
        let route = Arc::new(Route {
            name: name.into(),
            target,
            strip_prefix: strip.filter(|prefix| !prefix.is_empty()).map(Into::into),
            config: config.clone(),
            counters: RouteHandle::default(),
        });

        let paths = match config.host.as_deref() {
            None | Some("*") => &mut self.any,
            Some(host) => {
                let host = host.to_ascii_lowercase();
                if host.contains(['/', ':']) || host.is_empty() {
                    return Err(format!(
                        "host = {host:?} is no host name; leave out scheme and port"
                    ));
                }
                match host.strip_prefix('*') {
                    Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') => {
                        self.below.entry(suffix.into()).or_default()
                    }
                    None if !host.contains('*') => self.exact.entry(host.into()).or_default(),
                    _ => {
                        return Err(format!(
                            "host = {host:?}: a '*' stands for whole labels at the front only, \
                             as in \"*.shop.example\""
                        ));
                    }
                }
            }
        };
        let known = match (&config.path, &config.path_exact) {
            (Some(_), Some(_)) => return Err("has both `path` and `path_exact`; keep one".into()),
            (None, Some(path)) => paths.exact.insert(path.as_str().into(), route),
            (path, None) => {
                let prefix = path.as_deref().unwrap_or("/").trim_end_matches('/');
                paths.prefix.insert(prefix.into(), route)
            }
        };
        match known {
            Some(known) => Err(format!("matches the same requests as [route.{}]", known.name)),
            None => Ok(()),
        }
    }

    /// The route for a request to `host` (as sent, with or without a port, `""` if none) and to
    /// `path` (normalised, without the query). Allocates only for a host in upper case.
    #[must_use]
    pub fn route(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let host = host_name(host);
        if !host.is_empty() {
            if let Some(route) = self.exact.get(&*host).and_then(|paths| paths.find(path)) {
                return Some(route);
            }
            if !self.below.is_empty() {
                // The longest suffix first: every dot from the left.
                for (dot, _) in host.match_indices('.') {
                    let found = self.below.get(&host[dot..]).and_then(|paths| paths.find(path));
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        self.any.find(path)
    }

    /// Every route, in no order that means anything.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let paths = self.exact.values().chain(self.below.values()).chain([&self.any]);
        paths.flat_map(|paths| paths.exact.values().chain(paths.prefix.values()))
    }
}

impl Paths {
    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        if self.prefix.is_empty() {
            return None;
        }
        let mut prefix = path;
        loop {
            if let Some(route) = self.prefix.get(prefix) {
                return Some(route);
            }
            if prefix.is_empty() {
                return None;
            }
            // `OPTIONS *` asks about all of a host: a route for every path takes it.
            prefix = &prefix[..prefix.rfind('/').unwrap_or(0)];
        }
    }
}

/// The name in a `Host` header: without port and final dot, in lower case.
fn host_name(host: &str) -> Cow<'_, str> {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The path that routes are matched with: escapes of unreserved characters undone (RFC 3986
/// §6.2.2.2), `.` and `..` resolved (§5.2.4), the query cut off. `None` when the path climbs above
/// its root, hides a slash or a backslash that servers read differently, or is badly escaped: then
/// nobody can tell what the endpoint would serve. Borrows when there is nothing to do.
#[must_use]
pub fn normalise(target: &str) -> Option<Cow<'_, str>> {
    let path = &target[..target.find(['?', '#']).unwrap_or(target.len())];
    let bytes = path.as_bytes();
    if bytes.contains(&b'\\') {
        return None;
    }
    let dotted = path.contains("/.");
    if !bytes.contains(&b'%') && !dotted {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    if !decoded.contains("/.") {
        return Some(Cow::Owned(decoded));
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut open_ended = false;
    for segment in decoded.split('/').skip(1) {
        open_ended = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop()?;
            }
            segment => segments.push(segment),
        }
    }
    let mut resolved = String::with_capacity(decoded.len());
    for segment in &segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if open_ended || resolved.is_empty() {
        resolved.push('/');
    }
    Some(Cow::Owned(resolved))
}

/// Undoes the escapes of unreserved characters; others stay as they are, in upper case.
fn decode(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3)?;
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(hex, 16).ok()?;
        match byte {
            b'/' | b'\\' | 0 => return None,
            b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                decoded.push_str(&hex.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::config::RespondWhen;

    fn config(host: &str, path: &str, service: &str) -> RouteConfig {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        RouteConfig {
            listener: "web".into(),
            host: some(host),
            path: some(path),
            service: some(service),
            ..RouteConfig::default()
        }
    }

    #[test]
    fn the_most_specific_host_wins_and_then_the_longest_path() {
        let mut exact = config("shop.example", "", "exact");
        exact.path_exact = Some("/api/exact".into());
        let routes = [
            ("any", config("", "", "any")),
            ("below", config("*.example", "/", "below")),
            ("deeper", config("*.eu.example", "/", "deeper")),
            ("shop", config("shop.example", "/shop", "shop")),
            ("api", config("shop.example", "/api", "api")),
            ("api2", config("Shop.Example", "/api/v2/", "api2")),
            ("exact", exact),
        ];
        let table = RouteTable::compile(routes.iter().map(|(n, c)| (*n, c))).unwrap();
        for (case, host, path, want) in [
            ("prefix", "shop.example", "/api", "api"),
            ("prefix below", "shop.example", "/api/users", "api"),
            ("longer prefix", "shop.example", "/api/v2/users", "api2"),
            ("exact before prefix", "shop.example", "/api/exact", "exact"),
            ("by segment only", "shop.example", "/apis", "below"),
            ("letter case and port", "SHOP.example:8080", "/shop/", "shop"),
            ("final dot", "shop.example.", "/shop", "shop"),
            ("wildcard", "a.example", "/x", "below"),
            ("longest wildcard", "a.eu.example", "/x", "deeper"),
            ("a wildcard is not its own apex", "example", "/x", "any"),
            ("no host", "", "/x", "any"),
            ("v6", "[::1]:80", "/x", "any"),
            ("all of a host", "a.example", "*", "below"),
        ] {
            let route = table.route(host, path).unwrap();
            assert_eq!(&*route.name, want, "{case}: {host} {path}");
        }
    }

    #[test]
    fn routes_that_cannot_be_are_refused_with_the_reason() {
        let mut both = config("", "/a", "web");
        both.path_exact = Some("/b".into());
        let mut none = config("", "/c", "");
        none.service = None;
        let mut odd = config("", "/d", "");
        odd.respond =
            Some(RespondConfig { status: 99, body: String::new(), when: RespondWhen::Always });
        for (case, first, second, want) in [
            ("no slash", config("", "api", "web"), None, "must start with '/'"),
            ("star inside", config("a.*.b", "/", "web"), None, "at the front only"),
            ("scheme", config("http://a", "/", "web"), None, "leave out scheme and port"),
            ("two kinds of path", both, None, "keep one"),
            ("nowhere to go", none, None, "exactly one"),
            ("no status", odd, None, "respond.status = 99 is not between 200 and 599"),
            (
                "twice",
                config("", "/x", "web"),
                Some(config("", "/x/", "web")),
                "the same requests as [route.first]",
            ),
        ] {
            let routes = [("first", Some(first)), ("second", second)];
            let routes = routes.iter().filter_map(|(n, c)| Some((*n, c.as_ref()?)));
            let problems = RouteTable::compile(routes).unwrap_err();
            assert!(problems[0].1.contains(want), "{case}: {problems:?}");
        }
    }

    #[test]
    fn paths_are_normalised_or_refused_when_servers_would_disagree() {
        for (case, path, want) in [
            ("plain", "/a/b", Some("/a/b")),
            ("query", "/a?x=/../", Some("/a")),
            ("dots", "/a/./b/../c", Some("/a/c")),
            ("dots at the end", "/a/b/..", Some("/a/")),
            ("escaped dots", "/a/%2e%2E/admin", Some("/admin")),
            ("hidden file", "/.well-known/x", Some("/.well-known/x")),
            ("escaped letter", "/%61dmin", Some("/admin")),
            ("other escapes stay", "/a%20b", Some("/a%20b")),
            ("above the root", "/../etc", None),
            ("escaped slash", "/a%2fb", None),
            ("backslash", "/a\\..\\b", None),
            ("escaped nul", "/a%00", None),
            ("cut escape", "/a%2", None),
            ("bad escape", "/a%zz", None),
        ] {
            assert_eq!(normalise(path).as_deref(), want, "{case}: {path}");
        }
    }
}

//! Addresses in answers that lead back here, with a prefix that clients know and endpoints don't.

use std::borrow::Cow;

use crate::proxy::config::RouteConfig;
use crate::proxy::route::{canonical, sendable};

/// What is put before the paths of `Location` and `Content-Location`.
#[derive(Debug, PartialEq, Eq)]
pub struct LocationPrefix(Box<str>);

/// The lines that hold such an address (RFC 9110 §10.2.2 and §8.7).
pub const NAMES: [&str; 2] = ["location", "content-location"];

impl LocationPrefix {
    /// Compiles what a route says; what can't be goes to `tell` with its key.
    pub fn compile(
        config: &RouteConfig,
        tell: &mut dyn FnMut(&'static str, String),
    ) -> Option<Self> {
        let path = config.location_prefix.as_deref()?;
        match canonical(path) {
            Ok(path) => {
                let path = path.trim_end_matches('/');
                (!path.is_empty()).then(|| Self(sendable(path).into()))
            }
            Err(why) => {
                tell("location_prefix", why);
                None
            }
        }
    }

    /// The address to tell instead of `told`, for a client that asked for `host`, with or without a
    /// port. `None`: it leads elsewhere, or has the prefix already, or is no path from the root.
    #[must_use]
    pub fn apply(&self, told: &str, host: &str) -> Option<String> {
        let path = match own(told, host) {
            Some(path) => path,
            None if told.starts_with('/') && !told.starts_with("//") => Cow::Borrowed(told),
            None => return None,
        };
        let there = path
            .strip_prefix(&*self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        // Two slashes at the front would make a host of what follows: there is a prefix before them.
        (!there).then(|| format!("{}{path}", self.0))
    }
}

/// The path, and what follows it, of an address at `host`, whatever its scheme and port.
fn own<'a>(told: &'a str, host: &str) -> Option<Cow<'a, str>> {
    let scheme = told.find("://").map(|at| &told[..at])?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let rest = &told[scheme.len() + 3..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let same = !host.is_empty() && name(authority).eq_ignore_ascii_case(name(host));
    same.then(|| if path.starts_with('/') { path.into() } else { format!("/{path}").into() })
}

/// A host without its port.
fn name(host: &str) -> &str {
    match host.find(']') {
        Some(end) => &host[..=end],
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_back_get_the_prefix_once() {
        let config =
            RouteConfig { location_prefix: Some("/my/content/".into()), ..RouteConfig::default() };
        let prefix = LocationPrefix::compile(&config, &mut |_, what| panic!("{what}")).unwrap();
        for (case, told, want) in [
            ("a path", "/login?to=/", Some("/my/content/login?to=/")),
            ("the root", "/", Some("/my/content/")),
            ("the host", "http://shop.example/a", Some("/my/content/a")),
            (
                "the host in capitals, by its port",
                "HTTPS://SHOP.example:8443/a",
                Some("/my/content/a"),
            ),
            ("the host alone", "http://shop.example", Some("/my/content/")),
            ("the host and a query", "http://shop.example?a", Some("/my/content/?a")),
            ("the prefix", "/my/content/a", None),
            ("the prefix alone", "http://shop.example/my/content", None),
            ("what begins like it", "/my/contents", Some("/my/content/my/contents")),
            ("elsewhere", "http://other.example/a", None),
            ("elsewhere, without a scheme", "//other.example/a", None),
            ("one that looks like the host", "http://shop.example.evil/a", None),
            ("somebody at another host", "http://shop.example@evil.example/a", None),
            ("from where one stands", "login", None),
            ("another scheme", "ftp://shop.example/a", None),
            ("nothing", "", None),
        ] {
            assert_eq!(prefix.apply(told, "shop.example:80").as_deref(), want, "{case}: {told}");
        }
        assert_eq!(prefix.apply("http:///a", ""), None, "nobody was asked for");
    }

    #[test]
    fn a_prefix_is_a_path() {
        let mut told = Vec::new();
        let config = RouteConfig { location_prefix: Some("my".into()), ..RouteConfig::default() };
        assert_eq!(LocationPrefix::compile(&config, &mut |key, what| told.push((key, what))), None);
        assert!(told.len() == 1 && told[0].0 == "location_prefix", "{told:?}");
        let config = RouteConfig { location_prefix: Some("/".into()), ..RouteConfig::default() };
        assert_eq!(LocationPrefix::compile(&config, &mut |_, _| panic!()), None, "nothing to add");
    }
}

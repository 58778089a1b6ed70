//! `sticky = { … }` of routes and of TCP and UDP listeners, and the `[sticky]` table.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::units::Period;

/// How a client comes back to the endpoint that it had: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StickyConfig {
    /// Name of a signed cookie, which names no address. HTTP only.
    pub cookie: Option<String>,
    /// By the client's address, for so long after it was last seen.
    pub source: Option<Period>,
}

/// What a [`StickyConfig`] that has no problem says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StickyRule<'a> {
    /// By the cookie of this name.
    Cookie(&'a str),
    /// By the client's address, for so long after it was last seen.
    Source(Duration),
}

impl StickyConfig {
    /// How a client is known again; `None` when nothing is said, or too much.
    #[must_use]
    pub fn rule(&self) -> Option<StickyRule<'_>> {
        match (&self.cookie, self.source) {
            (Some(name), None) => Some(StickyRule::Cookie(name)),
            (None, Some(time)) => Some(StickyRule::Source(time.0)),
            _ => None,
        }
    }

    /// What is wrong with it, and what to write instead; `http` says whether clients have cookies.
    #[must_use]
    pub fn problem(&self, http: bool) -> Option<String> {
        // A token of RFC 9110 §5.6.2, as RFC 6265 §4.1.1 wants it.
        let in_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        match (&self.cookie, self.source) {
            (Some(_), _) if !http => Some(
                "`cookie` needs HTTP: a TCP or UDP listener sees no cookies; write \
                 sticky = { source = \"1h\" }"
                    .into(),
            ),
            (Some(_), Some(_)) => Some("has both `cookie` and `source`; keep one".into()),
            (None, None) => Some(if http {
                "needs one of `cookie` and `source`; write it like { cookie = \"portolan\" } or \
                 { source = \"10m\" }"
                    .into()
            } else {
                "needs `source`; write it like { source = \"1h\" }".into()
            }),
            (Some(name), None) if name.is_empty() || name.len() > 64 => {
                Some(format!("cookie = {name:?} is not between 1 and 64 characters long"))
            }
            (Some(name), None) if !name.bytes().all(in_name) => Some(format!(
                "cookie = {name:?} is no name of a cookie; use letters, digits, '-', '_' and '.'"
            )),
            (None, Some(time)) if time.0 < Duration::from_secs(1) => {
                Some(format!("source = \"{time}\" is too short to come back in; at least \"1s\""))
            }
            _ => None,
        }
    }
}

/// `[sticky]`: what all that is sticky shares.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StickyTable {
    /// File with the key of cookies, for several nodes that take each other's. Without it one is
    /// made in `data_dir`.
    pub key_file: Option<PathBuf>,
    /// Clients that are remembered by their address; one more, and the oldest goes.
    pub sources_max: u32,
}

/// Most that `sources_max` may be: 800 MB.
const SOURCES_MOST: u32 = 16_000_000;

impl StickyTable {
    /// The key that can't be, and why.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let message = format!(
            "sources_max = {} is not between 1 and {SOURCES_MOST}; each takes 48 bytes",
            self.sources_max
        );
        (!(1..=SOURCES_MOST).contains(&self.sources_max)).then_some(("sources_max", message))
    }
}

impl Default for StickyTable {
    fn default() -> Self {
        Self { key_file: None, sources_max: 100_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_key_and_only_what_can_be() {
        let sticky = |cookie: Option<&str>, source: Option<u64>| StickyConfig {
            cookie: cookie.map(Into::into),
            source: source.map(Period::from_millis),
        };
        for (case, config, http, want) in [
            ("a cookie", sticky(Some("portolan"), None), true, None),
            ("a time", sticky(None, Some(600_000)), true, None),
            ("a time, TCP", sticky(None, Some(3_600_000)), false, None),
            ("both", sticky(Some("a"), Some(1000)), true, Some("keep one")),
            ("none", sticky(None, None), true, Some("needs one of `cookie` and `source`")),
            ("none, TCP", sticky(None, None), false, Some("needs `source`")),
            ("a cookie, TCP", sticky(Some("a"), None), false, Some("sees no cookies")),
            ("no name", sticky(Some(""), None), true, Some("not between 1 and 64")),
            ("a space", sticky(Some("a b"), None), true, Some("no name of a cookie")),
            ("an end", sticky(Some("a;"), None), true, Some("no name of a cookie")),
            ("no time", sticky(None, Some(0)), true, Some("at least \"1s\"")),
        ] {
            let problem = config.problem(http);
            assert_eq!(problem.is_some(), want.is_some(), "{case}: {problem:?}");
            assert!(problem.unwrap_or_default().contains(want.unwrap_or_default()), "{case}");
        }
    }

    #[test]
    fn the_number_of_clients_has_bounds() {
        for (max, ok) in [(0, false), (1, true), (100_000, true), (16_000_001, false)] {
            let table = StickyTable { sources_max: max, ..StickyTable::default() };
            assert_eq!(table.problem().is_none(), ok, "{max}");
        }
    }
}

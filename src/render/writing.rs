//! What a configuration says of writing a file and telling its reader, apart from the commands.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, Method};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::functions::id_of;
use crate::net::http::Origin;
use crate::suggest;

/// How a file takes the place of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteMode {
    /// By `rename`; where something is mounted on the file, or its directory cannot be written,
    /// `in-place`.
    #[default]
    Auto,
    /// A new file takes the name of the old one: a reader sees the one or the other.
    Rename,
    /// The old file gets new content: its inode stays, as a bind mount needs it. A reader may see
    /// a part of it.
    InPlace,
}

/// What a file must parse as before it is checked and replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// One JSON value (RFC 8259).
    Json,
    /// One YAML document, or several.
    Yaml,
    /// TOML 1.
    Toml,
    /// Well-formed XML 1.0.
    Xml,
}

/// `[group.NAME]`: templates that change together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupConfig {
    /// Whether the old files come back when a reload fails.
    pub roll_back: bool,
}

/// Who a file belongs to: `user`, `user:group` or `:group`, by name or number, as chown takes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Owner {
    user: String,
    group: String,
}

impl Owner {
    /// The numbers of user and group, as far as they are stated. Reads `/etc/passwd` and
    /// `/etc/group` for names.
    ///
    /// # Errors
    /// The name is in neither.
    pub(super) fn ids(&self) -> Result<(Option<u32>, Option<u32>), String> {
        Ok((id_of(&self.user, "/etc/passwd")?, id_of(&self.group, "/etc/group")?))
    }
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let fits = |name: &str| !name.contains([':', ' ', '/', '\n']);
        if (user.is_empty() && group.is_empty()) || !fits(user) || !fits(group) {
            return Err(format!(
                "{text:?} names no owner; write it like \"user\", \"user:group\" or \"1000:1000\""
            ));
        }
        Ok(Self { user: user.to_owned(), group: group.to_owned() })
    }
}

impl TryFrom<String> for Owner {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `reload_signal`: a signal to the process whose number stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadSignal {
    /// The file with the number; a relative path begins at the configuration.
    pub pid_file: PathBuf,
    /// The signal.
    #[serde(default)]
    pub signal: SignalName,
}

/// A signal by its name, with or without `SIG` before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SignalName(pub Signal);

/// The signals that have a name here.
const SIGNALS: [(&str, Signal); 12] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("CONT", Signal::CONT),
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("QUIT", Signal::QUIT),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("URG", Signal::URG),
    ("WINCH", Signal::WINCH),
];

impl Default for SignalName {
    fn default() -> Self {
        Self(Signal::HUP)
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SIGNALS.iter().find(|(_, signal)| *signal == self.0);
        f.write_str(name.map_or("?", |(name, _)| name))
    }
}

impl FromStr for SignalName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let found = SIGNALS.iter().find(|(name, _)| *name == bare);
        found.map(|(_, signal)| Self(*signal)).ok_or_else(|| {
            let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
            format!("unknown signal `{text}`{}", suggest::remedy(bare, &names, "Known signals"))
        })
    }
}

impl TryFrom<String> for SignalName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `reload_http`: a request to the reader; any 2xx is a success. Exactly one of `post`, `put`, `get`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadHttp {
    /// URL of a POST.
    #[serde(default)]
    pub post: Option<Url>,
    /// URL of a PUT.
    #[serde(default)]
    pub put: Option<Url>,
    /// URL of a GET.
    #[serde(default)]
    pub get: Option<Url>,
    /// Headers of the request; their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body of the request.
    #[serde(default)]
    pub body: String,
}

/// Where a request goes: an origin, and the path and query there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Url {
    pub(super) origin: Origin,
    pub(super) path: String,
}

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let begin = text.find("://").map_or(0, |at| at + 3);
        let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |at| begin + at);
        let origin = Origin::parse(&text[..end])?;
        let path = match &text[end..] {
            path if path.contains(['#', ' ']) || path.chars().any(char::is_control) => {
                return Err("a fragment, space or control character has no place in this URL; \
                            escape it"
                    .to_owned());
            }
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        Ok(Self { origin, path })
    }
}

impl ReloadHttp {
    /// Method and URL.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub(super) fn target(&self) -> Result<(Method, &Url), String> {
        let stated =
            [(Method::POST, &self.post), (Method::PUT, &self.put), (Method::GET, &self.get)];
        let mut stated =
            stated.into_iter().filter_map(|(method, url)| Some((method, url.as_ref()?)));
        match (stated.next(), stated.next()) {
            (Some(only), None) => Ok(only),
            _ => Err("state exactly one of `post`, `put` and `get`".to_owned()),
        }
    }

    /// The headers as they are sent.
    ///
    /// # Errors
    /// One has no form that could be sent; it is named without its value.
    pub(super) fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let sent = |(name, value): (&String, &String)| {
            let header = HeaderName::try_from(name.as_str())
                .map_err(|_| format!("{name:?} is no name of a header"))?;
            let mut value = HeaderValue::try_from(value.as_str())
                .map_err(|_| format!("the value of the header {name:?} cannot be sent"))?;
            value.set_sensitive(true);
            Ok((header, value))
        };
        self.headers.iter().map(sent).collect()
    }

    /// What is wrong with it, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        self.target().err().or_else(|| self.headers().err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_written_as_chown_takes_it() {
        for (case, text, want) in [
            ("numbers", "1000:100", Ok((Some(1000), Some(100)))),
            ("a user alone", "7", Ok((Some(7), None))),
            ("a group alone", ":7", Ok((None, Some(7)))),
            ("names", "root:root", Ok((Some(0), Some(0)))),
            ("no name", "no-such-user", Err("use its number")),
        ] {
            let ids = text.parse::<Owner>().unwrap().ids();
            match (ids, want) {
                (Ok(ids), Ok(want)) => assert_eq!(ids, want, "{case}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{case}: {error}"),
                (ids, _) => panic!("{case}: {ids:?}"),
            }
        }
        for text in ["", ":", "a:b:c", "a b"] {
            assert!(text.parse::<Owner>().unwrap_err().contains("names no owner"), "{text:?}");
        }
    }

    #[test]
    fn signals_are_known_with_and_without_their_prefix() {
        assert_eq!("HUP".parse(), Ok(SignalName(Signal::HUP)));
        assert_eq!("SIGUSR1".parse(), Ok(SignalName(Signal::USR1)));
        assert_eq!("sigterm".parse(), Ok(SignalName(Signal::TERM)));
        let error = "HUPP".parse::<SignalName>().unwrap_err();
        assert!(error.starts_with("unknown signal `HUPP`; did you mean `HUP`? "), "{error}");
        assert_eq!(SignalName(Signal::USR2).to_string(), "USR2");
    }

    #[test]
    fn a_request_has_one_method_and_headers_that_can_be_sent() {
        let of = |text: &str| toml::from_str::<ReloadHttp>(text);
        let post = of("post = \"http://proxy:9901/reload?graceful=1\"").unwrap();
        let (method, url) = post.target().unwrap();
        assert_eq!(
            (method, url.origin.port(), &*url.path),
            (Method::POST, 9901, "/reload?graceful=1")
        );
        assert_eq!(of("get = \"http://a\"").unwrap().target().unwrap().1.path, "/");
        for (case, text, part) in [
            ("none", "", "exactly one"),
            ("two", "get = \"http://a/\"\nput = \"http://a/\"", "exactly one"),
            ("header", "get = \"http://a\"\nheaders = { \"a b\" = \"c\" }", "no name of a header"),
            ("value", "get = \"http://a\"\nheaders = { a = \"secret\\n\" }", "header \"a\" cannot"),
        ] {
            let problem = of(text).unwrap().problem().unwrap();
            assert!(problem.contains(part) && !problem.contains("secret"), "{case}: {problem}");
        }
        let error = of("post = \"http://user:secret@a/\"").unwrap_err().to_string();
        assert!(error.contains("is refused"), "{error}");
    }
}

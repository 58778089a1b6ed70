//! `[confd]`: an installation of confd as part of a configuration.

use std::path::PathBuf;

use serde::Deserialize;

use crate::suggest;
use crate::units::Period;

/// `[confd]`.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfdConfig {
    /// The directory with `conf.d/*.toml` and `templates/`. A relative path begins at the
    /// configuration.
    pub dir: PathBuf,
    /// Where keys come from, for resources without a `[backend]` of their own.
    #[serde(default)]
    pub backend: Backend,
    /// Agents of Consul, as `host:port` or as a URL; the first that answers is asked.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// How nodes without a scheme of their own are reached.
    #[serde(default)]
    pub scheme: Scheme,
    /// The registry of this configuration whose keys are used, in place of one made for `nodes`.
    #[serde(default)]
    pub registry: Option<String>,
    /// Files and directories of the backend `file`.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Which files of those directories count, by their name.
    #[serde(default)]
    pub filter: Option<String>,
    /// What stands before all keys.
    #[serde(default)]
    pub prefix: Option<String>,
    /// What a prefix in a resource does to this one.
    #[serde(default)]
    pub prefix_rule: PrefixRule,
    /// Whether neither checks nor reloads are run.
    #[serde(default)]
    pub sync_only: bool,
    /// Seconds between two looks in confd; here every change is followed at once.
    #[serde(default)]
    pub interval: Option<u64>,
    /// Quiet time after a change before files are rendered, where a resource states none.
    #[serde(default)]
    pub debounce: Option<Period>,
    /// Longest time for a check, where a resource states none.
    #[serde(default = "thirty_seconds")]
    pub check_timeout: Period,
    /// Longest time for a reload, where a resource states none.
    #[serde(default = "one_minute")]
    pub reload_timeout: Period,
    /// ACL token for Consul; better in `token_file`.
    #[serde(default)]
    pub token: Option<Token>,
    /// File with the ACL token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// User name for a proxy before Consul that asks for one.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(default)]
    pub password: Option<Token>,
    /// PEM file with the authorities to trust.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of our certificate.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

const fn thirty_seconds() -> Period {
    Period::from_secs(30)
}

const fn one_minute() -> Period {
    Period::from_secs(60)
}

impl ConfdConfig {
    /// The configuration that states `dir` and nothing else.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            backend: Backend::Catalog,
            nodes: Vec::new(),
            scheme: Scheme::Http,
            registry: None,
            files: Vec::new(),
            filter: None,
            prefix: None,
            prefix_rule: PrefixRule::Concatenate,
            sync_only: false,
            interval: None,
            debounce: None,
            check_timeout: thirty_seconds(),
            reload_timeout: one_minute(),
            token: None,
            token_file: None,
            username: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

/// A token or password that is shown to nobody.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(pub(super) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Where keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Backend {
    /// The services of this process, laid out as keys.
    #[default]
    Catalog,
    /// The variables of this process.
    Env,
    /// Files of values.
    File,
    /// The key-value store of Consul.
    Consul,
}

/// Those that can be had, as they are written.
const BACKENDS: [(&str, Backend); 4] = [
    ("catalog", Backend::Catalog),
    ("env", Backend::Env),
    ("file", Backend::File),
    ("consul", Backend::Consul),
];

/// Those of confd that are not there.
const LATER: [&str; 13] = [
    "etcd",
    "etcdv3",
    "zookeeper",
    "redis",
    "vault",
    "rancher",
    "dynamodb",
    "ssm",
    "acm",
    "secretsmanager",
    "imds",
    "postgres",
    "plugin",
];

impl Backend {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        BACKENDS.iter().find(|(_, backend)| *backend == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, backend)) = BACKENDS.iter().find(|(name, _)| *name == text) {
            return Ok(*backend);
        }
        let names: Vec<&str> = BACKENDS.iter().map(|(name, _)| *name).collect();
        if LATER.contains(&text) {
            return Err(format!(
                "the backend `{text}` is not there yet: its registry comes later; there are: {}",
                names.join(", ")
            ));
        }
        Err(format!("unknown backend `{text}`{}", suggest::remedy(text, &names, "Known values")))
    }
}

impl TryFrom<String> for Backend {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How a node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In plain text.
    #[default]
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What the prefix of a resource does to the one that stands before all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixRule {
    /// It comes behind it, as in today's confd.
    #[default]
    Concatenate,
    /// It counts only where there is no other, as in confd 0.16. `seq` then counts upwards only.
    Replace,
}

impl PrefixRule {
    /// As it is written.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Concatenate => "concatenate",
            Self::Replace => "replace",
        }
    }

    /// The prefix of a resource, with a slash at its start; `""` for none.
    pub(super) fn prefix(self, global: &str, own: &str) -> String {
        let parts = match self {
            Self::Concatenate => [global, own],
            Self::Replace if clean(&[global]).is_empty() => [own, ""],
            Self::Replace => [global, ""],
        };
        clean(&parts)
    }
}

/// Paths behind each other, with a slash before each part and none at the end.
pub(super) fn clean(paths: &[&str]) -> String {
    let parts = paths.iter().flat_map(|path| path.split('/'));
    parts
        .filter(|part| !part.is_empty() && *part != ".")
        .fold(String::new(), |path, part| path + "/" + part)
}

impl std::fmt::Debug for ConfdConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfdConfig")
            .field("dir", &self.dir)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_join_prefixes_in_their_own_way() {
        for (case, global, own, concatenated, replaced) in [
            ("none", "", "", "", ""),
            ("the global one", "/production", "", "/production", "/production"),
            ("the own one", "", "/app", "/app", "/app"),
            ("both", "production", "app/", "/production/app", "/production"),
            ("a root is none", "/", "/app", "/app", "/app"),
            ("slashes", "//a//", "b/c", "/a/b/c", "/a"),
        ] {
            assert_eq!(PrefixRule::Concatenate.prefix(global, own), concatenated, "{case}");
            assert_eq!(PrefixRule::Replace.prefix(global, own), replaced, "{case}");
        }
    }

    #[test]
    fn a_backend_that_comes_later_is_told_with_those_that_are_there() {
        assert_eq!("consul".parse(), Ok(Backend::Consul));
        let error = "etcdv3".parse::<Backend>().unwrap_err();
        assert_eq!(
            error,
            "the backend `etcdv3` is not there yet: its registry comes later; \
             there are: catalog, env, file, consul"
        );
        let error = "flie".parse::<Backend>().unwrap_err();
        assert!(error.contains("did you mean `file`?"), "{error}");
        for (name, backend) in BACKENDS {
            assert_eq!(backend.name(), name);
        }
    }

    #[test]
    fn what_is_not_stated_is_as_documented() {
        let config: ConfdConfig = toml::from_str("dir = \"/etc/confd\"").unwrap();
        assert_eq!(config, ConfdConfig::new("/etc/confd".into()));
        let config: ConfdConfig = toml::from_str("dir = \"a\"\ntoken = \"hidden\"").unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}

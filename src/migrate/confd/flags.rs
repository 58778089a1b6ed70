//! confd's flags, of both generations, and the keys of `confd.toml` that say the same.
//!
//! Flags are read as Go reads them: one dash or two, `-x v` or `-x=v`, switches without a value.
//! Today's confd names the backend as a command between the flags, the older one by `-backend`.

use std::collections::BTreeMap;

use crate::suggest;

/// What a flag is good for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It does what it does in confd.
    Taken,
    /// It is accepted and does nothing, because of this.
    Idle(&'static str),
    /// It cannot be done, because of this.
    Refused(&'static str),
}

/// One flag.
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// Whether it takes no value.
    switch: bool,
    pub(super) purpose: Use,
}

const FOLLOWED: &str = "every change is followed at once";
const OTHER_BACKEND: &str = "it belongs to a backend that comes later";
const HTTP: &str = "requests to Consul have limits of their own: see [registry.NAME.consul]";
const SRV: &str = "nodes are not looked up by SRV records; name them by -node, several if need be";

/// Every flag of confd 0.16 and of today's, in alphabetical order.
pub(super) const FLAGS: &[Flag] = &[
    idle("acm-export-private-key", true, OTHER_BACKEND),
    idle("app-id", false, OTHER_BACKEND),
    idle("auth-token", false, OTHER_BACKEND),
    idle("auth-type", false, OTHER_BACKEND),
    taken("backend", false),
    taken("backend-timeout", false),
    taken("basic-auth", true),
    taken("batch-interval", false),
    taken("check-cmd-timeout", false),
    taken("check-config", true),
    taken("client-ca-keys", false),
    taken("client-cert", false),
    idle("client-insecure", true, OTHER_BACKEND),
    taken("client-key", false),
    idle("color", true, "differences are shown without colour"),
    taken("confdir", false),
    taken("config-file", false),
    taken("debounce", false),
    idle("dial-timeout", false, HTTP),
    taken("diff", true),
    idle("diff-context", false, "differences are shown with three lines around them"),
    taken("failure-mode", false),
    taken("file", false),
    taken("filter", false),
    idle("interval", false, FOLLOWED),
    taken("keep-stage-file", true),
    idle("log-format", false, "logs are text on a terminal and JSON otherwise"),
    taken("log-level", false),
    idle("metrics-addr", false, "metrics are part of the admin face: see [admin]"),
    taken("mock-data", false),
    taken("node", false),
    taken("noop", true),
    taken("onetime", true),
    taken("password", false),
    idle("path", false, OTHER_BACKEND),
    taken("prefix", false),
    taken("prefix-rule", false),
    taken("preflight", true),
    idle("preflight-timeout", false, HTTP),
    idle("read-timeout", false, HTTP),
    taken("reload-cmd-timeout", false),
    taken("resource", false),
    idle("retry-base-delay", false, HTTP),
    idle("retry-max-attempts", false, "a registry that is down is asked again for ever"),
    idle("retry-max-delay", false, HTTP),
    idle("role-id", false, OTHER_BACKEND),
    taken("scheme", false),
    idle("secret-id", false, OTHER_BACKEND),
    refused(
        "secret-keyring",
        "values are not decrypted: cget, cgets, cgetv and cgetvs are not there",
    ),
    idle("secretsmanager-no-flatten", true, OTHER_BACKEND),
    idle("secretsmanager-version-stage", false, OTHER_BACKEND),
    idle("separator", false, OTHER_BACKEND),
    refused("srv-domain", SRV),
    refused("srv-record", SRV),
    taken("sync-only", true),
    idle("systemd-notify", true, "systemd is not told"),
    idle("table", false, OTHER_BACKEND),
    idle("template-cache", true, "templates are parsed once"),
    idle("template-cache-policy", false, "templates are parsed once"),
    idle("template-cache-size", false, "templates are parsed once"),
    idle("user-id", false, OTHER_BACKEND),
    taken("username", false),
    taken("validate", true),
    taken("version", true),
    idle("watch", true, FOLLOWED),
    idle("watch-error-backoff", false, HTTP),
    idle("write-timeout", false, HTTP),
];

/// Keys of `confd.toml` and of `[backend]` in a resource that are spelled otherwise than the flag.
const SPELLED: [(&str, &str); 2] = [("client-cakeys", "client-ca-keys"), ("nodes", "node")];

const fn taken(name: &'static str, switch: bool) -> Flag {
    Flag { name, switch, purpose: Use::Taken }
}

const fn idle(name: &'static str, switch: bool, why: &'static str) -> Flag {
    Flag { name, switch, purpose: Use::Idle(why) }
}

const fn refused(name: &'static str, why: &'static str) -> Flag {
    Flag { name, switch: false, purpose: Use::Refused(why) }
}

/// What was stated, by the name of the flag; switches as `true` or `false`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Given {
    values: BTreeMap<&'static str, Vec<String>>,
    /// Whether the backend was named as a command, as only today's confd takes it.
    pub(super) command: bool,
}

impl Given {
    /// Reads a command line, without the name of the program.
    ///
    /// # Errors
    /// The first thing that is wrong, with what is known.
    pub(super) fn read(arguments: &[String]) -> Result<Self, String> {
        let mut given = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(named) = argument.strip_prefix('-').filter(|named| !named.is_empty()) else {
                given.command(argument)?;
                continue;
            };
            let named = named.strip_prefix('-').unwrap_or(named);
            if named.is_empty() {
                match rest.next() {
                    Some(command) => given.command(command)?,
                    None => break,
                }
                continue;
            }
            let (name, value) = match named.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (named, None),
            };
            let (name, value) = match name {
                "n" => ("node", value),
                "no-template-cache" => ("template-cache", Some("false")),
                other => (other, value),
            };
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                let names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
                return Err(format!(
                    "unknown flag -{name}{}",
                    suggest::remedy(name, &names, "Known flags")
                ));
            };
            let value = match value {
                Some(value) if flag.switch => truth(value)
                    .ok_or_else(|| format!("-{name}={value} must be true or false"))?
                    .to_string(),
                Some(value) => value.to_owned(),
                None if flag.switch => "true".to_owned(),
                None => {
                    rest.next().ok_or_else(|| format!("-{name} needs a value behind it"))?.clone()
                }
            };
            given.values.entry(flag.name).or_default().push(value);
        }
        Ok(given)
    }

    /// The backend, named as today's confd takes it.
    fn command(&mut self, name: &str) -> Result<(), String> {
        if self.command {
            return Err(format!("{name:?} is too much; the backend is named already"));
        }
        self.command = true;
        self.values.insert("backend", vec![name.to_owned()]);
        Ok(())
    }

    /// Takes a key of a TOML file of confd's: of `confd.toml`, or of `[backend]` in a resource. Says
    /// whether there is such a key.
    ///
    /// # Errors
    /// The value is of the wrong type.
    pub(super) fn set(&mut self, key: &str, value: &toml::Value) -> Result<bool, String> {
        let name = key.to_lowercase().replace('_', "-");
        let name = SPELLED.iter().find(|(own, _)| *own == name).map_or(&*name, |(_, flag)| flag);
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else { return Ok(false) };
        let texts = match value {
            toml::Value::String(text) => vec![text.clone()],
            toml::Value::Boolean(value) if flag.switch => vec![value.to_string()],
            toml::Value::Integer(number) if !flag.switch => vec![number.to_string()],
            toml::Value::Array(items) => {
                let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or_else(|| {
                    format!(
                        "`{key}` must be a list of strings, such as [\"http://127.0.0.1:8500\"]"
                    )
                })?
            }
            other => return Err(format!("`{key}` cannot be of the type {}", other.type_str())),
        };
        self.values.insert(flag.name, texts);
        Ok(true)
    }

    /// Takes what `other` states and this does not.
    pub(super) fn or(mut self, other: Self) -> Self {
        for (name, values) in other.values {
            self.values.entry(name).or_insert(values);
        }
        self
    }

    /// States `name` where nobody did.
    pub(super) fn default_to(&mut self, name: &'static str, value: String) {
        self.values.entry(name).or_insert_with(|| vec![value]);
    }

    /// The last value of a flag; empty ones count as none, as in confd.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Every value of a flag.
    pub(super) fn texts(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a switch is on.
    pub(super) fn on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Those that are stated and do nothing here, each with the reason.
    pub(super) fn idle(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        FLAGS.iter().filter(|flag| self.text(flag.name).is_some()).filter_map(|flag| {
            match flag.purpose {
                Use::Idle(why) => Some((flag.name, why)),
                _ => None,
            }
        })
    }

    /// The first that is stated and cannot be done, with the reason.
    pub(super) fn refused(&self) -> Option<(&'static str, &'static str)> {
        FLAGS.iter().filter(|flag| self.text(flag.name).is_some()).find_map(|flag| {
            match flag.purpose {
                Use::Refused(why) => Some((flag.name, why)),
                _ => None,
            }
        })
    }

    /// confd's words for how much is logged, as a filter.
    pub(super) fn log_level(&self) -> Result<Option<String>, String> {
        let Some(level) = self.text("log-level") else { return Ok(None) };
        let word = match level {
            "debug" => "debug",
            "info" => "info",
            "warn" | "warning" => "warn",
            "error" | "fatal" | "panic" => "error",
            other => {
                return Err(format!(
                    "-log-level {other:?} is unknown; there are debug, info, warn and error"
                ));
            }
        };
        Ok(Some(format!("portolan={word}")))
    }
}

/// Go's words for true and false.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Given, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Given::read(&arguments)
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        for (case, line, name, want) in [
            ("one dash", "-backend env", "backend", &["env"][..]),
            ("two dashes", "--backend env", "backend", &["env"]),
            ("an equals sign", "-backend=env", "backend", &["env"]),
            ("a value with one", "-prefix=a=b", "prefix", &["a=b"]),
            ("the last counts", "-prefix /a -prefix /b", "prefix", &["/a", "/b"]),
            ("several nodes", "-node a -node=b --node c", "node", &["a", "b", "c"]),
            ("a switch", "-onetime", "onetime", &["true"]),
            ("a switch that is off", "-watch=false", "watch", &["false"]),
            ("a switch in Go's words", "-watch=1", "watch", &["true"]),
            ("a switch takes no word behind it", "-onetime env", "backend", &["env"]),
            ("a command", "consul --watch", "backend", &["consul"]),
            ("a command between flags", "--watch consul --node a", "node", &["a"]),
            ("the short one", "consul -n a", "node", &["a"]),
            ("a negated one", "env --no-template-cache", "template-cache", &["false"]),
            ("a dash as value", "-prefix -", "prefix", &["-"]),
        ] {
            assert_eq!(read(line).unwrap().texts(name), want, "{case}: {line}");
        }
        assert!(read("env").unwrap().command);
        assert!(!read("-backend env").unwrap().command);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told() {
        for (line, want) in [
            ("-bakend env", "unknown flag -bakend; did you mean `backend`? Known flags: acm"),
            ("-node", "-node needs a value behind it"),
            ("-watch=perhaps", "-watch=perhaps must be true or false"),
            ("env file", "\"file\" is too much; the backend is named already"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.starts_with(want), "{line}: {error}");
        }
    }

    #[test]
    fn every_flag_is_read_and_those_without_effect_say_why() {
        for pair in FLAGS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} is out of order", pair[1].name);
        }
        for flag in FLAGS {
            let line =
                if flag.switch { format!("-{}", flag.name) } else { format!("-{} x", flag.name) };
            let given = read(&line).unwrap();
            assert!(given.text(flag.name).is_some(), "{line}");
            let idle = given.idle().next().is_some();
            let refused = given.refused().is_some();
            match flag.purpose {
                Use::Taken => assert!(!idle && !refused, "{line}"),
                Use::Idle(_) => assert!(idle && !refused, "{line}"),
                Use::Refused(_) => assert!(!idle && refused, "{line}"),
            }
        }
    }

    #[test]
    fn every_flag_and_every_key_of_a_resource_is_documented() {
        let page = include_str!("../../../docs/confd.md");
        for flag in FLAGS {
            assert!(page.contains(&format!("`{}`", flag.name)), "-{}", flag.name);
        }
        for key in super::super::resource::KEYS {
            assert!(page.contains(&format!("`{key}`")), "{key}");
        }
    }

    #[test]
    fn the_keys_of_a_file_are_flags_in_another_spelling() {
        let mut given = Given::default();
        let table: toml::Table = "backend = \"consul\"\nnodes = [\"a\", \"b\"]\nprefix = \"/p\"\n\
            client_cakeys = \"ca\"\nlog-level = \"debug\"\nsync_only = true\ninterval = 5\n\
            ConfDir = \"/c\"\nsync-only = true\n"
            .parse()
            .unwrap();
        for (key, value) in &table {
            assert_eq!(given.set(key, value), Ok(true), "{key}");
        }
        for (name, want) in [
            ("backend", "consul"),
            ("node", "b"),
            ("prefix", "/p"),
            ("client-ca-keys", "ca"),
            ("log-level", "debug"),
            ("sync-only", "true"),
            ("interval", "5"),
            ("confdir", "/c"),
        ] {
            assert_eq!(given.text(name), Some(want), "{name}");
        }
        assert_eq!(given.set("colour", &toml::Value::Boolean(true)), Ok(false));
        assert!(given.set("nodes", &toml::Value::Array(vec![1.into()])).is_err());
        assert!(given.set("watch", &1.5.into()).is_err());
        let more = read("-prefix /q -node c").unwrap().or(given);
        assert_eq!((more.text("prefix"), more.texts("node").len()), (Some("/q"), 1));
    }
}

//! consul-template's flags, read as Go reads flags: one dash or two, `-x=v` or `-x v`.

use std::path::PathBuf;

use super::schema::Kind;
use super::settings::{Command, From, Leaf, Section, Settings};
use super::values;
use crate::migrate::Refused;
use crate::suggest;

/// What a command line says.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    pub(super) settings: Settings,
    /// Files and directories of configuration, in order.
    pub(super) paths: Vec<PathBuf>,
    pub(super) once: bool,
    pub(super) dry: bool,
    pub(super) parse_only: bool,
    pub(super) diff: bool,
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) admin: Option<String>,
}

/// What a flag does.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// Sets these.
    Set(Kind, &'static [&'static [&'static str]]),
    /// `user:password`.
    Auth,
    Exec,
    Wait,
    Template,
    Config,
    Once,
    Dry,
    ParseOnly,
    Diff,
    Help,
    Version,
    DataDir,
    Admin,
}

/// A flag: its name, and what it does.
struct Flag(&'static str, Effect);

macro_rules! set {
    ($kind:ident $([$($to:literal),+])+) => { Effect::Set(Kind::$kind, &[$(&[$($to),+]),+]) };
}

const FLAGS: &[Flag] = &[
    Flag("admin", Effect::Admin),
    Flag("auth", Effect::Auth),
    Flag("block-query-wait", set!(Span["block_query_wait"])),
    Flag("config", Effect::Config),
    Flag("consul", set!(Text["consul", "address"])),
    Flag("consul-addr", set!(Text["consul", "address"])),
    Flag("consul-auth", Effect::Auth),
    Flag("consul-namespace", set!(Text["consul", "namespace"])),
    Flag("consul-retry", set!(Flag["consul", "retry", "enabled"])),
    Flag("consul-retry-attempts", set!(Count["consul", "retry", "attempts"])),
    Flag("consul-retry-backoff", set!(Span["consul", "retry", "backoff"])),
    Flag("consul-retry-max-backoff", set!(Span["consul", "retry", "max_backoff"])),
    Flag("consul-ssl", set!(Flag["consul", "ssl", "enabled"])),
    Flag("consul-ssl-ca-cert", set!(Text["consul", "ssl", "ca_cert"])),
    Flag("consul-ssl-ca-path", set!(Text["consul", "ssl", "ca_path"])),
    Flag("consul-ssl-cert", set!(Text["consul", "ssl", "cert"])),
    Flag("consul-ssl-key", set!(Text["consul", "ssl", "key"])),
    Flag("consul-ssl-server-name", set!(Text["consul", "ssl", "server_name"])),
    Flag("consul-ssl-verify", set!(Flag["consul", "ssl", "verify"])),
    Flag("consul-token", set!(Text["consul", "token"])),
    Flag("consul-token-file", set!(Text["consul", "token_file"])),
    Flag("consul-transport-dial-keep-alive", set!(Span["consul", "transport", "dial_keep_alive"])),
    Flag("consul-transport-dial-timeout", set!(Span["consul", "transport", "dial_timeout"])),
    Flag(
        "consul-transport-disable-keep-alives",
        set!(Flag["consul", "transport", "disable_keep_alives"]),
    ),
    Flag(
        "consul-transport-max-conns-per-host",
        set!(Count["consul", "transport", "max_conns_per_host"]),
    ),
    Flag(
        "consul-transport-max-idle-conns-per-host",
        set!(Count["consul", "transport", "max_idle_conns_per_host"]),
    ),
    Flag(
        "consul-transport-tls-handshake-timeout",
        set!(Span["consul", "transport", "tls_handshake_timeout"]),
    ),
    Flag("data-dir", Effect::DataDir),
    Flag("dedup", set!(Flag["deduplicate", "enabled"])),
    Flag("default-left-delimiter", set!(Text["default_delimiters", "left"])),
    Flag("default-right-delimiter", set!(Text["default_delimiters", "right"])),
    Flag("diff", Effect::Diff),
    Flag("dry", Effect::Dry),
    Flag("dump-signal", set!(Signal["dump_signal"])),
    Flag("err-on-failed-lookup", set!(Flag["err_on_failed_lookup"])),
    Flag("exec", Effect::Exec),
    Flag("exec-kill-signal", set!(Signal["exec", "kill_signal"])),
    Flag("exec-kill-timeout", set!(Span["exec", "kill_timeout"])),
    Flag("exec-reload-signal", set!(Signal["exec", "reload_signal"])),
    Flag("exec-splay", set!(Span["exec", "splay"])),
    Flag("exec-timeout", set!(Span["exec", "timeout"])),
    Flag("h", Effect::Help),
    Flag("help", Effect::Help),
    Flag("kill-signal", set!(Signal["kill_signal"])),
    Flag("log-file", set!(Text["log_file", "path"])),
    Flag("log-level", set!(Text["log_level"])),
    Flag("log-rotate-bytes", set!(Count["log_file", "log_rotate_bytes"])),
    Flag("log-rotate-duration", set!(Span["log_file", "log_rotate_duration"])),
    Flag("log-rotate-max-files", set!(Count["log_file", "log_rotate_max_files"])),
    Flag("max-stale", set!(Span["max_stale"])),
    Flag("once", Effect::Once),
    Flag("parse-only", Effect::ParseOnly),
    Flag("pid-file", set!(Text["pid_file"])),
    Flag("reap", set!(Flag["reap"])),
    Flag("reload-signal", set!(Signal["reload_signal"])),
    Flag("retry", set!(Span["consul", "retry", "backoff"]["consul", "retry", "max_backoff"])),
    Flag("splay", set!(Span["exec", "splay"])),
    Flag("ssl", set!(Flag["consul", "ssl", "enabled"])),
    Flag("ssl-ca-cert", set!(Text["consul", "ssl", "ca_cert"])),
    Flag("ssl-ca-path", set!(Text["consul", "ssl", "ca_path"])),
    Flag("ssl-cert", set!(Text["consul", "ssl", "cert"])),
    Flag("ssl-key", set!(Text["consul", "ssl", "key"])),
    Flag("ssl-server-name", set!(Text["consul", "ssl", "server_name"])),
    Flag("ssl-verify", set!(Flag["consul", "ssl", "verify"])),
    Flag("syslog", set!(Flag["syslog", "enabled"])),
    Flag("syslog-facility", set!(Text["syslog", "facility"])),
    Flag("syslog-name", set!(Text["syslog", "name"])),
    Flag("template", Effect::Template),
    Flag("template-error-fatal", set!(Flag["template_error_fatal"])),
    Flag("timeout", set!(Span["exec", "timeout"])),
    Flag("token", set!(Text["consul", "token"])),
    Flag("v", Effect::Version),
    Flag("version", Effect::Version),
    Flag("wait", Effect::Wait),
];

/// What may follow `-vault` and `-nomad`: none of them is read, all must be well formed.
const OTHERS: &[(&str, Kind)] = &[
    ("addr", Kind::Text),
    ("agent-token-file", Kind::Text),
    ("auth-password", Kind::Text),
    ("auth-username", Kind::Text),
    ("default-lease-duration", Kind::Span),
    ("grace", Kind::Span),
    ("k8s-auth-role-name", Kind::Text),
    ("k8s-service-account-token", Kind::Text),
    ("k8s-service-account-token-path", Kind::Text),
    ("k8s-service-mount-path", Kind::Text),
    ("lease-renewal-threshold", Kind::Text),
    ("namespace", Kind::Text),
    ("renew-token", Kind::Flag),
    ("retry", Kind::Flag),
    ("retry-attempts", Kind::Count),
    ("retry-backoff", Kind::Span),
    ("retry-max-backoff", Kind::Span),
    ("ssl", Kind::Flag),
    ("ssl-ca-cert", Kind::Text),
    ("ssl-ca-path", Kind::Text),
    ("ssl-cert", Kind::Text),
    ("ssl-key", Kind::Text),
    ("ssl-server-name", Kind::Text),
    ("ssl-verify", Kind::Flag),
    ("token", Kind::Text),
    ("transport-dial-keep-alive", Kind::Span),
    ("transport-dial-timeout", Kind::Span),
    ("transport-disable-keep-alives", Kind::Flag),
    ("transport-max-conns-per-host", Kind::Count),
    ("transport-max-idle-conns-per-host", Kind::Count),
    ("transport-tls-handshake-timeout", Kind::Span),
    ("unwrap-token", Kind::Flag),
];

/// Every flag, for documents and tests.
#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    let own = FLAGS.iter().map(|flag| flag.0.to_owned());
    let others = ["vault", "nomad"]
        .iter()
        .flat_map(|kind| OTHERS.iter().map(move |(name, _)| format!("{kind}-{name}")));
    own.chain(others).collect()
}

fn effect(name: &str) -> Option<Effect> {
    if let Some(flag) = FLAGS.iter().find(|flag| flag.0 == name) {
        return Some(flag.1);
    }
    for (prefix, to) in [
        ("vault-", &[&["vault", "enabled"] as &[&str]] as &'static [&'static [&'static str]]),
        ("nomad-", &[&["nomad", "enabled"]]),
    ] {
        let other = name.strip_prefix(prefix);
        let known = other.and_then(|other| OTHERS.iter().find(|(name, _)| *name == other));
        if let Some((_, kind)) = known {
            return Some(Effect::Set(*kind, to));
        }
    }
    None
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// The first that cannot be read, with what to write instead.
pub(super) fn read(arguments: &[String]) -> Result<CommandLine, Refused> {
    let mut line = CommandLine::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let flag = match argument.strip_prefix('-') {
            Some(flag) if !flag.is_empty() && flag != "-" => flag,
            _ => {
                let left = std::iter::once(argument).chain(rest).filter(|left| *left != "--");
                let left: Vec<&str> = left.map(String::as_str).collect();
                if left.is_empty() {
                    break;
                }
                return Err(refuse(format!("extra argument(s): {left:?}; a flag begins with `-`")));
            }
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let Some(effect) = effect(name) else {
            return Err(refuse(unknown(name)));
        };
        let alone = matches!(
            effect,
            Effect::Set(Kind::Flag, _)
                | Effect::Once
                | Effect::Dry
                | Effect::ParseOnly
                | Effect::Diff
                | Effect::Help
                | Effect::Version
        );
        let value = match value {
            Some(value) => value,
            None if alone => "true".to_owned(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| refuse(format!("flag needs an argument: -{name}")))?,
        };
        line.apply(name, effect, &value).map_err(|why| {
            refuse(format!("invalid value {} for flag -{name}: {why}", shown(name, &value)))
        })?;
    }
    Ok(line)
}

fn refuse(message: String) -> Refused {
    Refused::Arguments(message)
}

/// A value in a message; one that may be a secret is not repeated.
fn shown(name: &str, value: &str) -> String {
    if ["token", "auth", "password"].iter().any(|secret| name.contains(secret)) {
        return "…".into();
    }
    format!("{value:?}")
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = FLAGS.iter().map(|flag| flag.0).collect();
    let meant = suggest::nearest(name, &known).map(|meant| format!(" did you mean -{meant}?"));
    let meant = meant.unwrap_or_default();
    format!("flag provided but not defined: -{name};{meant} `-help` tells all")
}

impl CommandLine {
    fn apply(&mut self, name: &str, effect: Effect, value: &str) -> Result<(), String> {
        let from = From(format!("-{name}").into());
        let top = &mut self.settings.top;
        let yes = || values::flag(value).ok_or_else(|| "it must be true or false".to_owned());
        match effect {
            Effect::Set(kind, to) => {
                let leaf = leaf(kind, value)?;
                for path in to {
                    // Of Vault and Nomad nothing is read but that something was set.
                    let leaf = if path[0] == "vault" || path[0] == "nomad" {
                        Leaf::Set
                    } else {
                        leaf.clone()
                    };
                    top.set(path, leaf, from.clone());
                }
            }
            Effect::Auth => {
                let (user, password) = value.split_once(':').unwrap_or((value, ""));
                let auth = top.below(&["consul", "auth"]);
                auth.set(&["enabled"], Leaf::Flag(true), from.clone());
                auth.set(&["username"], Leaf::Text(user.to_owned()), from.clone());
                auth.set(&["password"], Leaf::Text(password.to_owned()), from);
            }
            Effect::Exec => {
                let command = Leaf::Command(Command::Shell(value.to_owned()));
                top.set(&["exec", "command"], command, from.clone());
                top.set(&["exec", "enabled"], Leaf::Flag(true), from);
            }
            Effect::Wait => {
                let (min, max) = values::wait(value)?;
                top.set(&["wait", "min"], Leaf::Span(min), from.clone());
                top.set(&["wait", "max"], Leaf::Span(max), from);
            }
            Effect::Template => self.settings.templates.push((template(value, &from)?, from)),
            Effect::Config => self.paths.push(value.into()),
            Effect::Once => self.once = yes()?,
            Effect::Dry => self.dry = yes()?,
            Effect::ParseOnly => self.parse_only = yes()?,
            Effect::Diff => self.diff = yes()?,
            Effect::Help => self.help = yes()?,
            Effect::Version => self.version = yes()?,
            Effect::DataDir => self.data_dir = Some(value.into()),
            Effect::Admin => self.admin = Some(value.to_owned()),
        }
        Ok(())
    }
}

fn leaf(kind: Kind, value: &str) -> Result<Leaf, String> {
    Ok(match kind {
        Kind::Flag => Leaf::Flag(values::flag(value).ok_or("it must be true or false")?),
        Kind::Count => {
            Leaf::Count(value.parse().map_err(|_| "it must be a whole number".to_owned())?)
        }
        Kind::Span => Leaf::Span(values::span(value)?),
        Kind::Signal => Leaf::Signal(values::signal(value)?),
        _ => Leaf::Text(value.to_owned()),
    })
}

/// `source:destination:command`; what stands behind the second colon is the command.
fn template(value: &str, from: &From) -> Result<Section, String> {
    let mut parts = value.splitn(3, ':');
    let [source, destination, command] = [(); 3].map(|()| parts.next());
    let source = source.filter(|source| !source.trim().is_empty());
    let source = source.ok_or("it must be source:destination or source:destination:command")?;
    let mut template = Section::default();
    template.set(&["source"], Leaf::Text(source.to_owned()), from.clone());
    if let Some(destination) = destination {
        template.set(&["destination"], Leaf::Text(destination.to_owned()), from.clone());
    }
    if let Some(command) = command.filter(|command| !command.trim().is_empty()) {
        let command = Leaf::Command(Command::Shell(command.to_owned()));
        template.set(&["command"], command, from.clone());
    }
    Ok(template)
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;

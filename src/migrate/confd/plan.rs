//! confd's command line as a plan of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::text::Text;
use super::super::{Mode, Plan, Refused};
use super::config::{Backend, ConfdConfig, PrefixRule, Token};
use super::duration;
use super::expand::{Around, Broken, Expansion, expand};
use super::flags::Given;
use super::source::{self, Source};
use crate::units::Period;

/// Where confd looks when nobody says otherwise.
const DIR: &str = "/etc/confd";

/// Variables that stand for a flag where it is not given.
const VARIABLES: [(&str, &str); 7] = [
    ("CONFD_CONFDIR", "confdir"),
    ("CONFD_PREFIX", "prefix"),
    ("CONFD_INTERVAL", "interval"),
    ("CONFD_LOG_LEVEL", "log-level"),
    ("CONFD_CLIENT_CAKEYS", "client-ca-keys"),
    ("CONFD_CLIENT_CERT", "client-cert"),
    ("CONFD_CLIENT_KEY", "client-key"),
];

/// Variables that Consul's own client reads, and confd's backend with it.
const OF_CONSUL: [(&str, &str); 3] = [
    ("CONSUL_CACERT", "client-ca-keys"),
    ("CONSUL_CLIENT_CERT", "client-cert"),
    ("CONSUL_CLIENT_KEY", "client-key"),
];

/// The variable with the token, as confd takes it.
const TOKEN: &str = "CONSUL_HTTP_TOKEN";

/// The variable with the password of `-password`.
const PASSWORD: &str = "CONFD_PASSWORD";

/// How long a registry is waited for where confd would give up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked beside running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// Nothing.
    #[default]
    None,
    /// Whether the files of `conf.d` are what they should be, and their templates parse.
    Configuration,
    /// The version.
    Version,
}

/// A command line of confd's, read.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// What is to be run.
    pub plan: Plan,
    /// What is asked in place of that.
    pub check: Check,
    /// Only the resource of this name is looked at.
    pub resource: Option<String>,
    /// What of it is broken now, with what stands in `plan.differences`.
    pub broken: Vec<Broken>,
}

/// What the command line `arguments`, without the name of the program, comes to: a text with one
/// `[confd]` table. Relative paths begin at `directory`. Blocks on reading `confd.toml` and `conf.d`.
///
/// # Errors
/// The command line or `confd.toml` cannot be read, or the backend is not there.
pub fn plan(
    arguments: &[String],
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Planned, Refused> {
    let read = Read::new(arguments, directory, variable)?;
    if read.given.on("version") {
        return Ok(Planned { check: Check::Version, ..Planned::default() });
    }
    let mut text = Text::default();
    read.write(&mut text);
    let expansion = read.expand(directory)?;
    read.planned(text.finish(), expansion)
}

/// As [`plan`], with the templates and registries themselves.
///
/// # Errors
/// As [`plan`].
pub fn written_out(
    arguments: &[String],
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Planned, Refused> {
    let read = Read::new(arguments, directory, variable)?;
    let expansion = read.expand(directory)?;
    let mut texts: Vec<String> =
        expansion.registries.iter().map(|(_, text)| text.clone()).collect();
    texts.extend(
        expansion
            .templates
            .iter()
            .map(|template| format!("# {}\n{}", template.file.display(), template.text)),
    );
    let mut broken = Text::default();
    for Broken { file, why, .. } in &expansion.broken {
        broken.comment(&format!("{} is left out: {why}", file.display()));
    }
    texts.push(broken.finish());
    texts.retain(|text| !text.is_empty());
    read.planned(texts.join("\n"), expansion)
}

/// A command line with what the files and variables behind it say.
struct Read {
    given: Given,
    config: ConfdConfig,
    variables: BTreeMap<String, String>,
    differences: Vec<String>,
    notices: Vec<String>,
}

impl Read {
    fn new(
        arguments: &[String],
        directory: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Refused> {
        let refused = Refused::Arguments;
        let mut differences = Vec::new();
        let mut given = Given::read(arguments).map_err(refused)?;
        let file = given
            .text("config-file")
            .map_or_else(|| Path::new(DIR).join("confd.toml"), |file| directory.join(file));
        let told = given.text("config-file").is_some();
        // Both generations: the command line first, then variables, then the file.
        for (name, flag) in VARIABLES {
            if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
                given.default_to(flag, value);
            }
        }
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let stated = confd_toml(&file, &text, &mut differences)?;
                given = given.or(stated);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if told {
                    differences.push(format!("{} is not there, as confd takes it", file.display()));
                }
            }
            Err(error) => {
                let why = format!("cannot read {}: {error}", file.display());
                return Err(Refused::Configuration(vec![why]));
            }
        }
        let mut variables = BTreeMap::new();
        let mut config = config(&mut given, variable, &mut variables, &mut differences)
            .map_err(Refused::Arguments)?;
        config.dir = directory.join(config.dir);
        let mut notices = Vec::new();
        for (name, why) in given.idle() {
            let told = format!("-{name} has no effect: {why}");
            // What everybody states is no news at every start.
            if matches!(name, "watch" | "interval") {
                differences.push(told);
            } else {
                notices.push(told);
            }
        }
        Ok(Self { given, config, variables, differences, notices })
    }

    fn expand(&self, directory: &Path) -> Result<Expansion, Refused> {
        expand(&self.config, directory, &Around::default())
            .map_err(|why| Refused::Configuration(vec![why]))
    }

    /// Writes `[confd]`.
    fn write(&self, text: &mut Text) {
        let config = &self.config;
        text.table(&["confd"]);
        text.string("dir", &config.dir.to_string_lossy());
        text.string("backend", config.backend.name());
        if !config.nodes.is_empty() {
            text.list("nodes", &config.nodes);
            text.string("scheme", config.scheme.word());
        }
        if !config.files.is_empty() {
            text.list("files", &source::texts(&config.files));
        }
        if let Some(filter) = &config.filter {
            text.string("filter", filter);
        }
        if let Some(prefix) = &config.prefix {
            text.string("prefix", prefix);
        }
        text.string("prefix_rule", config.prefix_rule.word());
        if config.sync_only {
            text.bare("sync_only", true);
        }
        for (name, length) in [
            ("debounce", config.debounce),
            ("check_timeout", Some(config.check_timeout)),
            ("reload_timeout", Some(config.reload_timeout)),
        ] {
            if let Some(length) = length {
                text.string(name, &duration::written(length.0));
            }
        }
        // They are variables already.
        Source::of(config).write_keys("confd", text, &mut BTreeMap::new());
    }

    fn planned(self, text: String, expansion: Expansion) -> Result<Planned, Refused> {
        let Self { given, mut variables, mut differences, notices, .. } = self;
        differences.extend(expansion.differences);
        variables.extend(expansion.secrets);
        let check = if given.on("check-config")
            || (given.on("validate") && given.text("mock-data").is_none())
        {
            Check::Configuration
        } else {
            Check::None
        };
        let once = ["onetime", "preflight", "validate"].iter().any(|name| given.on(name));
        let mode = match (check, once) {
            (Check::None, false) => Mode::Watch,
            (Check::None, true) => Mode::Once,
            _ => Mode::ParseOnly,
        };
        let looks_only = ["noop", "preflight", "validate"].iter().any(|name| given.on(name));
        if given.on("noop") && mode == Mode::Watch {
            differences.push(
                "-noop shows what would change once and ends: confd goes on looking".to_owned(),
            );
        }
        let plan = Plan {
            text,
            variables,
            differences,
            notices,
            patience: patience(&given).map_err(Refused::Arguments)?,
            mode: if given.on("noop") && mode == Mode::Watch { Mode::Once } else { mode },
            diff: looks_only,
            log_level: given.log_level().map_err(Refused::Arguments)?,
            ..Plan::default()
        };
        let resource = given.text("resource").map(str::to_owned);
        Ok(Planned { plan, check, resource, broken: expansion.broken })
    }
}

/// What `confd.toml` states, as flags.
fn confd_toml(file: &Path, text: &str, differences: &mut Vec<String>) -> Result<Given, Refused> {
    let wrong = |why: String| Refused::Configuration(vec![format!("{}: {why}", file.display())]);
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        wrong(format!("line {line}: {}", error.message()))
    })?;
    let mut given = Given::default();
    for (key, value) in &table {
        if !given.set(key, value).map_err(wrong)? {
            differences.push(format!("{}: `{key}` is no key and is ignored", file.display()));
        }
    }
    Ok(given)
}

/// The `[confd]` table that all of it comes to.
fn config(
    given: &mut Given,
    variable: &dyn Fn(&str) -> Option<String>,
    variables: &mut BTreeMap<String, String>,
    differences: &mut Vec<String>,
) -> Result<ConfdConfig, String> {
    let mock = given.text("mock-data").filter(|_| given.on("validate")).map(PathBuf::from);
    let looked_at = given.on("check-config") || given.on("validate") || given.on("version");
    let backend = match given.text("backend") {
        _ if mock.is_some() => Backend::File,
        Some(name) => name.parse()?,
        // Nothing is asked of it.
        None if looked_at => Backend::Env,
        None => {
            return Err("confd would ask etcd, which is not there yet; name another backend: \
                        -backend catalog, env, file or consul"
                .to_owned());
        }
    };
    source::reachable(given)?;
    if backend == Backend::Consul {
        for (name, flag) in OF_CONSUL {
            if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
                given.default_to(flag, value);
            }
        }
    }
    let rule = match given.text("prefix-rule") {
        Some("concatenate") => PrefixRule::Concatenate,
        Some("replace") => PrefixRule::Replace,
        Some(other) => {
            return Err(format!(
                "-prefix-rule {other:?} is unknown; there are concatenate, replace"
            ));
        }
        // Only today's confd takes the backend as a command.
        None if given.command || given.text("backend").is_none() => PrefixRule::Concatenate,
        None => PrefixRule::Replace,
    };
    let length = |name: &str| match given.text(name) {
        Some(text) => duration::read(text)
            .map(|length| Some(Period(length)))
            .map_err(|why| format!("-{name}: {why}")),
        None => Ok(None),
    };
    let path = |name: &str| given.text(name).map(PathBuf::from);
    let mut config = ConfdConfig::new(path("confdir").unwrap_or_else(|| DIR.into()));
    config.backend = backend;
    config.nodes = given.texts("node").to_vec();
    config.scheme = source::scheme(given)?;
    config.files = mock
        .map_or_else(|| given.texts("file").iter().map(PathBuf::from).collect(), |mock| vec![mock]);
    config.filter = given.text("filter").filter(|filter| *filter != "*").map(str::to_owned);
    config.prefix = given.text("prefix").map(str::to_owned);
    config.prefix_rule = rule;
    config.sync_only = given.on("sync-only");
    config.debounce = length("debounce")?.or(length("batch-interval")?);
    config.check_timeout = length("check-cmd-timeout")?.unwrap_or(config.check_timeout);
    config.reload_timeout = length("reload-cmd-timeout")?.unwrap_or(config.reload_timeout);
    config.ca_file = path("client-ca-keys");
    config.cert_file = path("client-cert");
    config.key_file = path("client-key");
    if let Some(token) = variable(TOKEN).filter(|token| !token.is_empty()) {
        variables.insert(TOKEN.to_owned(), token);
        config.token = Some(Token(format!("${{{TOKEN}}}")));
    }
    config.token_file =
        variable("CONSUL_HTTP_TOKEN_FILE").filter(|f| !f.is_empty()).map(PathBuf::from);
    if given.on("basic-auth") && backend == Backend::Consul {
        config.username = given.text("username").map(str::to_owned);
        if let Some(password) = given.text("password") {
            variables.insert(PASSWORD.to_owned(), password.to_owned());
            config.password = Some(Token(format!("${{{PASSWORD}}}")));
        }
    }
    if given.on("keep-stage-file") {
        differences.push(
            "-keep-stage-file: only a file that its check refuses is kept, beside the other one"
                .to_owned(),
        );
    }
    match given.text("failure-mode") {
        None | Some("best-effort") => {}
        Some("fail-fast") => differences.push(
            "-failure-mode fail-fast: one resource that fails holds up no other; with -onetime it \
             shows in the exit code"
                .to_owned(),
        ),
        Some(other) => {
            return Err(format!(
                "-failure-mode {other:?} is unknown; there are best-effort and fail-fast"
            ));
        }
    }
    Ok(config)
}

/// How long a registry that was never heard is waited for.
fn patience(given: &Given) -> Result<Option<Duration>, String> {
    match given.text("backend-timeout") {
        None => Ok(Some(PATIENCE)),
        Some(text) => {
            duration::read(text).map(Some).map_err(|why| format!("-backend-timeout: {why}"))
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

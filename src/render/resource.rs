//! A resource: one template, its file, its check and reload.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use super::action::Action;
use super::data::{Asked, Scope, View};
use super::engine::go::{MissingKey, NumberFormat};
use super::engine::{self, Engine, Limits};
use super::language::{self, Delimiters, Language, Text};
use super::writing::{OutputFormat, Owner, ReloadHttp, ReloadSignal, WriteMode};
use crate::catalog::Snapshot;
use crate::exec::CommandLine;
use crate::units::{Period, Size};

/// `[template.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceConfig {
    /// The template: this or `contents`. A relative path begins at the configuration.
    #[serde(default)]
    pub source: Option<PathBuf>,
    /// The template itself.
    #[serde(default)]
    pub contents: Option<String>,
    /// Its language; by default what the extension of `source` tells: `.ctmpl` and `.tmpl` are
    /// consul-template's, `.j2` is Jinja. That of `contents` is consul-template's.
    #[serde(default)]
    pub dialect: Option<Language>,
    /// What a key gives that a map does not have. Go templates only, as all up to `include_dir`.
    #[serde(default)]
    pub missing_key: MissingKey,
    /// How floats look that no verb formats.
    #[serde(default)]
    pub number_format: NumberFormat,
    /// What begins and what ends an action.
    #[serde(default)]
    pub delimiters: Delimiters,
    /// Functions that are an error when they are called.
    #[serde(default)]
    pub denied_functions: Vec<String>,
    /// Folder outside of which files may neither be read nor written by functions.
    #[serde(default)]
    pub sandbox: Option<PathBuf>,
    /// Prefixes of confd's keys, below `prefix`; all keys by default.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Front of the paths of confd's keys, which the template does not see.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Whether confd's keys are the services, laid out as keys, instead of those of registries.
    #[serde(default)]
    pub catalog_keys: bool,
    /// The registry whose services and keys are shown; by default those of all, by priority.
    #[serde(default)]
    pub registry: Option<String>,
    /// Folder of templates that may be included by their path in it.
    #[serde(default)]
    pub include_dir: Option<PathBuf>,
    /// The file that it makes. Its directory must be there and writable.
    pub destination: PathBuf,
    /// Whether a directory that is not there is made.
    #[serde(default)]
    pub create_dirs: bool,
    /// Who the file belongs to; by default whom it belonged to, or us.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// Whether the file before is kept as `destination` with `.bak` behind it.
    #[serde(default)]
    pub backup: bool,
    /// How the file takes the place of the one before.
    #[serde(default)]
    pub write: WriteMode,
    /// What it must parse as before it is checked.
    #[serde(default)]
    pub output_format: Option<OutputFormat>,
    /// Command on the staged file, which stands for `{{.src}}`; when it fails or takes longer than
    /// its time, the old file stays.
    #[serde(default)]
    pub check: Option<CommandLine>,
    /// Longest time for the check. Default: `timeout`.
    #[serde(default)]
    pub check_timeout: Option<Period>,
    /// Command after the file was replaced; repeated until it succeeds once.
    #[serde(default)]
    pub reload: Option<CommandLine>,
    /// The same by a signal.
    #[serde(default)]
    pub reload_signal: Option<ReloadSignal>,
    /// The same by a request.
    #[serde(default)]
    pub reload_http: Option<ReloadHttp>,
    /// Longest time for the reload. Default: `timeout`.
    #[serde(default)]
    pub reload_timeout: Option<Period>,
    /// Least time from one run of the reload to the next; one that comes sooner is put off.
    #[serde(default)]
    pub reload_interval: Option<Period>,
    /// Templates of one group change all their files or none.
    #[serde(default)]
    pub group: Option<String>,
    /// How long to wait for a change to be followed by others.
    #[serde(default)]
    pub wait: Wait,
    /// Permissions of the file; by default those it has, or `"0644"` for a new one.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Longest time for an evaluation, and for a check or reload that states none of its own; then
    /// the evaluation is given up, and the processes are ended.
    #[serde(default = "half_a_minute")]
    pub timeout: Period,
    /// Largest output of the template.
    #[serde(default = "sixteen_mebibytes")]
    pub output_max: Size,
    /// Most steps of the template's machine in one evaluation, about a hundred for an instance.
    #[serde(default = "twenty_million")]
    pub steps_max: u64,
}

impl ResourceConfig {
    /// The configuration that states these two and nothing else.
    #[must_use]
    pub fn new(source: PathBuf, destination: PathBuf) -> Self {
        Self {
            source: Some(source),
            contents: None,
            dialect: None,
            missing_key: MissingKey::default(),
            number_format: NumberFormat::default(),
            delimiters: Delimiters::default(),
            denied_functions: Vec::new(),
            sandbox: None,
            keys: Vec::new(),
            prefix: None,
            catalog_keys: false,
            registry: None,
            include_dir: None,
            destination,
            create_dirs: false,
            owner: None,
            backup: false,
            write: WriteMode::Auto,
            output_format: None,
            check: None,
            check_timeout: None,
            reload: None,
            reload_signal: None,
            reload_http: None,
            reload_timeout: None,
            reload_interval: None,
            group: None,
            wait: Wait { min: Period::from_millis(0), max: None },
            mode: None,
            timeout: half_a_minute(),
            output_max: sixteen_mebibytes(),
            steps_max: twenty_million(),
        }
    }

    /// What of writing and reloading does not fit together, if anything: the key, and what to do.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let ways = [
            ("reload", self.reload.is_some()),
            ("reload_signal", self.reload_signal.is_some()),
            ("reload_http", self.reload_http.is_some()),
        ];
        let mut ways = ways.into_iter().filter_map(|(key, stated)| stated.then_some(key));
        if let (Some(first), Some(second)) = (ways.next(), ways.next()) {
            let message =
                format!("there is `{first}` too; a reader is told in one way, choose one");
            return Some((second, message));
        }
        if let Some(problem) = self.reload_http.as_ref().and_then(ReloadHttp::problem) {
            return Some(("reload_http", problem));
        }
        if self.group.as_deref() == Some("") {
            return Some(("group", "the name is empty; leave it out for no group".to_owned()));
        }
        None
    }
}

const fn half_a_minute() -> Period {
    Period::from_secs(30)
}

const fn sixteen_mebibytes() -> Size {
    Size(16 << 20)
}

const fn twenty_million() -> u64 {
    20_000_000
}

const fn at_once() -> Period {
    Period::from_millis(0)
}

/// How long changes are gathered before they are rendered together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Quiet time that must pass after a change; none by default.
    #[serde(default = "at_once")]
    pub min: Period,
    /// Longest delay of the first change of a row; by default four times `min`.
    #[serde(default)]
    pub max: Option<Period>,
}

impl Default for Wait {
    fn default() -> Self {
        Self { min: at_once(), max: None }
    }
}

/// Permissions of a file, written in octal: `"0644"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let octal = |text: &str| text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| octal(text) && (3..=4).contains(&text.len()) && *mode <= 0o777)
            .map(Self)
            .ok_or_else(|| {
                format!("{text:?} are no permissions; write them in octal, like \"0644\"")
            })
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Why a resource cannot be loaded, evaluated or written. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template cannot be read.
    #[error("cannot read the template {path} of [template.{name}]: {source}; correct `source`")]
    Source {
        /// Name of the resource.
        name: Arc<str>,
        /// The template.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The template does not parse, or its evaluation fails; with file, line and column.
    #[error("{0}")]
    Template(String),
    /// A step on the way to the file fails.
    #[error("cannot {step} {path}: {source}; {remedy}")]
    Write {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The output is not what it is meant to be.
    #[error(
        "[template.{name}]: {problem}; the old file stays, the refused one is {}",
        kept.display()
    )]
    Format {
        /// Name of the resource.
        name: Arc<str>,
        /// What is wrong, and where.
        problem: String,
        /// Where the refused file is.
        kept: PathBuf,
    },
    /// The check refuses the staged file.
    #[error(
        "the check of [template.{name}] {outcome}; the old file stays, the refused one is {kept}"
    )]
    Check {
        /// Name of the resource.
        name: Arc<str>,
        /// How the command ended, and what it wrote.
        outcome: String,
        /// Where the refused file is.
        kept: PathBuf,
    },
}

/// A template that parsed, with all that is needed to keep its file up to date.
pub struct Resource {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: ResourceConfig,
    /// The template.
    pub source: PathBuf,
    /// The file.
    pub destination: PathBuf,
    /// Checksum of the template's text: another one is another template.
    pub checksum: u32,
    /// Why it cannot be used; its file then stays as it is.
    pub broken: Option<Arc<str>>,
    /// How the reader of the file is told, if it has to be.
    pub(super) reload: Option<Action>,
    engine: Box<dyn Engine>,
    scope: Arc<Scope>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an evaluation came to.
#[derive(Debug)]
pub struct Evaluation {
    /// What the template asked for, also when it failed then.
    pub asked: Asked,
    /// The output.
    pub output: Result<Vec<u8>, RenderError>,
}

impl Resource {
    /// Reads and parses the template of `config`; relative paths begin at `base_dir`. Blocks.
    ///
    /// # Errors
    /// When the template cannot be read, is of an unknown language or does not parse.
    pub fn load(name: &str, config: &ResourceConfig, base_dir: &Path) -> Result<Self, RenderError> {
        let name: Arc<str> = name.into();
        let text = Text::read(&name, config, base_dir)?;
        let limits = Limits {
            output_max: config.output_max,
            steps_max: config.steps_max,
            timeout: config.timeout.0,
        };
        let (source, checksum) = (text.path.clone(), text.checksum());
        let engine = engine::parse(text, limits).map_err(RenderError::Template)?;
        let scope = Arc::new(language::scope(config, base_dir));
        let destination = base_dir.join(&config.destination);
        let reload = Action::of(config, &destination, base_dir);
        let (config, broken) = (config.clone(), None);
        Ok(Self { name, config, source, destination, checksum, broken, reload, engine, scope })
    }

    /// One that cannot be used, and says `why` wherever it is looked for; its file stays as it is.
    #[must_use]
    pub fn broken(name: &str, config: &ResourceConfig, base_dir: &Path, why: &str) -> Self {
        let destination = base_dir.join(&config.destination);
        Self {
            name: name.into(),
            config: config.clone(),
            source: base_dir.join(config.source.as_deref().unwrap_or_else(|| Path::new(""))),
            checksum: crc32fast::hash(why.as_bytes()),
            broken: Some(why.into()),
            reload: Action::of(config, &destination, base_dir),
            engine: engine::broken(why),
            scope: Arc::default(),
            destination,
        }
    }

    /// Whether `other` makes the same of the same snapshots, in the same place.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.config == other.config
            && self.source == other.source
            && self.destination == other.destination
            && self.checksum == other.checksum
            && self.reload == other.reload
    }

    /// What the file should say at `snapshot`. Not cheap, and functions may wait for commands and
    /// answers of the network: not for an async thread.
    #[must_use]
    pub fn evaluate(&self, snapshot: &Arc<Snapshot>) -> Evaluation {
        let deadline = Instant::now().checked_add(self.config.timeout.0);
        let view = Arc::new(View::new(Arc::clone(snapshot), Arc::clone(&self.scope), deadline));
        let output = self.engine.evaluate(&view).map_err(RenderError::Template);
        Evaluation { asked: view.asked(), output }
    }
}

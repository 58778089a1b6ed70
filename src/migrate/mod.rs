//! What the command lines and configurations of other programs come to here.
//!
//! Each translator is pure but for the files that it reads: arguments, variables and configuration
//! of the other program in, the text of a `portolan.toml` out, with what would differ. Whoever runs
//! the text gives it to [`crate::config::parse`]; whoever only looks prints it.

pub mod confd;
pub mod consul_template;
pub mod keepalived;
pub mod marathon_lb;
pub mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use text::Text;

/// What another program's command line and configuration come to.
#[derive(Clone, PartialEq, Default)]
pub struct Plan {
    /// A configuration of ours, as `portolan.toml`.
    pub text: String,
    /// Values of `${NAME}` in it that must not be written down.
    pub variables: BTreeMap<String, String>,
    /// What would differ from the other program, each with its reason: for `portolan migrate`.
    pub differences: Vec<String>,
    /// Settings that were stated and have no effect here, each with its reason: told at the start.
    pub notices: Vec<String>,
    /// How long it runs.
    pub mode: Mode,
    /// Whether the files go to standard output instead of to their places.
    pub dry: bool,
    /// Whether only what would change is shown.
    pub diff: bool,
    /// File that holds the id of the process while it runs.
    pub pid_file: Option<PathBuf>,
    /// How much is logged, as a filter such as `portolan=warn`.
    pub log_level: Option<String>,
    /// Signals that the process obeys.
    pub signals: Signals,
    /// In [`Mode::Once`]: how long a registry that was never heard is waited for; none: for ever.
    pub patience: Option<Duration>,
}

/// How long a renderer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Until it is told to leave.
    #[default]
    Watch,
    /// Until every file is what it should be, once.
    Once,
    /// Not at all: the templates are parsed, and that is all.
    ParseOnly,
}

/// Signals that the other program obeys; all others go to the supervised child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals {
    /// Ends it; none: it does not listen.
    pub end: Option<i32>,
    /// Makes it read its configuration again; none: it does not listen.
    pub reload: Option<i32>,
}

impl Default for Signals {
    /// SIGINT and SIGHUP.
    fn default() -> Self {
        let number = rustix::process::Signal::as_raw;
        Self {
            end: Some(number(rustix::process::Signal::INT)),
            reload: Some(number(rustix::process::Signal::HUP)),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The command line cannot be read.
    #[error("{0}")]
    Arguments(String),
    /// The configuration has problems, each with its place.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of variables are secrets.
        f.debug_struct("Plan")
            .field("text", &self.text)
            .field("variables", &self.variables.keys())
            .field("differences", &self.differences)
            .field("notices", &self.notices)
            .field("mode", &self.mode)
            .field("dry", &self.dry)
            .field("diff", &self.diff)
            .field("pid_file", &self.pid_file)
            .field("log_level", &self.log_level)
            .field("signals", &self.signals)
            .field("patience", &self.patience)
            .finish()
    }
}

//! The configuration: one document, decoded table by table, checked as a whole.
//!
//! Every room owns the struct of its tables; this room finds the tables, decodes each by its own
//! struct, and then looks at what concerns several of them. All problems are told at once.

mod certificates;
mod check;
mod confd;
mod decode;
pub mod document;
mod environment;
mod labels;
mod process;
mod shown;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use check::Prepared;
pub use confd::Installed;
use document::Document;
pub use document::Problem;
pub use process::{Capability, ProcessConfig, Seccomp};
pub use shown::Shown;
pub use tables::{Config, LimitsConfig, NodeConfig, ServiceConfig};

/// Top-level tables that are known.
const KINDS: &[&str] = &[
    "node",
    "process",
    "limits",
    "guard",
    "registry",
    "locality",
    "health",
    "service",
    "dns",
    "certificate",
    "listener",
    "route",
    "access_log",
    "labels",
    "template",
    "group",
    "confd",
    "exec",
    "metadata",
    "haproxy",
    "admin",
    "operations",
    "sticky",
];

/// Largest configuration file.
const SIZE_MAX: u64 = 16 << 20;

/// A configuration that can be started, and what was compiled from it on the way.
#[derive(Debug)]
pub struct Loaded {
    /// As it was written.
    pub config: Config,
    /// Compiled by the rooms.
    pub prepared: Prepared,
}

/// Reads, decodes and checks the configuration in `file`. Blocks on reading it, its templates and
/// `resolv.conf`.
///
/// # Errors
/// Every problem that was found, in the order of the document.
pub fn load(file: &Path) -> Result<Loaded, Vec<Problem>> {
    let name = file.display().to_string();
    let unreadable =
        |message: String| vec![Problem { file: Arc::from(&*name), line: 1, column: 1, message }];
    let text = match std::fs::metadata(file) {
        Ok(found) if found.len() > SIZE_MAX => {
            return Err(unreadable(format!("is larger than {} MiB", SIZE_MAX >> 20)));
        }
        Ok(_) => std::fs::read_to_string(file),
        Err(error) => Err(error),
    };
    let text =
        text.map_err(|error| unreadable(format!("cannot read the configuration: {error}")))?;
    let base_dir = file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    parse(&name, &text, &base_dir, &|variable| std::env::var(variable).ok())
}

/// As [`load`], from a text; relative paths begin at `base_dir`, `${NAME}` is asked of `variable`.
///
/// # Errors
/// Every problem that was found, in the order of the document.
pub fn parse(
    name: &str,
    text: &str,
    base_dir: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Vec<Problem>> {
    let mut document = Document::parse(name, text)?;
    let mut causes = document.substitute(variable);
    causes.extend(document.unknown_kinds(KINDS));
    let mut problems = Vec::new();
    let mut config = Config::decode(&document, base_dir, &mut problems);
    config.shown = shown::shown(text);
    confd::install(&document, &mut config, &mut problems);
    match check::check(&document, &config) {
        Ok(prepared) if causes.is_empty() && problems.is_empty() => {
            return Ok(Loaded { config, prepared });
        }
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    // A string whose variable is not set is often no address or path either, and a value that
    // stands for a whole table does not decode: one cause, one line.
    let place = |problem: &Problem| (problem.line, problem.column);
    problems.retain(|problem| !causes.iter().any(|cause| place(cause) == place(problem)));
    problems.extend(causes);
    problems.sort();
    problems.dedup();
    Err(problems)
}

#[cfg(test)]
mod tests;

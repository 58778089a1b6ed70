//! Runs the renderer by a plan: for ever, once, dry, or only so far as the templates are parsed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{diff, preview, watch};
use crate::app::{App, Options};
use crate::cli::{complain, run, say};
use crate::config::Loaded;
use crate::migrate::{Mode, Plan, Refused};
use crate::render::Resource;
use crate::telemetry::logs;

/// What the process exits with when not all is well; 0 when it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes {
    /// Ended by the signal for that.
    pub(super) interrupted: u8,
    /// The command line cannot be read.
    pub(super) arguments: u8,
    /// A template, a command or the surroundings failed.
    pub(super) failed: u8,
    /// The configuration is wrong.
    pub(super) configuration: u8,
    /// A file would change.
    pub(super) changes: u8,
}

impl Codes {
    /// Those of consul-template.
    pub(super) const CONSUL_TEMPLATE: Self =
        Self { interrupted: 12, arguments: 13, failed: 14, configuration: 15, changes: 1 };
    /// Those of confd.
    pub(super) const CONFD: Self =
        Self { interrupted: 0, arguments: 1, failed: 1, configuration: 1, changes: 0 };
    /// Those of Portolan.
    pub(super) const OWN: Self = Self {
        interrupted: 0,
        arguments: 2,
        failed: 71,
        configuration: super::super::exit::CONFIG,
        changes: 1,
    };
}

/// A configuration that can be started, and how.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) loaded: Loaded,
    pub(super) plan: Plan,
}

/// Reads everything again.
pub(super) type Again<'a> = &'a dyn Fn() -> Result<Job, Refused>;

/// Does `job`; what a signal to reload asks for comes from `again`.
pub(super) fn run(job: Job, again: Again<'_>, codes: Codes) -> ExitCode {
    let Job { loaded, plan } = job;
    if plan.mode == Mode::ParseOnly {
        let count = loaded.prepared.resources.len();
        say(&format!("{count} template{} parsed", if count == 1 { "" } else { "s" }));
        return ExitCode::SUCCESS;
    }
    logs::start_at(plan.log_level.as_deref());
    for notice in &plan.notices {
        tracing::warn!(notice, "a setting has no effect");
    }
    let runtime = match run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string(), codes),
    };
    let _pid = match plan.pid_file.as_deref().map(PidFile::write).transpose() {
        Ok(file) => file,
        Err(why) => return failed(&why, codes),
    };
    let result = if plan.diff {
        runtime.block_on(diff::show(aside(loaded), &plan, codes))
    } else if plan.dry {
        runtime.block_on(preview::dry(aside(loaded), &plan, codes))
    } else {
        runtime.block_on(watch::render(loaded, &plan, again, codes))
    };
    // Threads that still read a template or a file are not waited for.
    runtime.shutdown_background();
    result
}

/// An application that renders nothing by itself, and what it would have rendered.
pub(super) struct Aside {
    pub(super) loaded: Loaded,
    pub(super) resources: Vec<Resource>,
}

fn aside(mut loaded: Loaded) -> Aside {
    let resources = std::mem::take(&mut loaded.prepared.resources);
    loaded.config.exec = None;
    Aside { loaded: alone(loaded), resources }
}

/// `loaded` without anything that another process may hold already: state and admin face.
pub(super) fn alone(mut loaded: Loaded) -> Loaded {
    loaded.config.node.data_dir = None;
    loaded.config.admin = None;
    loaded
}

/// Starts the application.
pub(super) async fn start(loaded: Loaded, codes: Codes) -> Result<App, ExitCode> {
    App::start(loaded, Options::default()).await.map_err(|error| failed(&error.to_string(), codes))
}

/// Tells why it ends, and with which code.
pub(super) fn failed(why: &str, codes: Codes) -> ExitCode {
    complain(&format!("portolan: {why}"));
    ExitCode::from(codes.failed)
}

/// The file with our process id; removed when dropped.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self, String> {
        let text = format!("{}", std::process::id());
        let written: io::Result<()> = std::fs::write(path, text);
        written
            .map_err(|error| format!("cannot write the pid file {}: {error}", path.display()))?;
        Ok(Self(path.to_path_buf()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Whoever replaced it has removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

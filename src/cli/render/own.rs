//! `portolan render --config portolan.toml`: only the templates of a configuration of ours.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::drive::{self, Codes, Job};
use crate::cli::tell;
use crate::config::{self, Loaded};
use crate::migrate::{Mode, Plan, Refused};
use crate::{dns, proxy};

/// A configuration of ours, and how it is rendered.
#[derive(Debug)]
pub(super) struct Own {
    file: PathBuf,
    plan: Plan,
}

impl Own {
    /// Reads arguments that name one `.toml` file; none: they are not for us.
    pub(super) fn read(arguments: &[String]) -> Option<Result<Self, String>> {
        let mut file = None;
        let mut rest = arguments.iter();
        let mut others = Vec::new();
        while let Some(argument) = rest.next() {
            let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
            match flag.map(|flag| flag.split_once('=').unwrap_or((flag, ""))) {
                Some(("config" | "c", "")) => file = rest.next(),
                Some(("config" | "c", _)) => file = argument.split_once('=').map(|_| argument),
                Some((other, value)) => others.push((other.to_owned(), value.to_owned())),
                None => others.push((argument.clone(), String::new())),
            }
        }
        let file = file.map(|file| file.split_once('=').map_or(&**file, |(_, path)| path))?;
        if Path::new(file).extension() != Some("toml".as_ref()) {
            return None;
        }
        let mut plan = Plan { log_level: None, ..Plan::default() };
        for (name, value) in others {
            let on = !matches!(&*value, "false" | "0");
            match &*name {
                "once" if on => plan.mode = Mode::Once,
                "parse-only" if on => plan.mode = Mode::ParseOnly,
                "dry" => plan.dry = on,
                "diff" => plan.diff = on,
                "once" | "parse-only" => {}
                other => {
                    return Some(Err(format!(
                        "`{other}` does not go with a configuration of Portolan; --once, --dry, \
                         --diff and --parse-only do"
                    )));
                }
            }
        }
        Some(Ok(Self { file: file.into(), plan }))
    }

    pub(super) fn run(self) -> ExitCode {
        let loaded = match config::load(&self.file) {
            Ok(loaded) => loaded,
            Err(problems) => {
                tell(&problems);
                return ExitCode::from(Codes::OWN.configuration);
            }
        };
        let again = || {
            let loaded = config::load(&self.file).map_err(|problems| {
                Refused::Configuration(problems.iter().map(ToString::to_string).collect())
            })?;
            Ok(Job { loaded: self.part(loaded), plan: self.plan.clone() })
        };
        let job = Job { loaded: self.part(loaded), plan: self.plan.clone() };
        drive::run(job, &again, Codes::OWN)
    }

    /// What concerns rendering: no names are answered and nothing is carried.
    fn part(&self, mut loaded: Loaded) -> Loaded {
        loaded.config.dns = None;
        loaded.config.listeners.clear();
        loaded.config.routes.clear();
        loaded.prepared.dns = Arc::new(dns::Settings::default());
        loaded.prepared.proxy = Arc::new(proxy::Settings::default());
        if self.plan.mode == Mode::Watch { loaded } else { drive::alone(loaded) }
    }
}

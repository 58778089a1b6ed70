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
        let mut others = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let flag = argument.trim_start_matches('-');
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if matches!(name, "config" | "c") {
                file = value.or_else(|| rest.next().map(String::as_str));
            } else {
                others.push((name, value));
            }
        }
        let file = file?;
        if Path::new(file).extension() != Some("toml".as_ref()) {
            return None;
        }
        let mut plan = Plan { log_level: None, ..Plan::default() };
        for (name, value) in others {
            let on = !matches!(value, Some("false" | "0"));
            match name {
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

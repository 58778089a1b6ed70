//! consul-template's command line.

use std::process::ExitCode;

use super::drive::{self, Codes, Job};
use super::help;
use crate::cli::{complain, say};
use crate::config;
use crate::migrate::consul_template::{Input, Wish, plan};
use crate::migrate::{Plan, Refused};

/// How the configuration is called that a command line came to.
const NAME: &str = "consul-template";

pub(super) fn run(arguments: &[String]) -> ExitCode {
    match wish(arguments) {
        Ok(Wish::Help) => {
            say(help::CONSUL_TEMPLATE.trim_end());
            ExitCode::SUCCESS
        }
        Ok(Wish::Version) => {
            say(&format!("portolan {} (as consul-template)", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Ok(Wish::Render(plan)) => {
            let again = || match wish(arguments)? {
                Wish::Render(plan) => load(*plan),
                Wish::Help | Wish::Version => Err(Refused::Arguments("nothing to render".into())),
            };
            match load(*plan) {
                Ok(job) => drive::run(job, &again, Codes::CONSUL_TEMPLATE),
                Err(refused) => refuse(&refused),
            }
        }
        Err(refused) => refuse(&refused),
    }
}

fn wish(arguments: &[String]) -> Result<Wish, Refused> {
    let directory = std::env::current_dir().map_err(|error| {
        Refused::Arguments(format!("the working directory cannot be told: {error}"))
    })?;
    let variable = |name: &str| std::env::var(name).ok();
    plan(Input { arguments, variable: &variable, directory: &directory })
}

/// The configuration of `plan`, ready to start.
pub(super) fn load(plan: Plan) -> Result<Job, Refused> {
    let variable =
        |name: &str| plan.variables.get(name).cloned().or_else(|| std::env::var(name).ok());
    // Its paths are absolute.
    let loaded = config::parse(NAME, &plan.text, std::path::Path::new("/"), &variable);
    let loaded = loaded.map_err(|problems| {
        // Their places are in a text that nobody has seen.
        let mut told: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        told.push("`portolan migrate consul-template` with the same flags shows the whole".into());
        Refused::Configuration(told)
    })?;
    Ok(Job { loaded, plan })
}

fn refuse(refused: &Refused) -> ExitCode {
    let code = match refused {
        Refused::Arguments(_) => Codes::CONSUL_TEMPLATE.arguments,
        Refused::Configuration(_) => Codes::CONSUL_TEMPLATE.configuration,
    };
    for line in refused.to_string().lines() {
        complain(&format!("consul-template: {line}"));
    }
    if code == Codes::CONSUL_TEMPLATE.arguments {
        complain("see `consul-template -help`, or `portolan render --help`");
    }
    ExitCode::from(code)
}

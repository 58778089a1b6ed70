//! `portolan migrate`: what an installation of another program comes to here.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::{complain, exit, say};
use crate::config;
use crate::migrate::confd;
use crate::migrate::consul_template::{self, Input, Wish};
use crate::migrate::{Plan, Refused};

/// Arguments as they are: each program reads its own.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// `consul-template` or `confd`, and the flags that it is started with.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM FLAGS")]
    arguments: Vec<OsString>,
}

const HELP: &str = "\
Shows what an installation of another program comes to: prints the portolan.toml that does the same,
and above it, as comments, what would differ. Nothing is started or written.

Usage: portolan migrate consul-template [consul-template's flags]
       portolan migrate confd [confd's flags]

  portolan migrate consul-template -config /etc/consul-template.d > portolan.toml
  portolan check --config portolan.toml
  portolan run --config portolan.toml

Secrets are not printed: the configuration names variables that must hold them.
Exits with 0 when the result can be started, with 78 when it cannot; problems go to standard error.
";

impl Migrate {
    pub(super) fn run(self) -> ExitCode {
        let arguments: Option<Vec<String>> =
            self.arguments.into_iter().map(|argument| argument.into_string().ok()).collect();
        let Some(arguments) = arguments else {
            complain("portolan migrate: an argument is no UTF-8");
            return ExitCode::from(2);
        };
        match arguments.split_first() {
            Some((program, rest)) if program == "consul-template" => consul_template(rest),
            Some((program, rest)) if program == "confd" => of_confd(rest),
            Some((program, _)) if matches!(&**program, "-h" | "-help" | "--help") => {
                say(HELP.trim_end());
                ExitCode::SUCCESS
            }
            Some((program, _)) => {
                complain(&format!(
                    "portolan migrate: there is no way from {program:?}; there is one from \
                     consul-template and from confd"
                ));
                ExitCode::from(2)
            }
            None => {
                complain(HELP.trim_end());
                ExitCode::from(2)
            }
        }
    }
}

fn consul_template(arguments: &[String]) -> ExitCode {
    let directory = std::env::current_dir().unwrap_or_default();
    let variable = |name: &str| std::env::var(name).ok();
    let input = Input { arguments, variable: &variable, directory: &directory };
    match consul_template::plan(input) {
        Ok(Wish::Render(plan)) => show(&plan),
        Ok(Wish::Help | Wish::Version) => {
            say(HELP.trim_end());
            ExitCode::SUCCESS
        }
        Err(refused) => refuse(&refused),
    }
}

fn of_confd(arguments: &[String]) -> ExitCode {
    let directory = std::env::current_dir().unwrap_or_default();
    match confd::written_out(arguments, &directory, &|name| std::env::var(name).ok()) {
        Ok(planned) => {
            let code = show(&planned.plan);
            for broken in &planned.broken {
                complain(&broken.to_string());
            }
            if planned.broken.is_empty() { code } else { ExitCode::from(exit::CONFIG) }
        }
        Err(refused) => refuse(&refused),
    }
}

/// Prints `plan` with what would differ, and says whether it could be started.
pub(super) fn show(plan: &Plan) -> ExitCode {
    for (title, lines) in [
        ("What would differ:", &plan.differences),
        ("Settings without effect here:", &plan.notices),
    ] {
        if !lines.is_empty() {
            say(&format!("# {title}"));
            for line in lines {
                say(&format!("# - {line}"));
            }
            say("#");
        }
    }
    for name in plan.variables.keys() {
        say(&format!("# The variable {name} must be set: it holds a secret of the installation."));
    }
    if let Some(file) = &plan.pid_file {
        say(&format!(
            "# `portolan run` writes no pid file ({}); `portolan render` does.",
            file.display()
        ));
    }
    say("");
    say(plan.text.trim_end());
    let variable =
        |name: &str| plan.variables.get(name).cloned().or_else(|| std::env::var(name).ok());
    match config::parse("portolan.toml", &plan.text, Path::new("/"), &variable) {
        Ok(_) => ExitCode::SUCCESS,
        Err(problems) => {
            super::tell(&problems);
            ExitCode::from(exit::CONFIG)
        }
    }
}

fn refuse(refused: &Refused) -> ExitCode {
    for line in refused.to_string().lines() {
        complain(&format!("portolan migrate: {line}"));
    }
    ExitCode::from(match refused {
        Refused::Arguments(_) => 2,
        Refused::Configuration(_) => exit::CONFIG,
    })
}

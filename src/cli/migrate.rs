//! `portolan migrate`: what an installation of another program comes to here.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::{complain, exit, say};
use crate::config;
use crate::migrate::confd;
use crate::migrate::consul_template::{self, Input, Wish};
use crate::migrate::{Plan, Refused, keepalived, marathon_lb};

/// Arguments as they are: each program reads its own.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// `consul-template`, `confd`, `keepalived` or `marathon-lb`, and the flags that it is started with.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM FLAGS")]
    arguments: Vec<OsString>,
}

const HELP: &str = "\
Shows what an installation of another program comes to: prints the portolan.toml that does the same,
and above it, as comments, what would differ. Nothing is started or written.

Usage: portolan migrate consul-template [consul-template's flags]
       portolan migrate confd [confd's flags]
       portolan migrate keepalived [--services] [-i CONFIG-ID] [FILE]
       portolan migrate marathon-lb [sse|poll|event] [marathon-lb's flags]

  portolan migrate consul-template -config /etc/consul-template.d > portolan.toml
  portolan check --config portolan.toml
  portolan run --config portolan.toml

  portolan migrate keepalived /etc/keepalived/keepalived.conf > portolan.toml
  portolan migrate keepalived --services /etc/keepalived/keepalived.conf > services.toml

  portolan migrate marathon-lb sse --marathon http://m1:8080 --group external > portolan.toml

Of keepalived the virtual servers are taken over, with --services their real servers; VRRP stays.
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
            Some((program, rest)) if program == "keepalived" => of_keepalived(rest),
            Some((program, rest)) if program == "marathon-lb" => of_marathon_lb(rest),
            Some((program, _)) if matches!(&**program, "-h" | "-help" | "--help") => {
                say(HELP.trim_end());
                ExitCode::SUCCESS
            }
            Some((program, _)) => {
                complain(&format!(
                    "portolan migrate: there is no way from {program:?}; there is one from \
                     consul-template, from confd, from keepalived and from marathon-lb"
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

fn of_marathon_lb(arguments: &[String]) -> ExitCode {
    let help = |argument: &String| matches!(&**argument, "-h" | "--help" | "--longhelp");
    if arguments.iter().any(help) {
        say(HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    let directory = std::env::current_dir().unwrap_or_default();
    let variable = |name: &str| std::env::var(name).ok();
    let input = marathon_lb::Input { arguments, variable: &variable, directory: &directory };
    match marathon_lb::plan(input) {
        Ok(plan) => show(&plan),
        Err(refused) => refuse(&refused),
    }
}

/// Where keepalived looks when nobody says otherwise.
const KEEPALIVED: &str = "/etc/keepalived/keepalived.conf";

fn of_keepalived(arguments: &[String]) -> ExitCode {
    let (mut file, mut id, mut services) = (None, None, false);
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match &**argument {
            "--services" => services = true,
            "-h" | "--help" => {
                say(HELP.trim_end());
                return ExitCode::SUCCESS;
            }
            flag @ ("-i" | "--config-id" | "-f" | "--use-file") => {
                let Some(value) = left.next() else {
                    complain(&format!("portolan migrate: {flag} needs a value"));
                    return ExitCode::from(exit::USAGE);
                };
                let place = if matches!(flag, "-i" | "--config-id") { &mut id } else { &mut file };
                *place = Some(value.clone());
            }
            other if other.starts_with('-') || file.is_some() => {
                complain(&format!(
                    "portolan migrate: {other:?} is not understood; write it as `portolan migrate \
                     keepalived [--services] [-i CONFIG-ID] [FILE]`"
                ));
                return ExitCode::from(exit::USAGE);
            }
            other => file = Some(other.to_owned()),
        }
    }
    // The first part of the host's name, as keepalived has it.
    let id = id.unwrap_or_else(|| {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        name.split('.').next().unwrap_or_default().to_owned()
    });
    match keepalived::plan(Path::new(file.as_deref().unwrap_or(KEEPALIVED)), &id) {
        Ok(migrated) if services => {
            say(migrated.services.trim_end());
            ExitCode::SUCCESS
        }
        Ok(migrated) => show(&migrated.plan),
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

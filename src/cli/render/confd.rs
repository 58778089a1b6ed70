//! confd's command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::drive::{self, Codes, Job};
use crate::cli::{complain, say};
use crate::config;
use crate::migrate::confd::{Check, Planned, plan};
use crate::migrate::{Plan, Refused};

/// How the configuration is called that a command line came to.
const NAME: &str = "confd";

const HELP: &str = "\
Renders files from keys, and tells their readers. Takes the resources, templates, configuration file
and flags of confd as they are, of 0.16 and of today's; also when the binary is called `confd`.

Usage: portolan render --confd DIR [flags]           as confd, with DIR in place of /etc/confd
       confd [backend] [flags]                       the same, when the binary is called so
       portolan migrate confd [flags]                shows the portolan.toml that does the same

  portolan render --confd /etc/confd -backend consul -node 127.0.0.1:8500 -onetime
  confd consul --node 127.0.0.1:8500 --watch
  confd env --onetime
  confd file --file /etc/app/values.yaml --noop --diff

Backends: catalog (the services that Consul at -node knows), env, file, consul (its keys).

  -confdir=DIR  -config-file=FILE  -prefix=PATH  -node=ADDRESS (repeatable)  -scheme=http|https
  -onetime                      renders everything once, and exits
  -noop  -diff                  shows what would change; writes and runs nothing
  -check-config  -validate      reads resources and templates, and exits; -resource=FILE for one
  -validate -mock-data=FILE     renders with the keys of a JSON or YAML file, and shows it
  -preflight                    asks the backend for what is needed, and exits
  -prefix-rule=concatenate|replace   what the prefix of a resource does to -prefix: by default as
                                today's confd does when the backend is a command, as 0.16 for -backend
  -sync-only                    runs neither checks nor reloads
  -debounce=TIME  -batch-interval=TIME  -check-cmd-timeout=TIME  -reload-cmd-timeout=TIME
  -backend-timeout=TIME         how long -onetime waits for the backend (30s)
  -client-ca-keys=FILE  -client-cert=FILE  -client-key=FILE  -basic-auth  -username  -password
  -file=PATH (repeatable)  -filter=PATTERN      of the backend file
  -log-level=debug|info|warn|error  -version

Every other flag of confd is taken, and a line of the log says why it has no effect. Changes are
followed at once, with -watch and without. docs/confd.md has the table.

Signals: SIGHUP reads everything again; SIGINT and SIGTERM end with 0.
Exit codes: 0 well; 1 otherwise.
";

pub(super) fn run(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|argument| matches!(&**argument, "-h" | "-help" | "--help")) {
        say(HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    let read = || -> Result<(Planned, PathBuf), Refused> {
        let directory = std::env::current_dir().map_err(|error| {
            Refused::Arguments(format!("the working directory cannot be told: {error}"))
        })?;
        let planned = plan(&in_place(arguments), &directory, &|name| std::env::var(name).ok())?;
        Ok((planned, directory))
    };
    let result = read().and_then(|(planned, directory)| match planned.check {
        Check::Version => {
            say(&format!("portolan {} (as confd)", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        Check::Configuration => {
            let resource = planned.resource.clone();
            load(planned.plan, &directory).map(|job| check(&job, resource.as_deref()))
        }
        Check::None => {
            let again = || {
                let (planned, directory) = read()?;
                load(planned.plan, &directory)
            };
            Ok(drive::run(load(planned.plan, &directory)?, &again, Codes::CONFD))
        }
    });
    result.unwrap_or_else(|refused| {
        for line in refused.to_string().lines() {
            complain(&format!("confd: {line}"));
        }
        ExitCode::from(Codes::CONFD.arguments)
    })
}

/// `--confd DIR` as confd itself says it.
fn in_place(arguments: &[String]) -> Vec<String> {
    let own = |argument: &String| {
        let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        match flag.map(|flag| flag.split_once('=').unwrap_or((flag, ""))) {
            Some(("confd", "")) => "-confdir".to_owned(),
            Some(("confd", directory)) => format!("-confdir={directory}"),
            _ => argument.clone(),
        }
    };
    arguments.iter().map(own).collect()
}

/// The configuration of `plan`, ready to start.
fn load(plan: Plan, directory: &Path) -> Result<Job, Refused> {
    let variable =
        |name: &str| plan.variables.get(name).cloned().or_else(|| std::env::var(name).ok());
    let loaded = config::parse(NAME, &plan.text, directory, &variable).map_err(|problems| {
        // Their places are in a text that nobody has seen.
        Refused::Configuration(problems.into_iter().map(|problem| problem.message).collect())
    })?;
    Ok(Job { loaded, plan })
}

/// Tells which resources are broken; of one file only, when it is named.
fn check(job: &Job, file: Option<&str>) -> ExitCode {
    let wanted = |name: &str| {
        file.is_none_or(|file| Path::new(file).file_stem().is_some_and(|stem| stem == name))
    };
    let resources = job.loaded.prepared.resources.iter().filter(|resource| wanted(&resource.name));
    let (mut fine, mut broken) = (0, 0);
    for resource in resources {
        match &resource.broken {
            None => fine += 1,
            Some(why) => {
                broken += 1;
                complain(&format!("confd: {}: {why}", resource.name));
            }
        }
    }
    if let (0, 0, Some(file)) = (fine, broken, file) {
        complain(&format!("confd: there is no resource {file}"));
        return ExitCode::from(Codes::CONFD.configuration);
    }
    say(&format!("{fine} resource{} without problems", if fine == 1 { "" } else { "s" }));
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::from(Codes::CONFD.configuration) }
}

//! The command line: one file per command.

mod ask;
mod confine;
mod demo;
mod drain;
mod migrate;
mod ready;
mod reload;
mod render;
mod run;
mod upgrade;
mod why;
mod why_url;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{self, Loaded, Problem};

pub use render::by_name;

/// What the process was asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve what a configuration says, until SIGTERM.
    ///
    /// SIGHUP reads the configuration again; one with an error changes nothing. SIGUSR2 puts a new
    /// process in this one's place, as `portolan upgrade` does. SIGTERM or Ctrl-C
    /// drains: no new connections, what runs may finish until `[limits] drain`; a second one ends
    /// at once. Logs go to standard error, as text on a terminal and as JSON otherwise; the
    /// variable PORTOLAN_LOG says how much (info, debug, portolan::dns=trace …).
    Run(Source),
    /// Tell every problem of a configuration, each as file:line:column, and exit with 78 if there
    /// is one. Nothing is started or bound.
    Check(Source),
    /// Show it: three small backends, DNS, an HTTP listener and a rendered file, with one backend
    /// leaving and coming back every 20 seconds. Needs no configuration and leaves nothing behind.
    Demo(demo::Demo),
    /// Render the files of templates and nothing else: by the flags and configuration files of
    /// consul-template or confd, or by a configuration of Portolan.
    ///
    /// The binary does the same when it is called `consul-template` or `confd`.
    #[command(disable_help_flag = true)]
    Render(render::Render),
    /// Show what an installation of another program comes to: the configuration of Portolan that
    /// does the same, and what would differ. Nothing is started or written.
    #[command(disable_help_flag = true)]
    Migrate(migrate::Migrate),
    /// Tell why a service answers as it does: each instance, eligible or not, by whose word, since
    /// when, and its last ten transitions. Or why a request goes where it goes: its route and why
    /// it won, and each endpoint. Asks the running process.
    Why(why::Why),
    /// Ask a running process to read its configuration again, and tell what it said.
    Reload(Source),
    /// Put another version of the program in the place of the running process, with every socket and
    /// all that it knows: nobody is refused, nothing is lost.
    ///
    /// Tells what came of it, and exits with 0 when the new process serves. When it refuses its
    /// configuration, crashes or is silent for `[process] upgrade_timeout`, the running one goes on as
    /// before and the exit code is 69. SIGUSR2 to the running process does the same.
    Upgrade(upgrade::Upgrade),
    /// Drain an instance, or a node with all its instances: clients that are bound to it stay, no
    /// new ones come, and what runs ends by itself.
    ///
    /// `portolan drain web-1 --wait && docker stop web-1` loses no request. Nothing is cut unless
    /// --deadline says when. It stays drained, over restarts too, until it is undone by --undo or
    /// `portolan ready`, or its instance has been gone for `[operations] forget`.
    Drain(drain::Drain),
    /// Take an instance, or a node with all its instances, out: no work at all, as if it failed its
    /// checks; also clients that are bound to it go elsewhere. What runs ends by itself.
    Maintenance(drain::Maintenance),
    /// Give an instance, or every instance of a node, another share of the work than its registry
    /// says: `portolan weight web-1 10`.
    Weight(drain::Weight),
    /// Tell whether the process is ready to carry, by the exit status; or undo drain or maintenance of
    /// an instance or a node.
    ///
    /// Without ID and --node the running process is asked whether it is ready: for the scripts of
    /// keepalived, for directors, for container engines. Nothing is printed when it is.
    #[command(after_help = ready::STATUSES)]
    Ready(ready::Ready),
    /// List what operators have said and what runs there, and who has left and still has work.
    Operations(drain::Operations),
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/portolan/portolan.toml")]
    config: PathBuf,
}

/// Exit codes of `sysexits.h`, for init systems and scripts.
mod exit {
    /// The configuration is wrong.
    pub(super) const CONFIG: u8 = 78;
    /// The operating system refused something.
    pub(super) const OS: u8 = 71;
    /// Somebody else is not there or refused.
    pub(super) const UNAVAILABLE: u8 = 69;
    /// The command line cannot be read.
    pub(super) const USAGE: u8 = 2;
    /// It is not done yet; asking again may help.
    pub(super) const NOT_YET: u8 = 75;
}

impl Command {
    /// Does it, and returns what the process exits with.
    #[must_use]
    pub fn execute(self) -> ExitCode {
        match self {
            Self::Run(source) => run::run(&source.config),
            Self::Check(source) => check(&source.config),
            Self::Demo(demo) => demo.run(),
            Self::Render(render) => render.run(),
            Self::Migrate(migrate) => migrate.run(),
            Self::Why(why) => why.run(),
            Self::Reload(source) => reload::reload(&source.config),
            Self::Upgrade(upgrade) => upgrade.run(),
            Self::Drain(drain) => drain.run(),
            Self::Maintenance(maintenance) => maintenance.run(),
            Self::Weight(weight) => weight.run(),
            Self::Ready(ready) => ready.run(),
            Self::Operations(operations) => operations.run(),
        }
    }
}

fn check(file: &Path) -> ExitCode {
    match load(file) {
        Ok(loaded) => {
            // They cost themselves only, and are no reason not to start.
            for resource in &loaded.prepared.resources {
                if let Some(why) = &resource.broken {
                    complain(&format!("[template.{}] is left out: {why}", resource.name));
                }
            }
            say(&format!("{}: no problems", file.display()));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Loads `file`, or tells every problem and returns the exit code for it.
fn load(file: &Path) -> Result<Loaded, ExitCode> {
    config::load(file).map_err(|problems| {
        tell(&problems);
        ExitCode::from(exit::CONFIG)
    })
}

fn tell(problems: &[Problem]) {
    let count = problems.len();
    for problem in problems {
        complain(&problem.to_string());
    }
    complain(&format!("{count} problem{} in the configuration", if count == 1 { "" } else { "s" }));
}

/// A line for whoever started us. A closed pipe is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line about what went wrong.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

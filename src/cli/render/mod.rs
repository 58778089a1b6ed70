//! `portolan render`: only the renderer, by the command line of another program or by a
//! configuration of ours; also when the binary bears the name of that program.

mod confd;
mod consul_template;
mod diff;
mod drive;
mod help;
mod own;
mod preview;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::complain;

/// The arguments as they are: each program reads its own.
#[derive(Debug, clap::Args)]
pub struct Render {
    /// Flags of consul-template, or of Portolan: `portolan render --help` tells them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    arguments: Vec<OsString>,
}

impl Render {
    pub(super) fn run(self) -> ExitCode {
        match texts(self.arguments) {
            Ok(arguments) => render(&arguments),
            Err(code) => code,
        }
    }
}

/// Does what the program would do whose name the binary bears; none: it bears its own.
///
/// The names are `consul-template` and `confd`, with any directory before them.
#[must_use]
pub fn by_name(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let called = arguments.next()?;
    let run: fn(&[String]) -> ExitCode = match Path::new(&called).file_name()?.to_str()? {
        "consul-template" => consul_template::run,
        "confd" => confd::run,
        _ => return None,
    };
    Some(match texts(arguments) {
        Ok(arguments) => run(&arguments),
        Err(code) => code,
    })
}

/// Chooses by the arguments whose they are.
fn render(arguments: &[String]) -> ExitCode {
    if names_flag(arguments, "confd") {
        return confd::run(arguments);
    }
    if let Some(own) = own::Own::read(arguments) {
        return own.map_or_else(
            |why| {
                complain(&format!("portolan render: {why}"));
                ExitCode::from(drive::Codes::OWN.arguments)
            },
            own::Own::run,
        );
    }
    consul_template::run(arguments)
}

/// Whether one of `arguments` is this flag, with one dash or two.
fn names_flag(arguments: &[String], name: &str) -> bool {
    arguments.iter().any(|argument| {
        let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        flag.is_some_and(|flag| flag.split('=').next() == Some(name))
    })
}

/// Arguments that are no text are refused: they become a part of a configuration.
fn texts(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, ExitCode> {
    arguments.into_iter().map(OsString::into_string).collect::<Result<_, _>>().map_err(|argument| {
        complain(&format!("portolan render: the argument {} is no UTF-8", argument.display()));
        ExitCode::from(drive::Codes::OWN.arguments)
    })
}

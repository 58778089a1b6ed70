//! `[exec]`: one child that is started when the files are there, told when they change, and whose
//! end is ours.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::functions::glob;
use super::writing::SignalName;
use crate::exec::CommandLine;
use crate::random;
use crate::units::Period;

/// Pause before a child that ended is started again; each further end doubles it.
const RESTART_MIN: Duration = Duration::from_secs(1);
/// Longest pause before a start.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// A child that ran for so long did not fail at its start.
const STEADY: Duration = Duration::from_secs(60);
/// What a child that cannot be started ends with, as shells say it.
const NOT_STARTED: u8 = 127;

/// `[exec]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program. It is started once every file is what it should be.
    pub command: CommandLine,
    /// Longest random delay before it is told of a change, against herds.
    #[serde(default = "none")]
    pub splay: Period,
    /// What asks it to end.
    #[serde(default = "term")]
    pub kill_signal: SignalName,
    /// How long it may take for that; then it is killed with its process group.
    #[serde(default = "half_a_minute")]
    pub kill_timeout: Period,
    /// What tells it of a change; none: it is ended and started again.
    #[serde(default)]
    pub reload_signal: Option<SignalName>,
    /// What follows when it ends by itself.
    #[serde(default)]
    pub restart: Restart,
    /// What of our environment it sees.
    #[serde(default)]
    pub env: EnvConfig,
}

/// What follows when the child ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// We end too, with its exit code.
    #[default]
    Never,
    /// It is started again unless it ended well.
    OnFailure,
    /// It is started again.
    Always,
}

/// `env` of `[exec]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvConfig {
    /// Nothing of our environment; only `custom`.
    pub pristine: bool,
    /// Variables as `NAME=value`; they win over ours and over `allow` and `deny`.
    pub custom: Vec<String>,
    /// Only ours whose names match one of these globs; all when it is empty.
    pub allow: Vec<String>,
    /// None of ours whose names match one of these globs.
    pub deny: Vec<String>,
}

impl EnvConfig {
    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let unfit =
            |variable: &&String| variable.split_once('=').is_none_or(|(name, _)| name.is_empty());
        self.custom.iter().find(unfit).map(|variable| {
            let name = variable.split('=').next().unwrap_or_default();
            format!("`custom` has {name:?} without a value; write it like \"NAME=value\"")
        })
    }

    /// The environment of the child, out of `ours`.
    fn of(&self, ours: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
        let any = |globs: &[String], name: &OsStr| {
            let name = name.to_string_lossy();
            globs.iter().any(|pattern| glob(pattern, &name))
        };
        let kept = ours.filter(|(name, _)| {
            !self.pristine
                && (self.allow.is_empty() || any(&self.allow, name))
                && !any(&self.deny, name)
        });
        let custom = self.custom.iter().filter_map(|variable| variable.split_once('='));
        kept.chain(custom.map(|(name, value)| (name.into(), value.into()))).collect()
    }
}

/// What a supervised child is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A file has changed.
    Reload,
    /// Pass this signal on.
    Signal(Signal),
    /// End, within the time for that.
    End,
}

/// How the life of a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself: we end with this code.
    Itself(u8),
    /// Because it was told to.
    Told,
}

/// Runs the child of `config` until it ends for good or nobody gives orders any more.
///
/// Each start and end is logged. A child that cannot be started has ended with 127, one that a
/// signal ended with 128 and its number. Its process group is its own.
pub async fn supervise(config: &ExecConfig, orders: &mut mpsc::Receiver<Order>) -> Ended {
    let mut pause = RESTART_MIN;
    loop {
        let start = Instant::now();
        let outcome = match spawn(config) {
            Ok(mut child) => life(&mut child, config, orders).await,
            Err(error) => {
                tracing::error!(command = %config.command, %error, "the child cannot be started");
                Outcome::Ended(NOT_STARTED)
            }
        };
        let code = match outcome {
            Outcome::Again => continue,
            Outcome::Told => return Ended::Told,
            Outcome::Ended(code) => code,
        };
        let again = match config.restart {
            Restart::Never => false,
            Restart::OnFailure => code != 0,
            Restart::Always => true,
        };
        if !again {
            return Ended::Itself(code);
        }
        if start.elapsed() >= STEADY {
            pause = RESTART_MIN;
        }
        let until = Instant::now() + pause;
        pause = (pause * 2).min(RESTART_MAX);
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                order = orders.recv() => match order {
                    None | Some(Order::End) => return Ended::Told,
                    // A new file may be what it was missing.
                    Some(Order::Reload) => break,
                    Some(Order::Signal(_)) => {}
                },
            }
        }
    }
}

/// What became of one process.
enum Outcome {
    Ended(u8),
    /// It was ended for a change.
    Again,
    Told,
}

fn spawn(config: &ExecConfig) -> io::Result<Child> {
    let environment = config.env.of(std::env::vars_os());
    let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let mut command = match &config.command {
        // A shell between would take signals, and our end of the child, for itself.
        CommandLine::Shell(line) if is_one_program(line, &path) => {
            CommandLine::Shell(format!("exec {line}")).command()
        }
        line => line.command(),
    };
    command.env_clear().envs(environment);
    let child = command.process_group(0).kill_on_drop(true).spawn()?;
    tracing::info!(pid = child.id(), command = %config.command, "the child runs");
    Ok(child)
}

/// Whether `line` is one program with its arguments, and nothing that a shell has to stay for.
fn is_one_program(line: &str, path: &OsStr) -> bool {
    let mut bare = String::new();
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            ('\\', None | Some('"')) => drop(chars.next()),
            (_, Some('\'')) => {}
            // Within double quotes a shell still runs commands.
            ('`', _) => return false,
            (c, Some(_)) if c != '$' => {}
            (c, _) => bare.push(c),
        }
    }
    if bare.contains([';', '&', '|', '<', '>', '(', ')', '{', '}', '\n']) || bare.contains("$(") {
        return false;
    }
    let program = line.split_whitespace().next().unwrap_or_default();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
    program.chars().all(plain)
        && (program.contains('/')
            || std::env::split_paths(path).any(|folder| folder.join(program).is_file()))
}

async fn life(
    child: &mut Child,
    config: &ExecConfig,
    orders: &mut mpsc::Receiver<Order>,
) -> Outcome {
    // When it is to be told of a change; changes until then are told together.
    let mut tell_at: Option<Instant> = None;
    loop {
        let due = async {
            match tell_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            status = child.wait() => return Outcome::Ended(ended(status)),
            order = orders.recv() => match order {
                None | Some(Order::End) => {
                    end(child, config, orders).await;
                    return Outcome::Told;
                }
                Some(Order::Signal(signal)) => send(child, signal),
                Some(Order::Reload) => {
                    tell_at.get_or_insert_with(|| Instant::now() + splayed(config.splay.0));
                }
            },
            () = due => {
                tell_at = None;
                if let Some(signal) = config.reload_signal {
                    tracing::info!(%signal, "the child is told of a change");
                    send(child, signal.0);
                } else {
                    tracing::info!("the child is started again for a change");
                    if end(child, config, orders).await == Some(Order::End) {
                        return Outcome::Told;
                    }
                    return Outcome::Again;
                }
            }
        }
    }
}

/// Asks the child to end, and kills its group when it takes too long; other signals are passed on
/// meanwhile. Returns the order to end when one came.
async fn end(
    child: &mut Child,
    config: &ExecConfig,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<Order> {
    send(child, config.kill_signal.0);
    let deadline = sleep(config.kill_timeout.0);
    tokio::pin!(deadline);
    let mut told = None;
    let mut listening = true;
    loop {
        tokio::select! {
            status = child.wait() => {
                let _ = ended(status);
                return told;
            }
            order = orders.recv(), if listening => match order {
                Some(Order::Signal(signal)) => send(child, signal),
                Some(Order::Reload) => {}
                Some(Order::End) => told = Some(Order::End),
                None => {
                    listening = false;
                    told = Some(Order::End);
                }
            },
            () = &mut deadline => {
                tracing::warn!(
                    seconds = config.kill_timeout.0.as_secs_f64(),
                    "the child did not end in time and is killed"
                );
                send(child, Signal::KILL);
                let _ = ended(child.wait().await);
                return told;
            }
        }
    }
}

/// Sends `signal` to the group of the child, if it still runs.
fn send(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(id) = id {
        // It may end in this very moment.
        let _ = kill_process_group(id, signal);
    }
}

/// The code that stands for how it ended.
fn ended(status: io::Result<ExitStatus>) -> u8 {
    match status {
        Ok(status) => {
            tracing::info!(%status, "the child has ended");
            let by_signal = || status.signal().map_or(1, |signal| 128 + signal);
            u8::try_from(status.code().unwrap_or_else(by_signal)).unwrap_or(1)
        }
        Err(error) => {
            tracing::error!(%error, "how the child ended cannot be told");
            1
        }
    }
}

fn splayed(splay: Duration) -> Duration {
    let millis = u64::try_from(splay.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 { Duration::ZERO } else { Duration::from_millis(random::bits() % millis) }
}

const fn none() -> Period {
    Period::from_millis(0)
}

const fn half_a_minute() -> Period {
    Period::from_secs(30)
}

const fn term() -> SignalName {
    SignalName(Signal::TERM)
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;

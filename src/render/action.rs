//! How a reader is told that its file changed: a command, a signal or a request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use rustix::io::Errno;
use rustix::process::{Pid, kill_process};

use super::journal::Identity;
use super::resource::ResourceConfig;
use super::stage::sha256;
use super::writing::{SignalName, Url};
use crate::exec::{self, CommandLine, Files, Terms};
use crate::net::http::{Client, Request, Settings};

/// How long a command that took too long may take to end by SIGTERM before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// Largest file with the number of a process.
const PID_FILE_MAX: u64 = 64;
/// Most of an answer that is read, and shown.
const ANSWER_MAX: u64 = 64 << 10;
const SHOWN_MAX: usize = 400;

/// One way to tell one reader. Equal ones are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Command(CommandLine),
    Signal { pid_file: PathBuf, signal: SignalName },
    Request(Box<Asking>),
}

/// A request to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asking {
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: String,
}

impl Action {
    /// What `config` states for the file at `destination`, if anything; relative paths begin at
    /// `base_dir`.
    pub(super) fn of(config: &ResourceConfig, destination: &Path, base_dir: &Path) -> Option<Self> {
        if let Some(command) = &config.reload {
            let files = Files { source: None, destination: Some(destination) };
            return Some(Self::Command(command.with(files)));
        }
        if let Some(told) = &config.reload_signal {
            let pid_file = base_dir.join(&told.pid_file);
            return Some(Self::Signal { pid_file, signal: told.signal });
        }
        let told = config.reload_http.as_ref()?;
        // Both were looked at with the configuration.
        let (method, url) = told.target().ok()?;
        let (url, headers, body) = (url.clone(), told.headers().ok()?, told.body.clone());
        Some(Self::Request(Box::new(Asking { method, url, headers, body })))
    }

    /// What it is, for comparisons across restarts: a hash, for it may hold secrets.
    pub(super) fn identity(&self) -> Identity {
        let mut parts: Vec<&[u8]> = Vec::new();
        let (port, name);
        match self {
            Self::Command(CommandLine::Shell(text)) => parts.extend([b"shell", text.as_bytes()]),
            Self::Command(CommandLine::Words(words)) => {
                parts.push(b"words");
                parts.extend(words.iter().map(String::as_bytes));
            }
            Self::Signal { pid_file, signal } => {
                name = signal.to_string();
                let path = pid_file.as_os_str().as_encoded_bytes();
                parts.extend([b"signal", path, name.as_bytes()]);
            }
            Self::Request(asking) => {
                port = format!("{} {}", asking.url.origin.tls(), asking.url.origin.port());
                let host = asking.url.origin.host().as_bytes();
                let method = asking.method.as_str().as_bytes();
                parts.extend([b"http", method, port.as_bytes(), host, asking.url.path.as_bytes()]);
                let headers = asking.headers.iter();
                parts.extend(headers.flat_map(|(name, value)| [name.as_ref(), value.as_bytes()]));
                parts.push(asking.body.as_bytes());
            }
        }
        // The lengths make a list of parts out of what could be cut in several ways.
        let mut told = Vec::new();
        for part in parts {
            told.extend_from_slice(&(part.len() as u64).to_be_bytes());
            told.extend_from_slice(part);
        }
        sha256(&told)[..32].into()
    }

    /// Tells the reader, within `limit`.
    ///
    /// # Errors
    /// How it went wrong, as the end of a sentence about the reload.
    pub(super) async fn run(&self, client: Option<&Client>, limit: Duration) -> Result<(), String> {
        match self {
            Self::Command(line) => {
                let terms = Terms { grace: GRACE, ..Terms::within(limit) };
                exec::run_line(line, terms).await.map(drop).map_err(|failure| failure.to_string())
            }
            Self::Signal { pid_file, signal } => {
                let (pid_file, signal) = (pid_file.clone(), *signal);
                let sent = tokio::task::spawn_blocking(move || send(&pid_file, signal)).await;
                sent.unwrap_or_else(|error| Err(format!("failed: {error}")))
            }
            Self::Request(asking) => match client {
                Some(client) => asking.send(client, limit).await,
                None => Err("failed: there is no client for it".to_owned()),
            },
        }
    }

    /// The client of a request, which keeps its connection.
    pub(super) fn client(&self) -> Option<Client> {
        match self {
            Self::Request(asking) => {
                let settings = Settings { connections_max: 1, ..Settings::default() };
                Some(Client::new(asking.url.origin.clone(), settings))
            }
            Self::Command(_) | Self::Signal { .. } => None,
        }
    }
}

/// In a few words and without secrets.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(_) => write!(f, "command"),
            Self::Signal { pid_file, signal } => write!(f, "{signal} by {}", pid_file.display()),
            Self::Request(asking) => {
                write!(f, "{} to {}", asking.method, asking.url.origin.authority())
            }
        }
    }
}

impl Asking {
    async fn send(&self, client: &Client, limit: Duration) -> Result<(), String> {
        let request = Request {
            method: self.method.clone(),
            headers: self.headers.clone(),
            body: Bytes::from(self.body.clone()),
            head_within: limit,
            body_within: limit,
            silence_max: limit,
            body_max: ANSWER_MAX,
            ..Request::get(self.url.path.clone())
        };
        let whom = self.url.origin.authority();
        let sent = tokio::time::timeout(limit, client.send(request)).await;
        let reply = sent
            .map_err(|_| format!("had no answer from {whom} within {limit:?}"))?
            .map_err(|error| format!("could not ask {whom}: {error}"))?;
        if reply.status.is_success() {
            return Ok(());
        }
        let said: String = String::from_utf8_lossy(&reply.body).chars().take(SHOWN_MAX).collect();
        let said = said.trim();
        let status = reply.status;
        Err(match said {
            "" => format!("was answered with {status} by {whom}"),
            said => format!("was answered with {status} by {whom}: {said}"),
        })
    }
}

/// Sends the signal to the process whose number stands in the file.
fn send(pid_file: &Path, signal: SignalName) -> Result<(), String> {
    use std::io::Read as _;

    let path = pid_file.display();
    let mut text = String::new();
    std::fs::File::open(pid_file)
        .and_then(|file| file.take(PID_FILE_MAX).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {path}: {error}; does the reader run?"))?;
    let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
    let pid = number.filter(|number: &i32| *number > 0).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("finds no number of a process in {path}"))?;
    kill_process(pid, signal.0).map_err(|error| match error {
        Errno::SRCH => {
            format!("finds no process {pid}, which {path} names; does the reader run?")
        }
        error => format!("cannot send {signal} to process {pid} of {path}: {error}"),
    })
}

#[cfg(test)]
#[path = "action_tests.rs"]
mod tests;

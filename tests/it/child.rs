//! The real binary as a child of this process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::clients::get_by_socket;
use crate::support::{PATIENCE, until, within};

/// The binary under test.
pub(crate) const PORTOLAN: &str = env!("CARGO_BIN_EXE_portolan");

/// A child that runs. Dropping it kills it, and nobody else.
pub(crate) struct Running {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
}

/// How a child ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that runs the binary with nothing of this process's environment that it would mind.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PORTOLAN);
    command.args(arguments);
    command
}

/// Runs the binary to its end.
pub(crate) async fn portolan(arguments: &[&str]) -> Ended {
    let mut command = command(arguments);
    let output = within("portolan", quiet(&mut command).output()).await.unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    for variable in ["LISTEN_PID", "LISTEN_FDS", "PORTOLAN_LOG"] {
        command.env_remove(variable);
    }
    command.kill_on_drop(true)
}

impl Running {
    /// Starts `portolan run` by the configuration in `file`.
    pub(crate) async fn start(file: &Path) -> Self {
        let running = Self::spawn(command(&["run", "--config", file.to_str().unwrap()]));
        running.logged("serving").await;
        running
    }

    /// Starts any command, and reads what it writes.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let command = quiet(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        tokio::spawn(read(child.stdout.take().unwrap(), Arc::clone(&sender)));
        tokio::spawn(read(child.stderr.take().unwrap(), sender));
        Self { child, lines }
    }

    /// Returns once its admin face, asked by this socket, calls it ready.
    pub(crate) async fn ready(&self, socket: &Path) {
        let ready = async || (get_by_socket(socket, "/readyz").await.status == 200).then_some(());
        until("ready", ready).await;
    }

    /// The first line that is `wanted`, now or later.
    pub(crate) async fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.found(what, |lines| lines.iter().find(|line| wanted(line)).cloned()).await
    }

    /// The first log line with this message.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        self.logged_after(0, message).await
    }

    /// The first log line with this message behind `skipped` others of it.
    pub(crate) async fn logged_after(&self, skipped: usize, message: &str) -> Value {
        self.found(message, |lines| {
            let logs = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            logs.filter(|log| log["message"] == message).nth(skipped)
        })
        .await
    }

    /// What `find` finds among its lines, now or later. Whoever waits in vain is told all of them.
    async fn found<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let mut lines = self.lines.clone();
        let wait = tokio::time::timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some()));
        let waited = wait.await.unwrap_or_else(|_| {
            panic!("{what}: waited in vain for {PATIENCE:?}; it said {:#?}", self.said())
        });
        // An error says that it has ended.
        let found = waited.ok().and_then(|lines| find(&lines));
        found.unwrap_or_else(|| panic!("no {what:?}; it ended with {:#?}", self.said()))
    }

    /// Where the listener called `name` listens; DNS is called `dns`.
    pub(crate) async fn address(&self, name: &str) -> SocketAddr {
        let of = |line: &str| {
            let log: Value = serde_json::from_str(line).ok()?;
            let named = log["message"] == "listening" && log["listener"] == name;
            let admin = log["message"] == "the admin face is listening" && name == "admin";
            (named || admin).then(|| log["address"].as_str().unwrap().parse().unwrap())
        };
        of(&self.line(name, |line| of(line).is_some()).await).unwrap()
    }

    /// Everything that it wrote so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end, by itself; what it started may write on.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        within("the end of the process", self.child.wait()).await.unwrap()
    }

    /// Waits for its end, by itself, and for its last line.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = within("the end of the process", self.child.wait()).await.unwrap();
        let mut lines = self.lines.clone();
        within("the end of its output", async { while lines.changed().await.is_ok() {} }).await;
        status
    }
}

async fn read(from: impl AsyncRead + Unpin, to: Arc<watch::Sender<Vec<String>>>) {
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        to.send_modify(|all| all.push(line));
    }
}

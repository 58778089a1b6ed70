//! Commands of the configuration: run by a shell or without one, in a process group of their own,
//! for a time.

mod command_line;
pub mod reap;

use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{fmt, io};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

pub use command_line::{CommandLine, Files};

/// What is kept of a command's output: its end, where the reason usually stands.
const OUTPUT_MAX: usize = 4096;
/// How long output is read on after the command has ended: what it started may hold it open.
const AFTERMATH: Duration = Duration::from_millis(100);

/// How a command failed.
#[derive(Debug)]
pub enum Failure {
    /// It could not be started.
    Start(io::Error),
    /// It ended with another status than 0, after this output.
    Ended(ExitStatus, String),
    /// It was killed after so long, and this output.
    TimedOut(Duration, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = match self {
            Self::Start(error) => return write!(f, "could not be started: {error}"),
            Self::Ended(status, output) => {
                write!(f, "failed with {status}")?;
                output
            }
            Self::TimedOut(limit, output) => {
                write!(f, "did not end within {limit:?} and was killed")?;
                output
            }
        };
        match output.trim() {
            "" => Ok(()),
            output => write!(f, ": {output}"),
        }
    }
}

/// How a command is run, apart from what it is.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Variables in its environment, beside our own.
    pub environment: &'a [(&'a str, &'a str)],
    /// Longest time; then its process group is told to end.
    pub limit: Duration,
    /// How long the group may take to end by SIGTERM before it is killed; zero kills at once.
    pub grace: Duration,
}

impl Terms<'_> {
    /// At most for `limit`, then killed at once, in our environment.
    #[must_use]
    pub const fn within(limit: Duration) -> Self {
        Self { environment: &[], limit, grace: Duration::ZERO }
    }
}

/// Runs `command` by `sh -c` for at most `limit`; then its whole process group is killed, as it is
/// when this future is dropped. Output is read to the end and its last 4 KiB are kept.
///
/// # Errors
/// As [`run_with`].
pub async fn run(command: &str, limit: Duration) -> Result<(), Failure> {
    run_with(command, &[], limit).await.map(drop)
}

/// As [`run`], with these variables in its environment; gives the output of a success too.
///
/// # Errors
/// It could not be started, ended with another status than 0, or did not end in time.
pub async fn run_with(
    command: &str,
    environment: &[(&str, &str)],
    limit: Duration,
) -> Result<String, Failure> {
    let terms = Terms { environment, ..Terms::within(limit) };
    run_line(&CommandLine::from(command), terms).await
}

/// Runs `line` in a process group of its own on these `terms`; gives the last 4 KiB of what it
/// wrote. The group is killed when this future is dropped. What it leaves behind on purpose, as a
/// daemon, lives on when it ends in time.
///
/// # Errors
/// It could not be started, ended with another status than 0, or did not end in time.
pub async fn run_line(line: &CommandLine, terms: Terms<'_>) -> Result<String, Failure> {
    let (reader, writer) = io::pipe().map_err(Failure::Start)?;
    let mut reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(Failure::Start)?;
    let both = writer.try_clone().map_err(Failure::Start)?;
    let mut command = line.command();
    command.process_group(0).kill_on_drop(true).envs(terms.environment.iter().copied());
    command.stdin(Stdio::null()).stdout(both).stderr(writer);
    let mut child = command.spawn().map_err(Failure::Start)?;
    // It holds our ends of the pipe, which would never end otherwise.
    drop(command);
    let mut group = Group(child.id());
    let mut output = Output::default();
    let ended = tokio::time::timeout(terms.limit, async {
        tokio::select! {
            status = child.wait() => status,
            () = output.read_from(&mut reader) => child.wait().await,
        }
    });
    match ended.await {
        Ok(Ok(status)) => {
            group.0 = None;
            let _ = tokio::time::timeout(AFTERMATH, output.read_from(&mut reader)).await;
            if status.success() {
                return Ok(output.text());
            }
            Err(Failure::Ended(status, output.text()))
        }
        Ok(Err(error)) => Err(Failure::Start(error)),
        Err(_) => {
            if !terms.grace.is_zero() {
                group.signal(Signal::TERM);
                let ending = async { tokio::join!(child.wait(), output.read_from(&mut reader)) };
                // Whether it obeyed or not, what is left of the group is killed below.
                let _ = tokio::time::timeout(terms.grace, ending).await;
            }
            drop(group);
            // Reaped here, so that no zombie stays; the kill has been sent.
            let _ = tokio::time::timeout(AFTERMATH, child.wait()).await;
            Err(Failure::TimedOut(terms.limit, output.text()))
        }
    }
}

/// The last bytes that a command wrote.
#[derive(Default)]
struct Output(Vec<u8>);

impl Output {
    /// Reads until the end or an error, which for a pipe is the end as well.
    async fn read_from(&mut self, reader: &mut pipe::Receiver) {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            self.0.extend_from_slice(&buffer[..length]);
            let excess = self.0.len().saturating_sub(OUTPUT_MAX);
            self.0.drain(..excess);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// A process group that is killed when this is dropped.
struct Group(Option<u32>);

impl Group {
    fn signal(&self, signal: Signal) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may have ended by itself in the meantime.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn success_is_success_and_failure_tells_status_and_output() {
        assert!(run("true", LONG).await.is_ok());
        let failure = run("echo out; echo why >&2; exit 3", LONG).await.unwrap_err().to_string();
        assert_eq!(failure, "failed with exit status: 3: out\nwhy");
        let failure = run("yes | head -c 100000; exit 1", LONG).await.unwrap_err().to_string();
        assert!(failure.len() < OUTPUT_MAX + 100, "{} bytes", failure.len());
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let command = format!("(sleep 1; touch {}) & echo started; sleep 600", mark.display());
        let failure = run(&command, Duration::from_millis(300)).await.unwrap_err().to_string();
        assert_eq!(failure, "did not end within 300ms and was killed: started");
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert!(!mark.exists(), "what it had started lives on");
    }

    #[tokio::test]
    async fn a_daemon_that_a_command_leaves_behind_does_not_hold_it_up() {
        let start = tokio::time::Instant::now();
        assert!(run("sleep 15 &", LONG).await.is_ok());
        assert!(run("sleep 15 & exit 1", LONG).await.is_err());
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn words_run_without_a_shell_and_see_their_variables() {
        let words =
            |words: &[&str]| CommandLine::Words(words.iter().map(|w| (*w).into()).collect());
        let terms = Terms { environment: &[("SHOWN", "yes")], ..Terms::within(LONG) };
        let said = run_line(&words(&["printf", "%s", "$SHOWN *"]), terms).await.unwrap();
        assert_eq!(said, "$SHOWN *");
        let said = run_line(&words(&["printenv", "SHOWN"]), terms).await.unwrap();
        assert_eq!(said, "yes\n");
        let failure = run_line(&words(&["/no/such program"]), terms).await.unwrap_err().to_string();
        assert!(failure.starts_with("could not be started: "), "{failure}");
    }

    #[tokio::test]
    async fn whoever_has_a_grace_is_told_to_end_before_it_is_killed() {
        let terms = Terms { grace: LONG, ..Terms::within(Duration::from_millis(300)) };
        let start = tokio::time::Instant::now();
        let obeys = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let failure = run_line(&obeys.into(), terms).await.unwrap_err().to_string();
        // The shell may say that its sleep was terminated, in between.
        assert!(failure.starts_with("did not end within 300ms and was killed: up"), "{failure}");
        assert!(failure.ends_with("told"), "{failure}");
        let terms = Terms { grace: Duration::from_millis(200), ..terms };
        let defies = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let failure = run_line(&defies.into(), terms).await.unwrap_err().to_string();
        assert_eq!(failure, "did not end within 300ms and was killed: up");
        assert!(start.elapsed() < LONG / 2);
    }
}

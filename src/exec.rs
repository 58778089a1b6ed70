//! Commands of the configuration: run by a shell, in a process group of their own, for a time.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{fmt, io};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Command;

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

/// `command` with every `{{.src}}` or `{{ src }}` replaced by `path`.
pub fn with_source(command: &str, path: &Path) -> String {
    let path = quoted(&path.to_string_lossy());
    let mut out = String::with_capacity(command.len() + path.len());
    let mut rest = command;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        match after.split_once("}}") {
            Some((name, behind)) if matches!(name.trim(), ".src" | "src") => {
                out.push_str(&path);
                rest = behind;
            }
            _ => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// `word` so that a shell takes it as one; a plain path stays as it is, for it may stand in quotes.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@=:,%".contains(&b);
    if word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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
    let (reader, writer) = io::pipe().map_err(Failure::Start)?;
    let mut reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(Failure::Start)?;
    let both = writer.try_clone().map_err(Failure::Start)?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).process_group(0).kill_on_drop(true);
    shell.envs(environment.iter().copied());
    shell.stdin(Stdio::null()).stdout(both).stderr(writer);
    let mut child = shell.spawn().map_err(Failure::Start)?;
    // It holds our ends of the pipe, which would never end otherwise.
    drop(shell);
    let mut group = Group(child.id());
    let mut output = Output::default();
    let ended = tokio::time::timeout(limit, async {
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
            drop(group);
            // Reaped here, so that no zombie stays; the kill has been sent.
            let _ = tokio::time::timeout(AFTERMATH, child.wait()).await;
            Err(Failure::TimedOut(limit, output.text()))
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

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may have ended by itself in the meantime.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_staged_path_takes_the_place_of_its_name_in_both_spellings() {
        for (case, command, path, want) in [
            ("go", "check {{.src}}", "/a/b", "check /a/b"),
            ("go, spaced", "check {{ .src }}", "/a/b", "check /a/b"),
            ("jinja", "a {{ src }} b {{src}}", "/a", "a /a b /a"),
            ("in quotes", "check \"{{.src}}\"", "/a/b", "check \"/a/b\""),
            ("to be quoted", "check {{.src}}", "/a b'c", "check '/a b'\\''c'"),
            ("other names", "echo {{.dest}} {{", "/a", "echo {{.dest}} {{"),
        ] {
            assert_eq!(with_source(command, Path::new(path)), want, "{case}");
        }
    }

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
}

//! A process, those that take its place one after the other, and what they share.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Command;

use super::until;
use crate::child::{Ended, PORTOLAN, Running, portolan};

/// The first process and all that came of it. Dropping it ends them all, and nobody else.
pub(crate) struct Line {
    pub(crate) directory: TempDir,
    pub(crate) file: PathBuf,
    pub(crate) first: Running,
    /// The one that serves now.
    pub(crate) pid: u32,
}

impl Line {
    /// Starts the first one by `config`, with these variables in its environment.
    pub(crate) async fn start(
        directory: TempDir,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let file = directory.path().join("portolan.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(PORTOLAN);
        command.args(["run", "--config", file.to_str().unwrap()]);
        command.envs(environment.iter().copied());
        let first = Running::spawn(command);
        let line = Self { pid: first.id(), first, directory, file };
        line.first.logged("serving").await;
        line.first.ready(&line.socket()).await;
        line
    }

    /// The socket of the admin face.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// `portolan upgrade`, as it ended.
    pub(crate) async fn ask(&self, more: &[&str]) -> Ended {
        let mut arguments = vec!["upgrade", "--config", self.file.to_str().unwrap()];
        arguments.extend(more);
        portolan(&arguments).await
    }

    /// `portolan upgrade`, which must come to a new process.
    pub(crate) async fn upgrade(&mut self) -> u32 {
        let ended = self.ask(&[]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}\n{:#?}", self.first.said());
        let pid = ended.stdout.lines().find_map(|line| line.strip_prefix("process "));
        let pid = pid.and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
        assert_ne!(pid, self.pid);
        self.pid = pid;
        pid
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap(), signal).unwrap();
    }
}

/// Whether the process `pid` is there, and was started by `file`.
pub(crate) fn lives(pid: u32, file: &Path) -> bool {
    let told = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&told).contains(file.to_str().unwrap())
}

/// Returns once the process `pid` of `file` is no more.
pub(crate) async fn left(pid: u32, file: &Path) {
    until("the end of a process", async || (!lives(pid, file)).then_some(())).await;
}

impl Drop for Line {
    fn drop(&mut self) {
        // By the file that only these were started with.
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for id in ids.filter(|id| lives(*id, &self.file)) {
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

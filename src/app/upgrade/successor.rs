//! The process that is to replace this one: which program, and how it is started.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::thread::{capabilities, configure_capability_in_ambient_set, set_capabilities};

/// The variable that names the process that hands over.
pub const PREDECESSOR: &str = "PORTOLAN_UPGRADE";
/// What is about this process and would mislead another one.
const OURS: [&str; 5] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", PREDECESSOR];
/// How long the end of one that hung up is waited for.
const END: Duration = Duration::from_secs(2);

/// How this process was started, and so how another one is that replaces it.
#[derive(Debug, Clone)]
pub struct Successor {
    /// The program, by a path that names the next version once that is installed.
    pub program: PathBuf,
    /// Its name for itself.
    pub name: OsString,
    /// What stands behind the name.
    pub arguments: Vec<OsString>,
}

impl Successor {
    /// As this process was started by `arguments`, its own name first. A name without a slash is
    /// looked for in `path`, as the shell did. To be called before the directory changes.
    pub fn of(
        arguments: impl IntoIterator<Item = OsString>,
        path: Option<&OsStr>,
    ) -> io::Result<Self> {
        let mut arguments = arguments.into_iter();
        let name = arguments.next().unwrap_or_default();
        let program = if name.as_encoded_bytes().contains(&b'/') {
            std::path::absolute(&name)?
        } else {
            let folders = path.into_iter().flat_map(std::env::split_paths);
            let found = folders.map(|folder| folder.join(&name)).find(|found| found.is_file());
            found.map_or_else(std::env::current_exe, Ok)?
        };
        Ok(Self { program, name, arguments: arguments.collect() })
    }

    /// Starts it, or the program at `binary` in its place, with `end` as its standard input. What this
    /// process may do, the other one may.
    pub(super) fn start(&self, binary: Option<&Path>, end: OwnedFd) -> io::Result<Started> {
        let mut command = Command::new(binary.unwrap_or(&self.program));
        command.arg0(&self.name).args(&self.arguments).stdin(Stdio::from(end));
        for name in OURS {
            command.env_remove(name);
        }
        command.env(PREDECESSOR, std::process::id().to_string());
        // On a thread of its own, for capabilities that outlive the start of a program are set for
        // the thread that starts it. Nothing else that we start gets them.
        let starting = std::thread::Builder::new().name("upgrade".into()).spawn(move || {
            pass_on();
            command.spawn()
        })?;
        let started = starting.join().map_err(|_| io::Error::other("starting it panicked"))?;
        Ok(Started(Some(started?)))
    }
}

/// Lets the next program of this thread have the capabilities that this process has, where it is not
/// root's, who has them anyway.
fn pass_on() {
    let Ok(mut sets) = capabilities(None) else { return };
    if sets.permitted.is_empty() || rustix::process::geteuid().is_root() {
        return;
    }
    sets.inheritable = sets.permitted;
    // Where it is not allowed the new one has what is on its file; sockets are handed over anyway.
    if set_capabilities(None, sets).is_ok() {
        for one in sets.permitted.iter() {
            let _ = configure_capability_in_ambient_set(one, true);
        }
    }
}

/// The process that was started. Dropping it ends it, unless it was let go.
#[derive(Debug)]
pub(super) struct Started(Option<Child>);

impl Started {
    pub(super) fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// It lives on by itself.
    pub(super) fn let_go(mut self) {
        // When we end, it is the system's, or systemd's.
        drop(self.0.take());
    }

    /// How it ended, if it does within a moment.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.0.as_mut()?;
        let ended = async {
            loop {
                match child.try_wait() {
                    Ok(Some(status)) => return Some(status),
                    Ok(None) => tokio::time::sleep(Duration::from_millis(10)).await,
                    // Somebody else has waited for it.
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(END, ended).await.ok().flatten()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself. One that was killed is gone at once.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_as_the_shell_found_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("portolan");
        std::fs::write(&program, "").unwrap();
        let of = |arguments: &[&str], path: &str| {
            let arguments = arguments.iter().map(OsString::from);
            Successor::of(arguments, Some(OsStr::new(&format!("/nowhere:{path}")))).unwrap()
        };
        let path = dir.path().to_str().unwrap();
        let found = of(&["portolan", "run", "--config", "x"], path);
        assert_eq!((&found.program, found.arguments.len()), (&program, 3));
        assert_eq!(of(&[program.to_str().unwrap(), "run"], "").program, program);
        let here = std::env::current_dir().unwrap();
        assert_eq!(of(&["./bin/portolan"], path).program, here.join("bin/portolan"));
        assert_eq!(of(&["gone"], path).program, std::env::current_exe().unwrap());
    }
}

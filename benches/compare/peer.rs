//! A server that runs: started in a folder of its own, watched until it answers, stopped by its
//! own process id.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::machine::{Machine, free_address, pause};
use crate::peers::{ACCESS_LOG, Peer, Role, SERVICES, Site};
use crate::probe;
use crate::process::{self, Cpu, Memory};
use crate::trouble::{Doing, Trouble};
use crate::zone::Zone;

/// Time to load 10,000 names and answer.
const READY: Duration = Duration::from_secs(15);
/// Time to end after SIGTERM, before SIGKILL.
const STOP: Duration = Duration::from_secs(3);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// What a server prints, in its folder.
const LOG: &str = "log";
/// Starts on another port each, should somebody take the one that was free.
const TRIES: u32 = 3;

/// A server that answers. Stopped when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Where it tells its state, if it is one that does.
    pub(crate) admin: Option<SocketAddr>,
    /// Where it carries HTTP and TCP to.
    pub(crate) origin: SocketAddr,
    child: Child,
    /// Holds configuration and logs until the server is gone.
    dir: TempDir,
}

impl Running {
    /// Starts `peer` and returns once it answers what `role` asks.
    pub(crate) fn start(
        peer: &Peer,
        role: Role,
        origin: SocketAddr,
        zone: &Zone,
        machine: &Machine,
    ) -> Result<Self, Trouble> {
        let program = (peer.find)(machine, role)
            .ok_or(Trouble::Missing { program: peer.name, install: peer.install })?;
        let mut tried = 0;
        loop {
            tried += 1;
            match Self::start_once(peer, role, origin, zone, &program) {
                Err(Trouble::NotReady { ended: true, .. }) if tried < TRIES => {}
                other => return other,
            }
        }
    }

    fn start_once(
        peer: &Peer,
        role: Role,
        origin: SocketAddr,
        zone: &Zone,
        program: &std::path::Path,
    ) -> Result<Self, Trouble> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("portolan-bench-{}-", peer.name))
            .tempdir()
            .doing(|| "make a temporary folder".into())?;
        let site =
            Site { dir: dir.path(), listen: free_address()?, admin: free_address()?, origin, zone };
        let mut command = (peer.prepare)(program, role, &site)?;
        let log = dir.path().join(LOG);
        let mut child = spawn(&mut command, &log, dir.path())
            .doing(|| format!("start {}", program.display()))?;
        let (address, admin) = (site.listen, peer.readyz.then_some(site.admin));
        let mut running = match wait_until_ready(&mut child, role, address, admin) {
            Ok(()) => Self { name: peer.name, address, admin, origin, child, dir },
            Err(what) => {
                let ended = !matches!(child.try_wait(), Ok(None));
                end(&mut child);
                return Err(Trouble::NotReady { peer: peer.name, what, ended, log: tail(&log) });
            }
        };
        // A server that came up while another one held its port would measure the other one.
        if let Ok(Some(status)) = running.child.try_wait() {
            let what = format!("ended with {status} after it had answered");
            let log = tail(&log);
            return Err(Trouble::NotReady { peer: peer.name, what, ended: true, log });
        }
        Ok(running)
    }

    /// The services file of its own, where it has one.
    pub(crate) fn services(&self) -> PathBuf {
        self.dir.path().join(SERVICES)
    }

    /// Empties its logs, which all servers open to append, so that they don't fill the disk.
    pub(crate) fn empty_logs(&self) {
        for name in [LOG, ACCESS_LOG] {
            // Not every server has both.
            if let Ok(file) = File::options().write(true).open(self.dir.path().join(name)) {
                let _ = file.set_len(0);
            }
        }
    }

    /// CPU time of all its processes since they started.
    pub(crate) fn cpu(&self) -> Cpu {
        process::cpu(self.child.id())
    }

    /// CPU time of its threads whose names begin with `prefix`.
    pub(crate) fn cpu_of(&self, prefix: &str) -> Cpu {
        process::cpu_of(self.child.id(), prefix)
    }

    /// Memory of all its processes now.
    pub(crate) fn memory(&self) -> Memory {
        process::memory(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn spawn(command: &mut Command, log: &PathBuf, dir: &std::path::Path) -> std::io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

fn wait_until_ready(
    child: &mut Child,
    role: Role,
    address: SocketAddr,
    admin: Option<SocketAddr>,
) -> Result<(), String> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("ended with {status} before it answered"));
        }
        let answered =
            admin.map_or(Ok(()), probe::ready).and_then(|()| probe::answers(role, address));
        match answered {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() > READY => {
                return Err(format!(
                    "did not answer at {address} within {} s (last: {error})",
                    READY.as_secs()
                ));
            }
            Err(_) => pause(LOOK),
        }
    }
}

/// Ends a child and all its descendants: first asked, then forced.
fn end(child: &mut Child) {
    // The child isn't waited for yet, so its id can't belong to somebody else.
    signal(child.id(), Signal::TERM);
    let asked = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if asked.elapsed() > STOP {
            for pid in process::tree(child.id()) {
                signal(pid, Signal::KILL);
            }
            break;
        }
        pause(LOOK);
    }
    // Fails only when it was waited for already.
    let _ = child.wait();
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// The last lines of a log.
fn tail(log: &PathBuf) -> String {
    const LINES: usize = 6;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    let shown: Vec<String> = lines[from..].iter().map(|line| format!("    {line}")).collect();
    if shown.is_empty() { "    (nothing)".into() } else { shown.join("\n") }
}

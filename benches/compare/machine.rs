//! What this machine has: programs, ports, limits, and the one place that waits.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::trouble::{Doing, Trouble};

/// Where the programs to measure are.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The Portolan under test: the one that cargo built with this harness, or `--portolan`.
    pub(crate) portolan: PathBuf,
    /// Cargo's target directory: wheels are in `peers/py`, results go to `bench`.
    pub(crate) target: PathBuf,
}

impl Machine {
    /// Looks where this harness itself was built.
    pub(crate) fn here(portolan: Option<PathBuf>) -> Result<Self, Trouble> {
        let harness = std::env::current_exe().doing(|| "find this program's own path".into())?;
        // target/PROFILE/deps/compare-HASH
        let target =
            harness.ancestors().nth(3).unwrap_or_else(|| Path::new("target")).to_path_buf();
        let portolan = portolan.unwrap_or_else(|| env!("CARGO_BIN_EXE_portolan").into());
        Ok(Self { portolan, target })
    }

    /// A program from `PATH`, or from where Debian puts servers.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into(), self.wheels().join("bin")])
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    }

    /// The virtual environment that `scripts/install-peers` fills.
    pub(crate) fn wheels(&self) -> PathBuf {
        self.target.join("peers/py")
    }
}

/// A loopback port that is free for TCP and UDP at this moment.
///
/// It is closed again before the server binds it, so another process can take it in between:
/// the servers measured here can't be handed a socket. Whoever starts one tries again on another.
pub(crate) fn free_address() -> Result<SocketAddr, Trouble> {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "bind a port".into())?;
        let address = tcp.local_addr().doing(|| "read a port".into())?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Trouble::System {
        doing: "find a port that is free for TCP and UDP".into(),
        source: std::io::ErrorKind::AddrInUse.into(),
    })
}

/// Raises the limit of open files to the most that is allowed; children inherit it.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it isn't granted, the tasks that need it say so by their errors.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Waits between two looks at a fact.
// The harness is one plain thread, without a runtime: nobody else waits for it.
#[allow(clippy::disallowed_methods)]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_address_can_be_bound_for_both_protocols() {
        let address = free_address().unwrap();
        TcpListener::bind(address).unwrap();
        UdpSocket::bind(address).unwrap();
    }

    #[test]
    fn a_program_is_found_by_its_name_and_one_that_is_not_there_is_not() {
        let machine = Machine::here(None).unwrap();
        assert!(machine.program("sh").is_some());
        assert!(machine.program("no-such-program-here").is_none());
    }
}

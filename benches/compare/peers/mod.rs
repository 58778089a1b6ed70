//! The servers that are measured: one file each, one line in [`PEERS`].

mod envoy;
mod haproxy;
mod knot;
mod nginx;
mod nsd;
mod portolan;
mod traefik;
mod unbound;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::machine::Machine;
use crate::tls;
use crate::trouble::{Doing, Trouble};
use crate::zone::Zone;

/// What a server does in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Answers for [`crate::zone::ZONE`] by UDP, responses minimal, no rate limit.
    Dns,
    /// The same, with views of 1,000 clients besides, of which the one that asks has one.
    DnsViews,
    /// Carries HTTP/1.1 to one origin over kept connections and adds `X-Forwarded-For`.
    Http,
    /// The same from clients that speak TLS, HTTP/1.1 or h2 in it as they choose, with the key and the
    /// certificate of [`crate::tls::pair`].
    Https,
    /// `Http` to the services of [`crate::fleet`], by a hundred routes, with the access log on and
    /// what each server has of metrics.
    HttpRouted,
    /// Carries bytes to one origin.
    Tcp,
    /// The same, many of them, by the kernel where a server has it do that.
    TcpBulk,
    /// Carries datagrams to one origin, any number of them in a flow.
    Udp,
}

/// Portolan's services file, in its folder.
pub(crate) const SERVICES: &str = "services.toml";
/// The access log of those that write one by themselves, in their folder.
pub(crate) const ACCESS_LOG: &str = "access.log";

/// Where and with what a server is to run.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// Its own folder, for everything that it writes.
    pub(crate) dir: &'a Path,
    /// What it listens on.
    pub(crate) listen: SocketAddr,
    /// A second address, for those that tell their state there.
    pub(crate) admin: SocketAddr,
    /// Where it carries HTTP and TCP to.
    pub(crate) origin: SocketAddr,
    /// What it answers from.
    pub(crate) zone: &'a Zone,
}

impl Site<'_> {
    /// Writes a file into the server's folder and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Trouble> {
        let path = self.dir.join(name);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Writes the certificate and its key, and gives their paths.
    pub(crate) fn write_pair(&self) -> Result<[String; 2], Trouble> {
        let pair = tls::pair().doing(|| "make a key".into())?;
        let cert = self.write("cert.pem", &pair.cert)?;
        let key = self.write("key.pem", &pair.key)?;
        Ok([cert, key].map(|path| path.display().to_string()))
    }

    /// Path of the access log.
    pub(crate) fn access_log(&self) -> String {
        self.dir.join(ACCESS_LOG).display().to_string()
    }

    /// The folder as text, for configurations.
    pub(crate) fn folder(&self) -> String {
        self.dir.display().to_string()
    }
}

/// How to start a server with one worker, in the foreground.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What brings it to this machine.
    pub(crate) install: &'static str,
    /// The program for a role, with all that the role needs; `None`: not installed.
    pub(crate) find: fn(&Machine, Role) -> Option<PathBuf>,
    /// Writes its configuration and gives the command that runs it in the foreground.
    pub(crate) prepare: fn(&Path, Role, &Site<'_>) -> Result<Command, Trouble>,
    /// Whether `/readyz` on [`Site::admin`] tells when it may be asked.
    pub(crate) readyz: bool,
}

/// The server under test.
pub(crate) const PORTOLAN: &str = "portolan";

/// All servers, in the order of the tables.
pub(crate) const PEERS: &[Peer] = &[
    portolan::PEER,
    knot::PEER,
    nsd::PEER,
    unbound::PEER,
    haproxy::PEER,
    nginx::PEER,
    envoy::PEER,
    traefik::PEER,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peers_differ_and_portolan_is_one_of_them() {
        let mut names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PEERS.len());
        assert!(names.contains(&PORTOLAN));
    }
}

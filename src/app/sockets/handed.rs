//! The sockets as the process that replaces us gets them.

use std::io;
use std::os::fd::OwnedFd;

use super::{Bound, Carries, DNS, Key, Socket, Sockets, haproxy};
use crate::net::handover::Label;

impl Sockets {
    /// Every socket that is open, once more, with what it is for: groups of UDP whole.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(in crate::app) fn labelled(&self) -> io::Result<Vec<(Label, OwnedFd)>> {
        let mut all = Vec::new();
        for (key, open) in &self.open {
            let label = Label { setting: setting(key), asked: Some(key.2) };
            if let Some(listener) = &open.held {
                all.push((label.clone(), listener.try_clone()?.into()));
            }
            for socket in &open.group {
                all.push((label.clone(), socket.try_clone()?.into()));
            }
        }
        Ok(all)
    }

    /// Lets go of everything: another process serves it. What waits in the queues waits for that one.
    pub(in crate::app) fn hand_over(&mut self) {
        for open in std::mem::take(&mut self.open).into_values() {
            open.close.send_replace(true);
        }
    }
}

impl Bound {
    /// What was bound, with what it is for.
    pub(in crate::app) fn labelled(self) -> Vec<(Label, OwnedFd)> {
        let mut all = Vec::new();
        for (key, socket) in self.fresh {
            let label = Label { setting: setting(&key), asked: Some(key.2) };
            match socket {
                Socket::Tcp(listener) => all.push((label, listener.into())),
                Socket::Udp(group) => {
                    all.extend(group.into_iter().map(|socket| (label.clone(), socket.into())));
                }
            }
        }
        all
    }
}

/// The setting that asked for a socket; the same in the process that gets it.
fn setting((name, carries, _): &Key) -> String {
    match carries {
        Carries::Http => format!("[listener.{name}.http] bind"),
        Carries::Https => format!("[listener.{name}.https] bind"),
        Carries::Tcp => format!("[listener.{name}.tcp] bind"),
        Carries::Udp => format!("[listener.{name}.udp] bind"),
        Carries::Tls => format!("[listener.{name}.tls] bind"),
        Carries::DnsUdp | Carries::DnsTcp => DNS.to_owned(),
        Carries::Mesos => format!("[dns.zone.{name:?}] http_listen"),
        Carries::Metadata => "[metadata] listen".to_owned(),
        Carries::Haproxy => haproxy::LISTEN.to_owned(),
        Carries::HaproxyLines => haproxy::LINES.to_owned(),
    }
}

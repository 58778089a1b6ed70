//! Sockets that somebody else opened for us: systemd, or the process that we replace.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Socket, Type};

use super::handover::Label;

/// First descriptor that systemd passes (`sd_listen_fds(3)`).
const FIRST_PASSED: RawFd = 3;

/// Sockets handed to us and not yet used, found by what they are for, or by address and protocol.
#[derive(Debug, Default)]
pub struct Adopted {
    held: Vec<Held>,
    /// Another process serves them still.
    shared: bool,
}

#[derive(Debug)]
struct Held {
    place: Place,
    label: Option<Label>,
    socket: Socket,
}

/// Where a socket listens.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Net(SocketAddr),
    Path(PathBuf),
}

impl Adopted {
    /// No socket was handed over.
    #[must_use]
    pub const fn none() -> Self {
        Self { held: Vec::new(), shared: false }
    }

    /// Takes over the given descriptors; those that are no sockets with an address are closed.
    #[must_use]
    pub fn of(descriptors: Vec<OwnedFd>) -> Self {
        let sockets = descriptors.into_iter().filter_map(|descriptor| {
            let socket = Socket::from(descriptor);
            socket.set_nonblocking(true).ok()?;
            held(socket, None)
        });
        Self { held: sockets.collect(), shared: false }
    }

    /// None yet, of a process that serves them still: what both share, as whether a socket blocks, stays
    /// as it is, and no group gets another member that nobody would read while it is undecided who serves.
    #[must_use]
    pub const fn shared() -> Self {
        Self { held: Vec::new(), shared: true }
    }

    /// Whether another process serves them still.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Takes one over that is for `label`. One that is no socket with an address is closed.
    pub fn add(&mut self, label: Label, descriptor: OwnedFd) {
        self.held.extend(held(Socket::from(descriptor), Some(label)));
    }

    /// What systemd passes by `LISTEN_PID` and `LISTEN_FDS`, given the values of both.
    ///
    /// # Errors
    /// The variables are for us but are no numbers.
    pub fn from_systemd(pid: Option<&str>, count: Option<&str>) -> io::Result<Self> {
        let (Some(pid), Some(count)) = (pid, count) else {
            return Ok(Self::none());
        };
        let number = |name: &str, value: &str| {
            value.parse::<i32>().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{name}={value:?} is no number; unset it or let systemd set it"),
                )
            })
        };
        if number("LISTEN_PID", pid)? != rustix::process::getpid().as_raw_nonzero().get() {
            return Ok(Self::none());
        }
        let count = number("LISTEN_FDS", count)?;
        Ok(Self::of((FIRST_PASSED..FIRST_PASSED.saturating_add(count)).map(own).collect()))
    }

    /// How many sockets nobody has asked for yet.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.held.len()
    }

    /// The socket that was for `setting` and `address`, or else one on `address`.
    pub(super) fn take_tcp(&mut self, address: SocketAddr, setting: &str) -> Option<TcpListener> {
        self.take(address, Some(setting), Type::STREAM).map(Into::into)
    }

    /// As [`Self::take_tcp`]; without a setting only by the address.
    pub(super) fn take_udp(
        &mut self,
        address: SocketAddr,
        setting: Option<&str>,
    ) -> Option<UdpSocket> {
        self.take(address, setting, Type::DGRAM).map(Into::into)
    }

    /// The unix socket that listens at `path`.
    pub fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let there = |held: &Held| matches!(&held.place, Place::Path(held) if held == path);
        let index = self.held.iter().position(there)?;
        Some(self.held.swap_remove(index).socket.into())
    }

    fn take(&mut self, address: SocketAddr, setting: Option<&str>, kind: Type) -> Option<Socket> {
        let fits = |held: &Held| held.socket.r#type().is_ok_and(|found| found == kind);
        let named = |label: &Label| {
            label.asked == Some(address) && setting.is_some_and(|setting| setting == label.setting)
        };
        let by_name =
            self.held.iter().position(|held| held.label.as_ref().is_some_and(named) && fits(held));
        let there = |held: &Held| held.place == Place::Net(address) && fits(held);
        let index = by_name.or_else(|| self.held.iter().position(there))?;
        Some(self.held.swap_remove(index).socket)
    }
}

fn held(socket: Socket, label: Option<Label>) -> Option<Held> {
    socket.set_cloexec(true).ok()?;
    let local = socket.local_addr().ok()?;
    let place = match local.as_socket() {
        Some(address) => Place::Net(address),
        None => Place::Path(local.as_pathname()?.to_path_buf()),
    };
    Some(Held { place, label, socket })
}

/// Owns a descriptor that was passed to this process by number.
#[allow(unsafe_code, reason = "a descriptor passed by number has no safe owner")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: LISTEN_PID names this process, so that the descriptors from 3 on are ours by the
    // contract of sd_listen_fds(3); this runs once at the start, before anything else opens or
    // takes descriptors by number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_meant_for_another_process_are_left_alone() {
        let adopted = Adopted::from_systemd(Some("1"), Some("2")).unwrap();
        assert_eq!(adopted.left(), 0);
    }

    #[test]
    fn a_count_that_is_no_number_is_refused_by_name() {
        let us = rustix::process::getpid().as_raw_nonzero().to_string();
        let error = Adopted::from_systemd(Some(&us), Some("many")).unwrap_err();
        assert!(error.to_string().contains("LISTEN_FDS=\"many\""), "{error}");
    }
}

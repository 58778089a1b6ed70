//! Sockets that somebody else opened for us: systemd, or the process that we replace.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::{Socket, Type};

/// First descriptor that systemd passes (`sd_listen_fds(3)`).
const FIRST_PASSED: RawFd = 3;

/// Sockets handed to us and not yet used, found by their address and protocol.
#[derive(Debug, Default)]
pub struct Adopted(Vec<(SocketAddr, Socket)>);

impl Adopted {
    /// No socket was handed over.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Takes over the given descriptors; those that are no TCP or UDP sockets are closed.
    #[must_use]
    pub fn of(descriptors: Vec<OwnedFd>) -> Self {
        let sockets = descriptors.into_iter().filter_map(|descriptor| {
            let socket = Socket::from(descriptor);
            socket.set_nonblocking(true).ok()?;
            socket.set_cloexec(true).ok()?;
            Some((socket.local_addr().ok()?.as_socket()?, socket))
        });
        Self(sockets.collect())
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
        self.0.len()
    }

    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.take(address, Type::STREAM).map(Into::into)
    }

    pub(super) fn take_udp(&mut self, address: SocketAddr) -> Option<UdpSocket> {
        self.take(address, Type::DGRAM).map(Into::into)
    }

    fn take(&mut self, address: SocketAddr, kind: Type) -> Option<Socket> {
        let index = self.0.iter().position(|(local, socket)| {
            *local == address && socket.r#type().is_ok_and(|found| found == kind)
        })?;
        Some(self.0.swap_remove(index).1)
    }
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

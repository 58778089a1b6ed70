//! Which of very many sockets have something to read, for one task that carries for all of them.
//!
//! An epoll of our own, which the runtime waits for as it waits for a socket. It tells what *is* to be
//! read, not what has come: who reads a part is told again, and a socket that was read to its end
//! costs no further call that says so. A socket leaves with its close.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use tokio::io::unix::AsyncFd;

/// Most sockets that are told of at once.
const TOLD: usize = 128;

/// The sockets.
#[derive(Debug, Clone)]
pub struct Ready(Arc<OwnedFd>);

/// Those that were told of; room for one thread's turns.
pub struct Told(Vec<Event>);

impl Default for Told {
    fn default() -> Self {
        Self(Vec::with_capacity(TOLD))
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Told").field(&self.0.len()).finish()
    }
}

impl Ready {
    /// None yet.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(epoll::create(CreateFlags::CLOEXEC)?)))
    }

    /// Tells of `socket` as `token` from now on, until the socket is closed. It must have no other
    /// descriptor, or that one has to be closed too.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&*self.0, socket, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Tells no more of `socket`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&*self.0, socket)?)
    }

    /// What a runtime can wait for. Whoever clears its readiness must have read all that was told of
    /// to the end, and have seen a [`Ready::tell`] that was not full.
    ///
    /// # Errors
    /// The runtime's.
    #[allow(
        deprecated,
        reason = "its successor is unsafe for types that may lose their descriptor; this one keeps it"
    )]
    pub fn wait(&self) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
        AsyncFd::with_interest(Arc::clone(&self.0), tokio::io::Interest::READABLE)
    }

    /// Writes those into `told` that have something to read now, without waiting. Whether there may be
    /// more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn tell(&self, told: &mut Told) -> io::Result<bool> {
        told.0.clear();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&*self.0, spare_capacity(&mut told.0), Some(&now)) {
            Ok(_) => Ok(told.0.len() == told.0.capacity()),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl Told {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token of one of them.
    #[must_use]
    pub fn token(&self, index: usize) -> Option<u64> {
        self.0.get(index).map(|event| event.data.u64())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn tokens(ready: &Ready, told: &mut Told) -> Vec<u64> {
        ready.tell(told).unwrap();
        let mut tokens: Vec<u64> = (0..told.len()).filter_map(|at| told.token(at)).collect();
        tokens.sort_unstable();
        tokens
    }

    #[tokio::test]
    async fn who_has_something_is_told_of_until_it_is_read_or_closed() {
        let ready = Ready::new().unwrap();
        let waiting = ready.wait().unwrap();
        let mut told = Told::default();
        let sockets: Vec<UdpSocket> =
            (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (token, socket) in sockets.iter().enumerate() {
            ready.add(socket, token as u64).unwrap();
        }
        assert!(tokens(&ready, &mut told).is_empty());
        let send = |to: usize| sockets[0].send_to(b"x", sockets[to].local_addr().unwrap());
        for to in [1, 2, 2] {
            send(to).unwrap();
        }
        waiting.readable().await.unwrap().clear_ready();
        let mut buffer = [0; 4];
        assert_eq!(tokens(&ready, &mut told), [1, 2]);
        sockets[1].recv(&mut buffer).unwrap();
        sockets[2].recv(&mut buffer).unwrap();
        assert_eq!(tokens(&ready, &mut told), [2], "one is left there");
        sockets[2].recv(&mut buffer).unwrap();
        assert!(tokens(&ready, &mut told).is_empty());
        // What comes after the clearing wakes again.
        send(1).unwrap();
        waiting.readable().await.unwrap().clear_ready();
        send(2).unwrap();
        ready.remove(&sockets[1]).unwrap();
        let mut sockets = sockets;
        drop(sockets.remove(2));
        assert!(tokens(&ready, &mut told).is_empty());
    }
}

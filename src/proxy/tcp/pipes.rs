//! Pipes, through which the kernel moves bytes from socket to socket (`splice`) without their passing
//! through our memory.
//!
//! Each worker keeps a few empty ones. A connection has one only while there is something in it: for
//! the length of one move, or while the other side doesn't take what is there.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use prometheus::{IntCounter, IntGauge, Registry};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::telemetry::metrics::Register as _;

/// Room of a pipe, when the kernel grants it: 64 places. Each holds a piece of what came from the
/// network, which may be as small as one packet.
const ROOM: usize = 256 << 10;
/// Most moved by one call; less than what 64 places may hold.
const MOST: usize = 1 << 20;
/// Empty pipes that a worker keeps.
const KEPT: usize = 32;

thread_local! {
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// How many pipes there are in this process, and how many may be (`[limits] pipes`).
#[derive(Debug, Clone)]
pub struct Pipes(Arc<Count>);

#[derive(Debug)]
struct Count {
    open: AtomicUsize,
    max: AtomicUsize,
    /// The kernel, or what guards it, lets nobody splice.
    refused: AtomicBool,
    gauge: IntGauge,
    missed: IntCounter,
}

/// A pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    count: Arc<Count>,
}

impl Pipes {
    /// Registers what is counted of them. Until told otherwise there may be none.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = registry.gauge(
            "portolan_proxy_tcp_pipes",
            "Pipes through which the kernel moves bytes of TCP connections.",
        )?;
        let missed = registry.counter(
            "portolan_proxy_tcp_pipes_missed_total",
            "Times that bytes were copied because there were as many pipes as may be, or no \
             descriptors.",
        )?;
        let (open, max, refused) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self(Arc::new(Count { open, max, refused, gauge, missed })))
    }

    /// From now on there may be so many; 0: nothing is spliced.
    pub fn set_max(&self, max: usize) {
        self.0.max.store(max, Relaxed);
    }

    /// An empty one, if there may be one.
    pub(super) fn take(&self) -> Option<Pipe> {
        let free = FREE.with_borrow_mut(Vec::pop);
        if free.is_some() {
            return free;
        }
        let max = self.0.max.load(Relaxed);
        if max == 0 || self.0.refused.load(Relaxed) {
            return None;
        }
        let made = self.make(max);
        if made.is_none() {
            self.0.missed.inc();
        }
        made
    }

    fn make(&self, max: usize) -> Option<Pipe> {
        let more = |open| (open < max).then_some(open + 1);
        self.0.open.fetch_update(Relaxed, Relaxed, more).ok()?;
        self.0.gauge.inc();
        let uncount = Uncount(&self.0);
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        std::mem::forget(uncount);
        // A smaller one does as well, with more calls: users have a limit of what their pipes hold.
        let _ = fcntl_setpipe_size(&write, ROOM);
        Some(Pipe { read, write, count: Arc::clone(&self.0) })
    }

    /// Takes back one that is empty.
    pub(super) fn give_back(&self, pipe: Pipe) {
        let fits = self.0.open.load(Relaxed) <= self.0.max.load(Relaxed);
        FREE.with_borrow_mut(|free| {
            if fits && free.len() < KEPT {
                free.push(pipe);
            }
        });
    }

    /// Nothing is spliced any more.
    fn refuse(&self, errno: Errno) {
        if !self.0.refused.swap(true, Relaxed) {
            tracing::warn!(error = %io::Error::from(errno), "the kernel does not splice; bytes are copied");
        }
    }
}

/// Counts a pipe out again that could not be made.
struct Uncount<'a>(&'a Count);

impl Drop for Uncount<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        self.0.gauge.dec();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(Uncount(&self.count));
    }
}

impl Pipe {
    /// Moves what came from `socket` into it; 0 at the end, none when the kernel won't. It has to be
    /// empty: of one that is not, nobody could say whether the socket or it is what has to be waited
    /// for.
    pub(super) fn fill(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
        pipes: &Pipes,
    ) -> Poll<io::Result<Option<usize>>> {
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let moved = socket.try_io(Interest::READABLE, || Ok(shift(socket, &self.write, MOST)?));
            match moved {
                Ok(moved) => return Poll::Ready(Ok(Some(moved))),
                // The runtime makes this one anew, without a number.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => match Errno::from_io_error(&error) {
                    Some(errno @ (Errno::INVAL | Errno::NOSYS | Errno::PERM)) => {
                        pipes.refuse(errno);
                        return Poll::Ready(Ok(None));
                    }
                    _ => return Poll::Ready(Err(error)),
                },
            }
        }
    }

    /// Moves the `left` bytes in it to `socket`. Ready when nothing is left.
    pub(super) fn pour(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
        left: &mut usize,
    ) -> Poll<io::Result<()>> {
        while *left > 0 {
            ready!(socket.poll_write_ready(cx))?;
            let moved = socket.try_io(Interest::WRITABLE, || Ok(shift(&self.read, socket, *left)?));
            match moved {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => *left = left.saturating_sub(moved),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn shift(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> Result<usize, Errno> {
    splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)
}

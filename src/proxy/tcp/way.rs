//! One direction: bytes from one end to the other, until the first one has ended.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use prometheus::IntCounter;
use tokio::net::TcpStream;

use super::ends::End;
use super::pipes::{Pipe, Pipes};

/// Bytes moved at once by copy.
const PIECE: usize = 64 << 10;
/// Pieces moved before others have their turn.
const TURN: usize = 16;
/// A read of so much is one of a stream, and
const BIG: usize = 16 << 10;
/// after so many of them in a row the kernel moves them,
const BIG_IN_ROW: u8 = 3;
/// until so many in a row
const SMALL_IN_ROW: u8 = 4;
/// were smaller than this.
const SMALL: usize = 4 << 10;

thread_local! {
    /// For all connections of this thread: what is read is written in the same breath, and only what
    /// the other side can't take at once is kept.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// What one direction counts, and moves bytes with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Through<'a> {
    pub(super) bytes: &'a IntCounter,
    /// The same of the endpoint.
    pub(super) tally: &'a AtomicU64,
    pub(super) spliced: &'a IntCounter,
    pub(super) pipes: &'a Pipes,
}

/// At which end it failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// While reading.
    From(io::Error),
    /// While writing.
    To(io::Error),
}

/// How one direction stands.
#[derive(Debug, Default)]
pub(super) struct Way {
    kept: Kept,
    end: Ended,
    /// What was given may not have been sent.
    unsent: bool,
    splices: bool,
    /// Reads in a row that speak for the other manner.
    row: u8,
}

/// What was taken and could not be given yet.
#[derive(Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    Bytes(Vec<u8>, usize),
    Piped(Pipe, usize),
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Ended {
    #[default]
    No,
    /// The first end has, and the other one is being told.
    Telling,
    Whole,
}

impl Way {
    /// Whether the first end has ended, and the other one knows.
    pub(super) fn ended(&self) -> bool {
        self.end == Ended::Whole
    }

    /// Moves what can be moved now. Ready once the end was passed on; `last` says that the other
    /// direction has ended, so that the close of the connection will tell the end.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut impl End, &mut impl End),
        through: Through<'_>,
        last: bool,
        moved: &mut u64,
    ) -> Poll<Result<(), Fault>> {
        for _ in 0..TURN {
            if self.end == Ended::Whole {
                // Nobody reads from it any more.
                return match from.broken(cx) {
                    Poll::Ready(error) if !last => Poll::Ready(Err(Fault::From(error))),
                    _ => Poll::Ready(Ok(())),
                };
            }
            match self.deliver(cx, to, through.pipes, moved) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::To(error))),
                Poll::Pending => {
                    let broken = from.broken(cx);
                    return broken.map(|error| Err(Fault::From(error)));
                }
            }
            if self.end == Ended::Telling {
                // Closing the connection says the same in one call less.
                if !last || to.socket().is_none() {
                    ready!(to.end(cx));
                }
                self.end = Ended::Whole;
                continue;
            }
            let read = ready!(self.step(cx, from, to, through)?);
            if read == 0 {
                self.end = Ended::Telling;
            } else {
                *moved += 1;
                self.weigh(read);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Which manner is the right one after a read of so much.
    fn weigh(&mut self, read: usize) {
        let (speaks, enough) =
            if self.splices { (read < SMALL, SMALL_IN_ROW) } else { (read >= BIG, BIG_IN_ROW) };
        self.row = if speaks { self.row + 1 } else { 0 };
        if self.row == enough {
            self.splices = !self.splices;
            self.row = 0;
        }
    }

    /// Gives what was kept.
    fn deliver(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut impl End,
        pipes: &Pipes,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        match &mut self.kept {
            Kept::Nothing => {}
            Kept::Bytes(bytes, at) => {
                while *at < bytes.len() {
                    *at += match ready!(to.give(cx, &bytes[*at..]))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        written => written,
                    };
                    *moved += 1;
                }
                self.kept = Kept::Nothing;
            }
            Kept::Piped(pipe, left) => {
                let Some(socket) = to.socket() else {
                    return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
                };
                while *left > 0 {
                    let before = *left;
                    let poured = pipe.pour(cx, socket, left);
                    *moved += u64::from(*left < before);
                    ready!(poured)?;
                }
                if let Kept::Piped(pipe, _) = std::mem::take(&mut self.kept) {
                    pipes.give_back(pipe);
                }
            }
        }
        if self.unsent {
            ready!(to.flush(cx))?;
            self.unsent = false;
        }
        Poll::Ready(Ok(()))
    }

    /// One read and one write: how much was read.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
        through: Through<'_>,
    ) -> Poll<Result<usize, Fault>> {
        if self.splices
            && let (Some(source), Some(sink)) = (from.socket(), to.socket())
            && let Some(pipe) = through.pipes.take()
        {
            match pipe.fill(cx, source, through.pipes) {
                Poll::Ready(Ok(Some(read @ 1..))) => {
                    return self.pour(cx, pipe, read, sink, through);
                }
                other => {
                    through.pipes.give_back(pipe);
                    match other {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::From(error))),
                        Poll::Ready(Ok(Some(ended))) => return Poll::Ready(Ok(ended)),
                        Poll::Ready(Ok(None)) => {}
                    }
                }
            }
        }
        BUFFER.with_borrow_mut(|buffer| {
            let read = match ready!(from.take(cx, buffer)) {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(read) => read,
                Err(error) => return Poll::Ready(Err(Fault::From(error))),
            };
            through.bytes.inc_by(read as u64);
            through.tally.fetch_add(read as u64, Relaxed);
            let written = match to.give(cx, &buffer[..read]) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::To(error))),
                Poll::Pending => 0,
            };
            self.unsent = to.socket().is_none();
            if written < read {
                self.kept = Kept::Bytes(buffer[written..read].to_vec(), 0);
            }
            Poll::Ready(Ok(read))
        })
    }

    /// Moves the `read` bytes in `pipe` on; what is not taken is kept.
    fn pour(
        &mut self,
        cx: &mut Context<'_>,
        pipe: Pipe,
        read: usize,
        sink: &TcpStream,
        through: Through<'_>,
    ) -> Poll<Result<usize, Fault>> {
        through.bytes.inc_by(read as u64);
        through.tally.fetch_add(read as u64, Relaxed);
        through.spliced.inc_by(read as u64);
        let mut left = read;
        match pipe.pour(cx, sink, &mut left) {
            Poll::Ready(Ok(())) => through.pipes.give_back(pipe),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::To(error))),
            Poll::Pending => self.kept = Kept::Piped(pipe, left),
        }
        Poll::Ready(Ok(read))
    }
}

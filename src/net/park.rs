//! Idle connections wait here: no buffer, no parser, one socket and one timer.

use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::lifecycle::{Phase, Phases};

/// Why a parked connection left its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unparked {
    /// Bytes arrived, or the peer closed; a read may still find nothing.
    Readable,
    /// Nothing came for the time allowed.
    Idle,
    /// The process is draining: idle connections close at once.
    Draining,
}

/// The idle clock of one connection: one timer for its whole life.
///
/// A runtime's timer is set once and looked at when it fires; setting one per request would wake
/// the runtime by a system call each time.
#[derive(Debug)]
pub struct Idle(Pin<Box<Sleep>>);

impl Idle {
    /// A clock that first looks after `idle`.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self(Box::pin(tokio::time::sleep(idle)))
    }

    /// Returns when `deadline` has passed.
    async fn passed(&mut self, deadline: Instant) {
        loop {
            self.0.as_mut().await;
            if Instant::now() >= deadline {
                return;
            }
            self.0.as_mut().reset(deadline);
        }
    }
}

/// Waits until `stream` has something to read, nothing came for `limit`, or the process drains.
///
/// A limit that a reload made shorter counts from the next time that the clock looks.
pub async fn park(
    stream: &TcpStream,
    clock: &mut Idle,
    limit: Duration,
    phases: &mut Phases,
) -> Unparked {
    tokio::select! {
        biased;
        _ = stream.readable() => Unparked::Readable,
        () = phases.reached(Phase::Draining) => Unparked::Draining,
        () = clock.passed(Instant::now() + limit) => Unparked::Idle,
    }
}

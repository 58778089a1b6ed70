//! Idle connections wait here: no buffer, no parser, one socket and one timer.

use std::time::Duration;

use tokio::net::TcpStream;

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

/// Waits until `stream` has something to read, `idle` has passed, or the process drains.
pub async fn park(stream: &TcpStream, idle: Duration, phases: &mut Phases) -> Unparked {
    tokio::select! {
        biased;
        _ = stream.readable() => Unparked::Readable,
        () = phases.reached(Phase::Draining) => Unparked::Draining,
        () = tokio::time::sleep(idle) => Unparked::Idle,
    }
}

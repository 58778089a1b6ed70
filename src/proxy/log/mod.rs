//! The access log: a line for each request, written by a thread of its own.
//!
//! A worker formats into a buffer of its own and gives whole buffers to the writer over a bounded
//! way: whoever carries requests never waits for a disk, a pipe or a daemon. What does not fit is
//! dropped and counted. What a line says is pure ([`record`], [`mod@format`], [`escape`]).

mod clock;
pub mod escape;
pub mod format;
mod output;
mod pending;
pub mod record;
mod rule;
mod sink;

pub use clock::Clock;
pub use pending::{flush, flush_in_time, note};
pub use record::{Record, RequestLine};
pub use rule::Rule;
pub use sink::{Metrics, OpenError, Sinks};

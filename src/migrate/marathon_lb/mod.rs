//! marathon-lb: its command line and variables.
//!
//! What apps say by labels is read while running (`[labels.marathon-lb]`); what is said here is where
//! Marathon is, whose labels count, and on which ports.

mod flags;
mod plan;
mod told;

use std::path::Path;

pub use plan::plan;

/// What marathon-lb is started with.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Its arguments; those of its image's `run` (`sse`, `poll`, `event`) too.
    pub arguments: &'a [String],
    /// Its environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Where it runs: its `templates` are there.
    pub directory: &'a Path,
}

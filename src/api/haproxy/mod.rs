//! HAProxy's face: its statistics as CSV, page and socket, and what marathon-lb answered on its port
//! 9090, so that whoever read those reads ours.
//!
//! `model` is what there is to tell; `rows` makes HAProxy's rows of it, `print` and `page` write
//! them. `command` reads a line of the stats socket and `session` answers it; `http` answers the
//! rest. Only `socket` and `serve` know of connections.

mod columns;
mod command;
mod config;
mod http;
mod info;
pub mod model;
mod page;
mod print;
mod rows;
mod serve;
mod session;
mod socket;
mod state;

#[cfg(test)]
mod samples;

pub use config::HaproxyConfig;
pub use serve::{Face, Kind};

use std::sync::Arc;

use tokio::sync::mpsc;

use super::admin::Reload;
use super::operate::Operate;
use crate::lifecycle::Readiness;
use model::Stats;

/// Which map is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// Virtual hosts and their backends.
    Hosts,
    /// Apps of Marathon and their backends.
    Apps,
}

/// Whom the face asks. Everything here may take milliseconds and belongs on the control side.
#[derive(Clone)]
pub struct Source {
    /// What there is to tell now.
    pub stats: Arc<dyn Fn() -> Stats + Send + Sync>,
    /// A map as HAProxy's map files are written: a key, a space, a value.
    pub map: Arc<dyn Fn(Map) -> String + Send + Sync>,
    /// The configuration in force, without secrets.
    pub config: Arc<dyn Fn() -> String + Send + Sync>,
    /// The processes that serve now: ours, and during an upgrade the other one.
    pub pids: Arc<dyn Fn() -> Vec<u32> + Send + Sync>,
    /// Whether the process is ready.
    pub readiness: Readiness,
    /// All metrics.
    pub metrics: prometheus::Registry,
    /// Drain, maintenance and weight.
    pub operate: Operate,
    /// Where reloads are asked for.
    pub reloads: mpsc::Sender<Reload>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

//! The registry `marathon`: the apps and pods of a Marathon, as its REST API and its event stream
//! tell them.
//!
//! [`roster`] holds what Marathon says, app by app; it is fed by [`split`] (which cuts a listing
//! into its apps while it arrives), [`decode`] (which reads one), [`service`] and [`pod`] (which
//! make a service of it). All of that is pure. [`step`] decides what is asked and when, pure too;
//! [`link`] is the shell around it, with [`rest`] and [`asks`] for HTTP, [`sse`] for the stream,
//! [`nodes`] for whom to ask, and [`zk`] for the leader that ZooKeeper names.

mod app;
mod asks;
mod broken;
mod checks;
mod config;
mod credentials;
mod decode;
mod event;
mod failing;
mod fields;
mod groups;
mod health;
mod heard;
mod index;
mod labels;
mod late;
mod link;
mod listing;
mod marks;
mod metrics;
mod names;
mod nodes;
mod pod;
mod ports;
mod resolve;
mod rest;
mod roster;
mod service;
mod split;
mod sse;
mod state;
mod step;
mod tell;
mod told;
mod wanted;
mod words;
mod zk;
mod zk_url;
mod zk_wire;

#[cfg(test)]
mod testing;

use std::path::PathBuf;

use super::Source;
use super::outlet::Outlet;
use crate::catalog::stale::StalePolicy;

pub use config::{MarathonConfig, Masters};
pub(super) use metrics::Metrics;
pub use zk_url::ZkUrl;

impl Source for MarathonConfig {
    async fn run(self, base_dir: PathBuf, outlet: Outlet) {
        Box::pin(link::Link::new(&self, &base_dir, outlet).run()).await;
    }

    fn stale(&self) -> StalePolicy {
        StalePolicy { max: self.max_stale.map(|max| max.0), then: self.when_stale }
    }
}

//! What stickiness needs besides the configuration: keys, and the clients that are bound by address,
//! from the disk and back to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::{StartError, system};
use crate::config::{Config, Prepared};
use crate::lifecycle::Phases;
use crate::proxy;
use crate::proxy::sticky::cookie::Keys;
use crate::proxy::sticky::source::Sources;
use crate::proxy::sticky::store::{self, KeyError};
use crate::proxy::sticky::{Clock, Metrics, Sticking, keeper, used};

/// The keys and clients of this process.
#[derive(Debug)]
pub(super) struct Sticky {
    data_dir: Option<PathBuf>,
    clock: Clock,
    metrics: Metrics,
    /// The key where nothing is configured: of `data_dir`, or of this process alone.
    own: Option<Keys>,
    tables: watch::Sender<Arc<Sources>>,
}

impl Sticky {
    /// Reads what is on disk, tells `prepared` of it, and starts to write it. Blocks.
    pub(super) fn start(
        config: &Config,
        prepared: &Prepared,
        (data_dir, clock, phases): (Option<&Path>, Clock, Phases),
        metrics: &proxy::metrics::Metrics,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let metrics = &metrics.sticky;
        let max = sources_max(config);
        let stored = data_dir.filter(|_| max > 0).map(store::load);
        let stored = stored.transpose().unwrap_or_else(|why| {
            tracing::warn!(file = why, "the sticky clients on disk are not used");
            None
        });
        let (seed, bindings) = match stored.flatten() {
            Some(stored) => (stored.seed, stored.bindings),
            None => (store::random_seed().map_err(system)?, Vec::new()),
        };
        let sources = Arc::new(metrics.sources(max, seed));
        sources.adopt(bindings, clock.millis());
        let (tables, kept) = watch::channel(sources);
        let directory = data_dir.map(Path::to_path_buf);
        let task =
            keeper::start(kept, directory.clone(), clock.clone(), keeper::PAUSE, phases, metrics);
        let metrics = metrics.clone();
        let mut sticky = Self { data_dir: directory, clock, metrics, own: None, tables };
        sticky.follow(config, prepared)?;
        Ok((sticky, task))
    }

    /// Tells `prepared`, which is not served from yet, of keys and clients. Blocks.
    ///
    /// # Errors
    /// The configured key cannot be had; nothing has changed then.
    pub(super) fn follow(&mut self, config: &Config, prepared: &Prepared) -> Result<(), KeyError> {
        let (cookies, _) = used(config.listeners.values(), config.routes.values());
        let keys = match &config.sticky.key_file {
            Some(path) => Some(store::keys_of(&config.base_dir.join(path))?),
            None if cookies => Some(self.own()?),
            None => None,
        };
        let known = Arc::clone(&self.tables.borrow());
        let max = sources_max(config);
        let sources = if known.max() == max {
            known
        } else {
            let other = Arc::new(self.metrics.sources(max, known.seed()));
            let now = self.clock.millis();
            other.adopt(known.bindings(now), now);
            self.tables.send_replace(Arc::clone(&other));
            other
        };
        let clock = self.clock.clone();
        prepared.proxy.stick(Arc::new(Sticking { keys, sources, clock }));
        Ok(())
    }

    /// The key where none is configured.
    fn own(&mut self) -> Result<Keys, KeyError> {
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        let kept = match &self.data_dir {
            Some(directory) => store::own_keys(directory),
            None => Err("no [node] data_dir and no [sticky] key_file".to_owned()),
        };
        let keys = match kept {
            Ok(keys) => keys,
            Err(why) => {
                tracing::warn!(why, "sticky cookies are good while this process runs only");
                Keys::new(&store::random().map_err(KeyError::Random)?, None)
            }
        };
        Ok(self.own.insert(keys).clone())
    }
}

/// How many clients are kept by their address: none while nothing asks for it.
fn sources_max(config: &Config) -> usize {
    let (_, sources) = used(config.listeners.values(), config.routes.values());
    if sources { config.sticky.sources_max as usize } else { 0 }
}

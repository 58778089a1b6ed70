//! What stickiness needs besides the configuration: keys, and the clients that are bound by address,
//! from the disk and back to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::{StartError, system};
use super::upgrade::Taken;
use crate::config::{Config, Prepared};
use crate::lifecycle::{Phase, Phases};
use crate::proxy;
use crate::proxy::sticky::cookie::{KEY, Keys};
use crate::proxy::sticky::source::Sources;
use crate::proxy::sticky::store::{self, KeyError, Stored};
use crate::proxy::sticky::{Clock, Metrics, Sticking, keeper, used};

/// The keys and clients of this process.
#[derive(Debug)]
pub(super) struct Sticky {
    data_dir: Option<PathBuf>,
    clock: Clock,
    metrics: Metrics,
    /// The key where nothing is configured: of `data_dir`, or of this process alone.
    own: Option<Keys>,
    /// The same in bytes, where this process or one before made it and no file holds it.
    made: Option<[u8; KEY]>,
    tables: watch::Sender<Arc<Sources>>,
}

impl Sticky {
    /// Reads what is on disk, unless it was `taken` over from another process, tells `prepared` of it,
    /// and starts to write it as soon as that is among our duties. Blocks.
    pub(super) fn start(
        config: &Config,
        prepared: &Prepared,
        (data_dir, clock, mut duties): (Option<&Path>, Clock, Phases),
        taken: Option<&mut Taken>,
        metrics: &proxy::metrics::Metrics,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let metrics = &metrics.sticky;
        let max = sources_max(config);
        let (given, made) = match taken {
            Some(taken) => (taken.sources.take(), taken.sticky_key.take()),
            None => (None, None),
        };
        let on_disk = || {
            let stored = data_dir.filter(|_| max > 0).map(store::load);
            let stored = stored.transpose().unwrap_or_else(|why| {
                tracing::warn!(file = why, "the sticky clients on disk are not used");
                None
            });
            stored.flatten()
        };
        let (seed, bindings) = match given.or_else(on_disk) {
            Some(stored) => (stored.seed, stored.bindings),
            None => (store::random_seed().map_err(system)?, Vec::new()),
        };
        let sources = Arc::new(metrics.sources(max, seed));
        sources.adopt(bindings, clock.millis());
        let (tables, kept) = watch::channel(sources);
        let directory = data_dir.map(Path::to_path_buf);
        let (metrics, until) = (metrics.clone(), duties.clone());
        let keeps = (directory.clone(), clock.clone(), metrics.clone());
        let task = tokio::spawn(async move {
            let (directory, clock, metrics) = keeps;
            duties.reached(Phase::Serving).await;
            // It ends with the duties.
            let _ = keeper::start(kept, directory, clock, keeper::PAUSE, until, &metrics).await;
        });
        let own = made.map(|key| Keys::new(&key, None));
        let mut sticky = Self { data_dir: directory, clock, metrics, own, made, tables };
        sticky.follow(config, prepared)?;
        Ok((sticky, task))
    }

    /// Tells `prepared`, which is not served from yet, of keys and clients. Blocks.
    ///
    /// # Errors
    /// The configured key cannot be had; nothing has changed then.
    pub(super) fn follow(&mut self, config: &Config, prepared: &Prepared) -> Result<(), KeyError> {
        let (cookies, _) = in_use(config);
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

    /// Everybody who is bound by address.
    pub(super) fn stored(&self) -> Stored {
        let sources = Arc::clone(&self.tables.borrow());
        Stored { seed: sources.seed(), bindings: sources.bindings(self.clock.millis()) }
    }

    /// The key that no file holds, if there is one.
    pub(super) const fn made_key(&self) -> Option<&[u8; KEY]> {
        self.made.as_ref()
    }

    /// Takes over who was bound elsewhere since this process was given the others.
    pub(super) fn catch_up(&self, since: Option<Stored>) {
        let sources = Arc::clone(&self.tables.borrow());
        if let Some(since) = since.filter(|since| since.seed == sources.seed()) {
            sources.adopt(since.bindings, self.clock.millis());
        }
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
                let key = store::random().map_err(KeyError::Random)?;
                Keys::new(self.made.insert(key), None)
            }
        };
        Ok(self.own.insert(keys).clone())
    }
}

/// Whether cookies are in use, and addresses; labels may ask for both at any time.
fn in_use(config: &Config) -> (bool, bool) {
    match config.labels.marathon_lb {
        Some(_) => (true, true),
        None => used(config.listeners.values(), config.routes.values()),
    }
}

/// How many clients are kept by their address: none while nothing asks for it.
fn sources_max(config: &Config) -> usize {
    let (_, sources) = in_use(config);
    if sources { config.sticky.sources_max as usize } else { 0 }
}

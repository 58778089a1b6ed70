//! The metadata API, fed with the snapshot that every face answers from.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::publish::Tables;
use super::{Meters, current};
use crate::api::metadata::{Metadata, MetadataConfig, Surroundings};
use crate::catalog::Snapshot;
use crate::lifecycle::Phases;

/// The metadata API, made when the configuration first has one.
pub(super) struct MetadataFace {
    make: Box<dyn Fn(&MetadataConfig) -> Metadata + Send + Sync>,
    made: Option<Metadata>,
}

impl MetadataFace {
    /// From now on it does what `config` says.
    pub(super) fn follow(&mut self, config: &MetadataConfig) {
        let made = self.made.get_or_insert_with(|| (self.make)(config));
        made.follow(config);
    }

    /// Serves `listener` until `closed` is true. Needs a runtime.
    pub(super) fn serve(
        &self,
        listener: TcpListener,
        closed: watch::Receiver<bool>,
    ) -> io::Result<()> {
        match &self.made {
            Some(metadata) => metadata.serve(listener, closed),
            None => Ok(()),
        }
    }
}

/// The metadata API over `tables`.
pub(super) fn face(
    tables: &Arc<ArcSwap<Tables>>,
    published: &watch::Receiver<Arc<Snapshot>>,
    phases: &Phases,
    meters: &Meters,
) -> MetadataFace {
    let current = current(tables, |tables| Arc::clone(&tables.snapshot));
    let (published, phases) = (published.clone(), phases.clone());
    let (accept, metrics) = (meters.accept.clone(), meters.metadata.clone());
    let make = move |config: &MetadataConfig| {
        let around = Surroundings {
            current: current.clone(),
            published: published.clone(),
            phases: phases.clone(),
            accept: accept.clone(),
            metrics: metrics.clone(),
        };
        Metadata::new(config, around)
    };
    MetadataFace { make: Box::new(make), made: None }
}

//! Health beside the catalog: hands it what the proxy saw and what is configured, and takes its
//! verdicts back.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::meters::Meters;
use super::{Tables, current};
use crate::catalog::observed::Sightings;
use crate::catalog::{Snapshot, Verdicts};
use crate::config::Config;
use crate::health::recreate::{self, Events};
use crate::health::{Outliers, Strategies, outlier_task, verdicts};

/// Outlier detection and events, as they run.
#[derive(Debug)]
pub(super) struct Health {
    outliers: watch::Sender<Arc<Outliers>>,
    strategies: watch::Sender<Arc<Strategies>>,
    /// Nobody checks yet; what was found out before stands.
    _checks: watch::Sender<Verdicts>,
}

impl Health {
    /// Starts outlier detection, with what was found out before; gives the verdicts of all health.
    pub(super) fn start(
        config: &Config,
        tables: &Arc<ArcSwap<Tables>>,
        stored: &Verdicts,
        meters: &Meters,
    ) -> (Self, watch::Receiver<Verdicts>) {
        let (outliers, looked_at) = watch::channel(Arc::new(outliers(config)));
        let (strategies, _) = watch::channel(Arc::new(strategies(config)));
        let ejections = outlier_task::start(
            looked_at,
            current(tables, |tables| Arc::clone(&tables.snapshot)),
            sightings(tables),
            stored,
            meters.outliers.clone(),
        );
        // Nobody checks yet; what was found out before stands.
        let (checks, checked) = watch::channel(verdicts::checks_of(stored));
        (Self { outliers, strategies, _checks: checks }, verdicts::join(checked, ejections))
    }

    /// Starts to tell events about what is published.
    pub(super) fn tell_events(
        &self,
        config: &Config,
        published: &watch::Receiver<Arc<Snapshot>>,
        meters: &Meters,
    ) -> Events {
        let wanted = self.strategies.subscribe();
        recreate::start(wanted, published.clone(), config.base_dir.clone(), meters.events.clone())
    }

    /// Goes by `config` from now on.
    pub(super) fn follow(&self, config: &Config) {
        self.outliers.send_replace(Arc::new(outliers(config)));
        self.strategies.send_replace(Arc::new(strategies(config)));
    }
}

fn outliers(config: &Config) -> Outliers {
    let of = |(name, service): (&String, &crate::config::ServiceConfig)| {
        Some((Arc::from(&**name), service.outlier.clone()?))
    };
    config.services.iter().filter_map(of).collect()
}

fn strategies(config: &Config) -> Strategies {
    let of = |(name, service): (&String, &crate::config::ServiceConfig)| {
        Some((Arc::from(&**name), service.on_failure.clone()?))
    };
    config.services.iter().filter_map(of).collect()
}

/// What the proxy's endpoints have shown.
fn sightings(tables: &Arc<ArcSwap<Tables>>) -> Sightings {
    let tables = Arc::clone(tables);
    Arc::new(move |service, found| {
        let proxy = Arc::clone(&tables.load().proxy);
        for endpoint in proxy.endpoints(service) {
            if let Some(observed) = endpoint.observed() {
                found(&endpoint.instance, observed);
            }
        }
    })
}

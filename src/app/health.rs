//! Health beside the catalog: hands it what is published, what the proxy saw and what is configured,
//! and takes its verdicts back.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::meters::Meters;
use super::upgrade::{from_then_on, until_then};
use super::{Tables, current};
use crate::api::{self, PushRefusal};
use crate::catalog::observed::Sightings;
use crate::catalog::{Snapshot, Verdicts};
use crate::config::{Config, Prepared, ServiceConfig};
use crate::health::recreate::{self, Events};
use crate::health::{self, Checks, Outliers, Strategies, outlier_task, verdicts};
use crate::lifecycle::Phases;

/// Checks, outlier detection and events, as they run.
#[derive(Debug)]
pub(super) struct Health {
    checks: Checks,
    outliers: watch::Sender<Arc<Outliers>>,
    strategies: watch::Sender<Arc<Strategies>>,
    verdicts: watch::Receiver<Verdicts>,
}

impl Health {
    /// Starts outlier detection, and checks while they are among our `duties`; what was found out
    /// before stands in `stored`.
    pub(super) fn start(
        config: &Config,
        prepared: &Prepared,
        tables: &Arc<ArcSwap<Tables>>,
        published: &watch::Receiver<Arc<Snapshot>>,
        stored: &Verdicts,
        meters: &Meters,
        duties: &Phases,
    ) -> Self {
        let checks = Checks::start(
            Arc::clone(&prepared.health),
            from_then_on(published, duties),
            &verdicts::checks_of(stored),
            &meters.health,
            duties,
        );
        let (outliers, looked_at) = watch::channel(Arc::new(outliers(config)));
        let ejections = outlier_task::start(
            looked_at,
            current(tables, |tables| Arc::clone(&tables.snapshot)),
            sightings(tables),
            stored,
            meters.outliers.clone(),
        );
        let verdicts = verdicts::join(checks.verdicts(), ejections);
        let (strategies, _) = watch::channel(Arc::new(strategies(config)));
        Self { checks, outliers, strategies, verdicts }
    }

    /// Starts to tell events about what is published.
    pub(super) fn tell_events(
        &self,
        config: &Config,
        published: &watch::Receiver<Arc<Snapshot>>,
        meters: &Meters,
        duties: &Phases,
    ) -> Events {
        let wanted = until_then(self.strategies.subscribe(), duties.clone());
        let base_dir = config.base_dir.clone();
        let data_dir = config.node.data_dir.as_ref().map(|dir| base_dir.join(dir));
        recreate::start(wanted, published.clone(), base_dir, data_dir, meters.events.clone())
    }

    /// The checks.
    pub(super) const fn checks(&self) -> &Checks {
        &self.checks
    }

    /// What all of it says of instances, now and whenever that changes.
    pub(super) fn verdicts(&self) -> watch::Receiver<Verdicts> {
        self.verdicts.clone()
    }

    /// Lets instances that the new `checks` have not asked yet stand as they do; returns once that is
    /// among the verdicts. To be called before the catalog learns of them.
    pub(super) async fn trust(&self, checks: &health::Settings) {
        let trusted = self.checks.trust(checks);
        let known = |told: &Verdicts, name: &Arc<str>| {
            let told = told.get(name).map(|service| &service.instances);
            told.is_some_and(|all| all.values().any(|verdict| verdict.check.is_some()))
        };
        let mut verdicts = self.verdicts.clone();
        // An error: the process ends.
        let _ = verdicts.wait_for(|told| trusted.iter().all(|name| known(told, name))).await;
    }

    /// Goes by `config`, with these `checks`, from now on.
    pub(super) fn follow(&self, config: &Config, checks: Arc<health::Settings>) {
        self.checks.replace(checks);
        self.outliers.send_replace(Arc::new(outliers(config)));
        self.strategies.send_replace(Arc::new(strategies(config)));
    }
}

fn outliers(config: &Config) -> Outliers {
    let of = |(name, service): (&String, &ServiceConfig)| {
        Some((Arc::from(&**name), service.outlier.clone()?))
    };
    config.services.iter().filter_map(of).collect()
}

fn strategies(config: &Config) -> Strategies {
    let of = |(name, service): (&String, &ServiceConfig)| {
        Some((Arc::from(&**name), service.on_failure.clone()?))
    };
    config.services.iter().filter_map(of).collect()
}

/// Takes pushed results for `checks`.
pub(super) fn push(checks: &Checks) -> api::Push {
    let checks = checks.clone();
    Arc::new(move |service, id, body| {
        let pushed = serde_json::from_slice(body).map_err(|error| {
            let form = r#"{"status": "healthy", "output": "why"}"#;
            PushRefusal::Unreadable(format!("the body is not of the form {form}: {error}"))
        })?;
        checks.push(service, id, &pushed).map_err(|error| PushRefusal::Unknown(error.to_string()))
    })
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

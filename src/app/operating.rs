//! Operations as they run: the table, those who change it and show it, and the clock of those who
//! leave.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::departures::Clock;
use super::meters::Meters;
use super::operate::Desk;
use super::operated::View;
use super::publish::Tables;
use super::sight::Sight;
use crate::api::operate::audit::Audit;
use crate::api::operate::{Operate, OperationsConfig};
use crate::catalog::Snapshot;
use crate::catalog::operations::{Operations, Spoken};
use crate::catalog::operations_store::OperationsStore;
use crate::config::Config;
use crate::lifecycle::{Phase, Phases};
use crate::proxy::cut::Cutter;
use crate::proxy::departed::Departed;

/// Wishes that wait.
const WISHES: usize = 64;

/// All about operations that outlives a reload.
pub(super) struct Operating {
    pub(super) spoken: Spoken,
    pub(super) departed: Arc<Mutex<Departed>>,
    pub(super) cutter: Arc<Cutter>,
    config: watch::Sender<Arc<OperationsConfig>>,
    audit: Audit,
    data_dir: Option<PathBuf>,
    base_dir: PathBuf,
    operations: watch::Sender<Arc<Operations>>,
    view: View,
    /// Held while orders are carried out, or must wait.
    orders: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Operating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operating")
    }
}

impl Operating {
    /// Reads what was said before, unless another process has `given` it; nobody is answered yet.
    /// Blocks on reading it.
    pub(super) fn start(
        config: &Config,
        data_dir: Option<&PathBuf>,
        given: Option<Operations>,
        tables: &Arc<ArcSwap<Tables>>,
        sight: &Sight,
        meters: &Meters,
    ) -> Self {
        let store = data_dir.map(|dir| OperationsStore::new(dir));
        let (operations, refused) = match given {
            Some(given) => (given, Vec::new()),
            None => store.as_ref().map(OperationsStore::load).unwrap_or_default(),
        };
        for refused in refused {
            tracing::warn!(file = refused, "what operators said is not used");
        }
        let (sender, operations) = watch::channel(Arc::new(operations));
        let spoken = Spoken { operations, heard: Arc::default() };
        let path = audit_path(&config.operations, &config.base_dir, data_dir);
        let failures = meters.operate.audit_failures.clone();
        let departed = Arc::default();
        Self {
            view: View {
                tables: Arc::clone(tables),
                departed: Arc::clone(&departed),
                sight: sight.clone(),
                operations: spoken.operations.clone(),
            },
            audit: Audit::new(path, config.operations.audit_max.0, failures),
            spoken,
            departed,
            cutter: Arc::default(),
            config: watch::Sender::new(Arc::new(config.operations.clone())),
            data_dir: data_dir.cloned(),
            base_dir: config.base_dir.clone(),
            operations: sender,
            orders: Arc::default(),
        }
    }

    /// Starts to answer operators, as long as that is among our `duties`, and the clock of those who
    /// leave.
    pub(super) fn serve(
        &self,
        published: &watch::Receiver<Arc<Snapshot>>,
        phases: &Phases,
        duties: &Phases,
        meters: &Meters,
    ) -> Operate {
        let (wishes, receiver) = mpsc::channel(WISHES);
        let desk = Desk {
            operations: self.operations.clone(),
            heard: self.spoken.heard.subscribe(),
            store: self.data_dir.as_deref().map(OperationsStore::new),
            audit: self.audit.clone(),
            config: self.config.subscribe(),
            view: self.view.clone(),
            metrics: meters.operate.clone(),
            gone: HashMap::new(),
            orders: Arc::clone(&self.orders),
        };
        desk.metrics.in_force(&self.operations.borrow());
        let mut ended = duties.clone();
        tokio::spawn(async move {
            tokio::select! { () = desk.run(receiver) => {}, () = ended.reached(Phase::Stopped) => {} }
        });
        let clock = Clock {
            departed: Arc::clone(&self.departed),
            cutter: Arc::clone(&self.cutter),
            view: self.view.clone(),
            config: self.config.subscribe(),
            base_dir: self.base_dir.clone(),
            metrics: meters.departures.clone(),
            counts: meters.operate.clone(),
        };
        tokio::spawn(clock.run(published.clone(), phases.clone()));
        let view = self.view.clone();
        Operate { wishes, overview: Arc::new(move || view.overview()), audit: self.audit.clone() }
    }

    /// Lets orders wait for as long as this is held.
    pub(super) async fn hold(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.orders).lock_owned().await
    }

    /// Tells nobody any more that somebody has left: another process does.
    pub(super) fn quiet(&self) {
        self.config.send_modify(|config| {
            *config = Arc::new(OperationsConfig { webhook: None, ..(**config).clone() });
        });
    }

    /// Goes by `config` from now on.
    pub(super) fn follow(&self, config: &Config) {
        let path = audit_path(&config.operations, &config.base_dir, self.data_dir.as_ref());
        self.audit.follow(path, config.operations.audit_max.0);
        self.config.send_replace(Arc::new(config.operations.clone()));
    }
}

/// Where changes are noted, by the configuration.
fn audit_path(
    config: &OperationsConfig,
    base_dir: &Path,
    data_dir: Option<&PathBuf>,
) -> Option<PathBuf> {
    let told = config.audit_log.as_ref().map(|path| base_dir.join(path));
    told.or_else(|| data_dir.map(|dir| dir.join("audit.jsonl")))
}

//! The tables of every face, compiled from one snapshot and swapped by one pointer.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::sight::Sight;
use crate::catalog::publish::{Current, Plan, Publication, run};
use crate::catalog::store::{StateToSave, StoredView};
use crate::catalog::{RegistryState, Snapshot};
use crate::config::Prepared;
use crate::dns::{self, ZoneTable};
use crate::lifecycle::{Lifecycle, Phase, Phases, Readiness};
use crate::proxy::departed::{Around, Departed};
use crate::proxy::{self, ProxyTable};
use crate::registry::Registry;

/// What everyone answers from: all of one generation.
#[derive(Debug, Default)]
pub struct Tables {
    /// What the catalog knows.
    pub snapshot: Arc<Snapshot>,
    /// The zones.
    pub dns: Arc<ZoneTable>,
    /// Listeners, routes, upstreams.
    pub proxy: Arc<ProxyTable>,
    /// Whether every required registry was heard, now or on disk, and is not drained for its silence.
    pub required_heard: bool,
}

/// A face's part of the tables.
pub(super) fn current<T: 'static>(
    tables: &Arc<ArcSwap<Tables>>,
    part: impl Fn(&Tables) -> Arc<T> + Send + Sync + 'static,
) -> Current<T> {
    let tables = Arc::clone(tables);
    Current::new(move || part(&tables.load()))
}

/// By what tables are compiled; a reload brings another one.
#[derive(Debug)]
pub(super) struct Compile {
    dns: Arc<dns::Settings>,
    proxy: Arc<proxy::Settings>,
    required: Vec<Arc<str>>,
}

impl Compile {
    pub(super) fn new(prepared: &Prepared, registries: &BTreeMap<String, Registry>) -> Self {
        let required = registries.values().filter(|registry| registry.required);
        for service in prepared.proxy.unverified() {
            tracing::warn!(service, "endpoints of this service need not show who they are");
        }
        Self {
            dns: Arc::clone(&prepared.dns),
            proxy: Arc::clone(&prepared.proxy),
            required: required.map(|registry| Arc::clone(&registry.name)).collect(),
        }
    }
}

/// Compiles and swaps; the only writer of the tables.
pub(super) struct Publisher {
    tables: Arc<ArcSwap<Tables>>,
    readiness: Readiness,
    phases: Phases,
    published: watch::Sender<Arc<Snapshot>>,
    to_save: watch::Sender<StateToSave>,
    /// Tables that somebody may still answer from: freed here, never on a data thread.
    retired: Vec<Arc<Tables>>,
    sight: Sight,
    departed: Arc<Mutex<Departed>>,
}

impl Publisher {
    pub(super) fn new(
        tables: Arc<ArcSwap<Tables>>,
        readiness: Readiness,
        phases: Phases,
        sight: Sight,
        departed: Arc<Mutex<Departed>>,
    ) -> Self {
        Self {
            tables,
            readiness,
            phases,
            published: watch::Sender::new(Arc::default()),
            to_save: watch::Sender::new(StateToSave::default()),
            retired: Vec::new(),
            sight,
            departed,
        }
    }

    pub(super) fn published(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    pub(super) fn to_save(&self) -> watch::Receiver<StateToSave> {
        self.to_save.subscribe()
    }

    /// Publishes from a thread of its own until the phase is [`Phase::Stopped`]: compiling a large
    /// catalog for the first time takes a while, and nobody else has to wait for it.
    pub(super) fn start(
        mut self,
        plan: Plan<Compile>,
        plans: mpsc::Receiver<Plan<Compile>>,
        first: u64,
    ) -> io::Result<()> {
        let control = tokio::runtime::Handle::current();
        let mut phases = self.phases.clone();
        std::thread::Builder::new().name("catalog".into()).spawn(move || {
            control.block_on(async {
                tokio::select! {
                    () = run(plan, plans, first, |publication| self.publish(&publication)) => {}
                    () = phases.reached(Phase::Stopped) => {}
                }
            });
        })?;
        Ok(())
    }

    fn publish(&mut self, publication: &Publication<'_, Compile>) {
        let Publication { previous, snapshot, inputs, compile } = publication;
        let before = self.tables.load_full();
        let since = previous.map(|previous| (&*before.dns, &**previous));
        let proxy_since = Some((&*before.proxy, &*before.snapshot));
        let counts = |name: &Arc<str>| snapshot.counts(name);
        let tables = Tables {
            dns: Arc::new(ZoneTable::compile(&compile.dns, since, snapshot)),
            proxy: Arc::new(ProxyTable::compile(&compile.proxy, proxy_since, snapshot)),
            required_heard: compile.required.iter().all(counts),
            snapshot: Arc::clone(snapshot),
        };
        let ready = tables.required_heard && self.phases.now().serves();
        // First, so that a process that is stopped as soon as anybody has seen this state saves it.
        self.to_save.send_replace(state(publication));
        let tables = Arc::new(tables);
        self.retired.push(self.tables.swap(Arc::clone(&tables)));
        let around = Around {
            snapshot,
            settings: &inputs.settings,
            operations: &inputs.operations,
            now: Instant::now(),
            wall: SystemTime::now(),
        };
        let mut departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        departed.note(&before.proxy, &tables.proxy, &around);
        drop((departed, tables));
        self.tables.load().proxy.published();
        drop(before);
        self.retired.retain(|tables| !free(tables));
        self.readiness.set(ready);
        self.sight.note(snapshot, inputs);
        self.published.send_replace(Arc::clone(snapshot));
        tracing::debug!(
            generation = snapshot.generation,
            services = snapshot.services.len(),
            "published"
        );
    }
}

/// Whether nobody but us holds these tables or a part of them any more.
fn free(tables: &Arc<Tables>) -> bool {
    Arc::strong_count(tables) == 1
        && Arc::strong_count(&tables.dns) == 1
        && Arc::strong_count(&tables.proxy) == 1
}

/// What a restart would need to answer as we do now.
fn state(publication: &Publication<'_, Compile>) -> StateToSave {
    let views = publication.inputs.sources.iter().filter_map(|source| {
        let (view, heard_at) = match &source.state {
            RegistryState::Syncing => return None,
            RegistryState::Live(view) => (view, SystemTime::now()),
            RegistryState::Stale { last, since, .. } => (last, *since),
        };
        Some((source.name.to_string(), StoredView { view: view.clone(), heard_at }))
    });
    StateToSave {
        views: views.collect(),
        generation: publication.snapshot.generation,
        verdicts: publication.inputs.verdicts.clone(),
    }
}

/// Turns ready when the process serves and every required registry was heard, and says so once.
pub(super) fn readiness_follows(
    tables: &Arc<ArcSwap<Tables>>,
    readiness: &Readiness,
    lifecycle: &Lifecycle,
) {
    let ready = tables.load().required_heard && lifecycle.phases().now() == Phase::Serving;
    readiness.set(ready);
}

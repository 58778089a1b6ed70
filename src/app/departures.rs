//! The clock of those who leave: cuts what has had its time, and tells who has become empty.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::{IntGauge, Registry};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::operated::View;
use crate::api::operate::drained::{Event, Going, Subject, Watcher, Way, tell};
use crate::api::operate::{self, OperationsConfig};
use crate::catalog::assemble::SILENT;
use crate::catalog::history::Identity;
use crate::catalog::operations::MAINTENANCE;
use crate::catalog::{Health, Instance, Presence, Service, Snapshot};
use crate::lifecycle::{Phase, Phases};
use crate::proxy::cut::{Cutter, Reason};
use crate::proxy::departed::{Departed, Severed};
use crate::telemetry::metrics::Register as _;

/// How often to look while anybody is on its way.
const LOOK: Duration = Duration::from_millis(100);

/// What is told of those who leave.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    endpoints: IntGauge,
    in_flight: IntGauge,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            endpoints: registry.gauge(
                "portolan_proxy_leaving_endpoints",
                "Endpoints that have left and where something may still run.",
            )?,
            in_flight: registry.gauge(
                "portolan_proxy_leaving_in_flight",
                "Requests, tunnels and connections at endpoints that have left.",
            )?,
        })
    }
}

/// What the clock works with.
pub(super) struct Clock {
    pub(super) departed: Arc<Mutex<Departed>>,
    pub(super) cutter: Arc<Cutter>,
    pub(super) view: View,
    pub(super) config: watch::Receiver<Arc<OperationsConfig>>,
    pub(super) base_dir: PathBuf,
    pub(super) metrics: Metrics,
    pub(super) counts: operate::Metrics,
}

impl Clock {
    /// Runs until the process has stopped.
    pub(super) async fn run(
        self,
        mut published: watch::Receiver<Arc<Snapshot>>,
        mut phases: Phases,
    ) {
        let mut seen = Arc::clone(&published.borrow_and_update());
        let mut going = Watcher::default();
        let mut watching = false;
        let mut telling = JoinSet::new();
        loop {
            let wanted = self.config.borrow().webhook.is_some();
            let snapshot = Arc::clone(&published.borrow_and_update());
            if wanted && !watching {
                going = Watcher::default();
                self.follow(&mut going, &Snapshot::default(), &snapshot);
            } else if wanted && !Arc::ptr_eq(&seen, &snapshot) {
                self.follow(&mut going, &seen, &snapshot);
            }
            watching = wanted;
            seen = snapshot;

            let (idle, due) = self.pass();
            if wanted && going.waits() {
                for event in
                    going.look(|(service, registry, id)| self.view.running(service, registry, id).1)
                {
                    self.tell(event, &mut telling);
                }
            }
            while telling.try_join_next().is_some() {}

            let busy = !idle || (wanted && going.waits());
            let next = if busy { due.map_or(LOOK, |due| due.min(LOOK)) } else { LOOK * 10 };
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                () = sleep(next) => {}
                () = phases.reached(Phase::Stopped) => return,
            }
        }
    }

    /// Cuts what has had its time; whether nobody is on its way, and for how long nobody has to be
    /// cut.
    fn pass(&self) -> (bool, Option<Duration>) {
        let now = Instant::now();
        let mut departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        let severed = departed.pass(now, |load, reason| self.cutter.cut(load, reason));
        let (endpoints, in_flight) = departed.totals();
        let (idle, due) = (departed.is_empty(), departed.due(now));
        drop(departed);
        self.metrics.endpoints.set(i64::try_from(endpoints).unwrap_or(i64::MAX));
        self.metrics.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        severed.iter().for_each(note);
        (idle, due.map(|due| due.saturating_duration_since(now)))
    }

    /// Takes note of who is on its way in `now`, and who no more.
    fn follow(&self, going: &mut Watcher, before: &Snapshot, now: &Snapshot) {
        let tables = self.view.tables.load();
        let operations = Arc::clone(&self.view.operations.borrow());
        let wants = |name: &Arc<str>| {
            let services = self.view.services(name);
            services.iter().any(|name| tables.proxy.wants(name))
        };
        now.changes_since(before, |(name, was, is)| {
            let wanted = wants(name);
            let there = instances(is);
            let gone = instances(was).into_iter().filter(|(id, _)| !there.contains_key(id));
            for (_, instance) in gone.filter(|_| wanted) {
                if now.registries.iter().any(|r| r.name == instance.registry && !r.heard) {
                    continue;
                }
                going.goes(subject(name, instance), a_going(Way::Leaving, instance, now));
            }
            let mut on_way: HashSet<Subject> = HashSet::new();
            for instance in there.values() {
                let said = wanted || operations.of(name, instance).state.is_some();
                if let Some(way) = way(instance).filter(|_| said) {
                    let subject = subject(name, instance);
                    on_way.insert(subject.clone());
                    going.goes(subject, a_going(way, instance, now));
                }
            }
            let back = |s: &&Subject| {
                let known = there.contains_key(&(Arc::clone(&s.1), Arc::clone(&s.2)));
                known && !on_way.contains(*s)
            };
            let back: Vec<Subject> = going.of(name).filter(back).cloned().collect();
            for subject in &back {
                going.stays(subject);
            }
        });
    }

    fn tell(&self, event: Event, telling: &mut JoinSet<()>) {
        let Some(config) = self.config.borrow().webhook.clone() else { return };
        tracing::info!(
            service = &*event.service,
            instance = &*event.id,
            "nothing runs at an instance any more"
        );
        if telling.len() >= config.pending as usize {
            tracing::error!(instance = &*event.id, "an event is dropped: too many are being told");
            self.counts.event("dropped");
            return;
        }
        let (base_dir, counts) = (self.base_dir.clone(), self.counts.clone());
        telling.spawn(async move {
            let told = tell(&event, &config, &base_dir, |tries, why| {
                if tries == 1 {
                    tracing::warn!(instance = &*event.id, error = why, "an event is not taken yet");
                }
            });
            let taken = told.await;
            counts.event(if taken { "acknowledged" } else { "given_up" });
            if !taken {
                tracing::error!(instance = &*event.id, "an event is given up");
            }
        });
    }
}

fn note(severed: &Severed) {
    let Severed { service, endpoint, reason, counts: [requests, tunnels, connections], after } =
        severed;
    if *reason == Reason::Unhealthy {
        tracing::warn!(
            service = &**service,
            instance = &*endpoint.instance.id,
            endpoint = %endpoint.address,
            reason = reason.word(),
            tunnels,
            connections,
            "connections to an instance that turned unhealthy were closed"
        );
        return;
    }
    tracing::warn!(
        service = &**service,
        instance = &*endpoint.instance.id,
        endpoint = %endpoint.address,
        reason = reason.word(),
        requests,
        tunnels,
        connections,
        after_seconds = after.as_secs_f64(),
        "what still ran at an instance that left was cut"
    );
}

fn instances(service: Option<&Arc<Service>>) -> HashMap<Identity, &Arc<Instance>> {
    let all = service.into_iter().flat_map(|service| service.instances.iter());
    all.map(|i| ((Arc::clone(&i.registry), Arc::clone(&i.id)), i)).collect()
}

fn subject(service: &Arc<str>, instance: &Instance) -> Subject {
    (Arc::clone(service), Arc::clone(&instance.registry), Arc::clone(&instance.id))
}

/// How an instance is on its way, if it is. One whose registry is silent is not.
fn way(instance: &Instance) -> Option<Way> {
    match instance.presence {
        Presence::Leaving => Some(Way::Leaving),
        Presence::Draining if *instance.cause != *SILENT => Some(Way::Draining),
        Presence::Active
            if instance.health == Health::Unhealthy && instance.cause.starts_with(MAINTENANCE) =>
        {
            Some(Way::Maintenance)
        }
        _ => None,
    }
}

fn a_going(way: Way, instance: &Instance, snapshot: &Snapshot) -> Going {
    Going {
        way,
        address: instance.address.to_string(),
        port: instance.port(""),
        node: instance.node.as_ref().map(|node| Arc::clone(&node.name)),
        since: SystemTime::now(),
        generation: snapshot.generation,
    }
}

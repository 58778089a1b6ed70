//! What operators say, from the API to the catalog: taken, kept on disk, noted, undone, forgotten.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::departures::Clock;
use super::meters::Meters;
use super::publish::Tables;
use super::sight::Sight;
use crate::api::operate::audit::{Audit, Entry};
use crate::api::operate::order::{Order, Refused, Wanted, spelled};
use crate::api::operate::{Asked, Metrics, Operate, OperationsConfig, Wish, told};
use crate::catalog::operations::{Aspect, Does, Operation, Operations, Spoken, Target};
use crate::catalog::operations_store::OperationsStore;
use crate::catalog::{Instance, Presence, RegistryStatus, Service, Snapshot};
use crate::config::Config;
use crate::lifecycle::{Phase, Phases};
use crate::proxy::cut::Cutter;
use crate::proxy::departed::Departed;
use crate::proxy::upstream::Endpoint;

/// Longest time that an operator's word may take to be in force; it counts all the same.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(10);
/// Wishes that wait.
const WISHES: usize = 64;
/// How often to look for instances that are gone.
const LOOK: Duration = Duration::from_secs(10);

/// The one who changes what operators say.
struct Desk {
    operations: watch::Sender<Arc<Operations>>,
    heard: watch::Receiver<u64>,
    store: Option<OperationsStore>,
    audit: Audit,
    config: watch::Receiver<Arc<OperationsConfig>>,
    view: View,
    metrics: Metrics,
    /// Since when the instances are gone that operations are about, by number.
    gone: HashMap<u64, Instant>,
}

/// What has to be seen to tell of operations. Cheap to clone.
#[derive(Clone)]
pub(super) struct View {
    pub(super) tables: Arc<ArcSwap<Tables>>,
    pub(super) departed: Arc<Mutex<Departed>>,
    pub(super) sight: Sight,
    pub(super) operations: watch::Receiver<Arc<Operations>>,
}

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
}

impl std::fmt::Debug for Operating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operating")
    }
}

impl Operating {
    /// Reads what was said before; nobody is answered yet. Blocks on reading it.
    pub(super) fn start(
        config: &Config,
        data_dir: Option<&PathBuf>,
        tables: &Arc<ArcSwap<Tables>>,
        sight: &Sight,
        meters: &Meters,
    ) -> Self {
        let store = data_dir.map(|dir| OperationsStore::new(dir));
        let (operations, refused) = store.as_ref().map(OperationsStore::load).unwrap_or_default();
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
        }
    }

    /// Starts to answer operators, and the clock of those who leave.
    pub(super) fn serve(
        &self,
        published: &watch::Receiver<Arc<Snapshot>>,
        phases: &Phases,
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
        };
        desk.metrics.in_force(&self.operations.borrow());
        let mut ended = phases.clone();
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

impl Desk {
    /// Answers wishes, one after the other, until nobody can have any.
    async fn run(mut self, mut wishes: mpsc::Receiver<Asked>) {
        loop {
            let due = self.operations.borrow().due();
            let due = async {
                match due {
                    Some(at) => sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await,
                    None => std::future::pending().await,
                }
            };
            let empty = self.operations.borrow().is_empty();
            tokio::select! {
                asked = wishes.recv() => match asked {
                    Some(asked) => self.answer(asked).await,
                    None => return,
                },
                () = due => self.pass().await,
                () = sleep(LOOK), if !empty => self.forget().await,
            }
        }
    }

    async fn answer(&mut self, Asked { who, wish, answer }: Asked) {
        let what = match &wish {
            Wish::Say(wanted, order) if !order.undo => wanted.word(),
            _ => "undo",
        };
        let mut entry = Entry {
            at: SystemTime::now(),
            who: Arc::clone(&who),
            what,
            target: String::new(),
            operation: None,
            weight: None,
            deadline: None,
            reason: "".into(),
            result: "done".to_owned(),
        };
        if let Wish::Say(_, order) | Wish::Ready(order) = &wish {
            entry.target = wanted_target(order);
            entry.reason = order.reason.as_deref().unwrap_or_default().into();
        }
        let result = self.carry_out(&wish, &who, entry.at).await;
        match &result {
            Ok(operation) => {
                entry.target = spelled(&operation.target);
                entry.operation = Some(operation.number);
                entry.deadline = operation.deadline.filter(|_| what != "undo");
                if let (Does::Weight(weight), true) = (operation.does, what != "undo") {
                    entry.weight = Some(weight.value());
                }
            }
            Err(refused) => entry.result = format!("refused: {}", refused.message()),
        }
        self.metrics.changed(what, result.is_ok());
        self.audit.note(entry).await;
        let told = result.map(|operation| {
            let snapshot = Arc::clone(&self.view.tables.load().snapshot);
            json!({
                "generation": snapshot.generation,
                "kept": self.store.is_some(),
                "undone": what == "undo",
                "operation": self.view.told(&operation, &snapshot),
            })
        });
        // Whoever asked may be gone; the word stands all the same.
        let _ = answer.send(told);
    }

    /// Changes what is said, so that it is on disk and in force when this returns.
    async fn carry_out(
        &self,
        wish: &Wish,
        who: &str,
        now: SystemTime,
    ) -> Result<Arc<Operation>, Refused> {
        let mut next = Operations::clone(&self.operations.borrow());
        let snapshot = Arc::clone(&self.view.tables.load().snapshot);
        let max = self.config.borrow().max as usize;
        let operation = match wish {
            Wish::Say(wanted, order) => {
                let target = order.target(&snapshot, &next)?;
                if order.undo {
                    undo(&mut next, &target, Some(*wanted))?
                } else {
                    let operation = order.operation(*wanted, target, who, now)?;
                    next.put(operation, max).map_err(|full| Refused::Conflict(full.to_string()))?
                }
            }
            Wish::Ready(order) => {
                let target = order.target(&snapshot, &next)?;
                undo(&mut next, &target, None)?
            }
            Wish::Remove(number) => {
                let none = || Refused::Unknown(format!("there is no operation {number}"));
                next.remove(*number).ok_or_else(none)?
            }
        };
        self.say(next).await.map_err(|error| Refused::Unkept(format!("nothing has changed: {error}")))?;
        Ok(operation)
    }

    /// Keeps `next` on disk and hands it to the catalog; returns once it is in force.
    async fn say(&self, next: Operations) -> Result<(), String> {
        let next = Arc::new(next);
        if let Some(store) = self.store.clone() {
            let saved = Arc::clone(&next);
            let written = tokio::task::spawn_blocking(move || store.save(&saved)).await;
            written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        let version = next.version;
        self.metrics.in_force(&next);
        self.operations.send_replace(next);
        let mut heard = self.heard.clone();
        let in_force = heard.wait_for(|heard| *heard >= version);
        if tokio::time::timeout(IN_FORCE_WITHIN, in_force).await.is_err() {
            tracing::error!(version, "an operator's word is not in force yet");
        }
        Ok(())
    }

    /// Deadlines that are over.
    async fn pass(&self) {
        let mut next = Operations::clone(&self.operations.borrow());
        let over = next.pass(SystemTime::now());
        if over.is_empty() {
            // The clock may stand a little before the moment that was slept to.
            sleep(Duration::from_millis(1)).await;
            return;
        }
        if let Err(error) = self.say(next.clone()).await {
            tracing::error!(error, "that a deadline is over cannot be kept on disk");
            // It is over all the same.
            self.operations.send_replace(Arc::new(next));
        }
        for operation in over {
            self.note("deadline", &operation, "what still ran there is cut").await;
        }
    }

    /// What is said of instances that are gone for long.
    async fn forget(&mut self) {
        let snapshot = Arc::clone(&self.view.tables.load().snapshot);
        let operations = Arc::clone(&self.operations.borrow());
        let limit = self.config.borrow().forget.0;
        let now = Instant::now();
        let mut next = Operations::clone(&operations);
        let mut forgotten = Vec::new();
        for operation in operations.iter() {
            let Target::Instance { registry, .. } = &operation.target else { continue };
            let live = |r: &RegistryStatus| r.name == *registry && r.stale.is_none() && r.heard;
            let sure = snapshot.registries.iter().any(live)
                || snapshot.registries.iter().all(|known| known.name != *registry);
            if !sure || found(&operation.target, &snapshot).is_some() {
                self.gone.remove(&operation.number);
                continue;
            }
            if *self.gone.entry(operation.number).or_insert(now) + limit <= now {
                forgotten.extend(next.remove(operation.number));
            }
        }
        self.gone.retain(|number, _| next.iter().any(|operation| operation.number == *number));
        if forgotten.is_empty() {
            return;
        }
        match self.say(next).await {
            Ok(()) => {
                for operation in forgotten {
                    self.note("forget", &operation, "its instance has been gone for long").await;
                }
            }
            Err(error) => tracing::warn!(error, "operations about who is gone are not forgotten yet"),
        }
    }

    async fn note(&self, what: &'static str, operation: &Operation, result: &str) {
        self.metrics.changed(what, true);
        let entry = Entry {
            at: SystemTime::now(),
            who: "portolan".into(),
            what,
            target: spelled(&operation.target),
            operation: Some(operation.number),
            weight: None,
            deadline: operation.deadline,
            reason: Arc::clone(&operation.reason),
            result: result.to_owned(),
        };
        self.audit.note(entry).await;
    }
}

/// Takes back what is said of `target`: what was `wanted`, or drain and maintenance alike.
fn undo(
    next: &mut Operations,
    target: &Target,
    wanted: Option<Wanted>,
) -> Result<Arc<Operation>, Refused> {
    let aspect = if wanted == Some(Wanted::Weight) { Aspect::Weight } else { Aspect::State };
    let name = spelled(target);
    let undone = next.undo(target, aspect).ok_or_else(|| {
        let what = wanted.map_or("drain or maintenance", Wanted::word);
        Refused::Unknown(format!(
            "no {what} is said of {name} itself; what is said of its node is undone for the node"
        ))
    })?;
    match wanted {
        Some(wanted) if wanted.word() != undone.does.word() => Err(Refused::Conflict(format!(
            "{name} is in {}, not in {}; `portolan ready` undoes either",
            undone.does.word(),
            wanted.word()
        ))),
        _ => Ok(undone),
    }
}

/// Whom an order is about, as it was asked.
fn wanted_target(order: &Order) -> String {
    let parts = [&order.registry, &order.service, &order.id, &order.node];
    parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/")
}

/// The instance that `target` is, when it is there.
fn found<'a>(target: &Target, snapshot: &'a Snapshot) -> Option<(&'a Arc<Service>, &'a Arc<Instance>)> {
    let Target::Instance { service, registry, id } = target else { return None };
    let service = snapshot.service(service)?;
    let own = |i: &&Arc<Instance>| i.registry == *registry && i.id == *id;
    Some((service, service.instances.iter().find(own)?))
}

impl View {
    /// Every operation, and who has left.
    pub(super) fn overview(&self) -> Value {
        let snapshot = Arc::clone(&self.tables.load().snapshot);
        let operations = Arc::clone(&self.operations.borrow());
        let told: Vec<Value> =
            operations.iter().map(|operation| self.told(operation, &snapshot)).collect();
        let departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "generation": snapshot.generation,
            "operations": told,
            "leaving": departed.leaving(Instant::now()),
        })
    }

    /// An operation, with what runs at whom it is about.
    fn told(&self, operation: &Operation, snapshot: &Snapshot) -> Value {
        let mut told = told(operation);
        let mut instances = Vec::new();
        match &operation.target {
            Target::Instance { service, registry, id } => {
                let found = found(&operation.target, snapshot).map(|(_, instance)| instance);
                instances.push(self.instance(service, registry, id, found));
            }
            Target::Node(node) => {
                let mut services: Vec<_> = snapshot.services.values().collect();
                services.sort_by(|a, b| a.name.cmp(&b.name));
                for service in services {
                    let on = |i: &&Arc<Instance>| i.node.as_ref().is_some_and(|n| n.name == *node);
                    instances.extend(service.instances.iter().filter(on).map(|instance| {
                        let (registry, id) = (&instance.registry, &instance.id);
                        self.instance(&service.name, registry, id, Some(instance))
                    }));
                }
                let left = self.left(node, &instances);
                instances.extend(left);
            }
        }
        let in_flight: u64 = instances.iter().filter_map(|i| i["in_flight"].as_u64()).sum();
        if let Some(told) = told.as_object_mut() {
            told.insert("in_flight".into(), in_flight.into());
            told.insert("instances".into(), instances.into());
        }
        told
    }

    /// Instances of `node` that are gone while something still runs there; `listed` are not.
    fn left(&self, node: &str, listed: &[Value]) -> Vec<Value> {
        let listed = |registry: &str, id: &str| {
            listed.iter().any(|known| known["registry"] == registry && known["id"] == id)
        };
        let departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        departed
            .on_node(node)
            .filter(|(_, e)| !listed(&e.instance.registry, &e.instance.id) && e.in_flight() > 0)
            .map(|(service, endpoint)| {
                json!({
                    "service": service,
                    "registry": endpoint.instance.registry,
                    "id": endpoint.instance.id,
                    "node": node,
                    "state": "gone",
                    "in_flight": endpoint.in_flight(),
                    "endpoints": [
                        { "address": endpoint.address, "in_flight": endpoint.in_flight() }
                    ],
                })
            })
            .collect()
    }

    fn instance(
        &self,
        service: &Arc<str>,
        registry: &str,
        id: &str,
        found: Option<&Arc<Instance>>,
    ) -> Value {
        let (endpoints, in_flight) = self.running(service, registry, id);
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|e| json!({ "address": e.address, "in_flight": e.in_flight() }))
            .collect();
        json!({
            "service": service,
            "registry": registry,
            "id": id,
            "node": found.and_then(|found| found.node.as_ref()).map(|node| Arc::clone(&node.name)),
            "address": found.map(|found| found.address.to_string()),
            "state": found.map_or("gone", |found| match found.presence {
                Presence::Active => found.health.word(),
                Presence::Draining => "draining",
                Presence::Leaving => "leaving",
            }),
            "weight": found.map(|found| found.weight.value()),
            "in_flight": in_flight,
            "endpoints": endpoints,
        })
    }

    /// The endpoints of an instance, and what runs there and at those that it had.
    pub(super) fn running(
        &self,
        service: &Arc<str>,
        registry: &str,
        id: &str,
    ) -> (Vec<Arc<Endpoint>>, u32) {
        let tables = self.tables.load();
        let services = self.services(service);
        let own = |e: &&Arc<Endpoint>| *e.instance.registry == *registry && *e.instance.id == *id;
        let endpoints = services.iter().flat_map(|name| tables.proxy.all_endpoints(name));
        let endpoints: Vec<_> = endpoints.filter(own).cloned().collect();
        let listed: u32 = endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
        let departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        let out = departed.in_flight(&services, registry, id);
        (endpoints, listed + out)
    }

    /// The services whose upstreams may use instances of `service`.
    pub(super) fn services(&self, service: &Arc<str>) -> Vec<Arc<str>> {
        let mut names = HashSet::from([Arc::clone(service)]);
        self.sight.settings().with_dependents(&mut names);
        names.into_iter().collect()
    }
}

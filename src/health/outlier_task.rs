//! Looks at what the proxy saw, ten times a second, and tells who is ejected. What is decided is
//! decided in [`outlier`](super::outlier).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::outlier::{Judge, Key, Member, Now, Outcome, Signal};
use super::outlier_config::OutlierConfig;
use crate::catalog::observed::{Observed, Sightings, Totals};
use crate::catalog::publish::Current;
use crate::catalog::verdict::Verdicts;
use crate::catalog::{Service, Snapshot};
use crate::telemetry::metrics::Register as _;

/// Pause between two looks: an instance is out so long after its last failure, and a little.
const LOOK: Duration = Duration::from_millis(100);

/// Settings by service; services without one are not looked at.
pub type Outliers = BTreeMap<Arc<str>, OutlierConfig>;

/// What outlier detection counts.
#[derive(Debug, Clone)]
pub struct OutlierMetrics {
    ejections: [IntCounter; 3],
    spared: IntCounter,
    out: IntGauge,
}

impl OutlierMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ejections = registry.counter_vec(
            "portolan_health_ejections_total",
            "Instances ejected by what the proxy saw of them, by the signal.",
            &["signal"],
        )?;
        let spared = registry.counter(
            "portolan_health_ejections_spared_total",
            "Times that an outlier was not ejected, for too many are out or it is the last.",
        )?;
        let out = registry.gauge(
            "portolan_health_ejected_instances",
            "Instances that are out by what the proxy saw of them.",
        )?;
        let ejections = Signal::ALL.map(|signal| ejections.with_label_values(&[signal.name()]));
        Ok(Self { ejections, spared, out })
    }
}

/// Starts looking; the verdicts say who is out, and nothing else. It goes on until the sender of
/// `settings` is gone.
///
/// Ejections in `restored` stand to their end, as long as their service is looked at.
#[must_use]
pub fn start(
    settings: watch::Receiver<Arc<Outliers>>,
    snapshots: Current<Snapshot>,
    sightings: Sightings,
    restored: &Verdicts,
    metrics: OutlierMetrics,
) -> watch::Receiver<Verdicts> {
    let now = Now { instant: Instant::now(), wall: SystemTime::now() };
    let mut watching = Watching {
        services: BTreeMap::new(),
        snapshots,
        sightings,
        metrics,
        verdicts: watch::Sender::new(Verdicts::default()),
    };
    for (name, config) in &**settings.borrow() {
        let stored = restored.get(&**name);
        let judge = stored.map(|stored| Judge::restored(config, now, stored));
        let judge = judge.unwrap_or_else(|| Judge::new(now.instant));
        watching.services.insert(Arc::clone(name), Watched::by(judge));
        watching.tell(name);
    }
    let verdicts = watching.verdicts.subscribe();
    tokio::spawn(watching.run(settings));
    verdicts
}

/// All services that are looked at.
struct Watching {
    services: BTreeMap<Arc<str>, Watched>,
    snapshots: Current<Snapshot>,
    sightings: Sightings,
    metrics: OutlierMetrics,
    verdicts: watch::Sender<Verdicts>,
}

/// One service.
struct Watched {
    judge: Judge,
    /// The counters of each instance's endpoints, as they stood at the last look.
    counters: HashMap<Key, Vec<(Arc<Observed>, Totals)>>,
}

impl Watched {
    fn by(judge: Judge) -> Self {
        Self { judge, counters: HashMap::new() }
    }
}

impl Watching {
    async fn run(mut self, mut settings: watch::Receiver<Arc<Outliers>>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = Arc::clone(&settings.borrow_and_update());
            self.follow(&now);
            loop {
                tokio::select! {
                    changed = settings.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = ticks.tick(), if !now.is_empty() => self.look(&now),
                }
            }
        }
    }

    /// Takes in services that are new in the settings, and lets go of others with their ejections.
    fn follow(&mut self, settings: &Outliers) {
        let gone: Vec<Arc<str>> =
            self.services.keys().filter(|name| !settings.contains_key(*name)).cloned().collect();
        for name in gone {
            self.services.remove(&name);
            self.tell(&name);
        }
        for name in settings.keys() {
            self.services
                .entry(Arc::clone(name))
                .or_insert_with(|| Watched::by(Judge::new(Instant::now())));
        }
        self.count();
    }

    fn look(&mut self, settings: &Outliers) {
        let now = Now { instant: Instant::now(), wall: SystemTime::now() };
        let snapshot = self.snapshots.load();
        let mut changed = Vec::new();
        for (name, config) in settings {
            let Some(watched) = self.services.get_mut(name) else { continue };
            let service = snapshot.service(name).map(|service| &**service);
            let members = watched.members(name, service, &self.sightings);
            let outcome = watched.judge.look(config, now, &members);
            for key in &outcome.returned {
                // It may have had an endpoint all the time, with failures from before.
                watched.counters.get(key).into_iter().flatten().for_each(|(o, _)| o.forget_run());
            }
            self.metrics.spared.inc_by(outcome.spared as u64);
            if !outcome.ejected.is_empty() || !outcome.returned.is_empty() {
                self.log(name, &outcome);
            }
            changed.push(Arc::clone(name));
        }
        for name in changed {
            self.tell(&name);
        }
        self.count();
    }

    fn log(&self, service: &str, outcome: &Outcome) {
        let verdicts = self.services.get(service).map(|watched| watched.judge.verdicts());
        for (key, signal) in &outcome.ejected {
            self.metrics.ejections[*signal as usize].inc();
            let verdict = verdicts.as_ref().and_then(|verdicts| verdicts.instances.get(key));
            let Some(verdict) = verdict else { continue };
            let cause = verdict.ejected.as_ref().map(|ejected| &*ejected.cause);
            tracing::warn!(
                service, registry = &*key.0, instance = &*key.1, address = %verdict.address,
                cause, "an instance is ejected"
            );
        }
        for (registry, instance) in &outcome.returned {
            tracing::info!(
                service,
                registry = &**registry,
                instance = &**instance,
                "an ejected instance gets work again"
            );
        }
    }

    /// Puts what the service's judge says into the verdicts, when it is something else than before.
    fn tell(&self, name: &Arc<str>) {
        let told = self.services.get(name).map(|watched| watched.judge.verdicts());
        let told = told.filter(|told| !told.instances.is_empty());
        self.verdicts.send_if_modified(|verdicts| {
            if verdicts.get(&**name).map(|known| &**known) == told.as_ref() {
                return false;
            }
            match told {
                Some(told) => verdicts.insert(Arc::clone(name), Arc::new(told)),
                None => verdicts.remove(&**name),
            };
            true
        });
    }

    fn count(&self) {
        let out: usize = self.services.values().map(|watched| watched.judge.out()).sum();
        self.metrics.out.set(i64::try_from(out).unwrap_or(i64::MAX));
    }
}

impl Watched {
    /// The instances of the service with what was seen of them since the last look.
    fn members(
        &mut self,
        name: &str,
        service: Option<&Service>,
        sightings: &Sightings,
    ) -> Vec<Member> {
        let mut seen: HashMap<Key, (Totals, u32)> = HashMap::new();
        let mut counters: HashMap<Key, Vec<(Arc<Observed>, Totals)>> = HashMap::new();
        sightings(name, &mut |instance, observed| {
            let key: Key = (Arc::clone(&instance.registry), Arc::clone(&instance.id));
            let known = self.counters.get(&key).into_iter().flatten();
            let before = known.into_iter().find(|(known, _)| Arc::ptr_eq(known, observed));
            let totals = observed.totals();
            let before = before.map_or_else(Totals::default, |(_, before)| *before);
            let (sum, run) = seen.entry(key.clone()).or_default();
            *sum += totals - before;
            *run = (*run).max(observed.take_run());
            counters.entry(key).or_default().push((Arc::clone(observed), totals));
        });
        self.counters = counters;
        let Some(service) = service else { return Vec::new() };
        // The eligible ones stand in the same order; those of another service are not among ours.
        let mut eligible = service.eligible.iter().peekable();
        let member = |instance| {
            let gets_work = eligible.next_if(|next| Arc::ptr_eq(next, instance)).is_some();
            let key: Key = (Arc::clone(&instance.registry), Arc::clone(&instance.id));
            let (seen, run) = seen.get(&key).copied().unwrap_or_default();
            let serving = gets_work && instance.health.serves();
            Member { key, address: instance.address.clone(), serving, seen, run }
        };
        service.instances.iter().map(member).collect()
    }
}

#[cfg(test)]
#[path = "outlier_task_tests.rs"]
mod tests;

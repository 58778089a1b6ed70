//! Metrics that are read off the newest snapshot when somebody asks.

use std::collections::BTreeMap;
use std::time::SystemTime;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts};

use crate::catalog::publish::Current;
use crate::catalog::{Presence, Service, Snapshot};

/// Collects what the catalog knows: instances by state, eligible ones, registries, generation.
///
/// Labels are bounded by the catalog itself: services that are gone are gone here too.
#[derive(Debug)]
pub struct Services {
    current: Current<Snapshot>,
    descriptions: Vec<Desc>,
}

struct Families {
    instances: IntGaugeVec,
    eligible: IntGaugeVec,
    problems: IntGaugeVec,
    up: IntGaugeVec,
    age: GaugeVec,
    held: IntGaugeVec,
    generation: IntGauge,
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        let vec = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        Ok(Self {
            instances: vec(
                "portolan_service_instances",
                "Instances of each service by state; states without an instance are left out.",
                &["service", "state"],
            )?,
            eligible: vec(
                "portolan_service_eligible_instances",
                "Instances of each service that get new work.",
                &["service"],
            )?,
            problems: vec(
                "portolan_service_problems",
                "What was refused about a service; services without problems are left out.",
                &["service"],
            )?,
            up: vec(
                "portolan_registry_up",
                "Whether a registry answers: 1 live, 0 stale or never heard.",
                &["registry"],
            )?,
            age: GaugeVec::new(
                Opts::new(
                    "portolan_registry_stale_seconds",
                    "Time since a stale registry was heard last; 0 for one that answers.",
                ),
                &["registry"],
            )?,
            held: vec(
                "portolan_registry_held_instances",
                "Instances that a suspect registry would take away and that the guard holds.",
                &["registry"],
            )?,
            generation: IntGauge::new(
                "portolan_generation",
                "Number of the state that every face answers from.",
            )?,
        })
    }

    fn parts(&self) -> [&dyn Collector; 7] {
        [
            &self.instances,
            &self.eligible,
            &self.problems,
            &self.up,
            &self.age,
            &self.held,
            &self.generation,
        ]
    }
}

impl Services {
    /// A collector over the newest snapshot.
    ///
    /// # Errors
    /// Never in practice: the names are constants.
    pub fn new(current: Current<Snapshot>) -> Result<Self, prometheus::Error> {
        let families = Families::new()?;
        let descriptions = families.parts().iter().flat_map(|part| part.desc()).cloned().collect();
        Ok(Self { current, descriptions })
    }
}

/// How many instances of `service` there are in each state; each instance is in one.
pub(super) fn states(service: &Service) -> BTreeMap<&'static str, i64> {
    let mut states = BTreeMap::new();
    for instance in service.instances.iter() {
        let state = match instance.presence {
            Presence::Active => instance.health.word(),
            Presence::Draining => "draining",
            Presence::Leaving => "leaving",
        };
        *states.entry(state).or_default() += 1;
    }
    states
}

impl Collector for Services {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(families) = Families::new() else { return Vec::new() };
        let snapshot = self.current.load();
        families.generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
        for (name, service) in snapshot.services.iter() {
            for (state, count) in states(service) {
                families.instances.with_label_values(&[&**name, state]).set(count);
            }
            families.eligible.with_label_values(&[name]).set(service.eligible.len() as i64);
            if !service.problems.is_empty() {
                families.problems.with_label_values(&[name]).set(service.problems.len() as i64);
            }
        }
        for registry in snapshot.registries.iter() {
            let live = registry.heard && registry.stale.is_none();
            families.up.with_label_values(&[&registry.name]).set(i64::from(live));
            let age = registry.stale.as_ref().map_or(0.0, |stale| {
                SystemTime::now().duration_since(stale.since).unwrap_or_default().as_secs_f64()
            });
            families.age.with_label_values(&[&registry.name]).set(age);
            let held: usize = registry.held.iter().map(|held| held.lost).sum();
            families.held.with_label_values(&[&registry.name]).set(held as i64);
        }
        families.parts().iter().flat_map(|part| part.collect()).collect()
    }
}

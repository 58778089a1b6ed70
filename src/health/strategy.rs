//! What follows when an instance turns unhealthy: nothing, or an event that asks to recreate it;
//! always, or only while enough others of its service stay healthy (the three strategies of
//! Rancher's health checks). Pure: snapshots come in, decisions go out.
//!
//! Only an instance that was seen to serve can turn unhealthy, by its registry or its checks; an
//! ejection is no reason. One event is told per time that it turns; it is dropped when the instance
//! recovers, leaves or is drained before the event was told or acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use super::ledger::Open;
pub use super::on_failure::{OnFailureConfig, Strategy};
use super::outlier::{self, Key, Now};
use crate::catalog::operations::MAINTENANCE;
use crate::catalog::verdict::NOT_CHECKED_YET;
use crate::catalog::{Health, Instance, Presence, Service, Snapshot};

/// Settings by service.
pub type Strategies = BTreeMap<Arc<str>, OnFailureConfig>;

/// Asks to recreate one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The same for every try of one event, and never again: generation, service, registry, id.
    pub id: Arc<str>,
    /// What is asked for: `recreate`.
    pub event: &'static str,
    /// The service.
    pub service: Arc<str>,
    /// Id of the instance.
    pub instance: Arc<str>,
    /// The registry that told of it.
    pub registry: Arc<str>,
    /// Its address.
    pub address: String,
    /// Its first port; none: it has none.
    pub port: Option<u16>,
    /// The machine below it, when the registry tells.
    pub node: Option<Arc<str>>,
    /// Who says that it is unhealthy and why.
    pub cause: Arc<str>,
    /// Since when it is.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub since: SystemTime,
    /// The generation in which that was seen.
    pub generation: u64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Tell this event.
    Tell(Event),
    /// The instance recovered or left: an event about it that is not through is not to be told again.
    Drop(Arc<str>, Key),
}

/// An event that is not told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The service.
    pub service: Arc<str>,
    /// The instance.
    pub instance: Arc<str>,
    /// Since when it is unhealthy.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub since: SystemTime,
    /// What the event waits for.
    pub waits_for: &'static str,
}

/// How an instance of a service with a strategy stands.
#[derive(Debug, Clone)]
enum Standing {
    Good,
    /// It failed, and nobody was told yet.
    Failing {
        since: Now,
        generation: u64,
        waits_for: &'static str,
    },
    Told,
}

/// What is remembered of all services that have a strategy.
#[derive(Debug, Default)]
pub struct Strategist {
    services: BTreeMap<Arc<str>, BTreeMap<Key, Standing>>,
}

/// What an instance's health says here.
enum Word {
    Good,
    Bad,
    /// Not decided, or no business of ours.
    Nothing,
}

fn word(instance: &Instance) -> Word {
    match instance.health {
        Health::Unhealthy if instance.cause.starts_with(outlier::CAUSE) => Word::Good,
        Health::Unhealthy if &*instance.cause == NOT_CHECKED_YET => Word::Nothing,
        // An operator has it in hand.
        Health::Unhealthy if instance.cause.starts_with(MAINTENANCE) => Word::Nothing,
        Health::Unhealthy => Word::Bad,
        _ => Word::Good,
    }
}

impl Strategist {
    /// One that remembers what was `open` when the process ended last.
    #[must_use]
    pub fn resumed(open: Vec<Open>, now: Now) -> Self {
        let mut strategist = Self::default();
        for Open { service, instance, since, generation } in open {
            let ago = now.wall.duration_since(since).unwrap_or_default();
            let from = now.instant.checked_sub(ago).unwrap_or(now.instant);
            let since = Now { instant: from, wall: since };
            let failing = Standing::Failing { since, generation, waits_for: AFTER };
            strategist.services.entry(service).or_default().insert(instance, failing);
        }
        strategist
    }

    /// The events that are not told yet, as they can be resumed.
    #[must_use]
    pub fn open(&self) -> Vec<Open> {
        let of = |(service, instances): (&Arc<str>, &BTreeMap<Key, Standing>)| {
            let open = instances.iter().filter_map(|(key, standing)| match standing {
                Standing::Failing { since, generation, .. } => Some(Open {
                    service: Arc::clone(service),
                    instance: key.clone(),
                    since: since.wall,
                    generation: *generation,
                }),
                _ => None,
            });
            open.collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of).collect()
    }

    /// Looks at `snapshot`; `room` says how many more events of a service can be told now.
    pub fn look(
        &mut self,
        settings: &Strategies,
        snapshot: &Snapshot,
        now: Now,
        room: impl Fn(&str) -> usize,
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let gone: Vec<Arc<str>> = self
            .services
            .keys()
            .filter(|name| settings.get(*name).is_none_or(|s| s.strategy == Strategy::None))
            .cloned()
            .collect();
        for name in gone {
            self.forget(&name, |_| true, &mut decisions);
            self.services.remove(&name);
        }
        for (name, config) in settings {
            if config.strategy == Strategy::None {
                continue;
            }
            let service = snapshot.service(name).map(|service| &**service);
            self.follow(name, service, now, snapshot.generation, &mut decisions);
            if let Some(service) = service {
                self.tell(config, service, now.instant, room(name), &mut decisions);
            }
        }
        decisions
    }

    /// When the next event is due that waits only for time; none: no event does.
    #[must_use]
    pub fn due(&self, settings: &Strategies) -> Option<Instant> {
        let due = |(name, instances): (&Arc<str>, &BTreeMap<Key, Standing>)| {
            let after = settings.get(name)?.after.0;
            let waits = instances.values().filter_map(|standing| match standing {
                Standing::Failing { since, waits_for: AFTER, .. } => Some(since.instant + after),
                _ => None,
            });
            waits.min()
        };
        self.services.iter().filter_map(due).min()
    }

    /// Events that are not told yet, and what they wait for.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        for (service, instances) in &self.services {
            for ((_, id), standing) in instances {
                if let Standing::Failing { since, waits_for, .. } = standing {
                    waiting.push(Waiting {
                        service: Arc::clone(service),
                        instance: Arc::clone(id),
                        since: since.wall,
                        waits_for,
                    });
                }
            }
        }
        waiting
    }

    /// Takes in how each instance stands now.
    fn follow(
        &mut self,
        name: &Arc<str>,
        service: Option<&Service>,
        now: Now,
        generation: u64,
        decisions: &mut Vec<Decision>,
    ) {
        let present: BTreeMap<Key, &Arc<Instance>> = service
            .iter()
            .flat_map(|service| service.instances.iter())
            .filter(|instance| instance.presence == Presence::Active)
            .map(|i| ((Arc::clone(&i.registry), Arc::clone(&i.id)), i))
            .collect();
        self.forget(name, |key| !present.contains_key(key), decisions);
        let known = self.services.entry(Arc::clone(name)).or_default();
        for (key, instance) in present {
            match (known.get(&key), word(instance)) {
                (None | Some(Standing::Failing { .. }), Word::Good) => {
                    known.insert(key, Standing::Good);
                }
                (Some(Standing::Good), Word::Bad) => {
                    let failing = Standing::Failing { since: now, generation, waits_for: AFTER };
                    known.insert(key, failing);
                }
                (Some(Standing::Told), Word::Good) => {
                    known.insert(key.clone(), Standing::Good);
                    decisions.push(Decision::Drop(Arc::clone(name), key));
                }
                _ => {}
            }
        }
    }

    /// Lets go of the instances of a service that `gone` names.
    fn forget(&mut self, name: &str, gone: impl Fn(&Key) -> bool, decisions: &mut Vec<Decision>) {
        let Some((name, known)) = self.services.get_key_value(name) else { return };
        let name = Arc::clone(name);
        let lost: Vec<Key> = known.keys().filter(|key| gone(key)).cloned().collect();
        let Some(known) = self.services.get_mut(&name) else { return };
        for key in lost {
            if matches!(known.remove(&key), Some(Standing::Told)) {
                decisions.push(Decision::Drop(Arc::clone(&name), key));
            }
        }
    }

    /// Tells what is due, as far as there is room; those that failed first come first.
    fn tell(
        &mut self,
        config: &OnFailureConfig,
        service: &Service,
        now: Instant,
        mut room: usize,
        decisions: &mut Vec<Decision>,
    ) {
        let Some(known) = self.services.get_mut(&service.name) else { return };
        let healthy = |i: &&Arc<Instance>| i.presence == Presence::Active && i.health.serves();
        let healthy = service.instances.iter().filter(healthy).count();
        let quorum = config.strategy != Strategy::RecreateOnQuorum
            || healthy >= usize::try_from(config.quorum).unwrap_or(usize::MAX);
        let mut failing: Vec<(Instant, &Key, &mut Standing)> = known
            .iter_mut()
            .filter_map(|(key, standing)| match standing {
                Standing::Failing { since, .. } => Some((since.instant, key, standing)),
                _ => None,
            })
            .collect();
        failing.sort_by_key(|(since, ..)| *since);
        for (from, key, standing) in failing {
            let Standing::Failing { since, generation, waits_for } = standing else { continue };
            *waits_for = if from + config.after.0 > now {
                AFTER
            } else if !quorum {
                "quorum"
            } else if room == 0 {
                "room"
            } else {
                let bad = |i: &&Arc<Instance>| {
                    (&i.registry, &i.id) == (&key.0, &key.1) && matches!(word(i), Word::Bad)
                };
                // After a restart it may not have been asked yet.
                let Some(instance) = service.instances.iter().find(bad) else { continue };
                room -= 1;
                let event = event(service, instance, since.wall, *generation);
                decisions.push(Decision::Tell(event));
                *standing = Standing::Told;
                continue;
            };
        }
    }
}

/// What an event waits for whose instance has not been unhealthy for long enough.
const AFTER: &str = "after";

fn event(service: &Service, instance: &Instance, since: SystemTime, generation: u64) -> Event {
    let (name, registry, id) = (&service.name, &instance.registry, &instance.id);
    Event {
        id: format!("{generation}:{name}:{registry}:{id}").into(),
        event: "recreate",
        service: Arc::clone(name),
        instance: Arc::clone(id),
        registry: Arc::clone(registry),
        address: instance.address.to_string(),
        port: instance.port(""),
        node: instance.node.as_ref().map(|node| Arc::clone(&node.name)),
        cause: Arc::clone(&instance.cause),
        since,
        generation,
    }
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;

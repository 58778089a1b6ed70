//! What follows when an instance turns unhealthy: nothing, or an event that asks to recreate it;
//! always, or only while enough others of its service stay healthy (the three strategies of
//! Rancher's health checks). Pure: snapshots come in, decisions go out.
//!
//! Only an instance that was seen to serve can turn unhealthy, by its registry or its checks; an
//! ejection is no reason. One event is told per time that it turns; it is dropped when the instance
//! recovers, leaves or is drained before the event was told or acknowledged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::outlier::{self, Key, Now};
use crate::catalog::operations::MAINTENANCE;
use crate::catalog::verdict::NOT_CHECKED_YET;
use crate::catalog::{Health, Instance, Presence, Service, Snapshot};
use crate::units::Period;

/// `[service.NAME] on_failure`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnFailureConfig {
    /// When an event is told.
    pub strategy: Strategy,
    /// With `recreate-on-quorum`: how many others have to be healthy.
    pub quorum: u32,
    /// How long an instance has to be unhealthy without a break.
    pub after: Period,
    /// Where the event is posted to as JSON: a URL of `http` or `https`.
    pub webhook: Option<String>,
    /// A file of header lines that go with the webhook: a token, say. Read for each try.
    pub webhook_headers: Option<PathBuf>,
    /// What is run by a shell, with the event in its environment.
    pub command: Option<String>,
    /// How long one try may take.
    pub timeout: Period,
    /// The longest pause before the second try; each later one is up to twice as long.
    pub retry_min: Period,
    /// The longest pause before any try.
    pub retry_max: Period,
    /// How long an event is tried before it is given up.
    pub give_up: Period,
    /// Events that are tried at a time; others wait until one of them is through.
    pub pending: u32,
}

impl Default for OnFailureConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::None,
            quorum: 1,
            after: Period::from_secs(0),
            webhook: None,
            webhook_headers: None,
            command: None,
            timeout: Period::from_secs(10),
            retry_min: Period::from_secs(1),
            retry_max: Period::from_secs(60),
            give_up: Period::from_secs(3600),
            pending: 16,
        }
    }
}

/// When an event is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Never.
    #[default]
    None,
    /// For each instance that turns unhealthy.
    Recreate,
    /// For each one, once `quorum` others are healthy.
    RecreateOnQuorum,
}

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

impl OnFailureConfig {
    /// What can't be, with what to write.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let to_nobody = self.webhook.is_none() && self.command.is_none();
        if self.strategy != Strategy::None && to_nobody {
            let message = "tells nobody; add webhook = \"http://…\" or command = \"…\"";
            return Some(("strategy", message.to_owned()));
        }
        if let Some(Err(message)) = self.webhook.as_deref().map(crate::net::post::Target::parse) {
            return Some(("webhook", message));
        }
        if self.webhook_headers.is_some() && self.webhook.is_none() {
            return Some(("webhook_headers", "has no webhook to go with".to_owned()));
        }
        if self.strategy == Strategy::RecreateOnQuorum && self.quorum == 0 {
            return Some(("quorum", "quorum = 0 is what strategy = \"recreate\" does".to_owned()));
        }
        if self.pending == 0 {
            return Some(("pending", "pending = 0 would never tell an event".to_owned()));
        }
        for (key, period) in [("timeout", self.timeout), ("retry_min", self.retry_min)] {
            if period.0.is_zero() {
                return Some((key, format!("{key} is 0")));
            }
        }
        None
    }
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
                let found = service.instances.iter().find(|i| i.registry == key.0 && i.id == key.1);
                let Some(instance) = found else { continue };
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

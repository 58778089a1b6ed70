//! What happened to instances: the last transitions of each, for whoever asks why.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::model::{Health, Instance, Presence, Service};
use super::snapshot::Snapshot;

/// Transitions that are kept of each instance.
pub const TRANSITIONS_MAX: usize = 10;
/// Instances that are gone and still remembered; beyond it the longest gone is forgotten.
const GONE_MAX: usize = 1000;

/// An instance within its service: registry and id.
pub type Identity = (Arc<str>, Arc<str>);

/// A moment at which an instance began to stand otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// When it was published.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub at: SystemTime,
    /// The generation that says so first.
    pub generation: u64,
    /// Whether it gets new work since then.
    pub eligible: bool,
    /// Its health since then; none: it is gone.
    pub health: Option<Health>,
    /// Whether it stays.
    pub presence: Presence,
    /// Who said so and why.
    pub cause: Arc<str>,
}

/// The last transitions of instances, by service. Instances that have stood as they do since the
/// first snapshot have none.
#[derive(Debug)]
pub struct History {
    services: HashMap<Arc<str>, BTreeMap<Identity, VecDeque<Transition>>>,
    /// Who is gone, the longest gone first.
    gone: VecDeque<(Arc<str>, Identity)>,
    /// When the first snapshot was taken.
    pub since: SystemTime,
}

impl History {
    /// A history that begins at `since`.
    #[must_use]
    pub fn new(since: SystemTime) -> Self {
        Self { services: HashMap::new(), gone: VecDeque::new(), since }
    }

    /// Notes what differs in `now`, published at `at`. Costs what changed.
    pub fn note(&mut self, before: &Snapshot, now: &Snapshot, at: SystemTime) {
        now.changes_since(before, |(name, before, now_service)| {
            let was = standing(before);
            let is = standing(now_service);
            let gone = was.keys().filter(|identity| !is.contains_key(*identity));
            for identity in gone.cloned().collect::<Vec<_>>() {
                let transition = Transition {
                    at,
                    generation: now.generation,
                    eligible: false,
                    health: None,
                    presence: Presence::Leaving,
                    cause: "its registry does not tell of it any more".into(),
                };
                self.push(name, identity.clone(), transition);
                self.gone.push_back((Arc::clone(name), identity));
            }
            for (identity, (instance, eligible)) in &is {
                let same = was.get(identity).is_some_and(|(before, was_eligible)| {
                    was_eligible == eligible
                        && before.health == instance.health
                        && before.presence == instance.presence
                });
                if !same {
                    let transition = Transition {
                        at,
                        generation: now.generation,
                        eligible: *eligible,
                        health: Some(instance.health),
                        presence: instance.presence,
                        cause: Arc::clone(&instance.cause),
                    };
                    self.push(name, identity.clone(), transition);
                }
            }
        });
        while self.gone.len() > GONE_MAX {
            let Some((name, identity)) = self.gone.pop_front() else { break };
            self.forget(&name, &identity);
        }
    }

    /// The transitions of one instance, oldest first.
    pub fn of(&self, service: &str, identity: &Identity) -> impl Iterator<Item = &Transition> {
        self.services.get(service).and_then(|known| known.get(identity)).into_iter().flatten()
    }

    /// Every instance of `service` that has transitions.
    pub fn instances(&self, service: &str) -> impl Iterator<Item = &Identity> {
        self.services.get(service).into_iter().flat_map(BTreeMap::keys)
    }

    fn push(&mut self, service: &Arc<str>, identity: Identity, transition: Transition) {
        let known = self.services.entry(Arc::clone(service)).or_default();
        let transitions = known.entry(identity).or_default();
        if transitions.len() == TRANSITIONS_MAX {
            transitions.pop_front();
        }
        transitions.push_back(transition);
    }

    /// Forgets one that is gone, unless it has come back in the meantime.
    fn forget(&mut self, service: &str, identity: &Identity) {
        let Some(known) = self.services.get_mut(service) else { return };
        let gone = known.get(identity).and_then(VecDeque::back).is_some_and(|t| t.health.is_none());
        if gone {
            known.remove(identity);
        }
        if known.is_empty() {
            self.services.remove(service);
        }
    }
}

/// Each instance of a service, and whether it is eligible.
fn standing(service: Option<&Arc<Service>>) -> BTreeMap<Identity, (&Arc<Instance>, bool)> {
    let Some(service) = service else { return BTreeMap::new() };
    let eligible: HashSet<_> = service.eligible.iter().map(Arc::as_ptr).collect();
    let instances = service.instances.iter();
    instances.map(|i| (identity(i), (i, eligible.contains(&Arc::as_ptr(i))))).collect()
}

/// Who `instance` is within its service.
#[must_use]
pub fn identity(instance: &Instance) -> Identity {
    (Arc::clone(&instance.registry), Arc::clone(&instance.id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::catalog::assemble::{Inputs, Source, assemble};
    use crate::catalog::model::Address;
    use crate::catalog::{RegistryState, RegistryView, SourceService, Verdicts};

    fn snapshot(generation: u64, told: &[(&str, Health)]) -> Snapshot {
        let instance = |(id, health): &(&str, Health)| {
            let address = Address::parse("10.0.0.1").unwrap();
            Arc::new(Instance { health: *health, ..Instance::bare("r", id, address) })
        };
        let service = SourceService {
            name: "web".into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: told.iter().map(instance).collect(),
            problems: Vec::new(),
            suspect: None,
        };
        let view = RegistryView::default().with(service);
        let source = Source::new("r", 0, RegistryState::Live(view));
        assemble(None, &Inputs::new(vec![source], Arc::default(), Verdicts::default()), generation)
            .unwrap()
    }

    #[test]
    fn transitions_tell_health_eligibility_and_absence_and_only_the_last_ten_are_kept() {
        let start = SystemTime::UNIX_EPOCH;
        let mut history = History::new(start);
        let a = ("r".into(), "a".into());
        let mut before = snapshot(1, &[("a", Health::Healthy), ("b", Health::Healthy)]);
        let told = |history: &History| {
            let all = history.of("web", &a).map(|t| (t.generation, t.health, t.eligible));
            all.collect::<Vec<_>>()
        };
        history.note(&before.clone(), &before, start);
        assert!(told(&history).is_empty(), "it stands as it always did");
        for generation in 2..=20 {
            let health = if generation % 2 == 0 { Health::Unhealthy } else { Health::Healthy };
            let now = snapshot(generation, &[("a", health), ("b", Health::Healthy)]);
            history.note(&before, &now, start + Duration::from_secs(generation));
            before = now;
        }
        let now = snapshot(21, &[("b", Health::Healthy)]);
        history.note(&before, &now, start + Duration::from_secs(21));
        let told = told(&history);
        assert_eq!(told.len(), TRANSITIONS_MAX);
        assert_eq!(told[TRANSITIONS_MAX - 1], (21, None, false));
        assert_eq!(told[TRANSITIONS_MAX - 2], (20, Some(Health::Unhealthy), false));
        assert_eq!(history.instances("web").count(), 1, "b never changed");
    }

    #[test]
    fn of_those_that_are_gone_only_so_many_are_remembered() {
        let mut history = History::new(SystemTime::UNIX_EPOCH);
        let ids: Vec<String> = (0..GONE_MAX + 5).map(|n| format!("{n:05}")).collect();
        let all: Vec<_> = ids.iter().map(|id| (id.as_str(), Health::Healthy)).collect();
        history.note(&snapshot(1, &all), &snapshot(2, &[]), SystemTime::UNIX_EPOCH);
        assert_eq!(history.instances("web").count(), GONE_MAX);
    }
}

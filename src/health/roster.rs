//! Who is checked by what: pure. Follows snapshots and settings, takes results in, gives verdicts.
//!
//! A probe belongs to a target and a check, and is shared by all instances that have both. Nothing
//! here waits or connects; time and randomness come as arguments. What starts when stands in `rounds`,
//! what follows from the results in `settle`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::asked::{Listed, Reading, Refusal};
use super::carried::{Known, fingerprint};
use super::check::{Check, Identity, Manner, Target};
use super::config::Settings;
use super::judge::Key;
use super::metrics::Metrics;
use super::schedule::{Beat, Lane, share};
use super::tracker::{Observation, Tracker};
use crate::catalog::Snapshot;
use crate::catalog::model::Address;
use crate::catalog::verdict::Verdicts;

/// Checks that are kept at least before those that nobody uses are looked for.
const SWEEP_MIN: usize = 64;

/// Everything that is checked, and what is known of it.
pub(super) struct Roster {
    pub(super) settings: Arc<Settings>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) services: HashMap<Arc<str>, Watched>,
    pub(super) probes: HashMap<u64, Probed>,
    pub(super) by_key: HashMap<(u32, Target), u64>,
    /// Checks that are in use, by a number that stays over reloads; others are swept out when they
    /// have become many.
    pub(super) checks: BTreeMap<Identity, (u32, Arc<Check>)>,
    pub(super) sweep_at: usize,
    pub(super) sockets: Lane,
    pub(super) commands: Lane,
    /// When pushed results expire.
    pub(super) expiries: BTreeSet<(Instant, u64)>,
    pub(super) verdicts: Verdicts,
    /// Whether verdicts from before may be of services that nobody asks to be checked any more.
    pub(super) restored: bool,
    /// Services of which something is known that the verdicts don't say yet.
    pub(super) dirty: BTreeSet<Arc<str>>,
    /// Probes that were created and have no beat yet.
    pub(super) fresh: Vec<u64>,
    /// Probes that were removed while they ran.
    pub(super) gone: Vec<u64>,
    pub(super) last_id: u64,
    pub(super) random: Box<dyn FnMut() -> u64 + Send>,
    pub(super) metrics: Metrics,
    /// What the process before us knew of targets that we have not heard of yet.
    pub(super) carried: HashMap<u64, Known>,
}

/// A service with checks.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Those that are configured; what it asks for itself stands with each instance.
    pub(super) checks: Arc<[Listed]>,
    /// Whether it asks for its checks itself.
    pub(super) asked: bool,
    /// What its texts came to.
    pub(super) readings: Vec<Reading>,
    /// What it does not get.
    pub(super) refused: Vec<Refusal>,
    pub(super) instances: BTreeMap<Key, Entry>,
    /// Who was chosen, by the index of the check that chooses.
    pub(super) chosen: BTreeMap<usize, Key>,
}

/// One instance, with a probe for each check of its service.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Address,
    /// The port that each check asks.
    pub(super) ports: Box<[Option<u16>]>,
    /// The checks that it was entered for.
    pub(super) checks: Arc<[Listed]>,
    /// None: this check cannot be asked of it, for it has no port.
    pub(super) probes: Box<[Option<u64>]>,
}

/// A target that is probed.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) check_id: u32,
    pub(super) check: Arc<Check>,
    pub(super) target: Target,
    pub(super) tracker: Tracker,
    pub(super) last: Option<Last>,
    pub(super) candidate: Option<u64>,
    /// What decided the health, with the word of the check; as verdicts tell it.
    pub(super) cause: Arc<str>,
    /// How many instances of which services share it.
    pub(super) users: BTreeMap<Arc<str>, usize>,
    pub(super) beat: Option<Beat>,
    /// When it starts, or its result expires; none while it runs.
    pub(super) due: Option<Instant>,
    /// When it starts first, where another process has asked it before.
    pub(super) resumes: Option<Instant>,
}

impl Probed {
    /// The services that share it.
    pub(super) fn services(&self) -> Vec<Arc<str>> {
        self.users.keys().cloned().collect()
    }
}

/// The last result of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) seen: Observation,
    pub(super) took: Duration,
    pub(super) at: SystemTime,
}

impl Roster {
    /// Nothing is checked yet; `restored` stands until something is found out.
    pub(super) fn new(
        settings: Arc<Settings>,
        restored: &Verdicts,
        metrics: Metrics,
        random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        let mut verdicts = Verdicts::new();
        let may = |name: &str| settings.asking.is_some() || settings.checked(name);
        for (name, told) in restored.iter().filter(|(name, _)| may(name)) {
            // Ejections are another's to restore.
            let mut own = crate::catalog::verdict::ServiceVerdicts::clone(told);
            own.instances.values_mut().for_each(|verdict| verdict.ejected = None);
            verdicts.insert(Arc::clone(name), Arc::new(own));
        }
        let mut roster = Self {
            sockets: Lane::new(settings.concurrency),
            commands: Lane::new(settings.commands),
            settings: Arc::default(),
            snapshot: Arc::default(),
            services: HashMap::new(),
            probes: HashMap::new(),
            by_key: HashMap::new(),
            checks: BTreeMap::new(),
            sweep_at: SWEEP_MIN,
            expiries: BTreeSet::new(),
            restored: settings.asking.is_some(),
            verdicts,
            dirty: BTreeSet::new(),
            fresh: Vec::new(),
            gone: Vec::new(),
            last_id: 0,
            random,
            metrics,
            carried: HashMap::new(),
        };
        roster.adopt(settings);
        roster
    }

    /// Checks by other settings from now on. Checks that did not change go on as they are.
    pub(super) fn replace(&mut self, settings: Arc<Settings>, now: Instant) {
        self.adopt(settings);
        let mut names: BTreeSet<_> = self.services.keys().cloned().collect();
        if self.settings.asking.is_some() {
            names.extend(self.snapshot.services.iter().map(|(name, _)| Arc::clone(name)));
        }
        for name in names {
            self.plan(&name);
        }
        self.schedule(now);
    }

    fn adopt(&mut self, settings: Arc<Settings>) {
        self.sockets.limit = settings.concurrency;
        self.commands.limit = settings.commands;
        // Services without checks are planned once more, and let go of their targets.
        let goes = |name: &&Arc<str>| !settings.checked(name) && settings.asking.is_none();
        for name in self.services.keys().filter(goes).cloned().collect::<Vec<_>>() {
            self.forget(&name);
        }
        for watched in self.services.values_mut() {
            // They were read by the settings before.
            watched.readings = Vec::new();
        }
        for (name, wanted) in &settings.services {
            let checks = wanted.iter().map(|check| {
                let (id, check) = self.number(Arc::clone(check));
                Listed { id, check, door: None }
            });
            let checks: Arc<[Listed]> = checks.collect();
            let watched = self.services.entry(Arc::clone(name)).or_default();
            if !Listed::same(&watched.checks, &checks) {
                // Their places differ: every instance is planned anew, and shares what goes on.
                watched.checks = checks;
                watched.chosen.clear();
            }
        }
        self.settings = settings;
    }

    /// The number of a check, and the one of those that are equal which is asked.
    pub(super) fn number(&mut self, check: Arc<Check>) -> (u32, Arc<Check>) {
        if let Some(known) = self.checks.get(&check.key) {
            return known.clone();
        }
        if self.checks.len() >= self.sweep_at {
            self.checks.retain(|_, (_, check)| Arc::strong_count(check) > 1);
            self.sweep_at = SWEEP_MIN.max(self.checks.len() * 2);
        }
        self.last_id += 1;
        let id = u32::try_from(self.last_id).unwrap_or(u32::MAX);
        self.checks.insert(Arc::clone(&check.key), (id, Arc::clone(&check)));
        (id, check)
    }

    /// Follows the catalog to `snapshot`.
    pub(super) fn follow(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        let mut touched = Vec::new();
        snapshot.changes_since(&before, |(name, _, _)| {
            if self.settings.asking.is_some() || self.settings.checked(name) {
                touched.push(Arc::clone(name));
            }
        });
        for name in touched {
            self.plan(&name);
        }
        self.schedule(now);
        if snapshot.generation > 0 {
            // Whoever is not among them is gone; one that comes back begins anew.
            self.carried = HashMap::new();
            let heard = snapshot.registries.iter().all(|registry| registry.heard);
            if heard && std::mem::take(&mut self.restored) {
                let left = self.verdicts.iter().map(|(name, _)| name);
                let left = left.filter(|name| !self.services.contains_key(*name));
                self.dirty.extend(left.cloned());
            }
        }
    }

    pub(super) fn acquire(
        &mut self,
        service: &Arc<str>,
        check_id: u32,
        check: &Arc<Check>,
        target: Target,
    ) -> u64 {
        let key = (check_id, target);
        let id = if let Some(id) = self.by_key.get(&key) {
            *id
        } else {
            self.last_id += 1;
            let known = if self.carried.is_empty() {
                Known::default()
            } else {
                self.carried.remove(&fingerprint(check, &key.1)).unwrap_or_default()
            };
            let probed = Probed::new(check_id, check, &key.1, known);
            self.probes.insert(self.last_id, probed);
            self.by_key.insert(key, self.last_id);
            self.fresh.push(self.last_id);
            if let Some(kind) = self.metrics.kind(check.kind) {
                kind.targets.inc();
            }
            self.last_id
        };
        if let Some(probed) = self.probes.get_mut(&id) {
            *probed.users.entry(Arc::clone(service)).or_default() += 1;
        }
        id
    }

    pub(super) fn leave(&mut self, service: &Arc<str>, entry: &Entry) {
        for id in entry.probes.iter().flatten() {
            let Some(probed) = self.probes.get_mut(id) else { continue };
            if let Some(count) = probed.users.get_mut(service) {
                *count -= 1;
                if *count == 0 {
                    probed.users.remove(service);
                }
            }
            if !probed.users.is_empty() {
                continue;
            }
            let Some(probed) = self.probes.remove(id) else { continue };
            match (probed.due, self.lane(&probed.check)) {
                (Some(due), Some(lane)) => lane.remove(due, *id),
                (Some(due), None) => drop(self.expiries.remove(&(due, *id))),
                (None, Some(_)) => self.gone.push(*id),
                (None, None) => {}
            }
            if let Some(kind) = self.metrics.kind(probed.check.kind) {
                kind.targets.dec();
            }
            self.by_key.remove(&(probed.check_id, probed.target));
        }
    }

    /// Where probes of this check wait; pushed ones don't.
    pub(super) fn lane(&mut self, check: &Check) -> Option<&mut Lane> {
        match check.manner {
            Manner::Connect => Some(&mut self.sockets),
            Manner::Command => Some(&mut self.commands),
            Manner::Push(_) => None,
        }
    }

    /// Gives every fresh probe its beat.
    fn schedule(&mut self, now: Instant) {
        let fresh = std::mem::take(&mut self.fresh);
        let together = fresh.len();
        for id in fresh {
            let place = share((self.random)());
            let Some(probed) = self.probes.get_mut(&id) else { continue };
            let check = Arc::clone(&probed.check);
            let resumes = probed.resumes.take();
            if let Manner::Push(ttl) = check.manner {
                let due = resumes.unwrap_or(now + ttl);
                probed.due = Some(due);
                self.expiries.insert((due, id));
                continue;
            }
            let interval = check.times.interval;
            let beat = match resumes {
                Some(next) => Beat::resumed(next.clamp(now, now + interval), interval),
                None => Beat::new(now, interval, together, place),
            };
            let due = beat.due(0.0, 0.0);
            (probed.beat, probed.due) = (Some(beat), Some(due));
            if let Some(lane) = self.lane(&check) {
                lane.put(due, id);
            }
        }
    }

    /// The verdicts that were given last.
    pub(super) const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Probes to stop, for nobody wants their results any more.
    pub(super) fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
pub(super) mod tests;

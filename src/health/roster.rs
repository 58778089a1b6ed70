//! Who is checked by what: pure. Follows snapshots and settings, takes results in, gives verdicts.
//!
//! A probe belongs to a target and a check, and is shared by all instances that have both. Nothing
//! here waits or connects; time and randomness come as arguments. What starts when stands in `rounds`,
//! what follows from the results in `settle`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::check::{Check, Identity, Manner, Target, Whom};
use super::config::Settings;
use super::judge::Key;
use super::metrics::Metrics;
use super::schedule::{Beat, Lane, share};
use super::tracker::{Observation, Tracker};
use crate::catalog::Snapshot;
use crate::catalog::model::{Address, Instance};
use crate::catalog::verdict::Verdicts;

/// Everything that is checked, and what is known of it.
pub(super) struct Roster {
    pub(super) settings: Arc<Settings>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) services: HashMap<Arc<str>, Watched>,
    pub(super) probes: HashMap<u64, Probed>,
    pub(super) by_key: HashMap<(u32, Target), u64>,
    /// Checks that are in use, by a number that stays over reloads.
    pub(super) checks: BTreeMap<Identity, (u32, Arc<Check>)>,
    pub(super) sockets: Lane,
    pub(super) commands: Lane,
    /// When pushed results expire.
    pub(super) expiries: BTreeSet<(Instant, u64)>,
    pub(super) verdicts: Verdicts,
    /// Services of which something is known that the verdicts don't say yet.
    pub(super) dirty: BTreeSet<Arc<str>>,
    /// Probes that were created and have no beat yet.
    pub(super) fresh: Vec<u64>,
    /// Probes that were removed while they ran.
    pub(super) gone: Vec<u64>,
    pub(super) last_id: u64,
    pub(super) random: Box<dyn FnMut() -> u64 + Send>,
    pub(super) metrics: Metrics,
}

/// A service with checks.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) checks: Vec<(u32, Arc<Check>)>,
    pub(super) instances: BTreeMap<Key, Entry>,
    /// Who was chosen, by the index of the check that chooses.
    pub(super) chosen: BTreeMap<usize, Key>,
}

/// One instance, with a probe for each check of its service.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Address,
    pub(super) port: Option<u16>,
    /// The checks that it was entered for.
    pub(super) checks: Vec<u32>,
    /// None: this check cannot be asked of it, for it has no port.
    pub(super) probes: Vec<Option<u64>>,
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
}

impl Probed {
    /// The services that share it.
    pub(super) fn services(&self) -> Vec<Arc<str>> {
        self.users.keys().cloned().collect()
    }
}

/// The last result of a target.
#[derive(Debug, Clone)]
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
        for (name, told) in restored.iter().filter(|(name, _)| settings.checked(name)) {
            // Ejections are another's to restore.
            let mut own = crate::catalog::verdict::ServiceVerdicts::clone(told);
            own.instances.values_mut().for_each(|verdict| verdict.ejected = None);
            verdicts.insert(Arc::clone(name), Arc::new(own));
        }
        let mut roster = Self {
            sockets: Lane::new(settings.concurrency),
            commands: Lane::new(settings.commands),
            settings: Arc::new(Settings::default()),
            snapshot: Arc::default(),
            services: HashMap::new(),
            probes: HashMap::new(),
            by_key: HashMap::new(),
            checks: BTreeMap::new(),
            expiries: BTreeSet::new(),
            verdicts,
            dirty: BTreeSet::new(),
            fresh: Vec::new(),
            gone: Vec::new(),
            last_id: 0,
            random,
            metrics,
        };
        roster.adopt(settings);
        roster
    }

    /// Checks by other settings from now on. Checks that did not change go on as they are.
    pub(super) fn replace(&mut self, settings: Arc<Settings>, now: Instant) {
        self.adopt(settings);
        let names: Vec<_> = self.services.keys().cloned().collect();
        for name in names {
            self.plan(&name);
        }
        self.schedule(now);
    }

    fn adopt(&mut self, settings: Arc<Settings>) {
        self.sockets.limit = settings.concurrency;
        self.commands.limit = settings.commands;
        let mut checks = BTreeMap::new();
        for check in settings.services.values().flatten() {
            let known = self.checks.get(&check.key).cloned();
            let known = known.unwrap_or_else(|| {
                self.last_id += 1;
                (u32::try_from(self.last_id).unwrap_or(u32::MAX), Arc::clone(check))
            });
            checks.entry(Arc::clone(&check.key)).or_insert(known);
        }
        self.checks = checks;
        // Services without checks are planned once more, and let go of their targets.
        let before = self.services.keys().filter(|name| !settings.checked(name)).cloned();
        for name in before.collect::<Vec<_>>() {
            self.forget(&name);
        }
        for (name, wanted) in &settings.services {
            let checks = wanted.iter().filter_map(|check| self.checks.get(&check.key).cloned());
            let checks: Vec<_> = checks.collect();
            let watched = self.services.entry(Arc::clone(name)).or_default();
            let same = |a: &(u32, _), b: &(u32, _)| a.0 == b.0;
            if watched.checks.len() != checks.len()
                || !watched.checks.iter().zip(&checks).all(|(a, b)| same(a, b))
            {
                // Their places differ: every instance is planned anew, and shares what goes on.
                watched.checks = checks;
                watched.chosen.clear();
            }
        }
        self.settings = settings;
    }

    /// Follows the catalog to `snapshot`.
    pub(super) fn follow(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        let mut touched = Vec::new();
        snapshot.changes_since(&before, |(name, _, _)| {
            if self.settings.checked(name) {
                touched.push(Arc::clone(name));
            }
        });
        for name in touched {
            self.plan(&name);
        }
        self.schedule(now);
    }

    /// Brings the instances of a service and their probes to what the snapshot and settings say.
    fn plan(&mut self, name: &Arc<str>) {
        let Some(mut watched) = self.services.remove(name) else { return };
        let service = self.snapshot.service(name).map(Arc::clone);
        let told: &[Arc<Instance>] = service.as_ref().map_or(&[], |service| &service.instances);
        let mut before = std::mem::take(&mut watched.instances);
        let mut changed = false;
        for instance in told {
            let key = (Arc::clone(&instance.registry), Arc::clone(&instance.id));
            let port = instance.port("");
            let known = before.remove(&key);
            let entry = match known {
                Some(entry)
                    if entry.address == instance.address
                        && entry.port == port
                        && entry.checks.iter().eq(watched.checks.iter().map(|(id, _)| id)) =>
                {
                    entry
                }
                known => {
                    changed = true;
                    let entry = self.enter(name, &watched.checks, instance, port);
                    // Released behind: what both share goes on.
                    if let Some(known) = known {
                        self.leave(name, &known);
                    }
                    entry
                }
            };
            watched.instances.insert(key, entry);
        }
        changed |= !before.is_empty();
        for entry in before.values() {
            self.leave(name, entry);
        }
        self.services.insert(Arc::clone(name), watched);
        if changed {
            self.dirty.insert(Arc::clone(name));
        }
    }

    fn enter(
        &mut self,
        service: &Arc<str>,
        checks: &[(u32, Arc<Check>)],
        instance: &Instance,
        port: Option<u16>,
    ) -> Entry {
        let probes = checks.iter().map(|(check_id, check)| {
            let port = check.port.or(port);
            let target = match check.manner {
                Manner::Connect => Target::Socket(instance.address.clone(), port?),
                Manner::Command | Manner::Push(_) => Target::Instance(Arc::new(Whom {
                    service: Arc::clone(service),
                    registry: Arc::clone(&instance.registry),
                    id: Arc::clone(&instance.id),
                    address: instance.address.clone(),
                    port,
                })),
            };
            Some(self.acquire(service, *check_id, check, target))
        });
        let probes = probes.collect();
        let checks = checks.iter().map(|(id, _)| *id).collect();
        Entry { address: instance.address.clone(), port, checks, probes }
    }

    fn acquire(
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
            let probed = Probed {
                check_id,
                check: Arc::clone(check),
                target: key.1.clone(),
                tracker: Tracker::default(),
                last: None,
                candidate: None,
                cause: Arc::from(""),
                users: BTreeMap::new(),
                beat: None,
                due: None,
            };
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

    fn leave(&mut self, service: &Arc<str>, entry: &Entry) {
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

    /// Nothing of this service is checked any more.
    fn forget(&mut self, name: &Arc<str>) {
        if let Some(watched) = self.services.remove(name) {
            for entry in watched.instances.values() {
                self.leave(name, entry);
            }
        }
        self.dirty.insert(Arc::clone(name));
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
            if let Manner::Push(ttl) = check.manner {
                probed.due = Some(now + ttl);
                self.expiries.insert((now + ttl, id));
                continue;
            }
            let beat = Beat::new(now, check.times.interval, together, place);
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
mod tests;

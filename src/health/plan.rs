//! Which instances of a service are asked, and by which checks: its configured ones, or those that it
//! asks for in its registry. Pure, but for the log.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::asked::{Listed, Reason};
use super::check::{Manner, Target, Whom};
use super::judge::Key;
use super::roster::{Entry, Roster, Watched};
use crate::catalog::model::{Health, Instance, Service};
use crate::catalog::wish;

impl Roster {
    /// Brings the instances of a service and their probes to what the snapshot and settings say.
    pub(super) fn plan(&mut self, name: &Arc<str>) {
        let configured = self.settings.checked(name);
        let service = self.snapshot.service(name).map(Arc::clone);
        if !configured && !service.as_ref().is_some_and(|service| self.asks(service)) {
            self.forget(name);
            return;
        }
        let mut watched = self.services.remove(name).unwrap_or_default();
        let mut readings = std::mem::take(&mut watched.readings);
        let mut refused = BTreeSet::new();
        let down = if configured { HashSet::new() } else { self.down(name) };
        if watched.asked == configured {
            watched.asked = !configured;
            watched.chosen.clear();
            if watched.asked {
                watched.checks = Arc::default();
            }
        }
        let told: &[Arc<Instance>] = service.as_ref().map_or(&[], |service| &service.instances);
        let mut before = std::mem::take(&mut watched.instances);
        let mut changed = false;
        let mut texts = HashSet::new();
        for instance in told {
            let key: Key = (Arc::clone(&instance.registry), Arc::clone(&instance.id));
            let checks = if configured {
                Arc::clone(&watched.checks)
            } else {
                let asked = service.as_ref().and_then(|service| wish::of(&service.meta, instance));
                let Some(text) = asked else { continue };
                let checks = self.reading(name, &text, &mut readings, &mut refused);
                texts.insert(text);
                checks
            };
            // Whom the registry itself has found to fail gets no work, and need not be asked: once it
            // is well, it begins anew.
            if down.contains(&key) {
                continue;
            }
            let ports: Box<[Option<u16>]> =
                checks.iter().map(|listed| listed.port(instance)).collect();
            if !configured {
                let lacking = checks.iter().zip(&ports).filter(|(_, port)| port.is_none());
                refused.extend(lacking.map(|(listed, _)| (Reason::NoPort, no_port(listed).into())));
            }
            let known = before.remove(&key);
            let entry = match known {
                Some(entry)
                    if entry.address == instance.address
                        && entry.ports == ports
                        && Listed::same(&entry.checks, &checks) =>
                {
                    entry
                }
                known => {
                    changed = true;
                    let entry = self.enter(name, &checks, instance, ports);
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
        readings.retain(|reading| texts.contains(reading.text()));
        watched.readings = readings;
        watched.refused = self.refuse(name, &watched.refused, refused);
        self.services.insert(Arc::clone(name), watched);
        if changed {
            self.dirty.insert(Arc::clone(name));
        }
    }

    /// Whether the service may ask for checks, and does.
    fn asks(&self, service: &Service) -> bool {
        let asks = |instance: &Arc<Instance>| wish::of(&service.meta, instance).is_some();
        self.settings.asking.is_some() && service.instances.iter().any(asks)
    }

    /// The instances of a service that fail by their registry's own word.
    fn down(&self, name: &str) -> HashSet<Key> {
        let services = self.snapshot.told.iter().filter_map(|told| told.services.get(name));
        let instances = services.flat_map(|service| service.instances.iter());
        instances
            .filter(|instance| instance.health == Health::Unhealthy)
            .map(|instance| (Arc::clone(&instance.registry), Arc::clone(&instance.id)))
            .collect()
    }

    fn enter(
        &mut self,
        service: &Arc<str>,
        checks: &Arc<[Listed]>,
        instance: &Instance,
        ports: Box<[Option<u16>]>,
    ) -> Entry {
        let probes = checks.iter().zip(&ports).map(|(Listed { id, check, .. }, port)| {
            let target = match check.manner {
                Manner::Connect => Target::Socket(instance.address.clone(), (*port)?),
                Manner::Command | Manner::Push(_) => Target::Instance(Arc::new(Whom {
                    service: Arc::clone(service),
                    registry: Arc::clone(&instance.registry),
                    id: Arc::clone(&instance.id),
                    address: instance.address.clone(),
                    port: *port,
                })),
            };
            Some(self.acquire(service, *id, check, target))
        });
        let probes = probes.collect();
        Entry { address: instance.address.clone(), ports, checks: Arc::clone(checks), probes }
    }

    /// Nothing of this service is checked any more.
    pub(super) fn forget(&mut self, name: &Arc<str>) {
        if let Some(Watched { instances, refused, .. }) = self.services.remove(name) {
            for entry in instances.values() {
                self.leave(name, entry);
            }
            self.refuse(name, &refused, BTreeSet::new());
            self.dirty.insert(Arc::clone(name));
        } else if self.verdicts.get(&**name).is_some() {
            self.dirty.insert(Arc::clone(name));
        }
    }
}

/// What is told of a check that cannot be asked of an instance.
pub(super) fn no_port(listed: &Listed) -> String {
    let kind = listed.check.kind;
    match &listed.door {
        Some(door) => format!("{kind} port={door}: not every instance has a port of that name"),
        None => format!("{kind}: not every instance has a port; name one by port="),
    }
}

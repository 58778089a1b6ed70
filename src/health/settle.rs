//! From what the roster knows to verdicts: pure, but for the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::asked::Listed;
use super::judge::{Finding, Key, Member, elect, judge, seat};
use super::plan::no_port;
use super::roster::{Entry, Probed, Roster, Watched};
use crate::catalog::model::{Address, Health};
use crate::catalog::verdict::{Verdict, Verdicts};
use crate::catalog::wish;

impl Roster {
    /// Whether there is something that the verdicts don't say yet.
    pub(super) fn unsettled(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The verdicts as of now, when they are others than before.
    pub(super) fn settle(&mut self, clock: SystemTime) -> Option<Verdicts> {
        let mut changed = false;
        for name in std::mem::take(&mut self.dirty) {
            let Some(watched) = self.services.get_mut(&name).filter(|w| !w.instances.is_empty())
            else {
                changed |= self.verdicts.remove(&name).is_some();
                continue;
            };
            let before = self.verdicts.get(&name);
            let mut members = findings(watched, &self.probes);
            for (index, Listed { check, .. }) in watched.checks.iter().enumerate() {
                let Some(election) = check.elects.filter(|_| !watched.asked) else { continue };
                let current = watched.chosen.get(&index).cloned().or_else(|| {
                    // After a restart the one that was well before is the one that was chosen.
                    let was = |key: &&Key| {
                        let known = before.and_then(|before| before.instances.get(*key));
                        let check = known.and_then(|known| known.check.as_ref());
                        check.is_some_and(|check| check.health.serves())
                    };
                    members.keys().find(was).cloned()
                });
                let chosen = elect(&members, index, election, current.as_ref());
                seat(&mut members, index, check.kind, election, chosen.as_ref());
                if let Some(chosen) = chosen.or(current) {
                    watched.chosen.insert(index, chosen);
                }
            }
            let transitions = &self.metrics.transitions;
            let told = judge(&members, before.map(|told| &**told), clock, |key, at, from, to| {
                tell(&name, key, at, from, to);
                if let Some(count) = transitions.get(to.health.word()) {
                    count.inc();
                }
            });
            if before.is_none_or(|before| **before != told) {
                self.verdicts.insert(name, Arc::new(told));
                changed = true;
            }
        }
        changed.then(|| self.verdicts.clone())
    }
}

/// What the checks of a service found out about each instance.
fn findings(watched: &Watched, probes: &HashMap<u64, Probed>) -> BTreeMap<Key, Member> {
    let member = |(key, entry): (&Key, &Entry)| {
        let findings = entry.probes.iter().zip(&*entry.checks).map(|(probe, listed)| {
            let Some(probe) = probe else {
                if watched.asked {
                    return nothing(&no_port(listed));
                }
                let check = &listed.check;
                let cause = format!("{}: the instance has no port; set check.{0} port", check.kind);
                let health = Health::Unhealthy;
                return Finding::Decided { health, cause: cause.into(), candidate: None };
            };
            let probed = probes.get(probe);
            match probed.and_then(|probed| Some((probed, probed.tracker.decided()?))) {
                None => Finding::Undecided,
                Some((probed, decided)) => Finding::Decided {
                    health: decided.health,
                    cause: Arc::clone(&probed.cause),
                    candidate: probed.candidate,
                },
            }
        });
        let mut findings: Vec<Finding> = findings.collect();
        if watched.asked && findings.is_empty() {
            findings.push(nothing("nothing that can be asked"));
        }
        (key.clone(), Member { address: entry.address.clone(), findings })
    };
    watched.instances.iter().map(member).collect()
}

/// The word on an instance that asks for a check which cannot be: only its registry's counts.
fn nothing(why: &str) -> Finding {
    let cause = format!("{}: {why}", wish::CHECK).into();
    Finding::Decided { health: Health::Unknown, cause, candidate: None }
}

/// Logs a transition; a first success is no news.
fn tell(service: &str, key: &Key, address: &Address, from: Option<&Verdict>, to: &Verdict) {
    let (instance, registry, cause) = (&*key.1, &*key.0, &*to.cause);
    let (from, now) = (from.map_or("unknown", |from| from.health.word()), to.health);
    let message = "instance health changed";
    match (from, now) {
        (_, Health::Unknown) => {}
        ("unknown", Health::Healthy) => {
            tracing::debug!(service, instance, registry, %address, from, to = now.word(), cause, "{message}");
        }
        (_, Health::Healthy) => {
            tracing::info!(service, instance, registry, %address, from, to = now.word(), cause, "{message}");
        }
        _ => {
            tracing::warn!(service, instance, registry, %address, from, to = now.word(), cause, "{message}");
        }
    }
}

//! Outliers: which instances of a service are ejected for a while by what the proxy saw of them.
//!
//! Pure: counts and the time come in, ejections go out. Three signals: failures in a row, a success
//! rate far below that of the siblings, a latency far above theirs; the last two are looked at once
//! per interval. Each signal alone misses failures that the others catch.
//!
//! An ejection is a guess, so it is bounded on every side: never more than a share of the instances,
//! never the last one that serves, and never without end. Who is ejected again stays out longer;
//! who stayed in for as long as it was out has one ejection forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::outlier_config::OutlierConfig;
use super::siblings;
use crate::catalog::Address;
use crate::catalog::observed::{Failure, Totals};
use crate::catalog::verdict::{Ejection, InstanceVerdict, ServiceVerdicts};
use crate::units::Period;

/// What every cause of an ejection begins with.
pub const CAUSE: &str = "ejected by what the proxy saw: ";

/// Registry and id of an instance.
pub type Key = (Arc<str>, Arc<str>);

/// The moment of a look: one clock to measure by, one to tell people.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Measures.
    pub instant: Instant,
    /// Tells.
    pub wall: SystemTime,
}

/// One instance of the service, as the catalog and the proxy see it now.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who it is.
    pub key: Key,
    /// Where it is.
    pub address: Address,
    /// Whether it gets work now: eligible, and not only because nobody is healthy.
    pub serving: bool,
    /// What was counted since the last look, over all its ports.
    pub seen: Totals,
    /// The longest run of failures that grew since the last look; 0: nothing failed.
    pub run: u32,
}

/// Why one was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Failures in a row.
    Consecutive,
    /// A low rate of successes.
    SuccessRate,
    /// A high latency.
    Latency,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 3] = [Self::Consecutive, Self::SuccessRate, Self::Latency];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive_failures",
            Self::SuccessRate => "success_rate",
            Self::Latency => "latency",
        }
    }
}

/// What came of a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Who is ejected from now on.
    pub ejected: Vec<(Key, Signal)>,
    /// Who is not any more.
    pub returned: Vec<Key>,
    /// How many stay in only because no more may be out.
    pub spared: usize,
}

/// The outlier detection of one service.
#[derive(Debug)]
pub struct Judge {
    records: BTreeMap<Key, Record>,
    interval_began: Instant,
}

/// What is remembered of one instance.
#[derive(Debug)]
struct Record {
    address: Address,
    /// What was seen in this interval.
    window: Totals,
    ejected: Option<Out>,
    /// Ejections in a row that are not forgotten.
    times: u32,
    /// Since when it has stayed in, or forgotten its last ejection.
    calm_from: Instant,
}

/// An ejection that stands.
#[derive(Debug, Clone)]
struct Out {
    until: Instant,
    told: Ejection,
}

impl Judge {
    /// A judge who has seen nothing.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { records: BTreeMap::new(), interval_began: now }
    }

    /// A judge who goes on with ejections that stand in `verdicts`, each to its own end; an end that
    /// is further away than the longest ejection, by a clock that was set back, comes sooner.
    #[must_use]
    pub fn restored(config: &OutlierConfig, now: Now, verdicts: &ServiceVerdicts) -> Self {
        let mut judge = Self::new(now.instant);
        for (key, verdict) in &verdicts.instances {
            let Some(told) = &verdict.ejected else { continue };
            let left = told.until.duration_since(now.wall).unwrap_or_default();
            let length = told.until.duration_since(told.since).unwrap_or_default();
            let times = length.as_secs_f64() / config.base_ejection.0.as_secs_f64().max(0.001);
            let record = Record {
                address: verdict.address.clone(),
                window: Totals::default(),
                ejected: Some(Out {
                    until: now.instant + left.min(config.max_ejection.0),
                    told: told.clone(),
                }),
                times: (times.round() as u32).max(1),
                calm_from: now.instant,
            };
            judge.records.insert(key.clone(), record);
        }
        judge
    }

    /// Takes what was seen since the last look, and decides.
    pub fn look(&mut self, config: &OutlierConfig, now: Now, members: &[Member]) -> Outcome {
        let mut outcome = Outcome::default();
        self.return_due(config, now.instant, &mut outcome);
        self.follow(now.instant, members);
        let mut suspects = self.runs(config, members);
        if now.instant.duration_since(self.interval_began) >= config.interval.0 {
            suspects.extend(self.compared(config, members));
            self.interval_began = now.instant;
            self.records.values_mut().for_each(|record| record.window = Totals::default());
        }
        self.within_limits(config, now.instant, members, &mut outcome);
        for (key, signal, why) in suspects {
            if outcome.ejected.iter().any(|(known, _)| *known == key) {
                continue;
            }
            let (serving, out) = self.count(members);
            if serving > 1 && out < config.most(serving + out) {
                self.eject(config, now, &key, &why);
                outcome.ejected.push((key, signal));
            } else {
                outcome.spared += 1;
            }
        }
        outcome
    }

    /// The ejections that stand.
    #[must_use]
    pub fn verdicts(&self) -> ServiceVerdicts {
        let out = self.records.iter().filter_map(|(key, record)| {
            let ejected = record.ejected.as_ref().map(|out| out.told.clone());
            ejected.is_some().then(|| {
                let address = record.address.clone();
                (key.clone(), InstanceVerdict { address, check: None, ejected })
            })
        });
        ServiceVerdicts { instances: out.collect() }
    }

    /// How many are out.
    #[must_use]
    pub fn out(&self) -> usize {
        self.records.values().filter(|record| record.ejected.is_some()).count()
    }

    /// Ends what is over, and forgets what is long ago.
    fn return_due(&mut self, config: &OutlierConfig, now: Instant, outcome: &mut Outcome) {
        for (key, record) in &mut self.records {
            match &record.ejected {
                Some(out) if out.until <= now => {
                    record.bring_back(now);
                    outcome.returned.push(key.clone());
                }
                Some(_) => {}
                None => {
                    while record.times > 0 && record.calm_from + config.length(record.times) <= now
                    {
                        record.calm_from += config.length(record.times);
                        record.times -= 1;
                    }
                }
            }
        }
    }

    /// Takes in new members and what was seen; lets go of who is gone and has nothing to answer for.
    fn follow(&mut self, now: Instant, members: &[Member]) {
        let mut present = std::collections::HashSet::with_capacity(members.len());
        for member in members {
            present.insert(&member.key);
            let record = self.records.entry(member.key.clone()).or_insert_with(|| Record {
                address: member.address.clone(),
                window: Totals::default(),
                ejected: None,
                times: 0,
                calm_from: now,
            });
            if record.address != member.address {
                // The same id at another address is another instance.
                *record = Record {
                    address: member.address.clone(),
                    window: Totals::default(),
                    ejected: None,
                    times: 0,
                    calm_from: now,
                };
            }
            record.window += member.seen;
        }
        self.records.retain(|key, record| {
            record.ejected.is_some() || record.times > 0 || present.contains(key)
        });
    }

    /// Who serves and failed too often in a row; the longest run first.
    fn runs(&self, config: &OutlierConfig, members: &[Member]) -> Vec<(Key, Signal, String)> {
        let most = config.consecutive_failures;
        let mut found: Vec<&Member> = members
            .iter()
            .filter(|member| most > 0 && member.run >= most && self.is_in(member))
            .collect();
        found.sort_by_key(|member| std::cmp::Reverse(member.run));
        let told = |member: &Member| {
            let kinds: Vec<&str> = Failure::ALL
                .iter()
                .zip(member.seen.failures)
                .filter(|(_, count)| *count > 0)
                .map(|(kind, _)| kind.name())
                .collect();
            format!("{} failures in a row ({})", member.run, kinds.join(", "))
        };
        found.iter().map(|m| (m.key.clone(), Signal::Consecutive, told(m))).collect()
    }

    /// Who serves and did much worse than its siblings in the interval that ends now.
    fn compared(&self, config: &OutlierConfig, members: &[Member]) -> Vec<(Key, Signal, String)> {
        let seen: Vec<(&Key, Totals)> = members
            .iter()
            .filter(|member| self.is_in(member))
            .filter_map(|member| Some((&member.key, self.records.get(&member.key)?.window)))
            .collect();
        let mut found = Vec::new();
        if let Some(rate) = &config.success_rate {
            let low = siblings::low_success(rate, seen.iter().copied());
            found.extend(low.into_iter().map(|(key, why)| (key, Signal::SuccessRate, why)));
        }
        if let Some(latency) = &config.latency {
            let slow = siblings::high_latency(latency, seen.iter().copied());
            found.extend(slow.into_iter().map(|(key, why)| (key, Signal::Latency, why)));
        }
        found
    }

    /// Brings back who may not stay out since instances have left or failed by other words: more are
    /// out than allowed, or nobody else is left. Who would be back first is back first.
    fn within_limits(
        &mut self,
        config: &OutlierConfig,
        now: Instant,
        members: &[Member],
        outcome: &mut Outcome,
    ) {
        loop {
            let (serving, out) = self.count(members);
            let most = if serving == 0 { 0 } else { config.most(serving + out) };
            if out <= most {
                return;
            }
            let first = members
                .iter()
                .filter_map(|m| Some((self.records.get(&m.key)?.ejected.as_ref()?.until, &m.key)))
                .min();
            let Some((_, key)) = first else { return };
            if let Some(record) = self.records.get_mut(key) {
                record.bring_back(now);
                outcome.returned.push(key.clone());
            }
        }
    }

    /// How many members serve and are in, and how many are out.
    fn count(&self, members: &[Member]) -> (usize, usize) {
        let out = members.iter().filter(|member| {
            self.records.get(&member.key).is_some_and(|record| record.ejected.is_some())
        });
        (members.iter().filter(|member| self.is_in(member)).count(), out.count())
    }

    fn is_in(&self, member: &Member) -> bool {
        member.serving && self.records.get(&member.key).is_none_or(|r| r.ejected.is_none())
    }

    fn eject(&mut self, config: &OutlierConfig, now: Now, key: &Key, why: &str) {
        let Some(record) = self.records.get_mut(key) else { return };
        record.times = record.times.saturating_add(1);
        let length = config.length(record.times);
        record.ejected = Some(Out {
            until: now.instant + length,
            told: Ejection {
                cause: format!("{CAUSE}{why}; out for {}", Period(length)).into(),
                since: now.wall,
                until: now.wall + length,
            },
        });
    }
}

impl Record {
    fn bring_back(&mut self, now: Instant) {
        self.ejected = None;
        self.window = Totals::default();
        self.calm_from = now;
    }
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;

//! Checks that services ask for in their registry: what a text comes to within the limits. Pure, but
//! for the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::asked_config::AskedLimits;
use super::check::{Check, ChecksConfig};
use super::config::HealthConfig;
use super::roster::Roster;
use super::wish::{self, Door, Wish};
use crate::catalog::model::Instance;
use crate::net::proxy_protocol::Version;
use crate::units::Period;

/// Most that is told of one service; behind it only that there is more.
const TOLD_MAX: usize = 20;

/// What is needed to make checks of what services ask for.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) limits: AskedLimits,
    pub(super) health: HealthConfig,
    /// The header of the PROXY protocol that connections to a service's instances begin with.
    pub(super) announces: BTreeMap<Arc<str>, Version>,
}

/// A check in the list of an instance.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// The number of the check.
    pub(super) id: u32,
    pub(super) check: Arc<Check>,
    /// The name of the instance's port to ask, where the check has no number of its own.
    pub(super) door: Option<Arc<str>>,
}

impl Listed {
    /// The port to ask of `instance`, if it has it.
    pub(super) fn port(&self, instance: &Instance) -> Option<u16> {
        let door = self.door.as_deref().unwrap_or_default();
        self.check.port.or_else(|| instance.port(door))
    }

    /// Whether both lists are of the same checks at the same doors.
    pub(super) fn same(a: &Arc<[Self]>, b: &Arc<[Self]>) -> bool {
        let equal = |(a, b): (&Self, &Self)| a.id == b.id && a.door == b.door;
        Arc::ptr_eq(a, b) || (a.len() == b.len() && a.iter().zip(&**b).all(equal))
    }
}

/// Why a service does not get what it asks for, or not as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// It cannot be read, or is no check.
    Unreadable,
    /// It is more than `max`.
    TooMany,
    /// It is below `interval_min`.
    TooOften,
    /// It is above `timeout_max`.
    TooLong,
    /// An instance has no such port.
    NoPort,
}

impl Reason {
    pub(super) const ALL: [Self; 5] =
        [Self::Unreadable, Self::TooMany, Self::TooOften, Self::TooLong, Self::NoPort];

    /// As metrics have it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooMany => "too-many",
            Self::TooOften => "too-often",
            Self::TooLong => "too-long",
            Self::NoPort => "no-port",
        }
    }
}

/// A check, and the name of the port that it asks.
type Made = (Check, Option<Arc<str>>);

/// Something that is asked for and can't be, in words.
pub(super) type Refusal = (Reason, Arc<str>);

/// Something that a service asks for and does not get, or not as it asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedCheck {
    /// Who asks.
    pub service: Arc<str>,
    /// What is wrong, and what becomes of it.
    pub why: Arc<str>,
}

/// What a text comes to.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    text: Box<str>,
    pub(super) checks: Arc<[Listed]>,
    refused: Vec<Refusal>,
}

impl Reading {
    /// The text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl Asking {
    /// The checks that `text` asks for, each with the name of its port, and what it does not get.
    fn read(&self, service: &str, text: &str) -> (Vec<Made>, Vec<Refusal>) {
        let (wishes, problems) = wish::read(text);
        let unreadable = |problem: String| (Reason::Unreadable, problem.into());
        let mut refused: Vec<Refusal> = problems.into_iter().map(unreadable).collect();
        let more = wishes.len().saturating_sub(self.limits.max);
        if more > 0 {
            let max = self.limits.max;
            let why = format!(
                "{more} checks are too many; the first {max} count, by [health] from_registry.max"
            );
            refused.push((Reason::TooMany, why.into()));
        }
        let mut checks = Vec::new();
        for mut wish in wishes.into_iter().take(self.limits.max) {
            self.bound(&mut wish, &mut refused);
            let door = match &wish.port {
                Some(Door::Name(name)) => Some(Arc::clone(name)),
                Some(Door::Number(_)) | None => None,
            };
            // Another port is another door.
            let announces = self.announces.get(service).copied().filter(|_| wish.port.is_none());
            let mut problems = Vec::new();
            let config = ChecksConfig::asked(&wish);
            let made = config.compile(&self.health, Path::new(""), announces, &mut problems);
            if problems.is_empty() {
                checks.extend(made.into_iter().map(|check| (check, door.clone())));
            }
            refused.extend(problems.into_iter().map(|unfit| unreadable(unfit.message)));
        }
        (checks, refused)
    }

    /// Holds `wish` to the limits.
    fn bound(&self, wish: &mut Wish, refused: &mut Vec<Refusal>) {
        let AskedLimits { interval_min, timeout_max, .. } = self.limits;
        let mut refuse = |reason, key: &str, asked: Period, limit: Period, by: &str| {
            let why = format!("{key}={asked} becomes {limit}, by [health] from_registry.{by}");
            refused.push((reason, why.into()));
        };
        if let Some(asked) = wish.interval.filter(|asked| *asked < interval_min) {
            refuse(Reason::TooOften, "interval", asked, interval_min, "interval_min");
            wish.interval = Some(interval_min);
        }
        if let Some(asked) = wish.timeout.filter(|asked| *asked > timeout_max) {
            refuse(Reason::TooLong, "timeout", asked, timeout_max, "timeout_max");
            wish.timeout = Some(timeout_max);
        }
    }
}

impl Roster {
    /// What `text` comes to for the service called `name`, and adds to `refused` what does not come
    /// of it. Read once, while it is among the `readings` of that service.
    pub(super) fn reading(
        &mut self,
        name: &str,
        text: &str,
        readings: &mut Vec<Reading>,
        refused: &mut BTreeSet<Refusal>,
    ) -> Arc<[Listed]> {
        if let Some(known) = readings.iter().find(|known| *known.text == *text) {
            refused.extend(known.refused.iter().cloned());
            return Arc::clone(&known.checks);
        }
        let settings = Arc::clone(&self.settings);
        let Some(asking) = &settings.asking else { return Arc::default() };
        let (made, told) = asking.read(name, text);
        let mut checks: Vec<Listed> = Vec::with_capacity(made.len());
        for (check, door) in made {
            let (id, check) = self.number(Arc::new(check));
            if !checks.iter().any(|known| known.id == id && known.door == door) {
                checks.push(Listed { id, check, door });
            }
        }
        let checks: Arc<[Listed]> = checks.into();
        refused.extend(told.iter().cloned());
        readings.push(Reading { text: text.into(), checks: Arc::clone(&checks), refused: told });
        checks
    }

    /// Tells and counts what is refused of `service` now, in place of what was `before`.
    pub(super) fn refuse(
        &self,
        service: &str,
        before: &[Refusal],
        now: BTreeSet<Refusal>,
    ) -> Vec<Refusal> {
        let more = now.len().saturating_sub(TOLD_MAX);
        let mut now: Vec<Refusal> = now.into_iter().take(TOLD_MAX).collect();
        if more > 0 {
            now.push((Reason::Unreadable, format!("{more} more problems").into()));
        }
        for (reason, _) in before {
            self.metrics.refused(*reason).dec();
        }
        for refusal in &now {
            let (reason, why) = (refusal.0, &*refusal.1);
            self.metrics.refused(reason).inc();
            if !before.contains(refusal) {
                tracing::warn!(service, why, "what a service asks to be checked is refused");
            }
        }
        now
    }

    /// What is refused now, of all services or one.
    pub(super) fn refused(&self, service: Option<&str>) -> Vec<RefusedCheck> {
        let told = |(name, why): (&Arc<str>, &Arc<str>)| RefusedCheck {
            service: Arc::clone(name),
            why: Arc::clone(why),
        };
        let all = self.services.iter();
        let all = all.filter(|(name, _)| service.is_none_or(|service| ***name == *service));
        let all = all.flat_map(|(name, watched)| watched.refused.iter().map(move |r| (name, &r.1)));
        let mut all: Vec<_> = all.map(told).collect();
        all.sort_by(|a, b| (&a.service, &a.why).cmp(&(&b.service, &b.why)));
        all
    }
}

#[cfg(test)]
#[path = "asked_tests.rs"]
mod tests;

//! Metrics of the checks.

use std::collections::BTreeMap;

use prometheus::{IntCounter, IntGauge};

use super::asked::Reason;
use super::check::KINDS;
use super::tracker::Outcome;
use crate::telemetry::metrics::Register as _;

/// Metrics of this room; one for each process.
#[derive(Debug, Clone)]
pub struct Metrics {
    kinds: BTreeMap<&'static str, Kind>,
    pub(super) running: IntGauge,
    pub(super) late: IntCounter,
    pub(super) transitions: BTreeMap<&'static str, IntCounter>,
    refused: [IntGauge; Reason::ALL.len()],
}

/// Metrics of one kind of checks.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) targets: IntGauge,
    passed: IntCounter,
    warned: IntCounter,
    failed: IntCounter,
    timed_out: IntCounter,
}

impl Metrics {
    /// Registers the metrics of this room.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let probes = registry.counter_vec(
            "portolan_health_probes_total",
            "Results of checks, by kind and result; those that were pushed too.",
            &["kind", "result"],
        )?;
        let targets = registry.gauge_vec(
            "portolan_health_targets",
            "Targets that are checked, by kind.",
            &["kind"],
        )?;
        let transitions = registry.counter_vec(
            "portolan_health_transitions_total",
            "Instances that their checks gave another health, by the new one.",
            &["to"],
        )?;
        let running = registry.gauge("portolan_health_probes_running", "Probes under way.")?;
        let late = registry.counter(
            "portolan_health_probes_late_total",
            "Probes that started more than 100 ms after their time, for want of a free place.",
        )?;
        let refused = registry.gauge_vec(
            "portolan_health_asked_refused",
            "What services ask to be checked in their registry and do not get as they ask, by \
             reason.",
            &["reason"],
        )?;
        let kind = |word: &&'static str| {
            let result = |result| probes.with_label_values(&[*word, result]);
            let kind = Kind {
                targets: targets.with_label_values(&[*word]),
                passed: result("passed"),
                warned: result("warned"),
                failed: result("failed"),
                timed_out: result("timed_out"),
            };
            (*word, kind)
        };
        let healths = ["healthy", "warning", "unhealthy"];
        let transition = |to: &'static str| (to, transitions.with_label_values(&[to]));
        Ok(Self {
            kinds: KINDS.iter().map(kind).collect(),
            running,
            late,
            transitions: healths.into_iter().map(transition).collect(),
            refused: Reason::ALL.map(|reason| refused.with_label_values(&[reason.word()])),
        })
    }

    /// What is refused of what services ask for, for this reason.
    pub(super) const fn refused(&self, reason: Reason) -> &IntGauge {
        &self.refused[reason as usize]
    }

    /// Those of the checks called `kind`, if there are any.
    pub(super) fn kind(&self, kind: &str) -> Option<&Kind> {
        self.kinds.get(kind)
    }
}

impl Kind {
    pub(super) fn count(&self, outcome: Outcome, in_time: bool) {
        match outcome {
            _ if !in_time => self.timed_out.inc(),
            Outcome::Passed => self.passed.inc(),
            Outcome::Warned => self.warned.inc(),
            Outcome::Failed => self.failed.inc(),
        }
    }
}

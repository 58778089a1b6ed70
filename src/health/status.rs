//! What the checks know, for people.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::roster::{Probed, Roster};
use crate::catalog::model::Health;

/// Most failing targets that the overview lists.
const FAILING_MAX: usize = 100;

/// An overview over all checks.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Targets that are checked; one for each address and check, however many services share it.
    pub targets: usize,
    /// Of those: never answered yet.
    pub undecided: usize,
    /// Of those: failing.
    pub failing: usize,
    /// Probes under way.
    pub running: usize,
    /// Targets that failed, at most a hundred of them.
    pub failed: Vec<TargetStatus>,
}

/// One target and one check.
#[derive(Debug, Clone, Serialize)]
pub struct TargetStatus {
    /// Kind of the check.
    pub check: &'static str,
    /// Address and port, or the id of an instance.
    pub target: String,
    /// Services that share it.
    pub services: Vec<Arc<str>>,
    /// What is decided; none before the first result.
    pub health: Option<Health>,
    /// What decided it.
    pub cause: Option<Arc<str>>,
    /// Since when.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub since: Option<SystemTime>,
    /// Successes in a row.
    pub successes: u32,
    /// Failures in a row.
    pub failures: u32,
    /// The last result.
    pub last: Option<LastResult>,
}

/// One result.
#[derive(Debug, Clone, Serialize)]
pub struct LastResult {
    /// `passed`, `warned` or `failed`.
    pub result: &'static str,
    /// What the target said, or why there was no answer.
    pub text: Arc<str>,
    /// How long it took.
    pub took_ms: f64,
    /// When it came.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub at: SystemTime,
}

impl Roster {
    /// An overview of this moment.
    pub(super) fn status(&self) -> Status {
        let health = |probed: &Probed| probed.tracker.decided().map(|decided| decided.health);
        let of = |wanted| self.probes.values().filter(move |probed| health(probed) == wanted);
        let mut failed: Vec<_> = of(Some(Health::Unhealthy)).map(target).collect();
        let failing = failed.len();
        failed.sort_by(|a, b| (a.check, &a.target).cmp(&(b.check, &b.target)));
        failed.truncate(FAILING_MAX);
        Status {
            targets: self.probes.len(),
            undecided: of(None).count(),
            failing,
            running: self.sockets.running() + self.commands.running(),
            failed,
        }
    }

    /// Every target of one service, in the order of its instances.
    pub(super) fn status_of(&self, service: &str) -> Vec<TargetStatus> {
        let Some(watched) = self.services.get(service) else { return Vec::new() };
        let probes = watched.instances.values().flat_map(|entry| entry.probes.iter().flatten());
        probes.filter_map(|id| self.probes.get(id)).map(target).collect()
    }
}

fn target(probed: &Probed) -> TargetStatus {
    let decided = probed.tracker.decided();
    let (successes, failures) = probed.tracker.in_a_row();
    TargetStatus {
        check: probed.check.kind,
        target: probed.target.to_string(),
        services: probed.services(),
        health: decided.map(|decided| decided.health),
        cause: decided.map(|decided| Arc::clone(&decided.cause)),
        since: decided.map(|decided| decided.since),
        successes,
        failures,
        last: probed.last.as_ref().map(|last| LastResult {
            result: last.seen.outcome.word(),
            text: Arc::clone(&last.seen.text),
            took_ms: (last.took.as_secs_f64() * 1e6).round() / 1e3,
            at: last.at,
        }),
    }
}

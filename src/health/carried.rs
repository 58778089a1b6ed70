//! What is known of targets, from one process to the one that takes over: results in a row, the last
//! one, and when each is asked next. So an upgrade is no storm of checks, and no second chance. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::check::{Check, Target};
use super::roster::{Last, Probed, Roster};
use super::tracker::Tracker;

/// One target as it goes to another process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// [`fingerprint`].
    target: u64,
    pub(super) tracker: Tracker,
    pub(super) last: Option<Last>,
    pub(super) candidate: Option<u64>,
    pub(super) cause: Arc<str>,
    /// Time to its next start, or until what was pushed expires.
    due_in: Option<Duration>,
}

/// What another process knew of a target.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) carried: Carried,
    pub(super) due: Option<Instant>,
}

/// What a check and its target are, for another process: the same for equal ones of one version, and
/// hardly ever for two that differ. Where versions differ it may not match, and the target begins anew.
pub(super) fn fingerprint(check: &Check, target: &Target) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?} {target:?}", check.key).hash(&mut hasher);
    hasher.finish()
}

impl Probed {
    /// A target that nobody uses yet, with what is `known` of it.
    pub(super) fn new(check_id: u32, check: &Arc<Check>, target: &Target, known: Known) -> Self {
        let Known { carried, due } = known;
        Self {
            check_id,
            check: Arc::clone(check),
            target: target.clone(),
            tracker: carried.tracker,
            last: carried.last,
            candidate: carried.candidate,
            cause: carried.cause,
            users: BTreeMap::new(),
            beat: None,
            due: None,
            resumes: due,
        }
    }
}

impl Roster {
    /// Every target with what is known of it.
    pub(super) fn carried(&self, now: Instant) -> Vec<Carried> {
        let probes = self.probes.values().map(|probed| {
            // One that is being asked is asked again on its beat: its answer is nobody's.
            let due = probed.due.or_else(|| Some(probed.beat.as_ref()?.due(0.0, 0.0)));
            Carried {
                target: fingerprint(&probed.check, &probed.target),
                tracker: probed.tracker.clone(),
                last: probed.last.clone(),
                candidate: probed.candidate,
                cause: Arc::clone(&probed.cause),
                due_in: due.map(|due| due.saturating_duration_since(now)),
            }
        });
        probes.collect()
    }

    /// Takes over what another process knew of targets that a snapshot will tell of.
    pub(super) fn carry(&mut self, carried: Vec<Carried>, now: Instant) {
        let known = carried.into_iter().map(|carried| {
            let due = carried.due_in.map(|after| now + after);
            (carried.target, Known { carried, due })
        });
        self.carried = known.collect();
    }
}

#[cfg(test)]
#[path = "carried_tests.rs"]
mod tests;

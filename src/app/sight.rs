//! What led to the newest snapshot, kept for those who ask why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::catalog::Snapshot;
use crate::catalog::assemble::{Inputs, Settings};
use crate::catalog::history::History;
use crate::catalog::why::{Why, troubled, why};

/// The newest snapshot, what it came from, and what happened before.
#[derive(Debug, Clone)]
pub(super) struct Sight(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    snapshot: Arc<Snapshot>,
    inputs: Inputs,
    /// None until the first snapshot: what it says is where history begins.
    history: Option<History>,
}

impl Sight {
    pub(super) fn new() -> Self {
        let seen = Seen { snapshot: Arc::default(), inputs: Inputs::default(), history: None };
        Self(Arc::new(Mutex::new(seen)))
    }

    /// Notes that `snapshot`, which came from `inputs`, has been published.
    pub(super) fn note(&self, snapshot: &Arc<Snapshot>, inputs: &Inputs) {
        let now = SystemTime::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        match &mut seen.history {
            Some(history) => history.note(&seen.snapshot, snapshot, now),
            None => seen.history = Some(History::new(now)),
        }
        seen.snapshot = Arc::clone(snapshot);
        seen.inputs = inputs.clone();
    }

    /// What operators' configuration says of services, as it was published last.
    pub(super) fn settings(&self) -> Arc<Settings> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&seen.inputs.settings)
    }

    /// Why the service called `name` answers as it does.
    pub(super) fn why(&self, name: &str) -> Option<Why> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(why(name, &seen.snapshot, &seen.inputs, seen.history.as_ref()?))
    }

    /// Names of the services in which not every instance gets work.
    pub(super) fn troubled(&self) -> Vec<Arc<str>> {
        let snapshot = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).snapshot);
        troubled(&snapshot)
    }
}

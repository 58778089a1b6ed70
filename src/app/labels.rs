//! What labels ask for and can't have, for those who ask, and once in the log.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use super::publish::Tables;
use crate::api;
use crate::proxy::overlay::{LabelProblem, Overlay};

/// What was told of problems so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    of: Option<Arc<Overlay>>,
    /// In order.
    problems: Vec<LabelProblem>,
}

impl Told {
    /// Tells the log of problems that were not there before. How many there are.
    pub(super) fn follow(&mut self, overlay: &Arc<Overlay>) -> usize {
        if self.of.as_ref().is_some_and(|known| Arc::ptr_eq(known, overlay)) {
            return self.problems.len();
        }
        let mut now = overlay.problems(None);
        now.sort_unstable();
        for new in now.iter().filter(|new| self.problems.binary_search(new).is_err()) {
            tracing::warn!(
                service = &*new.service,
                why = &*new.why,
                "what labels ask for is refused"
            );
        }
        self.of = Some(Arc::clone(overlay));
        self.problems = now;
        self.problems.len()
    }
}

/// A function that tells the problems of one service's labels.
pub(super) fn problems(tables: &Arc<ArcSwap<Tables>>) -> api::Problems {
    let tables = Arc::clone(tables);
    Arc::new(move |service| {
        let found = tables.load().proxy.overlay().problems(Some(service));
        found.into_iter().map(|problem| problem.why).collect()
    })
}

/// Adds `problems` to those that `told` tells already, and none twice.
pub(super) fn add(told: &mut Value, problems: &[Arc<str>]) {
    if let (Some(known), false) = (told["problems"].as_array_mut(), problems.is_empty()) {
        for why in problems {
            let why = Value::from(&**why);
            if !known.contains(&why) {
                known.push(why);
            }
        }
    }
}

//! How what is known of a Consul is told: the view, what it lacks and what is wrong with it. Pure.

use std::sync::Arc;

use super::known::Known;
use crate::catalog::{Parts, Problem, RegistryView, Wanted};

/// Most problems told; behind them only their number.
const PROBLEMS_MAX: usize = 100;

impl Known {
    /// Why nothing can be read, when nothing can.
    pub(super) fn failed(&self) -> Option<&Arc<str>> {
        self.failing.values().next().filter(|_| self.fine.is_empty())
    }

    /// Whether the agent has said anything that a view can stand on.
    pub(super) fn speaks(&self) -> bool {
        let nothing = self.services().is_empty()
            && !self.listing()
            && !self.wants_nodes()
            && self.prefixes().is_empty();
        let listed = self.interest.services != Wanted::All || self.names.is_some();
        listed && (nothing || !self.fine.is_empty())
    }

    /// How many parts could not be read last.
    pub(super) fn failing(&self) -> usize {
        self.failing.len()
    }

    /// All that is known.
    pub(super) fn view(&mut self) -> RegistryView {
        let problems = self.problems();
        if *self.view.problems != *problems {
            self.view.problems = problems.into();
        }
        if self.view.suspect.as_ref() != self.doubts.everything() {
            self.view.suspect = self.doubts.everything().cloned();
        }
        let known = self.known();
        if *self.view.known != known {
            self.view.known = Arc::new(known);
        }
        let parts = Parts {
            names: self.names.is_some() && self.listing(),
            nodes: self.nodes.is_some(),
            keys: Some(self.prefixes.keys().cloned().collect()),
        };
        if *self.view.parts != parts {
            self.view.parts = Arc::new(parts);
        }
        self.view.clone()
    }

    /// The services whose absence is a fact. Once all that are listed were read, a new one makes no
    /// other name doubtful.
    fn known(&mut self) -> Wanted {
        if self.interest.services == Wanted::All && !self.complete {
            let listed = self.names.as_ref();
            self.complete =
                listed.is_some_and(|names| names.tags.keys().all(|n| self.read.contains(n)));
        }
        if self.complete { Wanted::All } else { Wanted::Names(self.read.clone()) }
    }

    fn problems(&self) -> Vec<Problem> {
        let listed = self.names.iter().flat_map(|names| names.problems.iter().cloned());
        let keys = self.prefixes.values().flat_map(|keys| keys.problems.iter().cloned());
        let nodes = self.nodes.iter().flat_map(|nodes| nodes.problems.iter().cloned());
        let failing = self.failing.iter().map(|(target, why)| Problem {
            place: target.to_string().into(),
            message: format!("cannot be read, what it said last counts: {why}").into(),
        });
        let mut all: Vec<Problem> = failing.chain(listed).chain(keys).chain(nodes).collect();
        let more = all.len().saturating_sub(PROBLEMS_MAX);
        if more > 0 {
            all.truncate(PROBLEMS_MAX);
            let message = format!("{more} more problems").into();
            all.push(Problem { place: Arc::clone(&self.wish.registry), message });
        }
        all
    }
}

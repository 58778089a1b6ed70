//! What all routes of a listener have counted together.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::{CLASSES, RouteMetrics, Routes};

/// Requests of a route, or of a listener, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// By the first digit of the status; those without an answer at index 0.
    pub classes: [u64; CLASSES.len()],
    /// Bytes of the bodies that came, and that went to clients.
    pub bytes: [u64; 2],
    /// Turned away: not admitted, not authorised, or too many.
    pub denied: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.classes.iter_mut().zip(other.classes).for_each(|(all, one)| *all += one);
        self.bytes.iter_mut().zip(other.bytes).for_each(|(all, one)| *all += one);
        self.denied += other.denied;
    }
}

impl RouteMetrics {
    /// All requests of all threads.
    fn sums(&self) -> Sums {
        Sums {
            classes: std::array::from_fn(|at| self.sum(|shard| &shard.classes[at])),
            bytes: [0, 1].map(|at| self.sum(|shard| &shard.bytes[at])),
            denied: self.sum(|shard| &shard.denied),
        }
    }
}

impl Routes {
    /// The requests of each listener, over all its routes. For who reads statistics: it holds the lock
    /// that the first request of a route takes.
    #[must_use]
    pub fn by_listener(&self) -> HashMap<Arc<str>, Sums> {
        let counters = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: HashMap<Arc<str>, Sums> = HashMap::new();
        for ([listener, _], route) in &counters.routes {
            all.entry(Arc::clone(listener)).or_default().add(&route.sums());
        }
        all
    }

    /// The requests of these routes, counted under the name `listener`; nothing of those that have no
    /// counters of their own. For who reads statistics, as [`Self::by_listener`] is.
    #[must_use]
    pub fn of_routes<'a>(
        &self,
        listener: &Arc<str>,
        routes: impl Iterator<Item = &'a Arc<str>>,
    ) -> Sums {
        let counters = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Sums::default();
        for name in routes {
            if let Some(route) = counters.routes.get(&[Arc::clone(listener), Arc::clone(name)]) {
                all.add(&route.sums());
            }
        }
        all
    }
}

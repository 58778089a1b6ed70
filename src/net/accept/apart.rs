//! What is counted of listeners that metrics have under one name, because there may be hundreds: each
//! for itself, for who reads statistics of one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Told;

/// What one of them has counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    open: AtomicU64,
    most: AtomicU64,
}

/// One open connection of such a listener; dropping it counts it out.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

/// All of them, by name. Who has no accept loop any more is forgotten.
#[derive(Debug, Clone, Default)]
pub(super) struct Apart(Arc<Mutex<HashMap<Arc<str>, Weak<Counts>>>>);

impl Apart {
    /// The counts of the listener `name`, which all its accept loops share. Not for hot paths.
    pub(super) fn of(&self, name: &Arc<str>) -> Arc<Counts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, counts| counts.strong_count() > 0);
        let counts = Arc::new(Counts::default());
        all.insert(Arc::clone(name), Arc::downgrade(&counts));
        counts
    }

    /// What the listener `name` has counted so far; nothing where nobody accepts for it.
    pub(super) fn told(&self, name: &str) -> Told {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.get(name).and_then(Weak::upgrade);
        counts.map_or_else(Told::default, |counts| Told {
            accepted: counts.accepted.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            open: counts.open.load(Relaxed),
            most: counts.most.load(Relaxed),
        })
    }
}

impl Counts {
    /// So many connections came.
    pub(super) fn accepted(&self, count: u64) {
        self.accepted.fetch_add(count, Relaxed);
    }

    /// So many of these were closed at once.
    pub(super) fn refused(&self, count: u64) {
        self.refused.fetch_add(count, Relaxed);
    }

    /// One is open.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(open, Relaxed);
        Open(Arc::clone(self))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_counts_for_itself_until_nobody_accepts_for_it() {
        let all = Apart::default();
        let (shop, other): (Arc<str>, Arc<str>) = ("shop_10001".into(), "other_10002".into());
        let (one, two) = (all.of(&shop), all.of(&shop));
        one.accepted(3);
        two.accepted(1);
        two.refused(1);
        let held = [one.open(), two.open()];
        let first = one.open();
        drop(first);
        all.of(&other).accepted(9);
        let want = Told { accepted: 4, refused: 1, open: 2, most: 3 };
        assert_eq!(all.told(&shop), want);
        assert_eq!(all.told(&other), Told::default(), "it has ended");
        drop((one, two));
        assert_eq!(all.told(&shop), want, "connections are open");
        drop(held);
        assert_eq!(all.told(&shop), Told::default());
        all.of(&other);
        assert_eq!(all.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}

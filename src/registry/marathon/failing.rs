//! Reads that fail while the event stream is well: how often, of what, and when they are tried
//! again. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::registry::backoff::{Backoff, share};

/// So many failures in a row, and the node is left.
const FAILURES_MAX: u32 = 3;
/// More apps than this that cannot be read alone, and everything is read.
const APPS_MAX: usize = 3;

/// Reads that failed since one succeeded.
#[derive(Debug)]
pub(super) struct Failing {
    backoff: Backoff,
    now: Option<Now>,
}

/// What is missing at this moment.
#[derive(Debug)]
struct Now {
    times: u32,
    /// What was missed is read again then, and what began before is no other failure.
    again_at: Instant,
    /// Whether that has begun.
    begun: bool,
    /// Everything is to be read.
    full: bool,
    /// Apps that could not be read, and were not since.
    apps: BTreeSet<Arc<str>>,
}

/// What a failure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comes {
    /// It is one more of a failure that is known.
    Along,
    /// It is news.
    Counted,
    /// It was the last one: the node is to be left.
    Enough,
}

impl Failing {
    /// Nothing fails. `first` and `longest` pauses before the next try.
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { backoff: Backoff::new(first, longest), now: None }
    }

    /// Whether something that was to be read could not be.
    pub(super) const fn any(&self) -> bool {
        self.now.is_some()
    }

    /// Everything was to be read, and could not be.
    pub(super) fn full(&mut self, now: Instant, random: u64) -> Comes {
        let comes = self.count(now, random);
        if let Some(failing) = &mut self.now {
            failing.full = true;
        }
        comes
    }

    /// An app could not be read alone; its read began then.
    pub(super) fn app(
        &mut self,
        id: &Arc<str>,
        began: Instant,
        now: Instant,
        random: u64,
    ) -> Comes {
        let known = self.now.as_ref().is_some_and(|failing| began < failing.again_at);
        let comes = if known { Comes::Along } else { self.count(now, random) };
        if let Some(failing) = &mut self.now {
            failing.apps.insert(Arc::clone(id));
            // The last try is one of everything: that an app cannot be read alone is no reason to
            // leave the node.
            failing.full |= failing.times + 1 >= FAILURES_MAX || failing.apps.len() > APPS_MAX;
        }
        comes
    }

    fn count(&mut self, now: Instant, random: u64) -> Comes {
        let failing = self.now.get_or_insert_with(|| Now {
            times: 0,
            again_at: now,
            begun: true,
            full: false,
            apps: BTreeSet::new(),
        });
        failing.times += 1;
        let span = self.backoff.next();
        failing.again_at = now + span / 2 + share(span / 2, random);
        failing.begun = false;
        if failing.times >= FAILURES_MAX { Comes::Enough } else { Comes::Counted }
    }

    /// Everything was read.
    pub(super) fn full_read(&mut self) {
        self.backoff.succeeded();
        self.now = None;
    }

    /// An app was read alone.
    pub(super) fn app_read(&mut self, id: &str) {
        let Some(failing) = &mut self.now else { return };
        failing.apps.remove(id);
        if failing.apps.is_empty() && !failing.full {
            self.full_read();
        }
    }

    /// The node is left: another one begins without a failure, but for the pause.
    pub(super) fn forget(&mut self) {
        self.now = None;
    }

    /// When everything is to be read again; no app is read alone before.
    pub(super) fn full_at(&self) -> Option<Instant> {
        self.now.as_ref().filter(|failing| failing.full).map(|failing| failing.again_at)
    }

    /// When apps that could not be read are to be read again.
    pub(super) fn apps_at(&self) -> Option<Instant> {
        let waits = self.now.as_ref().filter(|failing| !failing.full && !failing.begun);
        waits.map(|failing| failing.again_at)
    }

    /// That time has come.
    pub(super) const fn begin(&mut self) {
        if let Some(failing) = &mut self.now {
            failing.begun = true;
        }
    }

    /// Whether `id` is to wait.
    pub(super) fn holds(&self, id: &str) -> bool {
        let waits = self.now.as_ref().filter(|failing| !failing.begun);
        waits.is_some_and(|failing| failing.apps.contains(id))
    }
}

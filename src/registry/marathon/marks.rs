//! Apps that are to be read, and those that are being read. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

/// What events have marked.
#[derive(Debug, Default)]
pub(super) struct Marks {
    dirty: BTreeSet<Arc<str>>,
    /// When they are read.
    due: Option<Instant>,
    /// Since when which of them are being read.
    reading: BTreeMap<Arc<str>, Instant>,
}

impl Marks {
    /// Apps that wait to be read, or are being read.
    pub(super) fn waiting(&self) -> usize {
        let others = self.reading.keys().filter(|id| !self.dirty.contains(*id));
        self.dirty.len() + others.count()
    }

    /// Apps that wait.
    pub(super) fn marked(&self) -> usize {
        self.dirty.len()
    }

    /// How many are being read.
    pub(super) fn reading(&self) -> usize {
        self.reading.len()
    }

    /// Those that are being read.
    pub(super) fn being_read(&self) -> BTreeSet<Arc<str>> {
        self.reading.keys().cloned().collect()
    }

    /// When those that wait are to be looked at.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// They are to be looked at then, whatever was said before.
    pub(super) const fn look(&mut self, at: Option<Instant>) {
        self.due = at;
    }

    /// `id` is to be read, with all that wait, by then.
    pub(super) fn mark(&mut self, id: Arc<str>, by: Instant) {
        self.dirty.insert(id);
        self.due.get_or_insert(by);
    }

    /// Everything is read from now on: what waits is served by that.
    pub(super) fn serve(&mut self) {
        self.dirty.clear();
        self.due = None;
    }

    /// `id` was read, or could not be; since when. What was marked meanwhile is to be looked at by
    /// then.
    pub(super) fn ended(&mut self, id: &str, by: Instant) -> Option<Instant> {
        let began = self.reading.remove(id)?;
        if self.dirty.contains(id) {
            self.due.get_or_insert(by);
        }
        Some(began)
    }

    /// Begins to read what waits, up to `most` at once, but for those that are `held`.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        most: usize,
        held: impl Fn(&str) -> bool,
    ) -> Vec<Arc<str>> {
        let mut begun = Vec::new();
        loop {
            let free = |id: &&Arc<str>| !self.reading.contains_key(*id) && !held(id);
            let Some(id) = self.dirty.iter().find(free).cloned() else {
                // What is being read now is looked at when that is done, and what is held in its
                // time.
                self.due = None;
                return begun;
            };
            if self.reading.len() >= most {
                return begun;
            }
            self.dirty.remove(&id);
            self.reading.insert(Arc::clone(&id), now);
            begun.push(id);
        }
    }
}

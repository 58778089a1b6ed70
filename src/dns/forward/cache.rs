//! What upstreams said, for as long as it may be kept, and somewhat longer for when they fail.
//! Pure: the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::key::Key;
use super::message::{Age, Stored};

/// Bytes that an entry takes besides its key and its reply, more or less.
const ENTRY: usize = 160;

/// What is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keep {
    /// Most entries.
    pub entries: usize,
    /// Most bytes.
    pub bytes: usize,
    /// How long after it ran out an answer may be given.
    pub stale: Duration,
    /// What clients are told of such an answer, in seconds.
    pub stale_ttl: u32,
    /// How long after a failure such an answer is given without asking again.
    pub recheck: Duration,
    /// How long a failure is remembered.
    pub failure: Duration,
    /// Share of an answer's time, its last one, in which it is fetched anew.
    pub prefetch: f64,
    /// How often it has to be asked for before that.
    pub prefetch_hits: u32,
}

/// Answers by question.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Who was used when, the one that was not used for longest first.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// None: all that is known is that the upstreams failed.
    reply: Option<Arc<Stored>>,
    since: Instant,
    fresh_until: Instant,
    hits: u32,
    prefetching: bool,
    /// When the upstreams failed last, the time until which they are not asked again.
    quiet_until: Option<Instant>,
    used: u64,
}

/// What is known about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// An answer that is as good as new. With `prefetch` the caller fetches it anew.
    Fresh { reply: Arc<Stored>, age: Age, prefetch: bool },
    /// One that has run out. When `quiet`, the upstreams failed just now and are left alone.
    Stale { reply: Arc<Stored>, age: Age, quiet: bool },
    /// The upstreams failed just now.
    Failed,
    /// Nothing.
    Nothing,
}

/// What is told about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) reply: Arc<Stored>,
    pub(super) age: Age,
    /// Seconds since it was told.
    pub(super) since: u64,
    /// Seconds until it runs out; 0 when it has.
    pub(super) left: u64,
    pub(super) hits: u32,
}

impl Cache {
    /// What is known about `key`. Counts as use.
    pub(super) fn look(&mut self, key: &Key, keep: &Keep, now: Instant) -> Known {
        let Some(entry) = self.entries.get_mut(key) else { return Known::Nothing };
        self.order.remove(&entry.used);
        entry.used = self.next;
        self.order.insert(self.next, key.clone());
        self.next += 1;
        let quiet = entry.quiet_until.is_some_and(|until| now < until);
        if let Some(reply) = &entry.reply {
            if now < entry.fresh_until {
                entry.hits = entry.hits.saturating_add(1);
                let whole = entry.fresh_until - entry.since;
                let prefetch = !entry.prefetching
                    && !quiet
                    && entry.hits > keep.prefetch_hits
                    && entry.fresh_until - now < whole.mul_f64(keep.prefetch);
                entry.prefetching |= prefetch;
                let age = entry.age(keep, now);
                return Known::Fresh { reply: Arc::clone(reply), age, prefetch };
            }
            if now < entry.fresh_until + keep.stale {
                let age = entry.age(keep, now);
                return Known::Stale { reply: Arc::clone(reply), age, quiet };
            }
        }
        if entry.reply.is_none() && quiet {
            return Known::Failed;
        }
        // It is of no use any more.
        self.remove(key);
        Known::Nothing
    }

    /// Keeps the answer `reply` to `key`, when it may be kept at all. Returns how many others had
    /// to go.
    pub(super) fn put(
        &mut self,
        key: &Key,
        reply: &Arc<Stored>,
        keep: &Keep,
        now: Instant,
    ) -> usize {
        self.remove(key);
        let size = key.len() + reply.size() + ENTRY;
        if reply.ttl == 0 || keep.entries == 0 || size > keep.bytes {
            return 0;
        }
        let fresh_until = now + Duration::from_secs(reply.ttl.into());
        self.insert(key, Some(Arc::clone(reply)), fresh_until, None, now);
        self.fit(keep)
    }

    /// Remembers that nobody could be asked about `key`. An answer that is there stays.
    pub(super) fn fail(&mut self, key: &Key, keep: &Keep, now: Instant) -> usize {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.reply.is_some()
            && now < entry.fresh_until + keep.stale
        {
            entry.quiet_until = Some(now + keep.recheck);
            entry.prefetching = false;
            return 0;
        }
        self.remove(key);
        if keep.failure.is_zero() || keep.entries == 0 {
            return 0;
        }
        self.insert(key, None, now, Some(now + keep.failure), now);
        self.fit(keep)
    }

    /// What is kept about `key`; does not count as use.
    pub(super) fn see(&self, key: &Key, keep: &Keep, now: Instant) -> Option<Seen> {
        let entry = self.entries.get(key)?;
        let reply = Arc::clone(entry.reply.as_ref()?);
        Some(Seen {
            reply,
            age: entry.age(keep, now),
            since: now.saturating_duration_since(entry.since).as_secs(),
            left: entry.fresh_until.saturating_duration_since(now).as_secs(),
            hits: entry.hits,
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    fn insert(
        &mut self,
        key: &Key,
        reply: Option<Arc<Stored>>,
        fresh_until: Instant,
        quiet_until: Option<Instant>,
        now: Instant,
    ) {
        let used = self.next;
        self.next += 1;
        self.order.insert(used, key.clone());
        let entry = Entry {
            reply,
            since: now,
            fresh_until,
            hits: 0,
            prefetching: false,
            quiet_until,
            used,
        };
        self.bytes += entry.size(key);
        self.entries.insert(key.clone(), entry);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.size(key);
        }
    }

    /// Lets go of what was not used for longest until the rest is within its bounds.
    fn fit(&mut self, keep: &Keep) -> usize {
        let mut gone = 0;
        while self.entries.len() > keep.entries || self.bytes > keep.bytes {
            let Some((_, key)) = self.order.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.size(&key);
                gone += 1;
            }
        }
        gone
    }
}

impl Entry {
    fn size(&self, key: &Key) -> usize {
        key.len() + self.reply.as_ref().map_or(0, |reply| reply.size()) + ENTRY
    }

    fn age(&self, keep: &Keep, now: Instant) -> Age {
        if now < self.fresh_until {
            Age::Fresh(now.saturating_duration_since(self.since).as_secs() as u32)
        } else {
            Age::Stale(keep.stale_ttl)
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;

//! Which endpoint a client had, by the client's address: one table for all workers.
//!
//! A fixed number of slots in groups of sixteen, each slot three atomics; a client's group comes from
//! a keyed hash of its address and the upstream. Nobody ever waits: a look-up reads one group, a new
//! binding takes the free slot of its group, or the one that ends first. What two workers do to one slot
//! at the same moment can cost a client its binding, and nothing worse: each slot's endpoint is crossed
//! with its key, so that a mixture of two leads nowhere.

#![allow(deprecated, reason = "std's only SipHash-2-4 with keys of our choice is a deprecated one")]

use std::hash::{Hasher, SipHasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use prometheus::IntCounter;

/// Slots that a client's binding may stand in.
const GROUP: usize = 16;
/// No client.
const FREE: u64 = 0;
/// Being written.
const TAKEN: u64 = 1;

/// The bindings of clients by their address. They end when the client was not seen for the time that
/// its route or listener says.
#[derive(Debug)]
pub struct Sources {
    seed: [u64; 2],
    max: usize,
    groups: Box<[[Slot; GROUP]]>,
    used: AtomicUsize,
    /// A binding was made or led elsewhere since this was last taken.
    moved: AtomicBool,
    /// A client was seen since this was last taken.
    seen: AtomicBool,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    /// The endpoint, crossed with the key: read under another key it is nobody.
    crossed: AtomicU64,
    until: AtomicU64,
}

/// One binding. The key is a hash of the client's address and the upstream, under the table's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Who.
    pub key: u64,
    /// The endpoint's part of its identity.
    pub endpoint: u64,
    /// When it ends, in milliseconds of Unix time.
    pub until: u64,
}

impl Sources {
    /// An empty table for about `max` clients; 0: it keeps nobody. `dropped` counts whose binding
    /// was good and went, because the table was full.
    #[must_use]
    pub fn new(max: usize, seed: [u64; 2], dropped: IntCounter) -> Self {
        // Twice as many slots, so that a group is hardly ever full before the table is.
        let groups = (max * 2).div_ceil(GROUP);
        Self {
            seed,
            max,
            groups: (0..groups).map(|_| <[Slot; GROUP]>::default()).collect(),
            used: AtomicUsize::new(0),
            moved: AtomicBool::new(false),
            seen: AtomicBool::new(false),
            dropped,
        }
    }

    /// How many clients it keeps at most.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// What the hash of clients is keyed with; bindings mean nothing under another one.
    #[must_use]
    pub const fn seed(&self) -> [u64; 2] {
        self.seed
    }

    /// The key of `client` at `upstream`. The whole address counts, as with keepalived's default
    /// granularity; an IPv4 address mapped into IPv6 is an IPv4 address.
    #[must_use]
    pub fn key(&self, client: IpAddr, upstream: u64) -> u64 {
        let mut hasher = SipHasher::new_with_keys(self.seed[0], self.seed[1]);
        hasher.write(&upstream.to_be_bytes());
        match client.to_canonical() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.finish().max(TAKEN + 1)
    }

    /// The binding of `key`, unless it has ended by `now`. Never blocks, never allocates.
    #[must_use]
    pub fn find(&self, key: u64, now: u64) -> Option<Binding> {
        let slot = self.slot(key)?;
        let endpoint = slot.endpoint(key);
        let until = slot.until.load(Ordering::Acquire);
        // Somebody else's by now: what was read may be a mixture.
        (slot.key.load(Ordering::Acquire) == key && until > now).then_some(Binding {
            key,
            endpoint,
            until,
        })
    }

    /// From now on the binding is this one, whatever it was. Never blocks, never allocates.
    pub fn bind(&self, binding: Binding, now: u64) {
        mark(&self.moved);
        if let Some(slot) = self.slot(binding.key) {
            slot.write(binding);
            return;
        }
        let Some(group) = self.group(binding.key) else { return };
        // Another worker may take the same slot; then the next best one is looked for.
        for _ in 0..4 {
            let full = self.used.load(Ordering::Relaxed) >= self.max;
            let first =
                group.iter().filter(|slot| !full || slot.occupied()).min_by_key(|s| s.end());
            let Some(slot) = first.or_else(|| group.first()) else { return };
            let before = slot.key.load(Ordering::Acquire);
            if before == TAKEN || !slot.take(before) {
                continue;
            }
            if before == FREE {
                self.used.fetch_add(1, Ordering::Relaxed);
            } else if slot.until.load(Ordering::Acquire) > now {
                self.dropped.inc();
            }
            slot.write(binding);
            slot.key.store(binding.key, Ordering::Release);
            return;
        }
    }

    /// The client was seen: its binding lasts until `binding.until`, if it still leads to that
    /// endpoint. Never blocks, never allocates.
    pub fn saw(&self, binding: Binding) {
        let slot = self.slot(binding.key);
        let same = |slot: &&Slot| slot.endpoint(binding.key) == binding.endpoint;
        if let Some(slot) = slot.filter(same) {
            slot.until.fetch_max(binding.until, Ordering::AcqRel);
            mark(&self.seen);
        }
    }

    /// Every binding that has not ended by `now`; the slots of others are free again. Reads the whole
    /// table: for the control side.
    #[must_use]
    pub fn bindings(&self, now: u64) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for slot in self.groups.iter().flatten().filter(|slot| slot.occupied()) {
            let key = slot.key.load(Ordering::Acquire);
            let endpoint = slot.endpoint(key);
            let until = slot.until.load(Ordering::Acquire);
            if until > now {
                bindings.push(Binding { key, endpoint, until });
            } else if slot.take(key) {
                // It may have been seen a moment ago; then it goes on.
                let alive = slot.until.load(Ordering::Acquire) > now;
                if !alive {
                    self.used.fetch_sub(1, Ordering::Relaxed);
                }
                slot.key.store(if alive { key } else { FREE }, Ordering::Release);
            }
        }
        bindings
    }

    /// Takes over `bindings` of a table with the same seed, but those that have ended by `now`; what
    /// is known already stays. If there are too many, those that last longest count.
    pub fn adopt(&self, mut bindings: Vec<Binding>, now: u64) {
        bindings.retain(|binding| binding.until > now && binding.key > TAKEN);
        bindings.sort_by_key(|binding| std::cmp::Reverse(binding.until));
        bindings.truncate(self.max);
        // The longest last, so that they win where a group is full.
        for binding in bindings.into_iter().rev() {
            if self.find(binding.key, now).is_none() {
                self.bind(binding, now);
            }
        }
    }

    /// Whether a binding was made or moved, and whether a client was seen, since this was last asked.
    pub fn take_changes(&self) -> (bool, bool) {
        (self.moved.swap(false, Ordering::AcqRel), self.seen.swap(false, Ordering::AcqRel))
    }

    fn group(&self, key: u64) -> Option<&[Slot; GROUP]> {
        // The high bits, scaled: every group gets the same share without a division.
        self.groups.get(((u128::from(key) * self.groups.len() as u128) >> 64) as usize)
    }

    fn slot(&self, key: u64) -> Option<&Slot> {
        self.group(key)?.iter().find(|slot| slot.key.load(Ordering::Acquire) == key)
    }
}

impl Slot {
    fn endpoint(&self, key: u64) -> u64 {
        self.crossed.load(Ordering::Acquire) ^ key
    }

    fn write(&self, binding: Binding) {
        self.crossed.store(binding.endpoint ^ binding.key, Ordering::Release);
        self.until.store(binding.until, Ordering::Release);
    }

    fn occupied(&self) -> bool {
        self.key.load(Ordering::Acquire) > TAKEN
    }

    /// When it ends; a free one has ended always, one that is being written never does.
    fn end(&self) -> u64 {
        match self.key.load(Ordering::Acquire) {
            FREE => 0,
            TAKEN => u64::MAX,
            _ => self.until.load(Ordering::Acquire),
        }
    }

    /// Whether it was `before` and is ours now, to write to.
    fn take(&self, before: u64) -> bool {
        self.key.compare_exchange(before, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Sets `flag`; reads first, so that the workers do not fight for its cache line.
fn mark(flag: &AtomicBool) {
    if !flag.load(Ordering::Relaxed) {
        flag.store(true, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;

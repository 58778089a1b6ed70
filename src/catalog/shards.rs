//! A persistent hash map: a new version shares all that did not change with the one before it.
//!
//! [`Shards`] is a trie over the hash of the key, 64 ways wide, whose leaves hold up to
//! a dozen entries. A change copies the path to one leaf: the cost depends on the depth (two
//! levels at ten thousand entries, three at a million), never on the number of entries. Two
//! versions are compared by walking only where their nodes are not the same allocation, so that
//! finding what changed costs what changed.
//!
//! Reading takes no lock and allocates nothing. Hashing is fast and unseeded: keys come from
//! registries, which are trusted, never from the network's questions, which are only looked up.

mod changes;
mod join;
mod seek;

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::FixedState;

use changes::changes;
pub use seek::Seek;

/// Entries in a leaf before it is split into 64.
const LEAF_MAX: usize = 12;
/// Bits of the hash that one level uses.
const BITS: u32 = 6;
/// Levels before the hash is used up; below, a leaf holds all that is left.
const DEPTH_MAX: u32 = 64 / BITS;

/// A persistent map from `K` to shared values. Cloning costs one reference count.
///
/// ```
/// # use std::sync::Arc;
/// let old: portolan::catalog::Shards<u8, u8> = (0..9).map(|n| (n, Arc::new(n))).collect();
/// let mut new = old.clone();
/// new.insert(7, Arc::new(70));
/// new.changes_since(&old, |(key, _, _)| assert_eq!(*key, 7));
/// ```
#[derive(Debug)]
pub struct Shards<K, V> {
    root: Node<K, V>,
    len: usize,
}

#[derive(Debug)]
enum Node<K, V> {
    Leaf(Arc<Vec<Entry<K, V>>>),
    Branch(Arc<Branch<K, V>>),
}

#[derive(Debug)]
struct Branch<K, V> {
    /// Bit `i` is set when slot `i` has a child; children stand in the order of their slots.
    taken: u64,
    children: Vec<Node<K, V>>,
}

#[derive(Debug)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: Arc<V>,
}

/// One difference between two versions: the key, its value before, its value now.
pub type Change<'a, K, V> = (&'a K, Option<&'a Arc<V>>, Option<&'a Arc<V>>);

impl<K: Hash + Eq + Clone, V> Shards<K, V> {
    /// An empty map. Allocates one empty leaf.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Node::empty(), len: 0 }
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value under `key`. Allocates nothing.
    pub fn get<Q>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = hash_of(key);
        let mut node = &self.root;
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(entries) => {
                    return entries
                        .iter()
                        .find(|entry| entry.hash == hash && entry.key.borrow() == key)
                        .map(|entry| &entry.value);
                }
                Node::Branch(branch) => {
                    node = branch.child(slot(hash, depth))?;
                    depth += 1;
                }
            }
        }
    }

    /// Begins a look-up of `key` that its owner takes on step by step; see [`Seek`].
    pub fn seek<Q>(&self, key: &Q) -> Seek<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Seek { hash: hash_of(key), node: &self.root, depth: 0 }
    }

    /// Puts `value` under `key` and returns what stood there.
    pub fn insert(&mut self, key: K, value: Arc<V>) -> Option<Arc<V>> {
        let entry = Entry { hash: hash_of(&key), key, value };
        let before = self.root.insert(entry, 0);
        if before.is_none() {
            self.len += 1;
        }
        before
    }

    /// Takes the entry of `key` out and returns its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // A look first: a removal that finds nothing must not copy the path.
        self.get(key)?;
        let before = self.root.remove(hash_of(key), key, 0);
        if before.is_some() {
            self.len -= 1;
        }
        before
    }

    /// Every entry, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        Entries { open: vec![&self.root], leaf: [].iter() }.map(|entry| (&entry.key, &entry.value))
    }

    /// Every value, in no order that means anything.
    pub fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.iter().map(|(_, value)| value)
    }

    /// Calls `found` for each key whose value is not the same allocation in `before` and in
    /// `self`. Costs what differs, not what is there.
    pub fn changes_since<'a>(&'a self, before: &'a Self, mut found: impl FnMut(Change<'a, K, V>)) {
        changes(Some(&before.root), Some(&self.root), 0, &mut found);
    }

    /// Whether both are the same version.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.root.same(&other.root)
    }
}

impl<K: Hash + Eq + Clone, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K: Hash + Eq + Clone, V> FromIterator<(K, Arc<V>)> for Shards<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, Arc<V>)>>(entries: I) -> Self {
        let mut shards = Self::new();
        for (key, value) in entries {
            shards.insert(key, value);
        }
        shards
    }
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(Arc::clone(entries)),
            Self::Branch(branch) => Self::Branch(Arc::clone(branch)),
        }
    }
}

impl<K: Clone, V> Clone for Branch<K, V> {
    fn clone(&self) -> Self {
        Self { taken: self.taken, children: self.children.clone() }
    }
}

impl<K: Clone, V> Clone for Entry<K, V> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, key: self.key.clone(), value: Arc::clone(&self.value) }
    }
}

fn hash_of<Q: Hash + ?Sized>(key: &Q) -> u64 {
    FixedState::default().hash_one(key)
}

const fn slot(hash: u64, depth: u32) -> u32 {
    ((hash >> (depth * BITS)) & 63) as u32
}

impl<K, V> Branch<K, V> {
    /// Where the child of `slot` stands, or would stand.
    const fn index(&self, slot: u32) -> usize {
        (self.taken & ((1 << slot) - 1)).count_ones() as usize
    }

    const fn has(&self, slot: u32) -> bool {
        self.taken & (1 << slot) != 0
    }

    fn child(&self, slot: u32) -> Option<&Node<K, V>> {
        if self.has(slot) { self.children.get(self.index(slot)) } else { None }
    }
}

impl<K: Hash + Eq + Clone, V> Node<K, V> {
    fn empty() -> Self {
        Self::Leaf(Arc::new(Vec::new()))
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leaf(a), Self::Leaf(b)) => Arc::ptr_eq(a, b),
            (Self::Branch(a), Self::Branch(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn insert(&mut self, entry: Entry<K, V>, depth: u32) -> Option<Arc<V>> {
        match self {
            Self::Leaf(entries) => {
                let entries = Arc::make_mut(entries);
                if let Some(known) = entries
                    .iter_mut()
                    .find(|known| known.hash == entry.hash && known.key == entry.key)
                {
                    return Some(std::mem::replace(&mut known.value, entry.value));
                }
                entries.push(entry);
                if entries.len() > LEAF_MAX && depth < DEPTH_MAX {
                    let entries = std::mem::take(entries);
                    *self = Self::split(entries, depth);
                }
                None
            }
            Self::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let slot = slot(entry.hash, depth);
                let index = branch.index(slot);
                if !branch.has(slot) {
                    branch.taken |= 1 << slot;
                    branch.children.insert(index, Self::empty());
                }
                branch.children[index].insert(entry, depth + 1)
            }
        }
    }

    fn split(entries: Vec<Entry<K, V>>, depth: u32) -> Self {
        let mut node = Self::Branch(Arc::new(Branch { taken: 0, children: Vec::new() }));
        for entry in entries {
            node.insert(entry, depth);
        }
        node
    }

    fn remove<Q>(&mut self, hash: u64, key: &Q, depth: u32) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        match self {
            Self::Leaf(entries) => {
                let entries = Arc::make_mut(entries);
                let index = entries
                    .iter()
                    .position(|entry| entry.hash == hash && entry.key.borrow() == key)?;
                Some(entries.swap_remove(index).value)
            }
            Self::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let slot = slot(hash, depth);
                if !branch.has(slot) {
                    return None;
                }
                let index = branch.index(slot);
                let value = branch.children[index].remove(hash, key, depth + 1);
                if branch.children[index].is_vacant() {
                    branch.taken &= !(1 << slot);
                    branch.children.remove(index);
                }
                value
            }
        }
    }

    fn is_vacant(&self) -> bool {
        match self {
            Self::Leaf(entries) => entries.is_empty(),
            Self::Branch(branch) => branch.children.is_empty(),
        }
    }
}

struct Entries<'a, K, V> {
    open: Vec<&'a Node<K, V>>,
    leaf: std::slice::Iter<'a, Entry<K, V>>,
}

impl<'a, K, V> Iterator for Entries<'a, K, V> {
    type Item = &'a Entry<K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.open.pop()? {
                Node::Leaf(entries) => self.leaf = entries.iter(),
                Node::Branch(branch) => self.open.extend(&branch.children),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16, u32),
        Remove(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..900u16, any::<u32>()).prop_map(|(k, v)| Step::Insert(k, v)),
            2 => (0..900u16).prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..1500)
    }

    fn play(shards: &mut Shards<u16, u32>, model: &mut HashMap<u16, u32>, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Insert(key, value) => {
                    let before = shards.insert(key, Arc::new(value)).map(|v| *v);
                    assert_eq!(before, model.insert(key, value));
                }
                Step::Remove(key) => {
                    assert_eq!(shards.remove(&key).map(|v| *v), model.remove(&key));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_holds_what_a_hash_map_holds_after_any_steps(first in steps(), second in steps()) {
            let (mut shards, mut model) = (Shards::new(), HashMap::new());
            play(&mut shards, &mut model, &first);
            let (frozen, frozen_model) = (shards.clone(), model.clone());
            play(&mut shards, &mut model, &second);
            for (shards, model) in [(&shards, &model), (&frozen, &frozen_model)] {
                prop_assert_eq!(shards.len(), model.len());
                let all: HashMap<u16, u32> = shards.iter().map(|(k, v)| (*k, **v)).collect();
                prop_assert_eq!(&all, model);
                for key in 0..900 {
                    prop_assert_eq!(shards.get(&key).map(|v| **v), model.get(&key).copied());
                    let mut seek = shards.seek(&key);
                    seek.descend();
                    std::hint::black_box((seek.head(), seek.first()));
                    let found = seek.entry().map(|(found, value)| (*found, **value));
                    prop_assert_eq!(found, model.get(&key).map(|value| (key, *value)));
                }
            }
        }

        #[test]
        fn the_changes_are_exactly_the_keys_whose_value_is_another_one(
            first in steps(), second in steps()
        ) {
            let (mut shards, mut model) = (Shards::new(), HashMap::new());
            play(&mut shards, &mut model, &first);
            let before = shards.clone();
            play(&mut shards, &mut model, &second);
            let mut told = BTreeMap::new();
            shards.changes_since(&before, |(key, old, new)| {
                assert!(told.insert(*key, (old.cloned(), new.cloned())).is_none(), "{key} twice");
            });
            for key in 0..900u16 {
                let (old, new) = (before.get(&key), shards.get(&key));
                let differs = match (old, new) {
                    (Some(a), Some(b)) => !Arc::ptr_eq(a, b),
                    (None, None) => false,
                    _ => true,
                };
                prop_assert_eq!(told.contains_key(&key), differs, "key {}", key);
            }
        }
    }

    #[test]
    fn joined_maps_hold_the_entries_of_both_and_leave_their_versions_alone() {
        for (mine, theirs) in
            [(0..0, 0..5), (0..900, 600..605), (600..605, 0..900), (0..5000, 3000..9000)]
        {
            let of = |range: std::ops::Range<u32>, by: u32| -> Shards<u32, u32> {
                range.map(|n| (n, Arc::new(n * by))).collect()
            };
            let (one, other) = (of(mine.clone(), 10), of(theirs.clone(), 1));
            let (mut joined, before) = (one.clone(), one.clone());
            joined.join(other, &mut |key, here, there| Arc::new(*key + **here - **there));
            let all = mine.clone().chain(theirs.clone());
            let want: BTreeMap<u32, u32> =
                all.map(|n| (n, if mine.contains(&n) { n * 10 } else { n })).collect();
            let got: BTreeMap<u32, u32> =
                joined.iter().map(|(key, value)| (*key, **value)).collect();
            assert_eq!((joined.len(), &got), (want.len(), &want));
            assert!(before.same(&one) && before.len() == mine.len());
        }
    }

    #[test]
    fn one_change_in_a_large_map_touches_one_path_only() {
        let before: Shards<u32, u32> = (0..50_000).map(|n| (n, Arc::new(n))).collect();
        let mut now = before.clone();
        now.insert(777, Arc::new(1));
        let mut told = Vec::new();
        now.changes_since(&before, |(key, _, _)| told.push(*key));
        assert_eq!(told, [777]);
    }

    #[test]
    fn removing_what_is_not_there_keeps_the_version() {
        let before: Shards<u32, u32> = (0..100).map(|n| (n, Arc::new(n))).collect();
        let mut now = before.clone();
        assert!(now.remove(&1000).is_none());
        assert!(now.same(&before));
    }
}

//! Two maps made one.

use std::hash::Hash;
use std::sync::Arc;

use super::changes::find;
use super::{Branch, Entry, Node, Shards};

/// What stands under a key that both have: the key, the value here, the value there.
type Both<'a, K, V> = &'a mut dyn FnMut(&K, &Arc<V>, &Arc<V>) -> Arc<V>;

impl<K: Hash + Eq + Clone, V> Shards<K, V> {
    /// Puts all entries of `other` in; under keys of both stands what `both` returns. Costs what
    /// is in `other`; what the keys of both leave apart is taken over as it is.
    pub fn join(&mut self, other: Self, both: Both<'_, K, V>) {
        let mut twice = 0;
        let len = self.len + other.len;
        self.root.join(other.root, 0, &mut |key, here, there| {
            twice += 1;
            both(key, here, there)
        });
        self.len = len - twice;
    }
}

impl<K: Hash + Eq + Clone, V> Node<K, V> {
    fn join(&mut self, other: Self, depth: u32, both: Both<'_, K, V>) {
        match (&mut *self, other) {
            (_, Self::Leaf(entries)) => {
                for entry in Arc::unwrap_or_clone(entries) {
                    self.join_entry(entry, depth, both);
                }
            }
            (Self::Branch(branch), Self::Branch(other)) => {
                Arc::make_mut(branch).join(Arc::unwrap_or_clone(other), depth, both);
            }
            (Self::Leaf(entries), other) => {
                let entries = std::mem::take(entries);
                *self = other;
                for entry in Arc::unwrap_or_clone(entries) {
                    self.join_entry(entry, depth, &mut |key, there, here| both(key, here, there));
                }
            }
        }
    }

    fn join_entry(&mut self, mut entry: Entry<K, V>, depth: u32, both: Both<'_, K, V>) {
        if let Some(known) = find(Some(&*self), &entry, depth) {
            entry.value = both(&entry.key, known, &entry.value);
        }
        self.insert(entry, depth);
    }
}

impl<K: Hash + Eq + Clone, V> Branch<K, V> {
    fn join(&mut self, other: Self, depth: u32, both: Both<'_, K, V>) {
        let mut slots = other.taken;
        for child in other.children {
            let slot = slots.trailing_zeros();
            slots &= slots - 1;
            let index = self.index(slot);
            if self.has(slot) {
                self.children[index].join(child, depth + 1, both);
            } else {
                self.taken |= 1 << slot;
                self.children.insert(index, child);
            }
        }
    }
}

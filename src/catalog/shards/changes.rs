//! What differs between two versions.

use std::hash::Hash;
use std::sync::Arc;

use super::{Change, Entries, Entry, Node, slot};

/// Walks both versions side by side and stops at every node that they share.
pub(super) fn changes<'a, K: Hash + Eq + Clone, V>(
    before: Option<&'a Node<K, V>>,
    now: Option<&'a Node<K, V>>,
    depth: u32,
    found: &mut impl FnMut(Change<'a, K, V>),
) {
    match (before, now) {
        (Some(a), Some(b)) if a.same(b) => {}
        (Some(Node::Branch(a)), Some(Node::Branch(b))) => {
            let mut slots = a.taken | b.taken;
            while slots != 0 {
                let slot = slots.trailing_zeros();
                slots &= slots - 1;
                changes(a.child(slot), b.child(slot), depth + 1, found);
            }
        }
        // A leaf on one side holds at most LEAF_MAX entries (or all of one hash), so that
        // comparing entry by entry stays cheap however deep the other side is.
        (before, now) => {
            for entry in entries_of(before) {
                let other = find(now, entry, depth);
                if !other.is_some_and(|value| Arc::ptr_eq(value, &entry.value)) {
                    found((&entry.key, Some(&entry.value), other));
                }
            }
            for entry in entries_of(now) {
                if find(before, entry, depth).is_none() {
                    found((&entry.key, None, Some(&entry.value)));
                }
            }
        }
    }
}

fn entries_of<K, V>(node: Option<&Node<K, V>>) -> Entries<'_, K, V> {
    Entries { open: node.into_iter().collect(), leaf: [].iter() }
}

pub(super) fn find<'a, K: Eq, V>(
    mut node: Option<&'a Node<K, V>>,
    wanted: &Entry<K, V>,
    mut depth: u32,
) -> Option<&'a Arc<V>> {
    loop {
        match node? {
            Node::Leaf(entries) => {
                return entries
                    .iter()
                    .find(|entry| entry.hash == wanted.hash && entry.key == wanted.key)
                    .map(|entry| &entry.value);
            }
            Node::Branch(branch) => {
                node = branch.child(slot(wanted.hash, depth));
                depth += 1;
            }
        }
    }
}

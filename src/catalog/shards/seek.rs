//! Many look-ups at a time, step by step.

use std::sync::Arc;

use super::{Node, slot};

/// A look-up in steps, each of which waits for memory at one place. Who has many look-ups takes all
/// of them one step on before the next: the processor then waits for all at the same time, instead
/// of for one after the other. What a step returns means nothing; it is there to be read.
#[derive(Debug)]
pub struct Seek<'a, K, V> {
    pub(super) hash: u64,
    pub(super) node: &'a Node<K, V>,
    pub(super) depth: u32,
}

impl<'a, K, V> Seek<'a, K, V> {
    /// Down to the leaf.
    pub fn descend(&mut self) {
        while let Node::Branch(branch) = self.node {
            let Some(next) = branch.child(slot(self.hash, self.depth)) else { return };
            self.node = next;
            self.depth += 1;
        }
    }

    /// Reads the leaf's head.
    #[must_use]
    pub fn head(&self) -> u64 {
        match self.node {
            Node::Leaf(entries) => entries.len() as u64,
            Node::Branch(_) => 0,
        }
    }

    /// Reads the leaf's first entry.
    #[must_use]
    pub fn first(&self) -> u64 {
        match self.node {
            Node::Leaf(entries) => entries.first().map_or(0, |entry| entry.hash),
            Node::Branch(_) => 0,
        }
    }

    /// The entry that has the hash of the key: nearly always the one that is looked for.
    #[must_use]
    pub fn entry(&self) -> Option<(&'a K, &'a Arc<V>)> {
        let Node::Leaf(entries) = self.node else { return None };
        let found = entries.iter().find(|entry| entry.hash == self.hash);
        found.map(|entry| (&entry.key, &entry.value))
    }
}

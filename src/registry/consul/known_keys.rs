//! The parts of what is known of a Consul that are keys and nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::agent::Target;
use super::super::decode::Keys;
use super::super::nodes::NodeList;
use super::super::task::{Asker, Heard};
use super::Known;

impl Known {
    /// Takes an answer about `prefix` in. Keys that it lacks while it may lack what is there stay
    /// until a second read says so too.
    pub(super) fn keys(
        &mut self,
        prefix: &Arc<str>,
        keys: Arc<Keys>,
        asker: Asker,
        heard: &Heard,
        now: Instant,
    ) -> bool {
        let under = |(path, _): &(&Arc<str>, _)| path.starts_with(&**prefix);
        let known = self.view.keys.iter().filter(under);
        let lost: BTreeMap<_, _> = known
            .filter(|(path, _)| !keys.keys.contains_key(*path))
            .map(|(path, key)| (Arc::clone(path), Arc::clone(key)))
            .collect();
        let kept = !lost.is_empty()
            && asker != Asker::Confirm
            && self.doubts.keeps_keys(prefix, heard.doubt.is_some(), now);
        if !kept {
            self.doubts.confirmed_keys(prefix);
            return self.put_keys(prefix, keys);
        }
        let mut all = Keys::clone(&keys);
        all.keys.extend(lost);
        self.put_keys(prefix, all.into())
    }

    pub(super) fn put_keys(&mut self, prefix: &Arc<str>, keys: Arc<Keys>) -> bool {
        let before = self.prefixes.get(prefix).cloned().unwrap_or_default();
        let others = self.view.keys.len().saturating_sub(before.keys.len());
        if others + keys.keys.len() > self.wish.keys_max && keys.keys.len() > before.keys.len() {
            let why = format!(
                "there are more than {} keys; those from before stay; raise `max_keys` of \
                 [registry.{}.consul]",
                self.wish.keys_max, self.wish.registry
            );
            self.fails(Target::Keys(Arc::clone(prefix)), why.into());
            return false;
        }
        let mut gone: Vec<Arc<str>> = before.keys.keys().cloned().collect();
        if !self.prefixes.contains_key(prefix) {
            // What is on disk from before was in no answer yet.
            let stored = self.view.keys.iter().map(|(path, _)| path);
            gone.extend(stored.filter(|path| path.starts_with(&**prefix)).cloned());
        }
        for path in gone.iter().filter(|path| !keys.keys.contains_key(*path)) {
            self.view.keys.remove(path);
        }
        for (path, key) in &keys.keys {
            if self.view.keys.get(path) != Some(key) {
                self.view.keys.insert(Arc::clone(path), Arc::clone(key));
            }
        }
        let changed = *before != *keys;
        self.touched |= changed || !gone.is_empty();
        self.prefixes.insert(Arc::clone(prefix), keys);
        changed
    }

    /// Puts the list of nodes into the view, or takes it out; whether that changed anything. A
    /// list that came after a doubt counts at once: nobody is sent to a node by it.
    pub(super) fn put_nodes(&mut self, list: Option<Arc<NodeList>>) -> bool {
        if self.nodes == list {
            return false;
        }
        let empty = BTreeMap::new();
        let now = list.as_ref().map_or(&empty, |list| &list.nodes);
        let gone: Vec<Arc<str>> = self
            .view
            .nodes
            .iter()
            .map(|(name, _)| name)
            .filter(|n| !now.contains_key(*n))
            .cloned()
            .collect();
        for name in gone {
            self.view.nodes.remove(&name);
        }
        for (name, node) in now {
            if self.view.nodes.get(name) != Some(node) {
                self.view.nodes.insert(Arc::clone(name), Arc::clone(node));
            }
        }
        if let Some(datacenter) = list.as_ref().and_then(|list| list.datacenter.as_ref()) {
            self.view.datacenter.get_or_insert_with(|| Arc::clone(datacenter));
        }
        self.nodes = list;
        self.touched = true;
        true
    }
}

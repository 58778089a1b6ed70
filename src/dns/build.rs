//! Compiling: what changed of each service, summed up by name and applied to the tables of names.
//!
//! Sums first: a service that changed in something that DNS does not show costs no name at all, and
//! a name that many services tell is compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use super::dialect::Records;
use super::node::{Node, Record};
use super::set::Rules;
use super::settings::Settings;
use super::wire::Name;
use super::zone::ZoneTable;
use crate::catalog::Shards;
use crate::catalog::model::Service;

/// Names changed before they are applied, so that compiling a large catalog needs no second one.
const PENDING_MAX: usize = 8192;

/// Changes of records by name: how many more or fewer tell each.
type Pending = HashMap<Name, Vec<(Record, i64)>, foldhash::fast::FixedState>;

/// A table on its way: what stands in it, and what is still to be applied.
pub(super) struct Build<'a> {
    settings: &'a Settings,
    pub(super) nodes: Vec<Shards<Name, Node>>,
    pub(super) reverse: Shards<Name, Node>,
    pub(super) views: Shards<Name, Node>,
    pub(super) problems: Shards<Arc<str>, Vec<Arc<str>>>,
    pending: Vec<Pending>,
    pending_reverse: Pending,
    pending_views: Pending,
    pending_names: usize,
}

impl<'a> Build<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        let zones = settings.zones.len();
        let mut build = Self {
            settings,
            nodes: vec![Shards::new(); zones],
            reverse: Shards::new(),
            views: Shards::new(),
            problems: Shards::new(),
            pending: vec![Pending::default(); zones],
            pending_reverse: Pending::default(),
            pending_views: Pending::default(),
            pending_names: 0,
        };
        for (index, zone) in settings.zones.iter().enumerate() {
            build.note(index, zone.own_records(&settings.listen), 1);
        }
        for (name, record) in &settings.view_records {
            build.pending_views.entry(name.clone()).or_default().push((record.clone(), 1));
        }
        build
    }

    pub(super) fn upon(table: &'a ZoneTable) -> Self {
        Self {
            settings: table.settings(),
            nodes: table.nodes().cloned().collect(),
            reverse: table.reverse.clone(),
            views: table.views.clone(),
            problems: table.problems.clone(),
            pending: vec![Pending::default(); table.settings().zones.len()],
            pending_reverse: Pending::default(),
            pending_views: Pending::default(),
            pending_names: 0,
        }
    }

    pub(super) fn change(
        &mut self,
        name: &Arc<str>,
        old: Option<&Arc<Service>>,
        new: Option<&Arc<Service>>,
    ) {
        let settings = self.settings;
        let mut problems = Vec::new();
        for (index, zone) in settings.zones.iter().enumerate() {
            for (service, by) in [(old, -1), (new, 1)] {
                let Some(service) = service else { continue };
                let mut records = zone.list(service);
                if by > 0 {
                    let told = records.problems.drain(..);
                    problems.extend(
                        told.map(|problem| Arc::from(format!("zone {}: {problem}", zone.apex))),
                    );
                }
                self.note(index, records, by);
            }
        }
        if problems.is_empty() {
            self.problems.remove(&**name);
        } else {
            self.problems.insert(Arc::clone(name), Arc::new(problems));
        }
        // Only between services: within one, counts may be below zero for a moment.
        if self.pending_names > PENDING_MAX {
            self.flush();
        }
    }

    fn note(&mut self, zone: usize, records: Records, by: i64) {
        self.pending_names += records.zone.len() + records.reverse.len() + records.views.len();
        for (pending, told) in [
            (&mut self.pending[zone], records.zone),
            (&mut self.pending_reverse, records.reverse),
            (&mut self.pending_views, records.views),
        ] {
            for (owner, record) in told {
                pending.entry(owner).or_default().push((record, by));
            }
        }
    }

    pub(super) fn flush(&mut self) {
        self.pending_names = 0;
        for (index, zone) in self.settings.zones.iter().enumerate() {
            let rules = zone.dialect.rules;
            for (name, changes) in std::mem::take(&mut self.pending[index]) {
                apply(&mut self.nodes[index], &zone.apex, &name, changes, rules);
            }
        }
        // The names between an address and the root exist too: a resolver may ask for them first.
        let root = Name::root();
        for (tree, pending) in [
            (&mut self.reverse, &mut self.pending_reverse),
            (&mut self.views, &mut self.pending_views),
        ] {
            for (name, changes) in std::mem::take(pending) {
                apply(tree, &root, &name, changes, Rules::default());
            }
        }
    }
}

/// Applies the changes of one name, and counts it in or out with the name above it.
fn apply(
    nodes: &mut Shards<Name, Node>,
    apex: &Name,
    name: &Name,
    mut changes: Vec<(Record, i64)>,
    rules: Rules,
) {
    changes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    changes.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    changes.retain(|(_, by)| *by != 0);
    if changes.is_empty() {
        return;
    }
    let (before, now) = edit(nodes, name, |node| node.change(changes, rules));
    let (mut name, mut before, mut now) = (name.clone(), before, now);
    while before != now && name != *apex {
        let Some(parent) = name.parent() else { return };
        let came = now;
        (before, now) = edit(nodes, &parent, |node| {
            node.children = if came { node.children + 1 } else { node.children.saturating_sub(1) };
        });
        name = parent;
    }
}

/// Changes the node of `name`. Returns whether it existed and whether it does.
fn edit(
    nodes: &mut Shards<Name, Node>,
    name: &Name,
    change: impl FnOnce(&mut Node),
) -> (bool, bool) {
    let known = nodes.get(name.wire());
    let before = known.is_some();
    let mut node = known.map(|node| Node::clone(node)).unwrap_or_default();
    change(&mut node);
    let now = node.exists();
    if now {
        nodes.insert(name.clone(), Arc::new(node));
    } else {
        nodes.remove(name.wire());
    }
    (before, now)
}

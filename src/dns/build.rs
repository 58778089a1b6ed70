//! Compiling: what changed of each service, summed up by name and applied to the tables of names.
//!
//! Sums first: a service that changed in something that DNS does not show costs no name at all, and
//! a name that many services tell is compiled once.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};

use super::dialect::Records;
use super::node::{Node, Record};
use super::set::Rules;
use super::settings::Settings;
use super::wire::Name;
use super::zone::ZoneTable;
use super::zone_settings::ZoneSettings;
use crate::catalog::Shards;
use crate::catalog::model::Service;

/// Names changed before they are applied, so that compiling a large catalog needs no second one.
const PENDING_MAX: usize = 8192;
/// Services whose names are made before they are handed on.
const LISTED_MAX: usize = 64;

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

    /// Tells all of `services`, to a table that has none yet.
    pub(super) fn fill(&mut self, services: &Shards<Arc<str>, Service>) {
        let settings = self.settings;
        let list = |chunk: &[(&Arc<str>, &Arc<Service>)]| -> Vec<Listed> {
            chunk
                .iter()
                .map(|(name, service)| listed(settings, name, None, Some(service)))
                .collect()
        };
        let all: Vec<_> = services.iter().collect();
        // While one thread makes names, this one puts them into the table: a restart waits for it.
        std::thread::scope(|scope| {
            let (listed, told) = mpsc::sync_channel(4);
            let lister = scope.spawn(move || {
                all.chunks(LISTED_MAX).map(list).all(|chunk| listed.send(chunk).is_ok())
            });
            for listed in told.into_iter().flatten() {
                self.take(listed);
            }
            if let Err(panic) = lister.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    pub(super) fn change(
        &mut self,
        name: &Arc<str>,
        old: Option<&Arc<Service>>,
        new: Option<&Arc<Service>>,
    ) {
        self.take(listed(self.settings, name, old, new));
    }

    fn take(&mut self, listed: Listed) {
        let Listed { name, zones } = listed;
        let settings = self.settings;
        let mut problems = Vec::new();
        for (index, (old, mut new)) in zones.into_iter().enumerate() {
            let told = new.iter_mut().flat_map(|records| records.problems.drain(..));
            problems.extend(told.map(|problem| {
                Arc::from(format!("zone {}: {problem}", settings.zones[index].apex))
            }));
            for (records, by) in [(old, -1), (new, 1)] {
                if let Some(records) = records {
                    self.note(index, records, by);
                }
            }
        }
        if problems.is_empty() {
            self.problems.remove(&*name);
        } else {
            self.problems.insert(name, Arc::new(problems));
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
        let large = self.pending_names > PENDING_MAX;
        self.pending_names = 0;
        let mut trees = Vec::new();
        for (index, zone) in self.settings.zones.iter().enumerate() {
            let pending = std::mem::take(&mut self.pending[index]);
            trees.push((index, pending, &zone.apex, zone.dialect.rules));
        }
        // The names between an address and the root exist too: a resolver may ask for them first.
        let root = Name::root();
        let mut work: Vec<(&mut Shards<Name, Node>, Pending, &Name, Rules)> = Vec::new();
        for (nodes, (_, pending, apex, rules)) in self.nodes.iter_mut().zip(trees) {
            work.push((nodes, pending, apex, rules));
        }
        let reverse = std::mem::take(&mut self.pending_reverse);
        work.push((&mut self.reverse, reverse, &root, Rules::default()));
        let views = std::mem::take(&mut self.pending_views);
        work.push((&mut self.views, views, &root, Rules::default()));
        work.retain(|(_, pending, ..)| !pending.is_empty());
        if !large {
            for (nodes, pending, apex, rules) in work {
                apply(nodes, pending, apex, rules);
            }
            return;
        }
        // The largest is done here, the others beside it.
        work.sort_unstable_by_key(|(_, pending, ..)| pending.len());
        let largest = work.pop();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (nodes, pending, apex, rules) in work {
                    apply(nodes, pending, apex, rules);
                }
            });
            if let Some((nodes, pending, apex, rules)) = largest {
                apply(nodes, pending, apex, rules);
            }
        });
    }
}

/// What one service told and tells now, by zone.
struct Listed {
    name: Arc<str>,
    zones: Vec<(Option<Records>, Option<Records>)>,
}

fn listed(
    settings: &Settings,
    name: &Arc<str>,
    old: Option<&Arc<Service>>,
    new: Option<&Arc<Service>>,
) -> Listed {
    let of = |zone: &ZoneSettings| {
        (old.map(|service| zone.list(service)), new.map(|service| zone.list(service)))
    };
    Listed { name: Arc::clone(name), zones: settings.zones.iter().map(of).collect() }
}

/// Applies the changes of names, and counts them in or out with the names above them.
fn apply(nodes: &mut Shards<Name, Node>, pending: Pending, apex: &Name, rules: Rules) {
    // How many more or fewer names stand below each, by the number of its labels: once for all of
    // them, from the bottom up, for what goes or comes there counts further up.
    let mut above: Vec<HashMap<Name, i64, foldhash::fast::FixedState>> = Vec::new();
    let count = |above: &mut Vec<HashMap<_, _, _>>, name: &Name, (before, now): (bool, bool)| {
        if before == now || name == apex {
            return;
        }
        let Some(parent) = name.parent() else { return };
        let labels = parent.labels();
        if above.len() <= labels {
            above.resize_with(labels + 1, HashMap::default);
        }
        *above[labels].entry(parent).or_default() += if now { 1 } else { -1 };
    };
    for (name, mut changes) in pending {
        changes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        changes.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        changes.retain(|(_, by)| *by != 0);
        if !changes.is_empty() {
            let existed = edit(nodes, &name, |node| node.change(changes, rules));
            count(&mut above, &name, existed);
        }
    }
    while let Some(level) = above.pop() {
        for (name, by) in level {
            let existed = edit(nodes, &name, |node| {
                node.children = node.children.saturating_add_signed(by as i32);
            });
            count(&mut above, &name, existed);
        }
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

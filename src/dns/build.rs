//! Compiling: what changed of each service, summed up by name and applied to the tables of names.
//!
//! Sums first: a service that changed in something that DNS does not show costs no name at all, and
//! a name that many services tell is compiled once. A table that has nothing yet is made by several
//! threads, each of which compiles some of the services; then the parts are joined. A restart waits
//! for that.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::counted::Counted;
use super::dialect::{Alike, Records};
use super::node::{Node, Record};
use super::set::Rules;
use super::settings::Settings;
use super::trees::{Trees, edit};
use super::wire::Name;
use super::zone::ZoneTable;
use crate::catalog::Shards;
use crate::catalog::model::Service;

/// Records and names that wait before they are applied, so that compiling a large catalog needs
/// no second one.
const PENDING_MAX: usize = 16_384;
/// Instances for which one more thread is worth while.
const SHARE: usize = 500;
/// Most threads that make a table.
const WORKERS_MAX: usize = 4;

/// A table on its way: what stands in it, and what is still to be applied.
pub(super) struct Build<'a> {
    settings: &'a Settings,
    pub(super) trees: Trees,
    pending: Vec<Pending>,
    pending_reverse: Pending,
    pending_views: Pending,
    waiting: usize,
}

/// Changes by name.
type Pending = HashMap<Name, Changes, foldhash::fast::FixedState>;

/// Changes of one name: how many more or fewer tell what.
#[derive(Default)]
struct Changes {
    single: Vec<(Record, i64)>,
    alike: Vec<(Rc<Told>, i64)>,
}

/// Records that one service tells, alike under some names.
struct Told {
    records: Counted,
    /// What they are where nobody else tells anything, compiled when the first name needs it.
    node: OnceCell<Node>,
}

impl<'a> Build<'a> {
    /// A table without services.
    pub(super) fn new(settings: &'a Settings) -> Self {
        let mut build = Self::onto(settings, Trees::new(settings.zones.len()));
        for (index, zone) in settings.zones.iter().enumerate() {
            build.note(index, zone.own_records(&settings.listen), 1);
        }
        for (name, record) in &settings.view_records {
            single(&mut build.pending_views, name.clone(), record.clone(), 1);
        }
        build
    }

    /// What stands in `table`, to be changed.
    pub(super) fn upon(table: &'a ZoneTable) -> Self {
        let trees = Trees {
            nodes: table.nodes().cloned().collect(),
            reverse: table.reverse.clone(),
            views: table.views.clone(),
            problems: table.problems.clone(),
        };
        Self::onto(table.settings(), trees)
    }

    fn onto(settings: &'a Settings, trees: Trees) -> Self {
        let pending = settings.zones.iter().map(|_| Pending::default()).collect();
        let (pending_reverse, pending_views) = (Pending::default(), Pending::default());
        Self { settings, trees, pending, pending_reverse, pending_views, waiting: 0 }
    }

    /// Tells all of `services`, to a table that has none yet.
    pub(super) fn fill(&mut self, services: &Shards<Arc<str>, Service>) {
        let instances: usize = services.values().map(|service| service.instances.len()).sum();
        let threads = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let wanted = (instances / SHARE).min(WORKERS_MAX);
        self.fill_by(services, if wanted > 1 { wanted.min(threads()) } else { 1 });
    }

    fn fill_by(&mut self, services: &Shards<Arc<str>, Service>, workers: usize) {
        let all: Vec<_> = services.iter().collect();
        let settings = self.settings;
        let next = AtomicUsize::new(0);
        let work = |build: &mut Self| {
            while let Some((name, service)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                build.change(name, None, Some(service));
            }
            build.flush();
        };
        thread::scope(|scope| {
            let part = || {
                let mut build = Self::onto(settings, Trees::new(settings.zones.len()));
                work(&mut build);
                build.trees
            };
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(part)).collect();
            work(self);
            for other in others {
                match other.join() {
                    Ok(trees) => self.trees.join(trees, settings),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }

    /// The service called `name` was `old` and is `new`.
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
                let told = records.problems.drain(..).filter(|_| by > 0);
                problems.extend(told.map(|why| Arc::from(format!("zone {}: {why}", zone.apex))));
                self.note(index, records, by);
            }
        }
        if problems.is_empty() {
            self.trees.problems.remove(&**name);
        } else {
            self.trees.problems.insert(Arc::clone(name), Arc::new(problems));
        }
        // Only between services: within one, counts may be below zero for a moment.
        if self.waiting > PENDING_MAX {
            self.flush();
        }
    }

    fn note(&mut self, zone: usize, records: Records, by: i64) {
        for Alike { owners, records } in records.alike {
            self.waiting += owners.len() + records.len();
            let told = Rc::new(Told { records: Counted::of(records), node: OnceCell::new() });
            for owner in owners {
                let changes = self.pending[zone].entry(owner).or_default();
                changes.alike.push((Rc::clone(&told), by));
            }
        }
        self.waiting += records.zone.len() + records.reverse.len() + records.views.len();
        for (pending, told) in [
            (&mut self.pending[zone], records.zone),
            (&mut self.pending_reverse, records.reverse),
            (&mut self.pending_views, records.views),
        ] {
            for (owner, record) in told {
                single(pending, owner, record, by);
            }
        }
    }

    /// Applies what waits.
    pub(super) fn flush(&mut self) {
        self.waiting = 0;
        let zones = self.trees.nodes.iter_mut().zip(&mut self.pending);
        for ((nodes, pending), zone) in zones.zip(&self.settings.zones) {
            apply(nodes, std::mem::take(pending), &zone.apex, zone.dialect.rules);
        }
        // The names between an address and the root exist too: a resolver may ask for them first.
        let root = Name::root();
        for (nodes, pending) in [
            (&mut self.trees.reverse, &mut self.pending_reverse),
            (&mut self.trees.views, &mut self.pending_views),
        ] {
            apply(nodes, std::mem::take(pending), &root, Rules::default());
        }
    }
}

fn single(pending: &mut Pending, owner: Name, record: Record, by: i64) {
    pending.entry(owner).or_default().single.push((record, by));
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
    for (name, changes) in pending {
        let existed = edit(nodes, &name, |node| changes.apply(node, rules));
        count(&mut above, &name, existed);
    }
    while let Some(level) = above.pop() {
        for (name, by) in level {
            let existed = edit(nodes, &name, |node| {
                node.children = node.children.saturating_add_signed(by as i32);
                true
            });
            count(&mut above, &name, existed);
        }
    }
}

impl Changes {
    /// Changes `node`. Returns whether that made a difference.
    fn apply(self, node: &mut Node, rules: Rules) -> bool {
        if let [(before, -1), (now, 1)] = &self.alike[..]
            && self.single.is_empty()
            && before.records == now.records
        {
            return false;
        }
        if let Some(whole) = self.whole(node, rules) {
            *node = whole;
            return true;
        }
        let single = self.single.iter().map(|(record, by)| (record, *by));
        let alike = self.alike.iter().flat_map(|(told, by)| {
            told.records.iter().map(move |(record, count)| (record, i64::from(count) * by))
        });
        let mut all: Vec<(&Record, i64)> = single.chain(alike).collect();
        // Those that are alike are sorted already: a stable sort finds such stretches.
        all.sort_by(|a, b| a.0.cmp(b.0));
        all.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        all.retain(|(_, by)| *by != 0);
        node.change(all.into_iter().map(|(record, by)| (record.clone(), by)), rules)
    }

    /// What `node` becomes, where one service alone tells what stands there, before and now.
    fn whole(&self, node: &Node, rules: Rules) -> Option<Node> {
        let now = match &self.alike[..] {
            _ if !self.single.is_empty() => return None,
            [(now, 1)] if node.is_bare() => now,
            [(before, -1), (now, 1)] if node.holds(&before.records) => now,
            _ => return None,
        };
        let whole = now.node.get_or_init(|| Node::of(now.records.clone(), rules));
        Some(whole.clone().with_children(node.children))
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::testing::{service, settings};
    use super::*;

    #[test]
    fn several_threads_make_the_table_that_one_makes() {
        let settings = settings(
            "listen = [\"10.9.9.9:53\"]\n[zone.consul]\ndialect = \"consul\"\n[zone.svc]\n\
             [zone.sky]\ndialect = \"skydns\"\n[zone.\"discover.internal\"]\ndialect = \"rancher\"",
        );
        let instances = ["a 10.0.0.1 80 v1 n1", "b 10.0.0.2 80 v1,v2 n1", "c fd00::1 80 tcp n2"];
        let services: Shards<Arc<str>, Service> = (0..40)
            .map(|n| service(&format!("s{n}"), &instances[..=n % 3]))
            .map(|service| (Arc::clone(&service.name), Arc::new(service)))
            .collect();
        let table = |workers: usize| {
            let mut build = Build::new(&settings);
            build.fill_by(&services, workers);
            let trees =
                build.trees.nodes.into_iter().chain([build.trees.reverse, build.trees.views]);
            let of = |tree: Shards<Name, Node>| {
                let mut all: Vec<String> =
                    tree.iter().map(|(name, node)| format!("{name} {node:?}")).collect();
                assert_eq!(all.len(), tree.len());
                all.sort();
                all
            };
            trees.map(of).collect::<Vec<_>>()
        };
        let one = table(1);
        for workers in [2, 3, 50] {
            for (one, several) in one.iter().zip(table(workers)) {
                assert_eq!(one, &several, "{workers} threads");
            }
        }
    }
}

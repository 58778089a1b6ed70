//! The tables of names of one version, and how parts of one are joined.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::Node;
use super::set::Rules;
use super::settings::Settings;
use super::wire::Name;
use crate::catalog::Shards;

/// What stands in a table. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Trees {
    /// The names of each zone.
    pub(super) nodes: Vec<Shards<Name, Node>>,
    /// The names of addresses.
    pub(super) reverse: Shards<Name, Node>,
    /// What clients see besides; each view below a label of its own in the place of the root.
    pub(super) views: Shards<Name, Node>,
    /// What could not be put into a zone, by service.
    pub(super) problems: Shards<Arc<str>, Vec<Arc<str>>>,
}

impl Trees {
    /// Nothing, for so many zones.
    pub(super) fn new(zones: usize) -> Self {
        Self {
            nodes: (0..zones).map(|_| Shards::new()).collect(),
            reverse: Shards::new(),
            views: Shards::new(),
            problems: Shards::new(),
        }
    }

    /// Puts in what `other` has, which comes from other services.
    pub(super) fn join(&mut self, other: Self, settings: &Settings) {
        for ((nodes, more), zone) in self.nodes.iter_mut().zip(other.nodes).zip(&settings.zones) {
            join(nodes, more, &zone.apex, zone.dialect.rules);
        }
        let root = Name::root();
        join(&mut self.reverse, other.reverse, &root, Rules::default());
        join(&mut self.views, other.views, &root, Rules::default());
        self.problems.join(other.problems, &mut |_, mine, _| Arc::clone(mine));
    }
}

/// Joins the names of two parts. A name that is in both was counted twice with the one above it.
fn join(nodes: &mut Shards<Name, Node>, more: Shards<Name, Node>, apex: &Name, rules: Rules) {
    let mut twice: HashMap<Name, u32, foldhash::fast::FixedState> = HashMap::default();
    nodes.join(more, &mut |name, mine, other| {
        if let Some(parent) = name.parent().filter(|_| name != apex) {
            *twice.entry(parent).or_default() += 1;
        }
        Arc::new(mine.joined(other, rules))
    });
    for (name, by) in twice {
        edit(nodes, &name, |node| {
            node.children = node.children.saturating_sub(by);
            true
        });
    }
}

/// Changes the node of `name` by `change`, which says whether it made a difference. Returns whether
/// it existed and whether it does.
pub(super) fn edit(
    nodes: &mut Shards<Name, Node>,
    name: &Name,
    change: impl FnOnce(&mut Node) -> bool,
) -> (bool, bool) {
    let known = nodes.get(name.wire());
    let before = known.is_some();
    let mut node = known.map(|node| Node::clone(node)).unwrap_or_default();
    if !change(&mut node) {
        return (before, before);
    }
    let now = node.exists();
    if now {
        nodes.insert(name.clone(), Arc::new(node));
    } else {
        nodes.remove(name.wire());
    }
    (before, now)
}

//! What is known of a Consul: answers go in, a view comes out. Pure.
//!
//! A failure changes nothing that was said, and is told as a problem of what could not be read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::agent::Target;
use super::decode::{Keys, Names, Wish};
use super::doubt::Doubts;
use super::nodes::NodeList;
use super::task::{Asker, Event, Heard, Said};
use crate::catalog::{Interest, RegistryView, SourceService, Wanted};

pub(super) struct Known {
    pub(super) wish: Wish,
    pub(super) interest: Interest,
    pub(super) view: RegistryView,
    pub(super) names: Option<Arc<Names>>,
    pub(super) prefixes: BTreeMap<Arc<str>, Arc<Keys>>,
    pub(super) nodes: Option<Arc<NodeList>>,
    pub(super) doubts: Doubts,
    /// Services that were read, in this life or the one before.
    pub(super) read: BTreeSet<Arc<str>>,
    /// All that there are were read once.
    pub(super) complete: bool,
    /// What was answered last, and what was not, with the reason.
    pub(super) fine: HashSet<Target>,
    pub(super) failing: BTreeMap<Target, Arc<str>>,
    /// Index of the answer that counts, by what was asked for.
    applied: HashMap<Target, u64>,
    instances: usize,
    /// Something that the view tells changed.
    touched: bool,
    /// Services that are gone: a watch of theirs knows an index of what is forgotten here.
    dropped: Vec<Arc<str>>,
}

impl Known {
    /// Begins with what was said last, if anything was.
    pub(super) fn new(wish: Wish, interest: Interest, last: RegistryView, hold: Duration) -> Self {
        let restored = !last.services.is_empty();
        let mut known = Self {
            wish,
            interest: Interest::default(),
            complete: restored && *last.known == Wanted::All,
            read: last.services.iter().map(|(name, _)| Arc::clone(name)).collect(),
            instances: last.services.values().map(|service| service.instances.len()).sum(),
            view: last,
            names: None,
            prefixes: BTreeMap::new(),
            nodes: None,
            doubts: Doubts::new(hold),
            fine: HashSet::new(),
            failing: BTreeMap::new(),
            applied: HashMap::new(),
            touched: true,
            dropped: Vec::new(),
        };
        let complete = known.complete;
        known.wants(interest);
        known.complete = complete && known.interest.services == Wanted::All;
        known
    }

    /// Only what `interest` wants is kept from now on.
    pub(super) fn wants(&mut self, interest: Interest) {
        if interest.services != Wanted::All || self.interest.services != Wanted::All {
            self.complete = false;
        }
        self.interest = interest;
        let all: Vec<_> = self.view.services.iter().map(|(name, _)| Arc::clone(name)).collect();
        for name in all {
            if !self.interest.wants(&name) {
                self.doubts.forget(&name);
                self.read.remove(&name);
                self.put(&name, None);
            }
        }
        if let Some(names) = self.names.clone() {
            self.list(&names, None, Instant::now());
        }
        let prefixes = self.prefixes();
        let gone: Vec<_> =
            self.prefixes.keys().filter(|prefix| !prefixes.contains(*prefix)).cloned().collect();
        for prefix in gone {
            self.put_keys(&prefix, Arc::default());
            self.prefixes.remove(&prefix);
            self.doubts.confirmed_keys(&prefix);
        }
        if !self.wants_nodes() {
            self.put_nodes(None);
        }
    }

    /// The services to follow.
    pub(super) fn services(&self) -> BTreeSet<Arc<str>> {
        match &self.interest.services {
            Wanted::Names(names) => names.clone(),
            Wanted::All => {
                let listed = self.names.iter().flat_map(|names| names.tags.keys());
                listed.chain(self.doubts.names()).cloned().collect()
            }
        }
    }

    /// Whether the list of all services is to be followed.
    pub(super) fn listing(&self) -> bool {
        self.interest.names || self.interest.services == Wanted::All
    }

    /// Whether the list of nodes is to be followed.
    pub(super) const fn wants_nodes(&self) -> bool {
        self.interest.nodes
    }

    /// The prefixes to follow: none lies within another.
    pub(super) fn prefixes(&self) -> BTreeSet<Arc<str>> {
        let mut kept: BTreeSet<Arc<str>> = BTreeSet::new();
        for prefix in &self.interest.keys {
            // In order, so that a shorter one comes first.
            if !kept.iter().any(|wider| prefix.starts_with(&**wider)) {
                kept.insert(Arc::clone(prefix));
            }
        }
        kept
    }

    /// What was said last of `target`, for a task to compare with.
    pub(super) fn last(&self, target: &Target) -> Option<Said> {
        match target {
            Target::Names => self.names.clone().map(Said::Names),
            Target::Service(name) => self
                .view
                .services
                .get(name)
                .filter(|service| service.suspect.is_none())
                .map(|service| Said::Members(Some(Arc::clone(service)))),
            Target::Keys(prefix) => self.prefixes.get(prefix).cloned().map(Said::Keys),
            Target::Nodes => self.nodes.clone().map(Said::Nodes),
        }
    }

    /// The agent was lost and is back: everything is suspect until it was read again.
    pub(super) fn reconnected(&mut self, why: &str, now: Instant) {
        self.fine.clear();
        self.failing.clear();
        self.applied.clear();
        if self.view.services.is_empty() && self.view.keys.is_empty() {
            return;
        }
        let services = self.view.services.iter().map(|(name, _)| Target::Service(name.clone()));
        let list = self.listing().then_some(Target::Names);
        let keys = self.prefixes().into_iter().map(Target::Keys);
        self.doubts.open(why, Some(services.chain(list).chain(keys).collect()), now);
    }

    /// `target` is not followed any more.
    pub(super) fn forget(&mut self, target: &Target) {
        self.fine.remove(target);
        self.failing.remove(target);
        self.applied.remove(target);
    }

    /// Takes an answer in, or a failure. Returns whether it changed what is known of its target.
    pub(super) fn heard(&mut self, event: Event, now: Instant) -> bool {
        let Event { target, asker, result } = event;
        if !self.follows(&target) {
            return false;
        }
        let heard = match result {
            Ok(heard) => heard,
            Err(failure) => {
                if asker == Asker::Confirm {
                    self.doubts.unread(&target, now);
                } else {
                    self.fine.remove(&target);
                    self.fails(target, failure.why);
                }
                return false;
            }
        };
        let index = heard.told.index.unwrap_or(0).max(1);
        let older = self.applied.get(&target).is_some_and(|applied| index < *applied);
        if asker != Asker::Watch && older {
            // Overtaken by an answer to the watch.
            self.doubts.unread(&target, now);
            return false;
        }
        if heard.told.known_leader == Some(false) && self.doubts.everything().is_none() {
            self.doubts.open("the server that answers knows no leader", None, now);
        }
        self.fine.insert(target.clone());
        self.touched |= self.failing.remove(&target).is_some();
        self.doubts.read(&target, now);
        let changed = match (&target, heard.said.clone()) {
            (Target::Names, Said::Names(names)) => self.listed(&names, asker, &heard, now),
            (Target::Service(name), Said::Members(members)) => {
                self.members(name, members, asker, &heard, now)
            }
            (Target::Keys(prefix), Said::Keys(keys)) => self.keys(prefix, keys, asker, &heard, now),
            (Target::Nodes, Said::Nodes(nodes)) => self.put_nodes(Some(nodes)),
            _ => false,
        };
        self.applied.insert(target, index);
        changed
    }

    /// Whether answers about `target` are wanted (still).
    fn follows(&self, target: &Target) -> bool {
        match (target, &self.interest.services) {
            (Target::Names, _) => self.listing(),
            (Target::Nodes, _) => self.wants_nodes(),
            (Target::Service(name), Wanted::Names(names)) => names.contains(name),
            (Target::Service(name), Wanted::All) => {
                let listed = self.names.as_ref().is_some_and(|n| n.tags.contains_key(name));
                listed || self.doubts.get(name).is_some()
            }
            (Target::Keys(prefix), _) => self.prefixes().contains(prefix),
        }
    }

    fn fails(&mut self, target: Target, why: Arc<str>) {
        self.touched |= self.failing.get(&target) != Some(&why);
        self.failing.insert(target, why);
    }

    /// Whether anything that the view tells changed since this was asked last.
    pub(super) const fn take_touched(&mut self) -> bool {
        std::mem::replace(&mut self.touched, false)
    }

    /// The services that the list has lost: if they come back, they are read from the start.
    pub(super) fn take_dropped(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.dropped)
    }

    fn listed(&mut self, names: &Arc<Names>, asker: Asker, heard: &Heard, now: Instant) -> bool {
        if asker == Asker::Confirm {
            if heard.told.filtered && !self.doubts.filtered() {
                self.doubts.unread(&Target::Names, now);
                return false;
            }
            for name in self.doubts.confirmed_list(|name| names.tags.contains_key(name), now) {
                self.gone(&name);
            }
        }
        let changed = self.names.as_ref() != Some(names);
        self.touched |= changed;
        self.names = Some(Arc::clone(names));
        self.list(names, heard.doubt.map(|doubt| (doubt, heard.told.filtered)), now);
        changed
    }

    /// Brings the view in line with the list.
    fn list(&mut self, names: &Names, doubt: Option<(&str, bool)>, now: Instant) {
        let listed = |name: &str| names.tags.contains_key(name);
        let all = self.interest.services == Wanted::All;
        let vanished: Vec<Arc<str>> = self
            .view
            .services
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !listed(name) && (all || !self.interest.wants(name)))
            .cloned()
            .collect();
        for name in vanished {
            let before = self.view.services.get(&*name).cloned();
            let (why, filtered) = doubt.map_or((None, false), |(why, by)| (Some(why), by));
            match self.doubts.weigh(&name, before.as_ref(), None, (why, filtered, true), now) {
                Some(why) => _ = self.suspect(&name, None, why),
                None => self.gone(&name),
            }
        }
        if !all && self.interest.names {
            for (name, tags) in &names.tags {
                if self.interest.wants(name) {
                    continue;
                }
                let bare = SourceService { tags: Arc::clone(tags), ..empty(name) };
                if self.view.services.get(&**name).is_none_or(|known| **known != bare) {
                    self.put(name, Some(Arc::new(bare)));
                }
            }
        }
    }

    fn gone(&mut self, name: &Arc<str>) {
        self.dropped.push(Arc::clone(name));
        self.doubts.forget(name);
        self.put(name, None);
    }

    fn members(
        &mut self,
        name: &Arc<str>,
        members: Option<Arc<SourceService>>,
        asker: Asker,
        heard: &Heard,
        now: Instant,
    ) -> bool {
        let before = self.view.services.get(name).cloned();
        let had = before.as_ref().map_or(0, |service| service.instances.len());
        let has = members.as_ref().map_or(0, |service| service.instances.len());
        if has > had && self.instances - had + has > self.wish.instances_max {
            let why = format!(
                "with its {has} instances there are more than {}; it keeps those it had; raise \
                 `max_instances` of [registry.{}.consul]",
                self.wish.instances_max, self.wish.registry
            );
            self.fails(Target::Service(Arc::clone(name)), why.into());
            return false;
        }
        let filtered = heard.told.filtered;
        if asker == Asker::Confirm {
            if filtered && self.doubts.get(name).is_some_and(|lost| !lost.filtered) {
                self.doubts.unread(&Target::Service(Arc::clone(name)), now);
                return false;
            }
            self.doubts.confirmed(name);
        }
        self.touched |= self.read.insert(Arc::clone(name));
        let why = if asker == Asker::Confirm {
            None
        } else {
            let doubt = (heard.doubt, filtered, false);
            self.doubts.weigh(name, before.as_ref(), members.as_deref(), doubt, now)
        };
        if self.view.datacenter.is_none() {
            self.view.datacenter = members.iter().find_map(|members| datacenter(members));
        }
        match why {
            Some(why) => self.suspect(name, members, why),
            None => self.put(name, members),
        }
    }

    /// Puts `members` into the view as what may lack something.
    fn suspect(
        &mut self,
        name: &Arc<str>,
        members: Option<Arc<SourceService>>,
        why: Arc<str>,
    ) -> bool {
        let members = members.map_or_else(|| empty(name), Arc::unwrap_or_clone);
        self.put(name, Some(Arc::new(SourceService { suspect: Some(why), ..members })))
    }

    /// Puts `service` into the view; whether that changed anything.
    fn put(&mut self, name: &Arc<str>, service: Option<Arc<SourceService>>) -> bool {
        let services = &mut self.view.services;
        let before = services.get(name);
        let had = before.map_or(0, |service| service.instances.len());
        let has = service.as_ref().map_or(0, |service| service.instances.len());
        if before == service.as_ref() {
            return false;
        }
        self.touched = true;
        match service {
            Some(service) => drop(services.insert(Arc::clone(name), service)),
            None => drop(services.remove(name)),
        }
        self.instances = (self.instances + has).saturating_sub(had);
        true
    }
}

/// The datacenter of the instances that are no peer's.
fn datacenter(members: &SourceService) -> Option<Arc<str>> {
    let own = members.instances.iter().find(|i| !i.meta.contains_key("consul.peer"))?;
    own.meta.get("consul.datacenter").cloned()
}

fn empty(name: &Arc<str>) -> SourceService {
    SourceService {
        name: Arc::clone(name),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: Vec::new(),
        problems: Vec::new(),
        suspect: None,
    }
}

#[path = "known_keys.rs"]
mod keys;

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;

//! The indexes of a roster: who wants which name, who is in a deployment, which hosts have no
//! address, how much there is. Each costs what changed. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::app::{App, Kind};
use super::roster::{Counts, Roster};
use super::service::service_name;
use crate::catalog::Address;

/// Ids of apps by a name that they want.
pub(super) type Wanting = HashMap<Arc<str>, BTreeSet<Arc<str>>>;

impl Roster {
    /// Hosts that are told by name and of which no address is known yet.
    pub(in crate::registry) fn hosts(&self) -> Vec<Arc<str>> {
        let leader = self.leader.iter().map(|leader| &leader.host);
        let leader = leader.filter(|host| {
            host.parse::<IpAddr>().is_err() && !self.builder.hosts.contains_key(*host)
        });
        let all: BTreeSet<&Arc<str>> = self.nameless_hosts.keys().chain(leader).collect();
        all.into_iter().cloned().collect()
    }

    /// All hosts of which an address was looked up, and that somebody still speaks of.
    pub(in crate::registry) fn hosts_all(&self) -> Vec<Arc<str>> {
        let leads = |host: &Arc<str>| self.leader.as_ref().is_some_and(|own| own.host == *host);
        let known = self.builder.hosts.keys();
        let mut all: Vec<_> =
            known.filter(|host| self.by_host.contains_key(*host) || leads(host)).cloned().collect();
        all.sort();
        all
    }

    /// The address of a host that is told by name; none: it was not found, and an address that was
    /// known counts on. Whether anything changed.
    pub(in crate::registry) fn resolved(&mut self, host: &str, ip: Option<IpAddr>) -> bool {
        let Some(ip) = ip.filter(|ip| self.builder.hosts.get(host) != Some(ip)) else {
            return false;
        };
        let old = Arc::make_mut(&mut self.builder.hosts).insert(host.into(), ip).map(Address::Ip);
        self.builder.nodes.clear();
        let address = Address::Ip(ip);
        let on_it = self.by_host.get(host).into_iter().flatten().cloned();
        let on_it: Vec<Arc<str>> = on_it.collect();
        let changed = self.change_each(&on_it, |app| app.resolved(host, old.as_ref(), &address));
        self.refresh_leader() || changed
    }

    /// Puts an app in the place of what was known of it, or takes it out, and adds the names of all
    /// services that this may change to `touched`.
    pub(super) fn put(
        &mut self,
        id: &Arc<str>,
        app: Option<&Arc<App>>,
        touched: &mut BTreeSet<Arc<str>>,
    ) {
        let before = match app {
            Some(app) => self.apps.insert(Arc::clone(id), Arc::clone(app)),
            None => self.apps.remove(&**id),
        };
        let same_names = match (&before, app) {
            (Some(a), Some(b)) => a.name == b.name && group_name(a) == group_name(b),
            _ => false,
        };
        for (app, is_now) in before.iter().map(|a| (a, false)).chain(app.map(|a| (a, true))) {
            let group = group_name(app);
            if !same_names {
                want(&mut self.by_name, &app.name, id, is_now);
                if let Some(group) = &group {
                    want(&mut self.groups, group, id, is_now);
                }
            }
            self.count(app, is_now);
            touched.insert(Arc::clone(&app.name));
            touched.extend(group);
        }
        let now: BTreeSet<&Arc<str>> = app.into_iter().flat_map(|app| hosts_of(app)).collect();
        for host in before.iter().flat_map(|app| hosts_of(app)).filter(|host| !now.contains(host)) {
            want(&mut self.by_host, host, id, false);
        }
        for host in now {
            want(&mut self.by_host, host, id, true);
        }
    }

    fn count(&mut self, app: &App, is_now: bool) {
        let Counts { apps, pods, tasks, ignored_fields, .. } = &mut self.counts;
        let kind = if app.kind == Kind::App { apps } else { pods };
        let both =
            [(kind, 1), (tasks, app.instances.len()), (ignored_fields, app.ignored as usize)];
        for (count, by) in both {
            *count = if is_now { *count + by } else { count.saturating_sub(by) };
        }
        if is_now && app.deploying {
            self.deploying.insert(Arc::clone(&app.id));
        } else {
            self.deploying.remove(&app.id);
        }
        for node in app.instances.iter().filter_map(|instance| instance.node.as_ref()) {
            if !matches!(node.address, Some(Address::Name(_))) {
                continue;
            }
            let count = self.nameless_hosts.entry(Arc::clone(&node.name)).or_default();
            *count = if is_now { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.nameless_hosts.remove(&node.name);
            }
        }
    }
}

/// The hosts of the app's instances that are told by name.
fn hosts_of(app: &App) -> impl Iterator<Item = &Arc<str>> {
    let nodes = app.instances.iter().filter_map(|instance| instance.node.as_ref());
    nodes.map(|node| &node.name).filter(|name| name.parse::<IpAddr>().is_err())
}

/// The name of the service of the app's pair.
fn group_name(app: &App) -> Option<Arc<str>> {
    app.group.as_ref().and_then(|group| service_name(&group.id).ok())
}

fn want(wanting: &mut Wanting, name: &Arc<str>, id: &Arc<str>, is_now: bool) {
    if is_now {
        wanting.entry(Arc::clone(name)).or_default().insert(Arc::clone(id));
        return;
    }
    if let Some(ids) = wanting.get_mut(name) {
        ids.remove(id);
        if ids.is_empty() {
            wanting.remove(name);
        }
    }
}

//! Endpoints that no table lists any more while something may still run there, and how long it may.
//!
//! An endpoint falls out of the tables when its instance leaves, but also when it merely fails its
//! checks, when another service stands in no longer, or when a reload takes its route away. Only
//! who leaves has a deadline: its instance is gone from a registry that was heard, has another
//! address, or is said to be leaving. What runs elsewhere ends by itself. Pure: tables, snapshots
//! and the time come in, what is to be cut goes out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use super::cut::{self, Cut, Reason};
use super::downed::Down;
use super::route::ServiceRef;
use super::standing::{Standing, chain, standing};
use super::table::ProxyTable;
use super::upstream::{Endpoint, Load};
use crate::catalog::assemble::Settings;
use crate::catalog::operations::Operations;
use crate::catalog::{Instance, Service, Snapshot};

/// How long an endpoint is kept in mind when nothing runs there: somebody may have picked it from a
/// table of a moment ago.
const LINGER: Duration = Duration::from_secs(1);
/// How long what was cut may take to end before it is told how much that was.
pub(super) const TELL_AFTER: Duration = Duration::from_secs(1);

/// What decides who has left, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// What is published.
    pub snapshot: &'a Snapshot,
    /// Who stands in for whom.
    pub settings: &'a Settings,
    /// What operators said.
    pub operations: &'a Operations,
    /// The moment.
    pub now: Instant,
    /// The same by the clock.
    pub wall: SystemTime,
}

/// What is out of the tables.
#[derive(Debug, Default)]
pub struct Departed {
    services: BTreeMap<Arc<str>, Group>,
}

/// The endpoints of one service's upstreams.
#[derive(Debug, Default)]
struct Group {
    /// The service and those that stand in for it, as they were looked at last.
    seen: Vec<Option<Arc<Service>>>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    endpoint: Arc<Endpoint>,
    out_since: Instant,
    standing: Standing,
    left: Option<Left>,
    down: Option<Down>,
}

#[derive(Debug)]
struct Left {
    at: Instant,
    since: SystemTime,
    generation: u64,
    deadline: Instant,
    reason: Reason,
    order: Option<(Instant, Arc<Cut>)>,
    told: bool,
}

/// An endpoint whose instance has left, for the status.
#[derive(Debug, Clone, Serialize)]
pub struct Leaving {
    /// The service whose listeners and routes used it.
    pub service: Arc<str>,
    /// The registry that told of it.
    pub registry: Arc<str>,
    /// Id of the instance.
    pub id: Arc<str>,
    /// Address and port.
    pub address: SocketAddr,
    /// Since when.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub since: SystemTime,
    /// The generation that said so first.
    pub generation: u64,
    /// How long what runs there still has, in seconds.
    pub left_seconds: f64,
    /// What runs there.
    pub in_flight: u32,
}

/// What was cut at one endpoint.
#[derive(Debug)]
pub struct Severed {
    /// The service whose listeners and routes used it.
    pub service: Arc<str>,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Why.
    pub reason: Reason,
    /// Requests, tunnels, connections.
    pub counts: [u32; 3],
    /// How long it had left before.
    pub after: Duration,
}

impl Departed {
    /// Takes note of what `table` lacks of `before`, and of who has left or come back since the
    /// last time. Costs what changed.
    pub fn note(&mut self, before: &ProxyTable, table: &ProxyTable, around: &Around<'_>) {
        table.changes_since(before, |key, was, is| {
            let listed = |upstream: &super::upstream::Upstream| {
                let all = upstream.endpoints.iter().chain(&upstream.staying);
                all.map(|endpoint| Arc::as_ptr(endpoint.load())).collect()
            };
            let listed: HashSet<*const Load> = is.map(listed).unwrap_or_default();
            let service = ServiceRef::parse(key).service;
            if let Some(group) = self.services.get_mut(&service) {
                // Whoever is listed again with the load that it had is no business of ours.
                group.entries.retain(|entry| {
                    let back = listed.contains(&Arc::as_ptr(entry.endpoint.load()));
                    if back {
                        cut::spare(entry.endpoint.load());
                    }
                    !back
                });
            }
            let was = was.into_iter().flat_map(|was| was.endpoints.iter().chain(&was.staying));
            let out = was.filter(|known| !listed.contains(&Arc::as_ptr(known.load())));
            for endpoint in out {
                self.services.entry(Arc::clone(&service)).or_default().entries.push(Entry {
                    endpoint: Arc::clone(endpoint),
                    out_since: around.now,
                    standing: Standing::NotLooked,
                    left: None,
                    down: None,
                });
            }
        });
        for (service, group) in &mut self.services {
            group.look(service, table, around);
        }
    }

    /// Cuts, by `cut`, what has had its time at `now`, forgets where nothing runs any more, and
    /// tells what was cut.
    pub fn pass(
        &mut self,
        now: Instant,
        mut cut: impl FnMut(&Arc<Load>, Reason) -> Arc<Cut>,
    ) -> Vec<Severed> {
        let mut severed = Vec::new();
        for (service, group) in &mut self.services {
            for Entry { endpoint, left, down, .. } in &mut group.entries {
                if let Some(down) = down {
                    severed.extend(down.pass((service, endpoint), now, &mut cut));
                }
                let Some(left) = left else { continue };
                let running = endpoint.in_flight() > 0;
                if running && left.deadline <= now && left.order.is_none() {
                    left.order = Some((now, cut(endpoint.load(), left.reason)));
                }
                let Some((at, order)) = &left.order else { continue };
                if !left.told && (!running || now >= *at + TELL_AFTER) {
                    left.told = true;
                    severed.push(Severed {
                        service: Arc::clone(service),
                        endpoint: Arc::clone(endpoint),
                        reason: left.reason,
                        counts: order.counts(),
                        after: *at - left.at,
                    });
                }
            }
            group.entries.retain(|entry| {
                let told = entry.left.as_ref().is_none_or(|left| left.order.is_none() || left.told);
                let quiet = entry.endpoint.in_flight() == 0 && now >= entry.out_since + LINGER;
                !(quiet && told)
            });
        }
        self.services.retain(|_, group| !group.entries.is_empty());
        severed
    }

    /// Whether nothing is kept in mind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The next deadline that is not over at `now`, as far as there is one.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let left = self.entries().filter_map(|(_, entry)| entry.left.as_ref());
        left.filter(|left| left.deadline > now).map(|left| left.deadline).min()
    }

    /// What runs, out of the tables of these services, at endpoints of an instance, wherever it was.
    #[must_use]
    pub fn in_flight(&self, services: &[Arc<str>], registry: &str, id: &str) -> u32 {
        let groups = services.iter().filter_map(|service| self.services.get(service));
        let own = |entry: &&Entry| {
            let known = &entry.endpoint.instance;
            *known.id == *id && *known.registry == *registry
        };
        let entries = groups.flat_map(|group| group.entries.iter()).filter(own);
        entries.map(|entry| entry.endpoint.in_flight()).sum()
    }

    /// Every endpoint on `node` that is out of the tables, with its service.
    pub fn on_node<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Endpoint>)> {
        let on = move |e: &Endpoint| e.instance.node.as_ref().is_some_and(|n| *n.name == *node);
        let all = self.entries().map(|(service, entry)| (service, &entry.endpoint));
        all.filter(move |(_, endpoint)| on(endpoint))
    }

    /// How many endpoints have a deadline, and what runs there.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        let left = self.entries().filter(|(_, entry)| entry.left.is_some());
        let running = left.map(|(_, entry)| u64::from(entry.endpoint.in_flight()));
        running.fold((0, 0), |(count, sum), running| (count + 1, sum + running))
    }

    /// Every endpoint whose instance has left and where something runs.
    #[must_use]
    pub fn leaving(&self, now: Instant) -> Vec<Leaving> {
        let all = self.entries().filter_map(|(service, Entry { endpoint, left, .. })| {
            let (left, in_flight) = (left.as_ref()?, endpoint.in_flight());
            (in_flight > 0).then(|| Leaving {
                service: Arc::clone(service),
                registry: Arc::clone(&endpoint.instance.registry),
                id: Arc::clone(&endpoint.instance.id),
                address: endpoint.address,
                since: left.since,
                generation: left.generation,
                left_seconds: left.deadline.saturating_duration_since(now).as_secs_f64(),
                in_flight,
            })
        });
        all.collect()
    }

    fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        let groups = self.services.iter();
        groups.flat_map(|(name, group)| group.entries.iter().map(move |entry| (name, entry)))
    }
}

impl Group {
    /// Looks who has left, as far as that may be otherwise than the last time.
    fn look(&mut self, name: &str, table: &ProxyTable, around: &Around<'_>) {
        let now: Vec<_> = chain(name, around.settings)
            .iter()
            .map(|name| around.snapshot.service(name).cloned())
            .collect();
        let same = self.seen.len() == now.len()
            && self.seen.iter().zip(&now).all(|pair| match pair {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            });
        let open = |entry: &Entry| matches!(entry.standing, Standing::NotLooked | Standing::Unsure);
        if same && !self.entries.iter().any(open) {
            return;
        }
        let instances: HashMap<(&str, &str), &Arc<Instance>> = now
            .iter()
            .flatten()
            .rev()
            .flat_map(|service| service.instances.iter())
            .map(|instance| ((&*instance.registry, &*instance.id), instance))
            .collect();
        for entry in self.entries.iter_mut().filter(|entry| !same || open(entry)) {
            let known = Arc::clone(&entry.endpoint.instance);
            let found = instances.get(&(&*known.registry, &*known.id)).copied();
            let standing = standing(&entry.endpoint, found, around.snapshot);
            let closes = table.closes_unhealthy(name);
            entry.stands(standing, closes.then_some(around.now), || {
                let drain = table.settings().drain(name);
                let told = around.operations.deadline(name, &known);
                let left = told.map(|end| end.duration_since(around.wall).unwrap_or_default());
                let (grace, reason) = match left {
                    Some(left) if left < drain => (left, Reason::Deadline),
                    _ => (drain, Reason::Left),
                };
                Left {
                    at: around.now,
                    since: around.wall,
                    generation: around.snapshot.generation,
                    deadline: around.now + grace,
                    reason,
                    order: None,
                    told: false,
                }
            });
        }
        self.seen = now;
    }
}

impl Entry {
    /// Takes note of how it stands; with `down`, one that is down is cut from that moment on.
    fn stands(&mut self, standing: Standing, down: Option<Instant>, leave: impl FnOnce() -> Left) {
        self.standing = standing;
        match (standing, down) {
            (Standing::Left, _) => {
                self.left.get_or_insert_with(leave);
            }
            (Standing::Down, Some(now)) => {
                self.left = None;
                self.down.get_or_insert_with(|| Down::new(now));
            }
            (Standing::Here | Standing::Down, _) => {
                if self.ordered() {
                    cut::spare(self.endpoint.load());
                }
                (self.left, self.down) = (None, None);
            }
            (Standing::NotLooked | Standing::Unsure, _) => {}
        }
    }

    /// Whether anything was ordered to be cut there.
    fn ordered(&self) -> bool {
        let left = self.left.as_ref().is_some_and(|left| left.order.is_some());
        left || self.down.as_ref().is_some_and(Down::ordered)
    }
}

#[cfg(test)]
#[path = "departed_tests.rs"]
mod tests;

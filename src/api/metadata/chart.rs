//! Where everything in a snapshot stands: services and containers in a stable order, and who is at
//! which address. The next chart is made from the one before it and what changed since.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::answers::Answers;
use super::place::{Placed, Sieve, place};
use crate::catalog::model::{Instance, Node as Machine};
use crate::catalog::{Shards, Snapshot};

/// Changed services beyond which the order is made anew instead of mended.
const MENDED: usize = 64;

/// What bears a name, for those who ask by name; made when asked for first.
type Named<T> = OnceLock<HashMap<Arc<str>, T>>;

/// A container: name of its service in the catalog, and which one of that.
type Member = (Arc<str>, u32);

/// A whole snapshot in order. Cheap to make from the one before when little changed.
#[derive(Debug)]
pub(super) struct Chart {
    /// What it is a chart of.
    pub(super) snapshot: Arc<Snapshot>,
    /// What decided about it.
    pub(super) sieve: Arc<Sieve>,
    /// The answers of a file, word for word, if a registry has such.
    pub(super) answers: Option<Arc<Answers>>,
    /// Whether services, containers and hosts of the catalog are told.
    pub(super) live: bool,
    by_name: Shards<Arc<str>, Placed>,
    services: Vec<Arc<Placed>>,
    stacks: Vec<Range<u32>>,
    /// Containers before each service, and all of them at the end.
    starts: Vec<u32>,
    addresses: Shards<IpAddr, Vec<Member>>,
    machines: Shards<Arc<str>, Vec<Member>>,
    hosts: OnceLock<Vec<Arc<Instance>>>,
    /// Services by name, as it is and in lower case.
    named: [Named<u32>; 2],
    /// Containers by name, as it is and in lower case.
    containers: [Named<(u32, u32)>; 2],
}

impl Chart {
    /// The chart of `snapshot`. Costs what changed since `before`, which counts only when it was
    /// made by the same sieve; and one pointer for each service.
    pub(super) fn next(
        before: Option<&Self>,
        snapshot: &Arc<Snapshot>,
        sieve: &Arc<Sieve>,
    ) -> Self {
        let answers = answers(before, snapshot, sieve);
        let files: Vec<&str> = snapshot.documents.iter().map(|(name, _)| &**name).collect();
        // Its answers stand for what such a file says, not the services made of it.
        let sieved = |registry: &str| sieve.shows(registry) && !files.contains(&registry);
        let same_files = |before: &&Self| {
            Arc::ptr_eq(&before.sieve, sieve)
                && before.snapshot.documents.iter().map(|(name, _)| &**name).eq(files.clone())
        };
        let before = before.filter(same_files);
        let nothing = Snapshot::default();
        let mut chart = Self {
            snapshot: Arc::clone(snapshot),
            sieve: Arc::clone(sieve),
            live: files.is_empty() || snapshot.registries.iter().any(|r| sieved(&r.name)),
            answers,
            by_name: before.map(|b| b.by_name.clone()).unwrap_or_default(),
            services: before.map(|b| b.services.clone()).unwrap_or_default(),
            stacks: Vec::new(),
            starts: Vec::new(),
            addresses: before.map(|b| b.addresses.clone()).unwrap_or_default(),
            machines: before.map(|b| b.machines.clone()).unwrap_or_default(),
            hosts: OnceLock::new(),
            named: [OnceLock::new(), OnceLock::new()],
            containers: [OnceLock::new(), OnceLock::new()],
        };
        let mut gone = Vec::new();
        let mut come = Vec::new();
        snapshot.changes_since(before.map_or(&nothing, |b| &b.snapshot), |(name, _, now)| {
            if let Some(placed) = chart.by_name.remove(&**name) {
                chart.index(&placed, false);
                gone.push(placed);
            }
            if let Some(placed) = now.and_then(|now| place(now, sieve, &sieved)) {
                let placed = Arc::new(placed);
                chart.index(&placed, true);
                chart.by_name.insert(Arc::clone(name), Arc::clone(&placed));
                come.push(placed);
            }
        });
        chart.order(&gone, &come);
        chart
    }

    fn order(&mut self, gone: &[Arc<Placed>], come: &[Arc<Placed>]) {
        let services = &mut self.services;
        if gone.len() + come.len() > MENDED {
            *services = self.by_name.values().cloned().collect();
            services.sort_unstable_by(|a, b| a.order.cmp(&b.order));
        } else {
            let find = |services: &[Arc<Placed>], placed: &Placed| {
                services.binary_search_by(|known| known.order.cmp(&placed.order))
            };
            for placed in gone {
                if let Ok(at) = find(services, placed) {
                    services.remove(at);
                }
            }
            for placed in come {
                if let Err(at) = find(services, placed) {
                    services.insert(at, Arc::clone(placed));
                }
            }
        }
        let mut containers = 0;
        for (number, placed) in (0..).zip(&self.services) {
            self.starts.push(containers);
            containers += placed.len() as u32;
            let same = |range: &&mut Range<u32>| {
                let first = self.services.get(range.start as usize);
                first.is_some_and(|first| first.stack_key() == placed.stack_key())
            };
            match self.stacks.last_mut().filter(same) {
                Some(range) => range.end = number + 1,
                None => self.stacks.push(number..number + 1),
            }
        }
        self.starts.push(containers);
    }

    /// Puts the containers of `placed` into the indexes, or takes them out.
    fn index(&mut self, placed: &Placed, come: bool) {
        for (nth, instance) in (0..).zip(placed.containers()) {
            let member = (Arc::clone(&placed.service.name), nth);
            if let Some(ip) = instance.address.ip() {
                enter(&mut self.addresses, ip.to_canonical(), &member, come);
            }
            if let Some(machine) = &instance.node {
                enter(&mut self.machines, Arc::clone(&machine.name), &member, come);
            }
        }
    }

    /// Whether a registry that is shown has never spoken: what is not there may be there.
    pub(super) fn lacks_a_registry(&self) -> bool {
        self.snapshot.registries.iter().any(|r| !r.heard && self.sieve.shows(&r.name))
    }

    /// How many services there are.
    pub(super) const fn services(&self) -> usize {
        self.services.len()
    }

    /// The service `number`.
    pub(super) fn service(&self, number: u32) -> Option<&Arc<Placed>> {
        self.services.get(number as usize)
    }

    /// How many containers there are.
    pub(super) fn containers(&self) -> usize {
        self.starts.last().map_or(0, |all| *all as usize)
    }

    /// The service of container `number`, and which one of that it is.
    pub(super) fn container(&self, number: usize) -> Option<(u32, u32)> {
        let number = u32::try_from(number).ok().filter(|n| (*n as usize) < self.containers())?;
        // Behind the last of those that begin at or before it; services may be empty.
        let service = self.starts.partition_point(|start| *start <= number).checked_sub(1)?;
        Some((service as u32, number - self.starts.get(service)?))
    }

    /// How many stacks there are.
    pub(super) const fn stacks(&self) -> usize {
        self.stacks.len()
    }

    /// The services of a stack.
    pub(super) fn stack(&self, number: u32) -> Option<Range<u32>> {
        self.stacks.get(number as usize).cloned()
    }

    /// The stack of a service.
    pub(super) fn stack_of(&self, service: u32) -> Option<u32> {
        let at = self.stacks.partition_point(|range| range.end <= service);
        (at < self.stacks.len()).then_some(at as u32)
    }

    /// The hosts by name, each as one of its containers tells it. Sorted when asked first.
    fn hosts_by_name(&self) -> &[Arc<Instance>] {
        self.hosts.get_or_init(|| {
            let told = self.machines.iter().filter_map(|(name, members)| {
                let members = members.iter();
                let first = members.min()?;
                Some((name, Arc::clone(self.by_name.get(&*first.0)?.container(first.1)?)))
            });
            let hosts: BTreeMap<_, _> = told.collect();
            hosts.into_values().collect()
        })
    }

    /// How many hosts there are.
    pub(super) fn hosts(&self) -> usize {
        self.hosts_by_name().len()
    }

    /// The host `number`.
    pub(super) fn host(&self, number: u32) -> Option<&Machine> {
        self.hosts_by_name().get(number as usize)?.node.as_ref()
    }

    /// The number of the host called `name`.
    pub(super) fn host_named(&self, name: &str) -> Option<u32> {
        let called =
            |instance: &Arc<Instance>| instance.node.as_ref().map(|node| node.name.clone());
        let found = self
            .hosts_by_name()
            .binary_search_by(|host| called(host).as_deref().unwrap_or_default().cmp(name));
        found.ok().map(|at| at as u32)
    }

    /// The number of the host at `address`.
    pub(super) fn host_at(&self, address: IpAddr) -> Option<u32> {
        let at = |host: &Arc<Instance>| {
            let own = host.node.as_ref().and_then(|node| node.address.as_ref());
            own.and_then(crate::catalog::Address::ip).is_some_and(|ip| ip.to_canonical() == address)
        };
        self.hosts_by_name().iter().position(at).map(|at| at as u32)
    }

    /// The container at `address`: of several, the one of the service that stands first.
    pub(super) fn container_at(&self, address: IpAddr) -> Option<(u32, u32)> {
        let members = self.addresses.get(&address.to_canonical())?.iter();
        members.filter_map(|(name, nth)| Some((self.number(name)?, *nth))).min()
    }

    fn number(&self, service: &str) -> Option<u32> {
        let placed = self.by_name.get(service)?;
        let at = self.services.binary_search_by(|known| known.order.cmp(&placed.order));
        at.ok().map(|at| at as u32)
    }

    /// The first service that is called so by `name`: looked up as containers are.
    pub(super) fn service_named(
        &self,
        wanted: &str,
        lower: bool,
        name: impl Fn(&Placed) -> Arc<str>,
    ) -> Option<u32> {
        let known = self.named[usize::from(lower)].get_or_init(|| {
            let mut known = HashMap::with_capacity(self.services.len());
            for (number, placed) in (0..).zip(&self.services) {
                known.entry(name(placed)).or_insert(number);
            }
            known
        });
        known.get(wanted).copied()
    }

    /// The first container that is called so by `name`: looked up in a list that is made when it is
    /// asked for first, one for names in `lower` case and one for others.
    pub(super) fn container_named(
        &self,
        wanted: &str,
        lower: bool,
        names: impl Fn(&Placed, &Instance) -> [Arc<str>; 2],
    ) -> Option<(u32, u32)> {
        let known = self.containers[usize::from(lower)].get_or_init(|| {
            let mut known = HashMap::with_capacity(self.containers() * 2);
            for (service, placed) in (0..).zip(&self.services) {
                for (nth, instance) in (0..).zip(placed.containers()) {
                    for name in names(placed, instance) {
                        known.entry(name).or_insert((service, nth));
                    }
                }
            }
            known
        });
        known.get(wanted).copied()
    }

    /// The environments that there are, in order.
    pub(super) fn environments(&self) -> Vec<&Arc<str>> {
        let mut all: Vec<&Arc<str>> = Vec::new();
        for range in &self.stacks {
            let Some(placed) = self.service(range.start) else { continue };
            if all.last() != Some(&&placed.environment) {
                all.push(&placed.environment);
            }
        }
        all
    }
}

/// The answers of the first registry that has some, read again only when they changed.
fn answers(before: Option<&Chart>, snapshot: &Snapshot, sieve: &Sieve) -> Option<Arc<Answers>> {
    let shown = |(name, _): &&(Arc<str>, Arc<str>)| sieve.shows(name);
    let (_, text) = snapshot.documents.iter().find(shown)?;
    let known = before.and_then(|before| before.answers.as_ref());
    match known.filter(|known| known.is_of(text)) {
        Some(known) => Some(Arc::clone(known)),
        None => Some(Arc::new(Answers::read(text))),
    }
}

/// Takes `member` into an index under `key`, or out of it.
fn enter<K: Hash + Eq + Clone>(
    index: &mut Shards<K, Vec<Member>>,
    key: K,
    member: &Member,
    come: bool,
) {
    let known = index.get(&key).map(|known| Vec::clone(known)).unwrap_or_default();
    let mut known: Vec<Member> = known.into_iter().filter(|other| other != member).collect();
    if come {
        known.push(member.clone());
    }
    if known.is_empty() {
        index.remove(&key);
    } else {
        index.insert(key, Arc::new(known));
    }
}

#[cfg(test)]
#[path = "chart_tests.rs"]
mod tests;

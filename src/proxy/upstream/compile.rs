//! From a service to its upstream.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::endpoint::{Endpoint, Warming, Watched};
use super::group::{Group, Places, stays_near};
use super::rules::Rules;
use super::tally::Tally;
use super::{Upstream, standing};
use crate::catalog::{Instance, Presence, Service};

impl Upstream {
    /// Compiles the port called `port` (`""`: the unnamed one) of `service` by `rules`. Endpoints that
    /// `previous` has too keep their load, and the turn goes on where it was; who comes to others that
    /// are there starts slowly.
    ///
    /// Instances without that port, or whose address is a name, are left out.
    #[must_use]
    pub fn compile_by(
        rules: &Arc<Rules>,
        service: Option<&Service>,
        port: &str,
        previous: Option<&Self>,
        now_micros: u64,
    ) -> Self {
        #[cfg(test)]
        crate::proxy::work::note(service.map_or(1, |service| 1 + service.instances.len()));
        let mut known = Known::new(previous, rules);
        let queue = previous.and_then(|previous| previous.queue.clone());
        let queue = queue.or_else(|| rules.max.map(|_| Arc::default()));
        let mut compile = |instance: &Arc<Instance>, now: Option<u64>| {
            let address = instance.socket(port)?;
            let endpoint = known.endpoint(rules, instance, address, now);
            if let Some(queue) = &queue {
                endpoint.load.queue.get_or_init(|| Arc::clone(queue));
            }
            Some(endpoint)
        };
        let stays = |instance: &&Arc<Instance>| {
            instance.presence == Presence::Draining && instance.health.serves()
        };
        let eligible = service.iter().flat_map(|service| service.eligible.iter());
        let draining = service.iter().flat_map(|service| service.instances.iter()).filter(stays);
        // Nobody starts slowly where there was nobody: at the start of the process, or after an outage.
        let began = previous.is_some_and(|previous| !previous.endpoints.is_empty());
        let now = began.then_some(now_micros);
        let endpoints: Box<[_]> = eligible.filter_map(|instance| compile(instance, now)).collect();
        let staying = draining.filter_map(|instance| compile(instance, None)).collect();
        let gone = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.gone));
        let departed = known.departed(service, &gone);
        let out = standing::of(&departed, service, port);
        let all = Group::compile(
            &endpoints,
            true,
            rules,
            previous.map(|previous| (&previous.all, &*previous.endpoints, &*previous.rules)),
        );
        let places = places(rules, service, port, &endpoints, previous);
        let rules = Arc::clone(rules);
        Self { endpoints, staying, departed, out, all, places, rules, queue, gone }
    }
}

/// What is near and what is not, when both are there and it matters.
fn places(
    rules: &Rules,
    service: Option<&Service>,
    port: &str,
    endpoints: &[Arc<Endpoint>],
    previous: Option<&Upstream>,
) -> Option<Box<Places>> {
    let (enough, here) = (rules.near?.0, rules.locality.as_deref()?);
    let is_near = |instance: &Instance| instance.locality.as_deref() == Some(here);
    let registered = service?.instances.iter().filter(|instance| {
        instance.presence == Presence::Active
            && is_near(instance)
            && instance.socket(port).is_some()
    });
    let registered = registered.count();
    let (near, far): (Vec<_>, Vec<_>) =
        endpoints.iter().cloned().partition(|endpoint| is_near(&endpoint.instance));
    if near.is_empty() || far.is_empty() {
        return None;
    }
    let stays = stays_near(near.len(), registered.max(near.len()), enough);
    let before = previous.and_then(|previous| Some((previous.places.as_ref()?, previous)));
    let group = |endpoints: &[Arc<Endpoint>], of: fn(&Places) -> &Group| {
        let before =
            before.map(|(places, upstream)| (of(places), &*upstream.endpoints, &*upstream.rules));
        Group::compile(endpoints, false, rules, before)
    };
    let (near, far) = (group(&near, |places| &places.near), group(&far, |places| &places.far));
    Some(Box::new(Places { near, far, stays }))
}

/// The endpoints of the upstream before, and which of them are still used.
struct Known<'a> {
    /// Those that get work, then those that stay, then those that departed.
    before: Vec<&'a Arc<Endpoint>>,
    used: Vec<Cell<bool>>,
    /// How many of them were there for clients.
    serving: usize,
    same_rules: bool,
    /// Where the next one is looked for: order seldom changes.
    next: usize,
    /// By address, once one was not where it was looked for.
    by_address: HashMap<SocketAddr, Vec<usize>>,
}

impl<'a> Known<'a> {
    fn new(previous: Option<&'a Upstream>, rules: &Arc<Rules>) -> Self {
        let before: Vec<_> = previous
            .iter()
            .flat_map(|p| p.endpoints.iter().chain(&p.staying).chain(&p.departed))
            .collect();
        Self {
            used: vec![Cell::new(false); before.len()],
            serving: previous.map_or(0, |p| p.endpoints.len() + p.staying.len()),
            same_rules: previous.is_some_and(|p| Arc::ptr_eq(&p.rules, rules)),
            next: 0,
            by_address: HashMap::new(),
            before,
        }
    }

    fn find(&mut self, instance: &Instance, address: SocketAddr) -> Option<usize> {
        let before = &self.before;
        let is = |at: &usize| {
            before.get(*at).is_some_and(|known| {
                known.address == address
                    && !known.is_cut()
                    && known.instance.id == instance.id
                    && known.instance.registry == instance.registry
            })
        };
        if is(&self.next) {
            return Some(self.next);
        }
        if self.by_address.is_empty() {
            for (at, known) in before.iter().enumerate() {
                self.by_address.entry(known.address).or_default().push(at);
            }
        }
        self.by_address.get(&address)?.iter().copied().find(is)
    }

    /// The endpoint of `instance`, with what it remembers. With `now`, one that was not there for
    /// clients starts slowly.
    fn endpoint(
        &mut self,
        rules: &Rules,
        instance: &Arc<Instance>,
        address: SocketAddr,
        now: Option<u64>,
    ) -> Arc<Endpoint> {
        let found = self.find(instance, address);
        if let Some(at) = found {
            self.next = at + 1;
            self.used[at].set(true);
        }
        let known = found.map(|at| self.before[at]);
        let warming = match (found, now) {
            (Some(at), _) if at < self.serving => self.before[at].warming,
            (_, Some(since_micros)) if rules.slow_start_micros > 0 => {
                Some(Warming { since_micros, length_micros: rules.slow_start_micros })
            }
            _ => None,
        };
        if let Some(known) = known
            && self.same_rules
            && Arc::ptr_eq(&known.instance, instance)
            && known.warming == warming
        {
            return Arc::clone(known);
        }
        Arc::new(Endpoint {
            address,
            weight: instance.weight.value(),
            instance: Arc::clone(instance),
            load: known.map_or_else(Arc::default, |known| Arc::clone(&known.load)),
            watched: rules.watch.map(|statuses| Watched {
                observed: known
                    .and_then(|known| known.observed())
                    .map_or_else(Arc::default, Arc::clone),
                statuses,
            }),
            warming,
            max: rules.max,
            way: Arc::clone(&rules.way),
        })
    }

    /// Those that nobody asked for, as far as they can come back or work runs there. What was cut
    /// counts no more: whoever comes back to that address starts anew. What the others counted, `gone`
    /// counts.
    fn departed(&self, service: Option<&Service>, gone: &Tally) -> Box<[Arc<Endpoint>]> {
        let unused = || self.before.iter().zip(&self.used).filter(|(_, used)| !used.get());
        if unused().next().is_none() {
            return Box::default();
        }
        let instances = service.iter().flat_map(|service| service.instances.iter());
        let listed: HashSet<(&str, &str)> =
            instances.map(|instance| (&*instance.registry, &*instance.id)).collect();
        let kept = unused().filter(|(known, _)| {
            let instance = &known.instance;
            let returns = listed.contains(&(&*instance.registry, &*instance.id));
            let kept = !known.is_cut() && (known.in_flight() > 0 || returns);
            if !kept {
                gone.take_over(known.tally());
            }
            kept
        });
        kept.map(|(known, _)| Arc::clone(known)).collect()
    }
}

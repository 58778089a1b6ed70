//! An upstream: the endpoints of one service's port, and the policy that picks among them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::balance::{Build, PickKey, Policy, Shared};
use crate::catalog::observed::{Failure, FailureStatus, Observed};
use crate::catalog::{Instance, Presence, Service};

/// How fast a latency peak is forgotten: after this long, about a third of it is left.
const DECAY_MICROS: f64 = 10_000_000.0;
/// What an endpoint is taken for before it has answered once.
const UNKNOWN_LATENCY_MICROS: u64 = 1000;

/// A compiled balancing group.
#[derive(Debug)]
pub struct Upstream {
    /// Who gets work, in the order of the service's eligible instances.
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// Those of instances that drain: only clients that are bound to one still go there.
    pub staying: Box<[Arc<Endpoint>]>,
    policy: Box<dyn Policy>,
    shared: Shared,
}

/// Where work goes: an address, its weight, and the load that outlives every snapshot.
#[derive(Debug)]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// Share of the work beside its siblings, 1 to 1000.
    pub weight: u16,
    /// The instance behind it, for logs, metrics and identity.
    pub instance: Arc<Instance>,
    load: Arc<Load>,
    watched: Option<Watched>,
}

/// What outlier detection gets to see of an endpoint.
#[derive(Debug)]
struct Watched {
    observed: Arc<Observed>,
    statuses: FailureStatus,
}

/// What an endpoint remembers. It belongs to the endpoint's identity (registry, service, id,
/// address, port), so that a new snapshot neither forgets who is busy nor who is slow.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Load {
    in_flight: AtomicU32,
    latency_micros: AtomicU64,
    observed_micros: AtomicU64,
}

/// One piece of work at an endpoint; dropping it ends the work.
#[derive(Debug)]
pub struct Work(Arc<Load>);

impl Upstream {
    /// Compiles the port called `port` (`""`: the unnamed one) of `service`. Endpoints that
    /// `previous` has too keep their load, and the turn goes on where it was. With `watch`, what they
    /// show is counted, and it says which answers are failures.
    ///
    /// Instances without that port, or whose address is a name, are left out.
    #[must_use]
    pub fn compile(
        service: Option<&Service>,
        port: &str,
        policy: Build,
        previous: Option<&Self>,
        watch: Option<FailureStatus>,
    ) -> Self {
        let endpoint = |instance: &Arc<Instance>| {
            let address = instance.socket(port)?;
            let known = previous.and_then(|previous| previous.find(instance, address));
            Some(Arc::new(Endpoint {
                address,
                weight: instance.weight.value(),
                instance: Arc::clone(instance),
                load: known.map_or_else(Arc::default, |known| Arc::clone(&known.load)),
                watched: watch.map(|statuses| Watched {
                    observed: known
                        .and_then(|known| known.observed())
                        .map_or_else(Arc::default, Arc::clone),
                    statuses,
                }),
            }))
        };
        let stays = |instance: &&Arc<Instance>| {
            instance.presence == Presence::Draining && instance.health.serves()
        };
        let eligible = service.iter().flat_map(|service| service.eligible.iter());
        let draining = service.iter().flat_map(|service| service.instances.iter()).filter(stays);
        let endpoints: Box<[_]> = eligible.filter_map(endpoint).collect();
        let staying = draining.filter_map(endpoint).collect();
        let shared = previous.map_or_else(Shared::default, |known| Arc::clone(&known.shared));
        let policy = policy(&endpoints, Arc::clone(&shared));
        Self { endpoints, staying, policy, shared }
    }

    /// The endpoint for one more piece of work; `None` when nobody is eligible. Never blocks.
    #[must_use]
    pub fn pick(&self, key: PickKey) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(self.policy.pick(&self.endpoints, key)?)
    }

    /// Another endpoint than those in `tried`, after one of them failed; `None` if all were tried.
    #[must_use]
    pub fn pick_another(&self, key: PickKey, tried: &[SocketAddr]) -> Option<&Arc<Endpoint>> {
        let untried = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.address);
        self.pick(key).filter(untried).or_else(|| self.endpoints.iter().find(untried))
    }

    fn find(&self, instance: &Instance, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().chain(&self.staying).find(|known| {
            known.address == address
                && known.instance.id == instance.id
                && known.instance.registry == instance.registry
        })
    }
}

impl Endpoint {
    /// Counts one piece of work in until the returned value is dropped.
    #[must_use]
    pub fn begin(&self) -> Work {
        self.load.in_flight.fetch_add(1, Relaxed);
        Work(Arc::clone(&self.load))
    }

    /// How much work runs now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Relaxed)
    }

    /// Notes that an answer took `latency_micros`, at `now_micros`: a peak counts at once, what
    /// is below it wears the peak down with time.
    pub fn observe(&self, latency_micros: u64, now_micros: u64) {
        let worn = self.latency(now_micros);
        let next = if latency_micros as f64 >= worn {
            latency_micros as f64
        } else {
            let keep = self.keep(now_micros);
            worn.mul_add(keep, latency_micros as f64 * (1.0 - keep)).max(latency_micros as f64)
        };
        self.load.latency_micros.store(next as u64, Relaxed);
        self.load.observed_micros.store(now_micros, Relaxed);
    }

    /// What is counted of it, when its service is watched.
    #[must_use]
    pub fn observed(&self) -> Option<&Arc<Observed>> {
        self.watched.as_ref().map(|watched| &watched.observed)
    }

    /// An answer with `status` came after `latency_micros`, at `now_micros`. Never blocks.
    pub fn answered(&self, status: u16, latency_micros: u64, now_micros: u64) {
        self.observe(latency_micros, now_micros);
        let Some(Watched { observed, statuses }) = &self.watched else { return };
        observed.took(latency_micros);
        if statuses.fails(status) {
            observed.failed(Failure::Status);
        } else {
            observed.succeeded();
        }
    }

    /// A connection was there after `latency_micros`; what becomes of it is told later.
    pub fn connected(&self, latency_micros: u64) {
        if let Some(watched) = &self.watched {
            watched.observed.took(latency_micros);
        }
    }

    /// A connection was of use.
    pub fn succeeded(&self) {
        if let Some(watched) = &self.watched {
            watched.observed.succeeded();
        }
    }

    /// It failed. Never blocks.
    pub fn failed(&self, failure: Failure) {
        if let Some(watched) = &self.watched {
            watched.observed.failed(failure);
        }
    }

    /// What one more piece of work would cost here, in microseconds per weight.
    #[must_use]
    pub fn cost(&self, now_micros: u64) -> f64 {
        let waiting = f64::from(self.in_flight()) + 1.0;
        self.latency(now_micros) * waiting / f64::from(self.weight.max(1))
    }

    /// Share of the remembered peak that is left at `now_micros`.
    fn keep(&self, now_micros: u64) -> f64 {
        let age = now_micros.saturating_sub(self.load.observed_micros.load(Relaxed));
        (-(age as f64) / DECAY_MICROS).exp()
    }

    fn latency(&self, now_micros: u64) -> f64 {
        match self.load.latency_micros.load(Relaxed) {
            0 => UNKNOWN_LATENCY_MICROS as f64,
            peak => (peak as f64 * self.keep(now_micros)).max(1.0),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::catalog::model::{Address, Port, Weight};
    use crate::proxy::balance::policy;

    pub(crate) fn instance(id: &str, address: &str, port: u16, weight: u16) -> Arc<Instance> {
        Arc::new(Instance {
            ports: Arc::new([Port { name: "".into(), number: port }]),
            weight: Weight::try_from(i64::from(weight)).unwrap(),
            ..Instance::bare("test", id, Address::parse(address).unwrap())
        })
    }

    pub(crate) fn service(name: &str, instances: &[Arc<Instance>]) -> Arc<Service> {
        Arc::new(Service {
            name: name.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: instances.into(),
            eligible: instances.into(),
            problems: Arc::new([]),
        })
    }

    pub(crate) fn endpoints(weights: &[u16]) -> Box<[Arc<Endpoint>]> {
        let instances: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(n, weight)| instance(&n.to_string(), &format!("10.0.0.{n}"), 80, *weight))
            .collect();
        let service = service("web", &instances);
        Upstream::compile(Some(&service), "", policy("p2c").unwrap(), None, None).endpoints
    }

    #[test]
    fn load_and_latency_belong_to_the_identity_and_outlive_a_compile() {
        let build = policy("p2c").unwrap();
        let a = instance("a", "10.0.0.1", 80, 1);
        let b = instance("b", "10.0.0.2", 80, 1);
        let first = Upstream::compile(
            Some(&service("web", &[a.clone(), b.clone()])),
            "",
            build,
            None,
            None,
        );
        let work = first.endpoints[0].begin();
        first.endpoints[1].observe(9000, 1);

        let heavier = instance("a", "10.0.0.1", 80, 5);
        let moved = instance("b", "10.0.0.9", 80, 1);
        let second = Upstream::compile(
            Some(&service("web", &[heavier, moved])),
            "",
            build,
            Some(&first),
            None,
        );
        assert_eq!(second.endpoints[0].in_flight(), 1, "another weight is the same endpoint");
        assert!(
            second.endpoints[1].cost(1) < first.endpoints[1].cost(1),
            "another address is another endpoint"
        );
        drop(work);
        assert_eq!(second.endpoints[0].in_flight(), 0);
    }

    #[test]
    fn a_draining_instance_stays_for_its_own_clients_and_keeps_its_load() {
        let build = policy("p2c").unwrap();
        let active = instance("a", "10.0.0.1", 80, 1);
        let first = Upstream::compile(
            Some(&service("web", std::slice::from_ref(&active))),
            "",
            build,
            None,
            None,
        );
        let _work = first.endpoints[0].begin();
        let draining =
            Arc::new(Instance { presence: Presence::Draining, ..Instance::clone(&active) });
        let emptied = Service {
            instances: [draining].into(),
            eligible: [].into(),
            ..Arc::into_inner(service("web", &[])).unwrap()
        };
        let second = Upstream::compile(Some(&emptied), "", build, Some(&first), None);
        assert!(second.pick(PickKey { random: 0, now_micros: 0 }).is_none());
        assert_eq!(second.staying[0].in_flight(), 1);
    }

    #[test]
    fn only_watched_endpoints_are_counted_and_their_counts_outlive_a_compile() {
        let build = policy("p2c").unwrap();
        let service = service("web", &[instance("a", "10.0.0.1", 80, 1)]);
        let compile = |previous: Option<&Upstream>, watch| {
            Upstream::compile(Some(&service), "", build, previous, watch)
        };
        let blind = compile(None, None);
        blind.endpoints[0].failed(Failure::Connect);
        assert!(blind.endpoints[0].observed().is_none());

        let first = compile(Some(&blind), Some(FailureStatus::Gateway));
        first.endpoints[0].answered(500, 10, 1);
        first.endpoints[0].answered(503, 10, 2);
        let second = compile(Some(&first), Some(FailureStatus::Server));
        second.endpoints[0].answered(500, 10, 3);
        let totals = second.endpoints[0].observed().unwrap().totals();
        assert_eq!((totals.successes, totals.failures), (1, [0, 0, 0, 2]));
    }

    #[test]
    fn a_latency_peak_counts_at_once_and_wears_off() {
        let endpoint = &endpoints(&[1])[0];
        endpoint.observe(1000, 0);
        endpoint.observe(50_000, 1000);
        assert!(endpoint.cost(1000) >= 50_000.0);
        assert!(endpoint.cost(60_000_000) < 1000.0, "after a minute it is tried again");
    }

    #[test]
    fn another_endpoint_is_one_that_was_not_tried() {
        let service =
            service("web", &[instance("a", "10.0.0.1", 80, 1), instance("b", "10.0.0.2", 80, 1)]);
        let upstream = Upstream::compile(Some(&service), "", policy("p2c").unwrap(), None, None);
        let key = PickKey { random: 0, now_micros: 0 };
        let mut tried = vec![upstream.pick(key).unwrap().address];
        tried.push(upstream.pick_another(key, &tried).unwrap().address);
        assert_ne!(tried[0], tried[1]);
        assert!(upstream.pick_another(key, &tried).is_none());
    }

    #[test]
    fn a_named_port_is_taken_and_an_instance_without_it_left_out() {
        let service = service("web", &[instance("a", "10.0.0.1", 80, 1)]);
        let build = policy("p2c").unwrap();
        assert_eq!(Upstream::compile(Some(&service), "", build, None, None).endpoints.len(), 1);
        assert_eq!(
            Upstream::compile(Some(&service), "metrics", build, None, None).endpoints.len(),
            0
        );
    }
}

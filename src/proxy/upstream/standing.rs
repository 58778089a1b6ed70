//! How endpoints stand at which work runs that may go elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Endpoint, Upstream};
use crate::catalog::{Instance, Presence, Service};

/// How an endpoint stands in an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It gets work, or its own clients stay.
    Serves,
    /// It gets none, and nothing is wrong with it: others are nearer, or its weight is 0.
    Aside,
    /// Its instance is there and fails, or is in maintenance.
    Fails,
    /// Its instance is none of the service's any more, has another address, or is leaving.
    Left,
}

impl Upstream {
    /// How each endpoint stands, by where its load lies; whoever is not in it has left.
    #[must_use]
    pub fn standings(&self) -> HashMap<usize, Standing> {
        let serving = self.endpoints.iter().chain(&self.staying);
        let serving = serving.map(|endpoint| (place(endpoint), Standing::Serves));
        let out = self.departed.iter().zip(&self.out);
        serving.chain(out.map(|(endpoint, standing)| (place(endpoint), *standing))).collect()
    }
}

/// Where the load of `endpoint` lies: the same for as long as it is the same endpoint.
#[must_use]
pub fn place(endpoint: &Endpoint) -> usize {
    Arc::as_ptr(endpoint.load()).addr()
}

/// How those stand that get no work, by what the catalog says of `service` now.
pub(super) fn of(
    departed: &[Arc<Endpoint>],
    service: Option<&Service>,
    port: &str,
) -> Box<[Standing]> {
    if departed.is_empty() {
        return Box::default();
    }
    let instances = service.iter().flat_map(|service| service.instances.iter());
    let known: HashMap<(&str, &str), &Arc<Instance>> =
        instances.map(|instance| ((&*instance.registry, &*instance.id), instance)).collect();
    let standing = |endpoint: &Arc<Endpoint>| {
        let was = &endpoint.instance;
        let now = known.get(&(&*was.registry, &*was.id));
        match now.filter(|now| now.socket(port) == Some(endpoint.address)) {
            Some(now) if now.presence == Presence::Leaving => Standing::Left,
            Some(now) if now.health.serves() => Standing::Aside,
            Some(_) => Standing::Fails,
            None => Standing::Left,
        }
    };
    departed.iter().map(standing).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{instance, service};
    use super::*;
    use crate::catalog::Health;
    use crate::proxy::balance::policy;

    #[test]
    fn who_fails_is_told_from_who_has_left_and_from_who_merely_gets_nothing() {
        let a = instance("a", "10.0.0.1", 80, 1);
        let compile = |service: &Service, before: Option<&Upstream>| {
            Upstream::compile(Some(service), "", policy("p2c").unwrap(), before, None)
        };
        let before = compile(&service("web", std::slice::from_ref(&a)), None);
        let endpoint = Arc::clone(&before.endpoints[0]);
        let _work = endpoint.begin();
        let stands = |upstream: &Upstream| upstream.standings().get(&place(&endpoint)).copied();
        assert_eq!(stands(&before), Some(Standing::Serves));
        let like = |change: fn(&mut Instance)| {
            let mut now = Instance::clone(&a);
            change(&mut now);
            Arc::new(now)
        };
        let nobody = |instances: &[Arc<Instance>]| {
            let mut told = Arc::into_inner(service("web", instances)).unwrap();
            told.eligible = [].into();
            told
        };
        for (case, instances, want) in [
            ("not eligible", vec![a.clone()], Standing::Aside),
            ("unhealthy", vec![like(|a| a.health = Health::Unhealthy)], Standing::Fails),
            ("draining", vec![like(|a| a.presence = Presence::Draining)], Standing::Serves),
            ("leaving", vec![like(|a| a.presence = Presence::Leaving)], Standing::Left),
            ("another port", vec![instance("a", "10.0.0.1", 81, 1)], Standing::Left),
            ("gone", vec![], Standing::Left),
        ] {
            let now = compile(&nobody(&instances), Some(&before));
            assert_eq!(stands(&now), Some(want), "{case}");
            // One that compiled anew knows of it still, as long as work runs there.
            assert_eq!(stands(&compile(&nobody(&instances), Some(&now))), Some(want), "{case}");
        }
    }
}

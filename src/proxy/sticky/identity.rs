//! Who an endpoint is, in sixteen bytes that every node computes alike, and the way back from them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::catalog::Instance;
use crate::proxy::route::ServiceRef;
use crate::proxy::upstream::{Endpoint, Upstream};

/// An endpoint of an upstream: made of the registry, the service, the port's name, the instance's id,
/// address and port. Neither the order of endpoints, nor the generation, nor the node is in it, so
/// that it is the same on every node whose registries bear the same names. Never shown to clients as
/// it is: whoever knows the ids could guess the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Of the service and its port.
    pub upstream: u64,
    /// Of the endpoint, among all.
    pub endpoint: u64,
}

impl Identity {
    /// The identity of `endpoint` in the upstream of `wanted`.
    #[must_use]
    pub fn of(wanted: &ServiceRef, endpoint: &Endpoint) -> Self {
        Self {
            upstream: upstream(wanted),
            endpoint: instance(wanted, &endpoint.instance, endpoint.address),
        }
    }
}

/// The endpoints of one upstream by identity: those that get work, and those that only keep their
/// own clients. Who is gone, leaving or unhealthy is not in it.
#[derive(Debug)]
pub struct Index {
    /// The upstream's part of every identity.
    pub upstream: u64,
    /// In the order of the first field.
    endpoints: Box<[(u64, Arc<Endpoint>)]>,
}

impl Index {
    /// The index of `upstream`, which was compiled for `wanted`.
    #[must_use]
    pub fn compile(wanted: &ServiceRef, upstream: &Upstream) -> Self {
        let all = upstream.endpoints.iter().chain(&upstream.staying);
        let identified = |endpoint: &Arc<Endpoint>| {
            (instance(wanted, &endpoint.instance, endpoint.address), Arc::clone(endpoint))
        };
        let mut endpoints: Box<[_]> = all.map(identified).collect();
        endpoints.sort_by_key(|(identity, _)| *identity);
        Self { upstream: self::upstream(wanted), endpoints }
    }

    /// The endpoint with this part of the identity. Never blocks, never allocates.
    #[must_use]
    pub fn endpoint(&self, identity: u64) -> Option<&Arc<Endpoint>> {
        let at = self.endpoints.binary_search_by_key(&identity, |(known, _)| *known).ok()?;
        self.endpoints.get(at).map(|(_, endpoint)| endpoint)
    }
}

fn upstream(wanted: &ServiceRef) -> u64 {
    first_bytes(named(b"portolan upstream", [&*wanted.service, &*wanted.port]))
}

fn instance(wanted: &ServiceRef, instance: &Instance, address: SocketAddr) -> u64 {
    let names = [&*instance.registry, &*wanted.service, &*wanted.port, &*instance.id];
    let mut hash = named(b"portolan endpoint", names);
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => hash.update(ip.octets()),
        IpAddr::V6(ip) => hash.update(ip.octets()),
    }
    hash.update(address.port().to_be_bytes());
    first_bytes(hash)
}

/// A hash over names, each behind its length, so that no two lists read alike.
fn named<const N: usize>(purpose: &[u8], names: [&str; N]) -> Sha256 {
    let mut hash = Sha256::new_with_prefix(purpose);
    for name in names {
        hash.update((name.len() as u32).to_be_bytes());
        hash.update(name);
    }
    hash
}

fn first_bytes(hash: Sha256) -> u64 {
    hash.finalize().first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::model::Presence;
    use crate::proxy::balance::policy;
    use crate::proxy::upstream::tests::{instance, service};

    fn upstream(instances: &[Arc<Instance>]) -> Upstream {
        let service = service("web", instances);
        Upstream::compile(Some(&service), "", policy("p2c").unwrap(), None, None)
    }

    #[test]
    fn an_identity_is_independent_of_order_weight_and_generation() {
        let web = ServiceRef::parse("web");
        let (a, b) = (instance("a", "10.0.0.1", 80, 1), instance("b", "10.0.0.2", 80, 1));
        let first = upstream(&[a.clone(), b.clone()]);
        let heavier = instance("a", "10.0.0.1", 80, 9);
        let later = upstream(&[b, heavier]);
        for index in [Index::compile(&web, &first), Index::compile(&web, &later)] {
            for endpoint in &first.endpoints {
                let identity = Identity::of(&web, endpoint);
                assert_eq!(identity.upstream, index.upstream);
                let found = index.endpoint(identity.endpoint).unwrap();
                assert_eq!(found.address, endpoint.address);
            }
            assert!(index.endpoint(7).is_none());
        }
    }

    #[test]
    fn an_identity_is_the_same_on_every_node_for_ever() {
        // A change of these numbers makes every cookie and every binding on disk foreign.
        let web = upstream(&[instance("a", "10.0.0.1", 80, 1)]);
        let identity = Identity::of(&ServiceRef::parse("web"), &web.endpoints[0]);
        assert_eq!(
            identity,
            Identity { upstream: 0xa224_3024_b9f1_bcd3, endpoint: 0x299f_7234_2a44_d82f },
            "{identity:x?}"
        );
    }

    #[test]
    fn every_part_of_an_identity_counts() {
        let web = ServiceRef::parse("web");
        let identity = |wanted: &ServiceRef, instance: &Instance, address: &str| {
            (super::upstream(wanted), super::instance(wanted, instance, address.parse().unwrap()))
        };
        let a = instance("a", "10.0.0.1", 80, 1);
        let other_registry = Instance { registry: "other".into(), ..Instance::clone(&a) };
        let base = identity(&web, &a, "10.0.0.1:80");
        assert_eq!(identity(&web, &a, "[::ffff:10.0.0.1]:80"), base, "the same address");
        for (case, other) in [
            ("registry", identity(&web, &other_registry, "10.0.0.1:80")),
            ("service", identity(&ServiceRef::parse("api"), &a, "10.0.0.1:80")),
            ("port's name", identity(&ServiceRef::parse("web:x"), &a, "10.0.0.1:80")),
            ("id", identity(&web, &instance("b", "10.0.0.1", 80, 1), "10.0.0.1:80")),
            ("address", identity(&web, &a, "10.0.0.2:80")),
            ("port", identity(&web, &a, "10.0.0.1:81")),
        ] {
            assert_ne!(other.1, base.1, "{case}");
        }
        let moved = (ServiceRef::parse("web:x"), ServiceRef::parse("we:bx"));
        assert_ne!(super::upstream(&moved.0), super::upstream(&moved.1), "lengths count");
    }

    #[test]
    fn who_drains_is_found_and_who_leaves_or_fails_is_not() {
        let web = ServiceRef::parse("web");
        let active = instance("a", "10.0.0.1", 80, 1);
        let before = upstream(std::slice::from_ref(&active));
        let identity = Identity::of(&web, &before.endpoints[0]).endpoint;
        let unhealthy = crate::catalog::Health::Unhealthy;
        for (case, presence, health, found) in [
            ("draining", Presence::Draining, active.health, true),
            ("leaving", Presence::Leaving, active.health, false),
            ("draining and unhealthy", Presence::Draining, unhealthy, false),
            ("unhealthy", Presence::Active, unhealthy, false),
        ] {
            let now = Arc::new(Instance { health, presence, ..Instance::clone(&active) });
            let mut told = Arc::into_inner(service("web", &[now])).unwrap();
            told.eligible = [].into();
            let upstream = Upstream::compile(Some(&told), "", policy("p2c").unwrap(), None, None);
            let index = Index::compile(&web, &upstream);
            assert_eq!(index.endpoint(identity).is_some(), found, "{case}");
        }
    }
}

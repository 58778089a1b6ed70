//! The proxy's table: listeners with their routes, and the upstreams that they lead to.
//!
//! Compiled from one snapshot and swapped together with the tables of all other faces. Only
//! services that some route or listener wants are compiled, and of those only what changed.

use std::sync::Arc;

use super::clock;
use super::limit::Limits;
use super::queue::Queue;
use super::route::ServiceRef;
pub use super::settings::{Listener, Settings, Unfit};
use super::sticky::{Index, Sticking};
use super::upstream::{Endpoint, Upstream};
use crate::catalog::{Shards, Snapshot};

/// What the data workers read.
#[derive(Debug, Default)]
pub struct ProxyTable {
    /// Generation of the snapshot that it was compiled from.
    pub generation: u64,
    settings: Arc<Settings>,
    limits: Arc<Limits>,
    upstreams: Shards<Arc<str>, Upstream>,
    /// The endpoints by identity, of those upstreams that something sticky leads to.
    indexes: Shards<Arc<str>, Index>,
    /// Who waits for places of upstreams that were compiled for this generation.
    queues: Vec<Arc<Queue>>,
}

impl ProxyTable {
    /// Compiles the table of `snapshot`. With the table and the snapshot from before and the same
    /// settings, only services that changed are compiled. Endpoints keep their load in any case.
    #[must_use]
    pub fn compile(
        settings: &Arc<Settings>,
        before: Option<(&Self, &Snapshot)>,
        snapshot: &Snapshot,
    ) -> Self {
        let table = before.map(|(table, _)| table);
        let unchanged = before.filter(|(table, _)| Arc::ptr_eq(&table.settings, settings));
        let (mut upstreams, mut indexes) = match unchanged {
            Some((table, _)) => (table.upstreams.clone(), table.indexes.clone()),
            None => (Shards::new(), Shards::new()),
        };
        let mut queues = Vec::new();
        let mut refresh = |service: &Arc<str>| {
            let Some(ports) = settings.wanted.get(service) else { return };
            let rules = settings.rules.get(service).unwrap_or(&settings.usual);
            for wanted in ports {
                let previous = table.and_then(|table| table.upstreams.get(&*wanted.key));
                let found = snapshot.service(service).map(|service| &**service);
                let previous = previous.map(|known| &**known);
                let upstream =
                    Upstream::compile_by(rules, found, &wanted.port, previous, clock::micros());
                if settings.sticky.contains(&wanted.key) {
                    let index = Arc::new(Index::compile(wanted, &upstream));
                    indexes.insert(Arc::clone(&wanted.key), index);
                }
                queues.extend(upstream.queue().cloned());
                upstreams.insert(Arc::clone(&wanted.key), Arc::new(upstream));
            }
        };
        match unchanged {
            Some((_, since)) => snapshot.changes_since(since, |(name, _, _)| refresh(name)),
            None => settings.wanted.keys().for_each(refresh),
        }
        let limits = match (unchanged, table) {
            (Some((table, _)), _) => Arc::clone(&table.limits),
            (None, table) => {
                let known = table.map(|table| &*table.limits);
                Arc::new(Limits::compile(&settings.limits, settings.wanted.keys(), known))
            }
        };
        let settings = Arc::clone(settings);
        Self { generation: snapshot.generation, settings, limits, upstreams, indexes, queues }
    }

    /// The limits in force, with what they have counted.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// To be called once everybody gets this table: who waits for a place may have one now.
    pub fn published(&self) {
        self.queues.iter().for_each(|queue| queue.call());
    }

    /// The listener called `name`; none when a reload took it away.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.settings.listeners.get(name)
    }

    /// Every endpoint that work for `service` can go to, once per port that is used.
    pub fn endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Endpoint>> {
        let ports = self.settings.wanted.get(service).into_iter().flatten();
        ports.filter_map(|wanted| self.upstream(wanted)).flat_map(|upstream| &upstream.endpoints)
    }

    /// As [`Self::endpoints`], with those that only their own clients still go to.
    pub fn all_endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Endpoint>> {
        let ports = self.settings.wanted.get(service).into_iter().flatten();
        let upstreams = ports.filter_map(|wanted| self.upstream(wanted));
        upstreams.flat_map(|upstream| upstream.endpoints.iter().chain(&upstream.staying))
    }

    /// Whether a route or a listener leads to `service`.
    #[must_use]
    pub fn wants(&self, service: &str) -> bool {
        self.settings.wanted.contains_key(service)
    }

    /// What it was compiled by.
    #[must_use]
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Calls `found` for each upstream that is not the same in `before`, with its key, what it was
    /// and what it is; costs what changed.
    pub fn changes_since<'a>(
        &'a self,
        before: &'a Self,
        mut found: impl FnMut(&'a Arc<str>, Option<&'a Upstream>, Option<&'a Upstream>),
    ) {
        self.upstreams.changes_since(&before.upstreams, |(key, before, now)| {
            found(key, before.map(|known| &**known), now.map(|known| &**known));
        });
    }

    /// The endpoints of a sticky route's or listener's service, by identity.
    #[must_use]
    pub fn index(&self, wanted: &ServiceRef) -> Option<&Arc<Index>> {
        self.indexes.get(&*wanted.key)
    }

    /// What stickiness works with.
    #[must_use]
    pub fn sticking(&self) -> Option<&Arc<Sticking>> {
        self.settings.sticking.get()
    }

    /// The upstream of a route's or listener's service.
    #[must_use]
    pub fn upstream(&self, wanted: &ServiceRef) -> Option<&Arc<Upstream>> {
        self.upstreams.get(&*wanted.key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::proxy::config::{
        ListenerConfig, RouteConfig, ServiceBalance, TcpListenerConfig, TcpTimeouts,
    };
    use crate::proxy::upstream::tests::{instance, service};

    fn settings(services: &[&str]) -> Arc<Settings> {
        let tcp = |service: &&str| ListenerConfig {
            http: None,
            tcp: Some(TcpListenerConfig {
                bind: vec!["127.0.0.1:0".parse().unwrap()],
                service: (*service).to_owned(),
                timeouts: TcpTimeouts::default(),
                sticky: None,
            }),
        };
        let listeners = services.iter().map(|s| ((*s).to_owned(), tcp(s))).collect();
        Arc::new(Settings::compile(&listeners, &BTreeMap::new(), &BTreeMap::new()).unwrap())
    }

    fn snapshot(generation: u64, services: &[(&str, &str)]) -> Snapshot {
        let services = services
            .iter()
            .map(|(name, address)| {
                (Arc::from(*name), service(name, &[instance("a", address, 80, 1)]))
            })
            .collect();
        Snapshot { generation, services, registries: Arc::new([]), ..Snapshot::default() }
    }

    #[test]
    fn only_what_changed_is_compiled_and_only_what_is_wanted() {
        let settings = settings(&["web", "db"]);
        let first = snapshot(1, &[("web", "10.0.0.1"), ("db", "10.0.0.2"), ("other", "10.0.0.3")]);
        let table = ProxyTable::compile(&settings, None, &first);
        assert_eq!(table.upstreams.len(), 2);

        let mut second = first.clone();
        second.services.insert("web".into(), service("web", &[instance("a", "10.0.0.9", 80, 1)]));
        let next = ProxyTable::compile(&settings, Some((&table, &first)), &second);
        let same = |name: &str| {
            Arc::ptr_eq(table.upstreams.get(name).unwrap(), next.upstreams.get(name).unwrap())
        };
        assert!(!same("web") && same("db"));
    }

    #[test]
    fn other_settings_keep_the_load_of_endpoints() {
        let snapshot = snapshot(1, &[("web", "10.0.0.1")]);
        let table = ProxyTable::compile(&settings(&["web"]), None, &snapshot);
        let web = ServiceRef::parse("web");
        let _work = table.upstream(&web).unwrap().endpoints[0].begin();
        let next =
            ProxyTable::compile(&settings(&["web", "db"]), Some((&table, &snapshot)), &snapshot);
        assert_eq!(next.upstream(&web).unwrap().endpoints[0].in_flight(), 1);
    }

    #[test]
    fn a_route_to_a_listener_that_is_not_there_is_refused_with_the_nearest_one() {
        let route = RouteConfig {
            listener: "wbe".into(),
            service: Some("web".into()),
            ..RouteConfig::default()
        };
        let config = ListenerConfig {
            http: None,
            tcp: Some(TcpListenerConfig {
                bind: vec!["127.0.0.1:0".parse().unwrap()],
                service: "web".into(),
                timeouts: TcpTimeouts::default(),
                sticky: None,
            }),
        };
        let listeners = BTreeMap::from([("web".to_owned(), config)]);
        let routes = BTreeMap::from([("api".to_owned(), route)]);
        let policies = BTreeMap::from([(
            "web".to_owned(),
            ServiceBalance { policy: Some("fastest".into()), ..ServiceBalance::default() },
        )]);
        let problems = Settings::compile(&listeners, &routes, &policies).unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|p| &*p.message).collect();
        assert!(messages[0].contains("did you mean \"web\"?"), "{messages:?}");
        assert!(messages[1].contains("known are p2c, round-robin"), "{messages:?}");
    }
}

//! The proxy's table: listeners with their routes, and the upstreams that they lead to.
//!
//! Compiled from one snapshot and swapped together with the tables of all other faces. Only
//! services that some route or listener wants are compiled, and of those only what changed.

use std::sync::Arc;

use super::clock;
use super::config::ServiceBalance;
use super::limit::{Limits, Retries};
pub use super::listener::Listener;
use super::overlay::Overlay;
use super::queue::Queue;
use super::route::ServiceRef;
pub use super::settings::{Settings, Unfit};
use super::sticky::{Index, Sticking};
use super::upstream::{Endpoint, Upstream};
use crate::catalog::{Shards, Snapshot};
use crate::net::tls::Secured;

/// What a service may ask for in all, for what it asked for before to be kept while it is there.
const FORMER_MAX: usize = 8;

/// What the data workers read.
#[derive(Debug, Default)]
pub struct ProxyTable {
    /// Generation of the snapshot that it was compiled from.
    pub generation: u64,
    settings: Arc<Settings>,
    /// What labels ask for beside it.
    overlay: Arc<Overlay>,
    limits: Arc<Limits>,
    upstreams: Shards<Arc<str>, Upstream>,
    /// The endpoints by identity, of those upstreams that something sticky leads to.
    indexes: Shards<Arc<str>, Index>,
    /// Who waits for places of upstreams that were compiled for this generation.
    queues: Vec<Arc<Queue>>,
    /// What services asked for beyond what the configuration wants.
    asked: Shards<Arc<str>, Vec<ServiceRef>>,
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
        let mut asked = unchanged.map_or_else(Shards::new, |(table, _)| table.asked.clone());
        let since = unchanged.map(|(table, since)| (&table.overlay, since));
        let overlay =
            Overlay::compile(settings, since, table.map(|table| &*table.overlay), snapshot);
        let mut queues = Vec::new();
        let mut refresh = |service: &Arc<str>| {
            let found = snapshot.service(service).map(|service| &**service);
            let ports = settings.wanted.get(service).map_or(&[][..], |ports| ports);
            let (mut asks, sticky) = settings.asked(found, ports);
            for wanted in overlay.wants(service) {
                if !ports.contains(wanted) && !asks.contains(wanted) {
                    asks.push(wanted.clone());
                }
            }
            for former in asked.get(service).iter().flat_map(|before| before.iter()) {
                // Whoever accepts for it hears a moment later that its port leads elsewhere.
                if found.is_some() && asks.len() < FORMER_MAX && !asks.contains(former) {
                    asks.push(former.clone());
                }
                if !asks.contains(former) {
                    upstreams.remove(&*former.key);
                    indexes.remove(&*former.key);
                }
            }
            let usual = settings.rules.get(service).unwrap_or(&settings.usual);
            for wanted in ports.iter().chain(&asks) {
                let rules = overlay.rules(wanted).unwrap_or(usual);
                let previous = table.and_then(|table| table.upstreams.get(&*wanted.key));
                let previous = previous.map(|known| &**known);
                let upstream =
                    Upstream::compile_by(rules, found, &wanted.port, previous, clock::micros());
                if settings.sticky.contains(&wanted.key) || sticky || overlay.sticks(wanted) {
                    let index = Arc::new(Index::compile(wanted, &upstream));
                    indexes.insert(Arc::clone(&wanted.key), index);
                } else {
                    indexes.remove(&*wanted.key);
                }
                queues.extend(upstream.queue().cloned());
                upstreams.insert(Arc::clone(&wanted.key), Arc::new(upstream));
            }
            if asks.is_empty() {
                asked.remove(service);
            } else {
                asked.insert(Arc::clone(service), Arc::new(asks));
            }
        };
        match unchanged {
            Some((_, since)) => snapshot.changes_since(since, |(name, _, _)| refresh(name)),
            None if !settings.listens() => settings.wanted.keys().for_each(refresh),
            None => {
                let unknown = settings.wanted.keys();
                unknown.filter(|name| snapshot.service(name).is_none()).for_each(&mut refresh);
                snapshot.services.iter().for_each(|(name, _)| refresh(name));
            }
        }
        let limits = match (unchanged, table) {
            (Some((table, _)), _) => Arc::clone(&table.limits),
            (None, table) => {
                let known = table.map(|table| &*table.limits);
                Arc::new(Limits::compile(&settings.limits, settings.wanted.keys(), known))
            }
        };
        let settings = Arc::clone(settings);
        let generation = snapshot.generation;
        Self { generation, settings, overlay, limits, upstreams, indexes, queues, asked }
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

    /// The listener called `name`, with what labels ask for; none when a reload took it away, or
    /// nobody asks for it any more.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.overlay.listener(name).or_else(|| self.settings.listeners.get(name))
    }

    /// The listener called `name` by which `port` is accepted at, or whose that port is now by labels,
    /// with its name: whoever accepts hears a moment later that it leads elsewhere.
    #[must_use]
    pub fn listener_at<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> Option<(&'a str, &'a Arc<Listener>)> {
        let heir = || {
            let mut all = self.overlay.ports().iter();
            all.find(|(_, own)| own.asked.port == port).map(|(name, own)| (&**name, &own.listener))
        };
        self.listener(name).map(|listener| (name, listener)).or_else(heir)
    }

    /// Every listener by its name, those that labels ask for too, in no order that means anything.
    pub fn listeners(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Listener>)> {
        let configured = self.settings.listeners();
        let configured =
            configured.map(|(name, own)| (name, self.overlay.listener(name).unwrap_or(own)));
        configured.chain(self.overlay.ports().iter().map(|(name, own)| (name, &own.listener)))
    }

    /// What labels ask for.
    #[must_use]
    pub const fn overlay(&self) -> &Arc<Overlay> {
        &self.overlay
    }

    /// How the listener called `name` speaks TLS, if it does.
    #[must_use]
    pub fn secured(&self, name: &str) -> Option<&Arc<Secured>> {
        let own = self.overlay.ports().get(name).and_then(|own| own.secured_by.as_deref());
        self.settings.secured(own.unwrap_or(name))
    }

    /// Whether any service has its endpoints told who connects, by the PROXY protocol.
    #[must_use]
    pub fn announces(&self) -> bool {
        self.settings.announces() || self.overlay.announces()
    }

    /// How requests to `service` are sent again; none of one that no route leads to.
    #[must_use]
    pub fn retries(&self, service: &str) -> Option<&Arc<Retries>> {
        self.limits.retries(service).or_else(|| self.overlay.retries(service))
    }

    /// What is said about spreading the work of the upstream of `wanted`, by the configuration and by
    /// labels.
    #[must_use]
    pub fn balance(&self, wanted: &ServiceRef) -> Option<&ServiceBalance> {
        self.overlay.balance(wanted).or_else(|| self.settings.balance(&wanted.service))
    }

    /// Whether connections to an instance of `service` end when it turns unhealthy.
    #[must_use]
    pub fn closes_unhealthy(&self, service: &str) -> bool {
        self.settings.closes_unhealthy(service) || self.overlay.closes_unhealthy(service)
    }

    /// How the endpoints of `wanted` are reached, in words.
    #[must_use]
    pub fn way(&self, wanted: &ServiceRef) -> String {
        let labels = self.overlay.rules(wanted).map(|rules| rules.way().told());
        labels.unwrap_or_else(|| self.settings.way(&wanted.service))
    }

    /// The ports of `service` that are used.
    fn ports(&self, service: &str) -> impl Iterator<Item = &ServiceRef> {
        let asked = self.asked.get(service).into_iter().flat_map(|asked| asked.iter());
        self.settings.wanted.get(service).into_iter().flatten().chain(asked)
    }

    /// Every port of a service that is used, in no order that means anything.
    pub fn wanted(&self) -> impl Iterator<Item = &ServiceRef> {
        let asked = self.asked.values().flat_map(|asked| asked.iter());
        self.settings.wanted.values().flatten().chain(asked)
    }

    /// Every endpoint that work for `service` can go to, once per port that is used.
    pub fn endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Endpoint>> {
        let ports = self.ports(service);
        ports.filter_map(|wanted| self.upstream(wanted)).flat_map(|upstream| &upstream.endpoints)
    }

    /// As [`Self::endpoints`], with those that only their own clients still go to.
    pub fn all_endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Endpoint>> {
        let ports = self.ports(service);
        let upstreams = ports.filter_map(|wanted| self.upstream(wanted));
        upstreams.flat_map(|upstream| upstream.endpoints.iter().chain(&upstream.staying))
    }

    /// Whether a route or a listener leads to `service`, or a port that it asked for.
    #[must_use]
    pub fn wants(&self, service: &str) -> bool {
        self.ports(service).next().is_some()
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
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::proxy::config::{ListenerConfig, RouteConfig, ServiceBalance, TcpListenerConfig};
    use crate::proxy::upstream::tests::{instance, service};

    /// A listener by TCP before `service`.
    pub(in crate::proxy) fn tcp(service: &str) -> ListenerConfig {
        let bind = vec!["127.0.0.1:0".parse().unwrap()];
        ListenerConfig {
            tcp: Some(TcpListenerConfig::usual(bind, service.to_owned())),
            ..ListenerConfig::default()
        }
    }

    fn settings(services: &[&str]) -> Arc<Settings> {
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
        let listeners = BTreeMap::from([("web".to_owned(), tcp("web"))]);
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

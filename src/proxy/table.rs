//! The proxy's table: listeners with their routes, and the upstreams that they lead to.
//!
//! Compiled from one snapshot and swapped together with the tables of all other faces. Only
//! services that some route or listener wants are compiled, and of those only what changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::clock;
use super::config::{
    AccessLogConfig, HttpListenerConfig, ListenerConfig, RouteConfig, ServiceBalance,
    TcpListenerConfig,
};
use super::limit::{self, Limits, ProcessRules};
use super::log::Rule;
use super::queue::Queue;
use super::route::{RouteTable, ServiceRef};
use super::sticky::{self, Index, Sticking};
use super::upstream::{Endpoint, Rules, Upstream};
use crate::catalog::model::parse_name;
use crate::catalog::observed::FailureStatus;
use crate::catalog::{Shards, Snapshot};

/// Everything that the configuration says about the proxy, compiled once per configuration.
#[derive(Debug, Default)]
pub struct Settings {
    listeners: HashMap<Arc<str>, Arc<Listener>>,
    /// What routes and listeners want: the ports of each service.
    wanted: HashMap<Arc<str>, Vec<ServiceRef>>,
    /// As it was configured, for those who ask.
    balances: HashMap<Arc<str>, ServiceBalance>,
    /// Limits that are counted.
    limits: limit::Rules,
    /// How long what runs at an instance that leaves may go on, where it is said.
    drains: HashMap<Arc<str>, Duration>,
    /// Upstreams that something sticky leads to, by their key.
    sticky: HashSet<Arc<str>>,
    sticking: OnceLock<Arc<Sticking>>,
    /// How work is spread, for services of which something is said.
    rules: HashMap<Arc<str>, Arc<Rules>>,
    /// How it is for all others.
    usual: Arc<Rules>,
}

/// How long that is where nothing is said.
const DRAIN: Duration = Duration::from_secs(30);

/// One listener as its connections see it.
#[derive(Debug)]
pub enum Listener {
    /// HTTP, by routes.
    Http {
        /// As it was configured.
        config: Box<HttpListenerConfig>,
        /// Its routes.
        routes: RouteTable,
        /// Its access log.
        log: Option<Rule>,
    },
    /// TCP, to one service.
    Tcp {
        /// As it was configured.
        config: TcpListenerConfig,
        /// The service.
        target: ServiceRef,
    },
}

/// A part of the proxy's configuration that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The table it stands in: `["route", "api"]`.
    pub path: [String; 2],
    /// The key within it, when one is to blame.
    pub key: Option<&'static str>,
    /// What is wrong, and what to write.
    pub message: String,
}

impl Settings {
    /// Compiles listeners and routes; `services` says how work is spread where anything is said.
    ///
    /// # Errors
    /// Everything that can't be, all at once.
    pub fn compile(
        listeners: &BTreeMap<String, ListenerConfig>,
        routes: &BTreeMap<String, RouteConfig>,
        services: &BTreeMap<String, ServiceBalance>,
    ) -> Result<Self, Vec<Unfit>> {
        let mut problems = Vec::new();
        let mut settings = Self { limits: limit::Rules::new(routes, services), ..Self::default() };
        for (name, route) in routes {
            if let Some((key, message)) = limit::problem(route) {
                let path = ["route".into(), name.clone()];
                problems.push(Unfit { path, key: Some(key), message });
            }
            let unfit = match listeners.get(&route.listener) {
                Some(listener) if listener.http.is_some() => continue,
                Some(_) => format!(
                    "[listener.{}] is a tcp listener, which has a `service` instead of routes",
                    route.listener
                ),
                None => no_listener(&route.listener, listeners),
            };
            problems.push(Unfit {
                path: ["route".into(), name.clone()],
                key: Some("listener"),
                message: unfit,
            });
        }
        for (name, listener) in listeners {
            match Self::listener_of(name, listener, routes) {
                Ok(listener) => {
                    settings.want(&listener);
                    settings.listeners.insert(name.as_str().into(), Arc::new(listener));
                }
                Err(unfit) => problems.extend(unfit),
            }
        }
        let drains = services.iter();
        settings.drains = drains
            .filter_map(|(service, balance)| Some((service.as_str().into(), balance.drain?.0)))
            .collect();
        for (service, balance) in services {
            settings.balances.insert(service.as_str().into(), balance.clone());
            match Rules::compile(balance) {
                Ok(rules) => {
                    settings.rules.insert(service.as_str().into(), Arc::new(rules));
                }
                Err(unfit) => problems.extend(unfit.into_iter().map(|(key, message)| Unfit {
                    path: ["service".into(), service.clone()],
                    key: Some(key),
                    message,
                })),
            }
        }
        problems.extend(sticky::unfit(listeners, routes));
        settings.sticky = sticky::wanted(listeners, routes);
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// What stickiness works with: keys and clients, which no configuration holds. Told once, before
    /// anybody is served; without it nothing is sticky.
    pub fn stick(&self, sticking: Arc<Sticking>) {
        // A second one would be told of the same configuration: the first counts.
        let _ = self.sticking.set(sticking);
    }

    /// The same, with the endpoints of these services watched for outliers.
    #[must_use]
    pub fn watching(
        mut self,
        services: impl IntoIterator<Item = (Arc<str>, FailureStatus)>,
    ) -> Self {
        for (service, statuses) in services {
            let rules = self.rules.entry(service).or_default();
            *rules = Arc::new(Rules::clone(rules).watching(Some(statuses)));
        }
        self
    }

    /// The same, in a process that is at `locality`.
    #[must_use]
    pub fn at(mut self, locality: Option<&str>) -> Self {
        let locality: Option<Arc<str>> = locality.map(Into::into);
        for rules in self.rules.values_mut() {
            *rules = Arc::new(Rules::clone(rules).at(locality.clone()));
        }
        self
    }

    /// The same, with the access log that each HTTP listener has, or `all` of them have.
    #[must_use]
    pub fn logging(mut self, all: Option<&AccessLogConfig>) -> Self {
        for listener in self.listeners.values_mut().filter_map(Arc::get_mut) {
            if let Listener::Http { config, log, .. } = listener {
                *log = config.access_log.as_ref().or(all).and_then(Rule::compile);
            }
        }
        self
    }

    /// Every listener by its name, in no order that means anything.
    pub fn listeners(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Listener>)> {
        self.listeners.iter()
    }

    /// What is configured about spreading the work of `service`.
    #[must_use]
    pub fn balance(&self, service: &str) -> Option<&ServiceBalance> {
        self.balances.get(service)
    }

    /// The access logs of all listeners.
    pub fn logs(&self) -> impl Iterator<Item = &Rule> {
        self.listeners.values().filter_map(|listener| listener.log())
    }

    /// The same, with limits of the process as a whole.
    #[must_use]
    pub fn limited(mut self, process: ProcessRules) -> Self {
        self.limits = self.limits.within(process);
        self
    }

    /// How long what runs at an instance of `service` that leaves may go on.
    #[must_use]
    pub fn drain(&self, service: &str) -> Duration {
        self.drains.get(service).copied().unwrap_or(DRAIN)
    }

    fn listener_of(
        name: &str,
        listener: &ListenerConfig,
        routes: &BTreeMap<String, RouteConfig>,
    ) -> Result<Listener, Vec<Unfit>> {
        let own = |key, message: &str| {
            vec![Unfit {
                path: ["listener".into(), name.to_owned()],
                key,
                message: message.to_owned(),
            }]
        };
        if listener.bind().is_empty() && (listener.http.is_some() || listener.tcp.is_some()) {
            return Err(own(None, "`bind` is empty; write it as bind = [\"0.0.0.0:8080\"]"));
        }
        match (&listener.http, &listener.tcp) {
            (Some(config), None) => {
                let routes = routes.iter().filter(|(_, route)| route.listener == name);
                let routes = RouteTable::compile(routes.map(|(name, route)| (&**name, route)));
                Ok(Listener::Http { config: Box::new(config.clone()), routes: routes?, log: None })
            }
            (None, Some(config)) => {
                parse_name("service", &config.service).map_err(|message| own(None, &message))?;
                let target = ServiceRef::parse(&config.service);
                Ok(Listener::Tcp { target, config: config.clone() })
            }
            _ => {
                Err(own(None, "has exactly one kind: [listener.NAME.http] or [listener.NAME.tcp]"))
            }
        }
    }

    fn want(&mut self, listener: &Listener) {
        let mut want = |wanted: &ServiceRef| {
            let ports = self.wanted.entry(Arc::clone(&wanted.service)).or_default();
            if !ports.contains(wanted) {
                ports.push(wanted.clone());
            }
        };
        match listener {
            Listener::Tcp { target, .. } => want(target),
            Listener::Http { routes, .. } => {
                for route in routes.routes() {
                    route.target.services().for_each(&mut want);
                }
            }
        }
    }
}

fn no_listener(name: &str, listeners: &BTreeMap<String, ListenerConfig>) -> String {
    let near = listeners
        .keys()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, known)| format!("; did you mean {known:?}?"));
    let known = listeners.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("there is no listener {name:?}{} (there are: {known})", near.unwrap_or_default())
}

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
    use super::*;
    use crate::proxy::config::TcpTimeouts;
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

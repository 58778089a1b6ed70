//! What the configuration says about the proxy, compiled once per configuration.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::config::{
    AccessLogConfig, HttpListenerConfig, ListenerConfig, RouteConfig, ServiceBalance,
    TcpListenerConfig,
};
use super::limit::{self, ProcessRules};
use super::log::Rule;
use super::route::{RouteTable, ServiceRef};
use super::sticky::{self, Sticking};
use super::upstream::Rules;
use crate::catalog::model::parse_name;
use crate::catalog::observed::FailureStatus;

/// Everything that the configuration says about the proxy, compiled once per configuration.
#[derive(Debug, Default)]
pub struct Settings {
    pub(super) listeners: HashMap<Arc<str>, Arc<Listener>>,
    /// What routes and listeners want: the ports of each service.
    pub(super) wanted: HashMap<Arc<str>, Vec<ServiceRef>>,
    /// As it was configured, for those who ask.
    pub(super) balances: HashMap<Arc<str>, ServiceBalance>,
    /// Limits that are counted.
    pub(super) limits: limit::Rules,
    /// How long what runs at an instance that leaves may go on, where it is said.
    pub(super) drains: HashMap<Arc<str>, Duration>,
    /// Upstreams that something sticky leads to, by their key.
    pub(super) sticky: HashSet<Arc<str>>,
    pub(super) sticking: OnceLock<Arc<Sticking>>,
    /// How work is spread, for services of which something is said.
    pub(super) rules: HashMap<Arc<str>, Arc<Rules>>,
    /// How it is for all others.
    pub(super) usual: Arc<Rules>,
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
                None if route.listener.is_empty() => {
                    format!("missing key `listener` in [route.{name}]; add it")
                }
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

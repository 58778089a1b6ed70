//! From the tables of the configuration to [`Settings`], or everything that is wrong with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::config::{ListenerConfig, RouteConfig, ServiceBalance};
use super::super::http::access::Access;
use super::super::limit;
use super::super::listener::Listener;
use super::super::out::Way;
use super::super::out::secure::Configs;
use super::super::route::{RouteTable, ServiceRef};
use super::super::sni;
use super::super::sticky;
use super::super::upstream::Rules;
use super::{Settings, Unfit};
use crate::catalog::model::parse_name;

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
            problems.extend(sni::unfit(name, route, listeners.get(&route.listener)));
            let unfit = match listeners.get(&route.listener) {
                Some(listener) if listener.requests().is_some() || listener.tls.is_some() => {
                    continue;
                }
                Some(listener) => format!(
                    "[listener.{}] is a {} listener, which has a `service` instead of routes",
                    route.listener,
                    listener.kind()
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
                    match listener.opening(name) {
                        Some(opening) => settings.openings.push(opening),
                        None => settings.want(&listener),
                    }
                    settings.listeners.insert(name.as_str().into(), Arc::new(listener));
                }
                Err(unfit) => problems.extend(unfit),
            }
        }
        let drains = services.iter();
        settings.drains = drains
            .filter_map(|(service, balance)| Some((service.as_str().into(), balance.drain?.0)))
            .collect();
        let mut configs = Configs::default();
        for (service, balance) in services {
            settings.balances.insert(service.as_str().into(), balance.clone());
            settings.announces |= balance.proxy_protocol.is_some();
            let way = Way::compile(service, balance, &mut configs);
            let unfit = match (Rules::compile(balance), way) {
                (Ok(rules), Ok(way)) => {
                    let rules = rules.by(Arc::new(way));
                    settings.rules.insert(service.as_str().into(), Arc::new(rules));
                    continue;
                }
                (rules, way) => rules.err().into_iter().chain(way.err()).flatten(),
            };
            problems.extend(unfit.map(|(key, message)| Unfit {
                path: ["service".into(), service.clone()],
                key: Some(key),
                message,
            }));
        }
        problems.extend(sticky::unfit(listeners, routes));
        settings.sticky = sticky::wanted(listeners, routes);
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
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
        let http = [listener.http.is_some(), listener.https.is_some()];
        let kinds = http.into_iter().chain([
            listener.tcp.is_some(),
            listener.tls.is_some(),
            listener.udp.is_some(),
        ]);
        let kinds = kinds.filter(|set| *set).count();
        if listener.bind().is_empty() && kinds > 0 {
            return Err(own(None, "`bind` is empty; write it as bind = [\"0.0.0.0:8080\"]"));
        }
        if let Some(message) = listener.problem() {
            return Err(own(None, &message));
        }
        let routes = routes.iter().filter(|(_, route)| route.listener == name);
        let mut routes = routes.map(|(name, route)| (&**name, route));
        if let (1, Some(config)) = (kinds, &listener.tls) {
            let routes = sni::Routes::compile(&mut routes)?;
            return Ok(Listener::Tls { config: Box::new(config.clone()), routes });
        }
        match (listener.requests(), &listener.tcp) {
            _ if kinds != 1 => Err(own(
                None,
                "has exactly one kind: [listener.NAME.http], [listener.NAME.https], \
                 [listener.NAME.tcp], [listener.NAME.tls] or [listener.NAME.udp]",
            )),
            (Some(config), _) => {
                let (config, routes) =
                    (Box::new(config.clone()), RouteTable::compile(routes)?.into());
                Ok(Listener::Http { config, routes, log: None })
            }
            (None, Some(config)) if config.ports.is_some() => {
                let (target, access) = (ServiceRef::parse(""), Access::default());
                Ok(Listener::Tcp { target, config: Box::new(config.clone()), access })
            }
            (None, Some(config)) => {
                parse_name("service", &config.service).map_err(|message| own(None, &message))?;
                let (target, access) = (ServiceRef::parse(&config.service), Access::default());
                Ok(Listener::Tcp { target, config: Box::new(config.clone()), access })
            }
            (None, None) => {
                let Some(config) = &listener.udp else { return Err(own(None, "has no kind")) };
                parse_name("service", &config.service).map_err(|message| own(None, &message))?;
                let target = ServiceRef::parse(&config.service);
                Ok(Listener::Udp { target, config: config.clone() })
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
            Listener::Tcp { target, .. } | Listener::Udp { target, .. } => want(target),
            Listener::Tls { routes, .. } => {
                for route in routes.routes() {
                    route.target.services().for_each(&mut want);
                }
            }
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

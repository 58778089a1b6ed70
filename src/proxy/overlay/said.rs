//! What the labels of one service come to: routes, listeners of their own, rules.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::config::{
    HttpListenerConfig, RouteConfig, ServiceBalance, StickyConfig, TcpListenerConfig,
};
use super::super::http::access::Access;
use super::super::labels::{BalanceLabels, Labelled, LabelledPort, MarathonLbConfig, Mode};
use super::super::limit::Retries;
use super::super::listener::Listener;
use super::super::out::Way;
use super::super::out::secure::Configs;
use super::super::route::{LabelledRoute, LabelledRoutes, Routes, ServiceRef};
use super::super::settings::{Settings, Unfit};
use super::super::upstream::Rules;
use super::ports::OwnListener;

/// What one service asks for by its labels.
#[derive(Debug)]
pub(super) struct Said {
    /// As it was read.
    pub(super) read: Labelled,
    /// Routes of configured listeners.
    pub(super) routes: Vec<(Arc<str>, Arc<LabelledRoute>)>,
    /// Listeners of their own.
    pub(super) ports: Vec<Arc<OwnListener>>,
    /// How work is spread, by the upstream's key.
    pub(super) rules: Vec<Ruled>,
    /// Upstreams that are led to.
    pub(super) wants: Vec<ServiceRef>,
    /// The keys of those that are sticky.
    pub(super) sticky: HashSet<Arc<str>>,
    /// How requests to it are sent again, where no configured route leads there.
    pub(super) retries: Arc<Retries>,
    /// What can't be.
    pub(super) problems: Vec<Arc<str>>,
}

/// How the work of one upstream is spread.
#[derive(Debug, Clone)]
pub(super) struct Ruled {
    pub(super) key: Arc<str>,
    asked: BalanceLabels,
    /// With what the configuration says.
    pub(super) balance: ServiceBalance,
    pub(super) rules: Arc<Rules>,
}

impl Said {
    /// Compiles what was `read` of the labels of `service`. What is the same `before` is kept.
    pub(super) fn compile(
        settings: &Settings,
        config: &MarathonLbConfig,
        service: &Arc<str>,
        read: Labelled,
        before: Option<&Self>,
    ) -> Self {
        let mut said = Self {
            problems: read.problems.iter().map(|problem| (**problem).into()).collect(),
            routes: Vec::new(),
            ports: Vec::new(),
            rules: Vec::new(),
            wants: Vec::new(),
            sticky: HashSet::new(),
            retries: before.map_or_else(Arc::default, |before| Arc::clone(&before.retries)),
            read: Labelled::default(),
        };
        for (listener, name, config) in &read.routes {
            said.route(settings, service, (listener, &**name, None), config, before);
        }
        for app in &read.apps {
            let place = (&app.listener, &*app.name, Some(&*app.app));
            said.route(settings, service, place, &app.route, before);
        }
        for port in &read.ports {
            said.port(settings, config, service, port, before);
        }
        for (target, balance) in &read.rules {
            said.rule(settings, service, target, balance, before);
        }
        let configured = settings.balances.get(service).map(|balance| &balance.retries);
        let wanted = said.rules.first().map(|ruled| &ruled.balance.retries).or(configured);
        let wanted = wanted.cloned().unwrap_or_default();
        if said.retries.config != wanted {
            let budget = Arc::clone(&said.retries.budget);
            said.retries = Arc::new(Retries { config: wanted, budget });
        }
        said.wants.retain(|wanted| wanted.service == *service);
        said.read = read;
        said
    }

    /// How the work of the upstream `key` is spread, if its labels say so.
    pub(super) fn ruled(&self, key: &str) -> Option<&Ruled> {
        self.rules.iter().find(|ruled| *ruled.key == *key)
    }

    fn route(
        &mut self,
        settings: &Settings,
        service: &Arc<str>,
        (listener, name, app): (&Arc<str>, &str, Option<&str>),
        config: &RouteConfig,
        before: Option<&Self>,
    ) {
        if !matches!(
            settings.listeners.get(listener).map(|known| &**known),
            Some(Listener::Http { .. })
        ) {
            // Told when the configuration was read.
            return;
        }
        let same = |(at, known): &&(Arc<str>, Arc<LabelledRoute>)| {
            at == listener && &*known.route().name == name && known.route().config == *config
        };
        let known = before.and_then(|before| before.routes.iter().find(same));
        let route = match known {
            Some((_, known)) => Ok(Arc::clone(known)),
            None => LabelledRoute::compile(service, name, config, app).map(Arc::new),
        };
        match route {
            Ok(route) => {
                self.leads(&route, config.sticky.as_ref());
                self.routes.push((Arc::clone(listener), route));
            }
            Err(unfit) => self.refuse(&unfit),
        }
    }

    fn leads(&mut self, route: &LabelledRoute, sticky: Option<&StickyConfig>) {
        for wanted in route.route().target.services() {
            self.want(wanted, sticky.is_some());
        }
    }

    fn want(&mut self, wanted: &ServiceRef, sticky: bool) {
        if sticky {
            self.sticky.insert(Arc::clone(&wanted.key));
        }
        if !self.wants.contains(wanted) {
            self.wants.push(wanted.clone());
        }
    }

    fn refuse(&mut self, unfit: &[Unfit]) {
        self.problems.extend(unfit.iter().map(|unfit| {
            let key = unfit.key.map_or_else(String::new, |key| format!("{key}: "));
            format!("the route {:?}: {key}{}", unfit.path[1], unfit.message).into()
        }));
    }

    fn port(
        &mut self,
        settings: &Settings,
        config: &MarathonLbConfig,
        service: &Arc<str>,
        port: &LabelledPort,
        before: Option<&Self>,
    ) {
        let same = |known: &&Arc<OwnListener>| known.asked == *port;
        let known = before.and_then(|before| before.ports.iter().find(same));
        let own = match known {
            Some(known) => Ok(Arc::clone(known)),
            None => own(settings, config, service, port).map(Arc::new),
        };
        match own {
            Ok(own) => {
                match &*own.listener {
                    Listener::Http { routes, .. } => {
                        for route in routes.routes() {
                            let sticky = route.config.sticky.is_some();
                            route.target.services().for_each(|wanted| self.want(wanted, sticky));
                        }
                    }
                    _ => self.want(&port.target, port.sticky.is_some()),
                }
                self.ports.push(own);
            }
            Err(unfit) => self.refuse(&unfit),
        }
    }

    fn rule(
        &mut self,
        settings: &Settings,
        service: &Arc<str>,
        target: &ServiceRef,
        asked: &BalanceLabels,
        before: Option<&Self>,
    ) {
        let known = before.and_then(|before| before.ruled(&target.key));
        if let Some(known) = known.filter(|known| known.asked == *asked) {
            self.rules.push(known.clone());
            return;
        }
        let configured = settings.balances.get(service);
        let usual = ServiceBalance::default();
        let balance = asked.over(configured.unwrap_or(&usual));
        let base = settings.rules.get(service).unwrap_or(&settings.usual);
        let own_way =
            asked.protocol.is_some() || asked.tls.is_some() || asked.proxy_protocol.is_some();
        let rules = Rules::compile(&balance).and_then(|rules| {
            let rules = rules.beside(base);
            if !own_way {
                return Ok(rules);
            }
            let way = Way::compile(service, &balance, &mut Configs::default())?;
            Ok(rules.by(Arc::new(way)))
        });
        match rules {
            Ok(rules) => {
                let (key, asked) = (Arc::clone(&target.key), asked.clone());
                self.rules.push(Ruled { key, asked, balance, rules: Arc::new(rules) });
            }
            Err(problems) => self
                .problems
                .extend(problems.iter().map(|(key, message)| format!("{key}: {message}").into())),
        }
    }
}

/// The listener of a port of its own.
fn own(
    settings: &Settings,
    config: &MarathonLbConfig,
    service: &Arc<str>,
    port: &LabelledPort,
) -> Result<OwnListener, Vec<Unfit>> {
    let of_its_own = |message: String| {
        vec![Unfit { path: ["port".into(), port.name.to_string()], key: None, message }]
    };
    #[cfg(test)]
    crate::proxy::work::note(1);
    let addresses = port.bind.map_or_else(|| config.bind.clone(), |address| vec![address]);
    let bind: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, port.port)).collect();
    if port.tls && config.https.is_none() {
        let message =
            "TLS needs the certificates of a listener; name it by [labels.marathon-lb] https";
        return Err(of_its_own(message.to_owned()));
    }
    let like = if port.tls { &config.https } else { &config.http };
    let like = like.as_ref().and_then(|name| settings.listeners.get(name));
    let listener = match &port.mode {
        Mode::Tcp(timeouts) => {
            let mut told = Vec::new();
            let access = Access::compile(&port.allow, &[], &mut |_, what| told.push(what));
            if let Some(what) = told.pop() {
                return Err(of_its_own(what));
            }
            let usual = TcpListenerConfig::usual(bind.clone(), port.target.key.to_string());
            let config =
                TcpListenerConfig { timeouts: *timeouts, sticky: port.sticky.clone(), ..usual };
            Listener::Tcp { config: Box::new(config), target: port.target.clone(), access }
        }
        Mode::Http(timeouts, asked) => {
            let mut problems = Vec::new();
            let mut routes = Vec::new();
            for (name, config) in asked {
                match LabelledRoute::compile(service, name, config, None) {
                    Ok(route) => routes.push(Arc::new(route)),
                    Err(unfit) => problems.extend(unfit),
                }
            }
            let table = LabelledRoutes::default().changed(&[], &routes, |_, why| {
                problems.extend(why.iter().flat_map(|why| of_its_own(why.clone())));
            });
            if !problems.is_empty() {
                return Err(problems);
            }
            let (mut config, log) = match like.map(|like| &**like) {
                Some(Listener::Http { config, log, .. }) => (config.clone(), log.clone()),
                _ => (Box::new(HttpListenerConfig::usual(Vec::new())), None),
            };
            config.bind.clone_from(&bind);
            config.timeouts = timeouts.clone();
            Listener::Http { config, routes: Routes::default().with(table), log }
        }
    };
    Ok(OwnListener {
        asked: port.clone(),
        service: Arc::clone(service),
        bind,
        secured_by: config.https.clone().filter(|_| port.tls),
        listener: Arc::new(listener),
    })
}

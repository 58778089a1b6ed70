//! What is decided about one request, and what it remembers until its end. Knows nothing of the
//! library that carries it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;

use super::connection::HttpService;
use super::refusal::Refusal;
use super::stick::Stick;
use crate::proxy::balance::PickKey;
use crate::proxy::config::{HttpListenerConfig, HttpTimeouts};
use crate::proxy::route::{Route, ServiceRef, normalise};
use crate::proxy::table::Listener;
use crate::proxy::upstream::{Endpoint, Work};
use crate::random;

/// Where a request came in.
#[derive(Debug)]
pub struct Arrival {
    /// The listener, with its tables and counters.
    pub service: Arc<HttpService>,
    /// Who sent it.
    pub peer: SocketAddr,
}

/// What one request remembers between the hooks.
#[derive(Default)]
pub(super) struct Exchange {
    pub(super) arrival: Option<Arrival>,
    /// Generation of the table that decided.
    pub(super) generation: u64,
    pub(super) listener: Option<Arc<Listener>>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) work: Option<Work>,
    pub(super) tried: Vec<SocketAddr>,
    pub(super) began_micros: u64,
    pub(super) sent_micros: u64,
    pub(super) upgrade: bool,
    pub(super) status: u16,
    /// The endpoint has answered; what breaks after that is counted only if its answer did.
    pub(super) answered: bool,
    /// What binds the client to an endpoint.
    pub(super) stick: Stick,
}

impl Exchange {
    pub(super) fn config(&self) -> Option<&HttpListenerConfig> {
        match self.listener.as_deref() {
            Some(Listener::Http { config, .. }) => Some(config),
            _ => None,
        }
    }

    /// Loads the table of this moment and finds the route. All decisions of one request come from
    /// this one table, except that a second try picks from the newest.
    pub(super) fn decide(&mut self, request: &Parts, now_micros: u64) -> Result<(), Refusal> {
        const GONE: Refusal = Refusal::new(503, "listener", "this listener is being removed");
        const NO_ROUTE: Refusal = Refusal::new(404, "route", "no route leads there");
        const PATH: Refusal = Refusal::new(400, "path", "the path can be read in two ways");
        self.began_micros = now_micros;
        self.upgrade = request.headers.contains_key("upgrade");
        let Some(arrival) = &self.arrival else { return Err(GONE) };
        let table = arrival.service.current.load();
        self.generation = table.generation;
        self.listener = table.listener(&arrival.service.name).cloned();
        let Some(Listener::Http { routes, .. }) = self.listener.as_deref() else {
            return Err(GONE);
        };
        let host = host_of(request);
        let path = normalise(request.uri.path()).ok_or(PATH)?;
        self.route = Some(Arc::clone(routes.route(host, &path).ok_or(NO_ROUTE)?));
        Ok(())
    }

    /// Picks an endpoint that was not tried yet.
    pub(super) fn pick(&mut self, wanted: &ServiceRef, now_micros: u64) -> Option<Arc<Endpoint>> {
        let table = self.arrival.as_ref()?.service.current.load();
        let upstream = table.upstream(wanted)?;
        let key = PickKey { random: random::bits(), now_micros };
        let bound = self.bound(&table, std::iter::once(wanted)).map(|(_, endpoint)| endpoint);
        let is_bound = bound.is_some();
        let endpoint = match bound {
            Some(endpoint) => endpoint,
            None if self.tried.is_empty() => Arc::clone(upstream.pick(key)?),
            None => Arc::clone(upstream.pick_another(key, &self.tried)?),
        };
        self.goes(wanted, &endpoint, is_bound);
        if self.tried.is_empty() {
            self.generation = table.generation;
        }
        self.work = Some(endpoint.begin());
        self.sent_micros = key.now_micros;
        self.endpoint = Some(Arc::clone(&endpoint));
        Some(endpoint)
    }
}

/// The host that a request asks for, `""` if it names none.
pub(super) fn host_of(request: &Parts) -> &str {
    let host = request.headers.get("host").and_then(|value| value.to_str().ok());
    host.or_else(|| request.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default()
}

/// How long nothing may be read: in a tunnel much longer than within an exchange.
pub(super) fn patience(timeouts: &HttpTimeouts, upgrade: bool) -> std::time::Duration {
    if upgrade { timeouts.tunnel.0 } else { timeouts.read.0 }
}

//! What is decided about one request, and what it remembers until its end. Knows nothing of the
//! library that carries it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;

use super::connection::HttpService;
use super::refusal::Refusal;
use crate::proxy::clock;
use crate::proxy::config::{HttpListenerConfig, HttpTimeouts};
use crate::proxy::route::{Route, ServiceRef, normalise};
use crate::proxy::table::Listener;
use crate::proxy::upstream::{Endpoint, Missed, Upstream, Work};
use crate::proxy::waiting::{self, Placed, Refused};

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
    /// The upstream, and how many idle connections this worker keeps to its endpoints, where that is
    /// limited.
    pub(super) keep_alive: Option<(Arc<str>, u32)>,
    /// The connection to the endpoint is one too many to be kept.
    pub(super) close_after: bool,
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

    /// Takes a place at an endpoint of `wanted` that was not tried yet; nobody who waits is overtaken.
    pub(super) fn pick(
        &mut self,
        request: &Parts,
        wanted: &ServiceRef,
        now_micros: u64,
    ) -> Result<(), Missed> {
        let Some(arrival) = &self.arrival else { return Err(Missed::Nobody) };
        let table = arrival.service.current.load();
        let key = |upstream: &Upstream| upstream.key(arrival.peer.ip(), Some(request), now_micros);
        let placed = waiting::place(&table, wanted, key, &self.tried)?;
        self.takes(placed, now_micros);
        Ok(())
    }

    /// The same after everybody was full: waits in line for it, until `left` ends.
    pub(super) async fn wait(
        &mut self,
        request: &Parts,
        wanted: &ServiceRef,
        left: impl Future<Output = ()>,
    ) -> Result<(), Refused> {
        let Some(Arrival { service, peer }) = &self.arrival else { return Err(Refused::Nobody) };
        let key = match service.current.load().upstream(wanted) {
            Some(upstream) => upstream.key(peer.ip(), Some(request), clock::micros()),
            None => return Err(Refused::Nobody),
        };
        let (current, queue) = (&service.current, &service.metrics.queue);
        let placed = waiting::wait(current, wanted, key, &self.tried, left, queue).await?;
        self.takes(placed, clock::micros());
        Ok(())
    }

    fn takes(&mut self, placed: Placed, now_micros: u64) {
        if self.tried.is_empty() {
            self.generation = placed.generation;
        }
        self.work = Some(placed.work);
        self.sent_micros = now_micros;
        self.keep_alive = placed.keep_alive;
        self.endpoint = Some(placed.endpoint);
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

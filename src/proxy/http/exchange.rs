//! What is decided about one request, and what it remembers until its end. Knows nothing of the
//! library that carries it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use tokio::time::Instant;

use super::access;
use super::connection::HttpService;
use super::limited::Limited;
use super::redirect::{Asked, Redirect};
use super::refusal::Refusal;
use super::stick::Stick;
use super::story::Story;
use crate::proxy::balance::PickKey;
use crate::proxy::config::{HttpListenerConfig, HttpTimeouts};
use crate::proxy::forwarded;
use crate::proxy::limit::bandwidth::Pace;
use crate::proxy::route::{RequestView, Route, ServiceRef, Target, normalise};
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
    /// When the last byte of its head was there.
    pub received: Instant,
    /// How fast the answer goes out.
    pub pace: Pace,
}

/// No index of a split.
const NOBODY: usize = usize::MAX;

/// A path that servers do not agree on.
pub(super) const AMBIGUOUS: Refusal = Refusal::new(400, "path", "the path can be read in two ways");

/// What one request remembers between the hooks.
#[derive(Default)]
pub(super) struct Exchange {
    pub(super) arrival: Option<Arrival>,
    /// Generation of the table that decided.
    pub(super) generation: u64,
    pub(super) listener: Option<Arc<Listener>>,
    pub(super) route: Option<Arc<Route>>,
    /// Which service of a split: see [`Target::service`]; [`NOBODY`] when none can serve.
    pub(super) choice: usize,
    /// The client's address: the peer, or whom trusted proxies tell.
    pub(super) client: Option<IpAddr>,
    /// The error page that takes the place of the endpoint's body.
    pub(super) page: Option<Bytes>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) work: Option<Work>,
    pub(super) tried: Vec<SocketAddr>,
    pub(super) began_micros: u64,
    pub(super) sent_micros: u64,
    pub(super) upgrade: bool,
    pub(super) status: u16,
    /// The endpoint has answered; what breaks after that is counted only if its answer did.
    pub(super) answered: bool,
    /// For its line in the log, and for the metrics.
    pub(super) story: Story,
    /// Limits and retries.
    pub(super) limited: Limited,
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
        self.began_micros = now_micros;
        self.upgrade = request.headers.contains_key("upgrade");
        let Some(arrival) = &self.arrival else { return Err(GONE) };
        let table = arrival.service.current.load();
        self.generation = table.generation;
        let listener = table.listener(&arrival.service.name).cloned();
        self.listener.clone_from(&listener);
        let Some(Listener::Http { routes, config, .. }) = listener.as_deref() else {
            return Err(GONE);
        };
        let told = request.headers.get_all(forwarded::FOR).iter();
        let told = told.map(|value| value.to_str().unwrap_or("?"));
        let client = forwarded::client(arrival.peer.ip(), told, &config.trusted_proxies);
        self.client = Some(client);
        let path = normalise(request.uri.path()).ok_or(AMBIGUOUS)?;
        let view = RequestView {
            host: host_of(request),
            path: &path,
            query: request.uri.query().unwrap_or_default(),
            method: request.method.as_str(),
            headers: &request.headers,
            client,
        };
        let route = routes.route(&view).ok_or(NO_ROUTE)?;
        self.route = Some(Arc::clone(route));
        if !route.access.admits(client) {
            return Err(access::FORBIDDEN);
        }
        if let Target::Split(split) = &route.target {
            let usable = |service: &ServiceRef| {
                table.upstream(service).is_some_and(|upstream| !upstream.endpoints.is_empty())
            };
            self.choice = split.choose(random::bits(), usable).unwrap_or(NOBODY);
        }
        Ok(())
    }

    /// Where a redirect of the route sends the client.
    pub(super) fn location(&self, redirect: &Redirect, request: &Parts) -> Result<String, Refusal> {
        let path = request.uri.path();
        let edited = self.route.as_ref().map(|route| route.path_edits.apply(path));
        let path = edited.unwrap_or_else(|| Some(path.into())).ok_or(AMBIGUOUS)?;
        let told = request.headers.get(forwarded::PROTO).filter(|_| self.trusted());
        let secure = told.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
        Ok(redirect.location(Asked {
            scheme: if secure { "https" } else { "http" },
            host: host_of(request),
            path: &path,
            query: request.uri.query().unwrap_or_default(),
        }))
    }

    /// Whether the peer is a proxy whose word counts.
    pub(super) fn trusted(&self) -> bool {
        let Some(arrival) = &self.arrival else { return false };
        let networks = self.config().map(|config| &*config.trusted_proxies);
        networks.is_some_and(|networks| forwarded::within(arrival.peer.ip(), networks))
    }

    /// How long each step may take: what the route says, then the listener.
    pub(super) fn timeouts(&self) -> HttpTimeouts {
        let mut timeouts = self.config().map(|config| config.timeouts.clone()).unwrap_or_default();
        if let Some(route) = &self.route {
            let own = &route.config.timeouts;
            timeouts.connect = own.connect.unwrap_or(timeouts.connect);
            timeouts.read = own.read.unwrap_or(timeouts.read);
            timeouts.tunnel = own.tunnel.unwrap_or(timeouts.tunnel);
        }
        timeouts
    }

    /// The service that the request goes to, if it goes to any.
    pub(super) fn wanted(&self) -> Option<&ServiceRef> {
        self.route.as_ref()?.target.service(self.choice)
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
        self.story.picked(&wanted.key);
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

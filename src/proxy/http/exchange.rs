//! What is decided about one request, and what it remembers until its end. Knows nothing of the
//! library that carries it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use super::access;
use super::came::Came;
use super::connection::HttpService;
use super::h2::reply::Leaving;
use super::limited::Limited;
use super::redirect::{Asked, Redirect};
use super::refusal::Refusal;
use super::stick::Stick;
use super::story::Story;
use crate::net::tls::Facts;
use crate::proxy::clock;
use crate::proxy::config::{HttpListenerConfig, HttpTimeouts};
use crate::proxy::forwarded;
use crate::proxy::limit::bandwidth::Pace;
use crate::proxy::out::bridge::Bridge;
use crate::proxy::route::{RequestView, Route, ServiceRef, Target, normalise};
use crate::proxy::table::{Listener, ProxyTable};
use crate::proxy::upstream::{Endpoint, Missed, Upstream, Work};
use crate::proxy::waiting::{self, Placed, Refused};
use crate::random;

/// Where a request came in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The listener, with its tables and counters.
    pub service: Arc<HttpService>,
    /// Who sent it.
    pub peer: SocketAddr,
    /// What it connected to, where endpoints want to know.
    pub server: Option<SocketAddr>,
    /// When the last byte of its head was there, in microseconds of the proxy's clock.
    pub received: u64,
    /// How fast the answer goes out, and how much of it did.
    pub pace: Pace,
    /// Whether it came by TLS.
    pub secure: bool,
    /// The head as it came, for the line of a request that is cut; empty where there is no log.
    pub head: Came,
    /// What was agreed on then.
    pub tls: Option<Arc<Facts>>,
}

/// No index of a split.
const NOBODY: usize = usize::MAX;

/// A path that servers do not agree on.
pub(super) const AMBIGUOUS: Refusal = Refusal::new(400, "path", "the path can be read in two ways");

/// A host of which another certificate is than the one that was shown.
const MISDIRECTED: Refusal =
    Refusal::new(421, "misdirected", "this connection was opened for another host");

/// Whether a client that asked for one host by SNI asks for another `host` now, which it would have
/// been shown another certificate for (RFC 9110 §7.4). Who named none may ask for any.
fn misdirected(arrival: &Arrival, table: &ProxyTable, host: &str) -> bool {
    let Some(name) = arrival.tls.as_ref().and_then(|tls| tls.name.as_deref()) else { return false };
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if host.eq_ignore_ascii_case(name) {
        return false;
    }
    let secured = table.secured(&arrival.service.name);
    secured.is_some_and(|secured| !secured.shown().now().alike(name, host))
}

/// What one request remembers between the hooks.
#[derive(Default)]
pub(super) struct Exchange {
    pub(super) arrival: Option<Arrival>,
    /// Tells when the client resets its stream, on HTTP/2.
    pub(super) leaving: Option<Leaving>,
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
    /// Interim answers that have come.
    pub(super) interim: u32,
    /// For its line in the log, and for the metrics.
    pub(super) story: Story,
    /// Limits and retries.
    pub(super) limited: Limited,
    /// What binds the client to an endpoint.
    pub(super) stick: Stick,
    /// The endpoint that it is bound to.
    pub(super) home: Option<Arc<Endpoint>>,
    /// The upstream, and how many idle connections this worker keeps to its endpoints, where that is
    /// limited.
    pub(super) keep_alive: Option<(Arc<str>, u32)>,
    /// The connection to the endpoint is one too many to be kept.
    pub(super) close_after: bool,
    /// The TLS connection to the endpoint.
    pub(super) bridge: Option<Arc<Bridge>>,
    /// The answer ends with the connection: nothing else tells that it is whole.
    pub(super) until_close: bool,
    /// The client has been told to send its body.
    pub(super) continued: bool,
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
        if misdirected(arrival, &table, host_of(request)) {
            return Err(MISDIRECTED);
        }
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
        Ok(redirect.location(Asked {
            scheme: if self.secure(request) { "https" } else { "http" },
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

    /// Whether the client came by https: as a trusted proxy tells of the first hop, or as it came here.
    pub(super) fn secure(&self, request: &Parts) -> bool {
        let told = self.trusted().then(|| forwarded::secure(&request.headers)).flatten();
        told.unwrap_or_else(|| self.arrival.as_ref().is_some_and(|arrival| arrival.secure))
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

    /// Takes a place at an endpoint of `wanted` that was not tried yet: the one that the client is
    /// bound to, or when that one is full or there is none, by the policy; nobody who waits is overtaken.
    pub(super) fn pick(
        &mut self,
        request: &Parts,
        wanted: &ServiceRef,
        now_micros: u64,
    ) -> Result<(), Missed> {
        let Some(arrival) = &self.arrival else { return Err(Missed::Nobody) };
        let table = arrival.service.current.load();
        let source = self.source();
        let bound = self.bound(&table, std::iter::once(wanted)).map(|(_, endpoint)| endpoint);
        if let Some(endpoint) = bound
            && let Ok(placed) = waiting::place_at(&table, wanted, endpoint)
        {
            self.takes(wanted, placed, now_micros);
            return Ok(());
        }
        let key = |upstream: &Upstream| upstream.key(source, Some(request), now_micros);
        let placed = waiting::place(&table, wanted, key, &self.tried)?;
        self.takes(wanted, placed, now_micros);
        Ok(())
    }

    /// The same after everybody was full: waits in line for it, until `left` ends.
    pub(super) async fn wait(
        &mut self,
        request: &Parts,
        wanted: &ServiceRef,
        left: impl Future<Output = ()>,
    ) -> Result<(), Refused> {
        let source = self.source();
        let Some(Arrival { service, .. }) = &self.arrival else { return Err(Refused::Nobody) };
        let key = match service.current.load().upstream(wanted) {
            Some(upstream) => upstream.key(source, Some(request), clock::micros()),
            None => return Err(Refused::Nobody),
        };
        let (current, queue) = (&service.current, &service.metrics.queue);
        let placed = waiting::wait(current, wanted, key, &self.tried, left, queue).await?;
        self.takes(wanted, placed, clock::micros());
        Ok(())
    }

    /// Whose request it is, for policies, limits and bindings that go by it.
    pub(super) fn source(&self) -> IpAddr {
        let peer = self.arrival.as_ref().map(|arrival| arrival.peer.ip());
        self.client.or(peer).unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    fn takes(&mut self, wanted: &ServiceRef, placed: Placed, now_micros: u64) {
        self.goes(wanted, &placed.endpoint);
        self.story.picked(&wanted.key);
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

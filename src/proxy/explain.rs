//! Why a request goes where it goes: listener, route, upstream, endpoints. For people who ask; the
//! decision itself is asked of the same code that decides about requests.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;
use serde::Serialize;

use super::balance::POLICIES;
use super::config::{HttpListenerConfig, RespondWhen, RouteConfig};
use super::explain_asked::{Asked, AskedHello};
use super::explain_sni;
use super::explain_tls::{CertificateWhy, certificate, speaks_tls};
use super::route::{RequestView, Routes, ServiceRef, normalise};
use super::table::{Listener, ProxyTable};
use super::upstream::Endpoint;

/// Routes that are told when none takes the request.
const NEAREST: usize = 3;
/// Routes that are told beside the one that takes it.
pub(super) const PASSED_OVER: usize = 10;

/// A request that somebody asks about.
#[derive(Debug, Clone)]
pub struct Inquiry<'a> {
    /// `http://host[:port]/path?query`.
    pub url: &'a str,
    /// `GET`.
    pub method: &'a str,
    /// Header lines beside `Host`.
    pub headers: HeaderMap,
    /// Who sends it.
    pub client: IpAddr,
}

/// What would become of it.
#[derive(Debug, Serialize)]
pub struct UrlWhy {
    pub(super) url: String,
    pub(super) method: String,
    pub(super) client: IpAddr,
    pub(super) generation: u64,
    /// Whether a route takes it.
    pub(super) known: bool,
    /// At each listener that it may reach.
    pub(super) listeners: Vec<ListenerWhy>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ListenerWhy {
    pub(super) listener: Arc<str>,
    pub(super) bind: Vec<String>,
    /// What a client is shown that asks by https; none where there is no TLS, or it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<CertificateWhy>,
    /// The status of the answer when it is given here; none when the request is carried.
    pub(super) status: Option<u16>,
    /// What would be answered.
    pub(super) answer: String,
    pub(super) route: Option<RouteWhy>,
    /// Why that route, or why none.
    pub(super) why: String,
    pub(super) passed_over: Vec<PassedOver>,
    /// Routes that are alike, when none takes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nearest: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct PassedOver {
    pub(super) route: Arc<str>,
    pub(super) why: String,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteWhy {
    pub(super) name: Arc<str>,
    /// The service whose labels ask for it; none: it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels_of: Option<Arc<str>>,
    /// Its timeouts and limits, by the keys of the configuration.
    pub(super) limits: Vec<(&'static str, String)>,
    pub(super) upstreams: Vec<UpstreamWhy>,
}

#[derive(Debug, Serialize)]
pub(super) struct UpstreamWhy {
    /// As it is written in the route: `web` or `web:metrics`.
    pub(super) to: Arc<str>,
    pub(super) service: Arc<str>,
    /// Its part of the requests, where they are split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) share: Option<String>,
    pub(super) policy: String,
    /// What is spoken with its endpoints, and whether by TLS.
    pub(super) by: String,
    pub(super) endpoints: Vec<EndpointWhy>,
}

#[derive(Debug, Serialize)]
pub(super) struct EndpointWhy {
    registry: Arc<str>,
    id: Arc<str>,
    address: String,
    weight: u16,
    /// Work that runs there now.
    in_flight: u32,
    /// The latency that is remembered of it (EWMA of peaks).
    latency_ms: Option<f64>,
    /// It drains: only clients that are bound to it still go there.
    staying: bool,
}

/// Why a request is treated as `table` treats it.
///
/// # Errors
/// The URL is none, and how to write one.
pub fn explain(table: &ProxyTable, inquiry: &Inquiry<'_>) -> Result<UrlWhy, String> {
    if let Some(hello) = AskedHello::read(inquiry.url)? {
        return Ok(explain_sni::explain(table, inquiry, &hello));
    }
    let asked = Asked::read(inquiry.url)?;
    let mut all: Vec<_> = table.listeners().collect();
    all.sort_by_key(|(name, _)| Arc::clone(name));
    let http = all.into_iter().filter_map(|(name, listener)| match &**listener {
        Listener::Http { config, routes, .. } => Some((name, &**config, routes)),
        Listener::Tcp { .. } | Listener::Tls { .. } | Listener::Udp { .. } => None,
    });
    let mut http: Vec<_> = http.collect();
    let spoken = http.iter().any(|(name, _, _)| speaks_tls(table, name) == asked.secure);
    http.retain(|(name, _, _)| !spoken || speaks_tls(table, name) == asked.secure);
    let port = asked.port.unwrap_or(if asked.secure { 443 } else { 80 });
    let at_port = |config: &HttpListenerConfig| config.bind.iter().any(|at| at.port() == port);
    let exact = http.iter().any(|(_, config, _)| at_port(config));
    let mut notes = Vec::new();
    if asked.secure && !spoken {
        notes.push("no listener speaks TLS: this is what plain HTTP would get".to_owned());
    } else if !spoken && !http.is_empty() {
        notes.push("every HTTP listener speaks TLS: this is what https would get".to_owned());
    }
    if http.is_empty() {
        notes.push("there is no HTTP listener".to_owned());
    } else if !exact {
        notes.push(format!("no HTTP listener is configured for port {port}: all are asked"));
    }
    let reached = http.iter().filter(|(_, config, _)| !exact || at_port(config));
    let mut listeners: Vec<ListenerWhy> = reached
        .map(|(name, config, routes)| at_listener(table, name, config, routes, &asked, inquiry))
        .collect();
    // When it is not known which one it reaches, those that would carry it say most.
    if !exact && listeners.iter().any(|listener| listener.route.is_some()) {
        listeners.retain(|listener| listener.route.is_some());
    }
    Ok(UrlWhy {
        url: inquiry.url.to_owned(),
        method: inquiry.method.to_owned(),
        client: inquiry.client,
        generation: table.generation,
        known: listeners.iter().any(|listener| listener.route.is_some()),
        listeners,
        notes,
    })
}

fn at_listener(
    table: &ProxyTable,
    name: &Arc<str>,
    config: &HttpListenerConfig,
    routes: &Routes,
    asked: &Asked,
    inquiry: &Inquiry<'_>,
) -> ListenerWhy {
    let mut told = ListenerWhy {
        listener: Arc::clone(name),
        bind: config.bind.iter().map(ToString::to_string).collect(),
        certificate: None,
        status: Some(400),
        answer: "400: the path can be read in two ways".to_owned(),
        route: None,
        why: "a path that climbs above its root, hides a slash or is badly escaped is refused"
            .to_owned(),
        passed_over: Vec::new(),
        nearest: Vec::new(),
    };
    match certificate(table, name, asked.name()) {
        Ok(certificate) => told.certificate = certificate,
        Err(why) => {
            told.status = None;
            (told.answer, told.why) = ("the TLS alert unrecognized_name".to_owned(), why);
            return told;
        }
    }
    let Some(path) = normalise(&asked.path) else { return told };
    let explained = routes.explain(&RequestView {
        host: &asked.host,
        path: &path,
        query: &asked.query,
        method: inquiry.method,
        headers: &inquiry.headers,
        client: inquiry.client,
    });
    told.why = explained.why;
    let passed_over = explained.passed_over.into_iter().take(PASSED_OVER);
    told.passed_over = passed_over
        .map(|passed| PassedOver { route: Arc::clone(&passed.route.name), why: passed.why })
        .collect();
    let Some(route) = explained.winner else {
        told.nearest = nearest(routes, &asked.host, &path);
        (told.status, told.answer) = (Some(404), "404: no route leads there".to_owned());
        return told;
    };
    let upstreams = upstreams(table, &route.config);
    (told.status, told.answer) = answer(&route.config, inquiry.client, &upstreams);
    let limits = limits(table, config, &route.config, &upstreams);
    let (name, labels_of) = (Arc::clone(&route.name), route.by.clone());
    told.route = Some(RouteWhy { name, labels_of, limits, upstreams });
    told
}

/// Where a route leads, with what is known of the endpoints there.
pub(super) fn upstreams(table: &ProxyTable, route: &RouteConfig) -> Vec<UpstreamWhy> {
    let to = targets(route);
    let all: u32 = to.iter().filter_map(|(_, share)| *share).sum();
    let of = to.iter().map(|(to, share)| {
        let share = share.map(|share| format!("{share} of {all}"));
        upstream(table, to, share)
    });
    of.collect()
}

/// The services that a route leads to, each with its share if there is one.
fn targets(route: &RouteConfig) -> Vec<(ServiceRef, Option<u32>)> {
    let one = route.service.iter().map(|service| (ServiceRef::parse(service), None));
    let several = route.split.iter();
    one.chain(several.map(|(service, share)| (ServiceRef::parse(service), Some(*share)))).collect()
}

fn upstream(table: &ProxyTable, to: &ServiceRef, share: Option<String>) -> UpstreamWhy {
    let upstream = table.upstream(to);
    let endpoints = upstream.iter().flat_map(|upstream| upstream.endpoints.iter());
    let staying = upstream.iter().flat_map(|upstream| upstream.staying.iter());
    let endpoints = endpoints.map(|endpoint| (endpoint, false));
    let policy = table.balance(to).and_then(|said| said.policy.clone());
    UpstreamWhy {
        to: Arc::clone(&to.key),
        service: Arc::clone(&to.service),
        share,
        policy: policy.unwrap_or_else(|| POLICIES[0].0.to_owned()),
        by: table.way(to),
        endpoints: endpoints
            .chain(staying.map(|endpoint| (endpoint, true)))
            .map(|(endpoint, staying)| of_endpoint(endpoint, staying))
            .collect(),
    }
}

fn of_endpoint(endpoint: &Endpoint, staying: bool) -> EndpointWhy {
    EndpointWhy {
        registry: Arc::clone(&endpoint.instance.registry),
        id: Arc::clone(&endpoint.instance.id),
        address: endpoint.address.to_string(),
        weight: endpoint.weight,
        in_flight: endpoint.in_flight(),
        latency_ms: endpoint.remembered_micros().map(|micros| micros as f64 / 1000.0),
        staying,
    }
}

/// What would be answered: the status when the answer is given here, and words for it.
fn answer(route: &RouteConfig, client: IpAddr, upstreams: &[UpstreamWhy]) -> (Option<u16>, String) {
    if !let_in(route, client) {
        return (Some(403), format!("403: `allow` and `deny` keep {client} out"));
    }
    if let Some(respond) = &route.respond {
        let status = respond.status;
        let when = match respond.when {
            RespondWhen::Always => "",
            RespondWhen::Ready => " while the process is ready, else 503",
        };
        return (Some(status), format!("{status}{when}, given here"));
    }
    if let Some(redirect) = &route.redirect {
        let default = if redirect.to.is_some() { 302 } else { 308 };
        let status = redirect.status.unwrap_or(default);
        let parts = [
            ("scheme", redirect.scheme.clone()),
            ("host", redirect.host.clone()),
            ("port", redirect.port.map(|port| port.to_string())),
            ("path", redirect.path.clone()),
            ("to", redirect.to.clone()),
        ];
        let parts = parts.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value?)));
        return (
            Some(status),
            format!("{status}: sent on, {}", parts.collect::<Vec<_>>().join(", ")),
        );
    }
    match carried(upstreams) {
        Some(carried) => (None, carried),
        None => (Some(503), "503: no instance of the service is eligible".to_owned()),
    }
}

/// To whom it is carried, in words; none when nobody is eligible.
pub(super) fn carried(upstreams: &[UpstreamWhy]) -> Option<String> {
    let open = |upstream: &UpstreamWhy| upstream.endpoints.iter().filter(|e| !e.staying).count();
    if upstreams.iter().all(|upstream| open(upstream) == 0) {
        return None;
    }
    let to = upstreams.iter().map(|upstream| {
        let count = open(upstream);
        let share = upstream.share.as_ref().map(|share| format!(", {share}"));
        let plural = if count == 1 { "" } else { "s" };
        format!("service/{} ({count} endpoint{plural}{})", upstream.to, share.unwrap_or_default())
    });
    Some(format!("carried to {}", to.collect::<Vec<_>>().join(" or ")))
}

/// Whether `client` is let in: the narrower network of `allow` and `deny` counts.
fn let_in(route: &RouteConfig, client: IpAddr) -> bool {
    let client = client.to_canonical();
    let narrowest = |networks: &[IpNet]| {
        networks.iter().filter(|network| network.contains(&client)).map(IpNet::prefix_len).max()
    };
    match (narrowest(&route.allow), narrowest(&route.deny)) {
        (Some(allow), Some(deny)) => allow > deny,
        (None, Some(_)) => false,
        (Some(_), None) => true,
        (None, None) => route.allow.is_empty(),
    }
}

/// Timeouts and limits as they are in force.
fn limits(
    table: &ProxyTable,
    listener: &HttpListenerConfig,
    route: &RouteConfig,
    upstreams: &[UpstreamWhy],
) -> Vec<(&'static str, String)> {
    let (own, all) = (&route.timeouts, &listener.timeouts);
    let mut limits = vec![
        ("connect", own.connect.unwrap_or(all.connect).to_string()),
        ("read", own.read.unwrap_or(all.read).to_string()),
        ("tunnel", own.tunnel.unwrap_or(all.tunnel).to_string()),
    ];
    let mut limit = |key, value: Option<String>| limits.extend(value.map(|value| (key, value)));
    limit("body_max", route.body_max.map(|size| size.to_string()));
    limit("limit_rate", route.limit_rate.map(|size| format!("{size} per second")));
    limit("limit_rate_after", route.limit_rate_after.map(|size| size.to_string()));
    limit(
        "rate_limit",
        route.rate_limit.as_ref().map(|rate| {
            let by = format!("{:?}", rate.by).to_lowercase();
            format!("{} in {} by {by}, burst {}", rate.requests, rate.per, rate.burst)
        }),
    );
    limit("basic_auth", route.basic_auth.as_ref().map(|auth| auth.realm.clone()));
    limit("requests_max", route.requests_max.map(|most| most.to_string()));
    for upstream in upstreams {
        let Some(balance) = table.balance(&ServiceRef::parse(&upstream.to)) else { continue };
        let most =
            balance.max_connections.map(|most| format!("{most} at service/{}", upstream.service));
        limit("max_connections", most);
    }
    limits
}

/// Routes that are like what was asked for: by host first, then by path.
fn nearest(routes: &Routes, host: &str, path: &str) -> Vec<String> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let near = routes
        .routes()
        .map(|route| {
            let config = &route.config;
            let own = config.host.as_deref().filter(|own| *own != "*");
            let by_host = own.map_or(0, |own| strsim::damerau_levenshtein(own, &name));
            let own_path = config.path.as_deref().or(config.path_exact.as_deref());
            let own_path = own_path.or(config.path_regex.as_deref()).unwrap_or("/");
            let by_path = strsim::damerau_levenshtein(own_path, path);
            let place = format!("{}{own_path}", own.unwrap_or("any host, "));
            (by_host * 100 + by_path, format!("{} {place}", route.shown()))
        })
        .collect();
    likest(near)
}

/// The first of routes, of which each comes with its distance from what was asked for.
pub(super) fn likest(mut near: Vec<(usize, String)>) -> Vec<String> {
    near.sort();
    near.truncate(NEAREST);
    near.into_iter().map(|(_, route)| route).collect()
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

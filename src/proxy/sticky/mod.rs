//! Stickiness: a client comes back to the endpoint that it had, as long as that one keeps its clients.
//!
//! Known again by a signed [`cookie`] that names no address, or by its address for a time
//! ([`source`]). Both lead to an [`identity`], and only what the [`Index`] of the upstream has is gone
//! to: endpoints that are eligible, and those that drain and keep their own clients. Whoever leaves,
//! fails or is not eligible is not in it; the client is bound anew then.

pub mod cookie;
pub mod identity;
pub mod keeper;
pub mod source;
pub mod store;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};
use tokio::task::AbortHandle;

use super::config::{ListenerConfig, RouteConfig, StickyConfig, StickyRule};
use super::route::ServiceRef;
use super::table::{ProxyTable, Unfit};
use super::upstream::Endpoint;
use crate::telemetry::metrics::Register as _;
use cookie::Keys;
pub use identity::{Identity, Index};
use source::{Binding, Sources};

/// What all that is sticky in one configuration works with.
#[derive(Debug)]
pub struct Sticking {
    /// The keys of cookies; none while no route has any.
    pub keys: Option<Keys>,
    /// Who had which endpoint, by address; outlives configurations.
    pub sources: Arc<Sources>,
    /// What time it is.
    pub clock: Clock,
}

/// Unix time. Stickiness outlives the process, so that its times are absolute.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// A clock that shows what `millis` holds, for tests.
    #[must_use]
    pub const fn showing(millis: Arc<AtomicU64>) -> Self {
        Self(Some(millis))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn millis(&self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.0.as_ref().map_or_else(|| now() as u64, |shown| shown.load(Ordering::Relaxed))
    }

    /// Seconds since 1970, which last until 2106.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        u32::try_from(self.millis() / 1000).unwrap_or(u32::MAX)
    }
}

/// What became of a client's binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went to the endpoint that it is bound to.
    Bound,
    /// It had no binding.
    New,
    /// The endpoint that it is bound to had as much as it may; it went to another one this time.
    Elsewhere,
    /// The endpoint that it was bound to takes it no more; it is bound to another one.
    Broken,
    /// It brought a cookie that is not good: forged, of another service, too old. As if it had none.
    Forged,
}

/// Words of [`Outcome`], in its order.
const OUTCOMES: [&str; 5] = ["bound", "new", "elsewhere", "broken", "forged"];

/// What stickiness counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    outcomes: IntCounterVec,
    dropped: IntCounter,
    kept: IntGauge,
    writes: IntCounterVec,
}

/// The counters of one listener, by outcome.
#[derive(Debug, Clone)]
pub struct Counts([IntCounter; 5]);

/// Where a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// To the endpoint that it is bound to.
    Home,
    /// To another one, for its own has as much as it may. It stays bound to that.
    Elsewhere,
    /// To one that it is bound to from now on.
    New,
}

impl Bond {
    /// Of a client that goes to `endpoint`; `home`: the one that it is bound to, when that one takes
    /// its clients and has not failed this one just now.
    #[must_use]
    pub fn of(home: Option<&Endpoint>, endpoint: &Endpoint) -> Self {
        match home {
            None => Self::New,
            Some(home) if home.address == endpoint.address => Self::Home,
            Some(_) => Self::Elsewhere,
        }
    }
}

impl Metrics {
    /// Registers the metrics of stickiness.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let outcomes = registry.counter_vec(
            "portolan_proxy_sticky_total",
            "Answered requests and connections that are sticky, by what became of the binding.",
            &["listener", "result"],
        )?;
        let dropped = registry.counter(
            "portolan_proxy_sticky_dropped_total",
            "Clients whose binding by address was good and went because there were too many.",
        )?;
        let kept = registry
            .gauge("portolan_proxy_sticky_sources", "Clients that are bound by their address.")?;
        let writes = registry.counter_vec(
            "portolan_proxy_sticky_writes_total",
            "Writes of the clients that are bound by their address to disk, by result.",
            &["result"],
        )?;
        Ok(Self { outcomes, dropped, kept, writes })
    }

    /// The handles of one listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Counts {
        Counts(OUTCOMES.map(|outcome| self.outcomes.with_label_values(&[name, outcome])))
    }

    /// A table for about `max` clients, whose losses are counted here.
    #[must_use]
    pub fn sources(&self, max: usize, seed: [u64; 2]) -> Sources {
        Sources::new(max, seed, self.dropped.clone())
    }
}

impl Counts {
    /// Counts one request or connection.
    pub fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].inc();
    }
}

/// A client that is known by its address, on its way to an endpoint.
#[derive(Debug)]
pub struct Visit {
    sticking: Arc<Sticking>,
    client: IpAddr,
    time: Duration,
    known: bool,
}

impl Visit {
    /// The visit of `client`, when `config` says that it is known by its address.
    #[must_use]
    pub fn of(table: &ProxyTable, config: Option<&StickyConfig>, client: IpAddr) -> Option<Self> {
        let Some(StickyRule::Source(time)) = config?.rule() else { return None };
        Some(Self { sticking: Arc::clone(table.sticking()?), client, time, known: false })
    }

    /// The endpoint that the client is bound to, and which of `candidates` it belongs to. Of several
    /// bindings the one that lasts longest counts. Never blocks, never allocates.
    pub fn bound<'a>(
        &mut self,
        table: &ProxyTable,
        candidates: impl Iterator<Item = &'a ServiceRef>,
    ) -> Option<(usize, Arc<Endpoint>)> {
        let now = self.sticking.clock.millis();
        let mut best: Option<(u64, usize, &Arc<Endpoint>)> = None;
        for (number, wanted) in candidates.enumerate() {
            let Some(index) = table.index(wanted) else { continue };
            let key = self.sticking.sources.key(self.client, index.upstream);
            let Some(binding) = self.sticking.sources.find(key, now) else { continue };
            self.known = true;
            if let Some(endpoint) = index.endpoint(binding.endpoint)
                && best.is_none_or(|(until, ..)| binding.until > until)
            {
                best = Some((binding.until, number, endpoint));
            }
        }
        best.map(|(_, number, endpoint)| (number, Arc::clone(endpoint)))
    }

    /// Binds the client to `endpoint` of `wanted`, for as long as the returned value lives and the
    /// configured time after. With `watched` it is seen meanwhile too: for what may last longer than
    /// that time.
    #[must_use]
    pub fn goes(&self, wanted: &ServiceRef, endpoint: &Endpoint, watched: bool) -> Stay {
        let identity = Identity::of(wanted, endpoint);
        let seen = Seen {
            key: self.sticking.sources.key(self.client, identity.upstream),
            endpoint: identity.endpoint,
            millis: u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX),
            sticking: Arc::clone(&self.sticking),
        };
        let now = seen.sticking.clock.millis();
        seen.sticking.sources.bind(seen.binding(now), now);
        let ticking = watched.then(|| {
            let (seen, pause) = (seen.clone(), self.time / 2);
            let watching = async move {
                loop {
                    tokio::time::sleep(pause).await;
                    seen.now();
                }
            };
            tokio::spawn(watching).abort_handle()
        });
        Stay { seen, ticking }
    }

    /// What became of the binding.
    #[must_use]
    pub const fn outcome(&self, bond: Bond) -> Outcome {
        match (bond, self.known) {
            (Bond::Home, _) => Outcome::Bound,
            (Bond::Elsewhere, _) => Outcome::Elsewhere,
            (Bond::New, true) => Outcome::Broken,
            (Bond::New, false) => Outcome::New,
        }
    }
}

/// A client that is there. It counts as seen until this is dropped.
#[derive(Debug)]
pub struct Stay {
    seen: Seen,
    ticking: Option<AbortHandle>,
}

#[derive(Debug, Clone)]
struct Seen {
    sticking: Arc<Sticking>,
    key: u64,
    endpoint: u64,
    millis: u64,
}

impl Seen {
    const fn binding(&self, now: u64) -> Binding {
        Binding { key: self.key, endpoint: self.endpoint, until: now.saturating_add(self.millis) }
    }

    fn now(&self) {
        self.sticking.sources.saw(self.binding(self.sticking.clock.millis()));
    }
}

impl Stay {
    /// The client is still there.
    pub fn seen(&self) {
        self.seen.now();
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(ticking) = &self.ticking {
            ticking.abort();
        }
        self.seen.now();
    }
}

/// The keys of upstreams that something sticky leads to.
pub(super) fn wanted(
    listeners: &BTreeMap<String, ListenerConfig>,
    routes: &BTreeMap<String, RouteConfig>,
) -> HashSet<Arc<str>> {
    // Of TLS that is passed on the listener says it for all of its routes.
    let all = |route: &RouteConfig| {
        let tls = listeners.get(&route.listener).and_then(|listener| listener.tls.as_ref());
        tls.is_some_and(|tls| tls.sticky.is_some())
    };
    let carried = listeners.values().filter(|listener| listener.sticky().is_some());
    let carried = carried.filter_map(ListenerConfig::service);
    let routes = routes.values().filter(|route| route.sticky.is_some() || all(route));
    let routed = routes.flat_map(|route| route.service.iter().chain(route.split.keys()));
    carried.chain(routed.map(String::as_str)).map(Arc::from).collect()
}

/// Which rules are in use: any cookie, any address.
#[must_use]
pub fn used<'a>(
    listeners: impl Iterator<Item = &'a ListenerConfig>,
    routes: impl Iterator<Item = &'a RouteConfig>,
) -> (bool, bool) {
    let carried = listeners.filter_map(ListenerConfig::sticky);
    let all = carried.chain(routes.filter_map(|route| route.sticky.as_ref()));
    all.fold((false, false), |(cookie, source), config| {
        (cookie || config.cookie.is_some(), source || config.source.is_some())
    })
}

/// What of `sticky` can't be, anywhere.
pub(super) fn unfit(
    listeners: &BTreeMap<String, ListenerConfig>,
    routes: &BTreeMap<String, RouteConfig>,
) -> Vec<Unfit> {
    let unfit = |kind: &str, name: &str, message: String| Unfit {
        path: [kind.to_owned(), name.to_owned()],
        key: (kind == "route").then_some("sticky"),
        message: if kind == "route" { message } else { format!("sticky: {message}") },
    };
    let mut found = Vec::new();
    for (name, listener) in listeners {
        let problem = listener.sticky().and_then(|sticky| sticky.problem(false));
        found.extend(problem.map(|message| unfit("listener", name, message)));
    }
    let mut cookies = Cookies::default();
    for (name, route) in routes {
        let Some(sticky) = &route.sticky else { continue };
        let nowhere = (route.service.is_none() && route.split.is_empty())
            .then(|| "leads to no service that a client could come back to; leave it out".into());
        let bytes = listeners.get(&route.listener).is_some_and(|listener| listener.tls.is_some());
        let problem = sticky.problem(!bytes).or(nowhere).or_else(|| cookies.rival(name, route));
        found.extend(problem.map(|message| unfit("route", name, message)));
    }
    found
}

/// The cookies of one host, each with the first route that gives it.
#[derive(Default)]
struct Cookies<'a>(HashMap<(&'a str, Option<String>, &'a str), (&'a str, &'a RouteConfig)>);

impl<'a> Cookies<'a> {
    /// Why the cookie of `route` cannot be: another route of the same host gives one of the same name
    /// for other services, and browsers keep one of them only.
    fn rival(&mut self, name: &'a str, route: &'a RouteConfig) -> Option<String> {
        let cookie = route.sticky.as_ref()?.cookie.as_deref()?;
        let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
        let first = self.0.entry((&*route.listener, host, cookie)).or_insert((name, route));
        let (other, of_other) = *first;
        let mut leads = of_other.service.iter().chain(of_other.split.keys());
        let same = |to: &String| route.service.as_ref() == Some(to) || route.split.contains_key(to);
        (!leads.any(same)).then(|| {
            format!(
                "cookie = {cookie:?} is the cookie of [route.{other}] too, which leads to another \
                 service of the same host: a client would lose the one for the other; give it \
                 another name"
            )
        })
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;

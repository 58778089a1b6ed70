//! Limits of the proxy, over all workers: how many requests run, how fast they come, how large
//! their bodies are, how fast answers go out, how often requests are sent again.
//!
//! The deciding is pure and knows no lane. What is counted belongs to the process, a route or a
//! service by name, and outlives every snapshot and every reload that leaves its limit alone.

pub mod bandwidth;
pub mod body;
pub mod budget;
pub mod metrics;
pub mod rate;
pub mod shed;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::config::{RateLimitConfig, RetryConfig, RouteConfig, ServiceBalance};
use budget::Budget;
use metrics::Reason;
use rate::Rate;
use shed::{Gate, Memory, Permit};

/// What the configuration says of limits that are counted.
#[derive(Debug, Default)]
pub struct Rules {
    routes: HashMap<Arc<str>, RouteRules>,
    retries: HashMap<Arc<str>, RetryConfig>,
    process: ProcessRules,
}

#[derive(Debug)]
struct RouteRules {
    rate: Option<RateLimitConfig>,
    requests_max: Option<u32>,
}

/// Limits of the process as a whole; none: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessRules {
    /// Requests that run at once.
    pub requests: Option<usize>,
    /// Bytes of memory in use.
    pub memory: Option<u64>,
}

impl Rules {
    /// Those of routes and services; only what says something is kept.
    #[must_use]
    pub fn new(
        routes: &BTreeMap<String, RouteConfig>,
        services: &BTreeMap<String, ServiceBalance>,
    ) -> Self {
        let limited = routes
            .iter()
            .filter(|(_, route)| route.rate_limit.is_some() || route.requests_max.is_some());
        let routes = limited.map(|(name, route)| {
            let rate = route.rate_limit.clone();
            (name.as_str().into(), RouteRules { rate, requests_max: route.requests_max })
        });
        let retries = services.iter().map(|(name, s)| (name.as_str().into(), s.retries.clone()));
        Self { routes: routes.collect(), retries: retries.collect(), ..Self::default() }
    }

    /// The same, with limits of the process.
    #[must_use]
    pub const fn within(mut self, process: ProcessRules) -> Self {
        self.process = process;
        self
    }
}

/// What of a route can't be: the key, and what to write.
#[must_use]
pub fn problem(route: &RouteConfig) -> Option<(&'static str, String)> {
    if let Some(rate) = &route.rate_limit {
        if rate.requests == 0 {
            let message = "requests = 0 would let nobody in; say how many, or use `deny`";
            return Some(("rate_limit", message.to_owned()));
        }
        if rate.per.0.is_zero() {
            let message = "per = \"0s\" is no time; write it like per = \"1s\"";
            return Some(("rate_limit", message.to_owned()));
        }
    }
    if route.limit_rate.is_none() && route.limit_rate_after.is_some() {
        let message = "`limit_rate_after` says when `limit_rate` begins; there is none";
        return Some(("limit_rate_after", message.to_owned()));
    }
    None
}

/// The limits in force, with all that is counted.
#[derive(Debug)]
pub struct Limits {
    /// The moment that all workers count from.
    epoch: Instant,
    process: ProcessRules,
    gate: Arc<Gate>,
    memory: Arc<Memory>,
    routes: HashMap<Arc<str>, RouteLimits>,
    services: HashMap<Arc<str>, Arc<Retries>>,
}

#[derive(Debug)]
struct RouteLimits {
    rate: Option<Arc<Rate>>,
    gate: Arc<Gate>,
    requests_max: Option<usize>,
}

/// How requests to one service are sent again.
#[derive(Debug, Default)]
pub struct Retries {
    /// As it was configured.
    pub config: RetryConfig,
    /// What was sent again of late.
    pub budget: Arc<Budget>,
}

/// A request that runs; dropping it counts it out.
#[derive(Debug, Default)]
pub struct Admission {
    _running: Option<Permit>,
    _of_route: Option<Permit>,
}

/// Why a request is not let in, and when another one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    /// Which limit.
    pub reason: Reason,
    /// Seconds to wait, at least one.
    pub retry_after: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            process: ProcessRules::default(),
            gate: Arc::default(),
            memory: Arc::default(),
            routes: HashMap::new(),
            services: HashMap::new(),
        }
    }
}

impl Limits {
    /// The limits by `rules`, for these services; what `previous` counted goes on where it can.
    #[must_use]
    pub fn compile<'a>(
        rules: &Rules,
        services: impl IntoIterator<Item = &'a Arc<str>>,
        previous: Option<&Self>,
    ) -> Self {
        let route = |(name, rules): (&Arc<str>, &RouteRules)| {
            let known = previous.and_then(|previous| previous.routes.get(name));
            let kept = known.and_then(|known| known.rate.clone());
            let rate = rules.rate.as_ref().map(|config| {
                kept.filter(|rate| rate.config() == config)
                    .unwrap_or_else(|| Arc::new(Rate::new(config)))
            });
            let gate = known.map_or_else(Arc::default, |known| Arc::clone(&known.gate));
            let requests_max = rules.requests_max.map(|max| max as usize);
            (Arc::clone(name), RouteLimits { rate, gate, requests_max })
        };
        let service = |name: &Arc<str>| {
            let known = previous.and_then(|previous| previous.services.get(name));
            let budget = known.map_or_else(Arc::default, |known| Arc::clone(&known.budget));
            let config = rules.retries.get(name).cloned().unwrap_or_default();
            (Arc::clone(name), Arc::new(Retries { config, budget }))
        };
        Self {
            epoch: previous.map_or_else(Instant::now, |previous| previous.epoch),
            process: rules.process,
            gate: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.gate)),
            memory: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.memory)),
            routes: rules.routes.iter().map(route).collect(),
            services: services.into_iter().map(service).collect(),
        }
    }

    /// Lets a request of `route` in, and counts it until the returned value is dropped. Nothing is
    /// shed of a route that is answered here: an outer balancer must be able to ask. `client` is
    /// asked for only when it is counted. Never blocks.
    ///
    /// # Errors
    /// It is one too many.
    pub fn admit(
        &self,
        route: &str,
        answered_here: bool,
        client: impl FnOnce() -> IpAddr,
    ) -> Result<Admission, Beyond> {
        const fn beyond(reason: Reason) -> Beyond {
            Beyond { reason, retry_after: 1 }
        }
        let limits = if self.routes.is_empty() { None } else { self.routes.get(route) };
        let (mut running, mut of_route) = (None, None);
        if !answered_here {
            if self.memory.is_short() {
                return Err(beyond(Reason::Memory));
            }
            if let Some(max) = self.process.requests {
                running = Some(self.gate.admit(max).ok_or(beyond(Reason::Requests))?);
            }
            if let Some(limits) = limits
                && let Some(max) = limits.requests_max
            {
                of_route = Some(limits.gate.admit(max).ok_or(beyond(Reason::RouteRequests))?);
            }
        }
        if let Some(rate) = limits.and_then(|limits| limits.rate.as_ref()) {
            let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            rate.take(client(), now).map_err(|wait| Beyond {
                reason: Reason::Rate,
                retry_after: wait.div_ceil(1_000_000_000).max(1),
            })?;
        }
        Ok(Admission { _running: running, _of_route: of_route })
    }

    /// How requests to `service` are sent again; none of one that no route leads to.
    #[must_use]
    pub fn retries(&self, service: &str) -> Option<&Arc<Retries>> {
        self.services.get(service)
    }

    /// Takes note of how many bytes of memory are in use; says whether that changes what is let in,
    /// and the limit.
    pub fn judge_memory(&self, resident: u64) -> Option<(bool, u64)> {
        let changed = self.memory.judge(resident, self.process.memory);
        changed.then(|| (self.memory.is_short(), self.process.memory.unwrap_or(0)))
    }

    /// Whether memory is limited at all.
    #[must_use]
    pub fn watches_memory(&self) -> bool {
        self.process.memory.is_some() || self.memory.is_short()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::proxy::config::RateBy;
    use crate::units::{Period, Size};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn rules(requests_max: Option<u32>, rate: Option<u32>, process: ProcessRules) -> Rules {
        let rate_limit = rate.map(|requests| RateLimitConfig {
            requests,
            per: Period::from_secs(3600),
            burst: 0,
            by: RateBy::Client,
        });
        let route = RouteConfig { rate_limit, requests_max, ..RouteConfig::default() };
        let routes = BTreeMap::from([("api".to_owned(), route)]);
        Rules::new(&routes, &BTreeMap::new()).within(process)
    }

    fn admit(limits: &Limits, route: &str) -> Result<Admission, Reason> {
        limits.admit(route, false, || CLIENT).map_err(|beyond| beyond.reason)
    }

    #[test]
    fn each_limit_is_told_by_its_name_and_what_ends_makes_room() {
        let process = ProcessRules { requests: Some(2), memory: Some(1000) };
        let limits = Limits::compile(&rules(Some(1), None, process), [], None);
        let first = admit(&limits, "api").unwrap();
        assert_eq!(admit(&limits, "api").unwrap_err(), Reason::RouteRequests);
        let other = admit(&limits, "other").unwrap();
        assert_eq!(admit(&limits, "other").unwrap_err(), Reason::Requests);
        assert!(limits.admit("other", true, || CLIENT).is_ok(), "what is answered here");
        drop(first);
        assert!(admit(&limits, "api").is_ok(), "a refusal has kept no place");
        drop(other);
        assert_eq!(limits.judge_memory(1001), Some((true, 1000)));
        assert_eq!(admit(&limits, "other").unwrap_err(), Reason::Memory);
        assert!(limits.admit("other", true, || CLIENT).is_ok(), "what is answered here");
    }

    #[test]
    fn a_reload_forgets_nothing_that_is_still_limited_in_the_same_way() {
        let web: Arc<str> = "web".into();
        let process = ProcessRules { requests: Some(5), memory: None };
        let first = Limits::compile(&rules(Some(1), Some(2), process), [&web], None);
        let _running = admit(&first, "api").unwrap();
        for _ in 0..50 {
            first.retries("web").unwrap().budget.requested(1);
        }

        let second = Limits::compile(&rules(Some(3), Some(2), process), [&web], Some(&first));
        assert!(admit(&second, "api").is_ok(), "a wider route");
        assert_eq!(admit(&second, "api").unwrap_err(), Reason::Rate, "two were let in before");
        assert_eq!(second.gate.running(), 1);
        assert!(Arc::ptr_eq(
            &first.retries("web").unwrap().budget,
            &second.retries("web").unwrap().budget
        ));
        let third = Limits::compile(&rules(None, Some(9), process), [&web], Some(&second));
        assert!(admit(&third, "api").is_ok(), "another rate begins anew");
    }

    #[test]
    fn a_rate_says_when_to_come_again() {
        let limits = Limits::compile(&rules(None, Some(1), ProcessRules::default()), [], None);
        assert!(admit(&limits, "api").is_ok());
        let beyond = limits.admit("api", true, || CLIENT).unwrap_err();
        assert_eq!(beyond.reason, Reason::Rate, "also where the answer is given here");
        assert!((3590..=3600).contains(&beyond.retry_after), "{beyond:?}");
    }

    #[test]
    fn limits_that_cannot_be_are_told_with_their_key() {
        let rate = |requests, per| {
            let rate = RateLimitConfig { requests, per, burst: 0, by: RateBy::Client };
            RouteConfig { rate_limit: Some(rate), ..RouteConfig::default() }
        };
        let after = RouteConfig { limit_rate_after: Some(Size(1)), ..RouteConfig::default() };
        for (case, route, key) in [
            ("nobody", rate(0, Period::from_secs(1)), Some("rate_limit")),
            ("no time", rate(1, Period::from_secs(0)), Some("rate_limit")),
            ("a start for nothing", after, Some("limit_rate_after")),
            ("nothing said", RouteConfig::default(), None),
            ("a rate", rate(1, Period::from_secs(1)), None),
        ] {
            assert_eq!(problem(&route).map(|(key, _)| key), key, "{case}");
        }
    }
}

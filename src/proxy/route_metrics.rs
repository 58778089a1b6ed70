//! What is counted for each route: requests, errors, and how long they took.
//!
//! Every request is counted, on counters of the thread that carries it, and a route finds its
//! counters once. There are as many routes with counters of their own as `[limits] metric_routes`
//! says; all others share the route `(other)`.

mod collect;
mod sums;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::core::Desc;

use super::added_metrics::{Added, Told};
pub use sums::Sums;

/// Requests that no route takes.
const NONE: &str = "(none)";
/// Requests of routes beyond the limit.
const OTHER: &str = "(other)";
/// Threads that have counters of their own; more share them.
pub(super) const SHARDS: usize = 16;
/// Status classes, by the first digit; without an answer the first.
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Buckets of a histogram, without the last one.
const BUCKETS: usize = 16;
/// Upper bound of the first bucket in microseconds; each further one is twice as high.
const FROM_MICROS: u64 = 250;

/// Why a request failed, or was not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No endpoint could be connected to.
    Connect,
    /// No TLS with the endpoint came about: it is somebody else, or does not take us.
    Tls,
    /// The endpoint took too long.
    Timeout,
    /// The endpoint broke off, or what it sent was no answer.
    Reset,
    /// The client broke off, or what it sent was no request.
    Client,
    /// Ours.
    Internal,
    /// We did not carry it.
    Refused,
    /// It was cut: its endpoint or the process has had its time.
    Cut,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Client,
        Self::Internal,
        Self::Refused,
        Self::Cut,
    ];

    /// For labels and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Client => "client",
            Self::Internal => "internal",
            Self::Refused => "refused",
            Self::Cut => "cut",
        }
    }
}

/// How a request ended. Times are in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Status of the answer, 0 without one.
    pub status: u16,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// From the end of its head to the end of the answer.
    pub duration: u64,
    /// From being sent to an endpoint to the head of its answer.
    pub response: Option<u64>,
    /// From the end of its head to being sent to an endpoint.
    pub added: Option<u64>,
    /// Bytes of the bodies that came, and that went to the client.
    pub bytes: [u64; 2],
}

/// The counters of one route, and the way to those of its listener.
#[derive(Debug)]
pub struct RouteMetrics {
    shards: [OnceLock<Box<Shard>>; SHARDS],
    added: Arc<Added>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    classes: [AtomicU64; CLASSES.len()],
    faults: [AtomicU64; Fault::ALL.len()],
    duration: Spread,
    response: Spread,
    bytes: [AtomicU64; 2],
    denied: AtomicU64,
}

/// A histogram with buckets that double.
#[derive(Debug, Default)]
struct Spread {
    buckets: [AtomicU64; BUCKETS + 1],
    sum_micros: AtomicU64,
}

impl Spread {
    fn observe(&self, micros: u64) {
        // Bucket n holds what is above 250·2^(n-1), up to 250·2^n.
        let doubled = micros.saturating_sub(1) / FROM_MICROS;
        let bucket = (u64::BITS - doubled.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS)].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }
}

/// The counters of this thread, as a number below [`SHARDS`].
pub(super) fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        own.get()
    })
}

impl RouteMetrics {
    fn of(added: &Arc<Added>) -> Arc<Self> {
        Arc::new(Self { shards: Default::default(), added: Arc::clone(added) })
    }

    /// Counts the end of a request. Allocates with the first one of a thread only.
    pub fn count(&self, outcome: &Outcome) {
        let shard = self.shards[shard()].get_or_init(Box::default);
        shard.classes[usize::from(outcome.status / 100).min(5)].fetch_add(1, Relaxed);
        if let Some(fault) = outcome.fault {
            shard.faults[fault as usize].fetch_add(1, Relaxed);
            if fault == Fault::Refused && matches!(outcome.status, 401 | 403 | 429) {
                shard.denied.fetch_add(1, Relaxed);
            }
        }
        for (counter, bytes) in shard.bytes.iter().zip(outcome.bytes) {
            if bytes > 0 {
                counter.fetch_add(bytes, Relaxed);
            }
        }
        shard.duration.observe(outcome.duration);
        if let Some(response) = outcome.response {
            shard.response.observe(response);
        }
        if let Some(added) = outcome.added {
            self.added.observe(added);
        }
    }

    fn sum(&self, part: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| part(shard).load(Relaxed)).sum()
    }

    fn told(&self, part: impl Fn(&Shard) -> &Spread) -> Told {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for at in 0..BUCKETS {
            count += self.sum(|shard| &part(shard).buckets[at]);
            buckets.push(((FROM_MICROS << at) as f64 / 1e6, count));
        }
        count += self.sum(|shard| &part(shard).buckets[BUCKETS]);
        let micros = self.sum(|shard| &part(shard).sum_micros);
        Told { buckets, count, sum_seconds: micros as f64 / 1e6 }
    }
}

/// A route's way to its counters, found once.
#[derive(Debug, Default)]
pub struct RouteHandle(OnceLock<Arc<RouteMetrics>>);

impl PartialEq for RouteHandle {
    /// What was counted makes no route another one.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The counters of all routes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Routes(Arc<Known>);

#[derive(Debug, Default)]
struct Counters {
    /// By listener and route.
    routes: HashMap<[Arc<str>; 2], Arc<RouteMetrics>>,
    /// By listener.
    added: HashMap<Arc<str>, Arc<Added>>,
}

impl Counters {
    fn get(&mut self, key: [Arc<str>; 2]) -> Arc<RouteMetrics> {
        let added = self.added.entry(Arc::clone(&key[0])).or_default();
        Arc::clone(self.routes.entry(key).or_insert_with(|| RouteMetrics::of(added)))
    }
}

#[derive(Debug)]
struct Known {
    counters: Mutex<Counters>,
    /// Routes that have counters of their own.
    most: AtomicUsize,
    descriptions: Vec<Desc>,
}

const FAMILIES: [(&str, &str, &[&str]); 5] = [
    (
        "portolan_proxy_route_requests_total",
        "HTTP requests by listener, route and class of the status.",
        &["listener", "route", "class"],
    ),
    (
        "portolan_proxy_request_errors_total",
        "HTTP requests that failed or were not carried, by listener, route and reason.",
        &["listener", "route", "reason"],
    ),
    (
        "portolan_proxy_request_duration_seconds",
        "Time from the end of a request's head to the end of its answer.",
        &["listener", "route"],
    ),
    (
        "portolan_proxy_endpoint_response_seconds",
        "Time from the head being sent to an endpoint to the head of its answer.",
        &["listener", "route"],
    ),
    (
        "portolan_proxy_recv_to_send_seconds",
        "Time from the last byte of a request's head to its first byte being sent to an endpoint.",
        &["listener"],
    ),
];

impl Routes {
    /// Registers the metrics of routes.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let descriptions = FAMILIES.map(|(name, help, labels)| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
        });
        let routes = Self(Arc::new(Known {
            counters: Mutex::default(),
            most: AtomicUsize::new(1000),
            descriptions: descriptions.into_iter().collect::<Result<_, _>>()?,
        }));
        registry.register(Box::new(routes.clone()))?;
        Ok(routes)
    }

    /// From now on so many routes have counters of their own; those that have them keep them.
    pub fn set_most(&self, routes: usize) {
        self.0.most.store(routes, Relaxed);
    }

    /// The counters of requests to `listener` that no route takes.
    #[must_use]
    pub fn none(&self, listener: &Arc<str>) -> Arc<RouteMetrics> {
        let mut counters = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.get([Arc::clone(listener), NONE.into()])
    }

    /// The counters of the route called `name`, whose way to them is `handle`. Blocks for the
    /// first request of a route only.
    #[must_use]
    pub fn of<'a>(
        &self,
        listener: &Arc<str>,
        name: &Arc<str>,
        handle: &'a RouteHandle,
    ) -> &'a RouteMetrics {
        handle.0.get_or_init(|| self.find(listener, name))
    }

    fn find(&self, listener: &Arc<str>, name: &Arc<str>) -> Arc<RouteMetrics> {
        let mut counters = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let own = [Arc::clone(listener), Arc::clone(name)];
        if let Some(known) = counters.routes.get(&own) {
            return Arc::clone(known);
        }
        let most = self.0.most.load(Relaxed);
        let single = |key: &[Arc<str>; 2]| !matches!(&*key[1], NONE | OTHER);
        let singles =
            |counters: &Counters| counters.routes.keys().filter(|key| single(key)).count();
        if singles(&counters) >= most {
            // Those of routes that are gone make room.
            counters.routes.retain(|key, counters| !single(key) || Arc::strong_count(counters) > 1);
        }
        let key =
            if singles(&counters) < most { own } else { [Arc::clone(listener), OTHER.into()] };
        counters.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, duration: u64) -> Outcome {
        let (response, added) = (Some(300), Some(20));
        Outcome { status, fault: None, duration, response, added, bytes: [0, 0] }
    }

    fn page(registry: &prometheus::Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        for (micros, bucket) in [
            (0, 0),
            (1, 0),
            (250, 0),
            (251, 1),
            (500, 1),
            (501, 2),
            (250 << 15, 15),
            ((250 << 15) + 1, 16),
            (u64::MAX, 16),
        ] {
            let spread = Spread::default();
            spread.observe(micros);
            let at = spread.buckets.iter().position(|count| count.load(Relaxed) == 1);
            assert_eq!(at, Some(bucket), "{micros}");
        }
    }

    #[test]
    fn requests_of_all_threads_are_told_together_by_listener_route_and_class() {
        let registry = prometheus::Registry::new();
        let routes = Routes::register(&registry).unwrap();
        let (listener, name) = (Arc::from("web"), Arc::from("shop"));
        let handle = RouteHandle::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let counters = routes.of(&listener, &name, &handle);
                    counters.count(&outcome(200, 600));
                    counters.count(&Outcome { fault: Some(Fault::Timeout), ..outcome(504, 100) });
                });
            }
        });
        routes.none(&listener).count(&Outcome { response: None, ..outcome(404, 1) });
        let (own, other) = (Arc::from("shop"), Arc::from("other"));
        let sums = routes.of_routes(&listener, [&own, &other].into_iter());
        assert_eq!(sums.classes, [0, 0, 3, 0, 0, 3], "of these routes and no others");
        assert_eq!(routes.of_routes(&other, [&own].into_iter()), Sums::default());
        let page = page(&registry);
        for line in [
            "portolan_proxy_route_requests_total{class=\"2xx\",listener=\"web\",route=\"shop\"} 3",
            "portolan_proxy_route_requests_total{class=\"4xx\",listener=\"web\",route=\"(none)\"} 1",
            "portolan_proxy_request_errors_total{listener=\"web\",reason=\"timeout\",route=\"shop\"} 3",
            "portolan_proxy_request_duration_seconds_bucket{listener=\"web\",route=\"shop\",le=\"0.00025\"} 3",
            "portolan_proxy_request_duration_seconds_bucket{listener=\"web\",route=\"shop\",le=\"0.001\"} 6",
            "portolan_proxy_request_duration_seconds_bucket{listener=\"web\",route=\"shop\",le=\"+Inf\"} 6",
            "portolan_proxy_request_duration_seconds_sum{listener=\"web\",route=\"shop\"} 0.0021",
            "portolan_proxy_endpoint_response_seconds_count{listener=\"web\",route=\"shop\"} 6",
            "portolan_proxy_recv_to_send_seconds_bucket{listener=\"web\",le=\"0.0000175\"} 0",
            "portolan_proxy_recv_to_send_seconds_bucket{listener=\"web\",le=\"0.00002\"} 7",
            "portolan_proxy_recv_to_send_seconds_count{listener=\"web\"} 7",
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line} in\n{page}");
        }
        assert!(!page.contains("reason=\"reset\""), "what never happened is not told:\n{page}");
    }

    #[test]
    fn routes_beyond_the_limit_are_counted_together_and_those_that_are_gone_make_room() {
        let registry = prometheus::Registry::new();
        let routes = Routes::register(&registry).unwrap();
        routes.set_most(2);
        let listener = Arc::from("web");
        let count = |name: &str| {
            let handle = RouteHandle::default();
            routes.of(&listener, &Arc::from(name), &handle).count(&outcome(200, 1));
            handle
        };
        let mut held = vec![count("a"), count("b"), count("c"), count("d")];
        routes.none(&listener).count(&outcome(404, 1));
        let line = |name: &str, count: u32| {
            format!("{{class=\"2xx\",listener=\"web\",route=\"{name}\"}} {count}\n")
        };
        let told = page(&registry);
        assert!(told.contains(&line("a", 1)) && told.contains(&line("(other)", 2)), "{told}");
        assert!(!told.contains("\"c\""), "{told}");

        held.remove(0);
        held.push(count("e"));
        let told = page(&registry);
        assert!(told.contains(&line("e", 1)) && told.contains(&line("b", 1)), "{told}");
        assert!(!told.contains(&line("a", 1)), "{told}");
    }
}

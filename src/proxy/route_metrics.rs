//! What is counted for each route: requests, errors, and how long they took.
//!
//! Every request is counted, on counters of the thread that carries it, and a route finds its
//! counters once. There are as many routes with counters of their own as `[limits] metric_routes`
//! says; all others share the route `(other)`.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// Requests that no route takes.
const NONE: &str = "(none)";
/// Requests of routes beyond the limit.
const OTHER: &str = "(other)";
/// Threads that have counters of their own; more share them.
const SHARDS: usize = 16;
/// Status classes, by the first digit; without an answer the first.
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Buckets of a histogram, without the last one.
const BUCKETS: usize = 16;
/// Upper bound of the first bucket in microseconds; each further one is twice as high.
const FROM_MICROS: u64 = 250;
/// The same for the time that we add.
const ADDED_FROM_MICROS: u64 = 10;

/// Why a request failed, or was not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No endpoint could be connected to.
    Connect,
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
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::Connect, Self::Timeout, Self::Reset, Self::Client, Self::Internal, Self::Refused];

    /// For labels and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Client => "client",
            Self::Internal => "internal",
            Self::Refused => "refused",
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
}

/// The counters of one route.
#[derive(Debug, Default)]
pub struct RouteMetrics {
    shards: [OnceLock<Box<Shard>>; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    classes: [AtomicU64; CLASSES.len()],
    faults: [AtomicU64; Fault::ALL.len()],
    duration: Spread,
    response: Spread,
    added: Spread,
}

/// A histogram with buckets that double.
#[derive(Debug, Default)]
struct Spread {
    buckets: [AtomicU64; BUCKETS + 1],
    sum_micros: AtomicU64,
}

impl Spread {
    fn observe(&self, micros: u64, from: u64) {
        // Bucket n holds what is above from·2^(n-1), up to from·2^n.
        let doubled = micros.saturating_sub(1) / from;
        let bucket = (u64::BITS - doubled.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS)].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }
}

/// The counters of this thread, as a number below [`SHARDS`].
fn shard() -> usize {
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
    /// Counts the end of a request. Allocates with the first one of a thread only.
    pub fn count(&self, outcome: &Outcome) {
        let shard = self.shards[shard()].get_or_init(Box::default);
        shard.classes[usize::from(outcome.status / 100).min(5)].fetch_add(1, Relaxed);
        if let Some(fault) = outcome.fault {
            shard.faults[fault as usize].fetch_add(1, Relaxed);
        }
        shard.duration.observe(outcome.duration, FROM_MICROS);
        if let Some(response) = outcome.response {
            shard.response.observe(response, FROM_MICROS);
        }
        if let Some(added) = outcome.added {
            shard.added.observe(added, ADDED_FROM_MICROS);
        }
    }

    fn sum(&self, part: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| part(shard).load(Relaxed)).sum()
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

#[derive(Debug)]
struct Known {
    /// By listener and route.
    counters: Mutex<HashMap<[Arc<str>; 2], Arc<RouteMetrics>>>,
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
        Arc::clone(counters.entry([Arc::clone(listener), NONE.into()]).or_default())
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
        if let Some(known) = counters.get(&own) {
            return Arc::clone(known);
        }
        let most = self.0.most.load(Relaxed);
        let single = |key: &[Arc<str>; 2]| !matches!(&*key[1], NONE | OTHER);
        if counters.keys().filter(|key| single(key)).count() >= most {
            // Those of routes that are gone make room.
            counters.retain(|key, counters| !single(key) || Arc::strong_count(counters) > 1);
        }
        let room = counters.keys().filter(|key| single(key)).count() < most;
        let key = if room { own } else { [Arc::clone(listener), OTHER.into()] };
        Arc::clone(counters.entry(key).or_default())
    }
}

impl Collector for Routes {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counters = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metrics: [Vec<Metric>; FAMILIES.len()] = Default::default();
        let mut added: HashMap<Arc<str>, Vec<Arc<RouteMetrics>>> = HashMap::new();
        for ([listener, route], counted) in &*counters {
            let labels = [("listener", &**listener), ("route", &**route)];
            for (at, class) in CLASSES.iter().enumerate() {
                let count = counted.sum(|shard| &shard.classes[at]);
                metrics[0].extend(counter(&labels, ("class", class), count));
            }
            for fault in Fault::ALL {
                let count = counted.sum(|shard| &shard.faults[fault as usize]);
                metrics[1].extend(counter(&labels, ("reason", fault.word()), count));
            }
            let one = std::slice::from_ref(counted);
            metrics[2].extend(histogram(&labels, one, FROM_MICROS, |shard| &shard.duration));
            metrics[3].extend(histogram(&labels, one, FROM_MICROS, |shard| &shard.response));
            added.entry(Arc::clone(listener)).or_default().push(Arc::clone(counted));
        }
        for (listener, all) in &added {
            let labels = [("listener", &**listener)];
            metrics[4].extend(histogram(&labels, all, ADDED_FROM_MICROS, |shard| &shard.added));
        }
        let families = FAMILIES.iter().zip(metrics).enumerate();
        let families = families.filter(|(_, (_, metrics))| !metrics.is_empty());
        families
            .map(|(at, ((name, help, _), metrics))| {
                let mut family = MetricFamily::default();
                family.set_name((*name).to_owned());
                family.set_help((*help).to_owned());
                let counts = at < 2;
                let kind = if counts { MetricType::COUNTER } else { MetricType::HISTOGRAM };
                family.set_field_type(kind);
                family.set_metric(metrics);
                family
            })
            .collect()
    }
}

fn labels(labels: &[(&str, &str)], more: Option<(&str, &str)>) -> Vec<LabelPair> {
    let mut pairs: Vec<LabelPair> = labels
        .iter()
        .copied()
        .chain(more)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect();
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    pairs
}

/// None for what never happened: most routes have few of all these.
fn counter(known: &[(&str, &str)], more: (&str, &str), count: u64) -> Option<Metric> {
    (count > 0).then(|| {
        let mut value = Counter::default();
        value.set_value(count as f64);
        let mut metric = Metric::from_label(labels(known, Some(more)));
        metric.set_counter(value);
        metric
    })
}

fn histogram(
    known: &[(&str, &str)],
    all: &[Arc<RouteMetrics>],
    from: u64,
    part: impl Fn(&Shard) -> &Spread,
) -> Option<Metric> {
    let sum = |of: &dyn Fn(&Spread) -> &AtomicU64| -> u64 {
        all.iter().map(|counted| counted.sum(|shard| of(part(shard)))).sum()
    };
    let mut count = 0;
    let mut buckets = Vec::with_capacity(BUCKETS);
    for at in 0..BUCKETS {
        count += sum(&|spread| &spread.buckets[at]);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound((from << at) as f64 / 1e6);
        bucket.set_cumulative_count(count);
        buckets.push(bucket);
    }
    count += sum(&|spread| &spread.buckets[BUCKETS]);
    (count > 0).then(|| {
        let mut value = Histogram::default();
        value.set_sample_count(count);
        value.set_sample_sum(sum(&|spread| &spread.sum_micros) as f64 / 1e6);
        value.set_bucket(buckets);
        let mut metric = Metric::from_label(labels(known, None));
        metric.set_histogram(value);
        metric
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, duration: u64) -> Outcome {
        Outcome { status, fault: None, duration, response: Some(300), added: Some(20) }
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
            spread.observe(micros, FROM_MICROS);
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

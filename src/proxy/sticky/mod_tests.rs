use std::net::SocketAddr;

use super::*;
use crate::catalog::{Instance, Snapshot};
use crate::proxy::Settings;
use crate::proxy::table;
use crate::proxy::upstream::tests::{instance, service};
use crate::units::Period;

const START: u64 = 1_800_000_000_000;

fn sticky(cookie: Option<&str>, source: Option<u64>) -> StickyConfig {
    StickyConfig { cookie: cookie.map(Into::into), source: source.map(Period::from_secs) }
}

fn tcp(service: &str, sticky: Option<StickyConfig>) -> ListenerConfig {
    let mut listener = table::tests::tcp(service);
    listener.tcp.as_mut().unwrap().sticky = sticky;
    listener
}

/// Tables over `web` and `next`, both sticky, by a clock of its own.
struct World {
    settings: Arc<Settings>,
    clock: Arc<AtomicU64>,
    table: ProxyTable,
}

impl World {
    fn new() -> Self {
        let config = Some(sticky(None, Some(10)));
        let listeners = ["web", "next"].map(|name| (name.to_owned(), tcp(name, config.clone())));
        let settings =
            Settings::compile(&listeners.into(), &BTreeMap::new(), &BTreeMap::new()).unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let metrics = Metrics::register(&Registry::new()).unwrap();
        settings.stick(Arc::new(Sticking {
            keys: None,
            sources: Arc::new(metrics.sources(100, [1, 2])),
            clock: Clock::showing(Arc::clone(&clock)),
        }));
        let mut world = Self { settings: Arc::new(settings), clock, table: ProxyTable::default() };
        world.tell(&[("web", &["a", "b"]), ("next", &["c"])]);
        world
    }

    fn tell(&mut self, services: &[(&str, &[&str])]) {
        let at = |id: &str| format!("10.0.0.{}", id.as_bytes()[0]);
        let services = services.iter().map(|(name, ids)| {
            let instances: Vec<Arc<Instance>> =
                ids.iter().map(|id| instance(id, &at(id), 80, 1)).collect();
            (Arc::from(*name), service(name, &instances))
        });
        let snapshot = Snapshot {
            generation: self.table.generation + 1,
            services: services.collect(),
            registries: Arc::new([]),
            ..Snapshot::default()
        };
        self.table = ProxyTable::compile(&self.settings, None, &snapshot);
    }

    fn visit(&self, client: &str) -> Visit {
        let config = sticky(None, Some(10));
        Visit::of(&self.table, Some(&config), client.parse().unwrap()).unwrap()
    }

    fn endpoint(&self, service: &str, number: usize) -> Arc<Endpoint> {
        Arc::clone(&self.table.upstream(&ServiceRef::parse(service)).unwrap().endpoints[number])
    }

    /// Where `client` is bound to among `services`, and what becomes of it.
    fn bound(&self, client: &str, services: &[&str]) -> (Option<(usize, SocketAddr)>, Outcome) {
        let mut visit = self.visit(client);
        let services: Vec<_> = services.iter().map(|name| ServiceRef::parse(name)).collect();
        let bound = visit.bound(&self.table, services.iter());
        let bond = if bound.is_some() { Bond::Home } else { Bond::New };
        let outcome = visit.outcome(bond);
        (bound.map(|(number, endpoint)| (number, endpoint.address)), outcome)
    }
}

#[tokio::test]
async fn a_client_is_bound_for_its_time_after_it_left() {
    let world = World::new();
    let web = ServiceRef::parse("web");
    let b = world.endpoint("web", 1);
    assert_eq!(world.bound("1.2.3.4", &["web"]), (None, Outcome::New));
    let stay = world.visit("1.2.3.4").goes(&web, &b, false);
    let there = (Some((0, b.address)), Outcome::Bound);
    assert_eq!(world.bound("1.2.3.4", &["web"]), there, "while it is there");
    assert_eq!(world.bound("1.2.3.5", &["web"]), (None, Outcome::New), "nobody else");
    world.clock.store(START + 9_000, Ordering::Relaxed);
    drop(stay);
    world.clock.store(START + 18_999, Ordering::Relaxed);
    assert_eq!(world.bound("1.2.3.4", &["web"]), there);
    world.clock.store(START + 19_000, Ordering::Relaxed);
    assert_eq!(world.bound("1.2.3.4", &["web"]), (None, Outcome::New), "ten seconds later");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_connection_outlasts_the_time_is_seen_all_along() {
    let world = World::new();
    let a = world.endpoint("web", 0);
    let stay = world.visit("1.2.3.4").goes(&ServiceRef::parse("web"), &a, true);
    for second in 1..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.clock.store(START + second * 1000, Ordering::Relaxed);
        tokio::task::yield_now().await;
        let bound = world.bound("1.2.3.4", &["web"]).0;
        assert_eq!(bound, Some((0, a.address)), "after {second} s");
    }
    drop(stay);
    world.clock.store(START + 70_000, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.bound("1.2.3.4", &["web"]).1, Outcome::New, "nobody is there any more");
}

#[tokio::test]
async fn a_binding_is_broken_when_the_endpoint_is_gone_and_survives_when_others_change() {
    let mut world = World::new();
    let a = world.endpoint("web", 0);
    drop(world.visit("1.2.3.4").goes(&ServiceRef::parse("web"), &a, false));
    world.tell(&[("web", &["x", "a"]), ("next", &[])]);
    assert_eq!(world.bound("1.2.3.4", &["web"]), (Some((0, a.address)), Outcome::Bound));
    world.tell(&[("web", &["x"])]);
    assert_eq!(world.bound("1.2.3.4", &["web"]), (None, Outcome::Broken));
    world.tell(&[]);
    assert_eq!(world.bound("1.2.3.4", &["web"]), (None, Outcome::Broken));
}

#[tokio::test]
async fn of_several_services_the_one_counts_where_the_client_was_last() {
    let mut world = World::new();
    let both = ["web", "next"];
    let (a, c) = (world.endpoint("web", 0), world.endpoint("next", 0));
    drop(world.visit("1.2.3.4").goes(&ServiceRef::parse("web"), &a, false));
    assert_eq!(world.bound("1.2.3.4", &both).0, Some((0, a.address)));
    assert_eq!(world.bound("1.2.3.4", &["next"]), (None, Outcome::New), "not of this one");
    world.clock.store(START + 1, Ordering::Relaxed);
    drop(world.visit("1.2.3.4").goes(&ServiceRef::parse("next"), &c, false));
    assert_eq!(world.bound("1.2.3.4", &both).0, Some((1, c.address)));
    assert_eq!(world.bound("1.2.3.4", &["next", "web"]).0, Some((0, c.address)));
    world.tell(&[("web", &["a"])]);
    assert_eq!(world.bound("1.2.3.4", &both).0, Some((0, a.address)), "the other one is gone");
}

#[test]
fn what_is_sticky_is_indexed_and_nothing_else() {
    let listeners = [
        ("tcp".to_owned(), tcp("db:sql", Some(sticky(None, Some(1))))),
        ("plain".to_owned(), tcp("cache", None)),
    ]
    .into();
    let route = |service: Option<&str>, split: &[&str], sticky| RouteConfig {
        service: service.map(Into::into),
        split: split.iter().map(|name| ((*name).to_owned(), 1)).collect(),
        sticky,
        ..RouteConfig::default()
    };
    let cookie = || Some(sticky(Some("a"), None));
    let routes = [
        ("one".to_owned(), route(Some("web"), &[], cookie())),
        ("two".to_owned(), route(None, &["blue", "green"], cookie())),
        ("loose".to_owned(), route(Some("loose"), &[], None)),
    ]
    .into();
    let found = wanted(&listeners, &routes);
    let want: HashSet<Arc<str>> = ["db:sql", "web", "blue", "green"].map(Arc::from).into();
    assert_eq!(found, want);
    assert_eq!(used(listeners.values(), routes.values()), (true, true));
    assert_eq!(used([].into_iter(), routes.values()), (true, false));
}

#[test]
fn what_cannot_be_sticky_is_refused_at_its_place() {
    let route = |sticky, service: Option<&str>| RouteConfig {
        sticky: Some(sticky),
        service: service.map(Into::into),
        ..RouteConfig::default()
    };
    let rivals = |first: &str, second: &str, host: Option<&str>| {
        let one = route(sticky(Some("a"), None), Some(first));
        let other = RouteConfig {
            host: host.map(Into::into),
            ..route(sticky(Some("a"), None), Some(second))
        };
        unfit(&BTreeMap::new(), &[("x".to_owned(), one), ("y".to_owned(), other)].into())
    };
    assert_eq!(rivals("web", "web", None), []);
    assert_eq!(rivals("web", "api", Some("other.example")), []);
    let found = rivals("web", "api", None);
    assert_eq!((found.len(), &*found[0].path[1]), (1, "y"), "{found:?}");
    assert!(found[0].message.contains("the cookie of [route.x] too"), "{found:?}");

    for (case, listener, routed, path, want) in [
        ("a cookie by TCP", Some(sticky(Some("a"), None)), None, "listener", "sees no cookies"),
        ("nothing by TCP", Some(sticky(None, None)), None, "listener", "sticky: needs `source`"),
        ("both", None, Some(route(sticky(Some("a"), Some(1)), Some("web"))), "route", "keep one"),
        ("no service", None, Some(route(sticky(Some("a"), None), None)), "route", "no service"),
    ] {
        let listeners = [("x".to_owned(), tcp("web", listener))].into();
        let routes = routed.map(|route| ("x".to_owned(), route)).into_iter().collect();
        let found = unfit(&listeners, &routes);
        assert_eq!(found.len(), 1, "{case}: {found:?}");
        assert_eq!(found[0].path, [path.to_owned(), "x".to_owned()], "{case}");
        assert!(found[0].message.contains(want), "{case}: {found:?}");
    }
}

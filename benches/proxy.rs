//! Instruction-sized costs of the proxy's decisions: pick, route, sanitize, compile.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan::catalog::model::{Address, Health, Instance, Port, Service};
use portolan::catalog::{Shards, Snapshot};
use portolan::proxy::balance::{POLICIES, PickKey};
use portolan::proxy::http::sanitize::{Limits, end_of_head, head};
use portolan::proxy::route::{RequestView, RouteTable};
use portolan::proxy::upstream::Upstream;
use portolan::proxy::{ListenerConfig, ProxyTable, RouteConfig, Settings};
use portolan::random;

fn service(name: &str, instances: usize) -> Arc<Service> {
    let instance = |index: usize| {
        let address = format!("10.0.{}.{}", index >> 8, index & 255);
        Arc::new(Instance {
            ports: Arc::new([Port { name: "".into(), number: 80 }]),
            health: Health::Healthy,
            ..Instance::bare(
                "bench",
                &index.to_string(),
                Address::parse(&address).expect("an address"),
            )
        })
    };
    let instances: Arc<[_]> = (0..instances).map(instance).collect();
    Arc::new(Service {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    })
}

fn routes(count: usize) -> BTreeMap<String, RouteConfig> {
    let route = |number: usize| {
        let text = format!(
            "listener = \"web\"\nhost = \"host-{}.test\"\npath = \"/p{number}\"\nservice = \"s-{number}\"",
            number / 10
        );
        (format!("r{number}"), toml::from_str(&text).expect("a route"))
    };
    (0..count).map(route).collect()
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for (name, build) in POLICIES {
        for size in [3, 1000] {
            let upstream = Upstream::compile(Some(&service("web", size)), "", *build, None, None);
            group.bench_with_input(
                BenchmarkId::new(*name, size),
                &upstream,
                |bencher, upstream| {
                    bencher.iter(|| {
                        let key = PickKey::new(random::bits(), 1_000_000);
                        black_box(upstream.pick(key).map(|endpoint| endpoint.begin()))
                    });
                },
            );
        }
    }
}

/// Requests for every route in turn, each with a path below that of its route.
fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let headers = http::HeaderMap::new();
    for size in [10, 10_000] {
        let routes = routes(size);
        let table = RouteTable::compile(routes.iter().map(|(name, route)| (&**name, route)));
        let table = table.expect("routes");
        let asked: Vec<(String, String)> = (0..4096)
            .map(|turn| turn * 7919 % size)
            .map(|number| (format!("host-{}.test", number / 10), format!("/p{number}/users/7")))
            .collect();
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let (host, path) = &asked[turn % asked.len()];
                turn += 1;
                let view = RequestView {
                    host,
                    path,
                    query: "",
                    method: "GET",
                    headers: &headers,
                    client: [192, 0, 2, 1].into(),
                };
                black_box(table.route(black_box(&view)).is_some())
            });
        });
    }
}

fn sanitize(criterion: &mut Criterion) {
    let request =
        b"GET /index.html?x=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\n\
        Accept: */*\r\nAccept-Encoding: gzip, br\r\nCookie: session=0123456789abcdef\r\n\r\n";
    let limits = Limits { head_max: 65_536, headers_max: 100 };
    criterion.bench_function("sanitize", |bencher| {
        bencher.iter(|| {
            let end = end_of_head(black_box(request), limits).ok().flatten().unwrap_or_default();
            black_box(head(&request[..end], limits))
        });
    });
}

fn compile(criterion: &mut Criterion) {
    let listener: ListenerConfig =
        toml::from_str("[http]\nbind = [\"127.0.0.1:0\"]").expect("a listener");
    let listeners = BTreeMap::from([("web".to_owned(), listener)]);
    let settings = Settings::compile(&listeners, &routes(10_000), &BTreeMap::new());
    let settings = Arc::new(settings.expect("settings"));
    let name = |number: usize| -> Arc<str> { format!("s-{number}").into() };
    let services: Shards<Arc<str>, Service> =
        (0..10_000).map(|number| (name(number), service(&name(number), 10))).collect();
    let before = Snapshot { generation: 1, services, ..Snapshot::default() };
    let table = ProxyTable::compile(&settings, None, &before);
    let mut after = before.clone();
    after.services.insert(name(77), service(&name(77), 11));
    criterion.bench_function("compile/proxy/one of 10000", |bencher| {
        bencher.iter(|| black_box(ProxyTable::compile(&settings, Some((&table, &before)), &after)));
    });
}

criterion_group!(benches, pick, route, sanitize, compile);
criterion_main!(benches);

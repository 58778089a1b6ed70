//! What one answer costs, and what one change among many services costs.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up shall fail")]
#![allow(missing_docs, reason = "the macros of criterion make public items without any")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan::catalog::model::{Address, Instance, Port, Service};
use portolan::catalog::{Shards, Snapshot};
use portolan::dns::wire::{Name, rtype};
use portolan::dns::{DnsConfig, Settings, Transport, ZoneTable, respond};

const CONFIG: &str = "listen = [\"127.0.0.1:53\"]\n\
    [zone.consul]\ndialect = \"consul\"\n\
    [zone.svc]\ndialect = \"plain\"\n";

fn settings() -> Arc<Settings> {
    let config: DnsConfig = toml::from_str(CONFIG).unwrap();
    Arc::new(Settings::compile(&config, "bench").unwrap())
}

/// A service of three instances; `turn` changes the address of the first.
fn service(number: u32, turn: u8) -> Arc<Service> {
    let instances: Arc<[Arc<Instance>]> = (0..3u32)
        .map(|index| {
            let first = if index == 0 { 10 + turn % 2 } else { 10 };
            let [_, b, c, d] = (number * 3 + index).to_be_bytes();
            Arc::new(Instance {
                ports: Arc::new([Port { name: "".into(), number: 8080 }]),
                tags: Arc::new(["prod".into()]),
                ..Instance::bare(
                    "bench",
                    &format!("i{index}"),
                    Address::Ip(IpAddr::V4(Ipv4Addr::new(first, b, c, d))),
                )
            })
        })
        .collect();
    Arc::new(Service {
        name: format!("s{number}").into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    })
}

fn snapshot(services: u32) -> Snapshot {
    let services: Shards<Arc<str>, Service> = (0..services)
        .map(|number| {
            let service = service(number, 0);
            (Arc::clone(&service.name), service)
        })
        .collect();
    Snapshot { generation: 1, services, ..Snapshot::default() }
}

/// A query with EDNS of 1232 bytes.
fn query(name: &str, qtype: u16) -> Vec<u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    query.extend_from_slice(Name::parse(name).unwrap().wire());
    query.extend_from_slice(&qtype.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    query
}

fn bench_respond(c: &mut Criterion) {
    let table = ZoneTable::compile(&settings(), None, &snapshot(10_000));
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut group = c.benchmark_group("respond");
    for (case, name, qtype) in [
        ("hit", "s77.svc", rtype::A),
        ("hit with datacenter", "s77.service.dc1.consul", rtype::A),
        ("srv", "s77.service.consul", rtype::SRV),
        ("nxdomain", "nope.svc", rtype::A),
        ("nodata", "s77.svc", rtype::AAAA),
    ] {
        let query = query(name, qtype);
        let mut out = Vec::with_capacity(4096);
        let mut seed = 0u64;
        group.bench_function(case, |b| {
            b.iter(|| {
                seed += 1;
                respond(&table, black_box(&query), Transport::Udp, client, seed, &mut out)
            });
        });
    }
    group.finish();
}

fn bench_compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile/one change");
    for services in [100, 1_000, 10_000, 100_000] {
        let settings = settings();
        let before = snapshot(services);
        let table = ZoneTable::compile(&settings, None, &before);
        // A table of its own for each run: the one before is what stands in production too.
        group.bench_function(BenchmarkId::from_parameter(services), |b| {
            let mut turn = 0u32;
            b.iter_batched(
                || {
                    turn += 1;
                    let mut now = before.clone();
                    let changed = service(turn.wrapping_mul(2_654_435_761) % services, 1);
                    now.services.insert(Arc::clone(&changed.name), changed);
                    now.generation += 1;
                    now
                },
                |now| (ZoneTable::compile(&settings, Some((&table, &before)), &now), now),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, bench_respond, bench_compile);
criterion_main!(benches);

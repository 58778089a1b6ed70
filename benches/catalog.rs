//! Costs of the catalog: assembling after one change, and from nothing.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan::catalog::assemble::{Inputs, Source, assemble};
use portolan::catalog::model::{Address, Health, Instance, Port};
use portolan::catalog::{RegistryState, RegistryView, SourceService, Verdicts};

fn service(number: usize, third: usize) -> SourceService {
    let instance = |index: usize| {
        let address = format!("10.{third}.{}.{}", number & 255, index);
        Arc::new(Instance {
            ports: Arc::new([Port { name: "".into(), number: 80 }]),
            tags: Arc::new(["v1".into()]),
            health: Health::Healthy,
            ..Instance::bare(
                "bench",
                &index.to_string(),
                Address::parse(&address).expect("an address"),
            )
        })
    };
    SourceService {
        name: format!("service-{number}").into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: (0..10).map(instance).collect(),
        problems: Vec::new(),
        suspect: None,
    }
}

fn inputs(view: &RegistryView) -> Inputs {
    let state = RegistryState::Live(view.clone());
    Inputs::new(vec![Source::new("bench", 0, state)], Arc::default(), Verdicts::default())
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("assemble");
    for size in [100, 10_000] {
        let services = (0..size).map(|number| service(number, 0)).collect();
        let view = RegistryView::default().replaced(services, Vec::new());
        let before = inputs(&view);
        let snapshot = assemble(None, &before, 1).expect("a snapshot");
        let after = inputs(&view.with(service(7, 1)));
        group.bench_function(BenchmarkId::new("one change of", size), |bencher| {
            bencher.iter(|| black_box(assemble(Some((&before, &snapshot)), &after, 2)));
        });
        group.sample_size(10).bench_function(BenchmarkId::new("from nothing", size), |bencher| {
            bencher.iter(|| black_box(assemble(None, &before, 1)));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);

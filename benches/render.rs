//! What a template over one service costs among ten thousand services, and what a change of
//! another service costs it.

// A benchmark that cannot set up its input has nothing to go on with.
#![allow(clippy::expect_used)]

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use portolan::catalog::model::{Address, Health, Instance, Port};
use portolan::catalog::{Service, Snapshot};
use portolan::render::{Resource, ResourceConfig};

fn service(name: &str) -> Arc<Service> {
    let instances: Arc<[_]> = (1..=10_u8)
        .map(|last| {
            Arc::new(Instance {
                ports: Arc::new([Port { name: "".into(), number: 80 }]),
                health: Health::Healthy,
                ..Instance::bare(
                    "bench",
                    &format!("{name}-{last}"),
                    Address::Ip([10, 0, 0, last].into()),
                )
            })
        })
        .collect();
    Arc::new(Service {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    })
}

fn bench(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = dir.path().join("one.j2");
    let text = "{% for i in service(\"s42\") %}server {{ i.id }} {{ i.address }}:{{ i.port }};\n{% endfor %}";
    std::fs::write(&source, text).expect("the template is written");
    let config = ResourceConfig::new(source, PathBuf::from("out"));
    let resource = Resource::load("one", &config, dir.path()).expect("the template parses");
    for count in [100, 10_000] {
        let names = (0..count).map(|n| Arc::<str>::from(format!("s{n}")));
        let services = names.map(|name| (Arc::clone(&name), service(&name))).collect();
        let before = Arc::new(Snapshot { generation: 1, services, ..Snapshot::default() });
        criterion.bench_function(&format!("render/one service of {count}"), |bencher| {
            bencher.iter(|| resource.evaluate(&before));
        });
        let asked = resource.evaluate(&before).asked;
        let mut services = before.services.clone();
        services.insert("s7".into(), service("s7"));
        let now = Snapshot { generation: 2, services, ..Snapshot::default() };
        criterion.bench_function(&format!("render/unrelated change of {count}"), |bencher| {
            bencher.iter(|| asked.differs(&before, &now));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);

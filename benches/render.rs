//! What a template over one service costs among ten thousand services, what a change of another
//! service costs it, and what both languages take for all instances of all services.
//!
//! With `--compare` only the two languages are measured and their ratio printed, with `--check` held to the
//! bounds below, with `--smoke` to twice the ratio in fewer runs, for a time says nothing on a machine that
//! others use. That is CPU time of this thread; the
//! quickest run counts.

// A benchmark that cannot set up its input has nothing to go on with.
#![allow(clippy::expect_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group};
use portolan::catalog::model::{Address, Health, Instance, Port};
use portolan::catalog::{Service, Snapshot};
use portolan::render::{Evaluation, Resource, ResourceConfig};
use rustix::time::{ClockId, clock_gettime};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Most CPU for 10,000 services of five instances by a Go template.
const GO_MAX: Duration = Duration::from_millis(60);
/// Most that it may cost compared with the Jinja template that says the same.
const RATIO_MAX: f64 = 1.5;

fn service(name: &str) -> Arc<Service> {
    service_of(name, 10)
}

fn service_of(name: &str, instances: u8) -> Arc<Service> {
    let instances: Arc<[_]> = (1..=instances)
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

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// CPU time of the quickest of `runs` runs.
fn quickest(runs: usize, mut run: impl FnMut()) -> Duration {
    let runs = (0..runs).map(|_| {
        let start = cpu();
        run();
        cpu().saturating_sub(start)
    });
    runs.min().unwrap_or_default()
}

/// Ten thousand services of five instances, by a Go template and by a Jinja one that say the same.
fn with_languages<T>(measure: impl FnOnce(&dyn Fn(), &dyn Fn()) -> T) -> T {
    let names: Vec<_> = (0..10_000).map(|n| Arc::<str>::from(format!("service-{n:05}"))).collect();
    let services: Vec<_> = names.iter().map(|name| service_of(name, 5)).collect();
    let all = names.iter().cloned().zip(services.iter().cloned()).collect();
    let snapshot = Arc::new(Snapshot { generation: 1, services: all, ..Snapshot::default() });

    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = dir.path().join("all.j2");
    let text = "{% for name in services() %}upstream {{ name }} {\n\
        {% for i in service(name) %}{% if i.port != 443 %}  server {{ i.address }}:{{ i.port }} id={{ i.id }}; # {{ name }}\n\
        {% endif %}{% endfor %}}\n{% endfor %}";
    std::fs::write(&source, text).expect("the template is written");
    let config = ResourceConfig::new(source, PathBuf::from("out"));
    let resource = Resource::load("all", &config, dir.path()).expect("the template parses");
    let jinja = || resource.evaluate(&snapshot);

    let source = dir.path().join("all.ctmpl");
    let text = "{{range services}}{{$name := .Name}}upstream {{$name}} {\n\
        {{range service $name}}{{if ne .Port 443}}  server {{.Address}}:{{.Port}} id={{.ID}}; # {{$name}}\n\
        {{end}}{{end}}}\n{{end}}";
    std::fs::write(&source, text).expect("the template is written");
    let config = ResourceConfig::new(source, PathBuf::from("out"));
    let template = Resource::load("all", &config, dir.path()).expect("the template parses");
    let go = || template.evaluate(&snapshot);

    let said = |evaluation: Evaluation| evaluation.output.expect("it renders");
    assert!(said(go()) == said(jinja()), "both say the same");
    measure(&|| drop(go()), &|| drop(jinja()))
}

fn languages(criterion: &mut Criterion) {
    with_languages(|go, jinja| {
        criterion.bench_function("render/50,000 instances by Go", |bencher| bencher.iter(go));
        criterion.bench_function("render/50,000 instances by Jinja", |bencher| bencher.iter(jinja));
    });
}

/// Measures both languages in `runs` runs each, in turns of ten, and prints them. Whether the bounds,
/// `slack` times as large, are kept.
fn compared(runs: usize, slack: f64) -> bool {
    let (of_go, of_jinja) = with_languages(|go, jinja| {
        let turns = (0..runs.div_ceil(10)).map(|_| (quickest(10, go), quickest(10, jinja)));
        let least = |(go, jinja): (Duration, Duration), (other_go, other_jinja)| {
            (go.min(other_go), jinja.min(other_jinja))
        };
        turns.reduce(least).unwrap_or_default()
    });
    let ratio = of_go.as_secs_f64() / of_jinja.as_secs_f64();
    let timed = slack > 1.0 || of_go <= GO_MAX;
    let kept = timed && ratio <= RATIO_MAX * slack;
    println!(
        "render: 10,000 services of 5 instances by Go {of_go:.1?} of CPU (at most {:.0?}), by Jinja {of_jinja:.1?}, \
         ratio {ratio:.2} (at most {:.2}): {}",
        GO_MAX,
        RATIO_MAX * slack,
        if kept { "kept" } else { "NOT KEPT" }
    );
    kept
}

criterion_group!(benches, bench, languages);

fn main() -> ExitCode {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let kept = if asked("--smoke") {
        compared(10, 2.0)
    } else if asked("--check") {
        compared(50, 1.0)
    } else if asked("--compare") {
        let _ = compared(50, 1.0);
        true
    } else {
        benches();
        true
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

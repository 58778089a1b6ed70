//! What one changed instance costs, stage by stage, from a registry's view in memory to every
//! face, at 100 to 100,000 services of ten instances each.
//!
//! CPU time of this thread, median over many changes at random services. Run by `make bench`;
//! `--check` holds it against the bounds below, `--smoke` does so at two sizes and twice the
//! bounds. Parsing and disk are not part of it.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use portolan::catalog::assemble::{Inputs, Settings, Source, assemble};
use portolan::catalog::model::{Address, Health, Instance, Port};
use portolan::catalog::{RegistryState, RegistryView, Snapshot, SourceService};
use portolan::dns::{self, ZoneTable};
use portolan::proxy::{self, HttpListenerConfig, ListenerConfig, ProxyTable, RouteConfig};
use portolan::render::{Resource, ResourceConfig};
use rustix::time::{ClockId, clock_gettime};

const INSTANCES: usize = 10;
/// Most CPU for one change at 1,000 services, over all stages.
const CHANGE_MAX_MICROS: f64 = 5000.0;
/// Most that a change may cost compared with 100 services, by size.
const GROWTH_MAX: [(usize, f64); 2] = [(10_000, 2.0), (100_000, 4.0)];
const STAGES: [&str; 6] = ["view", "assemble", "dns", "proxy", "render", "publish"];

#[derive(Default)]
struct Tables {
    dns: Arc<ZoneTable>,
    proxy: Arc<ProxyTable>,
    _snapshot: Arc<Snapshot>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let (smoke, check) = (asked("--smoke"), asked("--check"));
    if !asked("--bench") && !smoke && !check {
        say("stages: run by `make bench`; nothing to do here");
        return ExitCode::SUCCESS;
    }
    let sizes: &[usize] = if smoke { &[100, 1000, 10_000] } else { &[100, 1000, 10_000, 100_000] };
    let changes = if smoke { 200 } else { 1000 };
    say(&format!(
        "CPU microseconds for one changed instance, median of {changes} changes\n\
         {:>9} {} {:>9} {:>7}",
        "services",
        STAGES.map(|stage| format!("{stage:>9}")).join(" "),
        "sum",
        "ratio"
    ));
    let measured: Vec<(usize, f64)> = sizes
        .iter()
        .map(|size| {
            let stages = measure(*size, changes);
            let sum: f64 = stages.iter().sum();
            (*size, stages, sum)
        })
        .scan(None, |first, (size, stages, sum)| {
            let ratio = sum / *first.get_or_insert(sum);
            let stages = stages.map(|micros| format!("{micros:>9.2}")).join(" ");
            say(&format!("{size:>9} {stages} {sum:>9.2} {ratio:>7.2}"));
            Some((size, sum))
        })
        .collect();
    if (smoke || check) && !holds(&measured, if smoke { 2.0 } else { 1.0 }) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn holds(measured: &[(usize, f64)], allowance: f64) -> bool {
    let first = measured[0].1;
    let mut holds = true;
    let mut bound = |what: String, got: f64, most: f64| {
        let most = most * allowance;
        let word = if got <= most { "holds" } else { "BROKEN" };
        holds &= got <= most;
        say(&format!("{what}: {got:.2}, at most {most:.2}: {word}"));
    };
    for (size, sum) in measured {
        if *size == 1000 {
            bound("microseconds at 1,000 services".into(), *sum, CHANGE_MAX_MICROS);
        }
        for (limit, most) in GROWTH_MAX {
            if *size == limit {
                bound(format!("{size} services over 100"), sum / first, most);
            }
        }
    }
    holds
}

/// Median microseconds of each stage at `size` services.
fn measure(size: usize, changes: usize) -> [f64; 6] {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let resource = resource(directory.path());
    let mut view = RegistryView::default().replaced((0..size).map(service).collect(), Vec::new());
    let dns_settings = Arc::new(dns_settings());
    let proxy_settings = Arc::new(proxy_settings(size));
    let mut inputs = inputs(&view);
    let mut snapshot = Arc::new(assemble(None, &inputs, 1).expect("a first snapshot"));
    let tables = ArcSwap::from_pointee(Tables {
        dns: Arc::new(ZoneTable::compile(&dns_settings, None, &snapshot)),
        proxy: Arc::new(ProxyTable::compile(&proxy_settings, None, &snapshot)),
        _snapshot: Arc::clone(&snapshot),
    });

    let mut samples: [Vec<f64>; 6] = Default::default();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for change in 0..changes {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Every tenth change hits the service that the template asks for.
        let number = if change % 10 == 0 { 0 } else { (random % size as u64) as usize };
        let changed = changed(&view, number, change);

        let mut clock = Clock::start();
        view = view.with(changed);
        let next_inputs = self::inputs(&view);
        samples[0].push(clock.lap());
        let next = assemble(Some((&inputs, &snapshot)), &next_inputs, change as u64 + 2);
        // The same instance may be given the address that it has: no change, no sample.
        let Some(next) = next.map(Arc::new) else {
            samples[0].pop();
            inputs = next_inputs;
            continue;
        };
        samples[1].push(clock.lap());
        let before = tables.load_full();
        let dns = ZoneTable::compile(&dns_settings, Some((&before.dns, &snapshot)), &next);
        samples[2].push(clock.lap());
        let proxy = ProxyTable::compile(&proxy_settings, Some((&before.proxy, &snapshot)), &next);
        samples[3].push(clock.lap());
        if number == 0 {
            std::hint::black_box(resource.evaluate(&next));
            samples[4].push(clock.lap());
        }
        let old = tables.swap(Arc::new(Tables {
            dns: Arc::new(dns),
            proxy: Arc::new(proxy),
            _snapshot: Arc::clone(&next),
        }));
        // What is freed belongs to the change as well.
        drop((old, before));
        inputs = next_inputs;
        snapshot = next;
        samples[5].push(clock.lap());
    }
    samples.map(|mut stage| {
        stage.sort_by(f64::total_cmp);
        stage[stage.len() / 2]
    })
}

struct Clock(f64);

impl Clock {
    fn now() -> f64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    }

    fn start() -> Self {
        Self(Self::now())
    }

    fn lap(&mut self) -> f64 {
        let now = Self::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

fn name(number: usize) -> String {
    format!("service-{number}")
}

fn instance(service: usize, index: usize, third: usize) -> Arc<Instance> {
    let octet = |shift: usize| ((service * INSTANCES + index) >> shift) & 0xff;
    let address = format!("10.{}.{}.{}", octet(16) ^ (third & 0xff), octet(8), octet(0));
    Arc::new(Instance {
        ports: Arc::new([Port { name: "".into(), number: 8080 }]),
        tags: Arc::new(["v1".into()]),
        health: Health::Healthy,
        ..Instance::bare(
            "bench",
            &format!("i-{index}"),
            Address::parse(&address).expect("an address"),
        )
    })
}

fn service(number: usize) -> SourceService {
    SourceService {
        name: name(number).into(),
        tags: Arc::new(["v1".into()]),
        meta: Arc::default(),
        instances: (0..INSTANCES).map(|index| instance(number, index, 0)).collect(),
        problems: Vec::new(),
    }
}

/// The service with one of its instances at another address.
fn changed(view: &RegistryView, number: usize, change: usize) -> SourceService {
    let known = view.services.get(&*name(number)).expect("a known service");
    let mut changed = SourceService::clone(known);
    let index = change % INSTANCES;
    changed.instances[index] = instance(number, index, change + 1);
    changed
}

fn inputs(view: &RegistryView) -> Inputs {
    let source =
        Source { name: "bench".into(), priority: 0, state: RegistryState::Live(view.clone()) };
    Inputs::new(vec![source], Arc::<Settings>::default())
}

fn dns_settings() -> dns::Settings {
    let config = "listen = []\n[zone.\"bench.test\"]\ndialect = \"consul\"";
    let config: dns::DnsConfig = toml::from_str(config).expect("a DNS configuration");
    dns::Settings::compile(&config, "bench").expect("settings")
}

/// One listener with a route to every service.
fn proxy_settings(size: usize) -> proxy::Settings {
    let http: HttpListenerConfig = toml::from_str("bind = [\"127.0.0.1:0\"]").expect("a listener");
    let listeners =
        BTreeMap::from([("web".to_owned(), ListenerConfig { http: Some(http), tcp: None })]);
    let route = |number| {
        let text =
            format!("listener = \"web\"\nhost = \"{0}.test\"\nservice = \"{0}\"", name(number));
        let route: RouteConfig = toml::from_str(&text).expect("a route");
        (name(number), route)
    };
    let routes = (0..size).map(route).collect();
    proxy::Settings::compile(&listeners, &routes, &BTreeMap::new()).expect("settings")
}

fn resource(directory: &std::path::Path) -> Resource {
    let template =
        "{% for i in service(\"service-0\") %}{{ i.address }}:{{ i.port }}\n{% endfor %}";
    std::fs::write(directory.join("one.j2"), template).expect("a template");
    let config = "source = \"one.j2\"\ndestination = \"one.txt\"";
    let config: ResourceConfig = toml::from_str(config).expect("a resource configuration");
    Resource::load("one", &config, directory).expect("a resource")
}

fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

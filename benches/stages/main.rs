//! What one changed instance costs, stage by stage, from a registry's view in memory to every
//! face, at 100 to 100,000 services of ten instances each.
//!
//! CPU time of this thread, median over many changes at random services, the sizes in turns; then how
//! long a change takes to the wire, p99 of many among 100,000 instances, and how long a restart takes
//! with 10,000 of them on disk. Run by `make bench`; `--marathon` alone measures what it costs to
//! read a large Marathon again and again;
//! `--check` holds it against the bounds below, `--smoke` does so at two sizes and twice the
//! bounds. Parsing and disk are not part of it.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

mod marathon;
mod matching;
mod restart;
mod wire;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use portolan::catalog::assemble::{Inputs, Settings, Source, assemble};
use portolan::catalog::model::{Address, Health, Instance, Port};
use portolan::catalog::{RegistryState, RegistryView, Snapshot, SourceService, Verdicts};
use portolan::dns::{self, ZoneTable};
use portolan::proxy::{self, HttpListenerConfig, ListenerConfig, ProxyTable, RouteConfig};
use portolan::render::{Resource, ResourceConfig};
use restart::Tags;
use rustix::time::{ClockId, clock_gettime};

/// The program's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const INSTANCES: usize = 10;
/// Most CPU for one change at 1,000 services, over all stages.
const CHANGE_MAX_MICROS: f64 = 5000.0;
/// Most that a change may cost compared with 100 services, by size.
const GROWTH_MAX: [(usize, f64); 2] = [(10_000, 2.0), (100_000, 4.0)];
/// Turns among the sizes.
const TURNS: usize = 10;
/// Most time in milliseconds from a registry's view in memory to the new answer on the wire, for 99
/// changes of 100.
const WIRE_MAX_MILLIS: f64 = 50.0;
/// Most time in milliseconds of a restart with ten thousand instances and their Consul down.
const RESTART_MAX_MILLIS: f64 = 200.0;
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
    // To see what takes long: the way to the wire alone, the restart, or finding routes.
    let (wire_only, restart_only) = (asked("--wire"), asked("--restart"));
    if restart_only {
        return if restarts(21).is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if asked(marathon::SERVE) {
        return if marathon::serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if asked("--marathon") {
        return resyncs(5, check);
    }
    if asked("--routes") {
        let matched = matching::measure();
        let holds = !check || matching::holds(&matched, 1.0);
        return if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if !asked("--bench") && !smoke && !check {
        say("stages: run by `make bench`; nothing to do here");
        return ExitCode::SUCCESS;
    }
    let sizes: &[usize] = if smoke { &[100, 1000, 10_000] } else { &[100, 1000, 10_000, 100_000] };
    let changes = if smoke { 200 } else { 1000 };
    if wire_only {
        return if to_the_wire(smoke, changes).is_some() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    say(&format!(
        "CPU microseconds for one changed instance, median of {changes} changes\n\
         {:>9} {} {:>9} {:>7}",
        "services",
        STAGES.map(|stage| format!("{stage:>9}")).join(" "),
        "sum",
        "ratio"
    ));
    let measured = measure(sizes, changes);
    let Some(wire) = to_the_wire(smoke, changes) else { return ExitCode::FAILURE };
    let Some(restart) = restarts(5) else { return ExitCode::FAILURE };
    let allowance = if smoke { 2.0 } else { 1.0 };
    let matched = matching::measure();
    if (smoke || check)
        && !(holds(&measured, wire, restart, allowance) & matching::holds(&matched, allowance))
    {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Measures and prints; returns the p99 in milliseconds, none when it could not be had.
fn to_the_wire(smoke: bool, changes: usize) -> Option<f64> {
    let services = if smoke { 1_000 } else { 10_000 };
    let wire = match wire::measure(services, changes) {
        Ok(times) => times,
        Err(error) => {
            say(&format!("from a view to the wire: {error}"));
            return None;
        }
    };
    say(&format!(
        "milliseconds from a view in memory to the new answer on the wire, {} instances, {changes} \
         changes: p50 {:.2}, p99 {:.2}, most {:.2}",
        services * INSTANCES,
        wire.at(50),
        wire.at(99),
        wire.at(100),
    ));
    Some(wire.at(99))
}

/// Reads a large Marathon in so many rounds, and prints; it costs minutes, and is run by itself.
fn resyncs(rounds: usize, check: bool) -> ExitCode {
    match marathon::measure(rounds) {
        Ok(measured) if marathon::holds(&measured, 1.0) || !check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("a large Marathon: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Restarts so many times, and prints; returns the milliseconds of one with few tags, the median.
fn restarts(times: usize) -> Option<f64> {
    let mut few = None;
    for (tags, called) in [(Tags::Few, "few tags"), (Tags::Own, "a tag of its own for each")] {
        let measured = match restart::measure(tags, times) {
            Ok(measured) => measured,
            Err(error) => {
                say(&format!("a restart: {error}"));
                return None;
            }
        };
        let told =
            |(name, (clock, cpu)): (&str, (f64, f64))| format!("{name} {clock:.1} ({cpu:.1})");
        let stages: Vec<String> = measured.stages.into_iter().map(told).collect();
        say(&format!(
            "milliseconds (of CPU) until a restart answers, 10000 instances, {called}, median of \
             {times}: {}; by itself {}",
            told(("whole", measured.whole)),
            stages.join(", ")
        ));
        few.get_or_insert(measured.whole.0);
    }
    few
}

fn holds(measured: &[(usize, f64)], wire: f64, restart: f64, allowance: f64) -> bool {
    let first = measured[0].1;
    let mut holds = true;
    let mut bound = |what: String, got: f64, most: f64| {
        let most = most * allowance;
        let word = if got <= most { "holds" } else { "BROKEN" };
        holds &= got <= most;
        say(&format!("{what}: {got:.2}, at most {most:.2}: {word}"));
    };
    bound("milliseconds to the wire, p99".into(), wire, WIRE_MAX_MILLIS);
    bound("milliseconds of a restart, median".into(), restart, RESTART_MAX_MILLIS);
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

/// Plays changes at all sizes in turns, so that a busy machine slows all of them alike; prints the
/// medians and returns the sum of each size.
fn measure(sizes: &[usize], changes: usize) -> Vec<(usize, f64)> {
    let mut worlds: Vec<World> = sizes.iter().map(|size| World::new(*size)).collect();
    for turn in 0..TURNS {
        for world in &mut worlds {
            for change in 0..changes / TURNS {
                world.change(turn * (changes / TURNS) + change);
            }
        }
    }
    let mut first = None;
    let report = |world: World| {
        let stages = world.medians();
        let sum: f64 = stages.iter().sum();
        let ratio = sum / *first.get_or_insert(sum);
        let stages = stages.map(|micros| format!("{micros:>9.2}")).join(" ");
        say(&format!("{:>9} {stages} {sum:>9.2} {ratio:>7.2}", world.size));
        (world.size, sum)
    };
    worlds.into_iter().map(report).collect()
}

/// A catalog of one size with all its faces, and what its changes have cost.
struct World {
    size: usize,
    view: RegistryView,
    inputs: Inputs,
    snapshot: Arc<Snapshot>,
    tables: ArcSwap<Tables>,
    dns: Arc<dns::Settings>,
    proxy: Arc<proxy::Settings>,
    resource: Resource,
    random: u64,
    samples: [Vec<f64>; 6],
}

impl World {
    fn new(size: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let resource = resource(directory.path());
        let services = (0..size).map(service).collect();
        let view = RegistryView::default().replaced(services, Vec::new());
        let (dns, proxy) = (Arc::new(dns_settings()), Arc::new(proxy_settings(size)));
        let inputs = inputs(&view);
        let snapshot = Arc::new(assemble(None, &inputs, 1).expect("a first snapshot"));
        let tables = ArcSwap::from_pointee(Tables {
            dns: Arc::new(ZoneTable::compile(&dns, None, &snapshot)),
            proxy: Arc::new(ProxyTable::compile(&proxy, None, &snapshot)),
            _snapshot: Arc::clone(&snapshot),
        });
        let (random, samples) = (0x9E37_79B9_7F4A_7C15, Default::default());
        Self { size, view, inputs, snapshot, tables, dns, proxy, resource, random, samples }
    }

    /// One instance of one service gets another address, and every face is told.
    fn change(&mut self, change: usize) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // Every tenth change hits the service that the template asks for.
        let number =
            if change.is_multiple_of(10) { 0 } else { (self.random % self.size as u64) as usize };
        let changed = changed(&self.view, number, change);

        let mut clock = Clock::start();
        self.view = self.view.with(changed);
        let inputs = inputs(&self.view);
        let viewed = clock.lap();
        let before = Some((&self.inputs, &*self.snapshot));
        let next = assemble(before, &inputs, change as u64 + 2).map(Arc::new);
        let assembled = clock.lap();
        self.inputs = inputs;
        // The same instance may be given the address that it has: no change, no sample.
        let Some(next) = next else { return };
        let old = self.tables.load_full();
        let dns = ZoneTable::compile(&self.dns, Some((&old.dns, &self.snapshot)), &next);
        let named = clock.lap();
        let proxy = ProxyTable::compile(&self.proxy, Some((&old.proxy, &self.snapshot)), &next);
        let routed = clock.lap();
        if number == 0 {
            std::hint::black_box(self.resource.evaluate(&next));
            self.samples[4].push(clock.lap());
        }
        let tables =
            Tables { dns: Arc::new(dns), proxy: Arc::new(proxy), _snapshot: Arc::clone(&next) };
        // What is freed belongs to the change as well.
        drop((self.tables.swap(Arc::new(tables)), old));
        self.snapshot = next;
        for (stage, micros) in
            [(0, viewed), (1, assembled), (2, named), (3, routed), (5, clock.lap())]
        {
            self.samples[stage].push(micros);
        }
    }

    fn medians(&self) -> [f64; 6] {
        self.samples.clone().map(|mut stage| {
            stage.sort_by(f64::total_cmp);
            stage[stage.len() / 2]
        })
    }
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
        suspect: None,
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
    let source = Source::new("bench", 0, RegistryState::Live(view.clone()));
    Inputs::new(vec![source], Arc::<Settings>::default(), Verdicts::default())
}

fn dns_settings() -> dns::Settings {
    let config = "listen = []\n[zone.\"bench.test\"]\ndialect = \"consul\"";
    let config: dns::DnsConfig = toml::from_str(config).expect("a DNS configuration");
    dns::Settings::compile(&config, "bench").expect("settings")
}

/// One listener with a route to every service.
fn proxy_settings(size: usize) -> proxy::Settings {
    let http: HttpListenerConfig = toml::from_str("bind = [\"127.0.0.1:0\"]").expect("a listener");
    let listeners = BTreeMap::from([(
        "web".to_owned(),
        ListenerConfig { http: Some(http), ..ListenerConfig::default() },
    )]);
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

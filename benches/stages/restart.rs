//! A restart with ten thousand instances on disk and their Consul down: the whole application in
//! this process until it answers, and the stages that take long one by one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portolan::app::{App, Options};
use portolan::catalog::assemble::{Inputs, Settings, Source, assemble};
use portolan::catalog::model::{Address, Meta, Node, Port};
use portolan::catalog::store::{StateToSave, Store, StoredView};
use portolan::catalog::{Health, Instance, RegistryState, RegistryView, SourceService, Verdicts};
use portolan::config;
use portolan::dns::{DnsConfig, Settings as DnsSettings, ZoneTable};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use super::wire::{query, until_told};

const SERVICES: usize = 100;
const EACH: usize = 100;
const DNS: &str = "listen = [\"127.0.0.1:0\"]\nexpress_workers = 1\n\
    [zone.consul]\ndialect = \"consul\"\n[zone.\"svc.test\"]\n";

/// Which tags the instances bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tags {
    /// One of their service and one of two versions.
    Few,
    /// Each one of its own.
    Own,
}

/// What was measured, each in milliseconds of the clock and of CPU: the medians.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Until the answer.
    pub(crate) whole: (f64, f64),
    /// The stages by name.
    pub(crate) stages: Vec<(&'static str, (f64, f64))>,
}

/// Restarts so many times.
pub(crate) fn measure(tags: Tags, times: usize) -> io::Result<Measured> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let store = Store::open(&data).map_err(io::Error::other)?;
    store.save(&state(tags)).map_err(io::Error::other)?;
    let dns: DnsConfig = toml::from_str(DNS).map_err(io::Error::other)?;
    let settings = Arc::new(
        DnsSettings::compile(&dns, "bench")
            .map_err(|problems| io::Error::other(format!("{problems:?}")))?,
    );
    let mut wholes = Vec::new();
    let mut laps: [(&'static str, Vec<(f64, f64)>); 3] =
        [("load", Vec::new()), ("assemble", Vec::new()), ("names", Vec::new())];
    for _ in 0..times {
        let runtime = Runtime::new()?;
        let since = Lap::start();
        let app = restart(&runtime, directory.path(), tags)?;
        wholes.push(since.end());
        runtime.block_on(app.stop());
        drop(runtime);

        let since = Lap::start();
        let mut loaded = store.load();
        laps[0].1.push(since.end());
        let since = Lap::start();
        let view = loaded.views.remove("dc1").ok_or_else(|| io::Error::other("no view"))?.view;
        let source = Source::new("dc1", 0, RegistryState::Live(view));
        let inputs = Inputs::new(vec![source], Arc::<Settings>::default(), Verdicts::default());
        let snapshot = assemble(None, &inputs, 1).unwrap_or_default();
        laps[1].1.push(since.end());
        let since = Lap::start();
        let table = ZoneTable::compile(&settings, None, &snapshot);
        laps[2].1.push(since.end());
        drop((table, snapshot, inputs));
    }
    let stages = laps.map(|(name, all)| (name, median(&all))).into();
    Ok(Measured { whole: median(&wholes), stages })
}

fn restart(runtime: &Runtime, directory: &Path, tags: Tags) -> io::Result<App> {
    let text = format!(
        "[node]\nworkers = 1\ndata_dir = \"data\"\n[registry.dc1.consul]\n\
         address = \"http://127.0.0.1:9\"\n[dns]\n{}",
        DNS.replace("[zone", "[dns.zone")
    );
    let loaded = config::parse("restart.toml", &text, directory, &|_| None)
        .map_err(|problems| io::Error::other(format!("{problems:?}")))?;
    let app = runtime.block_on(App::start(loaded, Options::default())).map_err(io::Error::other)?;
    let server: SocketAddr = runtime.block_on(app.addresses("dns"))[0];
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    client.connect(server)?;
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (service, last) = (SERVICES - 1, EACH - 1);
    let tag = if tags == Tags::Own { format!("i{last}") } else { "v2".to_owned() };
    let query = query(&format!("{tag}.s{service}.service.consul"));
    // With so many addresses the answer is cut: which of them are in it is not said.
    let among = [10, (service / 250) as u8, (service % 250) as u8];
    until_told(&client, &query, &among)?;
    Ok(app)
}

fn state(tags: Tags) -> StateToSave {
    let services = (0..SERVICES).map(|number| service(number, tags)).collect();
    let view = RegistryView::default().replaced(services, Vec::new());
    let stored = StoredView { view, heard_at: SystemTime::now() };
    StateToSave { views: [("dc1".to_owned(), stored)].into(), ..StateToSave::default() }
}

fn service(number: usize, tags: Tags) -> SourceService {
    let node = Node {
        name: format!("node-s{number}").into(),
        address: Some(Address::Ip(Ipv4Addr::LOCALHOST.into())),
        meta: Meta::new(),
    };
    let instance = |n: usize| {
        let id = format!("i{n}-s{number}");
        let bears: Vec<Arc<str>> = match tags {
            Tags::Few => vec!["http".into(), if n.is_multiple_of(2) { "v1" } else { "v2" }.into()],
            Tags::Own => vec![format!("i{n}").into()],
        };
        let meta = [("consul.id", id.as_str()), ("consul.datacenter", "dc1")];
        let address = Ipv4Addr::new(10, (number / 250) as u8, (number % 250) as u8, n as u8);
        Arc::new(Instance {
            ports: Arc::new([Port { name: "".into(), number: 80 }]),
            tags: bears.into(),
            meta: meta.map(|(key, value)| (key.into(), value.into())).into(),
            node: Some(node.clone()),
            health: Health::Healthy,
            ..Instance::bare("dc1", &format!("node-s{number}/{id}"), Address::Ip(address.into()))
        })
    };
    SourceService {
        name: format!("s{number}").into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: (0..EACH).map(instance).collect(),
        problems: Vec::new(),
        suspect: None,
    }
}

struct Lap(Instant, f64);

impl Lap {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn end(self) -> (f64, f64) {
        (self.0.elapsed().as_secs_f64() * 1e3, cpu() - self.1)
    }
}

/// CPU time of the process in milliseconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn median(all: &[(f64, f64)]) -> (f64, f64) {
    let of = |part: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = all.iter().map(part).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::INFINITY)
    };
    (of(|lap| lap.0), of(|lap| lap.1))
}

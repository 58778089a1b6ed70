//! From a registry's view in memory to the new answer on the wire: the whole application in this
//! process, asked by UDP until it says what it was told.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan::app::{App, Options};
use portolan::catalog::model::Address;
use portolan::catalog::publish::Feed;
use portolan::catalog::{Instance, RegistryState, RegistryView, SourceService};
use portolan::config;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::{INSTANCES, name, service};

/// Longer than any answer takes; after it the measurement has failed.
const PATIENCE: Duration = Duration::from_secs(30);

const CONFIG: &str = "[node]\nworkers = 1\n[dns]\nlisten = [\"127.0.0.1:0\"]\nexpress_workers = 1\n\
    [dns.zone.\"bench.test\"]\ndialect = \"consul\"\n";

/// Times in milliseconds from a change to its answer.
#[derive(Debug)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// The time within which that share of the changes, in hundredths, was answered.
    pub(crate) fn at(&self, hundredths: usize) -> f64 {
        let last = (self.0.len() * hundredths).div_ceil(100).max(1) - 1;
        self.0.get(last).copied().unwrap_or(f64::INFINITY)
    }
}

/// Changes one instance out of `services` times [`INSTANCES`] again and again, one after the other.
pub(crate) fn measure(services: usize, changes: usize) -> io::Result<Times> {
    let runtime = Runtime::new()?;
    let directory = tempfile::tempdir()?;
    let loaded = config::parse("wire.toml", CONFIG, directory.path(), &|_| None)
        .map_err(|problems| io::Error::other(format!("{problems:?}")))?;
    let mut view =
        RegistryView::default().replaced((0..services).map(service).collect(), Vec::new());
    let (tell, state) = watch::channel(RegistryState::Live(view.clone()));
    let options = Options { feeds: vec![Feed::new("bench", 0, state)], ..Options::default() };
    let app = runtime.block_on(App::start(loaded, options)).map_err(io::Error::other)?;
    runtime.block_on(app.published(|snapshot| snapshot.services.len() == services));
    let server: SocketAddr = runtime.block_on(app.addresses("dns"))[0];
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    client.connect(server)?;
    client.set_read_timeout(Some(PATIENCE))?;

    let mut times = Vec::with_capacity(changes);
    for change in 0..changes {
        // A prime step visits the services in no order that helps.
        let number = (change * 7919) % services;
        let [_, high, middle, low] = (change as u32).to_be_bytes();
        let address = Ipv4Addr::new(11, high, middle, low);
        view = view.with(changed(&view, number, change % INSTANCES, address));
        let query = query(&format!("{}.service.bench.test", name(number)));
        let since = Instant::now();
        tell.send_replace(RegistryState::Live(view.clone()));
        until_told(&client, &query, &address.octets())?;
        times.push(since.elapsed().as_secs_f64() * 1e3);
    }
    runtime.block_on(app.stop());
    times.sort_by(f64::total_cmp);
    Ok(Times(times))
}

/// Asks until the answer has `bytes` in it, as an address or the beginning of some.
pub(crate) fn until_told(client: &UdpSocket, query: &[u8], bytes: &[u8]) -> io::Result<()> {
    let since = Instant::now();
    let mut reply = [0; 2048];
    while since.elapsed() < PATIENCE {
        client.send(query)?;
        let length = client.recv(&mut reply)?;
        if reply[..length].windows(bytes.len()).any(|some| some == bytes) {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{bytes:?} never showed")))
}

fn changed(view: &RegistryView, number: usize, index: usize, address: Ipv4Addr) -> SourceService {
    let known = view.services.get(&*name(number)).expect("a known service");
    let mut changed = SourceService::clone(known);
    let before = &changed.instances[index];
    changed.instances[index] =
        Arc::new(Instance { address: Address::Ip(address.into()), ..Instance::clone(before) });
    changed
}

/// A query for A with an EDNS size of 1232.
pub(crate) fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    query
}

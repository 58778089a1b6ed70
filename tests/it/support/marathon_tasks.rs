//! Processes for the tasks of a scripted Marathon: each task has an address of its own in 127/8,
//! where every request is noted. They outlive their tasks, so that it shows who still asks.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// First octets of the addresses.
const NET: u32 = 0x7f2a_0000;

/// All processes of one storm.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    numbers: u32,
    /// The port of those tasks that all have to have the same.
    shared: Option<u16>,
    running: HashMap<IpAddr, JoinHandle<()>>,
    asked: Arc<Mutex<HashMap<IpAddr, Instant>>>,
}

impl Processes {
    /// Where a new one listens; with the port of all others that are `alike`.
    pub(crate) async fn start(&mut self, alike: bool) -> SocketAddr {
        let listener = loop {
            self.numbers += 1;
            let ip = IpAddr::V4(Ipv4Addr::from(NET + self.numbers));
            let port = self.shared.filter(|_| alike).unwrap_or(0);
            // Somebody else may have the port at that address: then another one is taken.
            if let Ok(listener) = TcpListener::bind((ip, port)).await {
                break listener;
            }
        };
        let at = listener.local_addr().unwrap();
        if alike {
            self.shared = Some(at.port());
        }
        let asked = Arc::clone(&self.asked);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, at.ip(), Arc::clone(&asked)));
            }
        });
        self.running.insert(at.ip(), serving);
        at
    }

    /// When a request reached this one last.
    pub(crate) fn last_asked(&self, ip: IpAddr) -> Option<Instant> {
        self.asked.lock().unwrap().get(&ip).copied()
    }

    /// All others accept no connection any more.
    pub(crate) fn keep(&mut self, kept: &HashSet<IpAddr>) {
        for (_, serving) in self.running.extract_if(|ip, _| !kept.contains(ip)) {
            serving.abort();
        }
        self.asked.lock().unwrap().retain(|ip, _| kept.contains(ip));
    }
}

async fn answer(
    mut stream: TcpStream,
    ip: IpAddr,
    asked: Arc<Mutex<HashMap<IpAddr, Instant>>>,
) -> Option<()> {
    let _ = stream.set_nodelay(true);
    loop {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        asked.lock().unwrap().insert(ip, Instant::now());
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.ok()?;
    }
}

/// How long this machine let a thread wait that wanted to run: what a program in its place could
/// not have done any sooner.
#[derive(Debug, Clone)]
pub(crate) struct Stalls {
    found: Arc<Mutex<Vec<(Instant, Duration)>>>,
    stop: std::sync::mpsc::Sender<()>,
}

/// How often it looks.
const TICK: Duration = Duration::from_millis(5);

impl Stalls {
    /// Looks until it is dropped.
    pub(crate) fn watch() -> Self {
        let found = Arc::<Mutex<Vec<_>>>::default();
        let (stop, stopped) = std::sync::mpsc::channel();
        let told = Arc::clone(&found);
        std::thread::spawn(move || {
            loop {
                let since = Instant::now();
                if stopped.recv_timeout(TICK) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
                let late = since.elapsed().saturating_sub(TICK);
                if late > TICK {
                    told.lock().unwrap().push((Instant::now(), late));
                }
            }
        });
        Self { found, stop }
    }

    /// What was lost within this time.
    pub(crate) fn within(&self, from: Instant, to: Instant) -> Duration {
        let found = self.found.lock().unwrap();
        let there = |(at, late): &&(Instant, Duration)| *at >= from && *at <= to + *late;
        found.iter().filter(there).map(|(_, late)| *late).sum()
    }

    /// The longest of all.
    pub(crate) fn longest(&self) -> Duration {
        let found = self.found.lock().unwrap();
        found.iter().map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// Looks no more.
    pub(crate) fn end(&self) {
        let _ = self.stop.send(());
    }
}

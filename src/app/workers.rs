//! The threads that carry: data workers, each with a runtime of its own, one for DNS, and those of
//! its express lane, which come and go with their sockets.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::publish::Tables;
use super::{Meters, current, memory};
use crate::config::Config;
use crate::dns::{DnsServer, Forwarder};
use crate::lifecycle::{Lifecycle, Phase, Phases, Pulses, Readiness};
use crate::net::accept::Connections;
use crate::proxy;
use crate::proxy::cut::{self, Cutter};
use crate::proxy::http::auth::Verifying;
use crate::proxy::log::{self, Sinks};
use crate::proxy::serve::{Counting, Share, Worker};
use crate::proxy::udp::UdpShare;

/// A socket for the DNS thread, and the word that closes it.
#[derive(Debug)]
pub(super) enum DnsSocket {
    /// Questions by UDP: the sockets of one address, and threads for them.
    Udp(Vec<UdpSocket>, usize, watch::Receiver<bool>),
    /// Questions by TCP.
    Tcp(TcpListener, watch::Receiver<bool>),
}

/// What a data worker is given to serve.
#[derive(Debug)]
enum Given {
    Listener(Share),
    Udp(UdpShare),
}

/// The threads, and the ways to give them sockets.
#[derive(Debug)]
pub(super) struct Workers {
    data: Vec<mpsc::UnboundedSender<Given>>,
    dns: mpsc::UnboundedSender<DnsSocket>,
    forwarder: Forwarder,
    threads: Vec<JoinHandle<()>>,
    logs: Arc<Sinks>,
    counted: proxy::metrics::Metrics,
    server: DnsServer,
    pulses: Pulses,
}

impl Workers {
    /// Starts `[node] workers` data threads and the DNS thread.
    pub(super) fn start(
        config: &Config,
        tables: &Arc<ArcSwap<Tables>>,
        lifecycle: &Lifecycle,
        readiness: &Readiness,
        connections: &Arc<Connections>,
        cutter: &Cutter,
        meters: &Meters,
    ) -> io::Result<Self> {
        let count = data_workers(config);
        let (dns, dns_sockets) = mpsc::unbounded_channel();
        let table = current(tables, |tables| Arc::clone(&tables.dns));
        let (metrics, phases) = (meters.dns.clone(), lifecycle.phases());
        let server = DnsServer::new(table, metrics, phases.clone());
        let forwarder = server.forwarder();
        let (logs, counted) = (Arc::clone(&meters.logs), meters.proxy.clone());
        let mut workers = Self {
            data: Vec::new(),
            dns,
            forwarder,
            threads: Vec::new(),
            logs,
            counted,
            server: server.clone(),
            pulses: Pulses::default(),
        };
        workers.follow(config);
        let verifying = Verifying::new()?;
        for number in 0..count {
            let (shares, receiver) = mpsc::unbounded_channel();
            let current = current(tables, |tables| Arc::clone(&tables.proxy));
            let phases = lifecycle.phases();
            let (readiness, connections) = (readiness.clone(), Arc::clone(connections));
            let counting = Counting {
                accepting: meters.accept.clone(),
                handshakes: meters.tls.clone(),
                carried: meters.proxy.clone(),
            };
            let idle_max = config.limits.idle_endpoint_connections;
            let verifying = verifying.clone();
            workers.data.push(shares);
            let (mut ends, cuts) = (lifecycle.phases(), cutter.worker());
            let name = format!("data-{number}");
            let pulse = workers.pulses.add(&name);
            workers.spawn(name, async move || {
                let worker = Worker::new(
                    current,
                    phases,
                    readiness,
                    connections,
                    counting,
                    idle_max,
                    verifying,
                );
                tokio::select! {
                    () = data(worker, receiver) => {}
                    () = log::flush_in_time() => {}
                    () = cut::deliver(cuts) => {}
                    () = tick() => {}
                    () = pulse.go_on() => {}
                    () = ends.reached(Phase::Stopped) => {}
                }
            })?;
        }
        let pulse = workers.pulses.add("dns");
        workers.spawn("dns".into(), async move || {
            tokio::select! {
                () = serve_dns(server, dns_sockets, phases) => {}
                () = pulse.go_on() => {}
            }
        })?;
        memory::watch(Arc::clone(tables), lifecycle.phases());
        Ok(workers)
    }

    /// Gives each data worker its share of a listener.
    pub(super) fn share(&self, share: impl Fn() -> io::Result<Share>) -> io::Result<()> {
        for worker in &self.data {
            give(worker, Given::Listener(share()?))?;
        }
        Ok(())
    }

    /// Shares out the sockets of one address among the data workers: each is read by one of them.
    pub(super) fn share_udp(
        &self,
        name: &str,
        group: Vec<UdpSocket>,
        closed: &watch::Receiver<bool>,
    ) -> io::Result<()> {
        let mut shares: Vec<Vec<UdpSocket>> = self.data.iter().map(|_| Vec::new()).collect();
        for (number, socket) in group.into_iter().enumerate() {
            shares[number % self.data.len()].push(socket);
        }
        for (worker, sockets) in self.data.iter().zip(shares) {
            if !sockets.is_empty() {
                let closed = closed.clone();
                give(worker, Given::Udp(UdpShare { name: name.into(), sockets, closed }))?;
            }
        }
        Ok(())
    }

    /// Counts the ports that services have of a listener, and those that they could not get.
    pub(super) fn count_ports(&self, listener: &str, open: usize, refused: usize) {
        self.counted.ports(listener, open, refused);
    }

    /// Counts what labels ask for and can't have.
    pub(super) fn count_labels(&self, problems: usize) {
        self.counted.label_problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }

    /// The access logs.
    pub(super) fn logs(&self) -> &Sinks {
        &self.logs
    }

    /// From now on as much is counted as `config` says.
    pub(super) fn follow(&self, config: &Config) {
        self.counted.set_routes_max(config.limits.metric_routes);
        self.counted.tcp.pipes.set_max(config.limits.pipes);
    }

    /// What forwards names of DNS.
    pub(super) fn forwarder(&self) -> Forwarder {
        self.forwarder.clone()
    }

    /// Signs of life of these threads.
    pub(super) fn pulses(&self) -> Pulses {
        self.pulses.clone()
    }

    /// Returns once nothing of DNS is being answered any more, after its sockets were closed.
    pub(super) async fn dns_answered(&self) {
        self.server.answered().await;
    }

    /// Gives the DNS thread a socket.
    pub(super) fn dns(&self, socket: DnsSocket) -> io::Result<()> {
        self.dns.send(socket).map_err(|_| io::Error::other("the DNS thread has ended"))
    }

    /// Joins the threads after the process has stopped, and returns once their last words are
    /// written. It blocks, so that it is done aside.
    pub(super) fn end(&mut self) -> impl FnOnce() + Send + 'static {
        let (threads, logs) = (std::mem::take(&mut self.threads), Arc::clone(&self.logs));
        move || {
            for thread in threads {
                // A thread that panicked has said so.
                let _ = thread.join();
            }
            logs.finish();
        }
    }

    /// Runs `serve` on a thread with a single-threaded runtime.
    fn spawn<F>(
        &mut self,
        name: String,
        serve: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(async move { serve().await });
            // What is cut now may still have its line.
            drop(runtime);
            log::flush();
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Threads of the express lane for each address of `[dns] listen`.
pub(super) fn express_workers(config: &Config) -> usize {
    let wanted = config.dns.as_ref().and_then(|dns| dns.express_workers);
    wanted.map_or_else(cores, usize::from)
}

/// How many data workers there are.
pub(super) fn data_workers(config: &Config) -> usize {
    config.node.workers.map_or_else(cores, usize::from)
}

fn give(worker: &mpsc::UnboundedSender<Given>, given: Given) -> io::Result<()> {
    worker.send(given).map_err(|_| io::Error::other("a data worker has ended"))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Wakes the thread once a second, and never returns. A timer that is due before all others has the
/// runtime wake itself, by a call to the system, so that it learns of it: beside this one, the timeouts
/// of connections don't.
async fn tick() {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Serves every share that comes.
async fn data(worker: Worker, mut shares: mpsc::UnboundedReceiver<Given>) {
    while let Some(share) = shares.recv().await {
        match share {
            Given::Listener(share) => tokio::spawn(worker.clone().serve(share)),
            Given::Udp(share) => tokio::spawn(worker.clone().serve_udp(share)),
        };
    }
    // No more listeners will come; those that are there go on until the process stops.
    std::future::pending::<()>().await;
}

/// Serves every DNS socket that comes, until the process has stopped and the threads of the express
/// lane have let go of theirs.
async fn serve_dns(
    server: DnsServer,
    mut sockets: mpsc::UnboundedReceiver<DnsSocket>,
    mut phases: Phases,
) {
    let mut serving = JoinSet::new();
    let handed = server.clone();
    serving.spawn(async move { handed.serve_handed().await });
    loop {
        tokio::select! {
            () = phases.reached(Phase::Stopped) => break,
            Some(socket) = sockets.recv() => {
                let server = server.clone();
                serving.spawn(async move {
                    let served = match socket {
                        DnsSocket::Udp(group, threads, closed) => {
                            server.serve_udp(group, threads, closed).await
                        }
                        DnsSocket::Tcp(listener, closed) => {
                            server.serve_tcp(listener, closed).await
                        }
                    };
                    if let Err(error) = served {
                        tracing::error!(%error, "a DNS socket is not served any more");
                    }
                });
            }
            Some(_) = serving.join_next() => {}
        }
    }
    while serving.join_next().await.is_some() {}
}

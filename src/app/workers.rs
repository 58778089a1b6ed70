//! The threads that carry: data workers, each with a runtime of its own, one for DNS, and those of
//! its express lane, which come and go with their sockets.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::publish::Tables;
use super::{Meters, current, memory};
use crate::config::Config;
use crate::dns::{DnsServer, Forwarder};
use crate::lifecycle::{Lifecycle, Phase, Phases, Readiness};
use crate::net::accept::Connections;
use crate::proxy;
use crate::proxy::cut::{self, Cutter};
use crate::proxy::log::{self, Sinks};
use crate::proxy::serve::{Share, Worker};

/// A socket for the DNS thread, and the word that closes it.
#[derive(Debug)]
pub(super) enum DnsSocket {
    /// Questions by UDP: the sockets of one address, and threads for them.
    Udp(Vec<UdpSocket>, usize, watch::Receiver<bool>),
    /// Questions by TCP.
    Tcp(TcpListener, watch::Receiver<bool>),
}

/// The threads, and the ways to give them sockets.
#[derive(Debug)]
pub(super) struct Workers {
    data: Vec<mpsc::UnboundedSender<Share>>,
    dns: mpsc::UnboundedSender<DnsSocket>,
    forwarder: Forwarder,
    threads: Vec<JoinHandle<()>>,
    logs: Arc<Sinks>,
    counted: proxy::metrics::Metrics,
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
        let count = config.node.workers.map_or_else(cores, usize::from);
        let (dns, dns_sockets) = mpsc::unbounded_channel();
        let table = current(tables, |tables| Arc::clone(&tables.dns));
        let (metrics, phases) = (meters.dns.clone(), lifecycle.phases());
        let server = DnsServer::new(table, metrics, phases.clone());
        let forwarder = server.forwarder();
        let (logs, counted) = (Arc::clone(&meters.logs), meters.proxy.clone());
        let mut workers =
            Self { data: Vec::new(), dns, forwarder, threads: Vec::new(), logs, counted };
        workers.follow(config);
        for number in 0..count {
            let (shares, receiver) = mpsc::unbounded_channel();
            let current = current(tables, |tables| Arc::clone(&tables.proxy));
            let phases = lifecycle.phases();
            let (readiness, connections) = (readiness.clone(), Arc::clone(connections));
            let (accepting, metrics) = (meters.accept.clone(), meters.proxy.clone());
            let idle_max = config.limits.idle_endpoint_connections;
            workers.data.push(shares);
            let (mut ends, cuts) = (lifecycle.phases(), cutter.worker());
            workers.spawn(format!("data-{number}"), async move || {
                let worker = Worker::new(
                    current,
                    phases,
                    readiness,
                    connections,
                    accepting,
                    metrics,
                    idle_max,
                );
                tokio::select! {
                    () = data(worker, receiver) => {}
                    () = log::flush_in_time() => {}
                    () = cut::deliver(cuts) => {}
                    () = ends.reached(Phase::Stopped) => {}
                }
            })?;
        }
        workers.spawn("dns".into(), async move || {
            serve_dns(server, dns_sockets, phases).await;
        })?;
        memory::watch(Arc::clone(tables), lifecycle.phases());
        Ok(workers)
    }

    /// Gives each data worker its share of a listener.
    pub(super) fn share(&self, share: impl Fn() -> io::Result<Share>) -> io::Result<()> {
        for worker in &self.data {
            worker.send(share()?).map_err(|_| io::Error::other("a data worker has ended"))?;
        }
        Ok(())
    }

    /// The access logs.
    pub(super) fn logs(&self) -> &Sinks {
        &self.logs
    }

    /// From now on as much is counted as `config` says.
    pub(super) fn follow(&self, config: &Config) {
        self.counted.set_routes_max(config.limits.metric_routes);
    }

    /// What forwards names of DNS.
    pub(super) fn forwarder(&self) -> Forwarder {
        self.forwarder.clone()
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

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Serves every share that comes.
async fn data(worker: Worker, mut shares: mpsc::UnboundedReceiver<Share>) {
    while let Some(share) = shares.recv().await {
        tokio::spawn(worker.clone().serve(share));
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

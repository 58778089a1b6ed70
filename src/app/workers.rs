//! The threads that carry: data workers, each with a runtime of its own, and one for DNS.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::publish::Tables;
use super::{Meters, current};
use crate::config::Config;
use crate::dns::DnsServer;
use crate::lifecycle::{Lifecycle, Phase, Phases, Readiness};
use crate::net::accept::Connections;
use crate::proxy::serve::{Share, Worker};

/// A socket for the DNS thread, and the word that closes it.
#[derive(Debug)]
pub(super) enum DnsSocket {
    /// Questions by UDP.
    Udp(UdpSocket, watch::Receiver<bool>),
    /// Questions by TCP.
    Tcp(TcpListener, watch::Receiver<bool>),
}

/// The threads, and the ways to give them sockets.
#[derive(Debug)]
pub(super) struct Workers {
    data: Vec<mpsc::UnboundedSender<Share>>,
    dns: mpsc::UnboundedSender<DnsSocket>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `[node] workers` data threads and the DNS thread.
    pub(super) fn start(
        config: &Config,
        tables: &Arc<ArcSwap<Tables>>,
        lifecycle: &Lifecycle,
        readiness: &Readiness,
        connections: &Arc<Connections>,
        meters: &Meters,
    ) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = config.node.workers.map_or(cores, usize::from);
        let (dns, dns_sockets) = mpsc::unbounded_channel();
        let mut workers = Self { data: Vec::new(), dns, threads: Vec::new() };
        for number in 0..count {
            let (shares, receiver) = mpsc::unbounded_channel();
            let current = current(tables, |tables| Arc::clone(&tables.proxy));
            let phases = lifecycle.phases();
            let (readiness, connections) = (readiness.clone(), Arc::clone(connections));
            let (accepting, metrics) = (meters.accept.clone(), meters.proxy.clone());
            let idle_max = config.limits.idle_endpoint_connections;
            workers.data.push(shares);
            workers.spawn(format!("data-{number}"), lifecycle.phases(), async move || {
                let worker = Worker::new(
                    current,
                    phases,
                    readiness,
                    connections,
                    accepting,
                    metrics,
                    idle_max,
                );
                data(worker, receiver).await;
            })?;
        }
        let table = current(tables, |tables| Arc::clone(&tables.dns));
        let (metrics, phases) = (meters.dns.clone(), lifecycle.phases());
        workers.spawn("dns".into(), lifecycle.phases(), async move || {
            serve_dns(DnsServer::new(table, metrics, phases), dns_sockets).await;
        })?;
        Ok(workers)
    }

    /// Gives each data worker its share of a listener.
    pub(super) fn share(&self, share: impl Fn() -> io::Result<Share>) -> io::Result<()> {
        for worker in &self.data {
            worker.send(share()?).map_err(|_| io::Error::other("a data worker has ended"))?;
        }
        Ok(())
    }

    /// Gives the DNS thread a socket.
    pub(super) fn dns(&self, socket: DnsSocket) -> io::Result<()> {
        self.dns.send(socket).map_err(|_| io::Error::other("the DNS thread has ended"))
    }

    /// The threads, to be joined after the process has stopped.
    pub(super) fn take(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }

    /// Runs `serve` on a thread with a single-threaded runtime, until [`Phase::Stopped`].
    fn spawn<F>(
        &mut self,
        name: String,
        mut phases: Phases,
        serve: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve() => {}
                    () = phases.reached(Phase::Stopped) => {}
                }
            });
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Serves every share that comes.
async fn data(worker: Worker, mut shares: mpsc::UnboundedReceiver<Share>) {
    while let Some(share) = shares.recv().await {
        tokio::spawn(worker.clone().serve(share));
    }
    // No more listeners will come; those that are there go on until the process stops.
    std::future::pending::<()>().await;
}

async fn serve_dns(server: DnsServer, mut sockets: mpsc::UnboundedReceiver<DnsSocket>) {
    while let Some(socket) = sockets.recv().await {
        let server = server.clone();
        tokio::spawn(async move {
            let served = match socket {
                DnsSocket::Udp(socket, closed) => server.serve_udp(socket, closed).await,
                DnsSocket::Tcp(listener, closed) => server.serve_tcp(listener, closed).await,
            };
            if let Err(error) = served {
                tracing::error!(%error, "a DNS socket is not served any more");
            }
        });
    }
    std::future::pending::<()>().await;
}

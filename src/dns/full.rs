//! The full lane: TCP, forwarding, and what the express lane hands over; on tokio. Sockets are bound
//! by others and handed in; each can be closed alone.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::cookie::Secret;
use super::express::{Handed, LOOK, now};
use super::forward::Forwarder;
use super::metrics::Metrics;
use super::rate::Rates;
use super::respond::{Asker, Outcome, Transport, respond_to};
use super::tcp::{Connection, Places};
use super::wire::{HEADER, Question};
use super::zone::ZoneTable;
use crate::catalog::publish::Current;
use crate::lifecycle::{Phase, Phases};
use crate::net::accept::shed;
use crate::net::mmsg::send_one;
use crate::net::spare::{Spare, is_exhausted};

/// Pause after an error of a socket that may pass: no descriptors left, an interface gone.
const RETRY: Duration = Duration::from_millis(100);
/// Questions that may wait for the full lane, where nothing says how many.
const QUEUE: usize = 1024;
/// How often cookies get a new secret: as long as a cookie is good. The one before is honoured.
const ROTATE: Duration = Duration::from_secs(3600);

/// Serves DNS from the table that is current when a question has arrived. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DnsServer(Arc<Inner>);

/// What both lanes share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) table: Current<ZoneTable>,
    pub(super) metrics: Metrics,
    phases: Phases,
    pub(super) forwarder: Forwarder,
    /// Open TCP connections.
    pub(super) places: Places,
    /// Our own secrets of cookies: the one in force, and the one before.
    pub(super) secrets: ArcSwap<[Secret; 2]>,
    pub(super) rates: Rates,
    /// Where the express lane puts what it does not answer.
    pub(super) queue: mpsc::Sender<Handed>,
    handed: Mutex<Option<mpsc::Receiver<Handed>>>,
    /// Questions that were handed over and are being answered.
    answering: AtomicUsize,
    /// For the moment in which there is no descriptor for a connection.
    spare: Spare,
}

impl DnsServer {
    /// A server that answers from `table` until `phases` reaches [`Phase::Stopped`]; while the
    /// process drains it goes on answering.
    #[must_use]
    pub fn new(table: Current<ZoneTable>, metrics: Metrics, phases: Phases) -> Self {
        let (queue, handed) = mpsc::channel(match table.load().settings().express_queue {
            // There is no [dns] table yet; a reload may bring one.
            0 => QUEUE,
            configured => configured,
        });
        Self(Arc::new(Inner {
            table,
            forwarder: Forwarder::new(metrics.forward.clone()),
            metrics,
            phases,
            places: Places::default(),
            secrets: ArcSwap::from_pointee([Secret::random(), Secret::random()]),
            rates: Rates::default(),
            queue,
            handed: Mutex::new(Some(handed)),
            answering: AtomicUsize::new(0),
            spare: Spare::default(),
        }))
    }

    /// The part that forwards; for the status and explanations.
    #[must_use]
    pub fn forwarder(&self) -> Forwarder {
        self.0.forwarder.clone()
    }

    /// Returns once everything that came is answered, after the sockets were closed: questions that
    /// wait for an upstream, and connections by TCP, which end by themselves when they are idle.
    pub async fn answered(&self) {
        // The threads of the express lane look at their word that often.
        sleep(LOOK * 2).await;
        let inner = &self.0;
        let busy = || {
            inner.answering.load(Ordering::Acquire) > 0
                || inner.queue.capacity() < inner.queue.max_capacity()
                || inner.places.open() > 0
        };
        while busy() {
            sleep(RETRY).await;
        }
    }

    pub(super) const fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Serves what the express lane hands over, until the process has stopped. To be called once.
    pub async fn serve_handed(&self) {
        let handed = self.0.handed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut handed) = handed else { return };
        let mut tasks = JoinSet::new();
        let mut rotate = interval(ROTATE);
        let stop = stopped(self.0.phases(), None);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                Some(handed) = handed.recv() => match handed {
                    Handed::Forward { query, peer, route, socket } => {
                        let inner = Arc::clone(&self.0);
                        inner.answering.fetch_add(1, Ordering::AcqRel);
                        tasks.spawn(async move {
                            let transport = Transport::Udp;
                            let mut reply = inner.forwarded(&query, peer, transport).await;
                            match send_one(&socket, &route, &mut reply) {
                                Ok(()) => inner.metrics.count(transport, &reply),
                                Err(error) => {
                                    inner.metrics.dropped_unsent.inc();
                                    tracing::debug!(%peer, %error, "a DNS reply could not be sent");
                                }
                            }
                            inner.answering.fetch_sub(1, Ordering::AcqRel);
                        });
                    }
                    Handed::Log { query, peer, outcome } => log(&query, peer, outcome),
                },
                _ = rotate.tick() => self.0.rotate(),
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Serves a bound TCP listener until the process has stopped. When `close` says true no more
    /// connections are accepted, and it returns once those that are open have ended.
    ///
    /// # Errors
    /// When the socket cannot be used by this runtime; no error of the network ends it.
    pub async fn serve_tcp(
        &self,
        listener: std::net::TcpListener,
        close: watch::Receiver<bool>,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (mut tasks, mut failed) = (JoinSet::new(), None);
        let stop = stopped(self.0.phases(), Some(close));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        failed = None;
                        if let Some(connection) = Connection::open(&self.0, peer.ip()) {
                            tasks.spawn(connection.serve(stream, peer));
                        }
                    }
                    Err(error) => {
                        if failed != Some(error.kind()) {
                            tracing::warn!(%error, "accepting a DNS connection failed; trying again");
                            failed = Some(error.kind());
                        }
                        if is_exhausted(&error) {
                            let shed = shed(&listener, &self.0.spare);
                            self.0.metrics.tcp_refused.inc_by(shed);
                        }
                        sleep(RETRY).await;
                    }
                },
                // Ended connections leave at once, not with the next one that comes.
                Some(_) = tasks.join_next() => {}
            }
        }
        drop(listener);
        // What is still open ends with the process at the latest: dropping the set cuts it.
        let stop = stopped(self.0.phases(), None);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                ended = tasks.join_next() => if ended.is_none() { return Ok(()) },
            }
        }
    }
}

impl Inner {
    pub(super) fn phases(&self) -> Phases {
        self.phases.clone()
    }

    fn rotate(&self) {
        let [former, _] = **self.secrets.load();
        self.secrets.store(Arc::new([Secret::random(), former]));
    }

    /// Answers a query that came by TCP.
    pub(super) fn respond(
        &self,
        table: &ZoneTable,
        query: &[u8],
        peer: SocketAddr,
        seed: u64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let own = self.secrets.load();
        let secrets = table.settings().limits.cookies.secrets(&own[..]);
        let (transport, client) = (Transport::Tcp, peer.ip());
        let asker = Asker { transport, client, seed, now: now(), secrets, rates: None };
        respond_to(table, query, &asker, out)
    }

    /// Counts what was no query, by why.
    pub(super) fn count_drop(&self, query: &[u8]) {
        if query.len() < HEADER {
            self.metrics.dropped_short.inc();
        } else {
            self.metrics.dropped_response.inc();
        }
    }
}

/// One line of the query log.
fn log(query: &[u8], peer: SocketAddr, outcome: Outcome) {
    let question = Question::read(query);
    let name = question.as_ref().map(|question| question.name().to_string());
    let (qtype, rcode) = (outcome.qtype, outcome.rcode);
    tracing::info!(client = %peer.ip(), name, qtype, rcode, "DNS query");
}

/// Returns when the process has stopped, or when `close` says true. Nobody left to say it means
/// that it is not closed alone.
pub(super) async fn stopped(mut phases: Phases, close: Option<watch::Receiver<bool>>) {
    let closed = async {
        if let Some(mut close) = close
            && close.wait_for(|close| *close).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = phases.reached(Phase::Stopped) => {}
        () = closed => {}
    }
}

#[cfg(test)]
#[path = "full_tests.rs"]
mod tests;

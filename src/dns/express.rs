//! The express lane: threads that take plain questions by UDP in batches, answer them from compiled
//! bytes and send the replies in batches. Nothing here waits, locks or allocates per query; the
//! kernel's receive queue is the only queue, so that a flood is shed where it costs least.
//!
//! Each address has one socket per thread, together a group among which the kernel shares out the
//! clients (`SO_REUSEPORT`). A group of fewer sockets is read by several threads each. What an
//! upstream has to answer goes to the full lane, over a queue with an end.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{
    CpuSet, nanosleep, sched_getaffinity, sched_setaffinity, set_current_timer_slack,
};
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::sync::{mpsc, watch};

use super::ahead;
use super::full::{DnsServer, Inner, stopped};
use super::gather::Gather;
use super::metrics::Way;
use super::respond::{Action, Asker, Outcome, Transport, failure, respond_to};
use super::settings::{Settings, is_own};
use super::wire::rcode;
use crate::net::mmsg::{self, BATCH, Datagrams, Route};

/// How long a thread waits for datagrams before it looks whether its socket is to be closed.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// Pause after an error of a socket that may pass: no memory left, an interface gone.
const RETRY: Duration = Duration::from_millis(100);
/// One batch in so many is timed.
const TIMED: u32 = 64;
/// Largest reply by UDP that can be configured, in bytes.
const REPLY_MAX: usize = 4096;

/// What the express lane gives to the full lane.
#[derive(Debug)]
pub(super) enum Handed {
    /// A query that an upstream has to answer, and the way for the reply.
    Forward { query: Vec<u8>, peer: SocketAddr, route: Route, socket: Arc<UdpSocket> },
    /// A query that was chosen for the log, and what was answered.
    Log { query: Vec<u8>, peer: SocketAddr, outcome: Outcome },
}

/// One thread's share of a socket: takes a batch, answers it. Made by [`DnsServer::lane`].
#[derive(Debug)]
pub struct Lane {
    inner: Arc<Inner>,
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    batch: Datagrams,
    out: Vec<u8>,
    seed: u64,
    turns: u32,
    gather: Gather,
    pause: Duration,
}

impl DnsServer {
    /// Serves the sockets of one address by as many threads as there are cores for, until the
    /// process has stopped or `close` says true, and the threads have ended.
    ///
    /// # Errors
    /// A socket does not tell its address, or no thread can be had.
    pub async fn serve_udp(
        &self,
        sockets: Vec<UdpSocket>,
        threads: usize,
        close: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let stop = Stop(Arc::new(AtomicBool::new(false)));
        let (running, mut ended) = mpsc::channel::<()>(1);
        let cores = cores();
        for number in 0..threads.max(sockets.len()) {
            let Some(socket) = sockets.get(number % sockets.len().max(1)) else { break };
            let socket = socket.try_clone()?;
            let (server, stop, running) = (self.clone(), Arc::clone(&stop.0), running.clone());
            let core = cores.get(number % cores.len().max(1)).copied();
            thread::Builder::new().name(format!("dns-express-{number}")).spawn(move || {
                pin(core);
                match server.lane(socket) {
                    Ok(mut lane) => lane.serve(&stop),
                    Err(error) => tracing::error!(%error, "a DNS socket cannot be served"),
                }
                drop(running);
            })?;
        }
        drop((sockets, running));
        stopped(self.inner().phases(), Some(close)).await;
        drop(stop);
        // Nobody sends: this returns when the last thread has let go of its end.
        ended.recv().await;
        Ok(())
    }

    /// A share of `socket`, for a thread that calls [`Lane::turn`] again and again.
    ///
    /// # Errors
    /// The socket does not tell its address, or cannot be made to tell which one was asked.
    pub fn lane(&self, socket: UdpSocket) -> io::Result<Lane> {
        let local = socket.local_addr()?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK))?;
        mmsg::prepare(&socket, local.is_ipv6(), local.ip().is_unspecified())?;
        Ok(Lane {
            inner: Arc::clone(self.inner()),
            socket: Arc::new(socket),
            local,
            batch: Datagrams::new(REPLY_MAX),
            out: Vec::with_capacity(REPLY_MAX),
            seed: crate::random::bits() | 1,
            turns: 0,
            gather: Gather::new(Instant::now()),
            pause: Duration::ZERO,
        })
    }
}

impl Lane {
    fn serve(&mut self, stop: &AtomicBool) {
        let mut failing = false;
        // Of this thread only; where it is not allowed, a pause takes a little longer.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        while !stop.load(Ordering::Relaxed) {
            match self.turn() {
                Ok(count) => {
                    failing = false;
                    if count > 0 && self.gather.pauses(count, Instant::now(), self.pause) {
                        gathering(self.pause);
                    }
                }
                Err(error) => {
                    if !failing {
                        let local = self.local;
                        tracing::warn!(%local, %error, "receiving DNS datagrams failed; trying again");
                    }
                    failing = true;
                    thread::park_timeout(RETRY);
                }
            }
        }
    }

    /// Waits a moment for datagrams, answers those that came, and says how many that were.
    ///
    /// # Errors
    /// The kernel's, other than that nothing came.
    pub fn turn(&mut self) -> io::Result<usize> {
        let count = match self.batch.receive(&self.socket) {
            Ok(count) => count,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                    _ => Err(error),
                };
            }
        };
        self.turns = self.turns.wrapping_add(1);
        let started = self.turns.is_multiple_of(TIMED).then(Instant::now);
        self.answer(count);
        let (unsent, error) = self.batch.send(&self.socket);
        if let Some(error) = error {
            self.inner.metrics.dropped_unsent.inc_by(unsent as u64);
            tracing::debug!(unsent, %error, "DNS replies could not be sent");
        }
        if let Some(started) = started {
            self.inner.metrics.latency_express.observe(started.elapsed().as_secs_f64());
        }
        Ok(count)
    }

    /// Answers what is in the batch. The table is loaded only now, after the bytes arrived, and let
    /// go of before the thread waits again.
    fn answer(&mut self, count: usize) {
        let Self { inner, socket, local, batch, out, seed, pause, .. } = self;
        let table = inner.table.load();
        let own = inner.secrets.load();
        let settings = table.settings();
        *pause = settings.gather;
        let secrets = settings.limits.cookies.secrets(&own[..]);
        let (now, rates) = (now(), Some(&inner.rates));
        let mut tally = inner.metrics.tally(Way::UdpExpress);
        ahead::fetch(&table, batch, count.min(BATCH));
        for index in 0..count.min(BATCH) {
            let route = batch.route(index);
            let Some(peer) = route.peer().filter(|peer| is_answerable(*peer, *local, &route))
            else {
                inner.metrics.dropped_source.inc();
                continue;
            };
            *seed = next_seed(*seed);
            let (transport, client, seed) = (Transport::Udp, peer.ip(), *seed);
            let asker = Asker { transport, client, seed, now, secrets, rates };
            let query = batch.query(index);
            let Some(mut outcome) = guarded(|| {
                #[cfg(test)]
                tests::trip(query);
                respond_to(&table, query, &asker, out)
            }) else {
                inner.metrics.dropped_panic.inc();
                continue;
            };
            match outcome.action {
                Action::Reply => {}
                Action::Drop => {
                    inner.count_drop(query);
                    continue;
                }
                Action::Limit => {
                    inner.metrics.dropped_rate.inc();
                    continue;
                }
                Action::Forward | Action::Chase => {
                    let (copy, socket) = (query.to_vec(), Arc::clone(socket));
                    let handed = Handed::Forward { query: copy, peer, route, socket };
                    if inner.queue.try_send(handed).is_ok() {
                        inner.metrics.handed_over.inc();
                        continue;
                    }
                    inner.metrics.hand_over_refused.inc();
                    failure(query, rcode::SERVFAIL, None, out);
                    outcome.rcode = rcode::SERVFAIL;
                }
            }
            tally.add(outcome);
            if is_sampled(settings, seed) {
                // A full queue has more important things to do.
                let _ = inner.queue.try_send(Handed::Log { query: query.to_vec(), peer, outcome });
            }
            batch.reply(index, out);
        }
    }
}

/// Lets questions wait in the kernel's queue. A signal may end it early, which harms nobody.
fn gathering(pause: Duration) {
    let nanoseconds = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
    let _ = nanosleep(&nanoseconds);
}

/// Answering port 0 is impossible, answering ourselves would never end.
fn is_answerable(peer: SocketAddr, local: SocketAddr, route: &Route) -> bool {
    let same_port = peer.port() == local.port();
    let to_ourselves = same_port && (is_own(peer, local) || route.asked() == Some(peer.ip()));
    peer.port() != 0 && !to_ourselves
}

/// What `answer` gives; none when it panics, which costs one query and not the thread: a socket
/// that nobody reads would swallow its share of all questions.
fn guarded(answer: impl FnOnce() -> Outcome) -> Option<Outcome> {
    let answered = catch_unwind(AssertUnwindSafe(answer));
    if answered.is_err() {
        tracing::error!("answering a DNS query panicked; it gets no answer");
    }
    answered.ok()
}

fn is_sampled(settings: &Settings, seed: u64) -> bool {
    let sample = u64::from(settings.query_log_sample);
    // The low bits choose the first record; these are others.
    sample > 0 && (seed >> 32).is_multiple_of(sample)
}

/// Unix time in seconds, to the kernel's next tick.
pub(super) fn now() -> u32 {
    clock_gettime(ClockId::RealtimeCoarse).tv_sec as u32
}

/// Xorshift: fast, and even enough to choose who comes first.
pub(super) const fn next_seed(mut seed: u64) -> u64 {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    seed
}

/// Makes the threads end.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None);
    let of = |set: CpuSet| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    allowed.map(of).unwrap_or_default()
}

/// Keeps this thread on one core, so that its share of the table stays in that core's cache.
fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut set = CpuSet::new();
    set.set(core);
    // Where it is not allowed the scheduler chooses.
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::debug!(core, %error, "a DNS thread is not kept on its core");
    }
}

#[cfg(test)]
#[path = "express_tests.rs"]
mod tests;

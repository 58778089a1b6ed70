//! TCP: each connection to an endpoint of one service, byte by byte, both ways.
//!
//! Idle connections hold no buffer: bytes are read when they are there, into a buffer that all
//! connections of a worker share, and only what the other side can't take at once is kept.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::clock;
use super::config::TcpTimeouts;
use super::cut::{Kind, unless_cut};
use super::metrics::ListenerMetrics;
use super::sticky::{Outcome, Stay, Visit};
use super::table::{Listener, ProxyTable};
use super::upstream::{Endpoint, Missed, Upstream, Work};
use super::waiting::{self, Refused};
use crate::catalog::observed::Failure;
use crate::catalog::publish::Current;

/// Bytes moved at once.
const PIECE: usize = 64 << 10;
/// Endpoints that are tried before the client's connection is closed.
const CONNECTS_MAX: usize = 3;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// What the connections of one TCP listener share within one worker.
#[derive(Debug)]
pub struct TcpService {
    /// Name of the listener.
    pub name: Arc<str>,
    /// The tables.
    pub current: Current<ProxyTable>,
    /// Counters of this listener.
    pub metrics: ListenerMetrics,
}

/// Connects `client` to an endpoint and carries bytes until both sides have ended, one broke, or
/// nothing moved for the idle time. Without an endpoint the client's connection is closed.
pub async fn serve(service: Arc<TcpService>, client: TcpStream, peer: SocketAddr) {
    let mut tried = Vec::new();
    let mut first = None;
    while tried.len() < CONNECTS_MAX {
        let choice = match choose(&service, &client, peer, &tried).await {
            Ok(choice) => choice,
            Err(Refused::Nobody) => break,
            Err(refused) => {
                tracing::debug!(listener = &*service.name, %peer, ?refused, "no place in time");
                return reset(&client);
            }
        };
        let sticky = choice.sticky.as_ref().map(|(outcome, _)| *outcome);
        let sticky = first.get_or_insert(sticky).as_mut();
        let began = Instant::now();
        let connect = TcpStream::connect(choice.endpoint.address);
        match timeout(choice.timeouts.connect.0, connect).await {
            Ok(Ok(endpoint)) => {
                // If the kernel refuses, small messages wait a little; they still arrive.
                let _ = endpoint.set_nodelay(true);
                choice.endpoint.connected(began.elapsed().as_micros() as u64);
                if let Some(outcome) = sticky {
                    service.metrics.sticky.count(*outcome);
                }
                let watch = Watch { endpoint: &choice.endpoint, told: AtomicBool::new(false) };
                let idle = choice.timeouts.idle.0;
                let carried = carry(&client, &endpoint, idle, &service.metrics.bytes, &watch);
                let load = choice.endpoint.load();
                let Ok(carried) = unless_cut(Kind::Connection, Some(load), carried)
                    .await
                    .inspect_err(|reason| service.metrics.cut(*reason))
                else {
                    reset(&client);
                    reset(&endpoint);
                    return;
                };
                if let Err(Broken { error, .. }) = carried {
                    tracing::debug!(
                        listener = &*service.name, %peer, endpoint = %choice.endpoint.address,
                        %error, "a TCP connection broke"
                    );
                    reset(&client);
                    reset(&endpoint);
                }
                return;
            }
            failed => {
                let error = failed.map(Result::err);
                if !matches!(&error, Ok(Some(error)) if ours(error)) {
                    choice.endpoint.failed(Failure::Connect);
                }
                tracing::debug!(
                    listener = &*service.name, endpoint = %choice.endpoint.address, ?error,
                    "cannot connect to an endpoint"
                );
                service.metrics.retries.inc();
                if let Some(outcome) = sticky
                    && *outcome == Outcome::Bound
                {
                    *outcome = Outcome::Broken;
                }
                tried.push(choice.endpoint.address);
            }
        }
    }
    tracing::debug!(listener = &*service.name, %peer, "no endpoint for a TCP connection");
}

struct Choice {
    endpoint: Arc<Endpoint>,
    timeouts: TcpTimeouts,
    /// What became of the client's binding, and how long it counts as seen.
    sticky: Option<(Outcome, Stay)>,
    _work: Work,
}

/// A place at an endpoint from the newest table: the one that the client is bound to, or by the
/// policy, after waiting for it if need be. A connection holds its place, never the table.
async fn choose(
    service: &TcpService,
    client: &TcpStream,
    peer: SocketAddr,
    tried: &[SocketAddr],
) -> Result<Choice, Refused> {
    let (listener, mut visit, placed, is_bound) = {
        let table = service.current.load();
        let listener = table.listener(&service.name).map(Arc::clone).ok_or(Refused::Nobody)?;
        let Listener::Tcp { config, target } = &*listener else { return Err(Refused::Nobody) };
        let mut visit = Visit::of(&table, config.sticky.as_ref(), peer.ip());
        let bound = visit.as_mut().and_then(|visit| visit.bound(&table, std::iter::once(target)));
        // One that has failed is not tried again.
        let bound = bound.filter(|_| tried.is_empty()).map(|(_, endpoint)| endpoint);
        let is_bound = bound.is_some();
        let key = |upstream: &Upstream| upstream.key(peer.ip(), None, clock::micros());
        let placed = match bound {
            Some(endpoint) => waiting::place_at(&table, target, endpoint),
            None => waiting::place(&table, target, key, tried),
        };
        let placed = match placed {
            Err(Missed::Full) => Err(table.upstream(target).map(|upstream| key(upstream))),
            Err(Missed::Nobody) => Err(None),
            Ok(placed) => Ok(placed),
        };
        (listener, visit, placed, is_bound)
    };
    let Listener::Tcp { config, target } = &*listener else { return Err(Refused::Nobody) };
    let (placed, is_bound) = match placed {
        Ok(placed) => (placed, is_bound),
        Err(key) => {
            let (key, left) = (key.ok_or(Refused::Nobody)?, waiting::left(client, true));
            let (current, queue) = (&service.current, &service.metrics.queue);
            (Box::pin(waiting::wait(current, target, key, tried, left, queue)).await?, false)
        }
    };
    let stays =
        |visit: Visit| (visit.outcome(is_bound), visit.goes(target, &placed.endpoint, true));
    let sticky = visit.take().map(stays);
    let timeouts = config.timeouts.clone();
    Ok(Choice { endpoint: placed.endpoint, timeouts, sticky, _work: placed.work })
}

/// A close that tells the other side that something broke, instead of a clean end.
fn reset(stream: &TcpStream) {
    // It may be closed already; then there is nothing to tell.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Whether connecting failed for want of something of our own: descriptors, or free ports.
fn ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    of_ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What is told of an endpoint once per connection: that it was of use, or that it broke before its
/// first byte.
struct Watch<'a> {
    endpoint: &'a Endpoint,
    told: AtomicBool,
}

impl Watch<'_> {
    fn spoke(&self) {
        if !self.told.load(Relaxed) {
            self.told.store(true, Relaxed);
            self.endpoint.succeeded();
        }
    }

    fn broke(&self) {
        if !self.told.load(Relaxed) {
            self.told.store(true, Relaxed);
            self.endpoint.failed(Failure::Reset);
        }
    }
}

/// How a connection broke, and at which side.
struct Broken {
    error: io::Error,
    by_endpoint: bool,
}

async fn carry(
    client: &TcpStream,
    endpoint: &TcpStream,
    idle: Duration,
    bytes: &[IntCounter; 2],
    watch: &Watch<'_>,
) -> Result<(), Broken> {
    let moved = LastMove { started: Instant::now(), after_millis: AtomicU64::new(0) };
    let both = async {
        tokio::try_join!(
            pump(client, endpoint, &moved, &bytes[0], None),
            pump(endpoint, client, &moved, &bytes[1], Some(watch)),
        )
        .map(|_| ())
    };
    tokio::pin!(both);
    loop {
        tokio::select! {
            done = &mut both => {
                match &done {
                    Ok(()) => watch.spoke(),
                    Err(broken) if broken.by_endpoint => watch.broke(),
                    Err(_) => {}
                }
                return done;
            }
            () = tokio::time::sleep_until(moved.at() + idle) => {
                if Instant::now() >= moved.at() + idle {
                    let error = io::Error::new(io::ErrorKind::TimedOut, "idle for too long");
                    return Err(Broken { error, by_endpoint: false });
                }
            }
        }
    }
}

/// When a byte moved last, in either direction.
struct LastMove {
    started: Instant,
    after_millis: AtomicU64,
}

impl LastMove {
    fn at(&self) -> Instant {
        self.started + Duration::from_millis(self.after_millis.load(Relaxed))
    }

    fn now(&self) {
        self.after_millis.store(self.started.elapsed().as_millis() as u64, Relaxed);
    }
}

/// Moves bytes one way until the end of `from`, then passes the end on (half-close). The way from an
/// endpoint has its `watch`.
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    moved: &LastMove,
    bytes: &IntCounter,
    watch: Option<&Watch<'_>>,
) -> Result<(), Broken> {
    let reading = |error| Broken { error, by_endpoint: watch.is_some() };
    let writing = |error| Broken { error, by_endpoint: watch.is_none() };
    loop {
        from.readable().await.map_err(reading)?;
        let step = BUFFER.with_borrow_mut(|buffer| step(from, to, buffer));
        let (read, kept) = match step {
            Ok((read, Ok(kept))) => (read, kept),
            Ok((_, Err(error))) => return Err(writing(error)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(reading(error)),
        };
        if read == 0 {
            // The other side may have closed both ways already; its own pump says so.
            let _ = socket2::SockRef::from(to).shutdown(Shutdown::Write);
            return Ok(());
        }
        bytes.inc_by(read as u64);
        if let Some(watch) = watch {
            watch.spoke();
        }
        moved.now();
        write_all(to, &kept).await.map_err(writing)?;
        moved.now();
    }
}

/// One read and one write: how much was read, and what of it could not be written yet or why.
fn step(
    from: &TcpStream,
    to: &TcpStream,
    buffer: &mut [u8],
) -> io::Result<(usize, io::Result<Vec<u8>>)> {
    let read = from.try_read(buffer)?;
    let written = match to.try_write(&buffer[..read]) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Ok((read, Err(error))),
    };
    Ok((read, Ok(buffer[written..read].to_vec())))
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

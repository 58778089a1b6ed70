//! TCP: each connection to an endpoint of one service, byte by byte, both ways.
//!
//! Idle connections hold no buffer: bytes are read when they are there, into a buffer that all
//! connections of a worker share, and only what the other side can't take at once is kept.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::balance::PickKey;
use super::config::TcpTimeouts;
use super::metrics::ListenerMetrics;
use super::table::{Listener, ProxyTable};
use super::upstream::Work;
use crate::catalog::publish::Current;
use crate::random;

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
    /// Where the worker's clock started.
    pub started: Instant,
}

/// Connects `client` to an endpoint and carries bytes until both sides have ended, one broke, or
/// nothing moved for the idle time. Without an endpoint the client's connection is closed.
pub async fn serve(service: Arc<TcpService>, client: TcpStream, peer: SocketAddr) {
    let mut tried = Vec::new();
    while tried.len() < CONNECTS_MAX {
        let Some(choice) = choose(&service, &tried) else { break };
        let connect = TcpStream::connect(choice.address);
        match timeout(choice.timeouts.connect.0, connect).await {
            Ok(Ok(endpoint)) => {
                // If the kernel refuses, small messages wait a little; they still arrive.
                let _ = endpoint.set_nodelay(true);
                if let Err(error) =
                    carry(&client, &endpoint, choice.timeouts.idle.0, &service.metrics.bytes).await
                {
                    tracing::debug!(
                        listener = &*service.name, %peer, endpoint = %choice.address, %error,
                        "a TCP connection broke"
                    );
                    reset(&client);
                    reset(&endpoint);
                }
                return;
            }
            failed => {
                let error = failed.map(Result::err);
                tracing::debug!(
                    listener = &*service.name, endpoint = %choice.address, ?error,
                    "cannot connect to an endpoint"
                );
                service.metrics.retries.inc();
                tried.push(choice.address);
            }
        }
    }
    tracing::debug!(listener = &*service.name, %peer, "no endpoint for a TCP connection");
}

struct Choice {
    address: SocketAddr,
    timeouts: TcpTimeouts,
    _work: Work,
}

/// An endpoint from the newest table; a connection holds its place there, never the table.
fn choose(service: &TcpService, tried: &[SocketAddr]) -> Option<Choice> {
    let table = service.current.load();
    let Listener::Tcp { config, target } = &**table.listener(&service.name)? else { return None };
    let upstream = table.upstream(target)?;
    let now_micros = u64::try_from(service.started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let key = PickKey { random: random::bits(), now_micros };
    let endpoint =
        if tried.is_empty() { upstream.pick(key) } else { upstream.pick_another(key, tried) }?;
    Some(Choice {
        address: endpoint.address,
        timeouts: config.timeouts.clone(),
        _work: endpoint.begin(),
    })
}

/// A close that tells the other side that something broke, instead of a clean end.
fn reset(stream: &TcpStream) {
    // It may be closed already; then there is nothing to tell.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn carry(
    client: &TcpStream,
    endpoint: &TcpStream,
    idle: Duration,
    bytes: &[IntCounter; 2],
) -> io::Result<()> {
    let moved = LastMove { started: Instant::now(), after_millis: AtomicU64::new(0) };
    let both = async {
        tokio::try_join!(
            pump(client, endpoint, &moved, &bytes[0]),
            pump(endpoint, client, &moved, &bytes[1]),
        )
        .map(|_| ())
    };
    tokio::pin!(both);
    loop {
        tokio::select! {
            done = &mut both => return done,
            () = tokio::time::sleep_until(moved.at() + idle) => {
                if Instant::now() >= moved.at() + idle {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "idle for too long"));
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

/// Moves bytes one way until the end of `from`, then passes the end on (half-close).
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    moved: &LastMove,
    bytes: &IntCounter,
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let step = BUFFER.with_borrow_mut(|buffer| step(from, to, buffer));
        let (read, kept) = match step {
            Ok(step) => step,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            // The other side may have closed both ways already; its own pump says so.
            let _ = socket2::SockRef::from(to).shutdown(Shutdown::Write);
            return Ok(());
        }
        bytes.inc_by(read as u64);
        moved.now();
        write_all(to, &kept).await?;
        moved.now();
    }
}

/// One read and one write; what could not be written yet is returned.
fn step(from: &TcpStream, to: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<u8>)> {
    let read = from.try_read(buffer)?;
    let written = match to.try_write(&buffer[..read]) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    Ok((read, buffer[written..read].to_vec()))
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

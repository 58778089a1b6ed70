//! DNS by TCP (RFC 7766, RFC 9210): queries one behind the other, replies as they come; how many
//! connections there may be, and which one makes room when there are too many.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;

use super::express::next_seed;
use super::full::Inner;
use super::metrics::Way;
use super::respond::{Action, Transport, failure};
use super::wire::rcode;

/// Replies of one connection that wait to be written.
const REPLIES: usize = 16;
/// Bytes of a connection that are read ahead.
const READ_AHEAD: usize = 2048;
/// Bytes that leave together when replies are there already.
const WRITE_TOGETHER: usize = 16 * 1024;
/// One query in so many is timed.
const TIMED: u64 = 64;

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    open: usize,
    clients: HashMap<IpAddr, usize>,
    /// Connections that wait for their client, the one that has waited longest first.
    idle: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    /// Connections that wait for their client.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.lock().idle.len()
    }
}

/// One TCP connection, counted as long as it lives.
pub(super) struct Connection {
    inner: Arc<Inner>,
    client: IpAddr,
    /// Told when another connection needs the place.
    evicted: Arc<Notify>,
}

impl Connection {
    /// A place for a connection of `client`. When all are taken, the connection that has been idle
    /// for longest leaves (RFC 7766 §6.2.3). None, and counted, when no one is idle, or when this
    /// client has its share.
    pub(super) fn open(inner: &Arc<Inner>, client: IpAddr) -> Option<Self> {
        let table = inner.table.load();
        let settings = table.settings();
        let client = client.to_canonical();
        let mut seats = inner.places.lock();
        let own = seats.clients.get(&client).copied().unwrap_or(0);
        if own >= settings.tcp_max_per_client {
            inner.metrics.tcp_refused.inc();
            return None;
        }
        if seats.open >= settings.tcp_max_connections {
            let Some((_, longest)) = seats.idle.pop_first() else {
                inner.metrics.tcp_refused.inc();
                return None;
            };
            longest.notify_one();
            inner.metrics.tcp_evicted.inc();
        }
        seats.open += 1;
        seats.clients.insert(client, own + 1);
        inner.metrics.tcp_connections.inc();
        Some(Self { inner: Arc::clone(inner), client, evicted: Arc::default() })
    }

    /// Serves the connection to its end.
    pub(super) async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        // Replies are small and written whole: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let (replies, queue) = mpsc::channel(REPLIES);
        let patience = self.inner.table.load().settings().tcp_idle;
        let write = self.write(writer, queue, patience);
        let read = self.read(BufReader::with_capacity(READ_AHEAD, reader), peer, replies, patience);
        tokio::pin!(write);
        tokio::select! {
            // Nobody reads what is said here any more.
            () = &mut write => {}
            // Nothing more is asked; what was is answered.
            () = read => write.await,
        }
    }

    /// Waits for the length of the next query. None: idle for too long, evicted, the end of the
    /// stream, or a length of zero.
    async fn next(
        &self,
        reader: &mut BufReader<OwnedReadHalf>,
        patience: Duration,
    ) -> Option<usize> {
        let _idle = Idle::new(self);
        tokio::select! {
            () = self.evicted.notified() => None,
            length = timeout(patience, reader.read_u16()) => match length {
                Ok(Ok(length)) if length > 0 => Some(usize::from(length)),
                _ => None,
            },
        }
    }

    /// Reads queries one behind the other, until there are no more, or one takes too long.
    async fn read(
        &self,
        mut reader: BufReader<OwnedReadHalf>,
        peer: SocketAddr,
        replies: mpsc::Sender<Vec<u8>>,
        patience: Duration,
    ) {
        let inner = &self.inner;
        let mut query = Vec::new();
        let mut out = Vec::new();
        let mut seed = crate::random::bits() | 1;
        let mut upstream = None;
        while let Some(length) = self.next(&mut reader, patience).await {
            query.resize(length, 0);
            match timeout(patience, reader.read_exact(&mut query)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return,
                Err(_) => return inner.metrics.tcp_timeouts.inc(),
            }
            seed = next_seed(seed);
            let started = (seed >> 32).is_multiple_of(TIMED).then(Instant::now);
            let table = inner.table.load();
            let mut outcome = inner.respond(&table, &query, peer, seed, &mut out);
            let settings = Arc::clone(table.settings());
            drop(table);
            match outcome.action {
                Action::Reply => {}
                Action::Drop | Action::Limit => return inner.count_drop(&query),
                Action::Forward | Action::Chase => {
                    let places = upstream
                        .get_or_insert_with(|| Arc::new(Semaphore::new(settings.tcp_pipeline)));
                    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
                        let (inner, replies) = (Arc::clone(inner), replies.clone());
                        let query = query.clone();
                        // What stands behind it is answered first (RFC 7766 §6.2.1.1).
                        tokio::spawn(async move {
                            let transport = Transport::Tcp;
                            let reply = inner.forwarded(&query, peer, transport).await;
                            inner.metrics.count(transport, &reply);
                            // Fails when the connection has ended: nobody waits for it.
                            let _ = replies.send(framed(&reply)).await;
                            drop(place);
                        });
                        continue;
                    }
                    inner.metrics.forwards_refused.inc();
                    failure(&query, rcode::SERVFAIL, None, &mut out);
                    outcome.rcode = rcode::SERVFAIL;
                }
            }
            inner.metrics.count_own(Way::Tcp, outcome);
            if replies.send(framed(&out)).await.is_err() {
                return;
            }
            if let Some(started) = started {
                inner.metrics.latency_tcp.observe(started.elapsed().as_secs_f64());
            }
        }
    }

    /// Writes replies until none can come any more, or until the client does not read.
    async fn write(
        &self,
        mut writer: OwnedWriteHalf,
        mut queue: mpsc::Receiver<Vec<u8>>,
        patience: Duration,
    ) {
        while let Some(mut bytes) = queue.recv().await {
            while bytes.len() < WRITE_TOGETHER
                && let Ok(more) = queue.try_recv()
            {
                bytes.extend_from_slice(&more);
            }
            match timeout(patience, writer.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return self.inner.metrics.tcp_timeouts.inc(),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut seats = self.inner.places.lock();
        seats.open = seats.open.saturating_sub(1);
        if let Some(own) = seats.clients.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                seats.clients.remove(&self.client);
            }
        }
        self.inner.metrics.tcp_connections.dec();
    }
}

/// A connection's place in the line of those that wait for their client.
struct Idle<'a> {
    places: &'a Places,
    number: u64,
}

impl<'a> Idle<'a> {
    fn new(connection: &'a Connection) -> Self {
        let places = &connection.inner.places;
        let mut seats = places.lock();
        let number = seats.next;
        seats.next += 1;
        seats.idle.insert(number, Arc::clone(&connection.evicted));
        Self { places, number }
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.places.lock().idle.remove(&self.number);
    }
}

/// The reply with its length before it (RFC 1035 §4.2.2).
pub(super) fn framed(reply: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(reply.len() + 2);
    framed.extend_from_slice(&(reply.len() as u16).to_be_bytes());
    framed.extend_from_slice(reply);
    framed
}

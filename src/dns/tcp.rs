//! One DNS connection by TCP (RFC 7766): queries one behind the other, replies as they come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::full::{Inner, next_seed};
use super::respond::{Action, Transport, respond};

/// Replies of one connection that wait to be written, and queries of it under way upstream.
const PIPELINE: usize = 16;
/// Bytes of a connection that are read ahead.
const READ_AHEAD: usize = 2048;

/// One TCP connection, counted as long as it lives (RFC 7766).
pub(super) struct Connection(Arc<Inner>);

impl Connection {
    /// None, and counted, when too many are open.
    pub(super) fn open(inner: &Arc<Inner>) -> Option<Self> {
        let max = inner.table.load().settings().tcp_max_connections;
        let open = inner.connections.fetch_add(1, Ordering::Relaxed);
        inner.metrics.tcp_connections.inc();
        let connection = Self(Arc::clone(inner));
        if open >= max {
            inner.metrics.tcp_refused.inc();
            return None;
        }
        Some(connection)
    }

    /// Serves the connection to its end.
    pub(super) async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        // Replies are small and written whole: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let (replies, queue) = mpsc::channel(PIPELINE);
        let patience = self.0.table.load().settings().tcp_idle;
        let write = self.write(writer, queue, patience);
        let read = self.read(BufReader::with_capacity(READ_AHEAD, reader), peer, replies, patience);
        tokio::join!(read, write);
    }

    /// Reads queries one behind the other. Returns at the end of the stream, at a length of zero,
    /// when it takes too long, or when nobody reads the replies any more.
    async fn read(
        &self,
        mut reader: BufReader<OwnedReadHalf>,
        peer: SocketAddr,
        replies: mpsc::Sender<Vec<u8>>,
        patience: Duration,
    ) {
        let inner = &self.0;
        let mut query = Vec::new();
        let mut out = Vec::new();
        let mut seed = u64::from(peer.port()) << 1 | 1;
        let upstream = Arc::new(Semaphore::new(PIPELINE));
        loop {
            let length = match timeout(patience, reader.read_u16()).await {
                Ok(Ok(length)) if length > 0 => usize::from(length),
                // Idle is no fault, the end neither, and a length of zero says nothing.
                _ => return,
            };
            query.resize(length, 0);
            match timeout(patience, reader.read_exact(&mut query)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return,
                Err(_) => return inner.metrics.tcp_timeouts.inc(),
            }
            seed = next_seed(seed);
            let table = inner.table.load();
            let action = respond(&table, &query, Transport::Tcp, peer.ip(), seed, &mut out);
            let settings = Arc::clone(table.settings());
            drop(table);
            match action {
                Action::Reply => {
                    inner.metrics.count(Transport::Tcp, &out);
                    if replies.send(framed(&out)).await.is_err() {
                        return;
                    }
                }
                Action::Drop => return inner.count_drop(&query),
                Action::Forward => {
                    let Ok(place) = Arc::clone(&upstream).acquire_owned().await else { return };
                    let (inner, replies) = (Arc::clone(inner), replies.clone());
                    let query = query.clone();
                    // Others behind it may be answered first (RFC 7766 §6.2.1.1).
                    tokio::spawn(async move {
                        let reply =
                            inner.forwarder.forward(&settings, &query, Transport::Tcp).await;
                        inner.metrics.count(Transport::Tcp, &reply);
                        // Fails when the connection has ended meanwhile: nobody waits for it.
                        let _ = replies.send(framed(&reply)).await;
                        drop(place);
                    });
                }
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
        while let Some(reply) = queue.recv().await {
            match timeout(patience, writer.write_all(&reply)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return self.0.metrics.tcp_timeouts.inc(),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.tcp_connections.dec();
    }
}

/// The reply with its length before it (RFC 1035 §4.2.2).
pub(super) fn framed(reply: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(reply.len() + 2);
    framed.extend_from_slice(&(reply.len() as u16).to_be_bytes());
    framed.extend_from_slice(reply);
    framed
}

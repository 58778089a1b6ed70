//! The full lane: UDP and TCP sockets on tokio, with forwarding.
//!
//! Sockets are bound by others and handed in; each can be closed alone. UDP sockets here are plain
//! ones: bound to a wildcard on a host with several addresses, a reply leaves from the address that
//! the kernel prefers, which may not be the one that was asked. Bind each address by itself there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::forward::Forwarder;
use super::metrics::Metrics;
use super::respond::{Action, Transport, respond};
use super::settings::is_own;
use super::tcp::Connection;
use super::wire::HEADER;
use super::zone::ZoneTable;
use crate::catalog::publish::Current;
use crate::lifecycle::{Phase, Phases};

/// Datagrams taken from a socket before the table is loaded and they are answered.
const BATCH: usize = 32;
/// Longest query by UDP in bytes; a longer one is cut, and so FORMERR.
const QUERY_MAX: usize = 4096;
/// Pause after an error of a socket that may pass: no descriptors left, an interface gone.
const RETRY: Duration = Duration::from_millis(100);

/// Serves DNS from the table that is current when a question has arrived. Cheap to clone.
#[derive(Clone)]
pub struct DnsServer(Arc<Inner>);

/// What all sockets of a server share.
pub(super) struct Inner {
    pub(super) table: Current<ZoneTable>,
    pub(super) metrics: Metrics,
    phases: Phases,
    pub(super) forwarder: Forwarder,
    /// Open TCP connections.
    pub(super) connections: AtomicUsize,
}

impl DnsServer {
    /// A server that answers from `table` until `phases` reaches [`Phase::Stopped`]; while the
    /// process drains it goes on answering.
    #[must_use]
    pub fn new(table: Current<ZoneTable>, metrics: Metrics, phases: Phases) -> Self {
        let forwarder = Forwarder::new(metrics.clone());
        let connections = AtomicUsize::new(0);
        Self(Arc::new(Inner { table, metrics, phases, forwarder, connections }))
    }

    /// Serves a bound UDP socket until the process has stopped or `close` says true.
    ///
    /// # Errors
    /// When the socket cannot be used by this runtime; no error of the network ends it.
    pub async fn serve_udp(
        &self,
        socket: std::net::UdpSocket,
        close: watch::Receiver<bool>,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let local = socket.local_addr()?;
        let mut batch = Batch::new();
        let mut tasks = JoinSet::new();
        let stop = stopped(self.0.phases.clone(), Some(close));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                ready = socket.readable() => if let Err(error) = ready {
                    tracing::warn!(%local, %error, "waiting for DNS datagrams failed; trying again");
                    sleep(RETRY).await;
                },
            }
            if let Err(error) = batch.fill(&socket) {
                tracing::warn!(%local, %error, "receiving DNS datagrams failed; trying again");
                sleep(RETRY).await;
            }
            self.answer(&mut batch, &socket, local, &mut tasks);
            while tasks.try_join_next().is_some() {}
        }
    }

    /// Answers what is in the batch. The table is loaded only now, after the bytes arrived.
    fn answer(
        &self,
        batch: &mut Batch,
        socket: &Arc<UdpSocket>,
        local: SocketAddr,
        tasks: &mut JoinSet<()>,
    ) {
        if batch.peers.is_empty() {
            return;
        }
        let inner = &self.0;
        let table = inner.table.load();
        for (buffer, (length, peer)) in batch.buffers.iter().zip(batch.peers.drain(..)) {
            let query = buffer.get(..length).unwrap_or_default();
            // Answering port 0 is impossible, answering ourselves would never end.
            if peer.port() == 0 || is_own(peer, local) {
                inner.metrics.dropped_source.inc();
                continue;
            }
            batch.seed = next_seed(batch.seed);
            let out = &mut batch.out;
            match respond(&table, query, Transport::Udp, peer.ip(), batch.seed, out) {
                Action::Reply => inner.send(socket, out, peer),
                Action::Drop => inner.count_drop(query),
                Action::Forward => {
                    let (server, query) = (self.clone(), query.to_vec());
                    let (socket, settings) = (Arc::clone(socket), Arc::clone(table.settings()));
                    tasks.spawn(async move {
                        let inner = &server.0;
                        let reply =
                            inner.forwarder.forward(&settings, &query, Transport::Udp).await;
                        inner.send(&socket, &reply, peer);
                    });
                }
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
        let mut tasks = JoinSet::new();
        let stop = stopped(self.0.phases.clone(), Some(close));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(connection) = Connection::open(&self.0) {
                            tasks.spawn(connection.serve(stream, peer));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a DNS connection failed; trying again");
                        sleep(RETRY).await;
                    }
                },
                // Ended connections leave at once, not with the next one that comes.
                Some(_) = tasks.join_next() => {}
            }
        }
        drop(listener);
        // What is still open ends with the process at the latest: dropping the set cuts it.
        let stop = stopped(self.0.phases.clone(), None);
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
    /// Sends without waiting: where the kernel has no room the client asks again, and nobody else
    /// waits for it.
    fn send(&self, socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
        match socket.try_send_to(reply, peer) {
            Ok(_) => self.metrics.count(Transport::Udp, reply),
            Err(error) => {
                self.metrics.dropped_unsent.inc();
                tracing::debug!(%peer, %error, "a DNS reply could not be sent");
            }
        }
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

/// Returns when the process has stopped, or when `close` says true. Nobody left to say it means
/// that it is not closed alone.
async fn stopped(mut phases: Phases, close: Option<watch::Receiver<bool>>) {
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

/// Datagrams that arrived together.
struct Batch {
    buffers: Vec<Box<[u8]>>,
    peers: Vec<(usize, SocketAddr)>,
    out: Vec<u8>,
    seed: u64,
}

impl Batch {
    fn new() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self {
            buffers: (0..BATCH).map(|_| vec![0; QUERY_MAX].into()).collect(),
            peers: Vec::with_capacity(BATCH),
            out: Vec::with_capacity(QUERY_MAX),
            seed: std::hash::RandomState::new().build_hasher().finish() | 1,
        }
    }

    /// Takes what the socket has, up to the batch, without waiting.
    fn fill(&mut self, socket: &UdpSocket) -> io::Result<()> {
        for buffer in &mut self.buffers {
            match socket.try_recv_from(buffer) {
                Ok(received) => self.peers.push(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Xorshift: fast, and even enough to choose who comes first.
pub(super) const fn next_seed(mut seed: u64) -> u64 {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    seed
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener as StdListener, UdpSocket as StdSocket};
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::super::dialect::testing::{service, settings};
    use super::super::hostile::ask;
    use super::super::tcp::framed;
    use super::super::wire::rtype;
    use super::*;
    use crate::catalog::Snapshot;
    use crate::lifecycle::Lifecycle;

    struct Running {
        server: DnsServer,
        lifecycle: Lifecycle,
        close: watch::Sender<bool>,
        udp: SocketAddr,
        tcp: SocketAddr,
        ends: [tokio::task::JoinHandle<io::Result<()>>; 2],
        table: Arc<Mutex<Arc<ZoneTable>>>,
    }

    fn table(more: &str, address: &str) -> Arc<ZoneTable> {
        let web = service("web", &[&format!("a {address} 80")]);
        let services = [(Arc::clone(&web.name), Arc::new(web))].into_iter().collect();
        let snapshot = Snapshot { generation: 1, services, ..Snapshot::default() };
        Arc::new(ZoneTable::compile(
            &settings(&format!("listen = []\n{more}\n[zone.svc]")),
            None,
            &snapshot,
        ))
    }

    fn start(more: &str) -> Running {
        let published = Arc::new(Mutex::new(table(more, "10.0.0.1")));
        let read = Arc::clone(&published);
        let lifecycle = Lifecycle::new();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let current = Current::new(move || Arc::clone(&read.lock().unwrap()));
        let server = DnsServer::new(current, metrics, lifecycle.phases());
        let socket = StdSocket::bind("127.0.0.1:0").unwrap();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let (udp, tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
        let (close, closing) = watch::channel(false);
        let (a, b, closing2) = (server.clone(), server.clone(), closing.clone());
        let ends = [
            tokio::spawn(async move { a.serve_udp(socket, closing).await }),
            tokio::spawn(async move { b.serve_tcp(listener, closing2).await }),
        ];
        Running { server, lifecycle, close, udp, tcp, ends, table: published }
    }

    async fn by_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(query, server).await.unwrap();
        let mut reply = vec![0; 1500];
        let length = socket.recv(&mut reply).await.unwrap();
        reply.truncate(length);
        reply
    }

    async fn read_reply(stream: &mut TcpStream) -> Vec<u8> {
        let length = stream.read_u16().await.unwrap();
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn it_answers_from_the_table_of_the_moment_while_draining_and_ends_when_stopped() {
        let running = start("");
        let web = ask("web.svc", rtype::A);
        assert!(by_udp(running.udp, &web).await.ends_with(&[10, 0, 0, 1]));
        *running.table.lock().unwrap() = table("", "10.0.0.2");
        assert!(by_udp(running.udp, &web).await.ends_with(&[10, 0, 0, 2]));
        running.lifecycle.advance(Phase::Draining);
        assert!(by_udp(running.udp, &web).await.ends_with(&[10, 0, 0, 2]));
        running.lifecycle.advance(Phase::Stopped);
        for end in running.ends {
            end.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_socket_can_be_closed_alone_and_open_connections_are_served_to_their_end() {
        let running = start("");
        let mut stream = TcpStream::connect(running.tcp).await.unwrap();
        let query = framed(&ask("web.svc", rtype::A));
        stream.write_all(&query).await.unwrap();
        read_reply(&mut stream).await;
        running.close.send(true).unwrap();
        let [udp, tcp] = running.ends;
        udp.await.unwrap().unwrap();
        stream.write_all(&query).await.unwrap();
        assert!(read_reply(&mut stream).await.ends_with(&[10, 0, 0, 1]));
        drop(stream);
        tcp.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn ten_queries_in_a_row_by_tcp_get_ten_replies_however_they_are_cut() {
        let running = start("");
        let mut stream = TcpStream::connect(running.tcp).await.unwrap();
        let mut bytes = Vec::new();
        for id in 0..10 {
            let mut query = ask("web.svc", rtype::A);
            query[1] = id;
            bytes.extend(framed(&query));
        }
        for part in bytes.chunks(7) {
            stream.write_all(part).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        for id in 0..10 {
            assert_eq!(read_reply(&mut stream).await[1], id);
        }
        assert_eq!(running.server.0.metrics.tcp_connections.get(), 1);
    }

    #[tokio::test]
    async fn connections_that_say_nothing_useful_are_closed() {
        let running = start("tcp_idle = \"200ms\"");
        for (case, bytes) in [
            ("a length of zero", &[0, 0][..]),
            ("a response", &[0, 12, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("ten bytes of many, then nothing", &[255, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            ("half a length", &[0]),
            ("nothing", &[]),
        ] {
            let mut stream = TcpStream::connect(running.tcp).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{case}: {rest:?}");
        }
        assert_eq!(running.server.0.metrics.tcp_timeouts.get(), 1);
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_at_once_and_counted() {
        let running = start("tcp_max_connections = 1");
        let query = framed(&ask("web.svc", rtype::A));
        let mut first = TcpStream::connect(running.tcp).await.unwrap();
        first.write_all(&query).await.unwrap();
        read_reply(&mut first).await;
        let mut second = TcpStream::connect(running.tcp).await.unwrap();
        let mut rest = Vec::new();
        let _ = second.read_to_end(&mut rest).await;
        assert_eq!(running.server.0.metrics.tcp_refused.get(), 1);
        first.write_all(&query).await.unwrap();
        read_reply(&mut first).await;
    }

    #[tokio::test]
    async fn names_outside_come_back_from_the_upstream_by_both_transports() {
        // The upstream is another server of ours, with a zone that the first one lacks.
        let upstream = start("");
        for (tcp, addr) in [(false, upstream.udp), (true, upstream.tcp)] {
            let front = start("");
            *front.table.lock().unwrap() = Arc::new(ZoneTable::compile(
                &settings(&format!("listen = []\n[forward]\nupstreams = [\"{addr}\"]")),
                None,
                &Snapshot::default(),
            ));
            let query = ask("wEb.svc", rtype::A);
            let reply = if tcp {
                let mut stream = TcpStream::connect(front.tcp).await.unwrap();
                stream.write_all(&framed(&query)).await.unwrap();
                read_reply(&mut stream).await
            } else {
                by_udp(front.udp, &query).await
            };
            assert_eq!(reply[..2], query[..2]);
            assert_eq!(reply[12..query.len()], query[12..]);
            assert!(reply.ends_with(&[10, 0, 0, 1]));
            assert_eq!(front.server.0.metrics.forwards_answered.get(), 1);
        }
    }
}

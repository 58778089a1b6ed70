//! One connection: TCP that notices a dead peer, TLS where asked for, HTTP/1.1 or HTTP/2 on top.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::error::HttpError;
use super::origin::Origin;
use crate::net::tls::{self, TlsFiles};

/// Unanswered bytes or probes for so long, and the kernel gives the connection up.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// Silence before the first probe, and between probes.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Certificate files are read again for a connection that is made later than this.
const FILES_FRESH: Duration = Duration::from_secs(60);
/// Most headers of an answer, and most bytes of them.
const HEADERS_MAX: usize = 100;
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Bytes of one answer that may be on their way over HTTP/2, and of all on a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A number of streams that no server is likely to state, until it has stated one.
const STREAMS_UNKNOWN: usize = 97;
/// How long to wait for that.
const SETTINGS_WITHIN: Duration = Duration::from_secs(1);

pub(super) type Body = Full<Bytes>;

/// A connection of either protocol, ready for requests.
pub(super) enum Opened {
    One(http1::SendRequest<Body>, Driver),
    Many(http2::SendRequest<Body>, Streams, Driver),
}

/// How many requests the server takes at once over one connection, as it said last.
pub(super) type Streams = Box<dyn Fn() -> usize + Send + Sync>;

/// The task that moves a connection's bytes; it ends when this is dropped.
pub(super) struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes connections to one origin.
pub(super) struct Connector {
    origin: Origin,
    files: TlsFiles,
    server_name: Option<String>,
    connect_timeout: Duration,
    config: tokio::sync::Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

impl Connector {
    pub(super) fn new(
        origin: Origin,
        files: TlsFiles,
        server_name: Option<String>,
        connect_timeout: Duration,
    ) -> Self {
        Self { origin, files, server_name, connect_timeout, config: tokio::sync::Mutex::new(None) }
    }

    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) async fn open(&self) -> Result<Opened, HttpError> {
        let stream = self.connect().await?;
        if !self.origin.tls() {
            return one(stream).await;
        }
        let to = || self.origin.authority();
        let failed = |source| HttpError::Handshake { to: to(), source };
        let name = self.server_name.as_deref().unwrap_or_else(|| self.origin.host());
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let connector = TlsConnector::from(self.tls().await?);
        let handshake = timeout(self.connect_timeout, connector.connect(name, stream));
        let stream = handshake
            .await
            .map_err(|_| HttpError::Deadline(self.connect_timeout))?
            .map_err(failed)?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            many(stream).await
        } else {
            one(stream).await
        }
    }

    async fn connect(&self) -> Result<TcpStream, HttpError> {
        let (host, port) = (self.origin.host(), self.origin.port());
        let resolve = |source| HttpError::Resolve { host: host.to_owned(), source };
        let looked_up = timeout(self.connect_timeout, tokio::net::lookup_host((host, port)));
        let found = looked_up.await.map_err(|_| HttpError::Deadline(self.connect_timeout))?;
        let mut failed = None;
        for address in found.map_err(resolve)? {
            match timeout(self.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    watch_peer(&stream)
                        .map_err(|source| HttpError::Connect { to: address.to_string(), source })?;
                    return Ok(stream);
                }
                Ok(Err(source)) => {
                    failed = Some(HttpError::Connect { to: address.to_string(), source });
                }
                Err(_) => failed = Some(HttpError::Deadline(self.connect_timeout)),
            }
        }
        Err(failed.unwrap_or_else(|| resolve(std::io::Error::other("it has no address"))))
    }

    /// The TLS configuration, read again when it is old; files that cannot be read any more leave
    /// what was read before.
    async fn tls(&self) -> Result<Arc<ClientConfig>, HttpError> {
        let mut known = self.config.lock().await;
        if let Some((read_at, config)) = &*known
            && read_at.elapsed() < FILES_FRESH
        {
            return Ok(Arc::clone(config));
        }
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || tls::client(&files, &[b"h2", b"http/1.1"]));
        let read = read.await.map_err(|error| HttpError::Broken(error.to_string()))?;
        let config = match (read, known.take()) {
            (Ok(config), _) => Arc::new(config),
            (Err(error), Some((_, old))) => {
                tracing::warn!(%error, "certificates cannot be read again; using those from before");
                old
            }
            (Err(error), None) => return Err(error.into()),
        };
        *known = Some((Instant::now(), Arc::clone(&config)));
        Ok(config)
    }
}

/// A peer that vanished without a word is noticed within half a minute, also on an idle connection.
fn watch_peer(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY);
    socket.set_tcp_keepalive(&probes.with_retries(3))?;
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))
}

async fn one<I>(io: I) -> Result<Opened, HttpError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
    let (sender, connection) =
        builder.handshake(TokioIo::new(io)).await.map_err(|error| HttpError::broken(&error))?;
    // Its end is told to the request that waits on it.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok(Opened::One(sender, Driver(driver.abort_handle())))
}

async fn many<I>(io: I) -> Result<Opened, HttpError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_UNKNOWN)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(PROBE_EVERY)
        .keep_alive_timeout(DEAD_AFTER)
        .keep_alive_while_idle(true);
    let (sender, connection) =
        builder.handshake(TokioIo::new(io)).await.map_err(|error| HttpError::broken(&error))?;
    // Shared with whoever asks how many streams there may be; held for one poll only.
    let connection = Arc::new(Mutex::new(Box::pin(connection)));
    let asked = Arc::clone(&connection);
    let streams = Box::new(move || locked(&asked).current_max_send_streams());
    let driver = tokio::spawn(std::future::poll_fn(move |context| {
        locked(&connection).as_mut().poll(context).map(drop)
    }));
    let driver = Driver(driver.abort_handle());
    // The first frame of a server says how many streams there may be (RFC 9113 §3.4). Nothing tells
    // that it came, so that it is looked for; one round trip at most, as a rule.
    let until = Instant::now() + SETTINGS_WITHIN;
    while streams() == STREAMS_UNKNOWN && !sender.is_closed() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(Opened::Many(sender, streams, driver))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

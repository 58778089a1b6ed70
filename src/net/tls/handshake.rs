//! The handshake with a client: in time, not too many at once, and counted by how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::StartHandshake;

use super::config::UnknownName;
use super::facts::Facts;
use super::metrics::{ListenerMetrics, Metrics, Outcome};
use super::server::Secured;
use crate::net::accept::Connections;
use crate::net::stream::{Secure, Stream};

/// The alert `unrecognized_name` (RFC 6066 §3).
const UNRECOGNIZED_NAME: u8 = 112;

/// The answer to HTTP in the clear.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 49\r\n\
                     Connection: close\r\n\r\n\
                     the plain HTTP request was sent to an HTTPS port\n";

/// The handshakes of one listener within one worker.
#[derive(Debug)]
pub struct Handshakes {
    listener: Arc<str>,
    running: Arc<Connections>,
    all: Metrics,
    metrics: OnceLock<ListenerMetrics>,
}

/// Why there is no connection.
#[derive(Debug)]
struct Failure {
    outcome: Outcome,
    /// What the library or the system said; never what was sent.
    why: Option<io::Error>,
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, why: None }
    }
}

impl Handshakes {
    /// None has begun.
    #[must_use]
    pub fn new(listener: Arc<str>, metrics: &Metrics) -> Self {
        let handshakes = Self::possible(listener, metrics);
        handshakes.metrics();
        handshakes
    }

    /// The same, for a listener where perhaps none ever will: nothing is counted before.
    #[must_use]
    pub fn possible(listener: Arc<str>, metrics: &Metrics) -> Self {
        let (all, metrics) = (metrics.clone(), OnceLock::new());
        Self { listener, running: Connections::new(usize::MAX), all, metrics }
    }

    fn metrics(&self) -> &ListenerMetrics {
        self.metrics.get_or_init(|| self.all.listener(&self.listener))
    }

    /// Shakes hands on `tcp`; none when that failed, which has been counted and answered. `opening` is
    /// what was read of it already.
    pub async fn shake(
        &self,
        secured: &Secured,
        tcp: TcpStream,
        opening: &[u8],
        peer: SocketAddr,
    ) -> Option<Stream> {
        // Boxed: what the handshake needs goes with its end, while the connection may be long.
        let attempt = Box::pin(self.attempt(secured, tcp, opening));
        let ended = tokio::time::timeout(secured.handshake_timeout, attempt).await;
        let failure = match ended.unwrap_or_else(|_| Err(Outcome::Timeout.into())) {
            Ok(stream) => {
                self.metrics().handshake(Outcome::Ok);
                return Some(stream);
            }
            Err(failure) => failure,
        };
        self.metrics().handshake(failure.outcome);
        tracing::debug!(
            listener = &*self.listener,
            %peer,
            result = failure.outcome.word(),
            why = failure.why.map(tracing::field::display),
            "a TLS handshake failed"
        );
        None
    }

    async fn attempt(
        &self,
        secured: &Secured,
        mut tcp: TcpStream,
        opening: &[u8],
    ) -> Result<Stream, Failure> {
        if opening.is_empty() {
            let mut first = [0];
            match tcp.peek(&mut first).await {
                // No record of TLS begins with a letter (RFC 8446 §5.1), every method of HTTP does.
                Ok(1..) if first[0].is_ascii_alphabetic() => {
                    say_plainly(&mut tcp).await;
                    return Err(Outcome::PlainHttp.into());
                }
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Outcome::Closed.into()),
            }
        }
        self.running.set_max(secured.handshakes_max);
        let Some(_running) = self.running.admit() else { return Err(Outcome::Limit.into()) };
        let mut rest = opening;
        let hello = match rest {
            [] => LazyConfigAcceptor::new(Acceptor::default(), tcp).await,
            _ => begun(&mut rest, tcp).await,
        };
        let mut start = hello.map_err(classified)?;
        if secured.unknown_name == UnknownName::Refuse
            && let Some(name) = start.client_hello().server_name()
            && secured.shown().now().find(name).is_empty()
        {
            say_alert(&mut start.io, UNRECOGNIZED_NAME).await;
            return Err(Outcome::UnknownName.into());
        }
        let feed = |connection: &mut ServerConnection| {
            // What does not fit is missing then, and the handshake fails.
            while !rest.is_empty() && connection.read_tls(&mut rest).is_ok() {}
        };
        let shaken = start.into_stream_with(Arc::clone(&secured.config), feed);
        let stream = shaken.await.map_err(classified)?;
        let (_, connection) = stream.get_ref();
        let newest = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        self.metrics().session(newest, resumed);
        let facts = Facts::of(connection, secured.client_headers);
        Ok(Stream::Tls(Box::new(Secure::new(stream, Arc::new(facts)))))
    }
}

/// A handshake whose hello was read already: `opening` begins with all of it. What is behind it stays.
async fn begun(opening: &mut &[u8], mut tcp: TcpStream) -> io::Result<StartHandshake<TcpStream>> {
    let mut acceptor = Acceptor::default();
    while !opening.is_empty() {
        acceptor.read_tls(opening)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(StartHandshake::from_parts(accepted, tcp)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut words = Vec::new();
                alert.write_all(&mut words)?;
                last_words(&mut tcp, &words).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Tells a client that speaks in the clear what it did wrong.
pub async fn say_plainly(tcp: &mut TcpStream) {
    last_words(tcp, PLAIN.as_bytes()).await;
}

/// A fatal alert (RFC 8446 §6) for a client that has said its hello, if at all: in the clear.
pub async fn say_alert(tcp: &mut TcpStream, description: u8) {
    last_words(tcp, &[21, 3, 3, 0, 2, 2, description]).await;
}

/// Sends `words` and the end. Whether the client hears them or not, it is over.
async fn last_words(tcp: &mut TcpStream, words: &[u8]) {
    if tcp.write_all(words).await.is_err() || tcp.shutdown().await.is_err() {
        return;
    }
    // A close with unread bytes resets the connection, and the reset may overtake the answer.
    let mut rest = [0; 512];
    for _ in 0..8 {
        let wait = Duration::from_millis(100);
        let readable = tokio::time::timeout(wait, tcp.readable()).await;
        if readable.is_err() || !matches!(tcp.try_read(&mut rest), Ok(1..)) {
            return;
        }
    }
}

/// Whose fault it was.
fn classified(error: io::Error) -> Failure {
    use rustls::Error;
    let told = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let outcome = match (told, error.kind()) {
        (Some(Error::NoApplicationProtocol), _) => Outcome::NoProtocol,
        (Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)), _) => {
            Outcome::ClientCertificate
        }
        (Some(Error::AlertReceived(_)), _) => Outcome::Alert,
        (Some(_), _) | (None, io::ErrorKind::InvalidData) => Outcome::Failed,
        (None, _) => Outcome::Closed,
    };
    Failure { outcome, why: Some(error) }
}

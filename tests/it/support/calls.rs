//! Calls of gRPC that take a while: what echoes them behind the origins, and load that counts
//! whatever goes wrong with them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::within;

/// Longer than any call may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages of one call, and the pause before each.
const WORDS: usize = 5;
const PAUSE: Duration = Duration::from_millis(80);

/// Where every message of a call comes back at once, and its end as `grpc-status: 0`. Runs as long
/// as the test does.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.ok()?;
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
                Some(())
            });
        }
    });
    address
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Option<()> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut send = respond.send_response(head, false).ok()?;
    let mut body = request.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        let _ = body.flow_control().release_capacity(piece.len());
        send.send_data(piece, false).ok()?;
    }
    let status = (HeaderName::from_static("grpc-status"), "0".parse().unwrap());
    send.send_trailers(HeaderMap::from_iter([status])).ok()
}

/// Calls that come one after the other while this runs, every second one by a connection of its
/// own, the others by one that is kept until the other side says goodbye.
pub(crate) struct Calls {
    stop: watch::Sender<bool>,
    running: JoinHandle<Made>,
}

/// How the calls were.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) calls: u64,
    pub(crate) failed: Vec<String>,
    /// How often the kept connection had said goodbye.
    pub(crate) goodbyes: u64,
}

impl Calls {
    /// One more begins in each `interval`, over TLS by `config`, to the host `name`.
    pub(crate) fn start(
        to: SocketAddr,
        name: &'static str,
        config: Arc<ClientConfig>,
        interval: Duration,
    ) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let running = tokio::spawn(async move {
            let (mut made, mut all) = (Made::default(), JoinSet::new());
            let mut kept = None;
            let mut beat = tokio::time::interval(interval);
            loop {
                tokio::select! {
                    _ = stopped.changed() => break,
                    Some(ended) = all.join_next() => made.failed.extend(ended.unwrap()),
                    _ = beat.tick() => {
                        made.calls += 1;
                        if made.calls.is_multiple_of(2) {
                            all.spawn(noted(made.calls, name, fresh(to, name, Arc::clone(&config))));
                            continue;
                        }
                        let ready = match kept.take() {
                            Some(kept) => ready(kept).await,
                            None => None,
                        };
                        let goodbye = ready.is_none() && made.calls > 1;
                        made.goodbyes += u64::from(goodbye);
                        let ready = match ready {
                            Some(ready) => Ok(ready),
                            None => fresh(to, name, Arc::clone(&config)).await,
                        };
                        kept = ready.as_ref().ok().cloned();
                        all.spawn(noted(made.calls, name, std::future::ready(ready)));
                    }
                }
            }
            while let Some(ended) = all.join_next().await {
                made.failed.extend(ended.unwrap());
            }
            made
        });
        Self { stop, running }
    }

    /// Lets those that run end, and tells of all.
    pub(crate) async fn end(self) -> Made {
        self.stop.send_replace(true);
        within("the last call", self.running).await.unwrap()
    }
}

/// A connection that is agreed to be one of HTTP/2.
async fn fresh(
    to: SocketAddr,
    name: &'static str,
    config: Arc<ClientConfig>,
) -> Result<SendRequest<Bytes>, String> {
    let stream = TcpStream::connect(to).await.map_err(|error| format!("connect: {error}"))?;
    stream.set_nodelay(true).unwrap();
    let shaken = TlsConnector::from(config).connect(ServerName::try_from(name).unwrap(), stream);
    let stream = shaken.await.map_err(|error| format!("handshake: {error}"))?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let shaken = h2::client::handshake(stream).await;
    let (send, connection) = shaken.map_err(|error| format!("preface: {error}"))?;
    tokio::spawn(connection);
    Ok(send)
}

/// The connection, unless it said goodbye.
async fn ready(connection: SendRequest<Bytes>) -> Option<SendRequest<Bytes>> {
    connection.ready().await.ok()
}

/// What went wrong.
async fn noted(
    number: u64,
    name: &str,
    connection: impl Future<Output = Result<SendRequest<Bytes>, String>>,
) -> Option<String> {
    let call = async { call(connection.await?, name, number).await };
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("call {number}: {error}")),
        Err(_) => Some(format!("call {number} had not ended after {PATIENCE:?}")),
    }
}

/// One call: every message comes back before the next is sent, and then the end.
async fn call(connection: SendRequest<Bytes>, name: &str, number: u64) -> Result<(), String> {
    let mut connection = connection.ready().await.map_err(|error| format!("ready: {error}"))?;
    let request = Request::post(format!("https://{name}/calls.Echo/Talk"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut send) =
        connection.send_request(request, false).map_err(|error| format!("send: {error}"))?;
    let mut answer = Some(answer);
    let mut stream = None;
    for word in 0..WORDS {
        tokio::time::sleep(PAUSE).await;
        let word = format!("\0\0\0\0\u{8}{:08}", number * 10 + word as u64);
        let sent = send.send_data(Bytes::from(word.clone()), false);
        sent.map_err(|error| format!("{word:?}: {error}"))?;
        if let Some(answer) = answer.take() {
            let answer = answer.await.map_err(|error| format!("the head: {error}"))?;
            if answer.status() != 200 || answer.headers().contains_key("grpc-status") {
                return Err(format!("{answer:?}"));
            }
            stream = Some(answer.into_body());
        }
        let stream = stream.as_mut().unwrap();
        let mut echo = Vec::new();
        while echo.len() < word.len() {
            let piece = stream.data().await.ok_or_else(|| format!("ended before {word:?}"))?;
            let piece = piece.map_err(|error| format!("{word:?}: {error}"))?;
            let _ = stream.flow_control().release_capacity(piece.len());
            echo.extend_from_slice(&piece);
        }
        if echo != word.as_bytes() {
            return Err(format!("{echo:?} for {word:?}"));
        }
    }
    send.send_data(Bytes::new(), true).map_err(|error| format!("the end: {error}"))?;
    let mut stream = stream.unwrap();
    if let Some(piece) = stream.data().await {
        return Err(format!("{piece:?} after the end"));
    }
    let trailers = stream.trailers().await.map_err(|error| format!("trailers: {error}"))?;
    match trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")) {
        Some(status) if status == "0" => Ok(()),
        _ => Err(format!("trailers {trailers:?}")),
    }
}

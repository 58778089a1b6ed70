//! An HTTP client for long polls, streams and probes: every wait and every size has a limit.
//!
//! A [`Client`] speaks to one origin. Over TLS it shares one HTTP/2 connection as far as the
//! server's number of streams goes, and opens the next only then; without TLS, or with a server
//! that knows no HTTP/2, each request under way has a connection of its own, which is used again.
//! A redirect is an answer like any other, unless the request asks to follow it, and then only
//! within the origin: what a request carries is never sent elsewhere.

mod connect;
mod error;
mod origin;
mod pool;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use self::connect::Connector;
use self::pool::{Lease, Pool};
use super::tls::TlsFiles;

pub use error::HttpError;
pub use origin::{Origin, escaped};

/// Speaks to one origin. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(Arc<Pool>);

/// How a client connects.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Files for `https`.
    pub tls: TlsFiles,
    /// Name that the server's certificate must bear, when it is not the host of the origin.
    pub server_name: Option<String>,
    /// Time for name resolution, for each address and for the handshake.
    pub connect_timeout: Duration,
    /// Most connections, one request each (HTTP/1.1) or as many as the server's streams (HTTP/2).
    pub connections_max: usize,
    /// Told when the server was found to have ended a connection while nothing was under way; no
    /// later than when a new one takes its place.
    pub broken: watch::Sender<Option<Instant>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: TlsFiles::default(),
            server_name: None,
            connect_timeout: Duration::from_secs(5),
            connections_max: 16,
            broken: watch::Sender::default(),
        }
    }
}

/// One request with its limits.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path and query, from the first slash, escaped.
    pub path: String,
    /// Headers; mark secrets as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body, perhaps empty.
    pub body: Bytes,
    /// Until the head of the answer is there, the wait for a connection included.
    pub head_within: Duration,
    /// From the head to the last byte; for streams it does not count.
    pub body_within: Duration,
    /// Longest silence within a body.
    pub silence_max: Duration,
    /// Most bytes of the answer's body.
    pub body_max: u64,
    /// How many redirects to follow, within the origin.
    pub redirects: u8,
}

impl Request {
    /// A GET of `path` with limits of seconds and 64 MiB.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            head_within: Duration::from_secs(10),
            body_within: Duration::from_secs(30),
            silence_max: Duration::from_secs(10),
            body_max: 64 << 20,
            redirects: 0,
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// An answer whose body comes bit by bit.
pub struct Stream {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
    silence_max: Duration,
    lease: Lease,
}

impl Client {
    /// A client for `origin`. Connects with the first request.
    #[must_use]
    pub fn new(origin: Origin, settings: Settings) -> Self {
        let Settings { tls, server_name, connect_timeout, connections_max, broken } = settings;
        let connector = Connector::new(origin, tls, server_name, connect_timeout);
        Self(Arc::new(Pool::new(connector, connections_max, broken)))
    }

    /// Where its requests go.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.0.connector().origin()
    }

    /// Whether the server carries many requests over one connection; false before the first.
    #[must_use]
    pub fn multiplexed(&self) -> bool {
        self.0.multiplexed()
    }

    /// Connections made so far.
    #[must_use]
    pub fn connections_opened(&self) -> usize {
        self.0.opened()
    }

    /// The next requests take new connections.
    pub fn reconnect(&self) {
        self.0.forget();
    }

    /// Sends `request` and reads the answer to its end.
    ///
    /// # Errors
    /// When there is no whole answer within the limits. Any status is an answer.
    pub async fn send(&self, request: Request) -> Result<Reply, HttpError> {
        let mut request = request;
        loop {
            let stream = self.open(&request).await?;
            let (within, max) = (request.body_within, request.body_max);
            let (reply, lease) = stream.whole(within, max).await?;
            self.0.give_back(lease);
            let next = (request.redirects > 0 && reply.status.is_redirection())
                .then(|| reply.headers.get(LOCATION)?.to_str().ok())
                .flatten()
                .and_then(|location| self.origin().here(location));
            let Some(path) = next else { return Ok(reply) };
            request.path = path;
            request.redirects -= 1;
        }
    }

    /// Sends `request` and returns with the head of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// When no head comes within the limits.
    pub async fn open(&self, request: &Request) -> Result<Stream, HttpError> {
        let until = Instant::now() + request.head_within;
        let late = || HttpError::Deadline(request.head_within);
        loop {
            let lease = timeout_at(until, self.0.lease()).await.map_err(|_| late())??;
            let (answer, lease) = match lease {
                Lease::One { mut one, reused, permit } => {
                    let message = self.written(request, Version::HTTP_11)?;
                    let sent = timeout_at(until, one.sender.try_send_request(message)).await;
                    match sent.map_err(|_| late())? {
                        Ok(answer) => (answer, Lease::One { one, reused, permit }),
                        // A connection from before may have been closed under our hands: nothing
                        // was sent, so that sending it again is no repetition.
                        Err(error) if reused && error.message().is_some() => {
                            one.close();
                            self.0.note_lost();
                            continue;
                        }
                        Err(error) => return Err(HttpError::broken(error.error())),
                    }
                }
                Lease::Many(place) => {
                    let message = self.written(request, Version::HTTP_2)?;
                    let sent = timeout_at(until, place.sender().try_send_request(message)).await;
                    match sent.map_err(|_| late())? {
                        Ok(answer) => (answer, Lease::Many(place)),
                        Err(error) => return Err(HttpError::broken(error.error())),
                    }
                }
            };
            let (head, body) = answer.into_parts();
            return Ok(Stream {
                status: head.status,
                headers: head.headers,
                body,
                silence_max: request.silence_max,
                lease,
            });
        }
    }

    fn written(
        &self,
        request: &Request,
        version: Version,
    ) -> Result<http::Request<Full<Bytes>>, HttpError> {
        let origin = self.origin();
        let path = origin.path(&request.path);
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .header(USER_AGENT, concat!("portolan/", env!("CARGO_PKG_VERSION")));
        builder = if version == Version::HTTP_2 {
            builder.uri(format!("https://{}{path}", origin.authority()))
        } else {
            builder.uri(path).header(HOST, origin.authority())
        };
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        Ok(builder.body(Full::new(request.body.clone()))?)
    }
}

impl Stream {
    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks or stays silent for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let silent = |_| HttpError::Silent(self.silence_max);
            let frame = timeout(self.silence_max, self.body.frame()).await.map_err(silent)?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::broken(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // Trailers, or nothing.
                    _ => {}
                },
            }
        }
    }

    async fn whole(mut self, within: Duration, max: u64) -> Result<(Reply, Lease), HttpError> {
        if self.body.size_hint().lower() > max {
            return Err(HttpError::TooLarge(max));
        }
        let read = async {
            let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
            let mut count = first.len() as u64;
            let mut all = BytesMut::from(first);
            while count <= max {
                let Some(data) = self.next().await? else { return Ok(all.freeze()) };
                count += data.len() as u64;
                all.extend_from_slice(&data);
            }
            Err(HttpError::TooLarge(max))
        };
        let body = in_time(within, read).await?;
        Ok((Reply { status: self.status, headers: self.headers, body }, self.lease))
    }
}

async fn in_time<T>(
    within: Duration,
    work: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    timeout(within, work).await.unwrap_or(Err(HttpError::Deadline(within)))
}

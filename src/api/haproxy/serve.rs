//! The doors of the face: HTTP, the stats socket on a path, and the same by TCP.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::http::{self, Reply};
use super::session::Session;
use super::{HaproxyConfig, Source, socket};
use crate::lifecycle::{Phase, Phases};
use crate::net::accept::{self, Accepting, Connections, accept};

/// Names of the doors in metrics.
const NAMES: [&str; 2] = ["haproxy", "haproxy-socket"];
/// Pause after an accept that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Headers of a request that are read.
const HEADERS_MAX: usize = 64;

/// What is spoken at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP: statistics and marathon-lb's pages.
    Http,
    /// Lines, as on the stats socket.
    Lines,
}

/// HAProxy's face, whatever its doors are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Face(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    source: Source,
    config: ArcSwap<HaproxyConfig>,
    accept: accept::Metrics,
    phases: Phases,
    connections: Arc<Connections>,
}

impl Face {
    /// The face of `source`, by what `config` says.
    #[must_use]
    pub fn new(
        source: Source,
        config: &HaproxyConfig,
        accept: accept::Metrics,
        phases: Phases,
    ) -> Self {
        Self(Arc::new(Inside {
            source,
            config: ArcSwap::from_pointee(config.clone()),
            accept,
            phases,
            connections: Connections::new(config.connections),
        }))
    }

    /// From now on it does what `config` says.
    pub fn follow(&self, config: &HaproxyConfig) {
        self.0.connections.set_max(config.connections);
        self.0.config.store(Arc::new(config.clone()));
    }

    /// Serves `listener` until `closed` is true or the process drains. Must be called within a runtime.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub fn serve(
        &self,
        kind: Kind,
        listener: std::net::TcpListener,
        closed: watch::Receiver<bool>,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let accepting = Accepting {
            name: NAMES[kind as usize].into(),
            own: None,
            listener: tokio::net::TcpListener::from_std(listener)?,
            connections: Arc::clone(&self.0.connections),
            metrics: self.0.accept.clone(),
            phases: self.0.phases.clone(),
            closed,
        };
        let inside = Arc::clone(&self.0);
        tokio::spawn(accept(
            accepting,
            |_| None,
            move |stream, peer: SocketAddr| {
                let inside = Arc::clone(&inside);
                async move {
                    // An error is the client's: it left, or was too slow.
                    let _ = match kind {
                        Kind::Http => inside.http(stream).await,
                        Kind::Lines => {
                            let who = format!("{peer} by the stats socket").into();
                            inside.lines(stream, who, false).await
                        }
                    };
                }
            },
        ));
        Ok(())
    }

    /// Serves the stats socket at a path until the process drains. Must be called within a runtime.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub fn serve_path(&self, listener: UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let inside = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut phases = inside.phases.clone();
            loop {
                let next = tokio::select! {
                    next = listener.accept() => next,
                    () = phases.reached(Phase::Replaced) => return,
                };
                match next {
                    Ok((stream, _)) => {
                        let inside = Arc::clone(&inside);
                        tokio::spawn(async move { inside.path(stream).await });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accept failed at the stats socket");
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                }
            }
        });
        Ok(())
    }
}

impl Inside {
    async fn path(&self, stream: UnixStream) {
        // One too many is closed at once.
        let Some(_connection) = self.connections.admit() else { return };
        let who = match stream.peer_cred() {
            Ok(peer) => format!("uid {} by the stats socket", peer.uid()),
            Err(_) => "the stats socket".to_owned(),
        };
        let operates = self.config.load().operate;
        let _ = self.lines(stream, who.into(), operates).await;
    }

    async fn lines<S>(&self, stream: S, who: Arc<str>, operates: bool) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config.load_full();
        let output_max = config.output_max.0 as usize;
        let source = self.source.clone();
        let session = Session { source, who, operates, prompts: false, output_max };
        socket::run(stream, &config, session).await
    }

    /// One request and its answer; then the connection closes, as those who ask expect of statistics.
    async fn http(&self, mut stream: TcpStream) -> io::Result<()> {
        let config = self.config.load_full();
        let (max, idle) = (config.line_max.0 as usize, config.idle.0);
        let mut read = Vec::new();
        let (reply, bodyless) = match timeout(idle, request(&mut stream, &mut read, max)).await {
            Ok(Ok(Request::Get { target, head })) => {
                (http::answer(&self.source, &config, &target).await, head)
            }
            Ok(Ok(Request::Refused(reply))) => (reply, false),
            Ok(Ok(Request::Left)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        };
        let mut answer = http::head(&reply).into_bytes();
        if !bodyless {
            answer.extend_from_slice(reply.body.as_bytes());
        }
        drop(reply);
        socket::send(&mut stream, &answer, idle).await?;
        drop(answer);
        socket::within(idle, stream.shutdown()).await?;
        // What else it sent is read, so that the close is no reset before the answer has arrived.
        let mut rest = [0; 1024];
        let read = async { while let Ok(1..) = stream.read(&mut rest).await {} };
        let _ = timeout(idle, read).await;
        Ok(())
    }
}

enum Request {
    Get { target: String, head: bool },
    Refused(Reply),
    Left,
}

async fn request(stream: &mut TcpStream, read: &mut Vec<u8>, max: usize) -> io::Result<Request> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(read) {
            Ok(httparse::Status::Complete(_)) => {
                let target = request.path.unwrap_or_default().to_owned();
                return Ok(match request.method {
                    Some("GET") => Request::Get { target, head: false },
                    Some("HEAD") => Request::Get { target, head: true },
                    _ => Request::Refused(Reply::told(405, "only GET and HEAD are taken here\n")),
                });
            }
            Ok(httparse::Status::Partial) if read.len() > max => {
                let why = format!("the head is longer than {max} bytes ([haproxy] line_max)\n");
                return Ok(Request::Refused(Reply::told(431, why)));
            }
            Ok(httparse::Status::Partial) => {}
            Err(error) => {
                let why = format!("this is no request: {error}\n");
                return Ok(Request::Refused(Reply::told(400, why)));
            }
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(Request::Left);
        }
    }
}

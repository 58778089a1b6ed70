//! What stands behind the origins, and outlives them: it notes what reaches it by whom, answers
//! when it is told to, and echoes WebSockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, Method};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::websocket::{self, CLOSE};

/// How long a request takes that is not held.
const WORK: Duration = Duration::from_millis(20);
/// Bytes in each half of a download.
pub(crate) const HALF: usize = 1000;

/// A running backend.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Requests that come by this origin wait.
    held: watch::Sender<Option<String>>,
    /// Downloads get their second half.
    go: watch::Sender<bool>,
    /// How often each number was delivered.
    delivered: Mutex<HashMap<u64, u32>>,
    /// What waits or is being worked on, by origin and method.
    running: Mutex<HashMap<(String, Method), usize>>,
}

/// A request that is being worked on; dropped with it.
struct Running(Arc<Shared>, (String, Method));

impl Running {
    fn new(shared: &Arc<Shared>, key: (String, Method)) -> Self {
        *shared.running.lock().unwrap().entry(key.clone()).or_default() += 1;
        Self(Arc::clone(shared), key)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

impl Backend {
    /// It has `/slow`, `/post` (with `X-Number`), `/length`, `/chunked` and `/chat`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            held: watch::Sender::new(None),
            go: watch::Sender::new(false),
            delivered: Mutex::default(),
            running: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared }
    }

    /// From now on what comes by `origin` waits, or nothing does.
    pub(crate) fn hold(&self, origin: Option<&str>) {
        self.shared.held.send_replace(origin.map(str::to_owned));
    }

    /// Whether downloads go on behind their first half.
    pub(crate) fn go(&self, on: bool) {
        self.shared.go.send_replace(on);
    }

    /// How many requests of `method` run that came by `origin`.
    pub(crate) fn running(&self, origin: &str, method: Method) -> usize {
        let running = self.shared.running.lock().unwrap();
        running.get(&(origin.to_owned(), method)).copied().unwrap_or(0)
    }

    /// How often the request with this number was delivered.
    pub(crate) fn delivered(&self, number: u64) -> u32 {
        self.shared.delivered.lock().unwrap().get(&number).copied().unwrap_or(0)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match request.uri().path() {
        "/chat" => chat(request),
        "/length" => download(&shared, true),
        "/chunked" => download(&shared, false),
        _ => {
            let (head, body) = request.into_parts();
            // An origin that dies in the middle of a body has not delivered the request.
            let Ok(_) = axum::body::to_bytes(body, 1 << 20).await else {
                return Response::new(Body::empty());
            };
            let origin = text(&head.headers, "x-origin");
            if let Ok(number) = text(&head.headers, "x-number").parse() {
                *shared.delivered.lock().unwrap().entry(number).or_default() += 1;
            }
            let _running = Running::new(&shared, (origin.clone(), head.method));
            let mut held = shared.held.subscribe();
            let _ = held.wait_for(|held| held.as_ref() != Some(&origin)).await;
            tokio::time::sleep(WORK).await;
            Response::new("done\n".into())
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Two halves, the second one when it is let go.
fn download(shared: &Shared, length: bool) -> Response {
    let (mut writer, reader) = tokio::io::duplex(HALF);
    let mut go = shared.go.subscribe();
    tokio::spawn(async move {
        writer.write_all(&[b'x'; HALF]).await?;
        let _ = go.wait_for(|go| *go).await;
        writer.write_all(&[b'x'; HALF]).await
    });
    let pieces = Pieces(reader);
    let mut response = Response::new(Body::new(pieces));
    if length {
        response.headers_mut().insert("content-length", (2 * HALF).into());
    }
    response
}

/// A body that gives on what it reads as it comes.
struct Pieces(tokio::io::DuplexStream);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        let mut piece = [0; HALF];
        let mut read = tokio::io::ReadBuf::new(&mut piece);
        let came = std::pin::Pin::new(&mut self.0).poll_read(cx, &mut read);
        came.map(|came| match came {
            Ok(()) if read.filled().is_empty() => None,
            Ok(()) => Some(Ok(hyper::body::Frame::data(Bytes::copy_from_slice(read.filled())))),
            Err(error) => Some(Err(error)),
        })
    }
}

/// Accepts a WebSocket and echoes.
fn chat(request: Request) -> Response {
    let key = websocket::accept(&text(request.headers(), "sec-websocket-key"));
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            // Who breaks off has ended the conversation.
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    let response = Response::builder().status(101).header("connection", "Upgrade");
    let response = response.header("upgrade", "websocket").header("sec-websocket-accept", key);
    response.body(Body::empty()).unwrap()
}

/// Says every message back, and ends behind a close.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    while let Some((opcode, payload)) = websocket::message(&mut stream).await? {
        stream.write_all(&websocket::frame(opcode, None, &payload)).await?;
        if opcode == CLOSE {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

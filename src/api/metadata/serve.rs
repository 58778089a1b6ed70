//! Connections: request after request, and polls at rest, which hold next to nothing.
//!
//! HTTP is read and written here, without a library's buffers: ten thousand polls that wait are ten
//! thousand connections at rest (docs/decisions/0034).

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::face::{Answer, Face, Metadata};
use super::form::Form;
use super::request::{Parsed, Request, Wait, parse};
use crate::lifecycle::{Phase, Phases};
use crate::net::accept::{Accepting, accept};

/// Name of the listener in metrics.
const NAME: &str = "metadata";
/// Pause of a poll between two looks that both found nothing new: what does not concern it may
/// change as often as it will.
const PAUSE: Duration = Duration::from_millis(100);
/// Read at once.
const CHUNK: usize = 2048;

impl Metadata {
    /// Serves `listener` until `closed` is true or the process drains. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub fn serve(
        &self,
        listener: std::net::TcpListener,
        closed: watch::Receiver<bool>,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let face = Arc::clone(self.face());
        let around = &face.around;
        let (metrics, phases) = (around.accept.clone(), around.phases.clone());
        let connections = Arc::clone(&face.connections);
        let end = closed.clone();
        let serve = move |stream, peer: SocketAddr| {
            let connection = Connection {
                face: Arc::clone(&face),
                stream,
                peer: peer.ip(),
                read: Vec::new(),
                closed: end.clone(),
            };
            connection.run()
        };
        let name = NAME.into();
        let own = None;
        let accepting = Accepting { name, own, listener, connections, metrics, phases, closed };
        tokio::spawn(accept(accepting, |_| None, serve));
        Ok(())
    }
}

struct Connection {
    face: Arc<Face>,
    stream: TcpStream,
    peer: IpAddr,
    /// What came and was not answered yet.
    read: Vec<u8>,
    /// True when the listener is no more.
    closed: watch::Receiver<bool>,
}

/// How a wait ended.
enum Waited {
    Answer(Arc<Answer>),
    /// The client is gone.
    Left,
}

impl Connection {
    async fn run(mut self) {
        // An error is the client's: it left, or was too slow.
        let _ = self.requests().await;
    }

    async fn requests(&mut self) -> io::Result<()> {
        loop {
            let Some(request) = self.request().await? else { return Ok(()) };
            let client = self.face.client(self.peer, &request);
            let answer = match &request.target.wait {
                Some(wait) => match self.wait(&request, wait, client).await {
                    Waited::Answer(answer) => answer,
                    Waited::Left => return Ok(()),
                },
                None => self.face.answer(&request.target, request.form, client).await,
            };
            let metrics = &self.face.around.metrics;
            match answer.status {
                200 => metrics.answered.inc(),
                404 => metrics.not_found.inc(),
                503 => metrics.refused.inc(),
                _ => metrics.failed.inc(),
            }
            let keep = request.keep && !self.ending();
            self.send(&answer, request.form, request.head, keep).await?;
            if !keep {
                return self.close().await;
            }
        }
    }

    /// Whether this connection takes no more requests.
    fn ending(&self) -> bool {
        *self.closed.borrow() || self.face.around.phases.now() >= Phase::Replaced
    }

    /// The next request; none when the client has left or was refused.
    async fn request(&mut self) -> io::Result<Option<Box<Request>>> {
        let (max, idle) = {
            let settings = self.face.settings.load();
            (settings.config.head_max.0 as usize, settings.config.idle.0)
        };
        let deadline = Instant::now() + idle;
        loop {
            match parse(&self.read, max) {
                Parsed::Whole(request, end) => {
                    self.read.drain(..end);
                    if self.read.is_empty() {
                        // At rest a connection holds no buffer.
                        self.read = Vec::new();
                    }
                    return Ok(Some(request));
                }
                Parsed::Refused(status, why) => {
                    self.face.around.metrics.refused.inc();
                    self.refuse(status, why).await?;
                    return Ok(None);
                }
                Parsed::Partial => {}
            }
            // Between two requests a listener that is gone, or a drain, ends the connection.
            let between = self.read.is_empty();
            let Self { face, stream, read, closed, .. } = self;
            let mut phases = face.around.phases.clone();
            tokio::select! {
                more = more(stream, read) => if more? == 0 { return Ok(None) },
                () = sleep_until(deadline) => return Ok(None),
                () = ended(closed, &mut phases), if between => return Ok(None),
            }
        }
    }

    /// Waits until there is something else than the client knows.
    async fn wait(&mut self, request: &Request, wait: &Wait, client: IpAddr) -> Waited {
        let Self { face, stream, read, closed, .. } = self;
        let (form, metrics) = (request.form, &face.around.metrics);
        let (longest, most) = {
            let settings = face.settings.load();
            let (wait, most) = (settings.config.wait.0, settings.config.wait_max.0);
            (wait.min(most), most)
        };
        let longest = wait.seconds.map_or(longest, |s| Duration::from_secs(s).min(most));
        let deadline = Instant::now() + longest;
        // Marked as seen before the newest is looked at: what comes in between wakes us.
        let mut published = face.around.published.clone();
        published.mark_unchanged();
        let answer = face.answer(&request.target, form, client).await;
        if answer.is_news(&wait.value) {
            return Waited::Answer(answer);
        }
        drop(answer);
        let Some(_waiting) = face.wait() else {
            metrics.turned_away.inc();
            return Waited::Answer(Arc::new(refusal(form, 503, "Too many polls wait already")));
        };
        let head_max = face.settings.load().config.head_max.0 as usize;
        let mut phases = face.around.phases.clone();
        let mut pause = Instant::now();
        loop {
            let woken = async {
                // An error means that nothing will be published any more.
                let _ = published.changed().await;
                sleep_until(pause).await;
            };
            tokio::select! {
                () = woken => {
                    let answer = face.answer(&request.target, form, client).await;
                    if answer.is_news(&wait.value) {
                        metrics.changed.inc();
                        return Waited::Answer(answer);
                    }
                    pause = Instant::now() + PAUSE;
                }
                () = sleep_until(deadline) => {
                    metrics.expired.inc();
                    return Waited::Answer(face.answer(&request.target, form, client).await);
                }
                () = ended(closed, &mut phases) => {
                    metrics.ended.inc();
                    return Waited::Answer(face.answer(&request.target, form, client).await);
                }
                () = gone(stream, read, head_max) => {
                    metrics.left.inc();
                    return Waited::Left;
                }
            }
        }
    }

    async fn refuse(&mut self, status: u16, why: &str) -> io::Result<()> {
        let answer = refusal(Form::Text, status, why);
        self.send(&answer, Form::Text, false, false).await?;
        self.close().await
    }

    async fn send(
        &mut self,
        answer: &Answer,
        form: Form,
        only_head: bool,
        keep: bool,
    ) -> io::Result<()> {
        let mut bytes = head(answer, form, keep).into_bytes();
        if !only_head && answer.body.len() <= CHUNK {
            bytes.extend_from_slice(answer.body.as_bytes());
        }
        let idle = self.face.settings.load().config.idle.0;
        let stream = &mut self.stream;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        timeout(idle, stream.write_all(&bytes)).await.map_err(late)??;
        if !only_head && answer.body.len() > CHUNK {
            // Each piece has its time: a large answer may take long, one that stands still not.
            for piece in answer.body.as_bytes().chunks(64 << 10) {
                timeout(idle, stream.write_all(piece)).await.map_err(late)??;
            }
        }
        Ok(())
    }

    /// Closes so that the client reads what was sent: what it sends still is read for a moment.
    async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let drained = async {
            let mut bytes = [0; 512];
            while self.stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        };
        let _ = timeout(Duration::from_secs(1), drained).await;
        Ok(())
    }
}

fn refusal(form: Form, status: u16, why: &str) -> Answer {
    Answer::refusal(status, 0, form.error(status, why))
}

/// Reads what there is behind `read`; 0 at the end. The buffer is made when something came.
async fn more(stream: &TcpStream, read: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match take(stream, read) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// What has come already, without waiting.
fn take(stream: &TcpStream, read: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; CHUNK];
    let length = stream.try_read(&mut chunk)?;
    read.extend_from_slice(&chunk[..length]);
    Ok(length)
}

/// Returns when the client has left. What it sends meanwhile is kept for later, up to `max` bytes.
async fn gone(stream: &TcpStream, read: &mut Vec<u8>, max: usize) {
    while read.len() < max {
        match more(stream, read).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending::<()>().await;
}

/// Returns when the listener is no more, or the process drains.
async fn ended(closed: &mut watch::Receiver<bool>, phases: &mut Phases) {
    tokio::select! {
        // An error means that nobody is left to close it: the process ends.
        _ = closed.wait_for(|closed| *closed) => {}
        () = phases.reached(Phase::Draining) => {}
    }
}

/// The head of an answer.
fn head(answer: &Answer, form: Form, keep: bool) -> String {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let (status, length, kind) = (answer.status, answer.body.len(), form.content_type());
    let mut head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Access-Control-Allow-Origin: *\r\nVary: Accept\r\n"
    );
    if answer.generation > 0 {
        // Writing to a String cannot fail.
        let _ = write!(head, "X-Portolan-Generation: {}\r\n", answer.generation);
    }
    match answer.status {
        200 => drop(write!(head, "ETag: \"{}\"\r\n", answer.tag)),
        405 => head.push_str("Allow: GET, HEAD\r\n"),
        503 => head.push_str("Retry-After: 1\r\n"),
        _ => {}
    }
    head.push_str(if keep { "\r\n" } else { "Connection: close\r\n\r\n" });
    head
}

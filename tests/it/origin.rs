//! An origin that records every byte it receives and answers by a script.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::{end_of_chunks, find, header, within};

/// A small answer that keeps the connection.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The same with another body.
pub(crate) fn saying(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What one connection brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    /// The other side has closed, or broken the connection.
    pub(crate) ended: bool,
}

impl Received {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A listening origin; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    log: Log,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Log {
    connections: Arc<Mutex<Vec<Received>>>,
    changed: watch::Sender<()>,
}

impl Log {
    fn note(&self, connection: usize, note: impl FnOnce(&mut Received)) {
        note(&mut self.connections.lock().unwrap()[connection]);
        self.changed.send_replace(());
    }
}

/// One connection, as a script sees it. What it reads is recorded.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
    connection: usize,
    log: Log,
}

impl Origin {
    /// Runs `script` for each connection, which closes when the script ends.
    pub(crate) async fn start<F>(script: impl Fn(Exchange) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Log { connections: Arc::default(), changed: watch::Sender::new(()) };
        let noted = log.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = {
                    let mut connections = noted.connections.lock().unwrap();
                    connections.push(Received::default());
                    connections.len() - 1
                };
                noted.changed.send_replace(());
                let _ = stream.set_nodelay(true);
                let log = noted.clone();
                tokio::spawn(script(Exchange { stream, unread: Vec::new(), connection, log }));
            }
        });
        Self { address, log, accepting }
    }

    /// Gives `answer` to each complete request, and keeps connections open.
    pub(crate) async fn answering(answer: &'static str) -> Self {
        Self::start(move |mut exchange| async move {
            loop {
                exchange.request().await?;
                exchange.send(answer).await?;
            }
        })
        .await
    }

    /// Gives `answer` to the first request and closes then.
    pub(crate) async fn answering_once(answer: &'static str) -> Self {
        Self::start(move |mut exchange| async move {
            exchange.request().await?;
            exchange.send(answer).await
        })
        .await
    }

    /// Answers each request with `body`, and keeps connections open.
    pub(crate) async fn saying(body: &'static str) -> Self {
        Self::start(move |mut exchange| async move {
            loop {
                exchange.request().await?;
                exchange.send(saying(body)).await?;
            }
        })
        .await
    }

    /// Says back what it hears.
    pub(crate) async fn echoing() -> Self {
        Self::start(|mut exchange| async move { exchange.echo().await }).await
    }

    /// Says a letter first, by which it is known, and then back what it hears.
    pub(crate) async fn lettered(letter: char) -> Self {
        Self::start(move |mut exchange| async move {
            exchange.send(letter.to_string()).await?;
            exchange.echo().await
        })
        .await
    }

    /// Reads and says nothing.
    pub(crate) async fn silent() -> Self {
        Self::start(|mut exchange| async move { exchange.rest().await }).await
    }

    /// What all connections have brought so far, in the order in which they came.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.log.connections.lock().unwrap().clone()
    }

    /// The bytes of all connections, one behind the other.
    pub(crate) fn text(&self) -> String {
        self.received().iter().map(Received::text).collect()
    }

    /// Forgets what has been received; connections that are open stay and go on counting.
    pub(crate) fn forget(&self) {
        self.log.connections.lock().unwrap().iter_mut().for_each(|c| c.bytes.clear());
    }

    /// Returns once `wanted` is true of what has been received.
    pub(crate) async fn seen(&self, what: &str, wanted: impl Fn(&[Received]) -> bool) {
        let mut changed = self.log.changed.subscribe();
        within(what, async {
            loop {
                changed.mark_unchanged();
                if wanted(&self.received()) {
                    return;
                }
                let _ = changed.changed().await;
            }
        })
        .await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Exchange {
    /// One more complete request, its body included; `None` at the end of the connection.
    pub(crate) async fn request(&mut self) -> Option<String> {
        loop {
            if let Some(end) = end_of_request(&self.unread) {
                let rest = self.unread.split_off(end);
                let request = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8_lossy(&request).into_owned());
            }
            self.read().await?;
        }
    }

    /// One more head, without what follows it.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let rest = self.unread.split_off(end + 4);
                let head = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            self.read().await?;
        }
    }

    /// What comes next, however much it is; `None` at the end of the connection.
    pub(crate) async fn some(&mut self) -> Option<Vec<u8>> {
        if self.unread.is_empty() {
            self.read().await?;
        }
        Some(std::mem::take(&mut self.unread))
    }

    /// Says back what it hears, until the connection ends.
    pub(crate) async fn echo(&mut self) -> Option<()> {
        loop {
            let bytes = self.some().await?;
            self.send(bytes).await?;
        }
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Option<()> {
        loop {
            self.read().await?;
            self.unread.clear();
        }
    }

    /// `None` when nobody takes the bytes any more.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Option<()> {
        self.stream.write_all(bytes.as_ref()).await.ok()
    }

    async fn read(&mut self) -> Option<()> {
        let before = self.unread.len();
        let read = self.stream.read_buf(&mut self.unread).await.unwrap_or(0);
        let fresh = &self.unread[before..];
        self.log.note(self.connection, |received| {
            received.bytes.extend_from_slice(fresh);
            received.ended = read == 0;
        });
        (read > 0).then_some(())
    }
}

/// Where the request at the front of `bytes` ends, if all of it is there.
pub(crate) fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    if header(&text, "transfer-encoding").is_some() {
        return Some(head + end_of_chunks(&bytes[head..])?);
    }
    let length = header(&text, "content-length").and_then(|length| length.parse().ok());
    let end = head + length.unwrap_or(0);
    (bytes.len() >= end).then_some(end)
}

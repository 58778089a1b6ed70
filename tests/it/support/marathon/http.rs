//! Requests, and answers that may go wrong half way.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::script::Fault;

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;
/// Pieces that a slow body comes in.
const SLOW_PIECES: usize = 16;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) method: String,
    /// The path without its parameters, decoded.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    /// Whether a stream of events would do.
    pub(crate) events: bool,
    pub(crate) body: String,
}

impl Asked {
    /// The next request; `None` at the end of the connection.
    pub(super) async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let (line, headers) = head.split_once("\r\n")?;
        let (method, target) = line.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |wanted: &str| {
            let mut lines = headers.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").map_or(Some(0), |text| text.parse().ok())?;
        while bytes.len() < end + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        Some(Self {
            at: Instant::now(),
            method: method.to_owned(),
            path: path.replace("%2F", "/").replace("%2f", "/").replace("%3A", ":"),
            query: query.replace("%2F", "/"),
            authorization: header("authorization"),
            events: header("accept").is_some_and(|accept| accept.contains("text/event-stream")),
            body: String::from_utf8(bytes.split_off(end)).ok()?,
        })
    }

    /// All values of a parameter.
    pub(crate) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.query.split('&').filter_map(|one| one.split_once('='));
        all.filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunks,
}

/// An answer: its body is all pieces, one behind the other.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whole lines.
    pub(super) headers: String,
    pub(super) body: Vec<Bytes>,
    pub(super) framing: Framing,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let (headers, framing) = (String::new(), Framing::Length);
        Self { status, headers, body: vec![body.into()], framing }
    }

    /// `{"KEY":[…]}` of elements that are there already.
    pub(super) fn list(open: &'static str, elements: Vec<Bytes>, close: &'static str) -> Self {
        let mut body = Vec::with_capacity(2 * elements.len() + 2);
        body.push(Bytes::from_static(open.as_bytes()));
        for (index, element) in elements.into_iter().enumerate() {
            if index > 0 {
                body.push(Bytes::from_static(b","));
            }
            body.push(element);
        }
        body.push(Bytes::from_static(close.as_bytes()));
        Self { status: 200, headers: String::new(), body, framing: Framing::Chunks }
    }

    /// Sends it, well or with a fault; `None`: the connection is to end.
    pub(super) async fn send(
        self,
        stream: &mut TcpStream,
        fault: Option<Fault>,
        healed: &mut watch::Receiver<()>,
    ) -> Option<()> {
        let length: usize = self.body.iter().map(Bytes::len).sum();
        let framing = match self.framing {
            Framing::Length => format!("Content-Length: {length}"),
            Framing::Chunks => "Transfer-Encoding: chunked".into(),
        };
        let head = format!(
            "HTTP/1.1 {} As told\r\nContent-Type: application/json\r\nServer: Jetty(9.3.z)\r\n{}\
             {framing}\r\n\r\n",
            self.status, self.headers
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        let (piece, pause) = match fault {
            Some(Fault::Slow(pause)) => (length.div_ceil(SLOW_PIECES).max(1), pause),
            _ => (PIECE, 0),
        };
        let end = if fault == Some(Fault::Half) { length / 2 } else { length };
        let mut sent = 0;
        let mut gathered = Vec::with_capacity(piece.min(1 << 20));
        for part in &self.body {
            let mut part = &part[..];
            while !part.is_empty() && sent < end {
                let take = part.len().min(piece - gathered.len()).min(end - sent);
                gathered.extend_from_slice(&part[..take]);
                part = &part[take..];
                sent += take;
                if gathered.len() >= piece || sent == end {
                    self.write(stream, &gathered).await?;
                    gathered.clear();
                    if pause > 0 {
                        let pause = tokio::time::sleep(Duration::from_millis(pause));
                        tokio::select! { () = pause => {}, _ = healed.changed() => {} }
                    }
                }
            }
        }
        if fault == Some(Fault::Half) {
            return None;
        }
        if self.framing == Framing::Chunks {
            stream.write_all(b"0\r\n\r\n").await.ok()?;
        }
        Some(())
    }

    async fn write(&self, stream: &mut TcpStream, bytes: &[u8]) -> Option<()> {
        match self.framing {
            Framing::Length => stream.write_all(bytes).await.ok(),
            Framing::Chunks => chunk(stream, bytes).await,
        }
    }
}

/// One chunk of a body without an end.
pub(super) async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    stream.write_all(&framed).await.ok()
}

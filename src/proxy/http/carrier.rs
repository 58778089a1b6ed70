//! A client's connection as the full lane's library sees it: exactly one request at a time.
//!
//! What has been read already is given on first; where the request ends, reading ends, and what
//! the client sent beyond it stays here for the next one. So pipelined requests are served in
//! order, and no byte of one request is ever taken for part of another. Small writes are gathered.

mod library;
mod rates;
mod sending;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::broken::Broken;
use super::chunks::{BadChunk, Chunks};
use super::linger::Linger;
use super::paced::Paced;
use super::sanitize::{Body, Head};
use super::slow::Watch;
use super::terms::Terms;
use crate::net::stream::Stream;
use crate::net::tls::Facts;
use crate::proxy::limit::bandwidth::Pace;

/// Room for one read; most heads fit.
const READ: usize = 4096;

/// A client's connection.
#[derive(Debug)]
pub struct Carrier {
    stream: Stream,
    peer: SocketAddr,
    /// Read from the client, not given on yet.
    unread: BytesMut,
    /// Written by the library, not sent yet.
    unsent: BytesMut,
    /// Whether the library has read since it wrote last.
    read_since_write: bool,
    /// How much more belongs to the request that is being carried.
    request: Remaining,
    pace: Pace,
    paced: Option<Box<Paced>>,
    linger: Option<Box<Linger>>,
    /// The answer that goes out will never be whole.
    broken: AtomicBool,
    terms: Terms,
    /// Whether the client may still wait for a word before it sends the body.
    expects: bool,
    /// Bytes of the body that have come, as far as somebody waited for them.
    came: u64,
    /// How fast the body comes, once it has been waited for.
    body: Option<Box<Watch>>,
    /// How fast the answer is taken, once it has been waited for.
    reader: Option<Box<Watch>>,
}

#[derive(Debug, Clone, Copy)]
enum Remaining {
    Bytes(u64),
    Chunked {
        head: usize,
        chunks: Chunks,
    },
    /// To the end of the connection.
    All,
}

impl Carrier {
    /// A new connection from `peer`; nothing of it has been read.
    #[must_use]
    pub fn new(stream: Stream, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            unread: BytesMut::new(),
            unsent: BytesMut::new(),
            read_since_write: false,
            request: Remaining::Bytes(0),
            pace: Pace::default(),
            paced: None,
            linger: None,
            broken: AtomicBool::new(false),
            terms: Terms::default(),
            expects: false,
            came: 0,
            body: None,
            reader: None,
        }
    }

    /// Those of the request that is being carried.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Whether trailers of the request that is being carried are lost.
    #[must_use]
    pub fn lost_trailers(&self) -> bool {
        matches!(&self.request, Remaining::Chunked { chunks, .. } if chunks.lost_trailers())
    }

    /// Where it is told how fast the answer to the running request goes out.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// From now on the connection ends with a reset, for an answer that has begun and will not be
    /// whole: an orderly close could be taken for its end (RFC 9112 §6.3).
    pub fn break_off(&self) {
        self.broken.store(true, Relaxed);
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket below, to wait for it.
    #[must_use]
    pub fn tcp(&self) -> &tokio::net::TcpStream {
        self.stream.tcp()
    }

    /// Whether the client came by TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// What was agreed on with the client, if it came by TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Facts>> {
        self.stream.tls()
    }

    /// Closes in good order a connection on which nothing is carried.
    pub fn close(mut self) {
        self.stream.close();
    }

    /// What has been read and not given on.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// The connection below, and what was read of it and not given on: for who speaks another
    /// protocol than HTTP/1.1.
    pub(super) const fn raw(&mut self) -> (&mut Stream, &mut BytesMut) {
        (&mut self.stream, &mut self.unread)
    }

    /// Reads more; 0 when the client has closed.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read_more(&mut self) -> io::Result<usize> {
        use tokio::io::AsyncReadExt;
        self.unread.reserve(READ);
        self.stream.read_buf(&mut self.unread).await
    }

    /// Reads what is there without waiting; 0 when the client has closed.
    ///
    /// # Errors
    /// Nothing is there ([`io::ErrorKind::WouldBlock`]), or the connection broke.
    pub fn try_read_more(&mut self) -> io::Result<usize> {
        self.unread.reserve(READ);
        self.stream.try_read_buf(&mut self.unread)
    }

    /// Whether the whole request was given on; if not, the connection can't carry another one.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self.request {
            Remaining::Bytes(left) => left == 0,
            Remaining::Chunked { head, chunks } => head == 0 && chunks.done(),
            Remaining::All => false,
        }
    }

    /// From here on the library reads the request that starts with `head`.
    pub fn carry(&mut self, head: Head, terms: Terms) {
        self.pace.clear();
        self.paced = None;
        (self.body, self.reader, self.came) = (None, None, 0);
        (self.terms, self.expects) = (terms, head.expects);
        self.request = match head.body {
            _ if head.upgrade => Remaining::All,
            Body::None => Remaining::Bytes(head.length as u64),
            Body::Length(body) => Remaining::Bytes(head.length as u64 + body),
            Body::Chunked => {
                let chunks = Chunks::new(terms.trailers);
                Remaining::Chunked { head: head.length, chunks }
            }
        };
    }

    /// Puts `head` in the place of the first `length` bytes that are unread.
    pub fn replace(&mut self, length: usize, head: &[u8]) {
        let mut unread = BytesMut::with_capacity(head.len() + self.unread.len());
        unread.extend_from_slice(head);
        unread.extend_from_slice(&self.unread[length.min(self.unread.len())..]);
        self.unread = unread;
    }

    /// Gives the buffers back while the connection is idle; what the client sent already stays.
    pub fn rest(&mut self) {
        self.unsent = BytesMut::new();
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
    }

    /// Sends `answer` and closes, for requests that are refused. Errors are the client's own.
    pub async fn refuse(mut self, answer: &str) {
        if self.stream.write_all(answer.as_bytes()).await.is_ok() {
            let _ = self.stream.shutdown().await;
            // A close with unread bytes resets the connection, and the reset may overtake the
            // answer: a short look at what the client still sends lets the answer arrive.
            let mut rest = BytesMut::with_capacity(512);
            for _ in 0..8 {
                let wait = std::time::Duration::from_millis(100);
                let read = tokio::time::timeout(wait, self.stream.tcp().readable()).await;
                rest.clear();
                if read.is_err() || !matches!(self.stream.try_read_buf(&mut rest), Ok(1..)) {
                    return;
                }
            }
        }
    }

    /// Counts `bytes` as given on; how many of them belong to the request.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.request {
            Remaining::All => Ok(bytes.len()),
            Remaining::Bytes(left) => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                Ok(taken as usize)
            }
            Remaining::Chunked { head, chunks } => {
                let of_head = (*head).min(bytes.len());
                *head -= of_head;
                let start = *chunks;
                match chunks.advance(&bytes[of_head..]) {
                    Ok(of_body) => Ok(of_head + of_body),
                    // A head that can be answered goes on first; the next read tells the error.
                    Err(_) if of_head > 0 => {
                        *chunks = start;
                        Ok(of_head)
                    }
                    Err(BadChunk::Malformed) => Err(Broken::Chunks.into()),
                    Err(BadChunk::Trailers) => Err(Broken::Trailers.into()),
                }
            }
        }
    }

    /// Between the end of a request and the end of its answer: only a close is news.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.len() < READ {
            self.unread.reserve(READ);
            let before = self.unread.len();
            let mut piece = [0; 1024];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // Who has ended its side may still read; if not, writing fails.
                let waits = self.terms.answer_half_closed;
                return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            self.unread.extend_from_slice(read.filled());
            debug_assert!(self.unread.len() > before);
        }
        Poll::Pending
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Whoever reads twice in a row has nothing to write for now: what was gathered must not wait
        // for more. Once is not enough: the library looks for a close between the head of an answer
        // and its body, and both should leave together.
        if !this.unsent.is_empty() || this.stream.holds() {
            if !this.read_since_write {
                this.read_since_write = true;
                cx.waker().wake_by_ref();
            } else if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
        }
        if this.finished() {
            return this.poll_closed(cx);
        }
        if this.unread.is_empty() {
            let before = out.filled().len();
            ready!(this.poll_body(cx, out))?;
            // The range is read again because `take` borrows the whole connection.
            let fresh = out.filled().len() - before;
            let taken = {
                let bytes = &out.filled()[before..];
                let taken = this.take(bytes)?;
                this.unread.extend_from_slice(&bytes[taken..]);
                taken
            };
            debug_assert!(taken <= fresh);
            out.set_filled(before + taken);
            return Poll::Ready(Ok(()));
        }
        let unread = std::mem::take(&mut this.unread);
        let offered = &unread[..unread.len().min(out.remaining())];
        let taken = this.take(offered);
        this.unread = unread;
        let taken = taken?;
        out.put_slice(&this.unread[..taken]);
        this.unread.advance(taken);
        Poll::Ready(Ok(()))
    }
}

//! A client's connection as the full lane's library sees it: exactly one request at a time.
//!
//! What has been read already is given on first; where the request ends, reading ends, and what
//! the client sent beyond it stays here for the next one. So pipelined requests are served in
//! order, and no byte of one request is ever taken for part of another. Small writes are gathered.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::chunks::Chunks;
use super::linger::Linger;
use super::paced::Paced;
use super::sanitize::{Body, Head};
use crate::proxy::cut;
use crate::proxy::limit::bandwidth::Pace;

/// Room for one read; most heads fit.
const READ: usize = 4096;
/// Writes up to this size are gathered until the library flushes, or reads twice.
const GATHER: usize = 4096;

/// A client's connection.
#[derive(Debug)]
pub struct Carrier {
    stream: TcpStream,
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
    pub fn new(stream: TcpStream, peer: SocketAddr) -> Self {
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
        }
    }

    /// Where it is told how fast the answer to the running request goes out.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket, to wait for it.
    #[must_use]
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What has been read and not given on.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.unread
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
    pub fn carry(&mut self, head: Head) {
        self.pace.clear();
        self.paced = None;
        self.request = match head.body {
            _ if head.upgrade => Remaining::All,
            Body::None => Remaining::Bytes(head.length as u64),
            Body::Length(body) => Remaining::Bytes(head.length as u64 + body),
            Body::Chunked => Remaining::Chunked { head: head.length, chunks: Chunks::new() },
        };
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
            let mut rest = [0; 512];
            for _ in 0..8 {
                let wait = std::time::Duration::from_millis(100);
                let read = tokio::time::timeout(wait, self.stream.readable()).await;
                if read.is_err() || !matches!(self.stream.try_read(&mut rest), Ok(1..)) {
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
                    Err(_) => {
                        let what = "the chunked body is malformed";
                        Err(io::Error::new(io::ErrorKind::InvalidData, what))
                    }
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
                return Poll::Ready(Ok(()));
            }
            self.unread.extend_from_slice(read.filled());
            debug_assert!(self.unread.len() > before);
        }
        Poll::Pending
    }

    /// Writes as much of `bytes` as may go out now.
    fn poll_paced(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.paced.is_none()
            && let Some(bandwidth) = self.pace.limit()
        {
            self.paced = Some(Box::new(Paced::new(bandwidth)));
        }
        let Some(paced) = &mut self.paced else {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        };
        let part = &bytes[..bytes.len().min(ready!(paced.poll_allowed(cx)))];
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, part))?;
        paced.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            let sent = self.poll_paced(cx, &unsent);
            self.unsent = unsent;
            let sent = ready!(sent)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        Poll::Ready(Ok(()))
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
        if !this.unsent.is_empty() {
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
            ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
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

impl AsyncWrite for Carrier {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.read_since_write = false;
        if this.unsent.len() + bytes.len() > GATHER {
            ready!(this.poll_send(cx))?;
        }
        if bytes.len() > GATHER {
            return this.poll_paced(cx, bytes);
        }
        this.unsent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.finished() || matches!(this.request, Remaining::All) {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Box::new(Linger::new()));
        linger.poll(&mut this.stream, cx).map(Ok)
    }
}

impl Drop for Carrier {
    /// A client whose request is cut must not take an orderly close for the end of the answer.
    fn drop(&mut self) {
        if cut::breaking() {
            // It may be closed already; then there is nothing to tell.
            let linger = socket2::SockRef::from(&self.stream);
            let _ = linger.set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

#[async_trait]
impl Shutdown for Carrier {
    async fn shutdown(&mut self) {
        // The client may be gone already; there is nobody left to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Carrier {
    fn id(&self) -> i32 {
        self.stream.as_raw_fd()
    }
}

impl Ssl for Carrier {}

impl GetTimingDigest for Carrier {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Carrier {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Carrier {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Carrier {}

//! A client's connection, in the clear or over TLS: whoever speaks a protocol on it need not care.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tls::Facts;

/// A connection that was accepted.
#[derive(Debug)]
pub enum Stream {
    /// What is sent is what is seen on the wire.
    Plain(TcpStream),
    /// The handshake is over. Boxed: the state of TLS is much larger than a socket.
    Tls(Box<Secure>),
}

/// A connection over TLS, and what was agreed on.
#[derive(Debug)]
pub struct Secure {
    stream: TlsStream<TcpStream>,
    facts: Arc<Facts>,
}

impl Secure {
    /// The handshake of `stream` has led to `facts`.
    pub(super) const fn new(stream: TlsStream<TcpStream>, facts: Arc<Facts>) -> Self {
        Self { stream, facts }
    }
}

impl Stream {
    /// The socket, to wait for it and to set its options; bytes go through the stream.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.stream.get_ref().0,
        }
    }

    /// Whether it is over TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The protocol that was agreed on by ALPN (RFC 7301), if there was TLS, and one.
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.stream.get_ref().1.alpn_protocol(),
        }
    }

    /// What was agreed on, if there was TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Facts>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(&tls.facts),
        }
    }

    /// Whether something was written that the system has not taken yet: TLS keeps what did not fit.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.stream.get_ref().1.wants_write(),
        }
    }

    /// Says that no more will come, as far as that can be said without waiting: over TLS that is
    /// `close_notify` (RFC 8446 §6.1), which tells an end from a connection that was cut.
    pub fn close(&mut self) {
        // A client that does not even take an alert off our hands is not waiting for one.
        let _ = Pin::new(self).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    /// Appends to `into` what is there, as far as it has room, without waiting; 0 when the client
    /// has closed.
    ///
    /// # Errors
    /// Nothing is there ([`io::ErrorKind::WouldBlock`]), or the connection broke.
    pub fn try_read_buf(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let tls = match self {
            Self::Plain(tcp) => return tcp.try_read_buf(into),
            Self::Tls(tls) => &mut tls.stream,
        };
        let read = Self::try_read_tls(tls, into);
        if tls.get_ref().1.wants_write() {
            // What TLS itself answers, to the wish to negotiate anew for example. What does not fit
            // goes with the next bytes.
            let _ = Pin::new(tls).poll_flush(&mut Context::from_waker(Waker::noop()));
        }
        read
    }

    fn try_read_tls(tls: &mut TlsStream<TcpStream>, into: &mut BytesMut) -> io::Result<usize> {
        let mut piece = [0; 1024];
        let mut read = 0;
        while into.len() < into.capacity() {
            let room = piece.len().min(into.capacity() - into.len());
            let mut part = ReadBuf::new(&mut piece[..room]);
            let mut cx = Context::from_waker(Waker::noop());
            match Pin::new(&mut *tls).poll_read(&mut cx, &mut part) {
                Poll::Ready(Ok(())) if part.filled().is_empty() => return Ok(read),
                Poll::Ready(Ok(())) => {
                    read += part.filled().len();
                    into.extend_from_slice(part.filled());
                }
                Poll::Ready(Err(_)) | Poll::Pending if read > 0 => return Ok(read),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        Ok(read)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, out),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}

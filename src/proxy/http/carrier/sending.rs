//! What goes to the client: gathered, at its pace, flushed, and visibly broken when it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::AsyncWrite;

use super::{Carrier, Remaining};
use crate::proxy::cut;
use crate::proxy::http::linger::Linger;
use crate::proxy::http::paced::Paced;

/// Writes up to this size are gathered until the library flushes, or reads twice.
const GATHER: usize = 4096;

impl Carrier {
    /// Writes as much of `bytes` as may go out now.
    fn poll_paced(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.paced.is_none()
            && let Some(bandwidth) = self.pace.limit()
        {
            self.paced = Some(Box::new(Paced::new(bandwidth)));
        }
        let most = match &mut self.paced {
            Some(paced) => ready!(paced.poll_allowed(cx)),
            None => bytes.len(),
        };
        let sent = Pin::new(&mut self.stream).poll_write(cx, &bytes[..bytes.len().min(most)]);
        if sent.is_pending() {
            ready!(self.poll_reader(cx));
            return Poll::Ready(Err(self.give_up()));
        }
        if let Some(watch) = &mut self.reader {
            watch.moves();
        }
        if let Poll::Ready(Ok(sent)) = sent {
            self.pace.wrote(sent);
            if let Some(paced) = &mut self.paced {
                paced.sent(sent);
            }
        }
        sent
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.stream).poll_flush(cx)
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
        if cut::breaking().is_some() || *self.broken.get_mut() {
            // It may be closed already; then there is nothing to tell.
            let linger = socket2::SockRef::from(self.stream.tcp());
            let _ = linger.set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

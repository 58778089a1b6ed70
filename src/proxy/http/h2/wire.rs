//! A client's connection as the HTTP/2 library sees it: every frame is counted on its way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Budget, Flood, Frames};
use crate::proxy::clock;
use crate::proxy::http::carrier::Carrier;
use crate::proxy::http::linger::Linger;

/// What the connection's task and its wire tell each other.
#[derive(Debug, Default)]
pub(super) struct Meter(AtomicU8);

impl Meter {
    /// What the client sent too much of, if it did; nothing more is read then.
    pub(super) fn flood(&self) -> Option<Flood> {
        match self.0.load(Relaxed) {
            0 => None,
            1 => Some(Flood::Frames),
            _ => Some(Flood::Resets),
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Wire {
    carrier: Carrier,
    came: Frames,
    went: Frames,
    budget: Budget,
    meter: Arc<Meter>,
    linger: Option<Box<Linger>>,
}

impl Wire {
    /// Over `carrier`, of whose bytes none has been given on.
    pub(super) fn new(carrier: Carrier, meter: Arc<Meter>) -> Self {
        Self {
            carrier,
            came: Frames::of_client(),
            went: Frames::of_server(),
            budget: Budget::new(clock::micros()),
            meter,
            linger: None,
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        self.budget.now(clock::micros());
        let (budget, meter) = (&mut self.budget, &self.meter);
        self.came.advance(bytes, |frame| {
            if let Some(flood) = budget.came(frame) {
                meter.0.store(flood as u8 + 1, Relaxed);
            }
        });
    }

    fn went(&mut self, bytes: &[u8]) {
        let budget = &mut self.budget;
        self.went.advance(bytes, |frame| budget.went(frame));
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The connection's task sees it as soon as this returns, and ends the connection.
        if this.meter.flood().is_some() {
            return Poll::Pending;
        }
        let (stream, unread) = this.carrier.raw();
        let before = out.filled().len();
        if unread.is_empty() {
            ready!(Pin::new(stream).poll_read(cx, out))?;
        } else {
            let part = unread.len().min(out.remaining());
            out.put_slice(&unread[..part]);
            unread.advance(part);
        }
        this.came(&out.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(this.carrier.raw().0).poll_write(cx, bytes))?;
        this.went(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(this.carrier.raw().0).poll_write_vectored(cx, pieces))?;
        let mut left = written;
        for piece in pieces {
            let part = left.min(piece.len());
            this.went(&piece[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().carrier.raw().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(this.carrier.raw().0).poll_shutdown(cx))?;
        }
        // A close with unread bytes resets the connection, and the reset may overtake what was said last.
        let linger = this.linger.get_or_insert_with(|| Box::new(Linger::new()));
        linger.poll(this.carrier.raw().0, cx).map(Ok)
    }
}

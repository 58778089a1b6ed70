//! Closing a connection whose client is still sending.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::net::stream::Stream;

/// How long, and how much, is read of a request that was answered before it had ended.
const TIME: Duration = Duration::from_secs(2);
const BYTES: usize = 16 << 20;

/// Reads on, for a while, what the client still sends of a request that was answered early, when our
/// side has ended. A close with unread bytes resets the connection, and the reset may overtake the
/// answer.
#[derive(Debug)]
pub(super) struct Linger {
    timer: Pin<Box<Sleep>>,
    left: usize,
}

impl Linger {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self { timer: Box::pin(sleep_until(Instant::now() + TIME)), left: BYTES }
    }

    /// Ready when the client has ended too, or has had its time.
    pub(super) fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; 4096];
        while self.left > 0 && self.timer.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::new(&mut piece);
            let ended = ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)).is_err();
            if ended || read.filled().is_empty() {
                self.left = 0;
            }
            self.left = self.left.saturating_sub(read.filled().len());
        }
        Poll::Ready(())
    }
}

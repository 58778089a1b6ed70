//! The clock of a response that goes out at a limited rate.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::proxy::limit::bandwidth::{Allowance, Bandwidth};

/// A response that goes out at a limited rate, since when, and what it waits for.
#[derive(Debug)]
pub(super) struct Paced {
    bandwidth: Bandwidth,
    began: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Paced {
    /// A response that begins now.
    pub(super) fn new(bandwidth: Bandwidth) -> Self {
        let began = Instant::now();
        Self { bandwidth, began, timer: Box::pin(sleep_until(began)) }
    }

    /// How many bytes may go out, as soon as it is any at all.
    pub(super) fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            match self.bandwidth.allowance(self.began.elapsed()) {
                Allowance::Bytes(most) => return Poll::Ready(most),
                Allowance::NotBefore(then) => {
                    self.timer.as_mut().reset(self.began + then);
                    ready!(self.timer.as_mut().poll(cx));
                }
            }
        }
    }

    /// So many have gone out.
    pub(super) const fn sent(&mut self, bytes: usize) {
        self.bandwidth.sent(bytes);
    }
}

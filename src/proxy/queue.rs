//! Who waits for a place, in the order in which they came, over all workers.
//!
//! Whoever is first in line tries for a place each time that one may be free, and when it has one or
//! leaves, calls the next. So nobody overtakes, and no place stays empty while somebody waits: who
//! frees a place looks for waiters after it is free, and who waits tries after it is in line.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// The line before one upstream. Only who waits takes its lock, and who frees a place meanwhile.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    /// Most that waited at once.
    most: AtomicU32,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// The ticket of the next one who comes.
    next: u64,
    /// Who waits, by rising tickets.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    waker: Option<Waker>,
}

/// Why waiting came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vain {
    /// As many as may wait do so already.
    Full,
    /// No place came in time.
    Timeout,
}

impl Queue {
    /// How many wait. Whoever comes while it is not 0 stands behind them.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// Most that waited at once so far.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most.load(SeqCst)
    }

    /// A place may be free, or there may be more of them than before. Cheap while nobody waits.
    pub fn call(&self) {
        if self.waiting() > 0 {
            let first = self.line().waiters.front_mut().and_then(|first| first.waker.take());
            if let Some(waker) = first {
                waker.wake();
            }
        }
    }

    /// Waits in line, at most `patience` and behind at most `size - 1` others, until `attempt` gives
    /// something. It is asked whenever a place may be free and nobody stands before. Whoever drops
    /// this leaves the line.
    ///
    /// # Errors
    /// The line is full, or the time is over.
    pub async fn wait<T>(
        &self,
        size: u32,
        patience: Duration,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Vain> {
        let turn = self.join(size).ok_or(Vain::Full)?;
        let placed = std::future::poll_fn(|context| {
            if !turn.is_first(context.waker()) {
                return Poll::Pending;
            }
            attempt().map_or(Poll::Pending, Poll::Ready)
        });
        tokio::time::timeout(patience, placed).await.map_err(|_| Vain::Timeout)
    }

    fn join(&self, size: u32) -> Option<Turn<'_>> {
        let mut line = self.line();
        if line.waiters.len() >= size as usize {
            return None;
        }
        let ticket = line.next;
        line.next += 1;
        line.waiters.push_back(Waiter { ticket, waker: None });
        let waiting = self.waiting.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(waiting, SeqCst);
        Some(Turn { queue: self, ticket })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line; dropping it leaves the line, and calls who is first then.
struct Turn<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Turn<'_> {
    /// Whether nobody stands before; `waker` is called when that, or the free places, may have
    /// changed.
    fn is_first(&self, waker: &Waker) -> bool {
        let mut line = self.queue.line();
        let Ok(at) = line.waiters.binary_search_by_key(&self.ticket, |waiter| waiter.ticket) else {
            return false;
        };
        let known = &mut line.waiters[at].waker;
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        at == 0
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        let at = line.waiters.binary_search_by_key(&self.ticket, |waiter| waiter.ticket);
        if let Ok(at) = at {
            line.waiters.remove(at);
            self.queue.waiting.fetch_sub(1, SeqCst);
        }
        drop(line);
        if at == Ok(0) {
            self.queue.call();
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

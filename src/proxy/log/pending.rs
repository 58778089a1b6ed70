//! Lines of one thread that wait to be handed over.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::clock::Clock;
use super::record::Record;
use super::rule::Rule;
use super::sink::{PIECE, Sink};
use crate::random;

/// How long a line may wait for others, before it is handed over.
const TOGETHER: Duration = Duration::from_millis(250);

thread_local! {
    static PENDING: RefCell<Pending> = RefCell::default();
}

#[derive(Default)]
struct Pending {
    clock: Clock,
    /// One for each sink that got lines since they were handed over last; most often one.
    batches: Vec<Batch>,
    /// Wakes [`flush_in_time`].
    begun: Arc<Notify>,
}

struct Batch {
    sink: Arc<Sink>,
    bytes: Vec<u8>,
    lines: u64,
}

/// Notes the end of a request by `rule`. Never blocks; allocates only until the thread's buffers
/// have their size.
pub fn note(rule: &Rule, record: &Record<'_>) {
    let Some(sink) = rule.sink() else { return };
    if record.error.is_some() || rule.takes(record.status, random::bits()) {
        PENDING.with_borrow_mut(|pending| pending.note(rule, sink, record));
    }
}

/// Hands over what this thread has noted. A thread that notes calls it before it ends.
pub fn flush() {
    PENDING.with_borrow_mut(Pending::flush);
}

/// Hands over what this thread notes, a short time after it did. Runs forever; one for each
/// thread, and it costs nothing while nothing is noted.
pub async fn flush_in_time() {
    let begun = PENDING.with_borrow(|pending| Arc::clone(&pending.begun));
    loop {
        begun.notified().await;
        tokio::time::sleep(TOGETHER).await;
        flush();
    }
}

impl Pending {
    fn note(&mut self, rule: &Rule, sink: &Arc<Sink>, record: &Record<'_>) {
        self.clock.set(SystemTime::now());
        let known = self.batches.iter().position(|batch| Arc::ptr_eq(&batch.sink, sink));
        let at = known.unwrap_or_else(|| {
            let batch = Batch { sink: Arc::clone(sink), bytes: sink.buffer(), lines: 0 };
            self.batches.push(batch);
            self.begun.notify_one();
            self.batches.len() - 1
        });
        let batch = &mut self.batches[at];
        rule.line(record, &self.clock, &mut batch.bytes);
        batch.lines += 1;
        if batch.bytes.len() >= PIECE {
            let fresh = batch.sink.buffer();
            batch.sink.hand_over(std::mem::replace(&mut batch.bytes, fresh), batch.lines);
            batch.lines = 0;
        }
    }

    fn flush(&mut self) {
        for batch in self.batches.drain(..) {
            batch.sink.hand_over(batch.bytes, batch.lines);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.flush();
    }
}

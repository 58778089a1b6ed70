//! How much was compiled, for tests that hold a change to what it may cost.

use std::cell::Cell;

thread_local! {
    static DONE: Cell<usize> = const { Cell::new(0) };
}

/// So many services, routes, ports or endpoints were looked at or made.
pub(super) fn note(count: usize) {
    DONE.set(DONE.get() + count);
}

/// What this thread has done since it was asked last.
pub(super) fn done() -> usize {
    DONE.take()
}

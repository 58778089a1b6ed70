//! One clock for everything that the proxy remembers with a time, the same in every thread.

use std::sync::LazyLock;
use std::time::Instant;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since somebody first asked, from 1; never goes back.
#[must_use]
pub fn micros() -> u64 {
    u64::try_from(STARTED.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
}

//! Points at which a test may end the process as a crash would, by SIGKILL.
//!
//! Only a build with debug assertions has them: in a release [`point`] is empty, and no variable of
//! the environment is read. `PORTOLAN_FAULT=7` ends the process at the seventh point that it
//! passes, whichever that is, so that a test reaches every step without naming it.

/// A step between staging a file and having told its reader.
#[cfg(debug_assertions)]
pub(super) fn point() {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static LEFT: OnceLock<Option<AtomicU64>> = OnceLock::new();
    let told = || Some(AtomicU64::new(std::env::var("PORTOLAN_FAULT").ok()?.parse().ok()?));
    let Some(left) = LEFT.get_or_init(told) else { return };
    if left.fetch_sub(1, Ordering::Relaxed) == 1 {
        // Nobody gets to tidy up, which is what it is for.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// A step between staging a file and having told its reader.
#[cfg(not(debug_assertions))]
pub(super) const fn point() {}

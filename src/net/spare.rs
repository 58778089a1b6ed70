//! One descriptor that is kept for the moment in which there is no other.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

/// A spare descriptor. At the limit of the process nothing can be accepted, so that those who want in
/// would wait in the kernel's queue, and the queue stay ready, until somebody else leaves. With the
/// spare one they are taken out of it one by one, and told by a close.
#[derive(Debug)]
pub struct Spare(Mutex<Option<File>>);

impl Default for Spare {
    fn default() -> Self {
        Self(Mutex::new(open()))
    }
}

impl Spare {
    /// Runs `take` with one descriptor more than there was; what it takes must be closed again when it
    /// returns.
    pub fn lend<T>(&self, take: impl FnOnce() -> T) -> T {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(spare.take());
        let taken = take();
        // Somebody else may have been faster; then the next close gives it back.
        *spare = open();
        taken
    }
}

/// Whether `error` says that the process, or the machine, has no descriptor left.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|none| error.raw_os_error() == Some(none.raw_os_error()))
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

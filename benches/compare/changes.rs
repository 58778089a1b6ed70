//! Changes while requests are answered: a services file that is replaced a hundred times a second.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::machine::pause;

/// Time from one version to the next.
const EVERY: Duration = Duration::from_millis(10);

/// Changes that go on until this is dropped.
#[derive(Debug)]
pub(crate) struct Changes {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Changes {
    /// Begins to replace the file `path` by its versions: what `text` gives for 1, 2, 3 …
    pub(crate) fn start(path: PathBuf, text: impl Fn(u32) -> String + Send + 'static) -> Self {
        let next = path.with_extension("next");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let started = Instant::now();
            for version in 1.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // What can't be written shows as changes that cost nothing.
                let _ = fs::write(&next, text(version)).and_then(|()| fs::rename(&next, &path));
                pause((EVERY * version).saturating_sub(started.elapsed()));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

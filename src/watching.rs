//! News from the kernel about the files of a directory.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::Watcher as _;
use tokio::sync::Notify;

/// Wakes whoever waits when something happens in the directory of a file.
///
/// The directory is watched, not the file: a rename over it brings another inode. Where the kernel
/// tells nothing (network file systems, a directory that comes later) polling has to do.
pub struct Watching {
    events: Arc<Notify>,
    directory: PathBuf,
    watched: Option<(notify::RecommendedWatcher, (u64, u64))>,
}

impl Watching {
    /// Will watch the directory of `path`; nothing is watched before [`Self::renewed`].
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self::directory(directory_of(path), Arc::new(Notify::new()))
    }

    /// Watches `directory` and wakes by `events`, which may be shared with others.
    #[must_use]
    pub const fn directory(directory: PathBuf, events: Arc<Notify>) -> Self {
        Self { events, directory, watched: None }
    }

    /// Watches again when nothing is watched yet or the directory is another one by now. Blocks.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        let identity = |m: Metadata| (m.dev(), m.ino());
        let now = std::fs::metadata(&self.directory).map(identity).ok();
        if now.is_some() && now == self.watched.as_ref().map(|(_, known)| *known) {
            return self;
        }
        self.watched = None;
        let events = Arc::clone(&self.events);
        let woken = move |event: notify::Result<notify::Event>| {
            // Reading the file is an event too, and must not lead to reading it again.
            if event.map_or(true, |event| !event.kind.is_access()) {
                events.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(woken).and_then(|mut watcher| {
            watcher.watch(&self.directory, notify::RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match (watcher, now) {
            (Ok(watcher), Some(identity)) => self.watched = Some((watcher, identity)),
            (Err(error), _) => {
                let directory = self.directory.display();
                tracing::debug!(%directory, %error, "cannot watch a directory; polling it");
            }
            (Ok(_), None) => {}
        }
        self
    }

    /// Something happens, at the earliest since the last call; pends for ever when nothing does.
    pub async fn event(&self) {
        self.events.notified().await;
    }
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The directory that `path` lies in.
#[must_use]
pub fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

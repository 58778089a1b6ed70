//! Events that are not through, on disk: a restart tells them again, by the same ids.
//!
//! `events.json` is written aside, synced and renamed into place whenever an event begins, before
//! anybody is told, and when it ends; a file that cannot be read counts as empty.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::outlier::Key;

const FILE: &str = "events.json";
const STAGED: &str = "events.json.new";

/// An instance that failed, and nobody has acknowledged the event about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The service.
    pub service: Arc<str>,
    /// Registry and id of the instance.
    pub instance: Key,
    /// Since when it is unhealthy.
    pub since: SystemTime,
    /// The generation in which that was seen: with the rest it makes the id of the event.
    pub generation: u64,
}

/// Where open events are kept; nowhere without a directory.
#[derive(Debug)]
pub(super) struct Ledger {
    directory: Option<PathBuf>,
    written: Vec<Open>,
    failing: bool,
}

impl Ledger {
    /// The ledger in `directory`, and what stands there. Blocks for a moment.
    pub(super) fn read(directory: Option<PathBuf>) -> (Self, Vec<Open>) {
        let mut open = Vec::new();
        if let Some(path) = directory.as_ref().map(|directory| directory.join(FILE)) {
            let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
            open = read.unwrap_or_else(|error| {
                if error.kind() != io::ErrorKind::NotFound {
                    let (file, error) = (path.display().to_string(), error.to_string());
                    tracing::warn!(file, error, "events on disk are not used");
                }
                Vec::new()
            });
        }
        (Self { directory, written: open.clone(), failing: false }, open)
    }

    /// Makes `open` what is on disk. A failure is logged once; the next change tries again.
    pub(super) async fn keep(&mut self, open: Vec<Open>) {
        let Some(directory) = self.directory.clone().filter(|_| open != self.written) else {
            return;
        };
        let bytes = serde_json::to_vec(&open).unwrap_or_default();
        let wrote = tokio::task::spawn_blocking(move || write(&directory, &bytes)).await;
        let failed = wrote.map_err(io::Error::other).and_then(|wrote| wrote).err();
        if let Some(error) = failed.as_ref().filter(|_| !self.failing) {
            tracing::warn!(
                file = FILE,
                error = error.to_string(),
                "open events cannot be saved; a restart would forget them"
            );
        }
        self.failing = failed.is_some();
        if !self.failing {
            self.written = open;
        }
    }
}

fn write(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = directory.join(STAGED);
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(staged, directory.join(FILE))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_open_is_read_again_and_what_cannot_be_read_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let open = Open {
            service: "web".into(),
            instance: ("r".into(), "a".into()),
            since: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_234_567),
            generation: 7,
        };
        let (mut ledger, known) = Ledger::read(Some(dir.path().to_path_buf()));
        assert_eq!(known, []);
        ledger.keep(vec![open.clone()]).await;
        let (mut ledger, known) = Ledger::read(Some(dir.path().to_path_buf()));
        assert_eq!(known, std::slice::from_ref(&open));
        ledger.keep(Vec::new()).await;
        assert_eq!(Ledger::read(Some(dir.path().to_path_buf())).1, []);
        fs::write(dir.path().join(FILE), "[{").unwrap();
        assert_eq!(Ledger::read(Some(dir.path().to_path_buf())).1, []);
        let (mut nowhere, known) = Ledger::read(None);
        nowhere.keep(vec![open]).await;
        assert_eq!(known, []);
    }
}

//! The reload journal: what is about to be written, and whose readers have not been told yet.
//!
//! Before a file is replaced, an [`Intent`] is durable in `data_dir/reloads/`, one small file for
//! each template with a reload and for each group. It is taken back when every reload that follows
//! from it has succeeded. What a crash leaves is finished by the next start: files that were not in
//! their place get there, and the reloads run, so that each one runs at least once.
//!
//! Without a `data_dir`, or when it cannot be written, intents are kept in memory only; the status
//! says so. A file is rather replaced without a net than not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::IntCounter;
use serde::{Deserialize, Serialize};

use super::fault;
use super::place::{Move, sync_directory};
use super::stage::sha256;

/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;
/// The directory below `data_dir`.
const DIRECTORY: &str = "reloads";
/// Largest intent that is read.
const SIZE_MAX: u64 = 16 << 20;

/// What a reload is, whoever asks for it: a hash of how its reader is told, without secrets.
pub(super) type Identity = Arc<str>;

/// Whose intent it is: one template or one group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(String);

impl Key {
    /// Of a template by the file that it makes, of a group by its name.
    pub(super) fn of(kind: &str, what: &Path) -> Self {
        let name = [kind.as_bytes(), what.as_os_str().as_encoded_bytes()].join(&b'\0');
        Self(sha256(&name)[..32].to_owned())
    }
}

/// What is about to happen, or has happened and was not told to all readers yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    format: u32,
    /// Name of the template or group, for people.
    pub(super) name: String,
    /// Files on their way to their places.
    pub(super) moves: Vec<Move>,
    /// Reloads that have to follow.
    pub(super) owed: BTreeSet<Identity>,
    /// Since when a reload has been due, in milliseconds of Unix time.
    pub(super) since: u64,
}

impl Intent {
    pub(super) fn new(name: &str, moves: Vec<Move>, owed: BTreeSet<Identity>) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { format: FORMAT, name: name.to_owned(), moves, owed, since }
    }

    /// Since when a reload has been due.
    pub(super) fn since(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(self.since)
    }
}

/// How an intent was noted: each note has a number of its own, and whether it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) number: u64,
    pub(super) durable: bool,
}

/// The intents of this process, on disk if there is a place for them.
#[derive(Debug)]
pub(super) struct Journal {
    directory: Option<PathBuf>,
    state: Mutex<State>,
    failures: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    numbers: u64,
    last: BTreeMap<Key, u64>,
    failing: bool,
}

impl Journal {
    /// The journal below `data_dir`, and what it holds; what cannot be read is told and left alone.
    /// Blocks.
    pub(super) fn open(
        data_dir: Option<&Path>,
        failures: IntCounter,
    ) -> (Self, Vec<(Key, Intent, Noted)>) {
        let directory = data_dir.map(|dir| dir.join(DIRECTORY));
        let journal = Self { directory, state: Mutex::default(), failures };
        let Some(directory) = &journal.directory else { return (journal, Vec::new()) };
        if let Err(error) = fs::create_dir_all(directory) {
            journal.tell(&error);
            return (journal, Vec::new());
        }
        let mut found = Vec::new();
        // What cannot be read holds no intents that could be followed.
        for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.extension().is_some_and(|extension| extension == "new") {
                // Of a process that was killed before it counted.
                let _ = fs::remove_file(&path);
                continue;
            }
            let Some(key) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let key = Key(key.to_owned());
            match read(&path) {
                Ok(intent) => {
                    let noted = Noted { number: journal.number(&key), durable: true };
                    found.push((key, intent, noted));
                }
                Err(error) => {
                    let file = path.display().to_string();
                    tracing::warn!(file, error, "a pending reload on disk is not used");
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        (journal, found)
    }

    /// Whether there is a place on disk for it.
    pub(super) const fn on_disk(&self) -> bool {
        self.directory.is_some()
    }

    /// Takes note of `intent`, which replaces the one of the same key. Durable on return, unless
    /// the answer says that it is not. Blocks.
    pub(super) fn note(&self, key: &Key, intent: &Intent) -> Noted {
        let number = self.number(key);
        let Some(directory) = &self.directory else { return Noted { number, durable: false } };
        let written = write(directory, key, intent);
        match &written {
            Ok(()) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if std::mem::take(&mut state.failing) {
                    tracing::info!("the journal of reloads can be written again");
                }
            }
            Err(error) => self.tell(error),
        }
        Noted { number, durable: written.is_ok() }
    }

    /// Takes back the intent of this key if it is still the one that was noted then. Blocks.
    pub(super) fn clear(&self, key: &Key, number: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.get(key) != Some(&number) {
            return;
        }
        state.last.remove(key);
        if let Some(directory) = &self.directory {
            // Within the lock, so that no newer one is removed. Not synced: if the removal is lost,
            // a reload runs once more.
            let _ = fs::remove_file(file(directory, key));
        }
    }

    fn number(&self, key: &Key) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.numbers += 1;
        let number = state.numbers;
        state.last.insert(key.clone(), number);
        number
    }

    fn tell(&self, error: &io::Error) {
        self.failures.inc();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut state.failing, true) {
            let error = error.to_string();
            tracing::error!(error, "the journal of reloads cannot be written; see `data_dir`");
        }
    }
}

fn file(directory: &Path, key: &Key) -> PathBuf {
    directory.join(&key.0).with_extension("json")
}

fn read(path: &Path) -> Result<Intent, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > SIZE_MAX {
        return Err(format!("has {size} bytes"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let intent: Intent = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if intent.format != FORMAT {
        return Err(format!("is of format {}; this version reads {FORMAT}", intent.format));
    }
    Ok(intent)
}

fn write(directory: &Path, key: &Key, intent: &Intent) -> io::Result<()> {
    let (staged, path) = (directory.join(&key.0).with_extension("new"), file(directory, key));
    let bytes = serde_json::to_vec(intent)?;
    let mut options = OpenOptions::new();
    let mut open: File =
        options.write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
    open.write_all(&bytes)?;
    open.sync_all()?;
    fault::point();
    fs::rename(&staged, &path)?;
    sync_directory(directory)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;

//! The last good state on disk: what every registry said last, and the generation it led to.
//!
//! `state.json` holds one line about itself (format, length, checksum) and then the state, in lines of
//! JSON (see `store_form.rs`).
//! It is written aside, synced and renamed into place, and the one before it is kept as
//! `state.json.1`. A file that is cut, garbled or of another format is refused by name, and the
//! one before it counts. [`writer`] says when that happens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(super) use form::{body, framed};
use form::{decode, encode};

use super::{RegistryView, Verdicts};

#[path = "store_form.rs"]
mod form;
#[path = "store_writer.rs"]
pub mod writer;

const CURRENT: &str = "state.json";
const FORMER: &str = "state.json.1";
const STAGED: &str = "state.json.new";

/// What a registry said last, and when.
#[derive(Debug, Clone)]
pub struct StoredView {
    /// All that it said.
    pub view: RegistryView,
    /// When it was heard last. Milliseconds survive on disk.
    pub heard_at: SystemTime,
}

/// What goes to disk. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StateToSave {
    /// What each registry said last, by its name.
    pub views: BTreeMap<String, StoredView>,
    /// The generation published last.
    pub generation: u64,
    /// What checks and the proxy found out.
    pub verdicts: Verdicts,
}

/// What was on disk.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// What each registry said last, by its name; empty when nothing could be read.
    pub views: BTreeMap<String, StoredView>,
    /// The generation published last; the next one must be above it.
    pub generation: u64,
    /// What checks and the proxy had found out.
    pub verdicts: Verdicts,
    /// Files that are there and cannot be used, each with the reason.
    pub refused: Vec<String>,
}

impl StateToSave {
    /// As a file has it, for who takes over from this process.
    ///
    /// # Errors
    /// Something in it cannot be written as JSON.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        Ok(encode(self)?)
    }
}

impl Loaded {
    /// What [`StateToSave::to_bytes`] made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error(
        "cannot make the directory {path} of `data_dir`: {source}; make it, or set `data_dir` to \
         one that this process may write"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}; see whether the disk is full or read-only")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A directory that holds the last good state.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store in `directory`, which is made if need be. Blocks.
    ///
    /// # Errors
    /// When the directory is not there and cannot be made.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.to_path_buf(), source })?;
        Ok(Self { directory: directory.to_path_buf() })
    }

    /// The last good state: of the current file, or else of the one before. Blocks; never fails,
    /// for a process that knows nothing can still hear its registries.
    #[must_use]
    pub fn load(&self) -> Loaded {
        let mut refused = Vec::new();
        for name in [CURRENT, FORMER] {
            let path = self.directory.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    refused.push(format!("{}: {error}", path.display()));
                    continue;
                }
            };
            match decode(&bytes) {
                Ok(loaded) => return Loaded { refused, ..loaded },
                Err(why) => refused.push(format!("{}: {why}", path.display())),
            }
        }
        Loaded { refused, ..Loaded::default() }
    }

    /// Makes `state` the current file and the current one the former, durably. Blocks.
    ///
    /// # Errors
    /// When a step fails; the current file then still is what it was.
    pub fn save(&self, state: &StateToSave) -> Result<(), StoreError> {
        let at = |name: &str| self.directory.join(name);
        let failed = |name: &str| {
            let path = at(name);
            move |source: io::Error| StoreError::Write { path, source }
        };
        let bytes = encode(state).map_err(io::Error::from).map_err(failed(STAGED))?;
        write_synced(&at(STAGED), &bytes).map_err(failed(STAGED))?;
        // A garbled file must not push a good one out of the second place.
        if fs::read(at(CURRENT)).is_ok_and(|bytes| body(&bytes).is_ok()) {
            fs::rename(at(CURRENT), at(FORMER)).map_err(failed(FORMER))?;
        }
        fs::rename(at(STAGED), at(CURRENT)).map_err(failed(CURRENT))?;
        File::open(&self.directory).and_then(|dir| dir.sync_all()).map_err(failed(CURRENT))
    }
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

//! A staged file takes its place: by rename, or in place where the old inode has to stay; and back.
//!
//! A [`Move`] says what is to be done so that another process can finish it after a crash.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::fault;
use super::resource::RenderError;
use super::stage::{beside, failed, own, sha256};
use super::writing::WriteMode;

/// A staged file on its way to its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    /// Where it goes.
    pub(super) destination: PathBuf,
    /// Where it is, until it is in its place.
    pub(super) staged: PathBuf,
    /// What it says.
    pub(super) sha256: String,
    /// How it goes.
    pub(super) write: WriteMode,
    /// Whether the old file is kept as `.bak`.
    pub(super) backup: bool,
    /// Where the old file is kept until the move is final.
    pub(super) kept: Option<PathBuf>,
    /// Whether there was no old file.
    pub(super) new: bool,
}

/// How a file was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Renamed,
    InPlace,
}

/// Makes the names in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory).and_then(|directory| directory.sync_all())
}

/// The file `name` says exactly what has this checksum.
fn says(path: &Path, wanted: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| sha256(&bytes) == wanted)
}

impl Move {
    /// Keeps the old file, so that [`Self::undo`] can bring it back. Durable with the next
    /// [`Self::place`], which syncs the directory.
    pub(super) fn keep(&mut self) -> Result<(), RenderError> {
        let kept = beside(&self.destination, &own("before"));
        let copied = copy(&self.destination, &kept, self.write);
        match copied {
            Ok(()) => self.kept = Some(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.destination.exists() => {
                self.new = true;
            }
            Err(error) => return Err(failed("keep the old file as", &kept, error)),
        }
        Ok(())
    }

    /// Whether the destination says what was staged.
    pub(super) fn is_done(&self) -> bool {
        says(&self.destination, &self.sha256)
    }

    /// Whether the staged file is there, whole.
    pub(super) fn can_be_done(&self) -> bool {
        says(&self.staged, &self.sha256)
    }

    /// Puts the staged file in its place, durably. When this fails, the old file is intact.
    pub(super) fn place(&self) -> Result<Way, RenderError> {
        if self.backup {
            self.back_up()?;
        }
        let way = self.put(&self.staged)?;
        fault::point();
        self.sync();
        Ok(way)
    }

    /// Puts the file `from` in the place of the destination. `from` is gone then.
    fn put(&self, from: &Path) -> Result<Way, RenderError> {
        let replaced = |error| failed("replace", &self.destination, error);
        if self.write != WriteMode::InPlace || !self.destination.exists() {
            match fs::rename(from, &self.destination) {
                Ok(()) => return Ok(Way::Renamed),
                Err(error) if self.write != WriteMode::Rename && is_mounted(&error) => {}
                Err(error) => return Err(replaced(error)),
            }
        }
        let bytes = fs::read(from).map_err(|error| failed("read", from, error))?;
        overwrite(&self.destination, &bytes).map_err(replaced)?;
        // What stays behind is removed at the next start.
        let _ = fs::remove_file(from);
        Ok(Way::InPlace)
    }

    /// Brings back the file from before, durably. May be repeated.
    pub(super) fn undo(&self) -> Result<(), RenderError> {
        if self.new {
            match fs::remove_file(&self.destination) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &self.destination, error));
                }
                _ => {}
            }
        } else if let Some(kept) = self.kept.as_deref().filter(|kept| kept.exists()) {
            self.put(kept)?;
        }
        self.sync();
        Ok(())
    }

    /// Makes the new name durable. When that cannot be, the file is in its place all the same, and
    /// its reader has to be told of it.
    fn sync(&self) {
        let directory = self.destination.parent().unwrap_or_else(|| Path::new("."));
        if let Err(error) = sync_directory(directory) {
            let (directory, error) = (directory.display().to_string(), error.to_string());
            tracing::warn!(directory, error, "a directory cannot be synced");
        }
    }

    /// The old file is not needed any more.
    pub(super) fn forget(&self) {
        if let Some(kept) = &self.kept {
            // What stays behind is removed at the next start.
            let _ = fs::remove_file(kept);
        }
    }

    /// Nothing will come of it: the staged file goes, and so does the old one that was kept.
    pub(super) fn drop_it(&self) {
        let _ = fs::remove_file(&self.staged);
        self.forget();
    }

    /// Keeps the old file as `.bak`: under that name stands always a whole file, or none.
    fn back_up(&self) -> Result<(), RenderError> {
        let mut name = self.destination.clone().into_os_string();
        name.push(".bak");
        let backup = PathBuf::from(name);
        let aside = beside(&backup, &own("staged"));
        let kept =
            copy(&self.destination, &aside, self.write).and_then(|()| fs::rename(&aside, &backup));
        match kept {
            Err(error) if error.kind() != io::ErrorKind::NotFound || self.destination.exists() => {
                Err(failed("make the backup", &backup, error))
            }
            _ => Ok(()),
        }
    }
}

/// A second name for the file at `from`; a copy where its content will be overwritten, or where
/// there can be no second name, as for a file on which something is mounted.
fn copy(from: &Path, to: &Path, write: WriteMode) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if write != WriteMode::InPlace && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

fn is_mounted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices)
}

/// Gives the file at `path` this content and keeps its inode. Room is made beforehand, and when it
/// fails nonetheless, the old content is put back as well as can be.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let before = fs::read(path)?;
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().write(true).custom_flags(no_link).open(path)?;
    if bytes.len() > before.len() {
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes.len() as u64) {
            // The file system cannot, and will say so while writing.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let written = fill(&file, bytes);
    if written.is_err() {
        let _ = fill(&file, &before);
    }
    written
}

fn fill(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    fault::point();
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;

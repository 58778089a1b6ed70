//! Replacing a file: staged beside it, synced, renamed over it, the directory synced.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::resource::{Mode, RenderError};

/// Permissions of a file that was not there before and whose configuration states none.
const MODE_NEW: u32 = 0o644;

/// A file that is ready to take the place of another. Removed when dropped.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    /// Where it goes, symbolic links followed.
    destination: PathBuf,
    placed: bool,
}

/// Whether `destination` holds exactly `bytes` already.
pub(super) fn is_current(destination: &Path, bytes: &[u8]) -> bool {
    // What cannot be read is not current: the attempt to replace it will say why.
    fs::metadata(destination).is_ok_and(|metadata| metadata.len() == bytes.len() as u64)
        && fs::read(destination).is_ok_and(|there| there == bytes)
}

/// Writes `bytes` durably beside `destination`, with the mode and owner of what stands there.
///
/// Its name begins with a dot, so that no `include *.conf` takes it up, and keeps the extension,
/// which some checkers go by.
pub(super) fn stage(
    destination: &Path,
    mode: Option<Mode>,
    bytes: &[u8],
) -> Result<Staged, RenderError> {
    // A link stays a link: what it points at is replaced.
    let destination = fs::canonicalize(destination).unwrap_or_else(|_| destination.to_path_buf());
    let path = beside(&destination, &format!("staged-{}", std::process::id()));
    let failed = |source: io::Error| RenderError::Write {
        step: "write",
        path: path.clone(),
        remedy: match source.kind() {
            io::ErrorKind::NotFound => "make the directory of `destination`",
            io::ErrorKind::PermissionDenied => {
                "let this process write in the directory of `destination`"
            }
            _ => "see whether the disk is full or read-only",
        },
        source,
    };
    let staged = Staged { path: path.clone(), destination, placed: false };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    let before = fs::metadata(&staged.destination).ok();
    if let Some(before) = &before {
        keep_owner(&file, before).map_err(failed)?;
    }
    let mode = mode.map(|mode| mode.0).or_else(|| before.map(|before| before.mode() & 0o7777));
    file.set_permissions(Permissions::from_mode(mode.unwrap_or(MODE_NEW))).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(staged)
}

/// Gives `file` the owner of the one before; a process that may not keeps the file as its own.
fn keep_owner(file: &File, before: &fs::Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    match fchown(file, Some(before.uid()), Some(before.gid())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(
                uid = before.uid(),
                gid = before.gid(),
                "the owner of a rendered file cannot be kept"
            );
            Ok(())
        }
        other => other,
    }
}

/// `.stem.what.extension` in the directory of `destination`.
fn beside(destination: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(destination.file_stem().unwrap_or_default());
    name.push(".");
    name.push(what);
    if let Some(extension) = destination.extension() {
        name.push(".");
        name.push(extension);
    }
    destination.with_file_name(name)
}

impl Staged {
    /// Where the staged file is, for the check.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place, durably.
    pub(super) fn commit(mut self) -> Result<(), RenderError> {
        let failed = |source| RenderError::Write {
            step: "replace",
            path: self.destination.clone(),
            source,
            remedy: "see whether `destination` is a directory or its disk read-only",
        };
        fs::rename(&self.path, &self.destination).map_err(failed)?;
        let directory = match self.destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        let synced = synced.map_err(failed);
        self.placed = true;
        synced
    }

    /// Puts it aside for somebody to look at, as `.stem.rejected.extension`; returns where.
    pub(super) fn reject(mut self) -> PathBuf {
        let kept = beside(&self.destination, "rejected");
        self.placed = fs::rename(&self.path, &kept).is_ok();
        kept
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.placed {
            // Nobody is there to be told, and the next attempt removes it first.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_unless_another_is_stated() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.cfg");
        stage(&file, None, b"1").unwrap().commit().unwrap();
        assert_eq!(mode(&file), 0o644, "the default of a new file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        stage(&file, None, b"2").unwrap().commit().unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"2".to_vec()));
        stage(&file, Some(Mode(0o640)), b"3").unwrap().commit().unwrap();
        assert_eq!(mode(&file), 0o640);
        assert_eq!(names(dir.path()), ["a.cfg"]);
    }

    #[test]
    fn a_staged_file_is_hidden_keeps_the_extension_and_goes_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.cfg");
        let staged = stage(&file, None, b"1").unwrap();
        let name = staged.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with(".a.staged-"), "{name}");
        assert_eq!(staged.path().extension(), Some("cfg".as_ref()));
        drop(staged);
        assert!(names(dir.path()).is_empty());
        let kept = stage(&file, None, b"1").unwrap().reject();
        assert_eq!(kept, dir.path().join(".a.rejected.cfg"));
        assert_eq!(names(dir.path()), [".a.rejected.cfg"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "1").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        stage(&link, None, b"2").unwrap().commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"2");
    }

    #[test]
    fn a_missing_directory_is_told_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = stage(&dir.path().join("no/a.cfg"), None, b"1").unwrap_err().to_string();
        assert!(error.ends_with("make the directory of `destination`"), "{error}");
    }
}

//! The new content of a file, written durably where it can be checked and then put in place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::attributes::Attributes;
use super::fault;
use super::place::{Move, sync_directory};
use super::resource::{RenderError, ResourceConfig};
use super::writing::WriteMode;

/// A file that is ready to take the place of another. Removed when dropped.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    /// Where it goes, symbolic links followed.
    destination: PathBuf,
    sha256: String,
    write: WriteMode,
    backup: bool,
    given_away: bool,
}

/// How a file compares with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is as it should be.
    Current,
    /// It says what it should, but its mode or owner is another one.
    OtherAttributes,
    /// It says something else, or is not there.
    Other,
}

/// How the file at `destination` compares with `bytes` and `wanted`.
pub(super) fn standing(destination: &Path, bytes: &[u8], wanted: &Attributes) -> Standing {
    // What cannot be read is not current: the attempt to replace it will say why.
    let Ok(metadata) = fs::metadata(destination) else { return Standing::Other };
    let same = metadata.len() == bytes.len() as u64
        && fs::read(destination).is_ok_and(|there| there == bytes);
    match (same, wanted.hold(&metadata)) {
        (false, _) => Standing::Other,
        (true, false) => Standing::OtherAttributes,
        (true, true) => Standing::Current,
    }
}

/// SHA-256 of `bytes`, in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        text.extend(
            [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[digit as usize])),
        );
        text
    })
}

/// Writes `bytes` durably for `destination`, with the mode, owner and extended attributes of what
/// stands there, as far as `config` and `wanted` state no others.
///
/// It is made beside the destination; its name begins with a dot, so that no `include *.conf` takes
/// it up, and keeps the extension, which some checkers go by. Until it is complete, nobody but us
/// can open it. Where the directory cannot be written and the file may be written in place, it is
/// made in the directory for temporary files.
pub(super) fn stage(
    destination: &Path,
    config: &ResourceConfig,
    wanted: &Attributes,
    bytes: &[u8],
) -> Result<Staged, RenderError> {
    // A link stays a link: what it points at is replaced.
    let destination = fs::canonicalize(destination).unwrap_or_else(|_| destination.to_path_buf());
    if config.create_dirs
        && let Some(directory) = destination.parent()
    {
        make_directories(directory)?;
    }
    let beside_it = beside(&destination, &own("staged"));
    let (path, file, write) = match create(&beside_it) {
        Ok(file) => (beside_it, file, config.write),
        Err(error) if elsewhere(&error, config.write, &destination) => {
            let name = sha256(destination.as_os_str().as_encoded_bytes());
            let name = format!("{}.{}", &name[..16], own("staged"));
            let there = std::env::temp_dir().join(destination.file_name().unwrap_or_default());
            let path = beside(&there, &name);
            let file = create(&path).map_err(|error| failed("write", &path, error))?;
            (path, file, WriteMode::InPlace)
        }
        Err(error) => return Err(failed("write", &beside_it, error)),
    };
    let sha256 = sha256(bytes);
    let staged =
        Staged { path, destination, sha256, write, backup: config.backup, given_away: false };
    staged.fill(file, wanted, bytes).map_err(|error| failed("write", &staged.path, error))?;
    fault::point();
    Ok(staged)
}

/// Whether a file that cannot be staged beside its destination may be staged elsewhere: only when
/// it can be written in place then.
fn elsewhere(error: &io::Error, write: WriteMode, destination: &Path) -> bool {
    let refused =
        matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    refused && write != WriteMode::Rename && destination.is_file()
}

/// A new file that nobody else can open. One from before, of a process that was killed, is removed.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(no_link).open(path)
}

fn make_directories(directory: &Path) -> Result<(), RenderError> {
    if directory.is_dir() {
        return Ok(());
    }
    let there = directory.ancestors().find(|above| above.is_dir()).map(Path::to_path_buf);
    fs::create_dir_all(directory)
        .map_err(|error| failed("make the directory", directory, error))?;
    for above in directory.ancestors().skip(1) {
        // One that cannot be opened is there all the same.
        let _ = sync_directory(above);
        if there.as_deref() == Some(above) {
            break;
        }
    }
    Ok(())
}

/// The error of a `step` on `path`, with what an operator can do about it.
pub(super) fn failed(step: &'static str, path: &Path, source: io::Error) -> RenderError {
    let remedy = match source.kind() {
        io::ErrorKind::NotFound => {
            "make the directory of `destination`, or set `create_dirs = true`"
        }
        io::ErrorKind::PermissionDenied => "let this process write in that directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount that file system writable, or write elsewhere by `destination`"
        }
        io::ErrorKind::IsADirectory => "let `destination` name a file, not a directory",
        io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => {
            "something is mounted there; set `write = \"in-place\"` or `\"auto\"`"
        }
        io::ErrorKind::Other => "correct `owner`",
        _ => "see whether the disk is full or read-only",
    };
    RenderError::Write { step, path: path.to_path_buf(), source, remedy }
}

/// `what` with the number of this process and one that no other call gets: a process that was
/// killed leaves files behind that nobody takes for those of another.
pub(super) fn own(what: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// `.stem.what.extension` in the directory of `destination`.
pub(super) fn beside(destination: &Path, what: &str) -> PathBuf {
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

/// Removes what processes that were killed have left staged in `directory`, except for `kept`.
///
/// Only files of ours go: their names hold the number of a process, and nothing else runs by it.
/// Must not be called once something is staged. Blocks.
pub(super) fn sweep(directory: &Path, kept: &[&Path]) {
    // A directory that cannot be read will be told when it has to be written.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with('.')) else { continue };
        let of = ["staged-", "before-"].iter().find_map(|what| {
            let (_, rest) = name.rsplit_once(&format!(".{what}"))?;
            rest.split('-').next()?.parse::<u32>().ok()
        });
        let Some(process) = of else { continue };
        let other = process != std::process::id();
        let runs = other && Path::new(&format!("/proc/{process}")).exists();
        if !runs && !kept.contains(&entry.path().as_path()) {
            // The next start tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Staged {
    fn fill(&self, mut file: File, wanted: &Attributes, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)?;
        wanted.dress(&file, &self.destination)?;
        file.sync_all()
    }

    /// Where the staged file is, for the check.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it aside for somebody to look at, as `.stem.rejected.extension`; returns where.
    pub(super) fn reject(mut self) -> PathBuf {
        let kept = beside(&self.destination, "rejected");
        self.given_away = fs::rename(&self.path, &kept).is_ok();
        if self.given_away { kept } else { PathBuf::from("lost") }
    }

    /// The way to its place; whoever has it takes care of the staged file from now on.
    pub(super) fn into_move(mut self) -> Move {
        self.given_away = true;
        Move {
            destination: std::mem::take(&mut self.destination),
            staged: std::mem::take(&mut self.path),
            sha256: std::mem::take(&mut self.sha256),
            write: self.write,
            backup: self.backup,
            kept: None,
            new: false,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.given_away {
            // Nobody is there to be told, and the next attempt removes it first.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;

//! Reading a file that others write: whole, settled, and only when it changed.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::units::Size;

/// Rest that a file gets between an event, or an unsettled read, and the next look.
pub(super) const SETTLE: Duration = Duration::from_millis(20);
/// Looks at a file that changes while it is read, before it is called unreadable for now.
const LOOKS_MAX: u32 = 25;
/// A file younger than this when it was read may change again within the same tick of its clock.
const YOUNG: Duration = Duration::from_secs(2);

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A content that was read, as far as it must be known to see that it is still the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    stamp: Stamp,
    checksum: u32,
    /// Read so soon after it was written that its stamp proves nothing.
    young: bool,
}

/// What a look at the file finds.
#[derive(Debug)]
pub(super) enum Look {
    /// The content is the one that was seen before.
    Unchanged(Seen),
    /// Another content.
    Changed(Seen, String),
}

/// Reads `path` unless it is as `seen`, again and again until it holds still while being read.
///
/// # Errors
/// What failed, with the path and the next step. A file above `size_max` is one of these.
pub(super) async fn settled(
    path: &Path,
    size_max: Size,
    seen: Option<Seen>,
) -> Result<Look, String> {
    for _ in 0..LOOKS_MAX {
        let blocking_path = path.to_path_buf();
        let looked =
            tokio::task::spawn_blocking(move || look(&blocking_path, size_max, seen)).await;
        match looked {
            Ok(Ok(Some(look))) => return Ok(look),
            Ok(Ok(None)) => tokio::time::sleep(SETTLE).await,
            Ok(Err(why)) => return Err(why),
            Err(error) => return Err(format!("reading {} failed: {error}", path.display())),
        }
    }
    Err(format!(
        "{} changes all the time while it is read; write it aside and rename it into place",
        path.display()
    ))
}

/// One look; `None` when the file changed under it.
fn look(path: &Path, size_max: Size, seen: Option<Seen>) -> Result<Option<Look>, String> {
    let failed = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "put it back, or correct `path`",
            io::ErrorKind::PermissionDenied => "let this process read it",
            _ => "see whether its disk works",
        };
        format!("cannot read {}: {error}; {remedy}", path.display())
    };
    let before = std::fs::metadata(path).map_err(failed)?;
    if !before.is_file() {
        return Err(format!("{} is not a file; correct `path`", path.display()));
    }
    let stamp = Stamp::of(&before);
    if let Some(seen) = seen
        && seen.stamp == stamp
        && !seen.young
    {
        return Ok(Some(Look::Unchanged(seen)));
    }
    if stamp.size > size_max.0 {
        return Err(format!(
            "{} has {} bytes, more than `max_size` = \"{size_max}\"; raise it or split the file",
            path.display(),
            stamp.size
        ));
    }
    let mut bytes = Vec::with_capacity(stamp.size as usize + 1);
    let file = File::open(path).map_err(failed)?;
    let opened = Stamp::of(&file.metadata().map_err(failed)?);
    file.take(stamp.size + 1).read_to_end(&mut bytes).map_err(failed)?;
    let after = Stamp::of(&std::fs::metadata(path).map_err(failed)?);
    if opened != stamp || after != stamp || bytes.len() as u64 != stamp.size {
        return Ok(None);
    }
    let age = before.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    let young = age.is_none_or(|age| age < YOUNG);
    let now = Seen { stamp, checksum: crc32fast::hash(&bytes), young };
    if seen.is_some_and(|seen| seen.checksum == now.checksum && seen.stamp.size == stamp.size) {
        return Ok(Some(Look::Unchanged(now)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("{}: byte {at} is not UTF-8; save the file as UTF-8", path.display())
    })?;
    Ok(Some(Look::Changed(now, text)))
}

//! What a file is like apart from its content: owner, permissions, extended attributes.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt as _, chown, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

use super::resource::{Mode, ResourceConfig};

/// Permissions of a file that was not there before and whose configuration states none.
const MODE_NEW: u32 = 0o644;
/// Longest list of names, and longest value, of extended attributes: what Linux allows.
const XATTR_MAX: usize = 64 << 10;

/// What the configuration wants a file to be like; what it does not state stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: Option<u32>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

impl Attributes {
    /// Those of `config`; looks up names of users and groups.
    pub(super) fn wanted(config: &ResourceConfig) -> io::Result<Self> {
        let (user, group) = match &config.owner {
            None => (None, None),
            Some(owner) => owner.ids().map_err(io::Error::other)?,
        };
        Ok(Self { mode: config.mode.map(|Mode(mode)| mode), user, group })
    }

    /// Whether a file is as is wanted.
    pub(super) fn hold(&self, file: &Metadata) -> bool {
        self.mode.is_none_or(|mode| file.mode() & 0o7777 == mode)
            && self.user.is_none_or(|user| file.uid() == user)
            && self.group.is_none_or(|group| file.gid() == group)
    }

    /// Makes the file at `path` as is wanted; whoever reads it may read on.
    pub(super) fn repair(&self, path: &Path) -> io::Result<()> {
        let file = fs::metadata(path)?;
        let other = |wanted: Option<u32>, now: u32| wanted.filter(|wanted| *wanted != now);
        let (user, group) = (other(self.user, file.uid()), other(self.group, file.gid()));
        if user.is_some() || group.is_some() {
            chown(path, user, group)?;
        }
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Makes a new file as is wanted, and in all else as the one at `path` that it will replace.
    pub(super) fn dress(&self, file: &File, path: &Path) -> io::Result<()> {
        let before = fs::metadata(path).ok();
        self.give(file, before.as_ref())?;
        if before.is_some() {
            copy_xattrs(path, file);
        }
        let kept = before.map(|before| before.mode() & 0o7777);
        let mode = self.mode.or(kept).unwrap_or(MODE_NEW);
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Gives `file` its owner; a process that may not keep the one before keeps the file as its own.
    fn give(&self, file: &File, before: Option<&Metadata>) -> io::Result<()> {
        let now = file.metadata()?;
        let user = self.user.or_else(|| before.map(MetadataExt::uid)).unwrap_or_else(|| now.uid());
        let group =
            self.group.or_else(|| before.map(MetadataExt::gid)).unwrap_or_else(|| now.gid());
        if (user, group) == (now.uid(), now.gid()) {
            return Ok(());
        }
        match fchown(file, Some(user), Some(group)) {
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && self.user.is_none()
                    && self.group.is_none() =>
            {
                tracing::warn!(user, group, "the owner of a rendered file cannot be kept");
                Ok(())
            }
            other => other,
        }
    }
}

/// Gives `file` the extended attributes of the one at `path`, security labels and access lists
/// among them, as far as the system lets us: many file systems have none, and some attributes are
/// not for everybody.
fn copy_xattrs(path: &Path, file: &File) {
    let mut names = vec![0_u8; XATTR_MAX];
    let Ok(length) = listxattr(path, &mut names[..]) else { return };
    let mut value = vec![0_u8; XATTR_MAX];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let copied = getxattr(path, name, &mut value[..])
            .and_then(|length| fsetxattr(file, name, &value[..length], XattrFlags::empty()));
        if let Err(error) = copied
            && error != Errno::NODATA
        {
            let name = String::from_utf8_lossy(name);
            tracing::debug!(name = &*name, %error, "an extended attribute cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_stated_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert!(Attributes::default().hold(&file));
        let mine = Attributes { user: Some(file.uid()), group: Some(file.gid()), mode: None };
        assert!(mine.hold(&file));
        let other = Attributes { mode: Some(0o600), ..mine };
        assert!(!other.hold(&file));
        other.repair(&path).unwrap();
        assert!(other.hold(&fs::metadata(&path).unwrap()));
    }

    #[test]
    fn extended_attributes_are_kept_where_there_are_some() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::write(&old, "").unwrap();
        let set = rustix::fs::setxattr(&old, "user.origin", b"chart", XattrFlags::empty());
        if let Err(error) = set {
            let why = format!("skipped: this file system has no extended attributes: {error}\n");
            io::Write::write_all(&mut io::stdout(), why.as_bytes()).unwrap();
            return;
        }
        let file = File::create(&new).unwrap();
        Attributes::default().dress(&file, &old).unwrap();
        let mut value = [0_u8; 16];
        let length = getxattr(&new, "user.origin", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"chart");
    }
}

//! Files that a template reads: read within bounds, looked at again while the template lives.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::super::functions::System;
use super::scope::Scope;

/// Pause between two looks at the files that a template read.
const LOOK: Duration = Duration::from_secs(1);

/// By what another content is noticed: time, size and the file itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { modified, size: metadata.len(), inode: metadata.ino() }
    }

    fn at(path: &str) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::of)
    }
}

/// The files that were read, as they were then; none: it could not be read.
pub(super) type Files = BTreeMap<String, Option<Mark>>;

/// The content of the file at `path`, and how it stood before it was read.
pub(super) fn read(scope: &Scope, path: &str) -> (Option<Mark>, Result<String, String>) {
    let told = |error: std::io::Error| format!("open {path}: {error}");
    let world = System { sandbox: scope.sandbox.clone(), ..System::default() };
    if let Err(why) = world.allowed(path.as_ref()) {
        return (None, Err(why));
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return (None, Err(told(error))),
    };
    let mark = Some(Mark::of(&metadata));
    if !metadata.is_file() {
        return (mark, Err(format!("open {path}: is no plain file")));
    }
    if metadata.len() > scope.file_max {
        let why = format!(
            "open {path}: its {} bytes are more than the {} of `output_max`",
            metadata.len(),
            scope.file_max
        );
        return (mark, Err(why));
    }
    let text = fs::read(path).map_err(told).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| format!("open {path}: is no UTF-8 text"))
    });
    (mark, text)
}

/// Returns when one of `files` is another one than when it was read; never when there are none.
pub(super) fn changed(files: &Files) -> impl Future<Output = ()> + Send + use<> {
    let files = files.clone();
    async move {
        if files.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let known: Vec<(PathBuf, _)> =
                files.iter().map(|(path, mark)| (path.into(), *mark)).collect();
            let looked = tokio::task::spawn_blocking(move || {
                known.iter().any(|(path, mark)| Mark::at(&path.to_string_lossy()) != *mark)
            });
            if looked.await.unwrap_or(false) {
                return;
            }
        }
    }
}

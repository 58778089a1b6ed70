//! Reads configuration files and directories, in the order that counts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::decode;
use super::settings::Settings;

/// Largest configuration file.
const SIZE_MAX: u64 = 4 << 20;
/// Most files of a directory, and deepest folder.
const FILES_MAX: usize = 1000;
const DEPTH_MAX: usize = 32;

/// What all `paths` set, a later one over an earlier one. A directory stands for the files in it
/// and below, in the order of their names; links to directories are not followed.
///
/// # Errors
/// Every problem of every file.
pub(super) fn read(paths: &[PathBuf], directory: &Path) -> Result<Settings, Vec<String>> {
    let mut settings = Settings::default();
    let mut problems = Vec::new();
    for path in paths {
        let mut files = Vec::new();
        let found = list(path, &directory.join(path), &mut files, 0);
        if let Err(why) = found {
            problems.push(format!("cannot read the configuration {}: {why}", path.display()));
        }
        for (shown, file) in files {
            match one(&shown, &file) {
                Ok(read) => settings.merge(read),
                Err(found) => problems.extend(found),
            }
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// Adds the file at `path`, or those of the directory there, each with the name to show.
fn list(
    shown: &Path,
    path: &Path,
    files: &mut Vec<(PathBuf, PathBuf)>,
    depth: usize,
) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push((shown.to_path_buf(), path.to_path_buf()));
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(io::Error::other("its folders are too deep"));
    }
    let mut names: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let (shown, below) = (shown.join(entry.file_name()), entry.path());
        let link = entry.file_type()?.is_symlink();
        if link && fs::metadata(&below).is_ok_and(|target| target.is_dir()) {
            continue;
        }
        if files.len() >= FILES_MAX {
            return Err(io::Error::other(format!("it holds more than {FILES_MAX} files")));
        }
        list(&shown, &below, files, depth + 1)?;
    }
    Ok(())
}

fn one(shown: &Path, path: &Path) -> Result<Settings, Vec<String>> {
    let name = shown.display().to_string();
    let text = fs::metadata(path).and_then(|found| {
        if found.len() > SIZE_MAX {
            return Err(io::Error::other(format!("it is larger than {} MiB", SIZE_MAX >> 20)));
        }
        fs::read_to_string(path)
    });
    let text = text.map_err(|why| vec![format!("cannot read the configuration {name}: {why}")])?;
    decode::file(&name, &text)
}

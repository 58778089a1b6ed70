//! Which files a list of paths stands for.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;

/// Deepest directory below a path that is looked into.
const DEPTH_MAX: usize = 16;

/// A pattern for names of files: `*` is any text, `?` any character, `[a-z]` one of these, `[^a-z]`
/// none of these, `\` takes the next character as it is. The whole name must match.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct NameFilter {
    text: String,
    regex: Option<Regex>,
}

impl PartialEq for NameFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Default for NameFilter {
    fn default() -> Self {
        Self { text: "*".to_owned(), regex: None }
    }
}

impl TryFrom<String> for NameFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::default());
        }
        let broken = || format!("{text:?} is no pattern such as \"*.yaml\" or \"[0-9]*.json\"");
        let mut regex = String::from("(?s)^");
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '*' => regex.push_str(".*"),
                '?' => regex.push('.'),
                '\\' => {
                    let next = characters.next().ok_or_else(broken)?;
                    regex.push_str(&regex::escape(&next.to_string()));
                }
                '[' => {
                    regex.push('[');
                    if characters.next_if_eq(&'^').is_some() {
                        regex.push('^');
                    }
                    let mut length = 0;
                    loop {
                        match characters.next().ok_or_else(broken)? {
                            ']' if length > 0 => break,
                            '-' if length > 0 => regex.push('-'),
                            '\\' => {
                                let next = characters.next().ok_or_else(broken)?;
                                regex.push_str(&regex::escape(&next.to_string()));
                            }
                            // Beside what `escape` knows, a class reads these two.
                            c if "&~-[]^".contains(c) => regex.extend(['\\', c]),
                            c => regex.push(c),
                        }
                        length += 1;
                    }
                    regex.push(']');
                }
                c => regex.push_str(&regex::escape(&c.to_string())),
            }
        }
        regex.push('$');
        let regex = Regex::new(&regex).map_err(|_| broken())?;
        Ok(Self { text, regex: Some(regex) })
    }
}

impl NameFilter {
    /// Whether `name` is one of them.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(name))
    }
}

/// The files, and every directory in which one may come or go.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: BTreeSet<PathBuf>,
    pub(super) directories: Vec<PathBuf>,
}

/// Looks which files `paths` stand for. Hidden files of directories are left out. Blocks.
///
/// # Errors
/// A path that is not there, a directory that cannot be read, or too many files; with the next step.
pub(super) fn find(
    paths: &[PathBuf],
    filter: &NameFilter,
    files_max: usize,
) -> Result<Found, String> {
    let mut found = Found::default();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
        if metadata.is_dir() {
            below(path, filter, files_max, 0, &mut found)?;
        } else {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            found.directories.push(directory.unwrap_or_else(|| Path::new(".")).to_path_buf());
            found.files.insert(path.clone());
        }
    }
    if found.files.len() > files_max {
        return Err(too_many(files_max));
    }
    Ok(found)
}

fn below(
    directory: &Path,
    filter: &NameFilter,
    files_max: usize,
    depth: usize,
    found: &mut Found,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        let path = directory.display();
        return Err(format!("{path} lies more than {DEPTH_MAX} directories deep; name it itself"));
    }
    found.directories.push(directory.to_path_buf());
    for entry in std::fs::read_dir(directory).map_err(|error| failed(directory, &error))? {
        let entry = entry.map_err(|error| failed(directory, &error))?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        // Links to files are followed, links to directories are not: they may lead in a circle.
        let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                if !link {
                    below(&path, filter, files_max, depth + 1, found)?;
                }
            }
            Ok(metadata) if metadata.is_file() && filter.takes(&name) => {
                found.files.insert(path);
                if found.files.len() > files_max {
                    return Err(too_many(files_max));
                }
            }
            // Anything else is nothing to read, or was taken away this moment.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Ok(())
}

fn too_many(files_max: usize) -> String {
    format!("there are more than `max_files` = {files_max} files; raise it, or set `filter`")
}

fn failed(path: &Path, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "put it back, or correct `paths`",
        io::ErrorKind::PermissionDenied => "let this process read it",
        _ => "see whether its disk works",
    };
    format!("cannot read {}: {error}; {remedy}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_whole_names() {
        for (pattern, name, want) in [
            ("*", "anything.yaml", true),
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yaml.bak", false),
            ("*.y?ml", "a.yaml", true),
            ("[0-9]*.json", "10-a.json", true),
            ("[0-9]*.json", "a.json", false),
            ("[^a]*", "b", true),
            ("[^a]*", "a", false),
            ("a.b", "axb", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
        ] {
            let filter = NameFilter::try_from(pattern.to_owned()).unwrap();
            assert_eq!(filter.takes(name), want, "{pattern} {name}");
        }
        for pattern in ["[", "[a", "\\", "[z-a]"] {
            assert!(NameFilter::try_from(pattern.to_owned()).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_directory_stands_for_the_files_below_it_but_hidden_ones_and_circles() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/sub")).unwrap();
        for name in
            ["d/b.yaml", "d/a.yaml", "d/.hidden.yaml", "d/note.txt", "d/sub/c.yaml", "e.json"]
        {
            std::fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink(at("d"), at("d/sub/circle")).unwrap();
        std::os::unix::fs::symlink(at("e.json"), at("d/link.yaml")).unwrap();
        let filter = NameFilter::try_from("*.yaml".to_owned()).unwrap();
        let found = find(&[at("d"), at("e.json")], &filter, 10).unwrap();
        let names = found.files.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display());
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        assert_eq!(names, ["d/a.yaml", "d/b.yaml", "d/link.yaml", "d/sub/c.yaml", "e.json"]);
        assert_eq!(found.directories.len(), 3);
        let error = find(&[at("d")], &filter, 3).unwrap_err();
        assert!(error.contains("`max_files` = 3"), "{error}");
        let error = find(&[at("none")], &filter, 3).unwrap_err();
        assert!(error.ends_with("put it back, or correct `paths`"), "{error}");
    }
}

//! What is shown instead of answers with an error: files, read when the configuration is loaded.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// Largest file.
const PAGE_MAX: u64 = 1 << 20;

/// Extensions of files, and what they are.
const KINDS: [(&str, &str); 6] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
];

/// Lines that describe the body that a page takes the place of (RFC 9110 §8), or what can be
/// asked of it.
pub const DESCRIBING: [&str; 11] = [
    "accept-ranges",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "etag",
    "last-modified",
    "transfer-encoding",
];

/// The body of an answer, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The body.
    pub body: Bytes,
    /// Its `Content-Type`.
    pub kind: &'static str,
}

/// The pages of one route.
#[derive(Debug, Default)]
pub struct ErrorPages {
    exact: Box<[(u16, Page)]>,
    /// For 4xx and 5xx.
    classes: [Option<Page>; 2],
}

impl ErrorPages {
    /// Whether there is no page at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.classes.iter().all(Option::is_none)
    }

    /// What is shown instead of an answer with `status`: the page of the status, then that of its
    /// class.
    #[must_use]
    pub fn of(&self, status: u16) -> Option<&Page> {
        let exact = self.exact.iter().find(|(known, _)| *known == status);
        exact.map(|(_, page)| page).or_else(|| {
            let class = usize::from(status / 100).checked_sub(4)?;
            self.classes.get(class)?.as_ref()
        })
    }
}

/// Files that were read, each once however many routes show it.
#[derive(Debug, Default)]
pub struct Files {
    read: HashMap<PathBuf, Result<Page, String>>,
}

impl Files {
    /// Reads the pages by status (`"503"`) or class (`"5xx"`); what can't be goes to `tell`.
    pub fn pages(
        &mut self,
        config: &BTreeMap<String, PathBuf>,
        tell: &mut dyn FnMut(&'static str, String),
    ) -> ErrorPages {
        let mut exact = Vec::new();
        let mut classes = [None, None];
        for (status, path) in config {
            let page = self.read.entry(path.clone()).or_insert_with(|| read(path)).clone();
            let page = match page {
                Ok(page) => page,
                Err(why) => {
                    tell("error_pages", format!("{status:?}: {}: {why}", path.display()));
                    continue;
                }
            };
            match (&**status, status.parse()) {
                ("4xx", _) => classes[0] = Some(page),
                ("5xx", _) => classes[1] = Some(page),
                (_, Ok(status @ 400..=599)) => exact.push((status, page)),
                _ => tell(
                    "error_pages",
                    format!("{status:?} is no error; write \"400\" to \"599\", \"4xx\" or \"5xx\""),
                ),
            }
        }
        ErrorPages { exact: exact.into(), classes }
    }
}

fn read(path: &Path) -> Result<Page, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known = KINDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    let Some((_, kind)) = known else {
        let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
        return Err(format!("what it is must be told by its ending: {}", known.join(", ")));
    };
    let about = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !about.is_file() {
        return Err("is no file".into());
    }
    if about.len() > PAGE_MAX {
        return Err(format!("has {} bytes; {PAGE_MAX} are the most", about.len()));
    }
    let body = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(Page { body: body.into(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_by_its_status_and_then_by_its_class() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = BTreeMap::new();
        for (status, file) in [("503", "a.html"), ("5xx", "b.json"), ("404", "c.TXT")] {
            let path = directory.path().join(file);
            fs::write(&path, file).unwrap();
            config.insert(status.to_owned(), path);
        }
        let pages = Files::default().pages(&config, &mut |_, what| panic!("{what}"));
        let shown = |status| pages.of(status).map(|page| (&*page.body, page.kind));
        assert_eq!(shown(503), Some((&b"a.html"[..], "text/html; charset=utf-8")));
        assert_eq!(shown(502), Some((&b"b.json"[..], "application/json")));
        assert_eq!(shown(404), Some((&b"c.TXT"[..], "text/plain; charset=utf-8")));
        for status in [101, 200, 304, 403, 600, 0] {
            assert_eq!(shown(status), None, "{status}");
        }
    }

    #[test]
    fn pages_that_cannot_be_are_told_with_status_file_and_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("large.html"), vec![b'x'; 1 + PAGE_MAX as usize]).unwrap();
        fs::write(path("page.php"), "").unwrap();
        fs::write(path("page.html"), "").unwrap();
        fs::create_dir(path("folder.html")).unwrap();
        for (status, file, want) in [
            ("503", "gone.html", "cannot be read"),
            ("503", "large.html", "1048576 are the most"),
            ("503", "page.php", "told by its ending: html, htm"),
            ("503", "folder.html", "is no file"),
            ("200", "page.html", "is no error"),
            ("3xx", "page.html", "is no error"),
        ] {
            let config = BTreeMap::from([(status.to_owned(), path(file))]);
            let mut told = Vec::new();
            Files::default().pages(&config, &mut |key, what| told.push((key, what)));
            assert!(told.len() == 1 && told[0].1.contains(want), "{status} {file}: {told:?}");
        }
    }
}

//! Who changed what, when and why: a line of JSON for each change, and one in the log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::IntCounter;
use serde::Serialize;

/// One change.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// When.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub at: SystemTime,
    /// Who: the address or the user at the other end of the connection.
    pub who: Arc<str>,
    /// What: `drain`, `maintenance`, `weight`, `undo`, `reload` …
    pub what: &'static str,
    /// Of whom, as `registry/service/id` or `node NAME`; empty where it is about nobody.
    pub target: String,
    /// The number of the operation, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<u64>,
    /// The weight that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// When what runs is cut.
    #[serde(
        serialize_with = "crate::units::rfc3339_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<SystemTime>,
    /// Why, in the operator's words.
    pub reason: Arc<str>,
    /// `done`, or why it was refused.
    pub result: String,
}

/// Where changes are noted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    place: Arc<Mutex<Place>>,
    failures: IntCounter,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: Option<PathBuf>,
    max: u64,
}

impl Audit {
    /// Notes in the file at `path`, if any, of at most `max` bytes; counts what could not be noted.
    #[must_use]
    pub fn new(path: Option<PathBuf>, max: u64, failures: IntCounter) -> Self {
        Self { place: Arc::new(Mutex::new(Place { path, max })), failures }
    }

    /// Notes there from now on.
    pub fn follow(&self, path: Option<PathBuf>, max: u64) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Place { path, max };
    }

    /// Notes a change; returns when it is on disk. A log that cannot be written is told in the
    /// other one and stops nobody.
    pub async fn note(&self, entry: Entry) {
        tracing::info!(
            who = &*entry.who,
            what = entry.what,
            target = entry.target,
            operation = entry.operation,
            reason = &*entry.reason,
            result = entry.result,
            "an operator spoke"
        );
        let (place, failures) = (Arc::clone(&self.place), self.failures.clone());
        let written = tokio::task::spawn_blocking(move || {
            // Held while it is written, so that lines stand whole and in order.
            let place = place.lock().unwrap_or_else(PoisonError::into_inner);
            match &place.path {
                Some(path) => append(path, place.max, &entry).map_err(|e| (path.clone(), e)),
                None => Ok(()),
            }
        });
        if let Ok(Err((path, error))) = written.await {
            failures.inc();
            tracing::error!(path = %path.display(), %error, "the audit log cannot be written");
        }
    }
}

fn append(path: &Path, max: u64, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let length = fs::metadata(path).map_or(0, |found| found.len());
    if length > 0 && length + line.len() as u64 > max {
        let mut former = path.as_os_str().to_owned();
        former.push(".1");
        fs::rename(path, former)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(&line)?;
    File::sync_data(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(reason: &str) -> Entry {
        Entry {
            at: SystemTime::UNIX_EPOCH,
            who: "uid 0".into(),
            what: "drain",
            target: "r/web/a".to_owned(),
            operation: Some(1),
            weight: None,
            deadline: None,
            reason: reason.into(),
            result: "done".to_owned(),
        }
    }

    fn counter() -> IntCounter {
        IntCounter::new("a", "A.").unwrap()
    }

    #[tokio::test]
    async fn each_change_is_a_line_and_a_log_that_grows_too_large_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::new(Some(path.clone()), 300, counter());
        for reason in ["one", "two", "three", "four"] {
            audit.note(entry(reason)).await;
        }
        let lines = |path: &Path| {
            let text = fs::read_to_string(path).unwrap();
            let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
            text.lines().map(line).map(|line| line["reason"].to_string()).collect::<Vec<_>>()
        };
        assert_eq!(lines(&dir.path().join("audit.jsonl.1")), ["\"one\"", "\"two\""]);
        assert_eq!(lines(&path), ["\"three\"", "\"four\""]);
        assert!(fs::metadata(&path).unwrap().len() <= 300);
    }

    #[tokio::test]
    async fn what_cannot_be_noted_is_counted_and_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let failures = counter();
        let audit = Audit::new(Some(dir.path().join("no/audit.jsonl")), 300, failures.clone());
        audit.note(entry("one")).await;
        assert_eq!(failures.get(), 1);
        audit.follow(None, 300);
        audit.note(entry("two")).await;
        assert_eq!(failures.get(), 1);
    }
}

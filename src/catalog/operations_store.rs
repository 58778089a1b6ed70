//! What operators said, on disk: a word once given outlives the process.
//!
//! `operations.json` has the form of the last good state (see [`store`](super::store)): a line with
//! format, length and checksum, then the list. It is replaced as a whole, durably, before anybody
//! is told that the word counts; the one before it is kept as `operations.json.1`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::operations::{Operation, Operations};
use super::store::{StoreError, body, framed, write_synced};

const CURRENT: &str = "operations.json";
const FORMER: &str = "operations.json.1";
const STAGED: &str = "operations.json.new";

/// A directory that holds what operators said.
#[derive(Debug, Clone)]
pub struct OperationsStore(PathBuf);

impl OperationsStore {
    /// The store in `directory`, which is there.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_path_buf())
    }

    /// What was said, of the current file or else of the one before it; and files that are there
    /// and cannot be used, each with the reason. Blocks.
    #[must_use]
    pub fn load(&self) -> (Operations, Vec<String>) {
        let mut refused = Vec::new();
        for name in [CURRENT, FORMER] {
            let path = self.0.join(name);
            let read = match fs::read(&path) {
                Ok(bytes) => decode(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(error.to_string()),
            };
            match read {
                Ok(operations) => return (operations, refused),
                Err(why) => refused.push(format!("{}: {why}", path.display())),
            }
        }
        (Operations::default(), refused)
    }

    /// Makes `operations` the current file, durably. Blocks.
    ///
    /// # Errors
    /// When a step fails; the current file then still is what it was.
    pub fn save(&self, operations: &Operations) -> Result<(), StoreError> {
        let at = |name: &str| self.0.join(name);
        let failed = |name: &str| {
            let path = at(name);
            move |source: io::Error| StoreError::Write { path, source }
        };
        let bytes = to_bytes(operations).map_err(failed(STAGED))?;
        write_synced(&at(STAGED), &bytes).map_err(failed(STAGED))?;
        // A garbled file must not push a good one out of the second place.
        if fs::read(at(CURRENT)).is_ok_and(|bytes| body(&bytes).is_ok()) {
            fs::rename(at(CURRENT), at(FORMER)).map_err(failed(FORMER))?;
        }
        fs::rename(at(STAGED), at(CURRENT)).map_err(failed(CURRENT))?;
        File::open(&self.0).and_then(|dir| dir.sync_all()).map_err(failed(CURRENT))
    }
}

/// `operations` as the file has them, for who takes over from this process.
///
/// # Errors
/// Something in them cannot be written as JSON.
pub fn to_bytes(operations: &Operations) -> io::Result<Vec<u8>> {
    let all: Vec<&Operation> = operations.iter().map(AsRef::as_ref).collect();
    Ok(serde_json::to_vec(&all).and_then(|body| framed(&body))?)
}

/// What [`to_bytes`] made.
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Operations, String> {
    let all: Vec<Operation> =
        serde_json::from_slice(body(bytes)?).map_err(|error| error.to_string())?;
    Ok(all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::catalog::Weight;
    use crate::catalog::operations::tests::{drain, on_instance, on_node};
    use crate::catalog::operations::{Does, Target};

    fn some() -> Operations {
        let mut operations = Operations::default();
        let deadline = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7));
        operations.put(Operation { deadline, ..drain(on_instance("a")) }, 9).unwrap();
        let weight = Does::Weight(Weight::try_from(5).unwrap());
        operations.put(Operation { does: weight, ..drain(on_node("n")) }, 9).unwrap();
        operations
    }

    #[test]
    fn what_is_saved_is_loaded_as_it_was_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = OperationsStore::new(dir.path());
        assert!(store.load().0.is_empty());
        let mut saved = some();
        store.save(&saved).unwrap();
        let (mut loaded, refused) = store.load();
        assert!(refused.is_empty());
        let of = |operations: &Operations| operations.iter().cloned().collect::<Vec<_>>();
        assert_eq!(of(&loaded), of(&saved));
        let next = |operations: &mut Operations| {
            operations.put(drain(on_instance("z")), 9).unwrap().number
        };
        assert_eq!(next(&mut loaded), next(&mut saved));
    }

    #[test]
    fn a_damaged_file_is_named_and_the_one_before_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let store = OperationsStore::new(dir.path());
        let first = some();
        store.save(&first).unwrap();
        let mut second = first.clone();
        second.put(drain(Target::Node(Arc::from("other"))), 9).unwrap();
        store.save(&second).unwrap();
        let path = dir.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        for (case, bytes) in
            [("cut", &whole[..whole.len() - 5]), ("empty", &[][..]), ("another form", b"{}\n[]\n")]
        {
            fs::write(&path, bytes).unwrap();
            let (loaded, refused) = store.load();
            assert_eq!(loaded.len(), first.len(), "{case}");
            assert!(refused.len() == 1 && refused[0].contains(CURRENT), "{case}: {refused:?}");
        }
        // Saving over a damaged file keeps the good one in the second place.
        store.save(&second).unwrap();
        assert_eq!(store.load().0.len(), second.len());
        fs::write(&path, b"").unwrap();
        assert_eq!(store.load().0.len(), first.len());
    }
}

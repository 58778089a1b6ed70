//! The last good state on disk: what every registry said last, and the generation it led to.
//!
//! `state.json` holds one line about itself (format, length, checksum) and then the state.
//! It is written aside, synced and renamed into place, and the one before it is kept as
//! `state.json.1`. A file that is cut, garbled or of another format is refused by name, and the
//! one before it counts. [`writer`] says when that happens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::model::Node;
use super::{
    InstanceVerdict, Key, Parts, Problem, RegistryView, ServiceVerdicts, SourceService, Verdicts,
    Wanted,
};

#[path = "store_writer.rs"]
pub mod writer;

/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;
const CURRENT: &str = "state.json";
const FORMER: &str = "state.json.1";
const STAGED: &str = "state.json.new";

/// What a registry said last, and when.
#[derive(Debug, Clone)]
pub struct StoredView {
    /// All that it said.
    pub view: RegistryView,
    /// When it was heard last. Milliseconds survive on disk.
    pub heard_at: SystemTime,
}

/// What goes to disk. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StateToSave {
    /// What each registry said last, by its name.
    pub views: BTreeMap<String, StoredView>,
    /// The generation published last.
    pub generation: u64,
    /// What checks and the proxy found out.
    pub verdicts: Verdicts,
}

/// What was on disk.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// What each registry said last, by its name; empty when nothing could be read.
    pub views: BTreeMap<String, StoredView>,
    /// The generation published last; the next one must be above it.
    pub generation: u64,
    /// What checks and the proxy had found out.
    pub verdicts: Verdicts,
    /// Files that are there and cannot be used, each with the reason.
    pub refused: Vec<String>,
}

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error(
        "cannot make the directory {path} of `data_dir`: {source}; make it, or set `data_dir` to \
         one that this process may write"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}; see whether the disk is full or read-only")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A directory that holds the last good state.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// The first line of a state file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    length: u64,
    crc32: u32,
}

/// The rest of a state file, `S` being services by value or by reference.
#[derive(Serialize, Deserialize)]
struct Body<S> {
    generation: u64,
    registries: BTreeMap<String, Registry<S>>,
    #[serde(default)]
    verdicts: Vec<StoredVerdict>,
}

/// Service, registry, id, and what was found out about that instance.
type StoredVerdict = (Arc<str>, Arc<str>, Arc<str>, InstanceVerdict);

#[derive(Serialize, Deserialize)]
struct Registry<S> {
    /// Unix time in milliseconds.
    heard_at: u64,
    services: Vec<S>,
    problems: Vec<(Arc<str>, Arc<str>)>,
    #[serde(default)]
    keys: Vec<Arc<Key>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<Arc<str>>,
    #[serde(default)]
    nodes: Vec<Arc<Node>>,
    #[serde(default)]
    datacenter: Option<Arc<str>>,
    #[serde(default)]
    known: Arc<Wanted>,
    #[serde(default)]
    parts: Arc<Parts>,
}

impl Store {
    /// The store in `directory`, which is made if need be. Blocks.
    ///
    /// # Errors
    /// When the directory is not there and cannot be made.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.to_path_buf(), source })?;
        Ok(Self { directory: directory.to_path_buf() })
    }

    /// The last good state: of the current file, or else of the one before. Blocks; never fails,
    /// for a process that knows nothing can still hear its registries.
    #[must_use]
    pub fn load(&self) -> Loaded {
        let mut refused = Vec::new();
        for name in [CURRENT, FORMER] {
            let path = self.directory.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    refused.push(format!("{}: {error}", path.display()));
                    continue;
                }
            };
            match decode(&bytes) {
                Ok(loaded) => return Loaded { refused, ..loaded },
                Err(why) => refused.push(format!("{}: {why}", path.display())),
            }
        }
        Loaded { refused, ..Loaded::default() }
    }

    /// Makes `state` the current file and the current one the former, durably. Blocks.
    ///
    /// # Errors
    /// When a step fails; the current file then still is what it was.
    pub fn save(&self, state: &StateToSave) -> Result<(), StoreError> {
        let at = |name: &str| self.directory.join(name);
        let failed = |name: &str| {
            let path = at(name);
            move |source: io::Error| StoreError::Write { path, source }
        };
        let bytes = encode(state).map_err(io::Error::from).map_err(failed(STAGED))?;
        write_synced(&at(STAGED), &bytes).map_err(failed(STAGED))?;
        // A garbled file must not push a good one out of the second place.
        if fs::read(at(CURRENT)).is_ok_and(|bytes| body(&bytes).is_ok()) {
            fs::rename(at(CURRENT), at(FORMER)).map_err(failed(FORMER))?;
        }
        fs::rename(at(STAGED), at(CURRENT)).map_err(failed(CURRENT))?;
        File::open(&self.directory).and_then(|dir| dir.sync_all()).map_err(failed(CURRENT))
    }
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn encode(state: &StateToSave) -> Result<Vec<u8>, serde_json::Error> {
    let registry = |stored: &StoredView| {
        let services = sorted(stored.view.services.values().map(Arc::clone), |s| &s.name);
        let age = stored.heard_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let problem = |p: &Problem| (Arc::clone(&p.place), Arc::clone(&p.message));
        Registry {
            heard_at: age.as_millis() as u64,
            services,
            problems: stored.view.problems.iter().map(problem).collect(),
            keys: sorted(stored.view.keys.values().map(Arc::clone), |key| &key.path),
            document: stored.view.document.clone(),
            nodes: sorted(stored.view.nodes.values().map(Arc::clone), |node| &node.name),
            datacenter: stored.view.datacenter.clone(),
            known: Arc::clone(&stored.view.known),
            parts: Arc::clone(&stored.view.parts),
        }
    };
    let registries =
        state.views.iter().map(|(name, stored)| (name.clone(), registry(stored))).collect();
    let mut verdicts = Vec::new();
    for (service, told) in state.verdicts.iter() {
        verdicts.extend(told.instances.iter().map(|((registry, id), verdict)| {
            (Arc::clone(service), Arc::clone(registry), Arc::clone(id), verdict.clone())
        }));
    }
    verdicts.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
    let generation = state.generation;
    framed(&serde_json::to_vec(&Body { generation, registries, verdicts })?)
}

/// `body` behind the line that tells format, length and checksum.
pub(super) fn framed(body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let header = Header { format: FORMAT, length: body.len() as u64, crc32: crc32fast::hash(body) };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    bytes.push(b'\n');
    Ok(bytes)
}

/// `values` in the order of their names, so that the same state is the same file.
fn sorted<T>(values: impl Iterator<Item = Arc<T>>, name: impl Fn(&T) -> &Arc<str>) -> Vec<Arc<T>> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(|a, b| name(a).cmp(name(b)));
    values
}

/// The body of a state file, when it is whole and of our format.
pub(super) fn body(bytes: &[u8]) -> Result<&[u8], String> {
    let cut = memchr::memchr(b'\n', bytes).ok_or("the file is cut in its first line")?;
    let (head, rest) = bytes.split_at(cut);
    let header: Header = serde_json::from_slice(head)
        .map_err(|_| "its first line does not tell format, length and checksum".to_owned())?;
    if header.format != FORMAT {
        return Err(format!(
            "it has the format {}, this version reads {FORMAT}; use the version that wrote it, \
             or remove the file",
            header.format
        ));
    }
    let body = rest.get(1..).and_then(|rest| rest.strip_suffix(b"\n")).unwrap_or_default();
    if body.len() as u64 != header.length {
        return Err(format!("it is cut: {} bytes instead of {}", body.len(), header.length));
    }
    if crc32fast::hash(body) != header.crc32 {
        return Err("its checksum does not match: it was changed or damaged".to_owned());
    }
    Ok(body)
}

fn decode(bytes: &[u8]) -> Result<Loaded, String> {
    let body: Body<Arc<SourceService>> =
        serde_json::from_slice(body(bytes)?).map_err(|error| error.to_string())?;
    let view = |registry: Registry<Arc<SourceService>>| {
        let services = registry.services.into_iter();
        let problem = |(place, message)| Problem { place, message };
        let view = RegistryView {
            services: services.map(|service| (Arc::clone(&service.name), service)).collect(),
            problems: registry.problems.into_iter().map(problem).collect(),
            keys: registry.keys.into_iter().map(|key| (Arc::clone(&key.path), key)).collect(),
            document: registry.document,
            nodes: registry.nodes.into_iter().map(|n| (Arc::clone(&n.name), n)).collect(),
            datacenter: registry.datacenter,
            known: registry.known,
            parts: registry.parts,
            ..RegistryView::default()
        };
        let heard_at = UNIX_EPOCH.checked_add(Duration::from_millis(registry.heard_at));
        StoredView { view, heard_at: heard_at.unwrap_or(UNIX_EPOCH) }
    };
    let views = body.registries.into_iter().map(|(name, registry)| (name, view(registry)));
    let mut verdicts: BTreeMap<Arc<str>, ServiceVerdicts> = BTreeMap::new();
    for (service, registry, id, verdict) in body.verdicts {
        verdicts.entry(service).or_default().instances.insert((registry, id), verdict);
    }
    Ok(Loaded {
        views: views.collect(),
        generation: body.generation,
        verdicts: verdicts.into_iter().map(|(name, told)| (name, Arc::new(told))).collect(),
        refused: Vec::new(),
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

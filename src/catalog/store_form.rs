//! How a state stands in a file: a line about the file, a line about the state, and then a line for
//! each service, in the order of the registries, so that several threads can read them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Loaded, StateToSave, StoredView};
use crate::catalog::model::Node;
use crate::catalog::{
    InstanceVerdict, Key, Parts, Problem, RegistryView, ServiceVerdicts, SourceService, Wanted,
};

/// The format that this version writes. It reads the one before too, where all of the state stood
/// in one line.
const FORMAT: u32 = 2;
/// Bytes of services for which one more thread is worth while.
const SHARE: usize = 200_000;
/// Most threads that read services.
const WORKERS_MAX: usize = 4;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// Bytes behind this line and before the last line end.
    length: u64,
    crc32: u32,
}

/// The second line.
#[derive(Serialize, Deserialize)]
struct Body {
    generation: u64,
    registries: BTreeMap<String, Registry>,
    #[serde(default)]
    verdicts: Vec<StoredVerdict>,
}

/// Service, registry, id, and what was found out about that instance.
type StoredVerdict = (Arc<str>, Arc<str>, Arc<str>, InstanceVerdict);

#[derive(Serialize, Deserialize)]
struct Registry {
    /// Unix time in milliseconds.
    heard_at: u64,
    /// How many lines its services take.
    #[serde(default)]
    lines: usize,
    /// Its services where they do not stand on lines of their own: in the format before.
    #[serde(default, skip_serializing)]
    services: Vec<Arc<SourceService>>,
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

/// `state` as a file has it.
pub(super) fn encode(state: &StateToSave) -> Result<Vec<u8>, serde_json::Error> {
    let registries = state.views.iter().map(|(name, stored)| (name.clone(), registry(stored)));
    let mut verdicts = Vec::new();
    for (service, told) in state.verdicts.iter() {
        verdicts.extend(told.instances.iter().map(|((registry, id), verdict)| {
            (Arc::clone(service), Arc::clone(registry), Arc::clone(id), verdict.clone())
        }));
    }
    verdicts.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
    let (registries, generation) = (registries.collect(), state.generation);
    let mut body = serde_json::to_vec(&Body { generation, registries, verdicts })?;
    for stored in state.views.values() {
        for service in sorted(stored.view.services.values().map(Arc::clone), |s| &s.name) {
            body.push(b'\n');
            serde_json::to_writer(&mut body, &service)?;
        }
    }
    framed(&body)
}

/// `body` behind the line that tells format, length and checksum.
pub(in crate::catalog) fn framed(body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let header = Header { format: FORMAT, length: body.len() as u64, crc32: crc32fast::hash(body) };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    bytes.push(b'\n');
    Ok(bytes)
}

/// What is said of a registry before its services.
fn registry(stored: &StoredView) -> Registry {
    let age = stored.heard_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let problem = |p: &Problem| (Arc::clone(&p.place), Arc::clone(&p.message));
    let view = &stored.view;
    Registry {
        heard_at: age.as_millis() as u64,
        lines: view.services.len(),
        services: Vec::new(),
        problems: view.problems.iter().map(problem).collect(),
        keys: sorted(view.keys.values().map(Arc::clone), |key| &key.path),
        document: view.document.clone(),
        nodes: sorted(view.nodes.values().map(Arc::clone), |node| &node.name),
        datacenter: view.datacenter.clone(),
        known: Arc::clone(&view.known),
        parts: Arc::clone(&view.parts),
    }
}

/// `values` in the order of their names, so that the same state is the same file.
fn sorted<T>(values: impl Iterator<Item = Arc<T>>, name: impl Fn(&T) -> &Arc<str>) -> Vec<Arc<T>> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(|a, b| name(a).cmp(name(b)));
    values
}

/// What stands behind the first line, when the file is whole and of a format that is read.
pub(in crate::catalog) fn body(bytes: &[u8]) -> Result<&[u8], String> {
    let cut = memchr::memchr(b'\n', bytes).ok_or("the file is cut in its first line")?;
    let (head, rest) = bytes.split_at(cut);
    let header: Header = serde_json::from_slice(head)
        .map_err(|_| "its first line does not tell format, length and checksum".to_owned())?;
    if !(1..=FORMAT).contains(&header.format) {
        return Err(format!(
            "it has the format {}, this version reads up to {FORMAT}; use the version that wrote \
             it, or remove the file",
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

/// The state of a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Loaded, String> {
    let (first, lines) = lines(body(bytes)?);
    let body: Body = serde_json::from_slice(first).map_err(|error| error.to_string())?;
    let told: usize = body.registries.values().map(|registry| registry.lines).sum();
    if told != lines.len() {
        return Err(format!("it tells of {told} services and has {}", lines.len()));
    }
    let mut services = services(&lines).map_err(|error| error.to_string())?.into_iter();
    let views = body.registries.into_iter().map(|(name, mut registry)| {
        registry.services.extend(services.by_ref().take(registry.lines));
        (name, view(registry))
    });
    let views = views.collect();
    let mut verdicts: BTreeMap<Arc<str>, ServiceVerdicts> = BTreeMap::new();
    for (service, registry, id, verdict) in body.verdicts {
        verdicts.entry(service).or_default().instances.insert((registry, id), verdict);
    }
    Ok(Loaded {
        views,
        generation: body.generation,
        verdicts: verdicts.into_iter().map(|(name, told)| (name, Arc::new(told))).collect(),
        refused: Vec::new(),
    })
}

/// The first line, and the others.
fn lines(body: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let mut from = 0;
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    let mut lines = ends.map(|end| &body[std::mem::replace(&mut from, end + 1)..end]);
    (lines.next().unwrap_or_default(), lines.collect())
}

/// The services of `lines`, in their order; a restart waits for them.
fn services(lines: &[&[u8]]) -> Result<Vec<Arc<SourceService>>, serde_json::Error> {
    let read = |lines: &[&[u8]]| -> Result<Vec<_>, _> {
        lines.iter().map(|line| serde_json::from_slice(line)).collect()
    };
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    let wanted = (bytes / SHARE).min(WORKERS_MAX).min(lines.len());
    let threads = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if wanted < 2 || threads() < 2 {
        return read(lines);
    }
    let mut shares = lines.chunks(lines.len().div_ceil(wanted.min(threads())));
    thread::scope(|scope| {
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || read(share))).collect();
        let mut services = read(own)?;
        for other in others {
            match other.join() {
                Ok(more) => services.append(&mut more?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(services)
    })
}

fn view(registry: Registry) -> StoredView {
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
}

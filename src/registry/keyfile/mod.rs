//! The registry `keyfile`: keys in YAML, JSON or TOML files, followed while they change.
//!
//! Files are flattened as confd's backend `file` does it; a directory stands for all files below
//! it. A file that cannot be read keeps the keys that it had; one that is gone from a directory
//! takes its keys with it, one that the configuration names does not.

mod find;
mod flat;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::catalog::{Key, Keys, Problem, RegistryView};
use crate::registry::Source;
use crate::registry::defaults::{one_hundred_thousand, sixteen_mebibytes, two_seconds, yes};
use crate::registry::outlet::Outlet;
use crate::registry::read::{self, Look, SETTLE, Seen};
use crate::registry::tree::Notation;
use crate::units::{Period, Size};
use crate::watching::Watching;
use find::Found;
pub use find::NameFilter;
use flat::Flat;

/// `[registry.NAME.keyfile]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyfileConfig {
    /// Files, and directories whose files are all read; of two with the same key the later counts.
    /// `.json` and `.toml` tell a notation, `.yaml`, `.yml` and no extension are YAML. A relative
    /// path begins at the configuration.
    pub paths: Vec<PathBuf>,
    /// Which files of a directory count, by their name: `*`, `?`, `[a-z]`.
    #[serde(default)]
    pub filter: NameFilter,
    /// Whose keys count when several registries have the same one: the higher one's.
    #[serde(default)]
    pub priority: i32,
    /// Whether the process is not ready before the files were read once.
    #[serde(default = "yes")]
    pub required: bool,
    /// How often to look where the kernel tells of no changes; at least 10 ms.
    #[serde(default = "two_seconds")]
    pub poll: Period,
    /// Whether to ask the kernel for changes at all; polling goes on either way.
    #[serde(default = "yes")]
    pub watch: bool,
    /// Largest file that is read.
    #[serde(default = "sixteen_mebibytes")]
    pub max_size: Size,
    /// Most files of all paths; with more nothing is read.
    #[serde(default = "one_thousand")]
    pub max_files: usize,
    /// Most keys of all files; with more the keys stay as they were.
    #[serde(default = "one_hundred_thousand")]
    pub max_keys: usize,
}

const fn one_thousand() -> usize {
    1000
}

impl Source for KeyfileConfig {
    async fn run(self, base_dir: PathBuf, outlet: Outlet) {
        let paths = self.paths.iter().map(|path| base_dir.join(path)).collect();
        let following = Following {
            config: self,
            paths,
            events: Arc::new(Notify::new()),
            watched: BTreeMap::new(),
            files: BTreeMap::new(),
            heard: false,
        };
        following.run(outlet).await;
    }
}

/// The files that are followed, and what each said last.
struct Following {
    config: KeyfileConfig,
    paths: Vec<PathBuf>,
    events: Arc<Notify>,
    /// By directory.
    watched: BTreeMap<PathBuf, Watching>,
    files: BTreeMap<PathBuf, Known>,
    /// Whether what was told last is what the files say.
    heard: bool,
}

/// What is known of one file.
#[derive(Default)]
struct Known {
    seen: Option<Seen>,
    /// What it says, or said before it could not be read any more.
    flat: Option<Flat>,
    why: Option<String>,
}

impl Following {
    /// Tells `outlet` what the files say, for ever.
    async fn run(mut self, mut outlet: Outlet) {
        let poll = self.config.poll.0.max(Period::from_millis(10).0);
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = Arc::clone(&self.events);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = events.notified() => tokio::time::sleep(SETTLE).await,
            }
            let told = match self.look().await {
                Ok(false) => continue,
                Ok(true) => self.merged(&outlet.last()),
                Err(why) => Err(why),
            };
            // Behind a failure even the keys from before are news.
            self.heard = told.is_ok();
            match told {
                Ok(view) => outlet.live(view),
                Err(why) => outlet.failed(&why),
            }
        }
    }

    /// Looks at every file; says whether there is anything new to tell.
    async fn look(&mut self) -> Result<bool, String> {
        let (paths, filter) = (self.paths.clone(), self.config.filter.clone());
        let files_max = self.config.max_files;
        let found = tokio::task::spawn_blocking(move || find::find(&paths, &filter, files_max));
        let Found { files, directories } =
            found.await.map_err(|error| format!("looking for files failed: {error}"))??;
        self.watch(directories).await;
        let mut changed = !self.heard;
        let before = self.files.len();
        self.files.retain(|path, _| files.contains(path));
        changed |= self.files.len() != before;
        let mut broken = None;
        for path in files {
            let known = self.files.entry(path.clone()).or_default();
            changed |= known.look(&path, self.config.max_size).await;
            // What a file says that was never read is unknown, and absence is then no fact.
            if let (None, Some(why)) = (&known.flat, &known.why) {
                broken = Some(why.clone());
            }
        }
        broken.map_or(Ok(changed), Err)
    }

    /// Watches these directories and no others, away from the async threads.
    async fn watch(&mut self, directories: Vec<PathBuf>) {
        if !self.config.watch {
            return;
        }
        let mut known = std::mem::take(&mut self.watched);
        if !directories.iter().all(|directory| known.contains_key(directory)) {
            // A file may come between the look at a directory and the watch on it.
            self.events.notify_one();
        }
        let events = Arc::clone(&self.events);
        let renewed = tokio::task::spawn_blocking(move || {
            let renewed = directories.into_iter().map(|directory| {
                let watching = known
                    .remove(&directory)
                    .unwrap_or_else(|| Watching::directory(directory.clone(), Arc::clone(&events)));
                (directory, watching.renewed())
            });
            renewed.collect()
        });
        self.watched = renewed.await.unwrap_or_default();
    }

    /// The view in which the keys of all files stand, sharing with `last` what is equal.
    fn merged(&self, last: &RegistryView) -> Result<RegistryView, String> {
        let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
        let mut problems = Vec::new();
        for path in self.order() {
            let Some(known) = self.files.get(path) else { continue };
            let refused = known.flat.iter().flat_map(|flat| &flat.refused);
            for message in refused.chain(&known.why) {
                let place = path.display().to_string().into();
                problems.push(Problem { place, message: message.as_str().into() });
            }
            let flat = known.flat.iter().flat_map(|flat| &flat.keys);
            keys.extend(flat.map(|(key, value)| (&**key, &**value)));
        }
        if keys.len() > self.config.max_keys {
            return Err(format!(
                "the files have {} keys, more than `max_keys` = {}; raise it",
                keys.len(),
                self.config.max_keys
            ));
        }
        Ok(RegistryView {
            keys: changed(&last.keys, &keys),
            problems: problems.into(),
            ..last.clone()
        })
    }

    /// The files in the order in which later ones win.
    fn order(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter().flat_map(|path| {
            self.files.keys().filter(move |file| file.starts_with(path) || *file == path)
        })
    }
}

/// `keys` as a version that follows `last`.
fn changed(last: &Keys, keys: &BTreeMap<&str, &str>) -> Keys {
    let mut next = last.clone();
    for (path, value) in keys {
        if last.get(*path).is_none_or(|known| &*known.value != *value) {
            let path: Arc<str> = (*path).into();
            next.insert(Arc::clone(&path), Arc::new(Key::bare(path, (*value).into())));
        }
    }
    if next.len() != keys.len() {
        let gone: Vec<Arc<str>> = next
            .iter()
            .map(|(path, _)| path)
            .filter(|p| !keys.contains_key(&***p))
            .cloned()
            .collect();
        for path in gone {
            next.remove(&*path);
        }
    }
    next
}

impl Known {
    /// Reads the file if it changed; says whether there is something new to tell.
    async fn look(&mut self, path: &Path, size_max: Size) -> bool {
        let why = match read::settled(path, size_max, self.seen).await {
            Ok(Look::Unchanged(seen)) => {
                self.seen = Some(seen);
                return false;
            }
            Ok(Look::Changed(seen, text)) => {
                self.seen = Some(seen);
                match decoded(path, text).await {
                    Ok(flat) => {
                        let other = self.flat.as_ref() != Some(&flat) || self.why.is_some();
                        (self.flat, self.why) = (Some(flat), None);
                        return other;
                    }
                    Err(why) => why,
                }
            }
            Err(why) => {
                self.seen = None;
                why
            }
        };
        let other = self.why.as_ref() != Some(&why);
        self.why = Some(why);
        other
    }
}

async fn decoded(path: &Path, text: String) -> Result<Flat, String> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let notation = match &*extension {
        "" => Notation::Yaml,
        other => Notation::of(other).ok_or_else(|| {
            format!("{} does not tell how it is written; use .yaml, .json or .toml", path.display())
        })?,
    };
    let file = path.display().to_string();
    let flat = tokio::task::spawn_blocking(move || flat::flatten(notation, &file, &text));
    flat.await.unwrap_or_else(|error| Err(format!("decoding {} failed: {error}", path.display())))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! The registry `file`: a list of services in TOML, YAML or JSON, followed while it changes.
//!
//! Whoever writes the file may rename another one over it (best) or write into it: a half-written
//! file that does not parse changes nothing, and a file that is gone leaves what it said last.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use super::Source;
use super::file_format::{self, Decoded};
use super::file_read::{self, Look, SETTLE, Seen, Watching};
use super::file_tree::Notation;
use super::outlet::Outlet;
use crate::catalog::RegistryView;
use crate::units::{Period, Size};

/// `[registry.NAME.file]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file; `.toml`, `.yaml`, `.yml` or `.json`. A relative path begins at the configuration.
    pub path: ServicesPath,
    /// Who wins for the same instance id in two registries: the higher one.
    #[serde(default)]
    pub priority: i32,
    /// Whether the process is not ready before the file was read once. True unless told
    /// otherwise: the file lies beside the process, and its absence is a mistake, not weather.
    #[serde(default = "yes")]
    pub required: bool,
    /// How often to look at the file where the kernel tells of no changes; at least 10 ms.
    #[serde(default = "two_seconds")]
    pub poll: Period,
    /// Whether to ask the kernel for changes at all; polling goes on either way.
    #[serde(default = "yes")]
    pub watch: bool,
    /// Largest file that is read; a larger one is refused as a whole.
    #[serde(default = "sixty_four_mebibytes")]
    pub max_size: Size,
    /// Most instances in the file; with more it is refused as a whole.
    #[serde(default = "two_hundred_thousand")]
    pub max_instances: usize,
}

impl FileConfig {
    /// The configuration that states `path` and nothing else.
    #[must_use]
    pub const fn new(path: ServicesPath) -> Self {
        Self {
            path,
            priority: 0,
            required: yes(),
            poll: two_seconds(),
            watch: yes(),
            max_size: sixty_four_mebibytes(),
            max_instances: two_hundred_thousand(),
        }
    }
}

/// Path of a file whose extension tells a notation that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub struct ServicesPath {
    path: PathBuf,
    notation: Notation,
}

impl ServicesPath {
    /// The path as it was given.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

impl TryFrom<PathBuf> for ServicesPath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let Some(notation) = Notation::of(&extension) else {
            return Err(format!(
                "{} does not tell how it is written; call it *.toml, *.yaml or *.json",
                path.display()
            ));
        };
        Ok(Self { path, notation })
    }
}

const fn yes() -> bool {
    true
}

const fn two_seconds() -> Period {
    Period::from_secs(2)
}

const fn sixty_four_mebibytes() -> Size {
    Size(64 << 20)
}

const fn two_hundred_thousand() -> usize {
    200_000
}

impl Source for FileConfig {
    async fn run(self, base_dir: PathBuf, mut outlet: Outlet) {
        let path = base_dir.join(&self.path.path);
        let poll = self.poll.0.max(Period::from_millis(10).0);
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watching = self.renewed(Watching::new(&path), &path).await;
        let mut seen = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => watching = self.renewed(watching, &path).await,
                () = watching.event() => tokio::time::sleep(SETTLE).await,
            }
            seen = self.look(&path, seen, &mut outlet).await;
        }
    }
}

impl FileConfig {
    /// Watches anew if need be, away from the async threads: a dead mount would hold them up.
    async fn renewed(&self, watching: Watching, path: &Path) -> Watching {
        if !self.watch {
            return watching;
        }
        let renewed = tokio::task::spawn_blocking(move || watching.renewed()).await;
        renewed.unwrap_or_else(|_| Watching::new(path))
    }

    /// Looks at the file and tells what it finds; returns what is now known of its content.
    async fn look(&self, path: &Path, seen: Option<Seen>, outlet: &mut Outlet) -> Option<Seen> {
        match file_read::settled(path, self.max_size, seen).await {
            Ok(Look::Unchanged(seen)) => Some(seen),
            Ok(Look::Changed(seen, text)) => {
                match self.decode(path, text, outlet).await {
                    Ok(view) => outlet.live(view),
                    Err(why) => outlet.failed(&why),
                }
                Some(seen)
            }
            Err(why) => {
                outlet.failed(&why);
                // Whatever comes next is news, even the same content under the same inode.
                None
            }
        }
    }

    async fn decode(
        &self,
        path: &Path,
        text: String,
        outlet: &Outlet,
    ) -> Result<RegistryView, String> {
        let (notation, instances_max) = (self.path.notation, self.max_instances);
        let (registry, last) = (outlet.name().clone(), outlet.last());
        let file = path.display().to_string();
        let decoded = tokio::task::spawn_blocking(move || {
            file_format::decode(&registry, &file, &text, notation, instances_max)
                .map(|Decoded { services, problems }| last.replaced(services, problems))
        });
        decoded
            .await
            .unwrap_or_else(|error| Err(format!("decoding {} failed: {error}", path.display())))
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

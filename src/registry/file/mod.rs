//! The registry `file`: a list of services in TOML, YAML or JSON, followed while it changes.
//!
//! Whoever writes the file may rename another one over it (best) or write into it: a half-written
//! file that does not parse changes nothing, and a file that is gone leaves what it said last.

mod format;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::catalog::RegistryView;
use crate::registry::Source;
use crate::registry::defaults::{sixty_four_mebibytes, two_hundred_thousand, two_seconds, yes};
use crate::registry::follow::Followed;
use crate::registry::outlet::Outlet;
use crate::registry::tree::Notation;
use crate::units::{Period, Size};
use format::Decoded;

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

    /// How it is written.
    pub(super) const fn notation(&self) -> Notation {
        self.notation
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

impl Source for FileConfig {
    async fn run(self, base_dir: PathBuf, outlet: Outlet) {
        let (notation, instances_max) = (self.path.notation, self.max_instances);
        let followed = Followed {
            path: base_dir.join(&self.path.path),
            poll: self.poll,
            watch: self.watch,
            max_size: self.max_size,
            decode: Arc::new(move |registry, file, text, last: &RegistryView| {
                format::decode(registry, file, text, notation, instances_max)
                    .map(|Decoded { services, problems }| last.replaced(services, problems))
            }),
        };
        followed.run(outlet).await;
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

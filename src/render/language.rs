//! How a template is written: its language and the settings that belong to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::data::Scope;
use super::engine::go::{MissingKey, NumberFormat};
use super::functions::{Dialect, System, World as _};
use super::resource::{RenderError, ResourceConfig};

/// Most files of an `include_dir`, and the most bytes of one.
const INCLUDES_MAX: usize = 1000;
const INCLUDE_MAX: u64 = 1 << 20;

/// The language of a template, and whose functions it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// Go's, with the functions of consul-template.
    ConsulTemplate,
    /// Go's, with the functions of confd as it is kept today.
    Confd,
    /// Go's, with the functions of confd as it was up to 0.16.
    ConfdLegacy,
    /// Jinja.
    Jinja,
}

impl Language {
    /// The functions of a Go template; none of another one.
    pub(super) const fn go_dialect(self) -> Option<Dialect> {
        match self {
            Self::ConsulTemplate => Some(Dialect::ConsulTemplate),
            Self::Confd => Some(Dialect::Confd),
            Self::ConfdLegacy => Some(Dialect::LegacyConfd),
            Self::Jinja => None,
        }
    }

    /// The language that the name of a file tells.
    fn of(path: &Path) -> Option<Self> {
        match path.extension().and_then(|extension| extension.to_str())? {
            "j2" | "jinja" | "jinja2" => Some(Self::Jinja),
            "tmpl" | "ctmpl" => Some(Self::ConsulTemplate),
            _ => None,
        }
    }
}

/// What begins an action of a Go template, and what ends it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "(String, String)")]
pub struct Delimiters(pub String, pub String);

impl Default for Delimiters {
    fn default() -> Self {
        Self("{{".into(), "}}".into())
    }
}

impl TryFrom<(String, String)> for Delimiters {
    type Error = String;

    fn try_from((left, right): (String, String)) -> Result<Self, String> {
        let good = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        if good(&left) && good(&right) {
            return Ok(Self(left, right));
        }
        Err("delimiters are two texts without spaces, as in [\"<%\", \"%>\"]".into())
    }
}

/// The text of a template with all that decides what it means.
#[derive(Debug)]
pub(super) struct Text {
    /// Where it stands, for messages.
    pub(super) path: PathBuf,
    pub(super) body: String,
    pub(super) language: Language,
    pub(super) missing_key: MissingKey,
    pub(super) number_format: NumberFormat,
    pub(super) delimiters: Delimiters,
    pub(super) denied: Vec<String>,
    pub(super) sandbox: Option<PathBuf>,
    /// Other templates by the name under which they are included, sorted.
    pub(super) includes: Vec<(String, String)>,
}

impl Text {
    /// Reads what `config` of `[template.NAME]` names; relative paths begin at `base_dir`. Blocks.
    pub(super) fn read(
        name: &Arc<str>,
        config: &ResourceConfig,
        base_dir: &Path,
    ) -> Result<Self, RenderError> {
        let unfit = |why: String| RenderError::Template(format!("[template.{name}] {why}"));
        let (path, body) = match (&config.source, &config.contents) {
            (Some(source), None) => {
                let path = base_dir.join(source);
                let text = fs::read_to_string(&path).map_err(|source| RenderError::Source {
                    name: Arc::clone(name),
                    path: path.clone(),
                    source,
                })?;
                (path, text)
            }
            (None, Some(contents)) => {
                (PathBuf::from(format!("[template.{name}].contents")), contents.clone())
            }
            (None, None) => {
                return Err(unfit("has no template; add `source`, or `contents`".into()));
            }
            (Some(_), Some(_)) => {
                return Err(unfit("has both `source` and `contents`; keep one of them".into()));
            }
        };
        let written = config.source.is_none().then_some(Language::ConsulTemplate);
        let Some(language) = config.dialect.or_else(|| Language::of(&path)).or(written) else {
            return Err(RenderError::Template(format!(
                "{}: the extension does not tell a template language; call it *.ctmpl (Go) or \
                 *.j2 (Jinja), or set `dialect`",
                path.display()
            )));
        };
        let includes = match &config.include_dir {
            Some(folder) => includes(&base_dir.join(folder)).map_err(unfit)?,
            None => Vec::new(),
        };
        Ok(Self {
            path,
            body,
            language,
            missing_key: config.missing_key,
            number_format: config.number_format,
            delimiters: config.delimiters.clone(),
            denied: config.denied_functions.clone(),
            sandbox: config.sandbox.as_ref().map(|folder| base_dir.join(folder)),
            includes,
        })
    }

    /// Checksum of all texts: another one is another template.
    pub(super) fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.body.as_bytes());
        for (name, text) in &self.includes {
            hasher.update(name.as_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize()
    }
}

/// Every text below `folder` by its path there.
fn includes(folder: &Path) -> Result<Vec<(String, String)>, String> {
    let told = |path: &Path, error: &dyn std::fmt::Display| {
        format!("cannot read {}: {error}; correct `include_dir`", path.display())
    };
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(inner) = open.pop() {
        for entry in fs::read_dir(&inner).map_err(|error| told(&inner, &error))? {
            let path = entry.map_err(|error| told(&inner, &error))?.path();
            let Ok(metadata) = fs::metadata(&path) else { continue };
            // A link to a folder may lead round in a circle.
            if metadata.is_dir() && !path.is_symlink() {
                open.push(path);
                continue;
            }
            if !metadata.is_file() || metadata.len() > INCLUDE_MAX {
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            // What is no text is no template either.
            if let Ok(text) = fs::read_to_string(&path) {
                found.push((name, text));
            }
            if found.len() > INCLUDES_MAX {
                return Err(format!(
                    "{} has more than {INCLUDES_MAX} files; give `include_dir` a folder of \
                     templates only",
                    folder.display()
                ));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What of the catalog and of files the template of `config` may see.
pub(super) fn scope(config: &ResourceConfig, base_dir: &Path) -> Scope {
    let parts = |path: &str| {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        parts.join("/")
    };
    let prefix = parts(config.prefix.as_deref().unwrap_or_default());
    let whole = |key: &String| parts(&format!("{prefix}/{key}")).into();
    let mut keys: Vec<Arc<str>> = config.keys.iter().map(whole).collect();
    if keys.is_empty() {
        keys.push(prefix.as_str().into());
    }
    Scope {
        registry: config.registry.as_deref().map(Into::into),
        prefix,
        keys,
        catalog_keys: config.catalog_keys,
        sandbox: config.sandbox.as_ref().map(|folder| base_dir.join(folder)),
        file_max: config.output_max.0,
        host: System::default().hostname().unwrap_or_default().into(),
    }
}

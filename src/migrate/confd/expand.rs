//! An installation of confd written out: a template for each file of `conf.d`, and registries.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::text::{self, Text};
use super::command;
use super::config::{Backend, ConfdConfig, PrefixRule};
use super::duration::written;
use super::resource::{self, Resource};
use super::source::{Secrets, Source};

/// Largest file of `conf.d`.
const SIZE_MAX: u64 = 1 << 20;
/// Most files of `conf.d`.
const FILES_MAX: usize = 10_000;
/// Deepest directory below `conf.d` that is looked into.
const DEPTH_MAX: usize = 16;

/// What an installation comes to.
#[derive(Default)]
pub struct Expansion {
    /// `[registry.NAME]`, each with its name.
    pub registries: Vec<(String, String)>,
    /// `[template.NAME]`, in the order of the files.
    pub templates: Vec<Template>,
    /// Files that are no template.
    pub broken: Vec<Broken>,
    /// What would be otherwise than in confd.
    pub differences: Vec<String>,
    /// Values of the variables in the registries that must not be written down.
    pub secrets: BTreeMap<String, String>,
}

impl std::fmt::Debug for Expansion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expansion")
            .field("registries", &self.registries)
            .field("templates", &self.templates)
            .field("broken", &self.broken)
            .field("differences", &self.differences)
            .finish_non_exhaustive()
    }
}

/// One file of `conf.d` as a table of ours.
#[derive(Debug)]
pub struct Template {
    /// NAME.
    pub name: String,
    /// The file of `conf.d`.
    pub file: PathBuf,
    /// The text of `[template.NAME]`.
    pub text: String,
}

/// A file of `conf.d` that cannot be used: it costs nobody else anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name that its template would have.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

/// What the configuration around it has already.
#[derive(Debug, Default)]
pub struct Around {
    /// Names of templates.
    pub templates: BTreeSet<String>,
    /// Names of registries.
    pub registries: BTreeSet<String>,
}

/// Writes the installation that `config` names out; relative paths begin at `base_dir`. Blocks on
/// reading `conf.d`.
///
/// # Errors
/// Nothing can be read, or the backend of the whole leads nowhere.
pub fn expand(config: &ConfdConfig, base_dir: &Path, around: &Around) -> Result<Expansion, String> {
    let files = find(&base_dir.join(&config.dir).join("conf.d"))?;
    let mut expanding = Expanding {
        config,
        whole: Source::of(config),
        around,
        names: around.templates.clone(),
        sources: Vec::new(),
        expansion: Expansion::default(),
    };
    for (relative, path) in files {
        expanding.file(&relative, path);
    }
    expanding.registries()?;
    Ok(expanding.expansion)
}

/// A registry to be made: its name, its source, and what is read of it.
struct Wanted {
    name: String,
    source: Source,
    keys: BTreeSet<String>,
}

struct Expanding<'a> {
    config: &'a ConfdConfig,
    whole: Source,
    around: &'a Around,
    /// Names of templates that are taken.
    names: BTreeSet<String>,
    sources: Vec<Wanted>,
    expansion: Expansion,
}

impl Expanding<'_> {
    fn file(&mut self, relative: &Path, path: PathBuf) {
        let name = self.name(relative);
        let read = read(&path).and_then(|text| self.template(&name, &text, relative));
        match read {
            Ok(text) => self.expansion.templates.push(Template { name, file: path, text }),
            Err(why) => self.expansion.broken.push(Broken { name, file: path, why }),
        }
    }

    /// The name of the file without its extension; folders before it, and a number behind it when
    /// somebody has that name.
    fn name(&mut self, relative: &Path) -> String {
        let relative = relative.with_extension("");
        let name = relative.to_string_lossy().replace('/', "-");
        let name = name.trim_start_matches('.');
        let base = if name.is_empty() { "resource" } else { name };
        let numbered = |number: usize| match number {
            1 => base.to_owned(),
            number => format!("{base}-{number}"),
        };
        // One more than there are names is enough for one that nobody has.
        let most = self.names.len() + 1;
        let free = (1..=most).map(numbered).find(|name| !self.names.contains(name));
        let name = free.unwrap_or_default();
        self.names.insert(name.clone());
        name
    }

    /// The text of `[template.NAME]` for the text of a file.
    fn template(&mut self, name: &str, text: &str, relative: &Path) -> Result<String, String> {
        let resource = resource::read(text)?;
        let source = match &resource.backend {
            Some(given) => Source::of_resource(given, &self.whole)?,
            None => self.whole.clone(),
        };
        let config = self.config;
        let rule = config.prefix_rule;
        let global = config.prefix.as_deref().unwrap_or_default();
        let prefix = rule.prefix(global, &resource.prefix);
        let mut tell = |what: String| {
            self.expansion.differences.push(format!("{}: {what}", relative.display()));
        };
        if !prefix.is_empty() && source.backend == Backend::Catalog {
            tell(format!("the prefix {prefix:?} is not looked below: the catalog has none"));
        }
        let other = match rule {
            PrefixRule::Concatenate => PrefixRule::Replace,
            PrefixRule::Replace => PrefixRule::Concatenate,
        };
        let otherwise = other.prefix(global, &resource.prefix);
        if otherwise != prefix && source.backend != Backend::Catalog {
            tell(format!(
                "keys are looked up below {prefix:?}; by the rule \"{}\" it would be {otherwise:?}",
                other.word()
            ));
        }
        for note in &resource.notes {
            tell(note.clone());
        }
        let (prefix, keys) = source.keys(&prefix, &resource.keys);
        let registry = self.registry(name, &source, &prefix, &keys);

        let mut text = Text::default();
        text.table(&["template", name]);
        let templates = config.dir.join("templates");
        text.string("source", &below(&templates, &resource.source).to_string_lossy());
        text.string("destination", &resource.destination);
        text.string(
            "dialect",
            match rule {
                PrefixRule::Concatenate => "confd",
                PrefixRule::Replace => "confd-legacy",
            },
        );
        text.string("include_dir", &templates.to_string_lossy());
        text.list("keys", &keys);
        if !prefix.is_empty() {
            text.string("prefix", &prefix);
        }
        if source.backend == Backend::Catalog {
            text.bare("catalog_keys", true);
        } else if let Some(registry) = registry {
            text.string("registry", &registry);
        }
        if let Some(owner) = &resource.owner {
            text.string("owner", owner);
        }
        if let Some(mode) = resource.mode {
            text.string("mode", &format!("{mode:04o}"));
        }
        if let Some(format) = &resource.output_format {
            text.string("output_format", format);
        }
        let wait = resource.debounce.or_else(|| config.debounce.map(|debounce| debounce.0));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            text.inline("wait", &[("min", text::string(&written(wait)))]);
        }
        if !config.sync_only {
            commands(config, &resource, &mut text)?;
        }
        Ok(text.finish())
    }

    /// The registry that has these keys; none when nothing is read.
    fn registry(
        &mut self,
        name: &str,
        source: &Source,
        prefix: &str,
        keys: &[String],
    ) -> Option<String> {
        if source.backend == Backend::Catalog || keys.is_empty() {
            return None;
        }
        if let Some(registry) = &source.registry {
            return Some(registry.clone());
        }
        let whole =
            |key: &String| if key == "/" { format!("{prefix}/") } else { format!("{prefix}{key}") };
        let keys = keys.iter().map(whole);
        if let Some(known) = self.sources.iter_mut().find(|known| known.source == *source) {
            known.keys.extend(keys);
            return Some(known.name.clone());
        }
        let base = if *source == self.whole { "confd".to_owned() } else { format!("confd-{name}") };
        self.sources.push(Wanted {
            name: base.clone(),
            source: source.clone(),
            keys: keys.collect(),
        });
        Some(base)
    }

    /// Writes the registries that somebody needs.
    fn registries(&mut self) -> Result<(), String> {
        if self.whole.backend == Backend::Catalog
            && !self.whole.nodes.is_empty()
            && self.around.registries.is_empty()
        {
            // Nobody else tells of services.
            let (name, source) = ("confd".to_owned(), self.whole.clone());
            self.sources.push(Wanted { name, source, keys: BTreeSet::new() });
        }
        for Wanted { name, source, keys } in std::mem::take(&mut self.sources) {
            if self.around.registries.contains(&name) {
                return Err(format!(
                    "there is a [registry.{name}] already, and the keys of confd need one of that \
                     name; call the other one otherwise, or use it by `registry = \"{name}\"`"
                ));
            }
            let mut text = Text::default();
            let keys: Vec<String> = keys.into_iter().collect();
            let secrets: &mut Secrets = &mut self.expansion.secrets;
            let difference = source.write(&name, &keys, &mut text, secrets)?;
            self.expansion.differences.extend(difference);
            self.expansion.registries.push((name, text.finish()));
        }
        Ok(())
    }
}

fn commands(config: &ConfdConfig, resource: &Resource, text: &mut Text) -> Result<(), String> {
    let timeout = |own: Option<Duration>, all: Duration| written(own.unwrap_or(all));
    let destination = &*resource.destination;
    let translated = |key: &str, command: &str| {
        command::translated(command, destination).map_err(|why| format!("`{key}`: {why}"))
    };
    if let Some(check) = &resource.check {
        text.string("check", &translated("check_cmd", check)?);
        text.string("check_timeout", &timeout(resource.check_timeout, config.check_timeout.0));
    }
    if let Some(reload) = &resource.reload {
        // The staged file has become the other one by then.
        let reload = translated("reload_cmd", reload)?.replace(command::STAGED, destination);
        text.string("reload", &reload);
        text.string("reload_timeout", &timeout(resource.reload_timeout, config.reload_timeout.0));
        if let Some(interval) = resource.reload_interval.filter(|interval| !interval.is_zero()) {
            text.string("reload_interval", &written(interval));
        }
    }
    Ok(())
}

/// `path` below `folder`, also when it begins with a slash, as confd joins them.
fn below(folder: &Path, path: &str) -> PathBuf {
    folder.join(path.trim_start_matches('/'))
}

fn read(path: &Path) -> Result<String, String> {
    let told = |error: io::Error| format!("cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(told)?.len();
    if size > SIZE_MAX {
        return Err(format!("has {size} bytes; the most are {SIZE_MAX}"));
    }
    std::fs::read_to_string(path).map_err(told)
}

/// The files of `conf.d` that are resources, in the order of their paths: those that end in `toml`.
fn find(folder: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(folder.to_path_buf(), 0)];
    while let Some((current, depth)) = folders.pop() {
        let told = |error: io::Error| {
            let remedy = "correct the directory of confd, or let this process read it";
            format!("cannot read {}: {error}; {remedy}", current.display())
        };
        for entry in std::fs::read_dir(&current).map_err(told)? {
            let path = entry.map_err(told)?.path();
            // A link that leads nowhere is a resource that cannot be read.
            let directory = path.metadata().is_ok_and(|metadata| metadata.is_dir());
            let link = path.is_symlink();
            if directory && !link && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if !directory && path.to_string_lossy().ends_with("toml") {
                let relative = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
                found.insert(relative, path);
            }
        }
        if found.len() > FILES_MAX {
            let folder = folder.display();
            return Err(format!("{folder} has more than {FILES_MAX} files; divide it"));
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;

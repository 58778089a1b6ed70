//! `[confd]`: the installation that it names becomes templates and registries, as if written here.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::document::{Document, Problem};
use super::tables::Config;
use crate::migrate::confd::{self, Around, Broken, ConfdConfig, Expansion};

/// Templates of confd, and what is told of the installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Names of templates that stand in `conf.d`: one that is broken costs itself only.
    pub templates: BTreeSet<String>,
    /// What of it cannot be used.
    pub broken: Vec<Broken>,
}

/// Reads the installation of `[confd]` into `config`. Blocks.
pub(super) fn install(document: &Document<'_>, config: &mut Config, problems: &mut Vec<Problem>) {
    let Some(confd) = config.confd.clone() else { return };
    let around =
        Around { templates: names(document, "template"), registries: names(document, "registry") };
    if let Some(registry) = &confd.registry
        && !around.registries.contains(registry)
    {
        let known: Vec<&str> = around.registries.iter().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("there is no [registry.{registry}]; there are: {known}");
        problems.push(document.problem(&["confd", "registry"], message));
        return;
    }
    let Expansion { registries, templates, broken, secrets, .. } =
        match confd::expand(&confd, &config.base_dir, &around) {
            Ok(expansion) => expansion,
            Err(why) => {
                problems.push(document.problem(&["confd", at(&confd)], why));
                return;
            }
        };
    for (name, text) in registries {
        match decoded(&text, "registry", &name, &|variable| secrets.get(variable).cloned()) {
            Ok(registry) => {
                config.registries.insert(name, registry);
            }
            Err(why) => problems.push(document.problem(&["confd", at(&confd)], why)),
        }
    }
    let mut installed = Installed { broken, ..Installed::default() };
    for template in templates {
        match decoded(&template.text, "template", &template.name, &|_| None) {
            Ok(resource) => {
                config.templates.insert(template.name.clone(), resource);
                installed.templates.insert(template.name);
            }
            Err(why) => {
                installed.broken.push(Broken { name: template.name, file: template.file, why });
            }
        }
    }
    config.installed = installed;
}

/// The key of `[confd]` that is to blame when the whole leads nowhere.
const fn at(confd: &ConfdConfig) -> &'static str {
    if confd.nodes.is_empty() { "dir" } else { "nodes" }
}

fn names(document: &Document<'_>, kind: &str) -> BTreeSet<String> {
    document.names(kind).into_iter().map(|(name, _)| name).collect()
}

/// The table at `[kind.name]` of a text that was written here.
fn decoded<T: DeserializeOwned>(
    text: &str,
    kind: &str,
    name: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<T, String> {
    let in_words = |problems: Vec<Problem>| {
        let messages: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        messages.join("; ")
    };
    let mut document = Document::parse("conf.d", text).map_err(in_words)?;
    // What was taken from the files of confd knows no variables: each `${` there is escaped.
    let unset = document.substitute(variable);
    if !unset.is_empty() {
        return Err(in_words(unset));
    }
    match document.table(&[kind, name]) {
        Some(Ok(table)) => Ok(table),
        Some(Err(problem)) => Err(problem.message),
        None => Err(format!("[{kind}.{name}] was not written")),
    }
}

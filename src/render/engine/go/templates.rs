//! The face of the engine: texts that were parsed, ready to be evaluated.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::ast::{Source, Tree};
use super::error::{Error, ErrorKind};
use super::exec::Evaluator;
use super::format::NumberFormat;
use super::function::{Budget, Functions, Limits};
use super::parse::parse;
use super::quote::quote;
use super::val::Val;
use super::value::Value;

/// What a key gives that a map does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingKey {
    /// Nothing: prints `<no value>`.
    #[default]
    Default,
    /// The zero value of the map's elements.
    Zero,
    /// An error.
    Error,
}

/// How texts are read and values shown.
#[derive(Clone, Default)]
pub struct Options {
    /// What begins an action; empty for `{{`.
    pub left: String,
    /// What ends an action; empty for `}}`.
    pub right: String,
    /// What a missing key gives.
    pub missing_key: MissingKey,
    /// How floats look that no verb formats.
    pub numbers: NumberFormat,
    /// The functions beside the built-in ones.
    pub functions: Functions,
}

/// One or several texts whose templates can call each other. Cheap to clone.
#[derive(Clone)]
pub struct Templates {
    pub(super) missing_key: MissingKey,
    pub(super) numbers: NumberFormat,
    pub(super) trees: HashMap<Arc<str>, Arc<Tree>>,
    name: Arc<str>,
}

impl Templates {
    /// Parses `text`, which messages call `name`. No side effects; the depth of the text is limited.
    ///
    /// # Errors
    /// The first mistake, in Go's words.
    pub fn parse(name: &str, text: &str, options: &Options) -> Result<Self, Error> {
        let mut templates = Self {
            missing_key: options.missing_key,
            numbers: options.numbers,
            trees: HashMap::new(),
            name: name.into(),
        };
        templates.add(name, text, options)?;
        Ok(templates)
    }

    /// Parses one more text. A template that was there already is replaced, but not by an empty one.
    ///
    /// # Errors
    /// The first mistake; nothing is added then.
    pub fn add(&mut self, name: &str, text: &str, options: &Options) -> Result<(), Error> {
        let or = |given: &str, default: &str| if given.is_empty() { default } else { given }.into();
        let source = Arc::new(Source {
            name: name.into(),
            text: text.into(),
            left: or(&options.left, "{{"),
            right: or(&options.right, "}}"),
        });
        for (name, tree) in parse(&source, &options.functions).map_err(|error| *error)? {
            if !tree.root.is_empty(&tree.source.text) || !self.trees.contains_key(&name) {
                self.trees.insert(name, tree);
            }
        }
        Ok(())
    }

    /// The names of all templates, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.trees.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// Evaluates the first text with `data` as its dot, within `limits`. `host` is what functions
    /// know their state by ([`super::Context::host`]). The same answers of the functions give the
    /// same output.
    ///
    /// # Errors
    /// In Go's words with the place, or the limit that was reached.
    pub fn execute(&self, data: Value, host: &dyn Any, limits: Limits) -> Result<Vec<u8>, Error> {
        self.execute_named(&self.name, data, host, limits)
    }

    /// The same for the template called `name`.
    ///
    /// # Errors
    /// As for [`Templates::execute`], and when there is no such template.
    pub fn execute_named(
        &self,
        name: &str,
        data: Value,
        host: &dyn Any,
        limits: Limits,
    ) -> Result<Vec<u8>, Error> {
        let Some(tree) = self.trees.get(name) else {
            let (name, own) = (quote(name.as_bytes()), quote(self.name.as_bytes()));
            return Err(Error {
                kind: ErrorKind::Exec,
                message: format!("template: no template {name} associated with template {own}"),
                template: self.name.to_string(),
                line: 0,
                column: None,
                hint: None,
            });
        };
        let mut budget = Budget::new(limits);
        let evaluator = Evaluator::new(self, tree, &mut budget, host, (0, 0));
        evaluator.run(&Val::plain(data)).map_err(|error| *error)
    }
}

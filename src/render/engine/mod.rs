//! Template languages: a text is parsed once and evaluated often.

pub mod go;
mod go_engine;
mod jinja;

use std::sync::Arc;
use std::time::Duration;

use super::data::View;
use super::language::Text;
use crate::units::Size;

/// A parsed template.
pub(super) trait Engine: Send + Sync {
    /// The output for what `view` shows. The same answers of the view give the same output.
    ///
    /// # Errors
    /// `file:line:column: message`, as an operator should read it.
    fn evaluate(&self, view: &Arc<View>) -> Result<Vec<u8>, String>;
}

/// How far an evaluation may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Largest output.
    pub(super) output_max: Size,
    /// Most steps of the template's machine.
    pub(super) steps_max: u64,
    /// Longest time.
    pub(super) timeout: Duration,
}

/// What stands for a template that cannot be used.
struct Broken(String);

impl Engine for Broken {
    fn evaluate(&self, _: &Arc<View>) -> Result<Vec<u8>, String> {
        Err(self.0.clone())
    }
}

/// A template that fails with these words, always.
pub(super) fn broken(why: &str) -> Box<dyn Engine> {
    Box::new(Broken(why.to_owned()))
}

/// Parses `text` in its language.
///
/// # Errors
/// `file:line:column: message` of the first mistake.
pub(super) fn parse(text: Text, limits: Limits) -> Result<Box<dyn Engine>, String> {
    match text.language.go_dialect() {
        None => jinja::parse(&text.path, text.body, limits),
        Some(dialect) => go_engine::parse(&text, dialect, limits),
    }
}

//! Template languages: a text is parsed once and evaluated often.

pub mod go;
mod jinja;

use std::path::Path;
use std::sync::Arc;

use super::data::View;
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

/// Parses `text`, the content of `path`, in the language that its extension tells.
///
/// # Errors
/// `file:line:column: message` of the first mistake, or why the language is not known.
pub(super) fn parse(path: &Path, text: String, limits: Limits) -> Result<Box<dyn Engine>, String> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("j2" | "jinja" | "jinja2") => jinja::parse(path, text, limits),
        Some("tmpl" | "ctmpl") => Err(format!(
            "{}: Go templates are not supported in this version; write it in Jinja and call it *.j2",
            path.display()
        )),
        _ => Err(format!(
            "{}: the extension does not tell a template language; call it *.j2 (Jinja)",
            path.display()
        )),
    }
}

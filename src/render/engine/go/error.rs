//! What is wrong with a template, in Go's words, and ours beside them.

use std::fmt;

use super::function::Limit;

/// When a template failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It is not a template.
    Parse,
    /// It cannot be evaluated with this data.
    Exec,
    /// It wanted more than it may.
    Limit(Limit),
}

/// A failed template. `Display` shows the message, and the hint after `; `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// When it failed.
    pub kind: ErrorKind,
    /// Exactly what Go says, with name and place at the beginning:
    /// `template: name:1:5: executing "name" at <.X>: …`.
    pub message: String,
    /// The name under which the text was parsed.
    pub template: String,
    /// Line, from 1; 0 when the error has no place.
    pub line: usize,
    /// Column in bytes, from 0 as Go counts; parse errors have none.
    pub column: Option<usize>,
    /// Our own words: what to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

//! A configuration as a document with positions, decoded table by table.
//!
//! Each `[kind.name]` table is decoded by the struct of the room that reads it. An error spoils
//! its own table only, so that all of them are shown at once, each with file, line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::decode;
use super::environment;
use crate::suggest;

/// Most syntax errors told of one document: behind the first few, the rest is mostly their echo.
const SYNTAX_ERRORS_MAX: usize = 5;

/// Something wrong in a configuration, at its place. Displays as `file:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as it was named when the document was parsed.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Bytes of the document that a key or a value takes.
pub type Span = Range<usize>;

/// A parsed TOML document that knows where everything in it stands. Borrows the text.
#[derive(Debug, Clone)]
pub struct Document<'t> {
    file: Arc<str>,
    text: &'t str,
    /// First byte of each line.
    lines: Vec<usize>,
    root: DeTable<'t>,
}

impl<'t> Document<'t> {
    /// Reads `text`, the content of `file`.
    ///
    /// # Errors
    /// The syntax errors in their order, at most five of them; there is no document then.
    pub fn parse(file: &str, text: &'t str) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let root = root.into_inner();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        let document = Self { file: file.into(), text, lines: lines.collect(), root };
        if errors.is_empty() {
            return Ok(document);
        }
        let mut problems: BTreeMap<(usize, usize), Problem> = BTreeMap::new();
        for error in &errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            let problem = document.problem_at(&span, error.message().to_owned());
            // One line has one cause: what follows on it is an echo.
            problems.entry((problem.line, 0)).or_insert(problem);
        }
        Err(problems.into_values().take(SYNTAX_ERRORS_MAX).collect())
    }

    /// Replaces `${NAME}` in every string by what `variable` says; `$${` stays a plain `${`.
    ///
    /// Returns one problem for each string that names an unset variable; the string then stays as
    /// it was, and the rest of the document can still be checked.
    #[must_use = "an unset variable must be shown to the operator"]
    pub fn substitute(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Problem> {
        let mut complaints = Vec::new();
        environment::substitute(&mut self.root, variable, &mut complaints);
        complaints.sort_by_key(|(span, _)| span.start);
        complaints.into_iter().map(|(span, message)| self.problem_at(&span, message)).collect()
    }

    /// Decodes the table or value at `path`; `None` when there is none.
    ///
    /// # Errors
    /// The first thing that `T` does not accept, at the exact key or value, however deep.
    pub fn table<T: DeserializeOwned>(&self, path: &[&str]) -> Option<Result<T, Problem>> {
        let value = self.find(path)?.1;
        Some(T::deserialize(ValueDeserializer::from(value.clone())).map_err(|error| {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            let (span, message) = decode::explain(&error, value, &path);
            self.problem_at(&span, message)
        }))
    }

    /// Every NAME of the tables `[kind.NAME]`, in the order of the document.
    ///
    /// Empty as well when `kind` is no table; [`Document::unknown_kinds`] tells of that.
    #[must_use]
    pub fn names(&self, kind: &str) -> Vec<(String, Span)> {
        let Some(DeValue::Table(table)) = self.root.get(kind).map(Spanned::get_ref) else {
            return Vec::new();
        };
        let mut names: Vec<_> =
            table.keys().map(|key| (key.get_ref().to_string(), key.span())).collect();
        names.sort_by_key(|(_, span)| span.start);
        names
    }

    /// Whether something stands at `path`.
    #[must_use]
    pub fn has(&self, path: &[&str]) -> bool {
        self.find(path).is_some()
    }

    /// A problem for each top-level key that is not `known`, and for each that is no table.
    #[must_use]
    pub fn unknown_kinds(&self, known: &[&str]) -> Vec<Problem> {
        let mut problems: Vec<_> = self
            .root
            .iter()
            .filter_map(|(key, value)| {
                let name = key.get_ref().as_ref();
                if !known.contains(&name) {
                    let remedy = suggest::remedy(name, known, "Known tables");
                    return Some(
                        self.problem_at(&key.span(), format!("unknown table [{name}]{remedy}")),
                    );
                }
                let found = value.get_ref();
                (!found.is_table()).then(|| {
                    let message = format!(
                        "[{name}] must be a table, not a value of type {}",
                        found.type_str()
                    );
                    self.problem_at(&value.span(), message)
                })
            })
            .collect();
        problems.sort();
        problems
    }

    /// Line and column, from 1, of the key at `path`, or of the deepest part of it that is there.
    #[must_use]
    pub fn position(&self, path: &[&str]) -> (usize, usize) {
        for length in (1..=path.len()).rev() {
            if let Some((span, _)) = self.find(&path[..length]) {
                return self.line_column(span.start);
            }
        }
        (1, 1)
    }

    /// A problem of a check across tables, at the key of `path`.
    #[must_use]
    pub fn problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        let (line, column) = self.position(path);
        Problem { file: Arc::clone(&self.file), line, column, message: message.into() }
    }

    /// The value at `path` with the span of its key; items of arrays go by their index from 0.
    fn find(&self, path: &[&str]) -> Option<(Span, &Spanned<DeValue<'t>>)> {
        let (first, rest) = path.split_first()?;
        let (key, mut value) = self.root.get_key_value(*first)?;
        let mut span = key.span();
        for part in rest {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let (key, below) = table.get_key_value(*part)?;
                    (span, value) = (key.span(), below);
                }
                DeValue::Array(items) => {
                    value = items.get(part.parse::<usize>().ok()?)?;
                    span = value.span();
                }
                _ => return None,
            }
        }
        Some((span, value))
    }

    fn problem_at(&self, span: &Span, message: String) -> Problem {
        let (line, column) = self.line_column(span.start);
        Problem { file: Arc::clone(&self.file), line, column, message }
    }

    fn line_column(&self, byte: usize) -> (usize, usize) {
        let byte = byte.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= byte).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..byte).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;

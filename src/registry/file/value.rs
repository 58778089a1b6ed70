//! Values of a services file, each read as the one type that its key takes. Pure.

use std::sync::Arc;

use crate::catalog::model::parse_name;
use crate::registry::tree::{Entry, Shape, Tree};

/// Why something is refused, and where it stands.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) at: Option<usize>,
    pub(super) path: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(at: Option<usize>, message: impl Into<String>) -> Self {
        Self { at, path: String::new(), message: message.into() }
    }

    /// The message; one about a type begins with the key that has the wrong one.
    pub(super) fn in_words(&self) -> String {
        let key = self.path.rsplit('.').next().unwrap_or_default();
        if key.is_empty() || !self.message.starts_with("must be ") {
            return self.message.clone();
        }
        format!("`{key}` {}", self.message)
    }

    /// The same refusal, seen from the table around it.
    pub(super) fn under(mut self, parent: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{parent}{dot}{}", self.path);
        self
    }
}

fn wrong(tree: &Tree, wanted: &str) -> Refusal {
    Refusal::new(tree.at, format!("must be {wanted}, not {}", tree.shape.describe()))
}

/// The entries of a table; a key without a value, as YAML has it, is an empty table.
pub(super) fn entries(tree: Tree) -> Result<Vec<Entry>, Refusal> {
    match tree.shape {
        Shape::Table(entries) => Ok(entries),
        Shape::Null => Ok(Vec::new()),
        _ => Err(wrong(&tree, "a table")),
    }
}

/// The items of a list; a key without a value is an empty list.
pub(super) fn items(tree: Tree) -> Result<Vec<Tree>, Refusal> {
    match tree.shape {
        Shape::List(items) => Ok(items),
        Shape::Null => Ok(Vec::new()),
        _ => Err(wrong(&tree, "a list")),
    }
}

/// A string; numbers and dates are not taken for one, for what they look like is lost.
pub(super) fn text(tree: Tree) -> Result<String, Refusal> {
    match tree.shape {
        Shape::Text(text) => Ok(text),
        _ => Err(wrong(&tree, "a string in quotes")),
    }
}

/// A name, `what` being what it is the name of.
pub(super) fn name(tree: Tree, what: &str) -> Result<Arc<str>, Refusal> {
    let at = tree.at;
    text(tree).and_then(|v| parse_name(what, &v).map_err(|message| Refusal::new(at, message)))
}

/// A whole number.
pub(super) fn integer(tree: &Tree) -> Result<i64, Refusal> {
    match tree.shape {
        Shape::Integer(number) => Ok(number),
        _ => Err(wrong(tree, "a whole number without quotes")),
    }
}

/// True or false.
pub(super) fn flag(tree: &Tree) -> Result<bool, Refusal> {
    match tree.shape {
        Shape::Flag(flag) => Ok(flag),
        _ => Err(wrong(tree, "true or false")),
    }
}

//! The three notations of a services file, read into one tree. Pure.

use toml::de::{DeTable, DeValue};

/// A notation, told by the extension of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    Toml,
    Yaml,
    Json,
}

impl Notation {
    /// The notation of files called `*.extension`.
    pub(super) fn of(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A value and, where the notation tells it, the byte where it begins.
#[derive(Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) at: Option<usize>,
    pub(super) shape: Shape,
}

/// What a value is.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    Null,
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Tree>),
    Table(Vec<Entry>),
    /// Something that no key takes, in words: a fraction, a date, a huge number.
    Foreign(String),
}

/// A key of a table, where it stands, and its value.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Option<usize>,
    pub(super) value: Tree,
}

impl Shape {
    /// What it is, for a message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Text(text) => format!("the string {text:?}"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Flag(flag) => format!("{flag}"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Foreign(what) => what.clone(),
        }
    }
}

/// Reads `text`, the content of `file`.
///
/// # Errors
/// `file:line:column: message` when it is not of that notation: perhaps it is half written.
pub(super) fn parse(notation: Notation, file: &str, text: &str) -> Result<Tree, String> {
    // Every notation but TOML would see a mistake here, and there it is the usual sight of a file
    // that was truncated and is about to be written.
    if text.trim().is_empty() {
        return Err(format!(
            "{file}:1:1: the file is empty; to state that there are no services, \
             write an empty table called `service`"
        ));
    }
    match notation {
        Notation::Toml => DeTable::parse(text)
            .map(|table| from_toml(DeValue::Table(table.into_inner()), None))
            .map_err(|error| toml_error(file, text, &error)),
        Notation::Json => json(file, text).map(from_json),
        Notation::Yaml => yaml(file, text).map(from_json),
    }
}

/// Reads TOML whose places nobody asks for.
pub(super) fn toml(file: &str, text: &str) -> Result<toml::Table, String> {
    toml::from_str(text).map_err(|error| toml_error(file, text, &error))
}

fn toml_error(file: &str, text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(text.len(), |span| span.start);
    let (line, column) = line_column(text, at);
    format!("{file}:{line}:{column}: {}", error.message())
}

/// Reads JSON.
pub(super) fn json(file: &str, text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // The place stands in front of our messages, not behind them.
        let message = message.split(" at line ").next().unwrap_or(&message);
        format!("{file}:{}:{}: {message}", error.line(), error.column().max(1))
    })
}

/// Reads YAML.
///
/// # Errors
/// As [`parse`].
pub(super) fn yaml(file: &str, text: &str) -> Result<serde_json::Value, String> {
    serde_saphyr::from_str_with_options(text, yaml_options()).map_err(|error| {
        let place = error
            .location()
            .map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
        let message = error.without_snippet().to_string();
        format!("{file}{place}: {}", message.lines().next().unwrap_or_default())
    })
}

/// The first byte of each line of `text`, in order; there is at least one.
pub(super) fn line_starts(text: &str) -> Vec<usize> {
    let after = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
    std::iter::once(0).chain(after).collect()
}

/// Line and column, from 1, of the byte `at`; columns count characters.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines = memchr::memchr_iter(b'\n', before.as_bytes()).count();
    (lines + 1, before[start..].chars().count() + 1)
}

/// The size of the file is limited before it gets here; what an alias multiplies still is here.
fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    if let Some(budget) = &mut options.budget {
        budget.max_events = usize::MAX;
        budget.max_nodes = usize::MAX;
        budget.max_total_scalar_bytes = usize::MAX;
        budget.max_documents = 1;
    }
    options
}

fn from_toml(value: DeValue<'_>, at: Option<usize>) -> Tree {
    let shape = match value {
        DeValue::String(text) => Shape::Text(text.into_owned()),
        DeValue::Boolean(flag) => Shape::Flag(flag),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Shape::Foreign(format!("the number {number}")), Shape::Integer),
        DeValue::Float(number) => Shape::Foreign(format!("the fraction {}", number.as_str())),
        DeValue::Datetime(date) => Shape::Foreign(format!("the date {date}")),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| {
                let at = item.span().start;
                from_toml(item.into_inner(), Some(at))
            });
            Shape::List(items.collect())
        }
        DeValue::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| {
                let (key_at, at) = (key.span().start, value.span().start);
                let key = key.into_inner().into_owned();
                Entry { key, at: Some(key_at), value: from_toml(value.into_inner(), Some(at)) }
            });
            Shape::Table(entries.collect())
        }
    };
    Tree { at, shape }
}

fn from_json(value: serde_json::Value) -> Tree {
    use serde_json::Value;
    let shape = match value {
        Value::Null => Shape::Null,
        Value::Bool(flag) => Shape::Flag(flag),
        Value::String(text) => Shape::Text(text),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Shape::Foreign(format!("the number {number}")), Shape::Integer),
        Value::Array(items) => Shape::List(items.into_iter().map(from_json).collect()),
        Value::Object(table) => {
            let entries = table.into_iter();
            Shape::Table(
                entries
                    .map(|(key, value)| Entry { key, at: None, value: from_json(value) })
                    .collect(),
            )
        }
    };
    Tree { at: None, shape }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_parse_is_told_with_line_and_column() {
        for (case, notation, text, want) in [
            ("toml", Notation::Toml, "[service.web]\ntags = [\n", "f:2:9: "),
            ("json", Notation::Json, "{\"service\": {", "f:1:13: EOF"),
            ("yaml", Notation::Yaml, "service:\n  web: [1,\n", "f:"),
            ("empty toml", Notation::Toml, " \n", "f:1:1: the file is empty"),
            ("empty yaml", Notation::Yaml, "", "f:1:1: the file is empty"),
        ] {
            let error = parse(notation, "f", text).unwrap_err();
            assert!(error.starts_with(want), "{case}: {error}");
            assert!(!error.contains('\n'), "{case}: one line, not {error:?}");
        }
    }

    #[test]
    fn yaml_and_json_read_to_the_same_tree() {
        let yaml = "service:\n  web:\n    tags: [a]\n    n: 1\n    b: true\n";
        let json = r#"{"service": {"web": {"tags": ["a"], "n": 1, "b": true}}}"#;
        assert_eq!(parse(Notation::Yaml, "f", yaml), parse(Notation::Json, "f", json));
    }
}

//! A file of values, flattened into keys as confd's backend `file` does. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::catalog::model::parse_text;
use crate::registry::tree::{self, Notation};

/// Longest path of a key, in bytes.
const PATH_MAX: usize = 1024;

/// Keys without a slash at the start, and what was refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flat {
    pub(super) keys: BTreeMap<String, String>,
    pub(super) refused: Vec<String>,
}

/// The keys of `text`, the content of `file`.
///
/// A table adds its name to the path, a list the index from 0. Texts, numbers, truth and dates are
/// values, numbers always with all their digits; what is null is no key.
///
/// # Errors
/// `file:line:column: message` when it is not of that notation or no table: perhaps half written.
pub(super) fn flatten(notation: Notation, file: &str, text: &str) -> Result<Flat, String> {
    if text.trim().is_empty() {
        return Err(format!(
            "{file}:1:1: the file is empty; to state that there are no keys, write an empty table"
        ));
    }
    let mut flat = Flat::default();
    match notation {
        Notation::Toml => {
            let table = tree::toml(file, text)?;
            walk_toml(toml::Value::Table(table), "", &mut flat);
        }
        Notation::Json | Notation::Yaml => {
            let value = match notation {
                Notation::Json => tree::json(file, text)?,
                _ => tree::yaml(file, text)?,
            };
            if !matches!(value, Value::Object(_) | Value::Null) {
                return Err(format!("{file}:1:1: is no table of keys"));
            }
            walk(value, "", &mut flat);
        }
    }
    Ok(flat)
}

fn walk(value: Value, path: &str, flat: &mut Flat) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => flat.put(path, flag.to_string()),
        Value::String(text) => flat.put(path, text),
        Value::Number(number) => {
            // An integer keeps its digits; a fraction is written without an exponent.
            let whole = number.is_i64() || number.is_u64();
            let fraction = number.as_f64().filter(|_| !whole);
            flat.put(path, fraction.map_or_else(|| number.to_string(), |f| f.to_string()));
        }
        Value::Array(items) => {
            for (index, item) in items.into_iter().enumerate() {
                walk(item, &below(path, &index.to_string()), flat);
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                walk(value, &below(path, &key), flat);
            }
        }
    }
}

fn walk_toml(value: toml::Value, path: &str, flat: &mut Flat) {
    match value {
        toml::Value::String(text) => flat.put(path, text),
        toml::Value::Integer(number) => flat.put(path, number.to_string()),
        toml::Value::Float(number) => flat.put(path, number.to_string()),
        toml::Value::Boolean(flag) => flat.put(path, flag.to_string()),
        toml::Value::Datetime(date) => flat.put(path, date.to_string()),
        toml::Value::Array(items) => {
            for (index, item) in items.into_iter().enumerate() {
                walk_toml(item, &below(path, &index.to_string()), flat);
            }
        }
        toml::Value::Table(table) => {
            for (key, value) in table {
                walk_toml(value, &below(path, &key), flat);
            }
        }
    }
}

/// `key` below `path`, made clean: a key may hold slashes itself, and empty parts fall out.
fn below(path: &str, key: &str) -> String {
    let mut path = path.to_owned();
    for part in key.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let slash = if path.is_empty() { "" } else { "/" };
        // Writing to a string never fails.
        let _ = write!(path, "{slash}{part}");
    }
    path
}

impl Flat {
    fn put(&mut self, path: &str, value: String) {
        if path.is_empty() {
            return;
        }
        match parse_text("key", path, PATH_MAX) {
            Ok(_) => {
                self.keys.insert(path.to_owned(), value);
            }
            Err(why) => self.refused.push(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(notation: Notation, text: &str) -> Vec<String> {
        let flat = flatten(notation, "f", text).unwrap();
        flat.keys.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn tables_lists_and_values_become_keys_in_every_notation() {
        let want = ["db/host=db1", "db/port=5432", "list/0=a", "list/1/x=b", "on=true", "r=0.5"];
        for (notation, text) in [
            (
                Notation::Yaml,
                "db:\n  host: db1\n  port: 5432\nlist:\n  - a\n  - x: b\non: true\nr: 0.5\n",
            ),
            (
                Notation::Json,
                r#"{"db": {"host": "db1", "port": 5432}, "list": ["a", {"x": "b"}],
                    "on": true, "r": 0.5, "nothing": null}"#,
            ),
            (
                Notation::Toml,
                "on = true\nr = 0.5\nlist = [\"a\", { x = \"b\" }]\n[db]\nhost = \"db1\"\nport = 5432\n",
            ),
        ] {
            assert_eq!(flat(notation, text), want, "{notation:?}");
        }
    }

    #[test]
    fn values_are_written_plainly_and_keys_are_made_clean() {
        for (case, notation, text, want) in [
            ("large", Notation::Json, r#"{"n": 1e21}"#, "n=1000000000000000000000"),
            ("whole", Notation::Json, r#"{"n": 9007199254740993}"#, "n=9007199254740993"),
            ("whole fraction", Notation::Yaml, "n: 1.0", "n=1"),
            ("small", Notation::Json, r#"{"n": 1e-7}"#, "n=0.0000001"),
            ("null in YAML", Notation::Yaml, "a: 1\nn: ~\n", "a=1"),
            ("a number as key", Notation::Yaml, "8080: web", "8080=web"),
            ("slashes in a key", Notation::Json, r#"{"/a//b/": {"./c": 1}}"#, "a/b/c=1"),
            ("a date", Notation::Toml, "d = 2026-01-02", "d=2026-01-02"),
            ("a quoted number", Notation::Yaml, "n: \"007\"", "n=007"),
            ("several lines", Notation::Yaml, "n: |\n  a\n  b\n", "n=a\nb\n"),
        ] {
            assert_eq!(flat(notation, text), [want], "{case}");
        }
    }

    #[test]
    fn what_is_no_table_is_an_error_with_its_place_and_a_bad_key_costs_only_itself() {
        for (case, notation, text, want) in [
            ("a list", Notation::Yaml, "- a\n", "f:1:1: is no table of keys"),
            ("a word", Notation::Json, "\"a\"", "f:1:1: is no table of keys"),
            ("empty", Notation::Yaml, " \n", "f:1:1: the file is empty"),
            ("half", Notation::Json, "{\"a\": ", "f:1:6: EOF"),
            ("half TOML", Notation::Toml, "a = [\n", "f:"),
        ] {
            let error = flatten(notation, "f", text).unwrap_err();
            assert!(error.starts_with(want), "{case}: {error}");
        }
        let flat = flatten(Notation::Json, "f", r#"{"a\nb": 1, "c": 2}"#).unwrap();
        assert_eq!((flat.keys.len(), flat.refused.len()), (1, 1), "{flat:?}");
    }
}

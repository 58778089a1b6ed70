//! Decoding errors in the operator's words: which key, in which table, and what to write instead.

use std::fmt::Write as _;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::suggest;

/// What `error` says about the value that stands at `path`, and the bytes where it is so.
pub(super) fn explain(
    error: &toml::de::Error,
    value: &Spanned<DeValue<'_>>,
    path: &[String],
) -> (Range<usize>, String) {
    let span = error.span().unwrap_or_else(|| value.span());
    (span.clone(), in_words(error.message(), &span, value, path))
}

fn in_words(
    message: &str,
    span: &Range<usize>,
    value: &Spanned<DeValue<'_>>,
    path: &[String],
) -> String {
    let words = quoted(message);
    let key_at = || find(value, path, span, true);
    let value_at = || find(value, path, span, false).unwrap_or_else(|| path.to_vec());
    if message.starts_with("unknown field ")
        && let [key, known @ ..] = &words[..]
    {
        let place = key_at().map_or_else(value_at, |mut at| {
            at.pop();
            at
        });
        return suggest::unknown_key(key, &label(&place), known);
    }
    if message.starts_with("unknown variant ")
        && let [word, known @ ..] = &words[..]
    {
        if let Some(mut place) = key_at() {
            place.pop();
            return suggest::unknown_key(word, &label(&place), known);
        }
        let remedy = suggest::remedy(word, known, "Known values");
        return format!("unknown value `{word}` for {}{remedy}", named(&value_at()));
    }
    if message.starts_with("missing field ")
        && let [key] = words[..]
    {
        return format!("missing key `{key}` in {}; add it", label(&value_at()));
    }
    if message.starts_with("wanted exactly 1 element") {
        let place = label(&value_at());
        let kind = place.trim_end_matches(']');
        return format!("{place} must have exactly one kind below it, written {kind}.KIND]");
    }
    let wrong =
        message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!(
            "{} must be {}, not {}",
            named(&value_at()),
            wanted(expected),
            found_as(found)
        );
    }
    let named = named(&value_at());
    match message {
        "invalid socket address syntax" => format!(
            "{named} must be an address with a port such as \"127.0.0.1:8080\"{}",
            found_at(value, span)
        ),
        "invalid IP address syntax" | "invalid prefix length" => {
            format!("{named} must be a network such as \"10.0.0.0/8\"{}", found_at(value, span))
        }
        _ => format!("{named}: {message}"),
    }
}

/// `, not "…"` with the string that stands at `span`.
fn found_at(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> String {
    match value.get_ref() {
        DeValue::String(text) if value.span() == *span => format!(", not {text:?}"),
        DeValue::Table(table) => table.values().map(|below| found_at(below, span)).collect(),
        DeValue::Array(items) => items.iter().map(|item| found_at(item, span)).collect(),
        _ => String::new(),
    }
}

/// What stands between backticks in a message, in order.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// A type as the decoder calls it, in words that an operator knows.
fn wanted(expected: &str) -> String {
    let range = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "u64" | "usize" => "a whole number from 0 on",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "an array",
        "a map" => "a table",
        text if text.starts_with("struct ") => "a table",
        text if text.starts_with("enum ") => "a string or a table of one kind",
        text => text,
    };
    range.to_owned()
}

fn found_as(found: &str) -> String {
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "an array".to_owned(),
        other => format!("the {other}"),
    }
}

/// The path of a table as it is written in the file: `[dns.zone."a.b"]`.
pub(super) fn label(path: &[String]) -> String {
    if path.is_empty() {
        return "the top level".to_owned();
    }
    let mut text = String::from("[");
    for (index, part) in path.iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        // Writing to a string never fails.
        let _ = if part.is_empty() || !part.bytes().all(bare) {
            write!(text, "{part:?}")
        } else {
            write!(text, "{part}")
        };
    }
    text.push(']');
    text
}

/// A value by its key and its table: `` `port` in [node] ``; the index of an array stays with it.
pub(super) fn named(path: &[String]) -> String {
    let is_index = |part: &String| part.bytes().all(|b| b.is_ascii_digit());
    match path {
        [] => "the document".to_owned(),
        [only] => format!("[{only}]"),
        [table @ .., key, index] if !table.is_empty() && is_index(index) => {
            format!("`{key}` (item {index}) in {}", label(table))
        }
        [table @ .., key] => format!("`{key}` in {}", label(table)),
    }
}

/// The path to the key or the value that stands exactly at `span`, the deepest if several do.
fn find(
    value: &Spanned<DeValue<'_>>,
    path: &[String],
    span: &Range<usize>,
    keys: bool,
) -> Option<Vec<String>> {
    let below = |name: String| {
        let mut path = path.to_vec();
        path.push(name);
        path
    };
    let deeper = match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, path, span, keys),
        DeValue::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| find(item, &below(index.to_string()), span, keys)),
        _ => None,
    };
    deeper.or_else(|| (!keys && value.span() == *span).then(|| path.to_vec()))
}

fn find_in_table(
    table: &DeTable<'_>,
    path: &[String],
    span: &Range<usize>,
    keys: bool,
) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let mut path = path.to_vec();
        path.push(key.get_ref().to_string());
        if let Some(found) = find(value, &path, span, keys) {
            return Some(found);
        }
        (keys && key.span() == *span).then_some(path)
    })
}

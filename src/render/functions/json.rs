//! JSON as Go's `encoding/json` reads and writes it.

use std::fmt::Write as _;

use serde_json::Value as Tree;

use super::super::engine::go::format::format_float;
use super::super::engine::go::types::{FloatKind, Type, UintKind};
use super::super::engine::go::value::Value;
use super::args::{shown, type_name};
use super::times;

/// Deepest nesting that is written.
const DEPTH_MAX: usize = 200;

/// How JSON is written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// Whether `<`, `>` and `&` become `\u003c` and so on, as Go does unless told otherwise.
    pub(super) html: bool,
    /// What each level is indented by; one line without it.
    pub(super) indent: Option<&'static str>,
}

/// What `text` says; all numbers are `float64`, as in Go.
pub(super) fn decode(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("unexpected end of JSON input".into());
    }
    let tree: Tree = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if error.classify() == serde_json::error::Category::Eof {
            return "unexpected end of JSON input".to_owned();
        }
        let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
        let at = (lines.map(str::len).sum::<usize>() + column).saturating_sub(1);
        match text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("invalid character {c:?} at line {line}, column {column}"),
            None => error.to_string(),
        }
    })?;
    Ok(value_of(tree))
}

/// `tree` as a value: `map[string]interface {}`, `[]interface {}`, `float64`, `string`, `bool`, nil.
pub(super) fn value_of(tree: Tree) -> Value {
    match tree {
        Tree::Null => Value::Nil,
        Tree::Bool(truth) => truth.into(),
        Tree::Number(number) => Value::float(number.as_f64().unwrap_or(f64::NAN)),
        Tree::String(text) => text.into(),
        Tree::Array(items) => {
            let items: Vec<_> = items.into_iter().map(value_of).collect();
            Value::list(&Type::Any, items)
        }
        Tree::Object(entries) => Value::dict(entries.into_iter().map(|(k, v)| (k, value_of(v)))),
    }
}

/// `value` as JSON, keys sorted.
pub(super) fn encode(value: &Value, style: Style) -> Result<String, String> {
    let mut out = String::new();
    write(&mut out, value, style, 0)?;
    Ok(out)
}

fn write(out: &mut String, value: &Value, style: Style, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("json: values are nested more than {DEPTH_MAX} deep"));
    }
    // Writing to a string never fails.
    let _ = match value {
        Value::Nil | Value::NilOf(_) => write!(out, "null"),
        Value::Bool(truth) => write!(out, "{truth}"),
        Value::Int(number, _) => write!(out, "{number}"),
        Value::Uint(number, _) => write!(out, "{number}"),
        Value::Float(number, kind) => {
            if !number.is_finite() {
                let shown = format_float(*number, b'g', None, false);
                return Err(format!("json: unsupported value: {shown}"));
            }
            out.push_str(&float(*number, *kind == FloatKind::F32));
            Ok(())
        }
        Value::String(text) => {
            string(out, &text.to_str(), style.html);
            Ok(())
        }
        Value::List(list) if *list.element() == Type::Uint(UintKind::U8) => {
            let bytes = super::args::bytes(std::slice::from_ref(value), 0);
            write!(out, "\"{}\"", super::encoding::base64(&bytes))
        }
        Value::List(list) => {
            let items = list.iter().map(|item| (None, item));
            return block(out, ['[', ']'], items, style, depth);
        }
        Value::Map(map) => {
            let mut entries: Vec<_> =
                map.iter().map(|(key, value)| (Some(shown(&key)), value)).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            return block(out, ['{', '}'], entries.into_iter(), style, depth);
        }
        Value::Object(object) => {
            if let Some(moment) = times::of(value) {
                let layout = "2006-01-02T15:04:05.999999999Z07:00";
                string(out, &super::layout::format(&moment, layout), style.html);
                return Ok(());
            }
            if let Some(plain) = object.underlying() {
                return write(out, &plain, style, depth);
            }
            let fields = object
                .fields()
                .iter()
                .map(|name| (Some((*name).to_owned()), object.field(name).unwrap_or(Value::Nil)));
            return block(out, ['{', '}'], fields, style, depth);
        }
        Value::Complex(..) | Value::Function(_) | Value::Sequence(_) => {
            return Err(format!("json: unsupported type: {}", type_name(value)));
        }
    };
    Ok(())
}

fn block(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (Option<String>, Value)>,
    style: Style,
    depth: usize,
) -> Result<(), String> {
    out.push(open);
    let mut some = false;
    for (key, value) in items {
        if some {
            out.push(',');
        }
        some = true;
        line(out, style, depth + 1);
        if let Some(key) = key {
            string(out, &key, style.html);
            out.push_str(if style.indent.is_some() { ": " } else { ":" });
        }
        write(out, &value, style, depth + 1)?;
    }
    if some {
        line(out, style, depth);
    }
    out.push(close);
    Ok(())
}

fn line(out: &mut String, style: Style, depth: usize) {
    if let Some(indent) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(indent, depth));
    }
}

/// As JavaScript writes numbers: with an exponent below 1e-6 and from 1e21 on.
pub(super) fn float(number: f64, single: bool) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return format_float(number, b'f', None, single);
    }
    let text = format_float(number, b'e', None, single);
    // `e-09` becomes `e-9`.
    match text.rsplit_once("e-0") {
        Some((mantissa, digit)) => format!("{mantissa}e-{digit}"),
        None => text,
    }
}

/// `text` within quotes, what JSON or a page of HTML could take for its own escaped.
pub(super) fn string(out: &mut String, text: &str, html: bool) {
    out.push('"');
    for c in text.chars() {
        // Writing to a string never fails.
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\u{8}' => write!(out, "\\b"),
            '\u{c}' => write!(out, "\\f"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '<' | '>' | '&' if html => write!(out, "\\u{:04x}", u32::from(c)),
            '\u{2028}' | '\u{2029}' => write!(out, "\\u{:04x}", u32::from(c)),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)),
            c => {
                out.push(c);
                Ok(())
            }
        };
    }
    out.push('"');
}

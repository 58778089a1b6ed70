//! TOML as `BurntSushi/toml` writes it: keys sorted, plain values before tables, tables below
//! others indented by two spaces.

use std::fmt::Write as _;

use super::super::engine::go::format::format_float;
use super::super::engine::go::value::Value;
use super::args::{dict, elements, entries, type_name};

/// `value`, a map, as TOML.
pub(super) fn encode(value: &Value) -> Result<String, String> {
    if entries(value).is_none() {
        return Err("toml: top-level values must be Go maps or structs".into());
    }
    let mut out = String::new();
    table(&mut out, value, &[])?;
    Ok(out)
}

/// Deepest nesting that is written.
const DEPTH_MAX: usize = 100;

fn table(out: &mut String, value: &Value, path: &[String]) -> Result<(), String> {
    if path.len() > DEPTH_MAX {
        return Err(format!("toml: tables are nested more than {DEPTH_MAX} deep"));
    }
    let indent = "  ".repeat(path.len());
    let (tables, plain): (Vec<_>, Vec<_>) =
        dict(value).into_iter().partition(|(_, value)| is_table(value) || is_tables(value));
    for (name, value) in plain {
        if matches!(value, Value::Nil | Value::NilOf(_)) {
            continue;
        }
        // Writing to a string never fails.
        let _ = writeln!(out, "{indent}{} = {}", key(&name), inline(&value, 0)?);
    }
    for (name, value) in tables {
        let path = [path, &[key(&name)]].concat();
        let indent = "  ".repeat(path.len() - 1);
        let head = path.join(".");
        if is_table(&value) {
            if path.len() == 1 && !out.is_empty() {
                out.push('\n');
            }
            let _ = writeln!(out, "{indent}[{head}]");
            table(out, &value, &path)?;
        } else {
            for item in elements(&value).unwrap_or_default() {
                if !out.is_empty() {
                    out.push('\n');
                }
                let _ = writeln!(out, "{indent}[[{head}]]");
                table(out, &item, &path)?;
            }
        }
    }
    Ok(())
}

fn is_table(value: &Value) -> bool {
    matches!(value.plain(), Value::Map(_))
}

fn is_tables(value: &Value) -> bool {
    elements(value).is_some_and(|items| !items.is_empty() && items.iter().all(is_table))
}

fn inline(value: &Value, depth: usize) -> Result<String, String> {
    if depth > DEPTH_MAX {
        return Err(format!("toml: values are nested more than {DEPTH_MAX} deep"));
    }
    Ok(match value.plain() {
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number, _) => number.to_string(),
        Value::Uint(number, _) => number.to_string(),
        Value::Float(number, _) if number.is_nan() => "nan".into(),
        Value::Float(number, _) if number.is_infinite() => {
            if number > 0.0 {
                "inf".into()
            } else {
                "-inf".into()
            }
        }
        Value::Float(number, _) => {
            let text = format_float(number, b'g', None, false);
            if text.contains(['.', 'e']) { text } else { text + ".0" }
        }
        Value::String(text) => string(&text.to_str()),
        Value::List(list) => {
            let items: Result<Vec<_>, _> =
                list.iter().map(|item| inline(&item, depth + 1)).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(_) => {
            let pairs: Result<Vec<_>, String> = dict(value)
                .iter()
                .map(|(name, value)| Ok(format!("{} = {}", key(name), inline(value, depth + 1)?)))
                .collect();
            format!("{{{}}}", pairs?.join(", "))
        }
        other => return Err(format!("toml: unsupported type: {}", type_name(&other))),
    })
}

fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { name.to_owned() } else { string(name) }
}

fn string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        // Writing to a string never fails.
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\u{8}' => write!(out, "\\b"),
            '\t' => write!(out, "\\t"),
            '\n' => write!(out, "\\n"),
            '\u{c}' => write!(out, "\\f"),
            '\r' => write!(out, "\\r"),
            c if c < ' ' || c == '\u{7f}' => write!(out, "\\u{:04x}", u32::from(c)),
            c => {
                out.push(c);
                Ok(())
            }
        };
    }
    out + "\""
}

//! YAML as `gopkg.in/yaml.v2` reads and writes it, as far as plain data go.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::engine::go::format::{format_float, quote};
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::type_name;

/// Deepest nesting that is written.
const DEPTH_MAX: usize = 200;

/// What `text` says: maps of `map[string]interface {}`, integers as `int`, other numbers `float64`.
pub(super) fn decode(text: &str) -> Result<Value, String> {
    match serde_saphyr::from_str::<Node>(text) {
        Ok(node) => Ok(node.0),
        Err(error) => {
            let told = error.to_string();
            let first = told.lines().next().unwrap_or_default();
            Err(format!("yaml: {}", first.trim_start_matches("error: ")))
        }
    }
}

/// A value while it is read.
struct Node(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node(Value::int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node(match i64::try_from(value) {
            Ok(value) => Value::int(value),
            Err(_) => Value::Uint(value, super::super::engine::go::types::UintKind::U64),
        }))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node(Value::float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node(Value::Nil))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node(Value::Nil))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(Node(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node(Value::list(&Type::Any, items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((Node(key), Node(value))) = map.next_entry::<Node, Node>()? {
            entries.push((super::args::shown(&key), value));
        }
        Ok(Node(Value::dict(entries)))
    }
}

/// `value` as YAML: block style, keys sorted with numbers in them by size, lists not indented.
pub(super) fn encode(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    write(&mut out, value, 0, false)?;
    Ok(out)
}

/// Writes `value` where a value is expected; `inline` when something stands before it in the line.
fn write(out: &mut String, value: &Value, depth: usize, inline: bool) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("yaml: values are nested more than {DEPTH_MAX} deep"));
    }
    let indent = |out: &mut String| out.extend(std::iter::repeat_n("  ", depth));
    match value {
        Value::Map(map) if !map.is_empty() => {
            let entries = map.iter().map(|(key, value)| (super::args::shown(&key), value));
            return fields(out, entries.collect(), depth, inline);
        }
        Value::Object(object) => {
            if let Some(plain) = object.underlying() {
                return write(out, &plain, depth, inline);
            }
            // Fields without a name of their own are lower case in YAML.
            let of = |name: &&str| object.field(name).unwrap_or(Value::Nil);
            let all = object.fields().iter().map(|name| (name.to_lowercase(), of(name)));
            return fields(out, all.collect(), depth, inline);
        }
        Value::List(list) if !list.is_empty() => {
            for (index, item) in list.iter().enumerate() {
                if index > 0 || !inline {
                    indent(out);
                }
                out.push('-');
                let nested = matches!(&item.plain(), Value::Map(map) if !map.is_empty())
                    || matches!(&item.plain(), Value::List(list) if !list.is_empty())
                    || matches!(&item.plain(), Value::Object(_));
                out.push(' ');
                write(out, &item, depth + usize::from(nested), true)?;
            }
            return Ok(());
        }
        _ => {}
    }
    let scalar = match value {
        Value::Nil | Value::NilOf(_) => match value.type_of().map(Type::underlying) {
            Some(Type::Map(_)) => "{}".to_owned(),
            Some(Type::Slice(_)) => "[]".to_owned(),
            _ => "null".to_owned(),
        },
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number, _) => number.to_string(),
        Value::Uint(number, _) => number.to_string(),
        Value::Float(number, _) if number.is_nan() => ".nan".to_owned(),
        Value::Float(number, _) if number.is_infinite() => {
            if *number > 0.0 {
                ".inf".to_owned()
            } else {
                "-.inf".to_owned()
            }
        }
        Value::Float(number, _) => format_float(*number, b'g', None, false),
        Value::String(text) => {
            string(out, &text.to_str(), depth);
            return Ok(());
        }
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
        other => return Err(format!("yaml: cannot marshal type: {}", type_name(other))),
    };
    let _ = writeln!(out, "{scalar}");
    Ok(())
}

fn fields(
    out: &mut String,
    mut entries: Vec<(String, Value)>,
    depth: usize,
    inline: bool,
) -> Result<(), String> {
    entries.sort_by(|a, b| natural(&a.0, &b.0));
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 || !inline {
            out.extend(std::iter::repeat_n("  ", depth));
        }
        out.push_str(&scalar_text(key));
        out.push(':');
        let plain = value.plain();
        match &plain {
            Value::Map(map) if !map.is_empty() => {
                out.push('\n');
                write(out, value, depth + 1, false)?;
            }
            Value::List(list) if !list.is_empty() => {
                out.push('\n');
                write(out, value, depth, false)?;
            }
            Value::Object(_) => {
                out.push('\n');
                write(out, value, depth + 1, false)?;
            }
            _ => {
                out.push(' ');
                write(out, value, depth + 1, true)?;
            }
        }
    }
    Ok(())
}

/// Letters before others, digits by the number they make, as yaml.v2 sorts keys.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.chars().peekable(), b.chars().peekable());
    loop {
        let (first, second) = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return a.cmp(b),
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(first), Some(second)) => (first, second),
        };
        if first.is_ascii_digit() && second.is_ascii_digit() {
            let ordering = number(&mut left).cmp(&number(&mut right));
            if ordering.is_ne() {
                return ordering;
            }
        } else if first == second {
            left.next();
            right.next();
        } else {
            return match (first.is_alphabetic(), second.is_alphabetic()) {
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => first.cmp(&second),
            };
        }
    }
}

/// The number at the beginning of `digits`, taken from it.
fn number(digits: &mut Peekable<Chars<'_>>) -> u128 {
    let mut number = 0u128;
    while let Some(digit) = digits.peek().and_then(|c| c.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(u128::from(digit));
        digits.next();
    }
    number
}

/// A string of several lines is a literal block, another one a scalar.
fn string(out: &mut String, text: &str, depth: usize) {
    let printable = text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control());
    if text.contains('\n') && printable && !text.starts_with([' ', '\n', '\t']) {
        let end = match text.len() - text.trim_end_matches('\n').len() {
            0 => "-",
            1 => "",
            _ => "+",
        };
        let _ = writeln!(out, "|{end}");
        let lines = text.strip_suffix('\n').unwrap_or(text);
        for line in lines.split('\n') {
            if !line.is_empty() {
                out.extend(std::iter::repeat_n("  ", depth.max(1)));
            }
            let _ = writeln!(out, "{line}");
        }
        return;
    }
    let _ = writeln!(out, "{}", scalar_text(text));
}

/// Words that YAML takes for something else than a string.
const WORDS: [&str; 12] =
    ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<"];

fn scalar_text(text: &str) -> String {
    let word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    let other_kind = word || looks_like_a_number(text) || looks_like_a_date(text);
    if other_kind {
        return format!("\"{text}\"");
    }
    if text.chars().any(char::is_control) || text.contains('\u{feff}') {
        return quote(text.as_bytes(), false);
    }
    let first = text.chars().next().unwrap_or(' ');
    let unsafe_start = matches!(
        first,
        ',' | '['
            | ']'
            | '{'
            | '}'
            | '#'
            | '&'
            | '*'
            | '!'
            | '|'
            | '>'
            | '\''
            | '"'
            | '%'
            | '@'
            | '`'
            | ' '
    ) || (matches!(first, '-' | '?' | ':')
        && text[1..].chars().next().is_none_or(|c| c == ' '))
        || text.starts_with("---")
        || text.starts_with("...");
    let unsafe_inside =
        text.contains(": ") || text.contains(" #") || text.ends_with(':') || text.ends_with(' ');
    if unsafe_start || unsafe_inside {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_owned()
}

fn looks_like_a_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let digits = plain.trim_start_matches(['-', '+']);
    let based = ["0x", "0b", "0o"].iter().any(|prefix| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let decimal = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().any(|c| c.is_ascii_digit())
        && plain.parse::<f64>().is_ok();
    let sexagesimal = digits.contains(':')
        && digits
            .split(':')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || c == '.'));
    let word = matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan");
    based || decimal || word || sexagesimal
}

fn looks_like_a_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[5..].iter().all(|b| b.is_ascii_digit() || b"-T:Z+. ".contains(b))
}

//! Arguments of functions as plain Rust, and results as values.
//!
//! The evaluator has checked arguments against the signature; what is missing or of another kind
//! is the zero value here, never a panic.

use std::borrow::Cow;

use super::super::engine::go::format::{self, NumberFormat};
use super::super::engine::go::function::{Context, FunctionError, Signature};
use super::super::engine::go::text::Text;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;

/// What a function gives.
pub(super) type Outcome = Result<Value, FunctionError>;

/// Why it gave nothing.
pub(super) type Failure = FunctionError;

/// The code of a function.
pub(super) type Code = fn(&mut Context<'_>, &[Value]) -> Outcome;

/// A line of a table of functions.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) signature: Signature,
    pub(super) code: Code,
}

/// A function of exactly `params`.
pub(super) const fn fixed(
    name: &'static str,
    params: &'static [Type],
    result: Type,
    code: Code,
) -> Entry {
    Entry { name, signature: Signature::new(params, result), code }
}

/// A function whose last parameter may be given any number of times.
pub(super) const fn many(
    name: &'static str,
    params: &'static [Type],
    result: Type,
    code: Code,
) -> Entry {
    Entry { name, signature: Signature::variadic(params, result), code }
}

/// `[]byte`
pub(super) const BYTES: Type =
    Type::Slice(&Type::Uint(super::super::engine::go::types::UintKind::U8));

/// An error in Go's words.
pub(super) fn failed<T>(message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError::failed(message))
}

/// Most lists and maps within each other that a function may give.
pub(super) const DEPTH_MAX: u32 = 100;

/// `value`, unless it is nested too deep.
pub(super) fn bounded(value: Value) -> Outcome {
    if value.depth() > DEPTH_MAX {
        return failed(format!("values are nested more than {DEPTH_MAX} deep"));
    }
    Ok(value)
}

/// The argument at `index`.
pub(super) fn any(args: &[Value], index: usize) -> Value {
    args.get(index).cloned().unwrap_or(Value::Nil)
}

/// The string at `index`, U+FFFD for what is not UTF-8.
pub(super) fn text(args: &[Value], index: usize) -> Cow<'_, str> {
    match args.get(index) {
        Some(Value::String(text)) => text.to_str(),
        Some(Value::Object(object)) => match object.underlying() {
            Some(Value::String(text)) => Cow::Owned(text.to_str().into_owned()),
            _ => Cow::Borrowed(""),
        },
        _ => Cow::Borrowed(""),
    }
}

/// The integer at `index`.
pub(super) fn int(args: &[Value], index: usize) -> i64 {
    match args.get(index).map(Value::plain) {
        Some(Value::Int(number, _)) => number,
        Some(Value::Uint(number, _)) => i64::try_from(number).unwrap_or(i64::MAX),
        _ => 0,
    }
}

/// The truth at `index`.
pub(super) fn truth(args: &[Value], index: usize) -> bool {
    matches!(args.get(index).map(Value::plain), Some(Value::Bool(true)))
}

/// The elements of the list at `index`.
pub(super) fn list(args: &[Value], index: usize) -> Vec<Value> {
    args.get(index).and_then(elements).unwrap_or_default()
}

/// The strings of the list at `index`.
pub(super) fn strings(args: &[Value], index: usize) -> Vec<String> {
    list(args, index).iter().map(shown).collect()
}

/// The elements of `value` if it is a list.
pub(super) fn elements(value: &Value) -> Option<Vec<Value>> {
    match value.plain() {
        Value::List(list) => Some(list.iter().collect()),
        Value::NilOf(of) if matches!(of.underlying(), Type::Slice(_)) => Some(Vec::new()),
        _ => None,
    }
}

/// The entries of `value` if it is a map.
pub(super) fn entries(value: &Value) -> Option<Vec<(Value, Value)>> {
    match value.plain() {
        Value::Map(map) => Some(map.iter().collect()),
        Value::NilOf(of) if matches!(of.underlying(), Type::Map(_)) => Some(Vec::new()),
        _ => None,
    }
}

/// The entries of `value` by the text of their keys, sorted.
pub(super) fn dict(value: &Value) -> Vec<(String, Value)> {
    entries(value).unwrap_or_default().iter().map(|(k, v)| (shown(k), v.clone())).collect()
}

/// A list `[]interface {}`.
pub(super) fn anys(items: Vec<Value>) -> Value {
    Value::list(&Type::Any, items)
}

/// As `%v` prints it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_str().into_owned(),
        other => formatted("%v", std::slice::from_ref(other)),
    }
}

/// What Go's `fmt.Sprintf` gives.
pub(super) fn formatted(format: &str, args: &[Value]) -> String {
    let text = format::printf(format.as_bytes(), args, NumberFormat::Go, usize::MAX >> 1);
    String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
}

/// The spelling of a value's type, `<nil>` for nil.
pub(super) fn type_name(value: &Value) -> String {
    value.type_of().map_or_else(|| "<nil>".into(), |of| of.to_string())
}

/// The bytes of a string, or of a list of bytes.
pub(super) fn bytes(args: &[Value], index: usize) -> Vec<u8> {
    match args.get(index) {
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        Some(other) => elements(other)
            .unwrap_or_default()
            .iter()
            .map(|item| match item {
                Value::Uint(byte, _) => *byte as u8,
                _ => 0,
            })
            .collect(),
        None => Vec::new(),
    }
}

/// A string value; asks first whether so much may be built.
pub(super) fn built(context: &mut Context<'_>, text: impl Into<Text>) -> Outcome {
    let text = text.into();
    context.build(text.as_bytes().len())?;
    Ok(Value::String(text))
}

/// Whether there is nothing in it: nil, false, zero, an empty string, list or map.
pub(super) fn is_empty(value: &Value) -> bool {
    match value.plain() {
        Value::Nil | Value::NilOf(_) => true,
        Value::Bool(truth) => !truth,
        Value::Int(number, _) => number == 0,
        Value::Uint(number, _) => number == 0,
        Value::Float(number, _) => number == 0.0,
        Value::Complex(real, imaginary) => real == 0.0 && imaginary == 0.0,
        Value::String(text) => text.as_bytes().is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Object(_) | Value::Function(_) | Value::Sequence(_) => false,
    }
}

/// Whether both are alike in type and content (`reflect.DeepEqual`).
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            std::sync::Arc::ptr_eq(x, y)
                || x.type_of() == y.type_of()
                    && match (x.underlying(), y.underlying()) {
                        (Some(x), Some(y)) => same(&x, &y),
                        (None, None) => x.fields().iter().all(|name| {
                            let of = |object: &dyn super::super::engine::go::value::Object| {
                                object.field(name).unwrap_or(Value::Nil)
                            };
                            same(&of(x.as_ref()), &of(y.as_ref()))
                        }),
                        _ => false,
                    }
        }
        (Value::List(x), Value::List(y)) => {
            x.element() == y.element()
                && x.len() == y.len()
                && x.iter().zip(y.iter()).all(|(x, y)| same(&x, &y))
        }
        (Value::Map(x), Value::Map(y)) => {
            x.types() == y.types()
                && x.len() == y.len()
                && x.iter().zip(y.iter()).all(|(x, y)| same(&x.0, &y.0) && same(&x.1, &y.1))
        }
        _ => a == b,
    }
}

//! `eq`, `lt` and their kin: by kind, never by conversion, but for integers of either sign.

use super::function::FunctionError;
use super::types::Type;
use super::val::{Val, type_name};
use super::value::Value;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Basic {
    None,
    Bool,
    Complex,
    Int,
    Float,
    String,
    Uint,
}

const fn basic(value: &Value) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Complex(..) => Basic::Complex,
        Value::Int(..) => Basic::Int,
        Value::Float(..) => Basic::Float,
        Value::String(_) => Basic::String,
        Value::Uint(..) => Basic::Uint,
        _ => Basic::None,
    }
}

/// What Go calls the kind of a value that is not basic.
#[derive(PartialEq, Eq)]
enum Kind {
    Invalid,
    Slice,
    Map,
    Struct,
    Pointer,
    Func,
    Chan,
}

fn kind(value: &Value) -> Kind {
    match value.type_of().map(Type::underlying) {
        Some(Type::Slice(_)) => Kind::Slice,
        Some(Type::Map(_)) => Kind::Map,
        Some(Type::Pointer(_)) => Kind::Pointer,
        Some(Type::Func(_)) => Kind::Func,
        Some(Type::Chan(_)) => Kind::Chan,
        Some(Type::Struct(_)) => Kind::Struct,
        _ => Kind::Invalid,
    }
}

const fn is_nil(value: &Value) -> bool {
    matches!(value, Value::Nil | Value::NilOf(_))
}

fn failed<T>(message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError::failed(message))
}

#[allow(clippy::float_cmp, reason = "what Go does")]
/// `eq a b`; `shown` gives a value by a verb, for messages.
pub(super) fn equal(
    a: &Value,
    b: &Value,
    shown: impl Fn(&Value, &[u8]) -> String,
) -> Result<bool, FunctionError> {
    // What most comparisons are.
    match (a, b) {
        (Value::String(a), Value::String(b)) => return Ok(a == b),
        (Value::Int(a, _), Value::Int(b, _)) => return Ok(a == b),
        _ => {}
    }
    let (plain_a, plain_b) = (a.plain(), b.plain());
    Ok(match (&plain_a, &plain_b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Complex(a, ai), Value::Complex(b, bi)) => a == b && ai == bi,
        (Value::Float(a, _), Value::Float(b, _)) => a == b,
        (Value::Int(a, _), Value::Int(b, _)) => a == b,
        (Value::Uint(a, _), Value::Uint(b, _)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Int(int, _), Value::Uint(uint, _)) | (Value::Uint(uint, _), Value::Int(int, _)) => {
            u64::try_from(*int).is_ok_and(|int| int == *uint)
        }
        _ if basic(&plain_a) != basic(&plain_b) => {
            if !matches!(a, Value::Nil) && !matches!(b, Value::Nil) {
                return failed(format!(
                    "incompatible types for comparison: {} and {}",
                    type_name(a),
                    type_name(b)
                ));
            }
            false
        }
        _ => return same(a, b, shown),
    })
}

/// Equality of what is not basic.
fn same(
    a: &Value,
    b: &Value,
    shown: impl Fn(&Value, &[u8]) -> String,
) -> Result<bool, FunctionError> {
    let (kind_a, kind_b) = (kind(a), kind(b));
    if kind_a != kind_b && kind_a != Kind::Invalid && kind_b != Kind::Invalid {
        return failed(format!(
            "non-comparable types {}: {}, {}: {}",
            shown(a, b"%s"),
            type_name(a),
            type_name(b),
            shown(b, b"%v")
        ));
    }
    if is_nil(a) || is_nil(b) {
        return Ok(is_nil(a) && is_nil(b));
    }
    if matches!(kind_b, Kind::Slice | Kind::Map | Kind::Func) {
        return failed(format!("non-comparable type {}: {}", shown(b, b"%s"), type_name(b)));
    }
    Ok(a == b)
}

/// `lt a b`
pub(super) fn less(a: &Val, b: &Val) -> Result<bool, FunctionError> {
    const BAD: &str = "invalid type for comparison";
    let (plain_a, plain_b) = (a.value.plain(), b.value.plain());
    if basic(&plain_a) == Basic::None || basic(&plain_b) == Basic::None {
        return failed(BAD);
    }
    Ok(match (&plain_a, &plain_b) {
        (Value::Bool(_), Value::Bool(_)) | (Value::Complex(..), Value::Complex(..)) => {
            return failed(BAD);
        }
        (Value::Float(a, _), Value::Float(b, _)) => a < b,
        (Value::Int(a, _), Value::Int(b, _)) => a < b,
        (Value::Uint(a, _), Value::Uint(b, _)) => a < b,
        (Value::String(a), Value::String(b)) => a.as_bytes() < b.as_bytes(),
        (Value::Int(a, _), Value::Uint(b, _)) => u64::try_from(*a).map_or(true, |a| a < *b),
        (Value::Uint(a, _), Value::Int(b, _)) => u64::try_from(*b).is_ok_and(|b| *a < b),
        _ => {
            return failed(format!(
                "incompatible types for comparison: {} and {}",
                type_name(&a.value),
                type_name(&b.value)
            ));
        }
    })
}

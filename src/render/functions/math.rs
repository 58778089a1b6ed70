//! Arithmetic: consul-template's on mixed kinds, confd's on integers.

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::types::{IntKind, UintKind};
use super::super::engine::go::value::Value;
use super::args::{Outcome, any, failed, formatted, int, type_name};

/// A number of some kind.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Int(i64),
    Uint(u64),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value.plain() {
            Value::Int(number, _) => Some(Self::Int(number)),
            Value::Uint(number, _) => Some(Self::Uint(number)),
            Value::Float(number, _) => Some(Self::Float(number)),
            _ => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Uint(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    const fn bits(self) -> i64 {
        match self {
            Self::Int(number) => number,
            Self::Uint(number) => number as i64,
            Self::Float(number) => number as i64,
        }
    }

    /// As the functions give it: `int64`, `uint64`, `float64`.
    const fn value(self) -> Value {
        match self {
            Self::Int(number) => Value::Int(number, IntKind::I64),
            Self::Uint(number) => Value::Uint(number, UintKind::U64),
            Self::Float(number) => Value::float(number),
        }
    }
}

/// The two numbers in the order of the calculation: the second argument comes first.
fn two(name: &str, args: &[Value]) -> Result<(Number, Number), FunctionError> {
    let (b, a) = (any(args, 0), any(args, 1));
    let number = |value: &Value| {
        Number::of(value).ok_or_else(|| {
            let shown = formatted("%q", std::slice::from_ref(value));
            let of = type_name(value);
            FunctionError::failed(format!("{name}: unknown type for {shown} ({of})"))
        })
    };
    Ok((number(&a)?, number(&b)?))
}

fn calculate(
    name: &str,
    args: &[Value],
    ints: fn(i64, i64) -> Option<i64>,
    uints: fn(u64, u64) -> Option<u64>,
    floats: fn(f64, f64) -> f64,
) -> Outcome {
    let (a, b) = two(name, args)?;
    let result = match (a, b) {
        (Number::Float(_), _) | (_, Number::Float(_)) => {
            Some(Number::Float(floats(a.float(), b.float())))
        }
        (Number::Uint(a), Number::Uint(b)) => uints(a, b).map(Number::Uint),
        _ => ints(a.bits(), b.bits()).map(Number::Int),
    };
    match result {
        Some(number) => Ok(number.value()),
        None => failed("runtime error: integer divide by zero"),
    }
}

/// `add b a`: a + b.
pub(super) fn add(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let wrapping = (|a: i64, b: i64| Some(a.wrapping_add(b))) as fn(i64, i64) -> Option<i64>;
    calculate("add", args, wrapping, |a, b| Some(a.wrapping_add(b)), |a, b| a + b)
}

/// `subtract b a`: a − b.
pub(super) fn subtract(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let wrapping = (|a: i64, b: i64| Some(a.wrapping_sub(b))) as fn(i64, i64) -> Option<i64>;
    calculate("subtract", args, wrapping, |a, b| Some(a.wrapping_sub(b)), |a, b| a - b)
}

/// `multiply b a`: a · b.
pub(super) fn multiply(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let wrapping = (|a: i64, b: i64| Some(a.wrapping_mul(b))) as fn(i64, i64) -> Option<i64>;
    calculate("multiply", args, wrapping, |a, b| Some(a.wrapping_mul(b)), |a, b| a * b)
}

/// `divide b a`: a / b; of integers without the rest.
pub(super) fn divide(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let ints = |a: i64, b: i64| (b != 0).then(|| a.wrapping_div(b));
    calculate("divide", args, ints, u64::checked_div, |a, b| a / b)
}

/// `modulo b a`: the rest of a / b, for integers.
pub(super) fn modulo(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (a, b) = two("modulo", args)?;
    let result = match (a, b) {
        (Number::Float(_), _) | (_, Number::Float(_)) => {
            let at = usize::from(matches!(a, Number::Float(_)));
            let value = any(args, at);
            let shown = formatted("%q", std::slice::from_ref(&value));
            let of = type_name(&value);
            return failed(format!("modulo: unknown type for {shown} ({of})"));
        }
        (Number::Uint(a), Number::Uint(b)) => a.checked_rem(b).map(Number::Uint),
        _ if b.bits() == 0 => None,
        _ => Some(Number::Int(a.bits().wrapping_rem(b.bits()))),
    };
    match result {
        Some(number) => Ok(number.value()),
        None => failed("runtime error: integer divide by zero"),
    }
}

/// `minimum b a`: the smaller one, in its own kind.
pub(super) fn minimum(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (a, b) = two("minimum", args)?;
    Ok(if less(a, b) { a.value() } else { b.value() })
}

/// `maximum b a`: the larger one, in its own kind.
pub(super) fn maximum(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (a, b) = two("maximum", args)?;
    Ok(if less(b, a) { a.value() } else { b.value() })
}

fn less(a: Number, b: Number) -> bool {
    match (a, b) {
        (Number::Float(_), _) | (_, Number::Float(_)) => a.float() < b.float(),
        (Number::Uint(a), Number::Uint(b)) => a < b,
        _ => a.bits() < b.bits(),
    }
}

/// confd's `add a b`.
pub(super) fn int_add(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::int(int(args, 0).wrapping_add(int(args, 1))))
}

/// confd's `sub a b`.
pub(super) fn int_sub(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::int(int(args, 0).wrapping_sub(int(args, 1))))
}

/// confd's `mul a b`.
pub(super) fn int_mul(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::int(int(args, 0).wrapping_mul(int(args, 1))))
}

/// confd's `div a b`.
pub(super) fn int_div(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    match int(args, 1) {
        0 => failed("division by zero"),
        by => Ok(Value::int(int(args, 0).wrapping_div(by))),
    }
}

/// confd's `mod a b`.
pub(super) fn int_mod(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    match int(args, 1) {
        0 => failed("modulo by zero"),
        by => Ok(Value::int(int(args, 0).wrapping_rem(by))),
    }
}

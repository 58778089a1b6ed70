//! Sprig's functions on numbers: they take anything that looks like one.

use super::super::engine::go::function::Context;
use super::super::engine::go::types::{IntKind, Type};
use super::super::engine::go::value::Value;
use super::args::{Outcome, any, failed, int, shown};
use super::numbers::{ROW_MAX, Row};
use super::strconv;

/// `value` as an integer; zero when it is none.
pub(super) fn whole(value: &Value) -> i64 {
    match value.plain() {
        Value::Int(number, _) => number,
        Value::Uint(number, _) => number as i64,
        Value::Float(number, _) => number as i64,
        Value::Bool(truth) => i64::from(truth),
        Value::String(text) => {
            // A leading zero makes no octal number, as Go's cast package decided.
            let text = text.to_str();
            // `1.00` is a whole number.
            let text = text.split_once('.').map_or(&*text, |(whole, zeros)| {
                let zero = !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0');
                if zero { whole } else { &text }
            });
            let trimmed = text.trim_start_matches('0');
            let decimal = trimmed.starts_with(|c: char| c.is_ascii_digit());
            strconv::parse_any_base(if decimal { trimmed } else { text }).unwrap_or(0)
        }
        _ => 0,
    }
}

/// `value` as a float; zero when it is none.
fn real(value: &Value) -> f64 {
    match value.plain() {
        Value::Int(number, _) => number as f64,
        Value::Uint(number, _) => number as f64,
        Value::Float(number, _) => number,
        Value::Bool(truth) => f64::from(u8::from(truth)),
        Value::String(text) => strconv::parse_float(&text.to_str()).unwrap_or(0.0),
        _ => 0.0,
    }
}

const fn long(number: i64) -> Value {
    Value::Int(number, IntKind::I64)
}

pub(super) fn atoi(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let text = shown(&any(args, 0));
    // What is too large is the largest there is.
    let nearest = |why: String| match why.ends_with("out of range") {
        true if text.starts_with('-') => i64::MIN,
        true => i64::MAX,
        false => 0,
    };
    Ok(Value::int(strconv::parse_int("Atoi", &text).unwrap_or_else(nearest)))
}

pub(super) fn int64(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(long(whole(&any(args, 0))))
}

pub(super) fn to_int(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::int(whole(&any(args, 0))))
}

pub(super) fn float64(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::float(real(&any(args, 0))))
}

pub(super) fn to_decimal(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(long(i64::from_str_radix(&shown(&any(args, 0)), 8).unwrap_or(0)))
}

fn folded(args: &[Value], step: fn(i64, i64) -> i64) -> Outcome {
    let numbers = args.iter().map(whole);
    Ok(long(numbers.reduce(step).unwrap_or(0)))
}

pub(super) fn add1(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(long(whole(&any(args, 0)).wrapping_add(1)))
}

pub(super) fn add(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded(args, i64::wrapping_add)
}

pub(super) fn sub(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded(args, i64::wrapping_sub)
}

pub(super) fn mul(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded(args, i64::wrapping_mul)
}

fn divided(args: &[Value], step: fn(i64, i64) -> i64) -> Outcome {
    match whole(&any(args, 1)) {
        0 => failed("runtime error: integer divide by zero"),
        by => Ok(long(step(whole(&any(args, 0)), by))),
    }
}

pub(super) fn div(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    divided(args, i64::wrapping_div)
}

pub(super) fn modulo(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    divided(args, i64::wrapping_rem)
}

pub(super) fn max(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded(args, i64::max)
}

pub(super) fn min(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded(args, i64::min)
}

fn folded_real(args: &[Value], step: fn(f64, f64) -> f64) -> Outcome {
    Ok(Value::float(args.iter().map(real).reduce(step).unwrap_or(0.0)))
}

/// Sprig calculates floats in decimal, so that 0.1 + 0.2 is 0.3; rounding to fifteen digits gives
/// the same for all but very long numbers.
fn decimal(number: f64) -> f64 {
    format!("{number:.14e}").parse().unwrap_or(number)
}

pub(super) fn add1f(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::float(decimal(real(&any(args, 0)) + 1.0)))
}

pub(super) fn addf(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded_real(args, |a, b| decimal(a + b))
}

pub(super) fn subf(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded_real(args, |a, b| decimal(a - b))
}

pub(super) fn mulf(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded_real(args, |a, b| decimal(a * b))
}

pub(super) fn divf(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    if args.iter().skip(1).any(|arg| real(arg) == 0.0) {
        return failed("decimal division by 0");
    }
    folded_real(args, |a, b| quotient(a, b).unwrap_or(a / b))
}

/// `a / b` with sixteen digits behind the point, as Sprig's decimals have; `None` for what is too large or
/// too small for it.
fn quotient(a: f64, b: f64) -> Option<f64> {
    // The digits of a number, and how many of them stand behind the point.
    let digits = |number: f64| {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e')?;
        let behind = digits.split_once('.').map_or(0, |(_, behind)| behind.len() as i32);
        let all: i128 = digits.replace('.', "").parse().ok()?;
        Some((all, behind - exponent.parse::<i32>().ok()?))
    };
    let ((a, behind_a), (b, behind_b)) = (digits(a)?, digits(b)?);
    let shift = 16 + behind_b - behind_a;
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    let (a, b) = if shift < 0 { (a, b.checked_mul(power)?) } else { (a.checked_mul(power)?, b) };
    let half = b.abs() / 2 + (b.abs() % 2);
    let up = i128::from((a % b).abs() >= half);
    let rounded = a / b + if (a < 0) == (b < 0) { up } else { -up };
    format!("{rounded}e-16").parse().ok()
}

pub(super) fn maxf(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded_real(args, f64::max)
}

pub(super) fn minf(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    folded_real(args, f64::min)
}

pub(super) fn ceil(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::float(real(&any(args, 0)).ceil()))
}

pub(super) fn floor(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::float(real(&any(args, 0)).floor()))
}

/// `round number places [from]`: up when what is cut off is at least `from`, .5 unless told, else
/// down, also below zero.
pub(super) fn round(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (number, places) = (real(&any(args, 0)), int(args, 1).clamp(-300, 300));
    let from = args.get(2).map_or(0.5, real);
    let scale = 10f64.powi(places as i32);
    let digit = number * scale;
    let rounded = if digit.fract() >= from { digit.ceil() } else { digit.floor() };
    Ok(Value::float(rounded / scale))
}

fn row(start: i64, stop: i64, step: i64) -> Outcome {
    let count = match step {
        0 => 0,
        step => {
            let distance = i128::from(stop) - i128::from(start);
            let step = i128::from(step);
            if (distance > 0) == (step > 0) {
                (distance.abs() + step.abs() - 1) / step.abs()
            } else {
                0
            }
        }
    };
    if count > i128::from(ROW_MAX) {
        return failed(format!("there are at most {ROW_MAX} numbers in a list"));
    }
    Ok(Value::list(&Type::INT, Row { start, step, count: count as usize }))
}

pub(super) fn until(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let count = int(args, 0);
    row(0, count, if count < 0 { -1 } else { 1 })
}

pub(super) fn until_step(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    row(int(args, 0), int(args, 1), int(args, 2))
}

/// `seq [first [step]] last`: as the command of that name, with spaces between.
pub(super) fn seq(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let towards = |stop: i64, step: i64| stop.saturating_add(step.signum());
    let list = match args.len() {
        1 => {
            let stop = int(args, 0);
            let step = if stop < 1 { -1 } else { 1 };
            row(1, towards(stop, step), step)?
        }
        2 => {
            let (start, stop) = (int(args, 0), int(args, 1));
            let step = if stop < start { -1 } else { 1 };
            row(start, towards(stop, step), step)?
        }
        3 => {
            let (start, step, stop) = (int(args, 0), int(args, 1), int(args, 2));
            if (stop < start) != (step < 0) {
                return Ok("".into());
            }
            row(start, towards(stop, step), step)?
        }
        _ => return Ok("".into()),
    };
    let numbers = super::args::elements(&list).unwrap_or_default();
    context.build(numbers.len().saturating_mul(8))?;
    let words: Vec<String> = numbers.iter().map(shown).collect();
    Ok(words.join(" ").into())
}

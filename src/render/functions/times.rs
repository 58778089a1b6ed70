//! Times as values with methods, and the functions that make them.

use std::any::Any;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::super::engine::go::function::{Context, FunctionError, Signature};
use super::super::engine::go::text::Text;
use super::super::engine::go::types::{IntKind, Named, Type};
use super::super::engine::go::value::{Object, Value};
use super::args::{Outcome, any, failed, int, shown, text};
use super::host;
use super::layout::{self, Moment};

static TIME: Named = Named { name: "time.Time", underlying: Type::Struct("struct {…}") };
static MONTH: Named = Named { name: "time.Month", underlying: Type::INT };
static WEEKDAY: Named = Named { name: "time.Weekday", underlying: Type::INT };
static DURATION: Named = Named { name: "time.Duration", underlying: Type::INT64 };

/// `time.Time`
pub(super) const TIME_TYPE: Type = Type::Named(&TIME);

/// A `time.Time` with the methods that templates use.
pub(super) struct Time(pub(super) Moment);

/// The form of `time.Time.String`.
const STRING: &str = "2006-01-02 15:04:05.999999999 -0700 MST";

impl Object for Time {
    fn type_of(&self) -> Type {
        TIME_TYPE
    }

    fn method(&self, name: &str) -> Option<Signature> {
        Some(match name {
            "Format" => Signature::new(&[Type::String], Type::String),
            "String" => Signature::new(&[], Type::String),
            "Unix" | "UnixMilli" | "UnixMicro" | "UnixNano" => Signature::new(&[], Type::INT64),
            "Year" | "Day" | "Hour" | "Minute" | "Second" | "Nanosecond" | "YearDay" => {
                Signature::new(&[], Type::INT)
            }
            "Month" => Signature::new(&[], Type::Named(&MONTH)),
            "Weekday" => Signature::new(&[], Type::Named(&WEEKDAY)),
            "UTC" | "Local" => Signature::new(&[], TIME_TYPE),
            "AddDate" => Signature::new(&[Type::INT, Type::INT, Type::INT], TIME_TYPE),
            "Before" | "After" | "Equal" => Signature::new(&[TIME_TYPE], Type::Bool),
            "Sub" => Signature::new(&[TIME_TYPE], Type::Named(&DURATION)),
            "IsZero" => Signature::new(&[], Type::Bool),
            _ => return None,
        })
    }

    fn call(
        &self,
        name: &str,
        context: &mut Context<'_>,
        args: &[Value],
    ) -> Result<Value, FunctionError> {
        let moment = &self.0;
        let (civil, at) = (moment.civil(), moment.at);
        let number = |number: i64| Ok(Value::int(number));
        let long = |number: i64| Ok(Value::Int(number, IntKind::I64));
        match name {
            "Format" => {
                let layout = text(args, 0);
                context.build(layout.len().saturating_mul(4))?;
                Ok(layout::format(moment, &layout).into())
            }
            "String" => Ok(layout::format(moment, STRING).into()),
            "Unix" => long(at.as_second()),
            "UnixMilli" => long(at.as_millisecond()),
            "UnixMicro" => long(at.as_microsecond()),
            "UnixNano" => long(at.as_nanosecond() as i64),
            "Year" => number(i64::from(civil.year())),
            "Day" => number(i64::from(civil.day())),
            "Hour" => number(i64::from(civil.hour())),
            "Minute" => number(i64::from(civil.minute())),
            "Second" => number(i64::from(civil.second())),
            "Nanosecond" => number(i64::from(civil.subsec_nanosecond())),
            "YearDay" => number(i64::from(civil.day_of_year())),
            "Month" => {
                Ok(named(&MONTH, i64::from(civil.month()), layout::month_name(civil.month())))
            }
            "Weekday" => {
                let day = civil.weekday().to_sunday_zero_offset();
                Ok(named(&WEEKDAY, i64::from(day), layout::day_name(day)))
            }
            "UTC" => Ok(Value::object(Self(Moment::utc(at)))),
            "Local" => {
                let zone = host::of(context).map_or(TimeZone::UTC, |host| host.world().zone());
                Ok(Value::object(Self(Moment::within(at, &zone))))
            }
            "AddDate" => {
                let months = int(args, 0).saturating_mul(12).saturating_add(int(args, 1));
                let months = i32::try_from(months).ok().filter(|months| months.abs() < 100_000);
                let days = i32::try_from(int(args, 2)).ok().filter(|days| days.abs() < 3_000_000);
                let (Some(months), Some(days)) = (months, days) else {
                    return failed("time: the date is out of range");
                };
                // As in Go, the 31st of a month with 30 days is the first of the next one.
                let first = civil.first_of_month().checked_add(months.months());
                let day = i64::from(civil.day()) - 1 + i64::from(days);
                let moved = first.and_then(|first| first.checked_add(day.days()));
                let moved = moved.and_then(|civil| moment.offset.to_timestamp(civil));
                match moved {
                    Ok(at) => Ok(Value::object(Self(Moment { at, ..moment.clone() }))),
                    Err(_) => failed("time: the date is out of range"),
                }
            }
            "Before" | "After" | "Equal" | "Sub" => {
                let Some(other) = of(&any(args, 0)) else { return failed("expected a time") };
                Ok(match name {
                    "Before" => (at < other.at).into(),
                    "After" => (at > other.at).into(),
                    "Equal" => (at == other.at).into(),
                    _ => duration(at.duration_since(other.at)),
                })
            }
            _ => Ok(Value::Bool(at == Timestamp::MIN)),
        }
    }

    fn text(&self) -> Option<Text> {
        Some(layout::format(&self.0, STRING).into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The time in `value`.
pub(super) fn of(value: &Value) -> Option<Moment> {
    let Value::Object(object) = value else { return None };
    object.as_any().downcast_ref::<Time>().map(|time| time.0.clone())
}

/// An integer whose type has a name and which prints as a word.
struct Word {
    of: &'static Named,
    number: i64,
    text: Text,
}

impl Object for Word {
    fn type_of(&self) -> Type {
        Type::Named(self.of)
    }

    fn method(&self, name: &str) -> Option<Signature> {
        match name {
            "String" => Some(Signature::new(&[], Type::String)),
            "Seconds" | "Minutes" | "Hours" if *self.of == DURATION => {
                Some(Signature::new(&[], Type::FLOAT64))
            }
            _ => None,
        }
    }

    fn call(&self, name: &str, _: &mut Context<'_>, _: &[Value]) -> Result<Value, FunctionError> {
        let seconds = self.number as f64 / 1e9;
        Ok(match name {
            "Seconds" => Value::float(seconds),
            "Minutes" => Value::float(seconds / 60.0),
            "Hours" => Value::float(seconds / 3600.0),
            _ => Value::String(self.text.clone()),
        })
    }

    fn underlying(&self) -> Option<Value> {
        let kind = if *self.of == DURATION { IntKind::I64 } else { IntKind::Int };
        Some(Value::Int(self.number, kind))
    }

    fn text(&self) -> Option<Text> {
        Some(self.text.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn named(of: &'static Named, number: i64, text: &'static str) -> Value {
    Value::object(Word { of, number, text: Text::fixed(text) })
}

/// A `time.Duration`.
pub(super) fn duration(duration: SignedDuration) -> Value {
    let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Value::object(Word { of: &DURATION, number: nanos, text: duration_text(nanos).into() })
}

/// `1h2m3.5s`, below a second `1.5ms`, as `time.Duration.String` gives it.
pub(super) fn duration_text(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = |whole: u64, rest: u64, width: usize| {
        let digits = format!("{rest:0width$}");
        match digits.trim_end_matches('0') {
            "" => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    };
    match size {
        0 => "0s".into(),
        1..1000 => format!("{sign}{size}ns"),
        1000..1_000_000 => format!("{sign}{}µs", fraction(size / 1000, size % 1000, 3)),
        1_000_000..1_000_000_000 => {
            format!("{sign}{}ms", fraction(size / 1_000_000, size % 1_000_000, 6))
        }
        _ => {
            let seconds = size / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let last = fraction(seconds % 60, size % 1_000_000_000, 9);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{last}s"),
                (0, _) => format!("{sign}{minutes}m{last}s"),
                _ => format!("{sign}{hours}h{minutes}m{last}s"),
            }
        }
    }
}

/// `1h2m3.5s` in nanoseconds, as `time.ParseDuration` reads it.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0f64;
    while !rest.is_empty() {
        let count = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number: f64 = rest[..count].parse().map_err(|_| invalid())?;
        rest = &rest[count..];
        let count = rest.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let unit = match &rest[..count] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        total += number * unit;
        rest = &rest[count..];
    }
    if total >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { -(total.round() as i64) } else { total.round() as i64 })
}

/// The present time where we are: `datetime` of confd.
pub(super) fn now(context: &mut Context<'_>, _: &[Value]) -> Outcome {
    let world = host::of(context)?.world();
    Ok(Value::object(Time(Moment::within(world.now(), &world.zone()))))
}

/// `timestamp`: the present time in universal time, by RFC 3339, by a layout or as seconds.
pub(super) fn timestamp(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let moment = Moment::utc(host::of(context)?.world().now());
    match args {
        [] => Ok(layout::format(&moment, "2006-01-02T15:04:05Z07:00").into()),
        [form] if shown(form) == "unix" => Ok(moment.at.as_second().to_string().into()),
        [form] => Ok(layout::format(&moment, &shown(form)).into()),
        more => failed(format!(
            "timestamp: wrong number of arguments, expected 0 or 1, but got {}",
            more.len()
        )),
    }
}

#[cfg(test)]
#[path = "times_tests.rs"]
mod tests;

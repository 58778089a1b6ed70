//! Sprig's functions on paths, addresses, versions and times, and those that are not given.

use std::any::Any;

use jiff::SignedDuration;

use super::super::engine::go::function::{Context, FunctionError, Signature};
use super::super::engine::go::types::{IntKind, Named, Type, UintKind};
use super::super::engine::go::value::{Object, Value};
use super::args::{Outcome, any, built, dict, failed, text};
use super::layout::Moment;
use super::semver::{self, Version};
use super::sprig_maps::kind;
use super::times::{self, Time};
use super::{host, layout, strconv, strings, urls};

pub(super) fn hello(_: &mut Context<'_>, _: &[Value]) -> Outcome {
    Ok("Hello!".into())
}

pub(super) fn fail(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    failed(text(args, 0).into_owned())
}

/// What gives something else each time it is asked.
pub(super) fn random(_: &mut Context<'_>, _: &[Value]) -> Outcome {
    failed("not available: it gives something else each time, so that the file would never settle")
}

pub(super) fn base(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::base(&text(args, 0)))
}

pub(super) fn dir(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::dir(&text(args, 0)))
}

pub(super) fn clean(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::clean_path(&text(args, 0)))
}

pub(super) fn ext(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::extension(&text(args, 0)))
}

pub(super) fn is_abs(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(text(args, 0).starts_with('/').into())
}

/// `scheme://userinfo@host/path?query#fragment`, taken apart.
pub(super) fn url_parse(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    context.build(whole.len())?;
    match urls::parse(&whole) {
        Ok(url) => Ok(Value::dict(url.parts().map(|(name, part)| (name, part.into())))),
        Err(why) => failed(format!("unable to parse url: {why}")),
    }
}

/// The same put together again.
pub(super) fn url_join(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let given = dict(&any(args, 0));
    let part = |name: &str| match given.iter().find(|(key, _)| key == name) {
        None => Ok(String::new()),
        Some((_, Value::String(text))) => Ok(text.to_str().into_owned()),
        Some((_, other)) => failed(format!(
            "unable to parse {name} key, must be of type string, but {} found",
            kind(other)
        )),
    };
    let url = urls::Url {
        scheme: part("scheme")?,
        host: part("host")?,
        path: part("path")?,
        query: part("query")?,
        opaque: part("opaque")?,
        fragment: part("fragment")?,
        userinfo: part("userinfo")?,
    };
    match url.text() {
        Ok(text) => built(context, text),
        Err(why) => failed(format!("unable to parse userinfo in dict: {why}")),
    }
}

static SEMVER: Named = Named { name: "semver.Version", underlying: Type::Struct("struct {…}") };

const SEMVER_TYPE: Type = Type::Pointer(&Type::Named(&SEMVER));

struct SemVer(Version, String);

impl Object for SemVer {
    fn type_of(&self) -> Type {
        SEMVER_TYPE
    }

    fn method(&self, name: &str) -> Option<Signature> {
        match name {
            "Major" | "Minor" | "Patch" => Some(Signature::new(&[], Type::Uint(UintKind::U64))),
            "Prerelease" | "Metadata" | "Original" | "String" => {
                Some(Signature::new(&[], Type::String))
            }
            _ => None,
        }
    }

    fn call(&self, name: &str, _: &mut Context<'_>, _: &[Value]) -> Result<Value, FunctionError> {
        let number = |at: usize| Value::Uint(self.0.numbers[at], UintKind::U64);
        Ok(match name {
            "Major" => number(0),
            "Minor" => number(1),
            "Patch" => number(2),
            "Prerelease" => self.0.prerelease.clone().into(),
            "Metadata" => self.0.metadata.clone().into(),
            "Original" => self.1.clone().into(),
            _ => self.text().map_or(Value::Nil, Value::String),
        })
    }

    fn text(&self) -> Option<super::super::engine::go::text::Text> {
        let [major, minor, patch] = self.0.numbers;
        let behind = |mark: &str, text: &str| {
            if text.is_empty() { String::new() } else { format!("{mark}{text}") }
        };
        let prerelease = behind("-", &self.0.prerelease);
        let metadata = behind("+", &self.0.metadata);
        Some(format!("{major}.{minor}.{patch}{prerelease}{metadata}").into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub(super) fn semver(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let version = semver::parse(&text(args, 0)).or_else(failed)?;
    Ok(Value::object(SemVer(version, text(args, 0).into_owned())))
}

pub(super) fn semver_compare(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let version = semver::parse(&text(args, 1)).or_else(failed)?;
    Ok(semver::satisfies(&text(args, 0), &version).or_else(failed)?.into())
}

/// The time in a value: a `time.Time` or seconds since 1970; otherwise the present one.
fn moment(context: &Context<'_>, value: &Value) -> Result<Moment, FunctionError> {
    if let Some(moment) = times::of(value) {
        return Ok(moment);
    }
    let world = host::of(context)?.world();
    let at = match value.plain() {
        Value::Int(seconds, _) => jiff::Timestamp::from_second(seconds),
        _ => Ok(world.now()),
    };
    let at = at.map_err(|_| FunctionError::failed("time: the date is out of range"))?;
    Ok(Moment::within(at, &world.zone()))
}

pub(super) fn ago(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let then = moment(context, &any(args, 0))?;
    let now = host::of(context)?.world().now();
    let seconds = now.duration_since(then.at).as_secs_f64().round();
    Ok(times::duration_text(seconds as i64 * 1_000_000_000).into())
}

/// Seconds as text or `int64`; of anything else it is no time at all.
pub(super) fn duration(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let seconds = match any(args, 0) {
        Value::String(text) => strconv::parse_int("ParseInt", &text.to_str()).unwrap_or(0),
        Value::Int(seconds, IntKind::I64) => seconds,
        _ => 0,
    };
    Ok(times::duration_text(seconds.saturating_mul(1_000_000_000)).into())
}

/// In the largest unit that it is longer than: of a text, of `int64` nanoseconds, since a time.
pub(super) fn duration_round(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    const SECOND: u64 = 1_000_000_000;
    const UNITS: [(u64, &str); 6] =
        [(365 * 86400, "y"), (30 * 86400, "mo"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let arg = any(args, 0);
    let nanos = match &arg {
        Value::String(text) => times::parse_duration(&text.to_str()).unwrap_or(0),
        Value::Int(nanos, IntKind::I64) => *nanos,
        _ => match times::of(&arg) {
            Some(then) => {
                let now = host::of(context)?.world().now();
                i64::try_from(now.duration_since(then.at).as_nanos()).unwrap_or(0)
            }
            None => 0,
        },
    };
    let nanos = nanos.unsigned_abs();
    let unit = UNITS.iter().find(|(size, _)| nanos > size * SECOND);
    let text = unit.map_or_else(
        || "0s".to_owned(),
        |(size, unit)| format!("{}{unit}", nanos / (size * SECOND)),
    );
    Ok(text.into())
}

pub(super) fn unix_epoch(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    match times::of(&any(args, 0)) {
        Some(moment) => Ok(moment.at.as_second().to_string().into()),
        None => failed("expected a time.Time"),
    }
}

pub(super) fn must_to_date(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let zone = host::of(context)?.world().zone();
    let moment = layout::parse(&text(args, 0), &text(args, 1), &zone).or_else(failed)?;
    Ok(Value::object(Time(moment)))
}

/// As `mustToDate`; the beginning of time where it fails.
pub(super) fn to_date(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match must_to_date(context, args) {
        Err(FunctionError::Failed { .. }) => {
            // The zero time of Go, the first of January of the year 1.
            let zero = jiff::civil::date(1, 1, 1).at(0, 0, 0, 0);
            let at = jiff::tz::Offset::UTC.to_timestamp(zero);
            Ok(Value::object(Time(Moment::utc(at.unwrap_or_default()))))
        }
        other => other,
    }
}

pub(super) fn must_date_modify(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let nanos = times::parse_duration(&text(args, 0)).or_else(failed)?;
    let Some(moment) = times::of(&any(args, 1)) else { return failed("expected a time.Time") };
    match moment.at.checked_add(SignedDuration::from_nanos(nanos)) {
        Ok(at) => Ok(Value::object(Time(Moment { at, ..moment }))),
        Err(_) => failed("time: the date is out of range"),
    }
}

//! Sprig's functions on paths, addresses, versions and times, and those that are not given.

use std::any::Any;

use jiff::SignedDuration;

use super::super::engine::go::function::{Context, FunctionError, Signature};
use super::super::engine::go::types::{Named, Type, UintKind};
use super::super::engine::go::value::{Object, Value};
use super::args::{Outcome, any, built, dict, failed, shown, text};
use super::layout::Moment;
use super::semver::{self, Version};
use super::sprig_numbers::whole;
use super::times::{self, Time};
use super::{host, layout, strings};

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
    if whole.chars().any(char::is_control) {
        return failed(format!(
            "unable to parse url: parse {whole:?}: invalid control character in URL"
        ));
    }
    let (rest, fragment) = whole.split_once('#').unwrap_or((&whole, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let scheme_end = rest.find(':').filter(|end| {
        rest.starts_with(|c: char| c.is_ascii_alphabetic())
            && rest[..*end].chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let (scheme, rest) = scheme_end.map_or(("", rest), |end| (&rest[..end], &rest[end + 1..]));
    let (mut host, mut path, mut opaque, mut user) = ("", rest, "", "");
    if let Some(authority) = rest.strip_prefix("//") {
        let end = authority.find('/').unwrap_or(authority.len());
        (host, path) = authority.split_at(end);
        (user, host) = host.rsplit_once('@').unwrap_or(("", host));
    } else if !scheme.is_empty() && !rest.starts_with('/') {
        (opaque, path) = (rest, "");
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let parts = [
        ("scheme", scheme.to_ascii_lowercase()),
        ("host", host.to_owned()),
        ("hostname", name.trim_matches(['[', ']']).to_owned()),
        ("path", path.to_owned()),
        ("query", query.to_owned()),
        ("opaque", opaque.to_owned()),
        ("fragment", fragment.to_owned()),
        ("userinfo", user.to_owned()),
    ];
    Ok(Value::dict(parts.map(|(name, part)| (name, part.into()))))
}

pub(super) fn url_join(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let parts = dict(&any(args, 0));
    let part = |name: &str| {
        let found = parts.iter().find(|(key, _)| key == name);
        found.map_or_else(String::new, |(_, value)| shown(value))
    };
    let mut out = String::new();
    if !part("scheme").is_empty() {
        out.push_str(&part("scheme"));
        out.push(':');
    }
    if part("opaque").is_empty() {
        if !part("host").is_empty() || !part("userinfo").is_empty() {
            out.push_str("//");
            if !part("userinfo").is_empty() {
                out.push_str(&part("userinfo"));
                out.push('@');
            }
            out.push_str(&part("host"));
            if !part("path").is_empty() && !part("path").starts_with('/') {
                out.push('/');
            }
        }
        out.push_str(&part("path"));
    } else {
        out.push_str(&part("opaque"));
    }
    for (mark, name) in [('?', "query"), ('#', "fragment")] {
        if !part(name).is_empty() {
            out.push(mark);
            out.push_str(&part(name));
        }
    }
    built(context, out)
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

pub(super) fn duration(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let nanos = whole(&any(args, 0)).saturating_mul(1_000_000_000);
    Ok(times::duration_text(nanos).into())
}

pub(super) fn duration_round(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let arg = any(args, 0);
    let nanos = match arg.plain() {
        Value::String(text) => times::parse_duration(&text.to_str()).unwrap_or(0),
        Value::Int(nanos, _) => nanos,
        _ => match times::of(&arg) {
            Some(then) => {
                let now = host::of(context)?.world().now();
                i64::try_from(now.duration_since(then.at).as_nanos()).unwrap_or(0)
            }
            None => 0,
        },
    };
    let seconds = nanos.unsigned_abs() / 1_000_000_000;
    const UNITS: [(u64, &str); 6] =
        [(365 * 86400, "y"), (30 * 86400, "mo"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let unit = UNITS.iter().find(|(size, _)| seconds > *size || *size == 1 && seconds == 1);
    let text =
        unit.map_or_else(|| "0s".to_owned(), |(size, unit)| format!("{}{unit}", seconds / size));
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

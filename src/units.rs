//! Newtypes for quantities that users write as text: `"250ms"`, `"64KiB"`, `"70%"`.
//!
//! Each parses with [`FromStr`], decodes from a configuration string with serde, and prints in a
//! form that it can read back. Errors name the value and show a form that works.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::Serializer;
use serde::de::{Deserialize, Deserializer, Error as _};

/// A length of time: one number and one unit out of `ms`, `s`, `m`, `h`, `d`; `"0"` needs no unit.
/// Several parts may follow each other: `"1m30s"`. At most 365 days.
///
/// ```
/// use portolan::units::Period;
///
/// assert_eq!("1m30s".parse(), Ok(Period::from_secs(90)));
/// assert!("90".parse::<Period>().is_err_and(|error| error.contains("write it like")));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes: `"512"`, `"64KiB"`, `"1MiB"`, `"2GiB"`, or the decimal `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A share of a whole, `"0%"` to `"100%"`; held as a fraction of one.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl Period {
    /// A period of whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A period of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

const PERIOD_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Splits `"12ms…"` into the number, its unit and the rest.
fn number_and_unit(text: &str) -> (&str, &str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters =
        rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    (number, unit, rest)
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("{text:?} is no length of time; write it like \"250ms\", \"10s\" or \"5m\"");
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut rest = text;
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest);
            let number: f64 = number.parse().map_err(|_| refuse())?;
            let factor = match unit {
                "us" => 0.000_001,
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(refuse()),
            };
            seconds += number * factor;
            rest = after;
        }
        let length = Duration::try_from_secs_f64(seconds).map_err(|_| refuse())?;
        if text.is_empty() {
            return Err(refuse());
        }
        if length > PERIOD_MAX {
            return Err(format!("{text:?} is longer than 365 days"));
        }
        Ok(Self(length))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (micros, millis) = (self.0.as_micros(), self.0.as_millis());
        match millis {
            0 if micros == 0 => f.write_str("0s"),
            0 => write!(f, "{micros}us"),
            m if m % 3_600_000 == 0 => write!(f, "{}h", m / 3_600_000),
            m if m % 60_000 == 0 => write!(f, "{}m", m / 60_000),
            m if m % 1000 == 0 => write!(f, "{}s", m / 1000),
            m => write!(f, "{m}ms"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("{text:?} is no size; write it like \"512\", \"64KiB\" or \"1MiB\"");
        let (number, unit, rest) = number_and_unit(text);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let factor: u64 = match unit {
            "" | "B" => 1,
            "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(refuse()),
        };
        if !rest.is_empty() {
            return Err(refuse());
        }
        number.checked_mul(factor).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            n if n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no share; write it like \"70%\"");
        let number = text.strip_suffix('%').ok_or_else(refuse)?;
        let percent: f64 = number.trim_end().parse().map_err(|_| refuse())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("{text:?} is not between \"0%\" and \"100%\""));
        }
        Ok(Self(percent / 100.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

/// A moment as people and programs read it: RFC 3339, in UTC, to the millisecond. For serde.
///
/// # Errors
/// What the serializer cannot take; a moment beyond the year 9999 is told as the epoch.
pub fn rfc3339<S: Serializer>(moment: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    let moment = jiff::Timestamp::try_from(*moment).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    to.collect_str(&format_args!("{moment:.3}"))
}

/// As [`rfc3339`], and `null` for a moment that has not come.
///
/// # Errors
/// What the serializer cannot take.
pub fn rfc3339_if_any<S: Serializer>(
    moment: &Option<SystemTime>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => rfc3339(moment, to),
        None => to.serialize_none(),
    }
}

macro_rules! decode_from_string {
    ($($unit:ty),*) => {$(
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
decode_from_string!(Period, Size, Share);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_with_their_units_and_refused_without() {
        for (case, text, want) in [
            ("milliseconds", "250ms", Some(250)),
            ("seconds", "10s", Some(10_000)),
            ("two parts", "1m30s", Some(90_000)),
            ("fraction", "1.5s", Some(1500)),
            ("zero", "0s", Some(0)),
            ("bare zero", "0", Some(0)),
            ("no unit", "10", None),
            ("unknown unit", "10y", None),
            ("empty", "", None),
            ("negative", "-1s", None),
            ("too long", "400d", None),
        ] {
            let read = text.parse::<Period>().ok().map(|p| p.0.as_millis());
            assert_eq!(read, want, "{case}: {text}");
        }
    }

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (case, text, want) in [
            ("plain", "512", Some(512)),
            ("kibibytes", "64KiB", Some(65_536)),
            ("decimal", "2MB", Some(2_000_000)),
            ("unknown", "2XB", None),
            ("overflow", "99999999999GiB", None),
            ("trailing", "1KiB2", None),
        ] {
            assert_eq!(text.parse::<Size>().ok().map(|s| s.0), want, "{case}: {text}");
        }
    }

    #[test]
    fn shares_lie_between_nothing_and_all() {
        for (case, text, want) in [
            ("whole", "70%", Some(0.7)),
            ("all", "100%", Some(1.0)),
            ("too much", "101%", None),
            ("no sign", "70", None),
        ] {
            assert_eq!(text.parse::<Share>().ok().map(|s| s.0), want, "{case}: {text}");
        }
    }

    #[test]
    fn a_moment_is_told_in_utc_to_the_millisecond() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_371_783_840);
        let told = rfc3339(&moment, serde_json::value::Serializer).unwrap();
        assert_eq!(told, "2026-11-22T18:23:03.840Z");
    }

    #[test]
    fn every_unit_prints_what_it_can_read_back() {
        for text in ["250ms", "10s", "5m", "2h", "0s"] {
            assert_eq!(text.parse::<Period>().map(|p| p.to_string()).as_deref(), Ok(text));
        }
        for text in ["512", "64KiB", "3MiB"] {
            assert_eq!(text.parse::<Size>().map(|s| s.to_string()).as_deref(), Ok(text));
        }
    }
}

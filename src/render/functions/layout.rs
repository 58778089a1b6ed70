//! Times by Go's layouts: `Mon Jan 2 15:04:05 MST 2006` shows the form.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// A time somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    pub(super) offset: Offset,
    /// `UTC`, `CEST`; empty when there is none.
    pub(super) zone: String,
}

impl Moment {
    /// `at` in universal time.
    pub(super) fn utc(at: Timestamp) -> Self {
        Self { at, offset: Offset::UTC, zone: "UTC".into() }
    }

    /// `at` as clocks show it in `zone`.
    pub(super) fn within(at: Timestamp, zone: &TimeZone) -> Self {
        let info = zone.to_offset_info(at);
        Self { at, offset: info.offset(), zone: info.abbreviation().to_owned() }
    }

    /// Date and time of day as clocks show it there.
    pub(super) fn civil(&self) -> DateTime {
        self.offset.to_datetime(self.at)
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The English name of a month, from 1.
pub(super) fn month_name(month: i8) -> &'static str {
    usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or("")
}

/// The English name of a day of the week, Sunday is 0.
pub(super) fn day_name(day: i8) -> &'static str {
    usize::try_from(day).ok().and_then(|at| DAYS.get(at)).copied().unwrap_or("")
}

/// A piece of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// As it is.
    Plain(&'a str),
    /// A field, by the text that stands for it in a layout.
    Field(&'a str),
    /// A fraction of a second: separator and digits; `true` when zeros at the end are left out.
    Fraction(char, usize, bool),
}

/// Longer ones before those that they begin with.
const FIELDS: [&str; 33] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "1",
    "2006",
    "2",
    "__2",
    "_2",
    "3",
    "4",
    "5",
    "PM",
    "pm",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
];

/// The pieces of `layout`.
pub(super) fn parts(layout: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < layout.len() {
        let Some((part, length)) = part_at(&layout[at..]) else {
            at += layout[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if start < at {
            parts.push(Part::Plain(&layout[start..at]));
        }
        parts.push(part);
        at += length;
        start = at;
    }
    if start < layout.len() {
        parts.push(Part::Plain(&layout[start..]));
    }
    parts
}

fn part_at(rest: &str) -> Option<(Part<'_>, usize)> {
    let bytes = rest.as_bytes();
    if let [separator @ (b'.' | b','), digit @ (b'0' | b'9'), ..] = bytes {
        let digits = bytes[1..].iter().take_while(|byte| *byte == digit).count();
        let ends = bytes.get(1 + digits).is_none_or(|byte| !byte.is_ascii_digit());
        let fraction = Part::Fraction(char::from(*separator), digits, *digit == b'9');
        return ends.then_some((fraction, digits + 1));
    }
    // `_2006` is an underscore before a year.
    if rest.starts_with("_2006") {
        return Some((Part::Plain(&rest[..1]), 1));
    }
    let field = FIELDS.iter().find(|field| rest.starts_with(**field))?;
    let behind = bytes.get(field.len());
    if matches!(*field, "Jan" | "Mon") && behind.is_some_and(u8::is_ascii_lowercase) {
        return None;
    }
    Some((Part::Field(&rest[..field.len()]), field.len()))
}

/// `moment` in the form of `layout`.
pub(super) fn format(moment: &Moment, layout: &str) -> String {
    let civil = moment.civil();
    let (hour, year) = (civil.hour(), i32::from(civil.year()));
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    for part in parts(layout) {
        // Writing to a string never fails.
        let _ = match part {
            Part::Plain(text) => write!(out, "{text}"),
            Part::Fraction(separator, digits, trimmed) => {
                let fraction = format!("{:09}", civil.subsec_nanosecond());
                let fraction: String =
                    fraction.chars().chain(std::iter::repeat('0')).take(digits).collect();
                let kept = if trimmed { fraction.trim_end_matches('0') } else { &fraction };
                if trimmed && kept.is_empty() {
                    continue;
                }
                write!(out, "{separator}{kept}")
            }
            Part::Field(field) => match field {
                "January" => write!(out, "{}", month_name(civil.month())),
                "Jan" => write!(out, "{}", &month_name(civil.month())[..3]),
                "1" => write!(out, "{}", civil.month()),
                "01" => write!(out, "{:02}", civil.month()),
                "Monday" | "Mon" => {
                    let name = day_name(civil.weekday().to_sunday_zero_offset());
                    write!(out, "{}", if field == "Mon" { &name[..3] } else { name })
                }
                "2" => write!(out, "{}", civil.day()),
                "_2" => write!(out, "{:2}", civil.day()),
                "02" => write!(out, "{:02}", civil.day()),
                "__2" => write!(out, "{:3}", civil.day_of_year()),
                "002" => write!(out, "{:03}", civil.day_of_year()),
                "15" => write!(out, "{hour:02}"),
                "3" => write!(out, "{hour12}"),
                "03" => write!(out, "{hour12:02}"),
                "4" => write!(out, "{}", civil.minute()),
                "04" => write!(out, "{:02}", civil.minute()),
                "5" => write!(out, "{}", civil.second()),
                "05" => write!(out, "{:02}", civil.second()),
                "2006" => write!(out, "{year:04}"),
                "06" => write!(out, "{:02}", year.rem_euclid(100)),
                "PM" => write!(out, "{}", if hour >= 12 { "PM" } else { "AM" }),
                "pm" => write!(out, "{}", if hour >= 12 { "pm" } else { "am" }),
                "MST" if !moment.zone.is_empty() => write!(out, "{}", moment.zone),
                "MST" => {
                    let seconds = moment.offset.seconds();
                    zone(&mut out, seconds, if seconds % 3600 == 0 { "-07" } else { "-0700" });
                    Ok(())
                }
                field if field.starts_with('Z') && moment.offset.seconds() == 0 => {
                    write!(out, "Z")
                }
                field => {
                    zone(&mut out, moment.offset.seconds(), field);
                    Ok(())
                }
            },
        };
    }
    out
}

/// An offset in the form of `field`, whose first letter stands for the sign.
fn zone(out: &mut String, seconds: i32, field: &str) {
    let size = seconds.abs();
    let (hours, minutes, seconds_left) = (size / 3600, size / 60 % 60, size % 60);
    out.push(if seconds < 0 { '-' } else { '+' });
    // Writing to a string never fails.
    let _ = match &field[1..] {
        "07" => write!(out, "{hours:02}"),
        "0700" => write!(out, "{hours:02}{minutes:02}"),
        "070000" => write!(out, "{hours:02}{minutes:02}{seconds_left:02}"),
        "07:00:00" => write!(out, "{hours:02}:{minutes:02}:{seconds_left:02}"),
        _ => write!(out, "{hours:02}:{minutes:02}"),
    };
}

/// The time that `text` tells in the form of `layout`; in `zone` where it names none.
pub(super) fn parse(layout: &str, text: &str, zone: &TimeZone) -> Result<Moment, String> {
    let wrong = |rest: &str, part: &str| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
    };
    let mut rest = text;
    let (mut year, mut month, mut day) = (0i16, 1i8, 1i8);
    let (mut hour, mut minute, mut second, mut nanos) = (0i8, 0i8, 0i8, 0i32);
    let (mut afternoon, mut offset, mut named) = (None, None, None);
    for part in parts(layout) {
        let field = match part {
            Part::Plain(plain) => {
                rest = rest.strip_prefix(plain).ok_or_else(|| wrong(rest, plain))?;
                continue;
            }
            Part::Fraction(..) => {
                let Some(digits) = rest.strip_prefix(['.', ',']) else { continue };
                let count = digits.bytes().take_while(u8::is_ascii_digit).count();
                nanos = nine_digits(&digits[..count]);
                rest = &digits[count..];
                continue;
            }
            Part::Field(field) => field,
        };
        let mut number = |least: usize, most: usize| {
            let trimmed = if field.starts_with('_') { rest.trim_start_matches(' ') } else { rest };
            let count = trimmed.bytes().take(most).take_while(u8::is_ascii_digit).count();
            let number = trimmed[..count].parse::<i16>().ok().filter(|_| count >= least);
            let number = number.ok_or_else(|| wrong(rest, field))?;
            rest = &trimmed[count..];
            Ok::<_, String>(number)
        };
        match field {
            "2006" => year = number(4, 4)?,
            "06" => {
                let short = number(2, 2)?;
                year = if short >= 69 { 1900 + short } else { 2000 + short };
            }
            "01" => month = number(2, 2)? as i8,
            "1" => month = number(1, 2)? as i8,
            "02" => day = number(2, 2)? as i8,
            "2" | "_2" => day = number(1, 2)? as i8,
            "15" | "03" => hour = number(2, 2)? as i8,
            "3" => hour = number(1, 2)? as i8,
            "04" => minute = number(2, 2)? as i8,
            "4" => minute = number(1, 2)? as i8,
            "05" | "5" => {
                second = number(if field == "05" { 2 } else { 1 }, 2)? as i8;
                // A fraction is taken even where the layout has none.
                let digits = rest.strip_prefix(['.', ',']).unwrap_or("");
                let count = digits.bytes().take_while(u8::is_ascii_digit).count();
                if count > 0 && !layout.contains(".0") && !layout.contains(".9") {
                    nanos = nine_digits(&digits[..count]);
                    rest = &digits[count..];
                }
            }
            "January" | "Jan" | "Monday" | "Mon" => {
                let names: &[&str] = if field.starts_with('J') { &MONTHS } else { &DAYS };
                let long = matches!(field, "January" | "Monday");
                let found = names.iter().position(|name| {
                    let name = if long { name } else { &name[..3] };
                    rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                });
                let found = found.ok_or_else(|| wrong(rest, field))?;
                rest = &rest[if long { names[found].len() } else { 3 }..];
                if field.starts_with('J') {
                    month = found as i8 + 1;
                }
            }
            "PM" | "pm" => {
                let half = rest.get(..2).unwrap_or("");
                afternoon = match half.to_ascii_uppercase().as_str() {
                    "PM" => Some(true),
                    "AM" => Some(false),
                    _ => return Err(wrong(rest, field)),
                };
                rest = &rest[2..];
            }
            "MST" => {
                let count = rest.bytes().take_while(u8::is_ascii_uppercase).count();
                if count < 3 {
                    return Err(wrong(rest, field));
                }
                named = Some(rest[..count].to_owned());
                rest = &rest[count..];
            }
            field if field.starts_with('Z') && rest.starts_with('Z') => {
                offset = Some(0);
                rest = &rest[1..];
            }
            field => {
                let form = &field[1..];
                let length = form.len() + 1;
                let shown = rest.get(..length).ok_or_else(|| wrong(rest, field))?;
                let digits: String = shown[1..].chars().filter(char::is_ascii_digit).collect();
                let of = |at: usize| digits.get(at..at + 2).map_or(Ok(0), str::parse::<i32>);
                let (Ok(hours), Ok(minutes), Ok(seconds)) = (of(0), of(2), of(4)) else {
                    return Err(wrong(rest, field));
                };
                let sign = match shown.as_bytes()[0] {
                    b'+' => 1,
                    b'-' => -1,
                    _ => return Err(wrong(rest, field)),
                };
                offset = Some(sign * (hours * 3600 + minutes * 60 + seconds));
                rest = &rest[length..];
            }
        }
    }
    if !rest.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {rest:?}"));
    }
    match afternoon {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let civil = DateTime::new(year, month, day, hour, minute, second, nanos);
    let civil = civil.map_err(|_| format!("parsing time {text:?}: day out of range"))?;
    let out_of_range = |_| format!("parsing time {text:?}: out of range");
    if let Some(seconds) = offset {
        let offset = Offset::from_seconds(seconds).map_err(out_of_range)?;
        let at = offset.to_timestamp(civil).map_err(out_of_range)?;
        let zone = if seconds == 0 { "UTC".to_owned() } else { String::new() };
        return Ok(Moment { at, offset, zone: named.unwrap_or(zone) });
    }
    let zone = if named.as_deref() == Some("UTC") { &TimeZone::UTC } else { zone };
    let at = zone.to_timestamp(civil).map_err(out_of_range)?;
    Ok(Moment::within(at, zone))
}

fn nine_digits(digits: &str) -> i32 {
    let padded: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    padded.parse().unwrap_or(0)
}

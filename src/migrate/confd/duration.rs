//! Lengths of time as Go writes them: `300ms`, `1.5h`, `2h45m`.

use std::time::Duration;

/// Units, the longer names first where one begins with another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Reads `text`; up to a year.
///
/// # Errors
/// Shows the text and the form.
pub(super) fn read(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time; write it like \"2s\" or \"500ms\"");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let unit = UNITS.iter().find(|(name, _)| rest.starts_with(name)).ok_or_else(wrong)?;
        seconds += number * unit.1;
        rest = &rest[unit.0.len()..];
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|length| *length <= Duration::from_secs(365 * 24 * 3600))
        .ok_or_else(|| format!("{text:?} is longer than a year"))
}

/// `length` as our configuration writes it, to the next millisecond upwards.
pub(super) fn written(length: Duration) -> String {
    let milliseconds = length.as_nanos().div_ceil(1_000_000);
    if milliseconds.is_multiple_of(1000) {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Period;

    #[test]
    fn go_s_lengths_of_time_become_ours() {
        for (text, want) in [
            ("2s", "2s"),
            ("500ms", "500ms"),
            ("1.5s", "1500ms"),
            ("1m30s", "90s"),
            ("2h45m", "9900s"),
            ("100us", "1ms"),
            ("1µs", "1ms"),
            ("0", "0s"),
            ("0s", "0s"),
            ("+3s", "3s"),
            (".5s", "500ms"),
        ] {
            let length = read(text).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(written(length), want, "{text}");
            let ours: Period = want.parse().unwrap_or_else(|why| panic!("{want}: {why}"));
            assert!(ours.0 >= length, "{text}");
        }
        for text in ["", "2", "s", "2 s", "-1s", "1x", "1.2.3s", "99999h"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}

//! How large the body of a request may be.

/// Whether `length`, a Content-Length, is beyond `max`. What is no number was refused before.
#[must_use]
pub fn declared_beyond(length: Option<&[u8]>, max: u64) -> bool {
    let digits = length.and_then(|length| std::str::from_utf8(length).ok());
    digits.and_then(|digits| digits.trim().parse::<u64>().ok()).is_some_and(|length| length > max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_beyond_only_when_it_is_greater() {
        for (length, max, beyond) in [
            (None, 0, false),
            (Some("0"), 0, false),
            (Some("1"), 0, true),
            (Some("10"), 10, false),
            (Some("11"), 10, true),
            (Some("999999999999999999"), 10, true),
        ] {
            assert_eq!(declared_beyond(length.map(str::as_bytes), max), beyond, "{length:?}");
        }
    }
}

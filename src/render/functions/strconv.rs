//! Numbers and truth from text, with the errors of Go's `strconv`.

/// What `strconv.ParseBool` takes.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(syntax("ParseBool", text)),
    }
}

/// What `strconv.ParseInt(text, 10, 64)` takes; `name` is the function to name in errors.
pub(super) fn parse_int(name: &str, text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(syntax(name, text));
    }
    text.parse().map_err(|_| range(name, text))
}

/// What `strconv.ParseUint(text, 10, 64)` takes.
pub(super) fn parse_uint(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(syntax("ParseUint", text));
    }
    text.parse().map_err(|_| range("ParseUint", text))
}

/// What `strconv.ParseFloat(text, 64)` takes, hexadecimal forms aside.
pub(super) fn parse_float(text: &str) -> Result<f64, String> {
    let digits: Vec<&str> = text.split('_').collect();
    // An underscore is taken between two digits.
    let digit = |at: Option<u8>| at.is_some_and(|byte| byte.is_ascii_digit());
    let parted =
        digits.windows(2).all(|two| digit(two[0].bytes().last()) && digit(two[1].bytes().next()));
    let number = Some(digits.concat()).filter(|_| parted).and_then(|digits| digits.parse().ok());
    let number: f64 = number.ok_or_else(|| syntax("ParseFloat", text))?;
    if number.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(range("ParseFloat", text));
    }
    Ok(number)
}

/// What `strconv.ParseInt(text, 0, 64)` takes: also `0x`, `0o`, `0b`, a leading zero for octal.
pub(super) fn parse_any_base(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from_str_radix(&digits, base).ok()?;
    i64::try_from(if negative { -number } else { number }).ok()
}

fn syntax(name: &str, text: &str) -> String {
    format!("strconv.{name}: parsing {}: invalid syntax", quoted(text))
}

fn range(name: &str, text: &str) -> String {
    format!("strconv.{name}: parsing {}: value out of range", quoted(text))
}

fn quoted(text: &str) -> String {
    super::super::engine::go::format::quote(text.as_bytes(), false)
}

//! Constants of numbers and characters, read as Go's `strconv` and parser read them.

use super::quote::{Unquoted, quote, unquote_char};

/// A number with every type that its value fits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Number {
    /// As it was written.
    pub(super) text: Box<str>,
    pub(super) int: Option<i64>,
    pub(super) uint: Option<u64>,
    pub(super) float: Option<f64>,
    pub(super) complex: Option<(f64, f64)>,
}

const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

#[allow(clippy::float_cmp, reason = "asks whether a conversion lost anything")]
fn exact_int(float: f64) -> Option<i64> {
    let fits = (-TWO_63..TWO_63).contains(&float);
    fits.then_some(float as i64).filter(|int| *int as f64 == float)
}

#[allow(clippy::float_cmp, reason = "asks whether a conversion lost anything")]
fn exact_uint(float: f64) -> Option<u64> {
    let fits = (0.0..TWO_64).contains(&float);
    fits.then_some(float as u64).filter(|uint| *uint as f64 == float)
}

impl Number {
    fn empty(text: &str) -> Self {
        Self { text: text.into(), int: None, uint: None, float: None, complex: None }
    }

    /// A character between single quotes.
    ///
    /// # Errors
    /// In Go's words.
    pub(super) fn character(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('\'').unwrap_or(text);
        let Some((value, tail)) = unquote_char(inner, '\'') else {
            return Err("invalid syntax".to_owned());
        };
        if tail != "'" {
            return Err(format!("malformed character constant: {text}"));
        }
        let value = match value {
            Unquoted::Char(c) => c as u32,
            Unquoted::Byte(byte) => u32::from(byte),
        };
        Ok(Self {
            int: Some(i64::from(value)),
            uint: Some(u64::from(value)),
            float: Some(f64::from(value)),
            ..Self::empty(text)
        })
    }

    fn of_complex(text: &str, real: f64, imaginary: f64) -> Self {
        let mut number = Self { complex: Some((real, imaginary)), ..Self::empty(text) };
        if imaginary == 0.0 {
            number.float = Some(real);
            number.int = exact_int(real);
            number.uint = exact_uint(real);
        }
        number
    }

    /// A sum like `1+2i`.
    ///
    /// # Errors
    /// In Go's words.
    pub(super) fn complex(text: &str) -> Result<Self, String> {
        let parts = text.strip_suffix('i').and_then(|sum| {
            // The sign between the parts is one that follows no exponent letter.
            let hexadecimal = sum.trim_start_matches(['+', '-']).to_ascii_lowercase();
            let letters = if hexadecimal.starts_with("0x") { *b"pP" } else { *b"eE" };
            let bytes = sum.as_bytes();
            let middle = (1..bytes.len()).find(|at| {
                matches!(bytes[*at], b'+' | b'-') && !letters.contains(&bytes[*at - 1])
            })?;
            Some((parse_float(sum.get(..middle)?)?, parse_float(sum.get(middle..)?)?))
        });
        match parts {
            Some((real, imaginary)) => Ok(Self::of_complex(text, real, imaginary)),
            None => Err("syntax error scanning complex number".to_owned()),
        }
    }

    /// Any other number.
    ///
    /// # Errors
    /// In Go's words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(imaginary) = text.strip_suffix('i').and_then(parse_float) {
            return Ok(Self::of_complex(text, 0.0, imaginary));
        }
        let mut number = Self { uint: parse_uint(text), int: parse_int(text), ..Self::empty(text) };
        if number.int == Some(0) {
            number.uint = Some(0);
        }
        if let Some(int) = number.int {
            number.float = Some(int as f64);
        } else if let Some(uint) = number.uint {
            number.float = Some(uint as f64);
        } else if let Some(float) = parse_float(text) {
            if !text.contains(['.', 'e', 'E', 'p', 'P']) {
                return Err(format!("integer overflow: {}", quote(text.as_bytes())));
            }
            number.float = Some(float);
            number.int = exact_int(float);
            number.uint = exact_uint(float);
        } else {
            return Err(format!("illegal number syntax: {}", quote(text.as_bytes())));
        }
        Ok(number)
    }

    /// Whether it is written as a float: with a point or an exponent.
    pub(super) fn written_as_float(&self) -> bool {
        let text = &*self.text;
        let lower = text.to_ascii_lowercase();
        let hexadecimal = text.len() > 2 && lower.starts_with("0x") && !lower.contains('p');
        !hexadecimal && !text.starts_with('\'') && text.contains(['.', 'e', 'E', 'p', 'P'])
    }
}

/// Whether underscores stand between digits, or between a prefix like `0x` and a digit.
fn underscores_fit(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = text.to_ascii_lowercase();
    let prefixed = ["0b", "0o", "0x"].iter().any(|prefix| lower.starts_with(prefix));
    let digit = |c: u8| c.is_ascii_digit() || lower.starts_with("0x") && (b'a'..=b'f').contains(&c);
    let (skip, mut saw) = if prefixed { (2, b'0') } else { (0, b'^') };
    for c in lower.bytes().skip(skip) {
        saw = match c {
            _ if digit(c) => b'0',
            b'_' if saw == b'0' => b'_',
            b'_' => return false,
            _ if saw == b'_' => return false,
            _ => b'!',
        };
    }
    saw != b'_'
}

/// `strconv.ParseUint` with base 0.
fn parse_uint(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, &*lower),
    };
    if !underscores_fit(text) || digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// `strconv.ParseInt` with base 0.
fn parse_int(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let magnitude = parse_uint(text.strip_prefix(['+', '-']).unwrap_or(text))?;
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() }
}

/// `strconv.ParseFloat`, but for words like `inf`: decimal or hexadecimal.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if text.contains('_') && !underscores_fit(text) {
        return None;
    }
    let digits = digits.replace('_', "").to_ascii_lowercase();
    let value = if let Some(hexadecimal) = digits.strip_prefix("0x") {
        hex_float(hexadecimal)?
    } else {
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        digits.parse().ok()?
    };
    f64::is_finite(value).then_some(if negative { -value } else { value })
}

/// The value of `1.8p3`: digits, a point, an exponent of two that must be there.
fn hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once('p')?;
    if !exponent.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    // Out of bounds either way: no float has such an exponent.
    let beyond = if exponent.starts_with('-') { -100_000 } else { 100_000 };
    let mut exponent: i64 = exponent.parse().unwrap_or(beyond);
    exponent = exponent.clamp(-100_000, 100_000);
    let (mut mantissa, mut sticky, mut fraction, mut any) = (0_u64, false, false, false);
    for c in digits.chars() {
        if c == '.' {
            if fraction {
                return None;
            }
            fraction = true;
            continue;
        }
        let digit = u64::from(c.to_digit(16)?);
        any = true;
        if mantissa >> 58 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= if fraction { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            exponent += if fraction { 0 } else { 4 };
        }
    }
    if !any {
        return None;
    }
    if mantissa == 0 {
        return Some(0.0);
    }
    // To 64 significant bits, then rounded once to what the exponent leaves of 53.
    let shift = mantissa.leading_zeros();
    mantissa <<= shift;
    exponent -= i64::from(shift);
    let top = exponent + 63;
    let keep = if top >= -1022 { 53 } else { 53 - (-1022 - top) };
    if keep < 0 {
        return Some(0.0);
    }
    let drop = 64 - keep as u32;
    let kept = if drop == 64 { 0 } else { mantissa >> drop };
    let rest = if drop == 64 { mantissa } else { mantissa & ((1 << drop) - 1) };
    let half = 1_u64 << (drop - 1);
    let up = rest > half || rest == half && (sticky || kept & 1 == 1);
    let rounded = kept + u64::from(up);
    let mut value = rounded as f64;
    let mut power = exponent + i64::from(drop);
    // Exact: the bits fit already, only the exponent is moved.
    while power > 0 && value.is_finite() {
        let step = power.min(1000) as i32;
        value *= 2_f64.powi(step);
        power -= i64::from(step);
    }
    while power < 0 && value != 0.0 {
        let step = (-power).min(1000) as i32;
        value /= 2_f64.powi(step);
        power += i64::from(step);
    }
    Some(value)
}

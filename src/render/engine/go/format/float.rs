//! Floats as text, by the rules of Go's `strconv.FormatFloat`.

use std::fmt::Write as _;

/// Decimal digits and where the point stands: the value is `0.digits × 10^point`.
struct Decimal {
    digits: Vec<u8>,
    point: i32,
}

impl Decimal {
    /// From the scientific notation of the standard library, which is shortest or exactly rounded.
    fn of(scientific: &str) -> Self {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
        let mut digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let point = if digits.is_empty() { 0 } else { exponent.parse::<i32>().unwrap_or(0) + 1 };
        Self { digits, point }
    }

    fn digit(&self, at: i32) -> char {
        let digit = usize::try_from(at).ok().and_then(|at| self.digits.get(at));
        char::from(digit.copied().unwrap_or(b'0'))
    }
}

/// `value` as `verb` asks: one of `e`, `E`, `f`, `g`, `G`, `b`, `x`, `X`.
///
/// Without a precision the digits are the fewest that tell the value apart; `single` then says that
/// the value is one of 32 bits. An unknown verb gives `%` and the verb, as Go does.
pub(crate) fn format(value: f64, verb: u8, precision: Option<usize>, single: bool) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let mut text = String::new();
    if value.is_sign_negative() {
        text.push('-');
    }
    let size = value.abs();
    match verb {
        b'b' => binary(&mut text, size, single),
        b'x' | b'X' => hexadecimal(&mut text, size, precision, verb == b'X'),
        b'e' | b'E' => {
            let decimal = rounded(size, precision, single);
            let wanted = precision.unwrap_or_else(|| decimal.digits.len().saturating_sub(1));
            exponential(&mut text, &decimal, wanted, verb);
        }
        b'f' => {
            if let Some(precision) = precision {
                // Writing to a string never fails.
                let _ = write!(text, "{size:.precision$}");
            } else {
                let decimal = rounded(size, None, single);
                let wanted = (decimal.digits.len() as i32 - decimal.point).max(0);
                positional(&mut text, &decimal, wanted);
            }
        }
        b'g' | b'G' => {
            let precision = precision.map(|precision| precision.max(1));
            let decimal = rounded(size, precision.map(|precision| precision - 1), single);
            let count = decimal.digits.len() as i32;
            let limit = match precision {
                None => 6,
                Some(wanted) if wanted as i32 > count && count >= decimal.point => count,
                Some(wanted) => wanted as i32,
            };
            let exponent = decimal.point - 1;
            if exponent < -4 || exponent >= limit {
                let wanted = (count - 1).max(0) as usize;
                exponential(&mut text, &decimal, wanted, verb + b'e' - b'g');
            } else {
                positional(&mut text, &decimal, (count - decimal.point).max(0));
            }
        }
        _ => return format!("%{}", char::from(verb)),
    }
    text
}

/// The digits of `size`, shortest or with `precision` digits behind the first.
fn rounded(size: f64, precision: Option<usize>, single: bool) -> Decimal {
    match precision {
        Some(precision) => Decimal::of(&format!("{size:.precision$e}")),
        None if single => Decimal::of(&format!("{:e}", size as f32)),
        None => Decimal::of(&format!("{size:e}")),
    }
}

fn exponential(text: &mut String, decimal: &Decimal, precision: usize, letter: u8) {
    text.push(decimal.digit(0));
    if precision > 0 {
        text.push('.');
        text.extend((1..=precision as i32).map(|at| decimal.digit(at)));
    }
    let exponent = if decimal.digits.is_empty() { 0 } else { decimal.point - 1 };
    let sign = if exponent < 0 { '-' } else { '+' };
    // Writing to a string never fails.
    let _ = write!(text, "{}{sign}{:02}", char::from(letter), exponent.abs());
}

fn positional(text: &mut String, decimal: &Decimal, precision: i32) {
    if decimal.point > 0 {
        text.extend((0..decimal.point).map(|at| decimal.digit(at)));
    } else {
        text.push('0');
    }
    if precision > 0 {
        text.push('.');
        text.extend((0..precision).map(|at| decimal.digit(decimal.point + at)));
    }
}

/// Mantissa and exponent so that the value is `mantissa × 2^exponent`, as 64 bits hold them.
fn parts(size: f64, single: bool) -> (u64, i32) {
    let (bits, width, bias) = if single {
        (u64::from((size as f32).to_bits()), 23, 127)
    } else {
        (size.to_bits(), 52, 1023)
    };
    let fraction = bits & ((1 << width) - 1);
    match (bits >> width) as i32 {
        0 => (fraction, 1 - bias - width),
        exponent => (fraction | 1 << width, exponent - bias - width),
    }
}

fn binary(text: &mut String, size: f64, single: bool) {
    let (mantissa, exponent) = parts(size, single);
    // Writing to a string never fails.
    let _ = write!(text, "{mantissa}p{exponent:+}");
}

/// `0x1.8p+00`: the mantissa between one and two, the exponent with at least two digits.
fn hexadecimal(text: &mut String, size: f64, precision: Option<usize>, upper: bool) {
    let (mut mantissa, mut exponent) = parts(size, false);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // The leading one stands at bit 60, above fifteen hexadecimal digits.
        let shift = mantissa.leading_zeros() as i32 - 3;
        mantissa <<= shift;
        exponent += 60 - shift;
    }
    if let Some(kept) = precision.filter(|kept| *kept < 15) {
        let dropped = 60 - 4 * kept as u32;
        let rest = mantissa & ((1 << dropped) - 1);
        mantissa >>= dropped;
        let half = 1 << (dropped - 1);
        if rest > half || (rest == half && mantissa & 1 == 1) {
            mantissa += 1;
        }
        mantissa <<= dropped;
        if mantissa & (1 << 61) != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut digits = format!("{:015x}", mantissa & ((1 << 60) - 1));
    match precision {
        Some(precision) if precision > digits.len() => {
            digits.extend(std::iter::repeat_n('0', precision - 15));
        }
        Some(precision) => digits.truncate(precision),
        None => digits.truncate(digits.trim_end_matches('0').len()),
    }
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    let size = exponent.abs();
    let shown = format!("0x{}{point}{digits}p{sign}{size:02}", mantissa >> 60);
    text.push_str(&if upper { shown.to_uppercase() } else { shown });
}

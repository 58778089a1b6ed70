//! Texts and numbers of HCL and JSON.

/// A number as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole {
        value: i64,
        /// Written in octal or hexadecimal, with a leading zero.
        based: bool,
    },
    Broken(f64),
}

/// Reads a number; HCL knows bases as C does, JSON does not.
pub(super) fn number(text: &str, json: bool) -> Option<Number> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').filter(|_| !json).unwrap_or(text)),
    };
    let whole = |base, digits| {
        let value = i64::from_str_radix(digits, base).ok()?.checked_mul(sign)?;
        Some(Number::Whole { value, based: base != 10 })
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    if !json {
        if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            return whole(16, hex);
        }
        if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
        {
            return whole(8, digits);
        }
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return whole(10, digits);
    }
    let known = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+');
    let value: f64 = text.bytes().all(known).then(|| text.parse().ok())??;
    value.is_finite().then_some(Number::Broken(value))
}

/// The text up to the closing quote, and its length with that; or what is wrong, and where.
pub(super) type Taken = Result<(String, usize), (usize, String)>;

const OPEN: &str = "this text has no closing quote";

/// A text in quotes as HCL has it, without the opening one. Quotes within `${…}` do not end it.
pub(super) fn quoted(rest: &str) -> Taken {
    let mut out = String::new();
    let mut braces = 0_usize;
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if braces == 0 => return Ok((out, at + 1)),
            '\n' if braces == 0 => {
                let message = "a text in quotes ends on its line; for several lines write <<EOF";
                return Err((at, message.into()));
            }
            '$' if chars.peek().is_some_and(|(_, next)| *next == '{') && braces == 0 => {
                chars.next();
                braces = 1;
                out.push_str("${");
            }
            '{' if braces > 0 => {
                braces += 1;
                out.push(c);
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(c);
            }
            '\\' if braces == 0 => {
                let Some((_, escape)) = chars.next() else { break };
                let digits = match escape {
                    'a' => return_char(&mut out, '\u{7}'),
                    'b' => return_char(&mut out, '\u{8}'),
                    'f' => return_char(&mut out, '\u{c}'),
                    'n' => return_char(&mut out, '\n'),
                    'r' => return_char(&mut out, '\r'),
                    't' => return_char(&mut out, '\t'),
                    'v' => return_char(&mut out, '\u{b}'),
                    '\\' | '"' => return_char(&mut out, escape),
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    other => {
                        return Err((at, format!("`\\{other}` is unknown; write `\\\\{other}`")));
                    }
                };
                if digits > 0 {
                    let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let hex = code.len() == digits && code.bytes().all(|b| b.is_ascii_hexdigit());
                    let c = hex.then(|| u32::from_str_radix(&code, 16).ok()).flatten();
                    let Some(c) = c.and_then(char::from_u32) else {
                        return Err((at, format!("`\\{escape}{code}` is no character")));
                    };
                    out.push(c);
                }
            }
            c => out.push(c),
        }
    }
    Err((0, OPEN.into()))
}

/// No digits follow.
fn return_char(out: &mut String, c: char) -> usize {
    out.push(c);
    0
}

/// A text in quotes as JSON has it (RFC 8259 §7), without the opening one.
pub(super) fn json(rest: &str) -> Taken {
    let mut escaped = false;
    for (at, b) in rest.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let text: Result<String, _> = serde_json::from_str(&format!("\"{}\"", &rest[..at]));
                return text.map(|text| (text, at + 1)).map_err(|error| {
                    let told = error.to_string();
                    let told = told.split(" at line").next().unwrap_or_default().to_owned();
                    let about = error.column().saturating_sub(2).min(at);
                    let place = (0..=about).rev().find(|at| rest.is_char_boundary(*at));
                    (place.unwrap_or(0), told)
                });
            }
            _ => {}
        }
    }
    Err((0, OPEN.into()))
}

/// The text of a heredoc that `rest` begins with, and its length; the line break before the mark
/// that ends it belongs to the text.
pub(super) fn heredoc(rest: &str) -> Result<(String, usize), String> {
    const FORM: &str = "a text of several lines begins with <<EOF and ends with a line EOF";
    let after = rest.strip_prefix("<<").ok_or(FORM)?;
    let (indented, after) = match after.strip_prefix('-') {
        Some(after) => (true, after),
        None => (false, after),
    };
    let (mark, body) = after.split_once('\n').ok_or(FORM)?;
    let mark = mark.trim_end();
    if mark.is_empty() || !mark.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(FORM.into());
    }
    let start = rest.len() - body.len();
    let mut lines = Vec::new();
    let mut at = start;
    for line in body.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if bare.trim_start_matches([' ', '\t']) == mark {
            // What stands behind the mark is read on.
            return Ok((joined(&lines, indented), at + bare.len()));
        }
        lines.push(line);
        at += line.len();
    }
    Err(format!("the line `{mark}` that ends this text is missing"))
}

/// The lines; without the indentation that all of them share when that is asked for.
fn joined(lines: &[&str], indented: bool) -> String {
    if !indented {
        return lines.concat();
    }
    let indent = |line: &&&str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let filled = lines.iter().filter(|line| !line.trim().is_empty());
    let shared = filled.map(|line| indent(&line)).min().unwrap_or(0);
    lines
        .iter()
        .map(|line| {
            if line.trim().is_empty() {
                line.trim_start_matches([' ', '\t'])
            } else {
                &line[shared..]
            }
        })
        .collect()
}

//! Unquoting as Go's `strconv` does it.

use super::format;

/// `"…"` as `strconv.Quote` writes it.
pub(super) fn quote(bytes: &[u8]) -> String {
    format::quote(bytes, false)
}

/// `U+2318 '⌘'`, as `%#U` prints a character.
pub(super) fn unicode_name(c: char) -> String {
    if format::is_printable(c as u32) {
        format!("U+{:04X} '{c}'", c as u32)
    } else {
        format!("U+{:04X}", c as u32)
    }
}

/// The content of a quoted or raw string, as `strconv.Unquote` gives it. `None`: invalid syntax.
pub(super) fn unquote(text: &str) -> Option<Vec<u8>> {
    if let Some(raw) = text.strip_prefix('`') {
        let raw = raw.strip_suffix('`')?;
        return Some(raw.bytes().filter(|byte| *byte != b'\r').collect());
    }
    let mut rest = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let (value, tail) = unquote_char(rest, '"')?;
        match value {
            Unquoted::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unquoted::Byte(byte) => out.push(byte),
        }
        rest = tail;
    }
    Some(out)
}

/// A character of a quoted text, or a byte that an escape gave.
pub(super) enum Unquoted {
    Char(char),
    Byte(u8),
}

/// The first character of `text`, which stands between two `quote`s, and what follows.
pub(super) fn unquote_char(text: &str, quote: char) -> Option<(Unquoted, &str)> {
    let mut chars = text.chars();
    let c = chars.next()?;
    if c == quote || c == '\n' {
        return None;
    }
    if c != '\\' {
        return Some((Unquoted::Char(c), chars.as_str()));
    }
    let c = chars.next()?;
    let simple = match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        '\'' | '"' if c == quote => c,
        'x' | 'u' | 'U' => {
            let count = match c {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let digits = chars.as_str().get(..count)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            let value = u32::from_str_radix(digits, 16).ok()?;
            let rest = chars.as_str().get(count..)?;
            let value = if c == 'x' {
                Unquoted::Byte(u8::try_from(value).ok()?)
            } else {
                Unquoted::Char(char::from_u32(value)?)
            };
            return Some((value, rest));
        }
        '0'..='7' => {
            let rest = chars.as_str();
            let digits = rest.get(..2)?;
            if !digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) {
                return None;
            }
            let value = (c as u32 - '0' as u32) * 64 + u32::from_str_radix(digits, 8).ok()?;
            return Some((Unquoted::Byte(u8::try_from(value).ok()?), rest.get(2..)?));
        }
        _ => return None,
    };
    Some((Unquoted::Char(simple), chars.as_str()))
}

//! Quoted strings and characters, by the rules of Go's `strconv.Quote` and its relatives.

use std::fmt::Write as _;

use super::printable::is_printable;

/// What Go puts in the place of what is no character.
pub(crate) const REPLACEMENT: char = '\u{fffd}';

/// A character, or a byte that belongs to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rune {
    /// A character.
    Char(char),
    /// One byte that is not UTF-8.
    Byte(u8),
}

impl Rune {
    /// How many bytes it takes.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Char(c) => c.len_utf8(),
            Self::Byte(_) => 1,
        }
    }

    /// The character, U+FFFD for a byte that is none.
    pub(crate) const fn char(self) -> char {
        match self {
            Self::Char(c) => c,
            Self::Byte(_) => REPLACEMENT,
        }
    }
}

/// The characters of `bytes`; every byte that is not UTF-8 counts for itself.
pub(crate) fn runes(bytes: &[u8]) -> impl Iterator<Item = Rune> + '_ {
    bytes.utf8_chunks().flat_map(|chunk| {
        let bytes = chunk.invalid().iter().map(|byte| Rune::Byte(*byte));
        chunk.valid().chars().map(Rune::Char).chain(bytes)
    })
}

/// `text` within double quotes, what is not printable escaped; with `ascii` also all that is not
/// ASCII.
pub(crate) fn quote(text: &[u8], ascii: bool) -> String {
    quoted_with(runes(text), '"', ascii)
}

/// The character of number `code` within single quotes; U+FFFD for what is no character.
pub(crate) fn quote_char(code: u64, ascii: bool) -> String {
    quoted_with(std::iter::once(Rune::Char(char_of(code))), '\'', ascii)
}

/// The character of number `code`, U+FFFD when there is none.
pub(crate) fn char_of(code: u64) -> char {
    u32::try_from(code).ok().and_then(char::from_u32).unwrap_or(REPLACEMENT)
}

/// Whether `text` can stand between backquotes: one line, no backquote, no control character but
/// the tab, no byte order mark.
pub(crate) fn can_backquote(text: &[u8]) -> bool {
    runes(text).all(|rune| match rune {
        Rune::Byte(_) => false,
        Rune::Char(c) => c == '\t' || !(c < ' ' || matches!(c, '`' | '\u{7f}' | '\u{feff}')),
    })
}

fn quoted_with(runes: impl Iterator<Item = Rune>, mark: char, ascii: bool) -> String {
    let mut out = String::from(mark);
    for rune in runes {
        // Writing to a string never fails.
        let _ = match rune {
            Rune::Byte(byte) => write!(out, "\\x{byte:02x}"),
            Rune::Char(c) if c == mark || c == '\\' => write!(out, "\\{c}"),
            Rune::Char(c) if is_printable(u32::from(c)) && (!ascii || c.is_ascii()) => {
                out.push(c);
                Ok(())
            }
            Rune::Char(c) => match c {
                '\u{7}' => write!(out, "\\a"),
                '\u{8}' => write!(out, "\\b"),
                '\u{c}' => write!(out, "\\f"),
                '\n' => write!(out, "\\n"),
                '\r' => write!(out, "\\r"),
                '\t' => write!(out, "\\t"),
                '\u{b}' => write!(out, "\\v"),
                c if c < ' ' || c == '\u{7f}' => write!(out, "\\x{:02x}", u32::from(c)),
                c if u32::from(c) < 0x1_0000 => write!(out, "\\u{:04x}", u32::from(c)),
                c => write!(out, "\\U{:08x}", u32::from(c)),
            },
        };
    }
    out.push(mark);
    out
}

//! Numbers with flags, width and precision.

use super::quote::{char_of, quote_char};
use super::{NumberFormat, Printer, float, is_printable};

impl Printer {
    /// An integer by its bits. `false` when `verb` is none for integers; nothing is written then.
    pub(super) fn integer(&mut self, bits: u64, signed: bool, verb: char) -> bool {
        match verb {
            'v' if self.flags.source && !signed => self.address(bits, true),
            'v' | 'd' => self.based(bits, 10, signed, verb),
            'b' => self.based(bits, 2, signed, verb),
            'o' | 'O' => self.based(bits, 8, signed, verb),
            'x' | 'X' => self.based(bits, 16, signed, verb),
            'c' => self.pad(char_of(bits).encode_utf8(&mut [0; 4]).as_bytes()),
            'q' => {
                let quoted = quote_char(bits, self.flags.plus);
                self.pad(quoted.as_bytes());
            }
            'U' => self.code_point(bits),
            _ => return false,
        }
        true
    }

    /// `bits` in hexadecimal, with `0x` or without whatever the flag says.
    pub(super) fn address(&mut self, bits: u64, prefixed: bool) {
        let sharp = std::mem::replace(&mut self.flags.sharp, prefixed);
        self.based(bits, 16, false, 'v');
        self.flags.sharp = sharp;
    }

    fn based(&mut self, bits: u64, base: u64, signed: bool, verb: char) {
        let negative = signed && (bits as i64) < 0;
        let mut rest = if negative { bits.wrapping_neg() } else { bits };
        let flags = self.flags;
        if flags.precision == Some(0) && rest == 0 {
            // No digit at all; what fills up is spaces.
            let zero = std::mem::take(&mut self.flags.zero);
            self.fill(flags.width.unwrap_or(0));
            self.flags.zero = zero;
            return;
        }
        let signs = usize::from(negative || flags.plus || flags.space);
        let digits_min = match (flags.precision, flags.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero && !flags.minus => width.saturating_sub(signs),
            _ => 0,
        };
        if digits_min > self.max {
            self.full = true;
            return;
        }
        // From the last digit to the first.
        let letters: &[u8; 16] =
            if verb == 'X' { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        let mut text = Vec::with_capacity(digits_min.max(24));
        loop {
            text.push(letters[(rest % base) as usize]);
            rest /= base;
            if rest == 0 {
                break;
            }
        }
        while text.len() < digits_min {
            text.push(b'0');
        }
        match base {
            2 if flags.sharp => text.extend(b"b0"),
            8 if flags.sharp && text.last() != Some(&b'0') => text.push(b'0'),
            16 if flags.sharp => text.extend([if verb == 'X' { b'X' } else { b'x' }, b'0']),
            _ => {}
        }
        if verb == 'O' {
            text.extend(b"o0");
        }
        if negative {
            text.push(b'-');
        } else if flags.plus {
            text.push(b'+');
        } else if flags.space {
            text.push(b' ');
        }
        text.reverse();
        self.pad_with_spaces(&text);
    }

    /// `U+0078`, with the sharp flag also the character.
    fn code_point(&mut self, bits: u64) {
        let digits = self.flags.precision.unwrap_or(4).max(4);
        if digits > self.max {
            self.full = true;
            return;
        }
        let mut text = format!("U+{bits:0digits$X}");
        let shown = u32::try_from(bits).ok().filter(|code| is_printable(*code));
        if let Some(c) = shown.and_then(char::from_u32).filter(|_| self.flags.sharp) {
            text.extend([' ', '\'', c, '\'']);
        }
        self.pad_with_spaces(text.as_bytes());
    }

    /// A float. `false` when `verb` is none for floats; nothing is written then.
    pub(super) fn float(&mut self, value: f64, single: bool, verb: char) -> bool {
        let (letter, default) = match verb {
            'v' if self.numbers == NumberFormat::Plain => (b'f', None),
            'v' => (b'g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => (verb as u8, None),
            'e' | 'E' => (verb as u8, Some(6)),
            'f' | 'F' => (b'f', Some(6)),
            _ => return false,
        };
        let precision = self.flags.precision.or(default);
        if precision.is_some_and(|precision| precision > self.max) {
            self.full = true;
            return true;
        }
        // Without an own sign it begins with one of ours, so that the sign is always there.
        let mut text = float::format(value, letter, precision, single).into_bytes();
        if !matches!(text.first(), Some(b'-' | b'+')) {
            text.insert(0, b'+');
        }
        let flags = self.flags;
        if flags.space && text[0] == b'+' && !flags.plus {
            text[0] = b' ';
        }
        if !value.is_finite() {
            // Infinity keeps its sign, what is no number loses the one that was put before it.
            let signless = value.is_nan() && !flags.plus && !flags.space;
            self.pad_with_spaces(&text[usize::from(signless)..]);
            return true;
        }
        if flags.sharp && letter != b'b' {
            text = with_point(&text, letter, precision);
        }
        if flags.plus || text[0] != b'+' {
            let width = flags.width.unwrap_or(0);
            if flags.zero && !flags.minus && width > text.len() {
                // The sign stands in front of the zeros.
                self.write(&text[..1]);
                self.fill(width - text.len());
                self.write(&text[1..]);
            } else {
                self.pad(&text);
            }
        } else {
            self.pad(&text[1..]);
        }
        true
    }

    /// A complex number. `false` when `verb` is none for floats; nothing is written then.
    pub(super) fn complex(&mut self, real: f64, imaginary: f64, verb: char) -> bool {
        if !matches!(verb, 'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E') {
            return false;
        }
        self.write(b"(");
        self.float(real, false, verb);
        let plus = std::mem::replace(&mut self.flags.plus, true);
        self.float(imaginary, false, verb);
        self.flags.plus = plus;
        self.write(b"i)");
        true
    }
}

/// With a decimal point in any case, and for `%g` and `%x` with the zeros behind it.
fn with_point(text: &[u8], letter: u8, precision: Option<usize>) -> Vec<u8> {
    let exponent = match letter {
        b'x' | b'X' => text.iter().position(|byte| matches!(byte, b'p' | b'P')),
        _ => text.iter().position(|byte| matches!(byte, b'e' | b'E')),
    };
    let (number, tail) = text.split_at(exponent.unwrap_or(text.len()));
    let mut missing = match letter {
        b'g' | b'G' | b'x' => precision.map_or(6, |precision| precision as i64),
        _ => 0,
    };
    let mut significant = false;
    for byte in number[1..].iter().filter(|byte| **byte != b'.') {
        significant |= *byte != b'0';
        missing -= i64::from(significant);
    }
    let mut out = number.to_vec();
    if !number.contains(&b'.') {
        if number[1..] == *b"0" {
            missing -= 1;
        }
        out.push(b'.');
    }
    out.extend((0..missing).map(|_| b'0'));
    out.extend_from_slice(tail);
    out
}

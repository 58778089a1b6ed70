//! The format string: flags, argument indexes, width, precision, verb.

use super::super::value::Value;
use super::quote::runes;
use super::{Flags, Printer};

/// Widths, precisions and indexes beyond this are refused.
const NUMBER_MAX: i64 = 1_000_000;

/// Where in the format and in the arguments we are.
struct State<'a> {
    format: &'a [u8],
    at: usize,
    args: &'a [Value],
    next: usize,
    /// An index was used: arguments left over are no mistake then.
    reordered: bool,
    /// The index of the present verb was in order.
    good: bool,
}

impl State<'_> {
    fn byte(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    /// A decimal number at the present place; none, and the rest is skipped, when it is too large.
    fn number(&mut self, end: usize) -> Option<i64> {
        let mut number = None;
        while self.at < end {
            let Some(digit) = self.byte().filter(u8::is_ascii_digit) else { break };
            let before = number.unwrap_or(0);
            if before > NUMBER_MAX {
                self.at = end;
                return None;
            }
            number = Some(before * 10 + i64::from(digit - b'0'));
            self.at += 1;
        }
        number
    }

    /// `[n]` at the present place, if there is one. Returns whether the next argument is the one
    /// that it tells, or would be if there were so many.
    fn index(&mut self) -> bool {
        if self.byte() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let start = self.at;
        let close = self.format[start..].iter().position(|byte| *byte == b']');
        let Some(close) = close.filter(|_| self.format.len() - start >= 3).map(|at| start + at)
        else {
            self.good = false;
            self.at += 1;
            return false;
        };
        self.at += 1;
        let number = self.number(close).filter(|_| self.at == close);
        self.at = close + 1;
        let Some(number) = number else {
            self.good = false;
            return false;
        };
        match usize::try_from(number - 1) {
            Ok(index) if index < self.args.len() => self.next = index,
            _ => self.good = false,
        }
        true
    }

    /// The next argument as a width or precision; takes it whatever it is.
    fn number_of_argument(&mut self) -> Option<i64> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        let number = match arg.plain() {
            Value::Int(number, _) => Some(number),
            Value::Uint(number, _) => i64::try_from(number).ok(),
            _ => None,
        };
        number.filter(|number| (-NUMBER_MAX..=NUMBER_MAX).contains(number))
    }
}

impl Printer {
    /// Writes all of `format`.
    pub(super) fn run(&mut self, format: &[u8], args: &[Value]) {
        let mut state = State { format, at: 0, args, next: 0, reordered: false, good: true };
        while !self.full {
            let rest = &format[state.at..];
            let plain = rest.iter().position(|byte| *byte == b'%').unwrap_or(rest.len());
            self.write(&rest[..plain]);
            state.at += plain + 1;
            if state.at > format.len() {
                break;
            }
            self.directive(&mut state);
        }
        if !state.reordered && state.next < args.len() {
            self.flags = Flags::default();
            self.write(b"%!(EXTRA ");
            for (index, arg) in args[state.next..].iter().enumerate() {
                if index > 0 {
                    self.write(b", ");
                }
                if let Some(of) = arg.type_of() {
                    self.write(format!("{of}=").as_bytes());
                    self.argument(arg, 'v');
                } else {
                    self.write(b"<nil>");
                }
            }
            self.write(b")");
        }
    }

    /// One `%…` of the format; the percent sign is behind us.
    fn directive(&mut self, state: &mut State<'_>) {
        state.good = true;
        self.flags = Flags::default();
        while let Some(byte) = state.byte() {
            match byte {
                b'#' => self.flags.sharp = true,
                b'0' => self.flags.zero = true,
                b'+' => self.flags.plus = true,
                b'-' => self.flags.minus = true,
                b' ' => self.flags.space = true,
                _ => break,
            }
            state.at += 1;
        }
        let mut indexed = state.index();
        if state.byte() == Some(b'*') {
            state.at += 1;
            match state.number_of_argument() {
                Some(width) => {
                    if width < 0 {
                        self.flags.minus = true;
                        self.flags.zero = false;
                    }
                    self.flags.width = Some(width.unsigned_abs() as usize);
                }
                None => self.write(b"%!(BADWIDTH)"),
            }
            indexed = false;
        } else {
            let width = state.number(state.format.len());
            if indexed && width.is_some() {
                state.good = false;
            }
            self.flags.width = width.map(|width| width as usize);
        }
        if state.byte() == Some(b'.') && state.at + 1 < state.format.len() {
            state.at += 1;
            if indexed {
                state.good = false;
            }
            indexed = state.index();
            if state.byte() == Some(b'*') {
                state.at += 1;
                let precision = state.number_of_argument().and_then(|p| usize::try_from(p).ok());
                if precision.is_none() {
                    self.write(b"%!(BADPREC)");
                }
                self.flags.precision = precision;
                indexed = false;
            } else {
                let precision = state.number(state.format.len()).unwrap_or(0);
                self.flags.precision = Some(precision as usize);
            }
        }
        if !indexed {
            state.index();
        }
        let rest = state.format.get(state.at..).unwrap_or_default();
        let Some(verb) = runes(rest).next() else {
            self.write(b"%!(NOVERB)");
            return;
        };
        state.at += verb.width();
        let verb = verb.char();
        if verb == '%' {
            self.write(b"%");
        } else if !state.good {
            self.write(format!("%!{verb}(BADINDEX)").as_bytes());
        } else if let Some(arg) = state.args.get(state.next) {
            if matches!(verb, 'v' | 'w') {
                self.flags.source = std::mem::take(&mut self.flags.sharp);
                self.flags.fields = std::mem::take(&mut self.flags.plus);
            }
            self.argument(arg, verb);
            state.next += 1;
        } else {
            self.write(format!("%!{verb}(MISSING)").as_bytes());
        }
    }
}

//! Go's `fmt` over template values: `print`, `println`, `printf` with every verb, flag, width,
//! precision, argument index and every `%!` form of Go 1.27.
//!
//! Addresses differ from run to run in Go; here everything that has one shows `0xc000000000`, so
//! that the same data give the same file.

mod float;
mod number;
mod printable;
mod printf;
mod quote;
mod text;
mod value;

pub(crate) use float::format as format_float;
pub(crate) use printable::is_printable;
pub(crate) use quote::{quote, runes};

use serde::Deserialize;

use super::value::Value;

/// How floats are printed when no verb says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberFormat {
    /// As Go does: from seven digits in front of the point on with an exponent (`2.592e+06`).
    #[default]
    Go,
    /// Always all digits and never an exponent (`2592000`).
    Plain,
}

/// More output than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("gives more than {max} bytes")]
pub struct TooLarge {
    /// What was allowed.
    pub max: usize,
}

/// Prints `args` one after another, a space between two that are no strings (`fmt.Sprint`).
pub fn print(args: &[Value], numbers: NumberFormat, max: usize) -> Result<Vec<u8>, TooLarge> {
    let mut printer = Printer::new(numbers, max);
    let mut before_string = true;
    for (index, arg) in args.iter().enumerate() {
        let string = matches!(arg.plain(), Value::String(_));
        if index > 0 && !string && !before_string {
            printer.out.push(b' ');
        }
        printer.argument(arg, 'v');
        before_string = string;
    }
    printer.end()
}

/// Prints `args` with a space between any two and the end of the line behind them
/// (`fmt.Sprintln`).
pub fn println(args: &[Value], numbers: NumberFormat, max: usize) -> Result<Vec<u8>, TooLarge> {
    let mut printer = Printer::new(numbers, max);
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            printer.out.push(b' ');
        }
        printer.argument(arg, 'v');
    }
    printer.out.push(b'\n');
    printer.end()
}

/// Prints `args` as `format` says (`fmt.Sprintf`).
pub fn printf(
    format: &[u8],
    args: &[Value],
    numbers: NumberFormat,
    max: usize,
) -> Result<Vec<u8>, TooLarge> {
    let mut printer = Printer::new(numbers, max);
    printer.run(format, args);
    printer.end()
}

/// What stands between the percent sign and the verb.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v`: names of fields.
    fields: bool,
    /// `%#v`: as Go source.
    source: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Output and the state of the verb that is at work.
struct Printer {
    out: Vec<u8>,
    flags: Flags,
    numbers: NumberFormat,
    max: usize,
    /// Within a `%!v(…)`: what a value says of itself does not count.
    erring: bool,
    /// Output went beyond `max`; nothing more is written.
    full: bool,
}

impl Printer {
    fn new(numbers: NumberFormat, max: usize) -> Self {
        let flags = Flags::default();
        Self { out: Vec::new(), flags, numbers, max, erring: false, full: false }
    }

    fn end(self) -> Result<Vec<u8>, TooLarge> {
        if self.full || self.out.len() > self.max {
            return Err(TooLarge { max: self.max });
        }
        Ok(self.out)
    }

    /// Writes `bytes`, or notes that there is no more room.
    fn write(&mut self, bytes: &[u8]) {
        if self.out.len() + bytes.len() > self.max {
            self.full = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    fn write_char(&mut self, c: char) {
        self.write(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// `count` times what fills up on the left: zeros if asked for, else spaces.
    fn fill(&mut self, count: usize) {
        let byte = if self.flags.zero && !self.flags.minus { b'0' } else { b' ' };
        if self.out.len() + count > self.max {
            self.full = true;
        } else {
            self.out.resize(self.out.len() + count, byte);
        }
    }

    /// Writes `bytes` filled up to the width, which counts characters.
    fn pad(&mut self, bytes: &[u8]) {
        let width = self.flags.width.unwrap_or(0);
        let missing = if width == 0 { 0 } else { width.saturating_sub(runes(bytes).count()) };
        if self.flags.minus {
            self.write(bytes);
            self.fill(missing);
        } else {
            self.fill(missing);
            self.write(bytes);
        }
    }

    /// As [`Printer::pad`], but never with zeros.
    fn pad_with_spaces(&mut self, bytes: &[u8]) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(bytes);
        self.flags.zero = zero;
    }
}

#[cfg(test)]
pub(crate) mod cases;

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;

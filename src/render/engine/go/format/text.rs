//! Strings with flags, width and precision.

use super::Printer;
use super::quote::{Rune, can_backquote, quote, runes};

impl Printer {
    /// A string. `false` when `verb` is none for strings; nothing is written then.
    pub(super) fn string(&mut self, text: &[u8], verb: char) -> bool {
        match verb {
            'v' if self.flags.source => self.quoted(text),
            'v' | 's' => {
                let text = self.cut(text);
                self.pad(text);
            }
            'x' | 'X' => self.bytes_in_hex(text, verb == 'X'),
            'q' => self.quoted(text),
            _ => return false,
        }
        true
    }

    /// As many characters of `text` as the precision allows.
    fn cut<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        match self.flags.precision {
            Some(most) => &text[..runes(text).take(most).map(Rune::width).sum()],
            None => text,
        }
    }

    pub(super) fn quoted(&mut self, text: &[u8]) {
        let text = self.cut(text);
        if self.flags.sharp && can_backquote(text) {
            let quoted = [b"`", text, b"`"].concat();
            self.pad(&quoted);
        } else {
            let quoted = quote(text, self.flags.plus);
            self.pad(quoted.as_bytes());
        }
    }

    /// Two digits for each byte; with the space flag apart, with the sharp flag with `0x`.
    fn bytes_in_hex(&mut self, bytes: &[u8], upper: bool) {
        let most = self.flags.precision.unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(most)];
        let (space, sharp) = (self.flags.space, self.flags.sharp);
        let letters: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        let mut text = Vec::with_capacity(bytes.len() * 2 + 2);
        for (index, byte) in bytes.iter().enumerate() {
            if space && index > 0 {
                text.push(b' ');
            }
            if sharp && (space || index == 0) {
                text.extend([b'0', if upper { b'X' } else { b'x' }]);
            }
            text.extend([letters[usize::from(byte >> 4)], letters[usize::from(byte & 15)]]);
        }
        self.pad(&text);
    }
}

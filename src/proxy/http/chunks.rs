//! Where a chunked body ends, told strictly (RFC 9112 §7.1). Pure: bytes in, position out.
//!
//! The full lane's library reads chunks leniently. Every byte that it is given has passed here
//! first, so that a body with two meanings never reaches an endpoint as a complete request, and
//! what follows the body is known to belong to the next request.

/// Digits of a chunk's size; 15 hexadecimal digits can't overflow.
const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of one chunk extension, and of all trailers together.
const EXTRA_MAX: u16 = 4096;

/// Follows a chunked body through any number of pieces.
#[derive(Debug, Clone, Copy)]
pub struct Chunks {
    state: State,
    left: u64,
    digits: u8,
    extra: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// The body breaks a rule that somebody behind us might not enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadChunk;

impl Chunks {
    /// At the start of a body.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Size, left: 0, digits: 0, extra: 0 }
    }

    /// Whether the last byte of the body has been seen.
    #[must_use]
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// How many of `bytes` belong to the body: all of them, or fewer when it ends here.
    ///
    /// # Errors
    /// The body is not well-formed; what was told before stands.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let rest = (bytes.len() - at) as u64;
                let taken = self.left.min(rest);
                self.left -= taken;
                at += taken as usize;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.digits += 1;
                if self.digits > SIZE_DIGITS_MAX {
                    return Err(BadChunk);
                }
                self.left = self.left * 16 + u64::from(digit);
                Ok(State::Size)
            }
            (State::Size, b'\r') if self.digits > 0 => Ok(State::SizeLf),
            (State::Size, b';') if self.digits > 0 => Ok(State::Extension),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extra(State::Extension),
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                if self.left == 0 {
                    self.extra = 0;
                    Ok(State::TrailerStart)
                } else {
                    Ok(State::Data)
                }
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.extra = 0;
                Ok(State::Size)
            }
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart, b'!'..=b'~') | (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extra(State::Trailer)
            }
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            _ => Err(BadChunk),
        }
    }

    fn extra(&mut self, next: State) -> Result<State, BadChunk> {
        self.extra += 1;
        if self.extra > EXTRA_MAX { Err(BadChunk) } else { Ok(next) }
    }
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn follow(bytes: &[u8], piece: usize) -> Result<(usize, bool), BadChunk> {
        let mut chunks = Chunks::new();
        let mut taken = 0;
        for part in bytes.chunks(piece) {
            let n = chunks.advance(part)?;
            taken += n;
            if n < part.len() {
                break;
            }
        }
        Ok((taken, chunks.done()))
    }

    #[test]
    fn a_body_ends_where_it_ends_and_what_follows_is_left() {
        for (case, body, after) in [
            ("empty", "0\r\n\r\n", "GET /"),
            ("two chunks", "3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", "next"),
            ("trailers", "1\r\na\r\n0\r\nX: y\r\nZ: 1\r\n\r\n", ""),
        ] {
            let bytes = [body, after].concat();
            for piece in 1..=bytes.len() {
                let got = follow(bytes.as_bytes(), piece);
                assert_eq!(got, Ok((body.len(), true)), "{case} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_body_that_servers_read_differently_is_refused() {
        for (case, body) in [
            ("negative size", "-1\r\n"),
            ("hexadecimal prefix", "0x2\r\nab\r\n"),
            ("overflow", "FFFFFFFFFFFFFFFFF\r\n"),
            ("size line ends with lf", "2\nab\r\n"),
            ("lf in an extension", "2;\nxx\r\nab\r\n"),
            ("no terminator", "2\r\nabXX"),
            ("lf terminator", "2\r\nab\n"),
            ("no digits", "\r\n"),
            ("space before the size", " 2\r\nab\r\n"),
            ("space after the size", "2 \r\nab\r\n"),
            ("trailer line ends with lf", "0\r\nX: y\n\r\n"),
            ("folded trailer", "0\r\n X: y\r\n\r\n"),
        ] {
            assert_eq!(follow(body.as_bytes(), 64), Err(BadChunk), "{case}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_answer(
            bytes in prop::collection::vec(
                prop::sample::select(b"0123aF;\r\n x:".to_vec()), 0..60),
            piece in 1..9usize,
        ) {
            prop_assert_eq!(follow(&bytes, piece).map_err(|_| ()), follow(&bytes, 64).map_err(|_| ()));
        }
    }
}

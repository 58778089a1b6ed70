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
    trailers: Trailers,
}

/// What becomes of trailers, which the library behind the full lane does not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailers {
    /// A body that has any is refused.
    Refused,
    /// They may come; they are lost on the way.
    Dropped,
    /// As before, and some came.
    Seen,
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
pub enum BadChunk {
    /// It is not made of chunks as they have to be.
    Malformed,
    /// It has trailers where they are refused.
    Trailers,
}

impl Chunks {
    /// At the start of a body.
    #[must_use]
    pub const fn new(trailers: Trailers) -> Self {
        Self { state: State::Size, left: 0, digits: 0, extra: 0, trailers }
    }

    /// Whether trailers came that are lost.
    #[must_use]
    pub fn lost_trailers(&self) -> bool {
        self.trailers == Trailers::Seen
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
                    return Err(BadChunk::Malformed);
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
            (State::TrailerStart, b'!'..=b'~') if self.trailers == Trailers::Refused => {
                Err(BadChunk::Trailers)
            }
            (State::TrailerStart, b'!'..=b'~') => {
                self.trailers = Trailers::Seen;
                self.extra(State::Trailer)
            }
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => self.extra(State::Trailer),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            _ => Err(BadChunk::Malformed),
        }
    }

    fn extra(&mut self, next: State) -> Result<State, BadChunk> {
        self.extra += 1;
        if self.extra > EXTRA_MAX { Err(BadChunk::Malformed) } else { Ok(next) }
    }
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;

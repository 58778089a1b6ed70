//! Cuts the objects of one list out of a JSON body while it arrives, so that no whole body is ever
//! in memory. Pure.
//!
//! An object that lies within one chunk is handed on without a copy; one that does not is gathered,
//! up to a limit. Between the objects the syntax is checked strictly (RFC 8259); what is inside
//! them is left to whoever reads them.

use memchr::memchr2;

use super::broken::Broken;

/// Deepest nesting inside an object. Marathon's own stay below 12.
const DEPTH_MAX: u32 = 64;
/// Longest key of the outermost object that is looked at.
const KEY_MAX: usize = 64;

/// One object of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element<'a> {
    /// All of its bytes.
    Whole(&'a [u8]),
    /// It is longer than the limit: its beginning.
    TooLong(&'a [u8]),
    /// It is nested too deeply: its beginning.
    TooDeep(&'a [u8]),
}

/// Cuts one body.
#[derive(Debug)]
pub(super) struct Splitter {
    /// What is read, for errors.
    what: &'static str,
    /// The key of the outermost object under which the list (or the one object) stands.
    key: &'static str,
    /// Most bytes of one object.
    max: usize,
    at: At,
    /// Depth below the object or value that is being passed; within it.
    depth: u32,
    text: InText,
    /// What a chunk began and did not end.
    kept: Vec<u8>,
    /// The object is longer, or nested more deeply, than allowed.
    refused: Option<Refused>,
    bytes: u64,
}

/// What surrounds the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing was read.
    Start,
    /// In the outermost object, before a key; `first`: an end is fine too.
    Key { first: bool },
    /// In a key.
    InKey,
    /// Behind a key.
    Colon,
    /// Before a value; whether it is the one that is wanted.
    Value { wanted: bool },
    /// In a value that nobody wants.
    Passing,
    /// Behind a value of the outermost object.
    Comma,
    /// In the list, before an object; `first`: an end is fine too.
    Next { first: bool, bare: bool },
    /// In an object; whether the list, or the single one, is the whole body.
    Inside(Within),
    /// In the list, behind an object.
    Behind { bare: bool },
    /// Behind the end; only white space may follow.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// An object of a list; `bare`: the body is that list.
    List { bare: bool },
    /// The value of the key itself.
    Single,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InText {
    No,
    Yes,
    /// Behind a backslash.
    Escaped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Long,
    Deep,
}

impl Splitter {
    /// Reads a body that is an object with the list (or the one object) under `key`, or the list
    /// alone. `what` stands in errors; no object may have more than `max` bytes.
    pub(super) const fn new(what: &'static str, key: &'static str, max: usize) -> Self {
        Self {
            what,
            key,
            max,
            at: At::Start,
            depth: 0,
            text: InText::No,
            kept: Vec::new(),
            refused: None,
            bytes: 0,
        }
    }

    /// Hands every object that ends in `chunk` to `found`, in their order.
    ///
    /// # Errors
    /// When this is no such body; nothing may be fed after that.
    pub(super) fn feed(
        &mut self,
        chunk: &[u8],
        mut found: impl FnMut(Element<'_>),
    ) -> Result<(), Broken> {
        let mut at = 0;
        while at < chunk.len() {
            match self.at {
                At::Inside(within) => at = self.inside(chunk, at, within, &mut found),
                At::Passing => at = self.passing(chunk, at),
                At::InKey => at = self.in_key(chunk, at),
                _ => {
                    self.outside(chunk[at], at)?;
                    // The first byte of what is passed over belongs to it.
                    if !matches!(self.at, At::Inside(_) | At::Passing) {
                        at += 1;
                    }
                }
            }
        }
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Whether the body was whole.
    ///
    /// # Errors
    /// When it was cut.
    pub(super) const fn end(&self) -> Result<(), Broken> {
        match self.at {
            At::End => Ok(()),
            _ => Err(Broken::Cut { what: self.what, bytes: self.bytes }),
        }
    }

    /// One byte outside of all objects and of all that is passed over.
    fn outside(&mut self, byte: u8, at: usize) -> Result<(), Broken> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return Ok(());
        }
        self.at = match (self.at, byte) {
            (At::Start, b'{') => At::Key { first: true },
            (At::Start, b'[') => At::Next { first: true, bare: true },
            (At::Key { .. }, b'"') => {
                self.kept.clear();
                self.text = InText::Yes;
                At::InKey
            }
            (At::Key { first: true } | At::Comma, b'}') => At::End,
            (At::Colon, b':') => At::Value { wanted: *self.kept == *self.key.as_bytes() },
            (At::Value { wanted: true }, b'[') => At::Next { first: true, bare: false },
            (At::Value { wanted: true }, b'{') => self.begin(Within::Single),
            (At::Value { .. }, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z') => {
                self.depth = 0;
                self.text = InText::No;
                At::Passing
            }
            (At::Comma, b',') => At::Key { first: false },
            (At::Next { bare, .. }, b'{') => self.begin(Within::List { bare }),
            (At::Next { first: true, bare } | At::Behind { bare }, b']') => after_list(bare),
            (At::Behind { bare }, b',') => At::Next { first: false, bare },
            (_, byte) => {
                let place = self.bytes + at as u64;
                let why = format!("{:?} does not fit at byte {place}", char::from(byte));
                return Err(Broken::Shape { what: self.what, why });
            }
        };
        Ok(())
    }

    fn begin(&mut self, within: Within) -> At {
        self.kept.clear();
        self.depth = 0;
        self.text = InText::No;
        self.refused = None;
        At::Inside(within)
    }

    /// Passes over an object, from `from`; returns where it is left.
    fn inside(
        &mut self,
        chunk: &[u8],
        from: usize,
        within: Within,
        found: &mut impl FnMut(Element<'_>),
    ) -> usize {
        let (to, ended) = self.pass(chunk, from);
        if self.depth > DEPTH_MAX || self.refused == Some(Refused::Deep) {
            self.refused = Some(Refused::Deep);
        }
        let part = &chunk[from..to];
        let whole = if self.kept.is_empty() && ended && part.len() <= self.max {
            part
        } else {
            let room = self.max.saturating_sub(self.kept.len());
            if part.len() > room {
                self.refused.get_or_insert(Refused::Long);
            }
            self.kept.extend_from_slice(&part[..part.len().min(room)]);
            &self.kept
        };
        if ended {
            found(match self.refused {
                None => Element::Whole(whole),
                Some(Refused::Long) => Element::TooLong(whole),
                Some(Refused::Deep) => Element::TooDeep(whole),
            });
            self.kept.clear();
            self.at = match within {
                Within::List { bare } => At::Behind { bare },
                Within::Single => At::Comma,
            };
        }
        to
    }

    /// Passes over a value that nobody wants, from `from`; returns where it is left.
    fn passing(&mut self, chunk: &[u8], from: usize) -> usize {
        if self.depth == 0 && self.text == InText::No && !matches!(chunk[from], b'{' | b'[' | b'"')
        {
            // A number, `true`, `false` or `null`.
            let word = |byte: &u8| {
                matches!(byte, b'+' | b'-' | b'.' | b'E')
                    || byte.is_ascii_digit()
                    || byte.is_ascii_lowercase()
            };
            let len = chunk[from..].iter().take_while(|byte| word(byte)).count();
            if from + len < chunk.len() {
                self.at = At::Comma;
            }
            return from + len;
        }
        let (to, ended) = self.pass(chunk, from);
        if ended {
            self.at = At::Comma;
        }
        to
    }

    /// Goes on to the end of the object, list or text that was begun; returns where it is left,
    /// and whether that is its end.
    fn pass(&mut self, chunk: &[u8], mut at: usize) -> (usize, bool) {
        while at < chunk.len() {
            match self.text {
                InText::Escaped => {
                    self.text = InText::Yes;
                    at += 1;
                }
                InText::Yes => match memchr2(b'"', b'\\', &chunk[at..]) {
                    None => return (chunk.len(), false),
                    Some(offset) => {
                        at += offset + 1;
                        self.text =
                            if chunk[at - 1] == b'"' { InText::No } else { InText::Escaped };
                        if self.text == InText::No && self.depth == 0 {
                            return (at, true);
                        }
                    }
                },
                InText::No => {
                    let rest = &chunk[at..];
                    let Some(offset) = rest.iter().position(|byte| BRACKET[usize::from(*byte)])
                    else {
                        return (chunk.len(), false);
                    };
                    at += offset + 1;
                    match rest[offset] {
                        b'"' => self.text = InText::Yes,
                        b'{' | b'[' => {
                            self.depth = self.depth.saturating_add(1);
                            if self.depth > DEPTH_MAX {
                                self.refused = Some(Refused::Deep);
                            }
                        }
                        _ => {
                            self.depth = self.depth.saturating_sub(1);
                            if self.depth == 0 {
                                return (at, true);
                            }
                        }
                    }
                }
            }
        }
        (at, false)
    }

    /// Reads a key, from `from`; returns where it is left.
    fn in_key(&mut self, chunk: &[u8], from: usize) -> usize {
        self.depth = 0;
        let (to, ended) = self.pass(chunk, from);
        let part = &chunk[from..to - usize::from(ended)];
        // A longer one is none that is wanted; one more byte tells it apart.
        let room = (KEY_MAX + 1).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&part[..part.len().min(room)]);
        if ended {
            self.at = At::Colon;
        }
        to
    }
}

const fn after_list(bare: bool) -> At {
    if bare { At::End } else { At::Comma }
}

/// The bytes that matter outside of texts.
const BRACKET: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;

//! A Go string: bytes that are mostly UTF-8, cheap to clone.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Deref;
use std::sync::Arc;

/// Immutable bytes. Go's strings need not be UTF-8 (`slice` may cut a letter in two), so these need
/// not be either; long ones known to be UTF-8 are never checked again.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Fixed(&'static str),
    Short(Short),
    Shared(Arc<str>),
    /// Not UTF-8.
    Bytes(Arc<[u8]>),
}

/// UTF-8 of a few bytes: names, addresses, ports. To copy it takes less than to count its owners.
#[derive(Clone, Default)]
struct Short {
    len: u8,
    bytes: [u8; SHORT_MAX],
}

/// As much as fits a [`Text`] of the size that it has anyway.
const SHORT_MAX: usize = 22;

impl Short {
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let from = usize::from(self.len);
        let room = self.bytes.get_mut(from..from + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

impl Text {
    /// A text of the program itself.
    #[must_use]
    pub const fn fixed(text: &'static str) -> Self {
        Self(Repr::Fixed(text))
    }

    /// What `shown` displays.
    #[must_use]
    pub fn shown(shown: &impl fmt::Display) -> Self {
        let mut short = Short::default();
        match write!(short, "{shown}") {
            Ok(()) => Self(Repr::Short(short)),
            Err(fmt::Error) => shown.to_string().into(),
        }
    }

    /// `text`, if it is short.
    fn short(text: &str) -> Option<Self> {
        let mut short = Short::default();
        short.write_str(text).ok()?;
        Some(Self(Repr::Short(short)))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Fixed(text) => text.as_bytes(),
            Repr::Short(text) => text.as_bytes(),
            Repr::Shared(text) => text.as_bytes(),
            Repr::Bytes(bytes) => bytes,
        }
    }

    /// The text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::Fixed(text) => Some(text),
            Repr::Short(text) => std::str::from_utf8(text.as_bytes()).ok(),
            Repr::Shared(text) => Some(text),
            Repr::Bytes(_) => None,
        }
    }

    /// The text, with U+FFFD in the place of what is not UTF-8.
    #[must_use]
    pub fn to_str(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Fixed(text) => Cow::Borrowed(text),
            Repr::Short(text) => String::from_utf8_lossy(text.as_bytes()),
            Repr::Shared(text) => Cow::Borrowed(text),
            Repr::Bytes(bytes) => String::from_utf8_lossy(bytes),
        }
    }
}

/// Dereferences to its bytes.
impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::fixed("")
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => write!(f, "{text:?}"),
            None => write!(f, "\"{}\"", self.as_bytes().escape_ascii()),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::short(text).unwrap_or_else(|| Self(Repr::Shared(text.into())))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::short(&text).unwrap_or(Self(Repr::Shared(text)))
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Self {
        Self::short(text).unwrap_or_else(|| Self(Repr::Shared(Arc::clone(text))))
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(error) => Self(Repr::Bytes(error.into_bytes().into())),
        }
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => Self(Repr::Bytes(bytes.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_however_they_are_kept() {
        for text in [
            "",
            "a",
            "22 bytes are kept here",
            "23 bytes are kept apart",
            "ü und ein längerer Text",
        ] {
            let shared: Arc<str> = text.into();
            let all = [text.into(), text.to_owned().into(), Text::from(&shared), shared.into()];
            for kept in all.into_iter().chain([Text::shown(&text), text.as_bytes().into()]) {
                assert_eq!((kept.as_str(), &*kept.to_str()), (Some(text), text));
                assert_eq!(kept.as_bytes(), text.as_bytes());
                assert_eq!(format!("{:?}", kept.clone()), format!("{text:?}"));
            }
        }
        assert_eq!(Text::from(b"\xff".as_slice()).as_str(), None);
    }
}

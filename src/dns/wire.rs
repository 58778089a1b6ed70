//! Names and questions as they stand on the wire.
//!
//! Everything here is binary-safe: a label may hold any byte, a dot too. Nothing is copied but the
//! name, once, in lower case, for the look-up (RFC 4343). The question itself stays where it is:
//! the reply repeats it byte for byte, and owner names point at it, so that a client which mixes
//! upper and lower case gets its own spelling back.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

pub use super::codes::{rcode, rtype};
use super::labels::Labels;

/// Longest name on the wire, the root label included (RFC 1035 §2.3.4).
pub const NAME_MAX: usize = 255;
/// Longest label (RFC 1035 §2.3.4).
pub const LABEL_MAX: usize = 63;
/// Length of the header, and so the offset of the question (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;
/// Largest offset that a compression pointer can hold (RFC 1035 §4.1.4).
pub const POINTER_MAX: usize = 0x3fff;

/// Class Internet.
pub const CLASS_IN: u16 = 1;

/// A whole name in wire format and lower case, the root label at its end. At most [`NAME_MAX`]
/// bytes; labels of 1 to [`LABEL_MAX`] bytes of any value. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(&[0u8][..]))
    }

    /// The name of the one `label`, bytes of 1 to [`LABEL_MAX`] as they are; what is longer is cut.
    #[must_use]
    pub fn label(label: &[u8]) -> Self {
        let label = &label[..label.len().min(LABEL_MAX)];
        let mut wire = Vec::with_capacity(label.len() + 2);
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
        wire.push(0);
        Self(wire.into())
    }

    /// The bytes of its first label; none for the root.
    #[must_use]
    pub fn first_label(&self) -> &[u8] {
        self.0.get(1..=usize::from(self.0[0])).unwrap_or_default()
    }

    /// The name of the one `label`, whatever its bytes, below this one; none when it does not fit.
    #[must_use]
    pub fn child_bytes(&self, label: &[u8]) -> Option<Self> {
        let length = self.0.len() + label.len() + 1;
        if label.is_empty() || label.len() > LABEL_MAX || length > NAME_MAX {
            return None;
        }
        Some(Self([&[label.len() as u8], label, &*self.0].concat().into()))
    }

    /// This name with `suffix` in the place of the root.
    ///
    /// # Errors
    /// When that is longer than a name can be.
    pub fn onto(&self, suffix: &Self) -> Result<Self, String> {
        let length = self.0.len() - 1 + suffix.0.len();
        if length > NAME_MAX {
            return Err(format!(
                "{self} below {suffix} makes a name of {length} bytes; a DNS name has at most \
                 {NAME_MAX}"
            ));
        }
        Ok(Self([&self.0[..self.0.len() - 1], &suffix.0].concat().into()))
    }

    /// This name with `to` in the place of `from`, which it ends in; none when it does not.
    #[must_use]
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_in(from) {
            return None;
        }
        let head = &self.0[..self.0.len() - from.0.len()];
        let moved: Arc<[u8]> = [head, &to.0].concat().into();
        (moved.len() <= NAME_MAX).then_some(Self(moved))
    }

    /// Number of labels, the root left out.
    #[must_use]
    pub fn labels(&self) -> usize {
        let mut labels = 0;
        let mut rest = Some(&*self.0);
        while let Some(more) = rest.and_then(parent) {
            labels += 1;
            rest = Some(more);
        }
        labels
    }

    /// The name that `text` spells, its labels parted by dots; a dot at its end changes nothing.
    ///
    /// # Errors
    /// Names the label, or the length, that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() { Ok(Self::root()) } else { Self::root().under(text) }
    }

    /// The name of the one `label` below this one.
    ///
    /// # Errors
    /// Says that the label is empty, too long or has a dot, or that the whole name is too long.
    pub fn child(&self, label: &str) -> Result<Self, String> {
        if label.contains('.') {
            return Err(format!("{label:?} has a dot; it has to be one label of a DNS name"));
        }
        let mut labels = Labels::upon(self);
        labels.prepend(label)?;
        Ok(labels.name())
    }

    /// The name of the labels of `text`, parted by dots, below this one.
    ///
    /// # Errors
    /// As [`Name::child`].
    pub fn under(&self, text: &str) -> Result<Self, String> {
        let mut labels = Labels::upon(self);
        text.rsplit('.').try_for_each(|label| labels.prepend(label))?;
        Ok(labels.name())
    }

    /// The name of these bytes: a whole name in wire format and lower case.
    pub(super) fn from_wire(wire: &[u8]) -> Self {
        Self(Arc::from(wire))
    }

    /// Its bytes.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The name one label up, in wire format; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        parent(&self.0).map(|wire| Self(Arc::from(wire)))
    }

    /// Whether this is `apex` or a name below it.
    #[must_use]
    pub fn is_in(&self, apex: &Self) -> bool {
        ends_with_labels(&self.0, &apex.0)
    }
}

/// The wire name without its first label; none for the root.
#[must_use]
pub fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.first() {
        None | Some(0) => None,
        Some(length) => wire.get(usize::from(*length) + 1..),
    }
}

/// Whether `name` ends with the labels of `suffix`; both in wire format and lower case.
#[must_use]
pub fn ends_with_labels(name: &[u8], suffix: &[u8]) -> bool {
    if !name.ends_with(suffix) {
        return false;
    }
    // The bytes of a label may look like the start of a suffix: only label starts count.
    let wanted = name.len() - suffix.len();
    let mut at = 0;
    while at < wanted {
        at += usize::from(name[at]) + 1;
    }
    at == wanted
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &*self.0;
        if rest == [0] {
            return f.write_str(".");
        }
        while let (Some(length), Some(after)) = (rest.first(), parent(rest)) {
            for byte in &rest[1..=usize::from(*length)] {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
            rest = after;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The header of a message (RFC 1035 §4.1.1).
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Which query a reply belongs to.
    pub id: u16,
    /// QR, opcode, AA, TC, RD, RA, Z, AD, CD, RCODE.
    pub flags: u16,
    /// Questions, answers, authority records, additional records.
    pub counts: [u16; 4],
}

impl Header {
    /// Whether this is a reply.
    pub const QR: u16 = 0x8000;
    /// An authority speaks.
    pub const AA: u16 = 0x0400;
    /// Something was left out.
    pub const TC: u16 = 0x0200;
    /// Recursion is wanted.
    pub const RD: u16 = 0x0100;
    /// Recursion is to be had.
    pub const RA: u16 = 0x0080;

    /// The header of `message`; none below [`HEADER`] bytes.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let word = |index: usize| be16(message, index * 2);
        Some(Self {
            id: word(0)?,
            flags: word(1)?,
            counts: [word(2)?, word(3)?, word(4)?, word(5)?],
        })
    }

    /// The four bits that say what kind of question this is.
    #[must_use]
    pub const fn opcode(self) -> u16 {
        (self.flags >> 11) & 0xf
    }
}

/// One question as it was read.
#[derive(Debug, Clone)]
pub struct Question {
    key: [u8; NAME_MAX],
    key_len: u8,
    /// Type asked for.
    pub qtype: u16,
    /// Class asked for.
    pub qclass: u16,
    /// Where the question ends in the message.
    pub end: usize,
}

impl Question {
    /// The name in lower case, in wire format.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key[..usize::from(self.key_len)]
    }

    /// The name in lower case.
    #[must_use]
    pub fn name(&self) -> Name {
        Name(Arc::from(self.key()))
    }

    /// Reads the one question behind the header. None when it is cut, when the name is longer than
    /// [`NAME_MAX`], or when a label is of another kind than plain: pointers too, for there is
    /// nothing before the first name that they could point at.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let mut key = [0; NAME_MAX];
        let mut length = 0;
        loop {
            let label = usize::from(*message.get(HEADER + length)?);
            if label > LABEL_MAX {
                return None;
            }
            let next = length + label + 1;
            if next > NAME_MAX {
                return None;
            }
            let bytes = message.get(HEADER + length..HEADER + next)?;
            key[length..next].copy_from_slice(bytes);
            // A length is at most 63, below 'A': lower-casing all at once leaves it alone.
            length = next;
            if label == 0 {
                break;
            }
        }
        key[..length].make_ascii_lowercase();
        let end = HEADER + length + 4;
        Some(Self {
            key,
            key_len: length as u8,
            qtype: be16(message, end - 4)?,
            qclass: be16(message, end - 2)?,
            end,
        })
    }
}

/// The number of two bytes at `at`, the high one first.
#[must_use]
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    match bytes.get(at..at.checked_add(2)?)? {
        [high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// Appends a number of two bytes, the high one first.
pub fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Puts a number of two bytes at `at`; does nothing where there is no room for it.
pub fn set16(out: &mut [u8], at: usize, value: u16) {
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_print_what_they_are() {
        for (case, text, want) in [
            ("plain", "Web.Service.Consul", Ok("web.service.consul.")),
            ("final dot", "consul.", Ok("consul.")),
            ("root", ".", Ok(".")),
            ("odd bytes", "a b.c", Ok("a\\032b.c.")),
            ("empty label", "a..b", Err("empty")),
            ("63 bytes", &"x".repeat(63), Ok("")),
            ("64 bytes", &"x".repeat(64), Err("at most 63")),
            ("long name", &["x"; 128].join("."), Err("at most 255")),
            ("255 bytes", &["x"; 127].join("."), Ok("")),
        ] {
            match (Name::parse(text), want) {
                (Ok(name), Ok("")) => assert!(name.wire().len() <= NAME_MAX, "{case}"),
                (Ok(name), Ok(want)) => assert_eq!(name.to_string(), want, "{case}"),
                (Err(error), Err(want)) => assert!(error.contains(want), "{case}: {error}"),
                (got, want) => panic!("{case}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn only_whole_labels_make_a_suffix() {
        let apex = Name::parse("consul").unwrap();
        assert!(Name::parse("a.consul").unwrap().is_in(&apex));
        assert!(apex.is_in(&apex));
        assert!(!Name::parse("aconsul").unwrap().is_in(&apex));
        // One label whose bytes end like the apex does.
        assert!(!ends_with_labels(b"\x08a\x06consul\0", apex.wire()));
    }

    #[test]
    fn the_parent_of_a_name_is_one_label_up_until_the_root() {
        let name = Name::parse("a.b").unwrap();
        let up = name.parent().unwrap();
        assert_eq!(up, Name::parse("b").unwrap());
        assert_eq!(up.parent(), Some(Name::root()));
        assert_eq!(Name::root().parent(), None);
    }
}

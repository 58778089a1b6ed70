//! Writing a name: from its end, label by label, in one piece of memory.

use super::wire::{LABEL_MAX, NAME_MAX, Name};

/// A name on its way. Labels go in front of what is there.
pub(super) struct Labels {
    bytes: [u8; NAME_MAX],
    /// Where the name starts.
    start: usize,
}

impl Labels {
    /// Begins with `name`.
    pub(super) fn upon(name: &Name) -> Self {
        let mut labels = Self { bytes: [0; NAME_MAX], start: NAME_MAX };
        labels.put(name.wire());
        labels
    }

    /// The name as it stands now.
    pub(super) fn name(&self) -> Name {
        Name::from_wire(&self.bytes[self.start..])
    }

    /// Puts one more label in front, in lower case. A dot in it is a byte like others.
    ///
    /// # Errors
    /// Says that the label is empty or too long, or that the whole name is too long.
    pub(super) fn prepend(&mut self, label: &str) -> Result<(), String> {
        if label.is_empty() {
            return Err("a label of a DNS name is empty".to_owned());
        }
        if label.len() > LABEL_MAX {
            return Err(format!(
                "{label:?} has {} bytes; a label of a DNS name has at most {LABEL_MAX}",
                label.len()
            ));
        }
        let length = NAME_MAX - self.start + label.len() + 1;
        if length > NAME_MAX {
            return Err(format!(
                "{label:?} below {} makes a name of {length} bytes; a DNS name has at most \
                 {NAME_MAX}",
                self.name()
            ));
        }
        let end = self.start;
        self.put(label.as_bytes());
        self.bytes[self.start..end].make_ascii_lowercase();
        self.put(&[label.len() as u8]);
        Ok(())
    }

    /// Puts bytes in front, for which there is room.
    fn put(&mut self, bytes: &[u8]) {
        let end = self.start;
        self.start -= bytes.len();
        self.bytes[self.start..end].copy_from_slice(bytes);
    }
}

//! Routes by what a path begins with, letter by letter: one hash look-up for each length that there is.

use super::matching::{Map, Slot};

/// Longest text for both cases: paths are put into lower case on the stack.
pub(super) const ANY_CASE_MAX: usize = 255;

/// Routes of one host with `path_begins`.
#[derive(Debug, Default)]
pub(super) struct Begins {
    exact: Map<Slot>,
    /// In lower case.
    any_case: Map<Slot>,
    /// Lengths of texts, the longest first.
    lengths: Vec<usize>,
}

impl Begins {
    pub(super) fn insert(&mut self, text: Box<str>, any_case: bool, slot: Slot) {
        if let Err(at) = self.lengths.binary_search_by(|known| text.len().cmp(known)) {
            self.lengths.insert(at, text.len());
        }
        let map = if any_case { &mut self.any_case } else { &mut self.exact };
        map.insert(text, slot);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.exact.values().chain(self.any_case.values())
    }

    /// Shows `look` the slots of what `path` begins with, the longest first and the given case before
    /// both, until it says that it has seen enough. Allocates nothing.
    pub(super) fn find<'t>(&'t self, path: &str, mut look: impl FnMut(&'t Slot) -> bool) {
        if self.lengths.is_empty() {
            return;
        }
        let mut buffer = [0; ANY_CASE_MAX];
        let mut end = path.len().min(ANY_CASE_MAX);
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        let lower = if self.any_case.is_empty() { "" } else { lower(&path[..end], &mut buffer) };
        for length in &self.lengths {
            let found = path.get(..*length).and_then(|text| self.exact.get(text));
            let any_case = lower.get(..*length).and_then(|text| self.any_case.get(text));
            for slot in found.into_iter().chain(any_case) {
                if !look(slot) {
                    return;
                }
            }
        }
    }
}

/// `text` in lower case, of ASCII only.
fn lower<'b>(text: &str, buffer: &'b mut [u8; ANY_CASE_MAX]) -> &'b str {
    let Some(lower) = buffer.get_mut(..text.len()) else { return "" };
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).unwrap_or_default()
}

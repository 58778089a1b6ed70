//! What would differ, gathered with its places.

use std::fmt::Display;

use super::lines::Place;
use super::tree::Statement;

/// Most lines of each kind that are told.
const NOTES_MAX: usize = 1000;

/// What there is to say about a configuration beside what it comes to.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) differences: Vec<String>,
    pub(super) notices: Vec<String>,
}

impl Notes {
    /// What stands there has no counterpart, or another one, and what to do about it.
    pub(super) fn differs(&mut self, place: &Place, what: impl Display) {
        push(&mut self.differences, format!("{place}: {what}"));
    }

    /// What holds for the whole, said once.
    pub(super) fn once(&mut self, what: &str) {
        if !self.differences.iter().any(|told| told == what) {
            push(&mut self.differences, what.to_owned());
        }
    }

    /// What stands there has no effect, and nothing needs to be done.
    pub(super) fn idle(&mut self, place: &Place, what: impl Display) {
        push(&mut self.notices, format!("{place}: {what}"));
    }

    /// A keyword that nobody knows here.
    pub(super) fn unknown(&mut self, statement: &Statement) {
        let keyword = statement.keyword();
        self.differs(
            &statement.place,
            format_args!("`{keyword}` is not understood, and has no effect"),
        );
    }
}

fn push(lines: &mut Vec<String>, line: String) {
    match lines.len() {
        0..NOTES_MAX => lines.push(line),
        NOTES_MAX => lines.push("… and more of that kind".to_owned()),
        _ => {}
    }
}

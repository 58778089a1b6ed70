//! From text to tokens, as `text/template/parse` cuts it: the same tokens, lines and errors.

use std::borrow::Cow;

use super::token::{Kind, Token};

/// Cuts one text.
pub(super) struct Lexer<'a> {
    pub(super) input: &'a str,
    left: &'a str,
    pub(super) right: &'a str,
    pub(super) at: usize,
    pub(super) start: usize,
    pub(super) line: usize,
    start_line: usize,
    pub(super) parens: usize,
    inside: bool,
    failed: bool,
    /// Whether `break` and `continue` are words of the language and not functions.
    pub(super) break_is_keyword: bool,
    pub(super) continue_is_keyword: bool,
}

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_space_byte(byte: u8) -> bool {
    is_space(char::from(byte))
}

pub(super) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

fn trims_before(rest: &str) -> bool {
    matches!(rest.as_bytes(), [b'-', space, ..] if is_space_byte(*space))
}

pub(super) fn trims_after(rest: &str) -> bool {
    matches!(rest.as_bytes(), [space, b'-', ..] if is_space_byte(*space))
}

fn newlines(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}

/// Length of a trim marker with its space.
pub(super) const MARKER: usize = 2;

impl<'a> Lexer<'a> {
    /// A lexer of `input` with the delimiters of actions, which are not empty.
    pub(super) fn new(input: &'a str, left: &'a str, right: &'a str) -> Self {
        Self {
            input,
            left,
            right,
            at: 0,
            start: 0,
            line: 1,
            start_line: 1,
            parens: 0,
            inside: false,
            failed: false,
            break_is_keyword: true,
            continue_is_keyword: true,
        }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.input.get(self.at..).unwrap_or("")
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    pub(super) fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|c| valid.contains(c));
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    pub(super) fn token(&mut self, kind: Kind) -> Token<'a> {
        let text = self.input.get(self.start..self.at).unwrap_or("");
        let token = Token { kind, at: self.start, line: self.start_line, text: text.into() };
        self.start = self.at;
        self.start_line = self.line;
        token
    }

    /// Skips what lies between the start of the token and here, counting its lines.
    fn ignore(&mut self) {
        self.line += newlines(self.input.get(self.start..self.at).unwrap_or(""));
        self.start = self.at;
        self.start_line = self.line;
    }

    pub(super) fn error(&mut self, message: impl Into<String>) -> Token<'a> {
        let token = Token {
            kind: Kind::Error,
            at: self.start,
            line: self.start_line,
            text: Cow::Owned(message.into()),
        };
        self.failed = true;
        self.input = "";
        self.start = 0;
        self.at = 0;
        token
    }

    /// The next token. After an error and after the end there is only the end.
    pub(super) fn next(&mut self) -> Token<'a> {
        if self.inside && !self.failed { self.action() } else { self.text() }
    }

    fn text(&mut self) -> Token<'a> {
        loop {
            let Some(found) = memchr::memmem::find(self.rest().as_bytes(), self.left.as_bytes())
            else {
                self.at = self.input.len();
                if self.at > self.start {
                    self.line += newlines(self.input.get(self.start..self.at).unwrap_or(""));
                    return self.token(Kind::Text);
                }
                return Token {
                    kind: Kind::Eof,
                    at: self.at,
                    line: self.start_line,
                    text: "EOF".into(),
                };
            };
            if found > 0 {
                self.at += found;
                let mut trimmed = 0;
                let action = self.input.get(self.at + self.left.len()..).unwrap_or("");
                if trims_before(action) {
                    let text = self.input.get(self.start..self.at).unwrap_or("");
                    trimmed = text.len() - text.trim_end_matches(is_space).len();
                }
                self.at -= trimmed;
                self.line += newlines(self.input.get(self.start..self.at).unwrap_or(""));
                let token = self.token(Kind::Text);
                self.at += trimmed;
                self.ignore();
                if !token.text.is_empty() {
                    return token;
                }
            }
            if let Some(token) = self.left_delim() {
                return token;
            }
        }
    }

    /// At a left delimiter. `None` after a comment.
    fn left_delim(&mut self) -> Option<Token<'a>> {
        self.at += self.left.len();
        let marker = if trims_before(self.rest()) { MARKER } else { 0 };
        if self.rest().get(marker..).is_some_and(|rest| rest.starts_with("/*")) {
            self.at += marker;
            self.ignore();
            return self.comment();
        }
        let token = self.token(Kind::LeftDelim);
        self.inside = true;
        self.at += marker;
        self.ignore();
        self.parens = 0;
        Some(token)
    }

    fn comment(&mut self) -> Option<Token<'a>> {
        self.at += 2;
        let Some(length) = memchr::memmem::find(self.rest().as_bytes(), b"*/") else {
            return Some(self.error("unclosed comment"));
        };
        self.at += length + 2;
        let Some(trims) = self.at_right_delim() else {
            return Some(self.error("comment ends before closing delimiter"));
        };
        self.line += newlines(self.input.get(self.start..self.at).unwrap_or(""));
        self.start = self.at;
        self.start_line = self.line;
        self.at += if trims { MARKER } else { 0 } + self.right.len();
        if trims {
            self.skip_spaces();
        }
        self.ignore();
        None
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
    }

    /// Whether the action ends here, and then whether it trims.
    pub(super) fn at_right_delim(&self) -> Option<bool> {
        let rest = self.rest();
        if trims_after(rest) && rest.get(MARKER..).is_some_and(|r| r.starts_with(self.right)) {
            return Some(true);
        }
        rest.starts_with(self.right).then_some(false)
    }

    pub(super) fn right_delim(&mut self) -> Token<'a> {
        let trims = self.at_right_delim() == Some(true);
        if trims {
            self.at += MARKER;
            self.ignore();
        }
        self.at += self.right.len();
        let token = self.token(Kind::RightDelim);
        if trims {
            self.skip_spaces();
            self.ignore();
        }
        self.inside = false;
        token
    }
}

//! Tokens within an action.

use super::lex::{Lexer, MARKER, is_space, is_word, trims_after};
use super::quote::{quote, unicode_name};
use super::token::{Kind, Token};

impl<'a> Lexer<'a> {
    pub(super) fn action(&mut self) -> Token<'a> {
        if self.at_right_delim().is_some() {
            if self.parens == 0 {
                return self.right_delim();
            }
            return self.error("unclosed left paren");
        }
        let Some(c) = self.peek() else { return self.error("unclosed action") };
        match c {
            _ if is_space(c) => return self.space(),
            '+' | '-' | '0'..='9' => return self.number(),
            '.' if self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                return self.number();
            }
            // Nothing follows: the number scanner takes the dot, and the parser complains.
            '.' if self.rest().len() == 1 => return self.number(),
            _ if is_word(c) => return self.identifier(),
            _ => {}
        }
        self.bump();
        match c {
            '=' => self.token(Kind::Assign),
            ':' if self.bump() == Some('=') => self.token(Kind::Declare),
            ':' => self.error("expected :="),
            '|' => self.token(Kind::Pipe),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string"),
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '`' => self.raw(),
            '$' => self.field(Kind::Variable),
            '.' => self.field(Kind::Field),
            '(' => {
                self.parens += 1;
                self.token(Kind::LeftParen)
            }
            ')' => match self.parens.checked_sub(1) {
                Some(parens) => {
                    self.parens = parens;
                    self.token(Kind::RightParen)
                }
                None => self.error("unexpected right paren"),
            },
            ' '..='~' => self.token(Kind::Char),
            _ => self.error(format!("unrecognized character in action: {}", unicode_name(c))),
        }
    }

    /// A run of spaces; the last one may belong to a trim marker.
    fn space(&mut self) -> Token<'a> {
        let before = (self.at, self.line);
        let mut last = before;
        let mut count = 0;
        while self.peek().is_some_and(is_space) {
            last = (self.at, self.line);
            self.bump();
            count += 1;
        }
        let rest = self.input.get(last.0..).unwrap_or("");
        if trims_after(rest) && rest.get(MARKER..).is_some_and(|r| r.starts_with(self.right)) {
            (self.at, self.line) = last;
            if count == 1 {
                return self.right_delim();
            }
        }
        self.token(Kind::Space)
    }

    fn identifier(&mut self) -> Token<'a> {
        while self.peek().is_some_and(is_word) {
            self.bump();
        }
        if !self.at_terminator() {
            return self.bad_character();
        }
        let kind = match self.input.get(self.start..self.at).unwrap_or("") {
            "block" => Kind::Block,
            "break" if self.break_is_keyword => Kind::Break,
            "continue" if self.continue_is_keyword => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "range" => Kind::Range,
            "nil" => Kind::Nil,
            "template" => Kind::Template,
            "with" => Kind::With,
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.token(kind)
    }

    /// After a `.` or `$`.
    fn field(&mut self, kind: Kind) -> Token<'a> {
        if self.at_terminator() {
            return self.token(if kind == Kind::Field { Kind::Dot } else { kind });
        }
        while self.peek().is_some_and(is_word) {
            self.bump();
        }
        if !self.at_terminator() {
            return self.bad_character();
        }
        self.token(kind)
    }

    fn bad_character(&mut self) -> Token<'a> {
        let name = self.peek().map_or_else(|| "-1".to_owned(), unicode_name);
        self.error(format!("bad character {name}"))
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with(self.right),
        }
    }

    /// After the opening quote.
    fn quoted(&mut self, end: char, kind: Kind, unterminated: &str) -> Token<'a> {
        loop {
            match self.bump() {
                Some('\\') => {
                    if matches!(self.bump(), None | Some('\n')) {
                        return self.error(unterminated);
                    }
                }
                None | Some('\n') => return self.error(unterminated),
                Some(c) if c == end => return self.token(kind),
                Some(_) => {}
            }
        }
    }

    fn raw(&mut self) -> Token<'a> {
        loop {
            match self.bump() {
                None => return self.error("unterminated raw quoted string"),
                Some('`') => return self.token(Kind::RawString),
                Some(_) => {}
            }
        }
    }

    fn number(&mut self) -> Token<'a> {
        let mut good = self.scan_number();
        let mut kind = Kind::Number;
        if good && matches!(self.peek(), Some('+' | '-')) {
            kind = Kind::Complex;
            good = self.scan_number() && self.input.as_bytes().get(self.at - 1) == Some(&b'i');
        }
        if good {
            return self.token(kind);
        }
        let text = self.input.get(self.start..self.at).unwrap_or("");
        self.error(format!("bad number syntax: {}", quote(text.as_bytes())))
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let (mut digits, mut exponent) = ("0123456789_", "eE");
        if self.accept("0") {
            if self.accept("xX") {
                (digits, exponent) = ("0123456789abcdefABCDEF_", "pP");
            } else if self.accept("oO") {
                (digits, exponent) = ("01234567_", "");
            } else if self.accept("bB") {
                (digits, exponent) = ("01_", "");
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_word) {
            self.bump();
            return false;
        }
        true
    }
}

//! From text to tokens, as `text/template/parse` cuts it: the same tokens, lines and errors.

use std::borrow::Cow;

use super::quote::{quote, unicode_name};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Bool,
    /// A printable ASCII character that means nothing by itself, such as a comma.
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    const fn is_keyword(self) -> bool {
        matches!(
            self,
            Self::Block
                | Self::Break
                | Self::Continue
                | Self::Dot
                | Self::Define
                | Self::Else
                | Self::End
                | Self::If
                | Self::Nil
                | Self::Range
                | Self::Template
                | Self::With
        )
    }
}

/// A piece of the text.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// Offset of its first byte.
    pub(super) at: usize,
    /// Line on which it begins, from 1; 0 before anything was read.
    pub(super) line: usize,
    /// Its text, or what is wrong.
    pub(super) text: Cow<'a, str>,
}

impl Token<'_> {
    /// What stands in a parser before it has read anything.
    pub(super) const NONE: Self =
        Self { kind: Kind::Error, at: 0, line: 0, text: Cow::Borrowed("") };

    /// As error messages show it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.to_string(),
            kind if kind.is_keyword() => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let start: String = self.text.chars().take(10).collect();
                format!("{}...", quote(start.as_bytes()))
            }
            _ => quote(self.text.as_bytes()),
        }
    }
}

/// Cuts one text.
pub(super) struct Lexer<'a> {
    input: &'a str,
    left: &'a str,
    right: &'a str,
    at: usize,
    start: usize,
    line: usize,
    start_line: usize,
    parens: usize,
    inside: bool,
    failed: bool,
    /// Whether `break` and `continue` are words of the language and not functions.
    pub(super) break_is_keyword: bool,
    pub(super) continue_is_keyword: bool,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_space_byte(byte: u8) -> bool {
    is_space(char::from(byte))
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

fn trims_before(rest: &str) -> bool {
    matches!(rest.as_bytes(), [b'-', space, ..] if is_space_byte(*space))
}

fn trims_after(rest: &str) -> bool {
    matches!(rest.as_bytes(), [space, b'-', ..] if is_space_byte(*space))
}

fn newlines(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}

/// Length of a trim marker with its space.
const MARKER: usize = 2;

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

    fn rest(&self) -> &'a str {
        self.input.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|c| valid.contains(c));
        if found {
            self.bump();
        }
        found
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    fn token(&mut self, kind: Kind) -> Token<'a> {
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

    fn error(&mut self, message: impl Into<String>) -> Token<'a> {
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
    fn at_right_delim(&self) -> Option<bool> {
        let rest = self.rest();
        if trims_after(rest) && rest.get(MARKER..).is_some_and(|r| r.starts_with(self.right)) {
            return Some(true);
        }
        rest.starts_with(self.right).then_some(false)
    }

    fn right_delim(&mut self) -> Token<'a> {
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

    fn action(&mut self) -> Token<'a> {
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

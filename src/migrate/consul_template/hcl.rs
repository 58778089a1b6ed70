//! Reads HCL as consul-template does, in its first version, and JSON.
//!
//! What the second version of HCL reads otherwise is what people write: `perms = 0600` is octal,
//! `${…}` in a string is text, several settings may share a line, and a block may bear `=`.

use std::fmt;

use super::hcl_text::{self, Number};

/// Deepest nesting of blocks and lists.
const DEPTH_MAX: usize = 64;

/// Line and column of something, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What may stand behind a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(Number),
    Flag(bool),
    List(Vec<Node>),
    Block(Vec<Item>),
    /// Of JSON: as if the key were not there.
    Nothing,
}

/// A key and its value, in the order of the file; a key may come again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
}

/// The settings in `text`. What begins with a brace is JSON.
pub(super) fn read(text: &str) -> Result<Vec<Item>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = Place { line: 1, column: 1 };
    let mut reader = Reader { text, at: 0, json: false, known: (0, start) };
    reader.blank()?;
    reader.json = reader.peek() == Some('{');
    let items = if reader.json {
        reader.bump();
        let items = reader.block(1)?;
        reader.blank()?;
        items
    } else {
        reader.items(0)?
    };
    match reader.peek() {
        None => Ok(items),
        Some(c) => Err(reader.fault(format!("`{c}` stands where a setting should begin"))),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    json: bool,
    /// The last place that was asked for: the next one is counted from there.
    known: (usize, Place),
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn place(&mut self) -> Place {
        let place = place_of(self.text, self.known, self.at);
        self.known = (self.at, place);
        place
    }

    fn fault_at(&self, at: usize, message: impl Into<String>) -> Fault {
        let start = (0, Place { line: 1, column: 1 });
        Fault { place: place_of(self.text, start, at), message: message.into() }
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        self.fault_at(self.at, message)
    }

    /// Skips blanks and comments.
    fn blank(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            let rest = self.rest();
            if !self.json && (rest.starts_with('#') || rest.starts_with("//")) {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if !self.json && rest.starts_with("/*") {
                let end =
                    rest.find("*/").ok_or_else(|| self.fault("this comment has no end: `*/`"))?;
                self.at += end + 2;
            } else if blanks == 0 {
                return Ok(());
            }
        }
    }

    /// Settings up to the brace that closes them, or the end.
    fn items(&mut self, depth: usize) -> Result<Vec<Item>, Fault> {
        let mut items = Vec::new();
        loop {
            self.blank()?;
            match self.peek() {
                None | Some('}') => return Ok(items),
                Some(',') if !items.is_empty() => {
                    self.bump();
                }
                Some(_) => items.push(self.item(depth)?),
            }
        }
    }

    /// A block whose opening brace was read, with the closing one.
    fn block(&mut self, depth: usize) -> Result<Vec<Item>, Fault> {
        let open = self.at - 1;
        let items = self.items(depth)?;
        if self.bump() != Some('}') {
            return Err(self.fault_at(open, "this `{` is never closed"));
        }
        Ok(items)
    }

    fn item(&mut self, depth: usize) -> Result<Item, Fault> {
        let place = self.place();
        let key = self.key()?;
        self.blank()?;
        let assigned = if self.json { ':' } else { '=' };
        let there = self.place();
        let value = match self.peek() {
            Some(c) if c == assigned => {
                self.bump();
                self.blank()?;
                return Ok(Item { key, place, node: self.value(depth)? });
            }
            Some('{') if !self.json => {
                self.bump();
                Value::Block(self.nested(depth)?)
            }
            // A label: what follows stands below it.
            Some(c) if !self.json && (c == '"' || begins_key(c)) => {
                if depth >= DEPTH_MAX {
                    return Err(self.too_deep());
                }
                Value::Block(vec![self.item(depth + 1)?])
            }
            _ if self.json => return Err(self.fault(format!("`:` is missing behind {key:?}"))),
            _ => return Err(self.fault(format!("`=` or a block is missing behind `{key}`"))),
        };
        Ok(Item { key, place, node: Node { place: there, value } })
    }

    fn key(&mut self) -> Result<String, Fault> {
        match self.peek() {
            Some('"') => self.string(),
            Some(c) if begins_key(c) && !self.json => {
                let rest = self.rest();
                let end = rest.find(|c| !in_key(c)).unwrap_or(rest.len());
                self.at += end;
                Ok(rest[..end].to_owned())
            }
            Some(c) => Err(self.fault(format!("`{c}` stands where a key should"))),
            None => Err(self.fault("a key is missing")),
        }
    }

    fn too_deep(&self) -> Fault {
        self.fault(format!("more than {DEPTH_MAX} blocks or lists stand in each other"))
    }

    fn nested(&mut self, depth: usize) -> Result<Vec<Item>, Fault> {
        if depth >= DEPTH_MAX {
            return Err(self.too_deep());
        }
        self.block(depth + 1)
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        let place = self.place();
        let value = match self.peek() {
            Some('"') => Value::Text(self.string()?),
            Some('<') if !self.json => Value::Text(self.heredoc()?),
            Some('{') => {
                self.bump();
                Value::Block(self.nested(depth)?)
            }
            Some('[') => {
                if depth >= DEPTH_MAX {
                    return Err(self.too_deep());
                }
                Value::List(self.list(depth + 1)?)
            }
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' || c == '.' => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { place, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let open = self.at;
        self.bump();
        let mut nodes = Vec::new();
        loop {
            self.blank()?;
            match self.peek() {
                Some(']') => {
                    self.bump();
                    return Ok(nodes);
                }
                None => return Err(self.fault_at(open, "this `[` is never closed")),
                Some(_) => nodes.push(self.value(depth)?),
            }
            self.blank()?;
            match self.peek() {
                Some(',') => {
                    self.bump();
                }
                Some(']') => {}
                None => return Err(self.fault_at(open, "this `[` is never closed")),
                Some(c) => {
                    return Err(self.fault(format!("`{c}` stands where `,` or `]` should")));
                }
            }
        }
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let rest = self.rest();
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let text = &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())];
        let number = hcl_text::number(text, self.json);
        let number = number.ok_or_else(|| {
            self.fault(format!("`{text}` is no number; a text stands in quotes: \"{text}\""))
        })?;
        self.at += text.len();
        Ok(Value::Number(number))
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !in_key(c)).unwrap_or(rest.len())];
        let value = match word {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            "null" if self.json => Value::Nothing,
            "" => {
                let found = self.peek().map_or_else(|| "the end".into(), |c| format!("`{c}`"));
                return Err(self.fault(format!("{found} stands where a value should")));
            }
            word => {
                let message = format!("`{word}` is no value; a text stands in quotes: \"{word}\"");
                return Err(self.fault(message));
            }
        };
        self.at += word.len();
        Ok(value)
    }

    /// A string in quotes.
    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        let read = if self.json { hcl_text::json } else { hcl_text::quoted };
        let (text, length) = read(&self.rest()[1..])
            .map_err(|(offset, message)| self.fault_at(start + 1 + offset, message))?;
        self.at += 1 + length;
        Ok(text)
    }

    /// A text from `<<MARK` to a line with `MARK` alone; `<<-` takes the indentation away.
    fn heredoc(&mut self) -> Result<String, Fault> {
        let (text, length) =
            hcl_text::heredoc(self.rest()).map_err(|message| self.fault(message))?;
        self.at += length;
        Ok(text)
    }
}

/// The place of `at`, counted on from one that is known and not behind it.
fn place_of(text: &str, (from, known): (usize, Place), at: usize) -> Place {
    let mut place = known;
    for c in text[from..at].chars() {
        if c == '\n' {
            place = Place { line: place.line + 1, column: 1 };
        } else {
            place.column += 1;
        }
    }
    place
}

fn begins_key(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn in_key(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[cfg(test)]
#[path = "hcl_tests.rs"]
mod tests;

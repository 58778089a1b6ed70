//! Edits of a header: lines removed first, then set, then added.
//!
//! What belongs to one connection or says where a message ends is nobody's to edit: it is refused
//! when the configuration is loaded.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::variable::{About, Value};
use crate::proxy::config::HeaderEdits;

/// Which header is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// That of a request.
    Request,
    /// That of an answer.
    Response,
}

/// One line to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The name.
    pub name: HeaderName,
    /// The name in the case in which it was written.
    pub written: Bytes,
    /// The value, or what it stands for.
    pub value: Value,
}

/// A header whose lines can be edited.
pub trait Lines {
    /// What can go wrong.
    type Error;

    /// Takes all lines of this name away.
    fn remove(&mut self, name: &HeaderName);

    /// Puts `line` with `value` in the place of all of its name.
    ///
    /// # Errors
    /// There is no room for it.
    fn set(&mut self, line: &Line, value: HeaderValue) -> Result<(), Self::Error>;

    /// Puts `line` with `value` beside those of its name.
    ///
    /// # Errors
    /// There is no room for it.
    fn add(&mut self, line: &Line, value: HeaderValue) -> Result<(), Self::Error>;
}

/// Edits of one header, ready to be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[Line]>,
    add: Box<[Line]>,
}

impl Edits {
    /// Compiles what is written; what can't be goes to `tell`.
    pub fn compile(config: &HeaderEdits, message: Message, tell: &mut dyn FnMut(String)) -> Self {
        let mut name = |edit: &str, text: &str| {
            let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
                tell(format!("{edit}: {text:?} is no name of a header"));
                return None;
            };
            if let Some(reason) = refused(&name, edit, message) {
                tell(format!("{edit}: {text:?} {reason}"));
                return None;
            }
            Some(name)
        };
        let remove: Vec<_> = config.remove.iter().filter_map(|text| name("remove", text)).collect();
        let mut found: [Vec<(HeaderName, &str, &str)>; 2] = Default::default();
        for (index, (edit, lines)) in
            [("set", &config.set), ("add", &config.add)].into_iter().enumerate()
        {
            for (text, value) in lines {
                if let Some(name) = name(edit, text) {
                    found[index].push((name, text, value));
                }
            }
        }
        let mut twice = |edit: &str, lines: &BTreeMap<String, String>| {
            for (index, text) in lines.keys().enumerate() {
                if lines.keys().take(index).any(|other| other.eq_ignore_ascii_case(text)) {
                    tell(format!("{edit}: {text:?} is there twice; its case does not count"));
                }
            }
        };
        twice("set", &config.set);
        twice("add", &config.add);
        let [set, add] = found;
        let mut lines = |edit: &str, found: Vec<(HeaderName, &str, &str)>| {
            let line = |(name, text, value): (HeaderName, &str, &str)| {
                let value = match Value::parse(value) {
                    Ok(Value::Of(_)) if message == Message::Response => {
                        Err("stands for a fact about a request; only request_headers have it"
                            .into())
                    }
                    parsed => parsed,
                };
                let tell = |what| tell(format!("{edit}: the value of {text:?} {what}"));
                let value = value.map_err(tell).ok()?;
                Some(Line { name, written: Bytes::copy_from_slice(text.as_bytes()), value })
            };
            found.into_iter().filter_map(line).collect()
        };
        Self { remove: remove.into(), set: lines("set", set), add: lines("add", add) }
    }

    /// Makes them, in the header of a request with these `facts`, or in that of an answer. Nothing
    /// that a value stands for: the line is taken away by `set`, and none is added.
    ///
    /// # Errors
    /// A line has no room.
    pub fn make<L: Lines>(&self, lines: &mut L, about: Option<&About<'_>>) -> Result<(), L::Error> {
        for name in &self.remove {
            lines.remove(name);
        }
        for line in &self.set {
            match line.value.of(about) {
                Some(value) => lines.set(line, value)?,
                None => lines.remove(&line.name),
            }
        }
        for line in &self.add {
            if let Some(value) = line.value.of(about) {
                lines.add(line, value)?;
            }
        }
        Ok(())
    }
}

/// Why a header may not be edited in this way; `None` when it may.
fn refused(name: &HeaderName, edit: &str, message: Message) -> Option<&'static str> {
    // RFC 9110 §7.6.1, and the line that it says others invented.
    const HOP: [&str; 7] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if HOP.contains(&name.as_str()) {
        return Some("belongs to one connection, not to the message; leave it to the proxy");
    }
    if *name == http::header::CONTENT_LENGTH {
        return Some("says where the message ends; leave it to the proxy");
    }
    if *name == http::header::HOST && edit != "set" && message == Message::Request {
        return Some("is there exactly once in a request; it can only be in `set`");
    }
    None
}

impl Lines for http::HeaderMap {
    type Error = http::header::MaxSizeReached;

    fn remove(&mut self, name: &HeaderName) {
        self.remove(name);
    }

    fn set(&mut self, line: &Line, value: HeaderValue) -> Result<(), Self::Error> {
        self.try_insert(&line.name, value).map(drop)
    }

    fn add(&mut self, line: &Line, value: HeaderValue) -> Result<(), Self::Error> {
        self.try_append(&line.name, value).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn compile(text: &str, message: Message) -> Result<Edits, Vec<String>> {
        let config: HeaderEdits = toml::from_str(text).unwrap();
        let mut told = Vec::new();
        let edits = Edits::compile(&config, message, &mut |what| told.push(what));
        if told.is_empty() { Ok(edits) } else { Err(told) }
    }

    #[test]
    fn lines_are_removed_then_set_then_added() {
        let text = "remove = [\"X-Gone\", \"x-new\"]\n\
                    set = { X-One = \"1\", Host = \"in.side\" }\n\
                    add = { X-Many = \"3\", x-new = \"n\" }";
        let edits = compile(text, Message::Request).unwrap();
        let mut header = HeaderMap::new();
        for (name, value) in [
            ("host", "out.side"),
            ("x-gone", "1"),
            ("x-gone", "2"),
            ("x-one", "0"),
            ("x-one", "00"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("x-new", "o"),
            ("x-other", "stays"),
        ] {
            header.append(name, HeaderValue::from_static(value));
        }
        edits.make(&mut header, None).unwrap();
        let mut lines: Vec<String> = header
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "host: in.side",
                "x-many: 1",
                "x-many: 2",
                "x-many: 3",
                "x-new: n",
                "x-one: 1",
                "x-other: stays"
            ]
        );
    }

    #[test]
    fn edits_that_would_break_the_message_are_refused_with_the_reason() {
        for (text, message, want) in [
            ("remove = [\"Connection\"]", Message::Request, "belongs to one connection"),
            ("set = { Transfer-Encoding = \"x\" }", Message::Response, "belongs to one connection"),
            ("add = { Keep-Alive = \"x\" }", Message::Response, "belongs to one connection"),
            ("add = { content-length = \"1\" }", Message::Response, "where the message ends"),
            ("remove = [\"Host\"]", Message::Request, "only be in `set`"),
            ("add = { host = \"x\" }", Message::Request, "only be in `set`"),
            ("set = { \"a b\" = \"1\" }", Message::Request, "no name of a header"),
            ("set = { a = \"1\\r\\nb: 2\" }", Message::Request, "that no header can have"),
            ("set = { A = \"1\", a = \"2\" }", Message::Request, "is there twice"),
            ("set = { a = \"$hots\" }", Message::Request, "known are $host"),
            ("set = { a = \"$host\" }", Message::Response, "only request_headers"),
        ] {
            let told = compile(text, message).unwrap_err();
            assert!(told.len() == 1 && told[0].contains(want), "{text}: {told:?}");
        }
        let all = "remove = [\"TE\"]\nset = { Upgrade = \"a\" }\nadd = { Trailer = \"a\" }";
        assert_eq!(compile(all, Message::Request).unwrap_err().len(), 3, "all at once");
    }
}

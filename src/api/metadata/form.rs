//! The three forms of an answer: text, JSON, YAML; and which one a client wants.

use std::fmt::Write as _;

use super::look::Look;
use super::node::Node;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Values as they are, tables and lists as listings.
    Text,
    /// JSON.
    Json,
    /// YAML, under one of its names.
    Yaml(&'static str),
}

/// What can be had, the first one being what is given when nothing or nonsense is asked for.
const OFFERS: [(&str, Form); 6] = [
    ("text/plain", Form::Text),
    ("application/json", Form::Json),
    ("application/yaml", Form::Yaml("application/yaml")),
    ("application/x-yaml", Form::Yaml("application/x-yaml")),
    ("text/yaml", Form::Yaml("text/yaml")),
    ("text/x-yaml", Form::Yaml("text/x-yaml")),
];

/// An answer would be larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Form {
    /// The form that `accept` (RFC 9110 §12.5.1) likes best; of equal ones the one that it names
    /// most exactly, then the first on offer.
    pub(super) fn wanted(accept: &str) -> Self {
        let mut best: Option<(f32, u8, Self)> = None;
        for (name, form) in OFFERS {
            let (kind, _) = name.split_once('/').unwrap_or_default();
            let mut own: Option<(u8, f32)> = None;
            for range in accept.split(',') {
                let mut parts = range.split(';').map(str::trim);
                let range = parts.next().unwrap_or_default().to_ascii_lowercase();
                let exact = match &*range {
                    "*/*" => 0,
                    range if range == name => 2,
                    range if range.strip_suffix("/*") == Some(kind) => 1,
                    _ => continue,
                };
                let mut quality = parts.filter_map(|part| {
                    part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="))?.parse().ok()
                });
                let quality: f32 = quality.next().unwrap_or(1.0);
                if own.is_none_or(|(known, _)| exact > known) {
                    own = Some((exact, quality));
                }
            }
            let Some((exact, quality)) = own.filter(|(_, quality)| *quality > 0.0) else {
                continue;
            };
            if best.is_none_or(|(q, e, _)| quality > q || (quality >= q && exact > e)) {
                best = Some((quality, exact, form));
            }
        }
        best.map_or(Self::Text, |(_, _, form)| form)
    }

    /// The value of `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Yaml(name) => name,
        }
    }

    /// `node` in this form, at most `max` bytes of it.
    pub(super) fn write(self, look: &Look<'_>, node: &Node, max: u64) -> Result<String, TooLarge> {
        let mut out = Out { text: String::new(), max: usize::try_from(max).unwrap_or(usize::MAX) };
        match self {
            Self::Text => out.listing(look, node)?,
            Self::Json => out.json(look, node)?,
            Self::Yaml(_) => out.yaml(look, node, 0, false)?,
        }
        Ok(out.text)
    }

    /// What is said when something went wrong.
    pub(super) fn error(self, code: u16, message: &str) -> String {
        match self {
            Self::Text => format!("{message}\n"),
            Self::Json => {
                let message = serde_json::Value::from(message);
                format!("{{\"code\":{code},\"message\":{message},\"type\":\"error\"}}\n")
            }
            Self::Yaml(_) => {
                let mut out = Out { text: String::new(), max: usize::MAX };
                out.scalar(message);
                format!("code: {code}\nmessage: {}\ntype: error\n", out.text)
            }
        }
    }
}

/// `text` as a query string writes it: letters, digits and `-_.~` as they are, a space as `+`.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char);
            }
            b' ' => out.push('+'),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

struct Out {
    text: String,
    max: usize,
}

impl Out {
    fn push(&mut self, text: &str) -> Result<(), TooLarge> {
        if text.len() > self.max.saturating_sub(self.text.len()) {
            return Err(TooLarge);
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Text: a value as it is, without a newline; a table as its keys, a list as its indexes, each
    /// on a line, with `/` behind what has parts, or `=NAME` behind the index of what has a name.
    fn listing(&mut self, look: &Look<'_>, node: &Node) -> Result<(), TooLarge> {
        if let Some(text) = node.plain() {
            return self.push(&text);
        }
        if let Some(record) = look.record(node) {
            let line = |(key, value): (&std::sync::Arc<str>, &Node)| {
                let slash = if value.has_parts() { "/" } else { "" };
                format!("{}{slash}\n", escaped(key))
            };
            let mut lines: Vec<String> = record.iter().map(line).collect();
            lines.sort_unstable();
            return lines.iter().try_for_each(|line| self.push(line));
        }
        for index in 0..look.len(node) {
            let Some(item) = look.item(node, index) else { break };
            match look.called(&item) {
                Some(name) => self.push(&format!("{index}={}\n", escaped(&name)))?,
                None if item.has_parts() => self.push(&format!("{index}/\n"))?,
                None => self.push(&format!("{index}\n"))?,
            }
        }
        Ok(())
    }

    fn json(&mut self, look: &Look<'_>, node: &Node) -> Result<(), TooLarge> {
        match node {
            Node::Null => self.push("null"),
            Node::Flag(flag) => self.push(if *flag { "true" } else { "false" }),
            Node::Number(number) => self.push(&number.to_string()),
            Node::Text(text) => self.push(&quoted(text)),
            _ => {
                if let Some(record) = look.record(node) {
                    self.push("{")?;
                    for (nth, (key, value)) in record.iter().enumerate() {
                        self.push(if nth > 0 { "," } else { "" })?;
                        self.push(&quoted(key))?;
                        self.push(":")?;
                        self.json(look, value)?;
                    }
                    return self.push("}");
                }
                self.push("[")?;
                for index in 0..look.len(node) {
                    let Some(item) = look.item(node, index) else { break };
                    self.push(if index > 0 { "," } else { "" })?;
                    self.json(look, &item)?;
                }
                self.push("]")
            }
        }
    }

    /// Block style, lists as far to the left as their key. `inline`: something stands before on
    /// this line: `key:`, or `-`.
    fn yaml(
        &mut self,
        look: &Look<'_>,
        node: &Node,
        indent: usize,
        inline: bool,
    ) -> Result<(), TooLarge> {
        let space = if inline { " " } else { "" };
        let plain = match node {
            Node::Null => "null".to_owned(),
            Node::Text(text) => {
                self.push(space)?;
                self.scalar(text);
                return self.push("\n");
            }
            Node::Flag(_) | Node::Number(_) => match node {
                Node::Number(number) => number.to_string(),
                other => other.plain().unwrap_or_default(),
            },
            _ => String::new(),
        };
        if !plain.is_empty() {
            return self.push(&format!("{space}{plain}\n"));
        }
        if let Some(record) = look.record(node) {
            if record.is_empty() {
                return self.push(&format!("{space}{{}}\n"));
            }
            for (nth, (key, value)) in record.iter().enumerate() {
                // Behind the `-` of a list the first key goes on in its line.
                let lead = if nth == 0 && inline { " ".to_owned() } else { " ".repeat(indent) };
                self.push(&lead)?;
                self.scalar(key);
                self.push(":")?;
                if value.has_parts() && !look.is_empty(value) {
                    self.push("\n")?;
                    let deeper = if value.is_list() { indent } else { indent + 2 };
                    self.yaml(look, value, deeper, false)?;
                } else {
                    self.yaml(look, value, indent, true)?;
                }
            }
            return Ok(());
        }
        let count = look.len(node);
        if count == 0 {
            return self.push(&format!("{space}[]\n"));
        }
        for index in 0..count {
            let Some(item) = look.item(node, index) else { break };
            let lead = if index == 0 && inline { " ".to_owned() } else { " ".repeat(indent) };
            self.push(&lead)?;
            self.push("-")?;
            self.yaml(look, &item, indent + 2, true)?;
        }
        Ok(())
    }

    /// A text in YAML: plain where nobody can take it for something else, else in double quotes.
    fn scalar(&mut self, text: &str) {
        const WORDS: [&str; 11] =
            ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];
        let tame = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
        let word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
        let address = text.parse::<std::net::Ipv4Addr>().is_ok();
        if address || (begins && !word && text.chars().all(tame)) {
            self.text.push_str(text);
        } else {
            self.text.push_str(&quoted(text));
        }
    }
}

/// `text` in double quotes, as JSON and YAML both read it.
fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    if !quoted.contains(|c: char| ('\u{7f}'..='\u{9f}').contains(&c)) {
        return quoted;
    }
    let mut out = String::with_capacity(quoted.len() + 16);
    for c in quoted.chars() {
        match c {
            // YAML 1.2 §5.1 does not take them as they are.
            '\u{7f}'..='\u{9f}' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_the_client_likes_best() {
        for (accept, want) in [
            ("", "text/plain; charset=utf-8"),
            ("*/*", "text/plain; charset=utf-8"),
            ("application/json", "application/json"),
            ("Application/JSON; charset=utf-8", "application/json"),
            ("application/*", "application/json"),
            ("text/*", "text/plain; charset=utf-8"),
            ("text/html, */*;q=0.8", "text/plain; charset=utf-8"),
            ("*/*, application/json", "application/json"),
            ("text/plain;q=0.1, application/json;q=0.5", "application/json"),
            ("application/json;q=0", "text/plain; charset=utf-8"),
            ("application/json;q=0, */*", "text/plain; charset=utf-8"),
            ("application/yaml", "application/yaml"),
            ("application/x-yaml", "application/x-yaml"),
            ("text/yaml", "text/yaml"),
            ("text/x-yaml", "text/x-yaml"),
            ("image/png", "text/plain; charset=utf-8"),
            (";;,,q=1;q=x", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(Form::wanted(accept).content_type(), want, "{accept:?}");
        }
    }

    #[test]
    fn names_are_escaped_as_in_a_query() {
        for (text, want) in [("sla/sh", "sla%2Fsh"), ("a b", "a+b"), ("é~", "%C3%A9~"), ("", "")] {
            assert_eq!(escaped(text), want);
        }
    }

    #[test]
    fn an_error_has_the_form_that_was_asked_for() {
        assert_eq!(Form::Text.error(404, "Not found"), "Not found\n");
        let json = Form::Json.error(404, "Not found");
        assert_eq!(json, "{\"code\":404,\"message\":\"Not found\",\"type\":\"error\"}\n");
        let yaml = Form::Yaml("text/yaml").error(404, "Not found");
        assert_eq!(yaml, "code: 404\nmessage: \"Not found\"\ntype: error\n");
    }
}

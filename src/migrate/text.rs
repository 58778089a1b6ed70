//! Writes a configuration as a person would.

use std::fmt::{Display, Write as _};

/// The text of a `portolan.toml`, table by table.
#[derive(Debug, Clone, Default)]
pub struct Text(String);

impl Text {
    /// Begins the table at `path`; parts that are no bare keys are quoted.
    pub fn table(&mut self, path: &[&str]) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        let parts: Vec<String> = path.iter().map(|part| key(part)).collect();
        self.line(format_args!("[{}]", parts.join(".")));
    }

    /// A comment line.
    pub fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.line(format_args!("# {line}"));
        }
    }

    /// `key = "value"`, with every `${` as the two characters themselves.
    pub fn string(&mut self, name: &str, value: &str) {
        self.line(format_args!("{} = {}", key(name), quoted(&plain(value))));
    }

    /// `key = "${variable}"`.
    pub fn variable(&mut self, name: &str, variable: &str) {
        self.line(format_args!("{} = \"${{{variable}}}\"", key(name)));
    }

    /// `key = value` with a value that needs no quotes: a number, `true`, `false`.
    pub fn bare(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{} = {value}", key(name)));
    }

    /// `key = ["a", "b"]`.
    pub fn list<S: AsRef<str>>(&mut self, name: &str, values: &[S]) {
        let values = list(values);
        self.line(format_args!("{} = {values}", key(name)));
    }

    /// `key = { … }`, whose parts are written already.
    pub fn inline(&mut self, name: &str, parts: &[(&str, String)]) {
        let parts: Vec<String> =
            parts.iter().map(|(name, value)| format!("{} = {value}", key(name))).collect();
        self.line(format_args!("{} = {{ {} }}", key(name), parts.join(", ")));
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string never fails.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A value for [`Text::inline`], with every `${` as the two characters themselves.
#[must_use]
pub fn string(value: &str) -> String {
    quoted(&plain(value))
}

/// A list for [`Text::inline`], with every `${` as the two characters themselves.
#[must_use]
pub fn list<S: AsRef<str>>(values: &[S]) -> String {
    let values: Vec<String> = values.iter().map(|value| string(value.as_ref())).collect();
    format!("[{}]", values.join(", "))
}

/// `${` would be taken for a variable.
fn plain(value: &str) -> String {
    value.replace("${", "$${")
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// As a TOML string: over several lines and without escapes where it has several, as far as TOML
/// can say it so.
fn quoted(value: &str) -> String {
    let unfit = |c: char| c.is_control() && c != '\n' && c != '\t';
    if value.contains('\n')
        && !value.contains("'''")
        && !value.ends_with('\'')
        && !value.contains(unfit)
    {
        return format!("'''\n{value}'''");
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_reads_as_a_person_would_have_written_it() {
        let mut text = Text::default();
        text.comment("By hand.\nOr so.");
        text.table(&["template", "a.b"]);
        text.string("source", "/a \"b\"");
        text.string("contents", "{{ x }}\n${HOME}\n");
        text.variable("token", "TOKEN");
        text.bare("backup", true);
        text.list("keys", &["a", "b"]);
        text.inline("wait", &[("min", string("1s"))]);
        assert_eq!(
            text.finish(),
            "# By hand.\n# Or so.\n\n[template.\"a.b\"]\nsource = \"/a \\\"b\\\"\"\n\
             contents = '''\n{{ x }}\n$${HOME}\n'''\ntoken = \"${TOKEN}\"\nbackup = true\n\
             keys = [\"a\", \"b\"]\nwait = { min = \"1s\" }\n"
        );
    }

    proptest! {
        #[test]
        fn any_string_is_read_back_as_it_was(value in any::<String>()) {
            let read: toml::Table = format!("k = {}", quoted(&value)).parse().unwrap();
            prop_assert_eq!(read["k"].as_str(), Some(&*value));
        }
    }
}

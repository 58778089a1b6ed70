//! A command as a configuration states it: a string for the shell, or a list of words without one.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use tokio::process::Command;

/// A command of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandLine {
    /// Run by `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments, as they are. At least one word, the first not empty.
    Words(Vec<String>),
}

/// The files that a command may name: `{{.src}}` and `{{.dest}}`, or `{{ src }}` and `{{ dest }}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// The staged file.
    pub source: Option<&'a Path>,
    /// The file that it is to replace.
    pub destination: Option<&'a Path>,
}

impl CommandLine {
    /// The same command with the names of files in place; for the shell they are quoted if need be.
    /// Names that are not given stay as they are written.
    #[must_use]
    pub fn with(&self, files: Files<'_>) -> Self {
        match self {
            Self::Shell(text) => Self::Shell(replaced(text, files, quoted)),
            Self::Words(words) => {
                Self::Words(words.iter().map(|word| replaced(word, files, str::to_owned)).collect())
            }
        }
    }

    /// The process to start, without its surroundings.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            Self::Shell(text) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(text);
                shell
            }
            Self::Words(words) => {
                let mut words = words.iter();
                let mut command = Command::new(words.next().map_or("", String::as_str));
                command.args(words);
                command
            }
        }
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(text) => f.write_str(text),
            Self::Words(words) => {
                let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                f.write_str(&words.join(" "))
            }
        }
    }
}

/// For the shell.
impl From<&str> for CommandLine {
    fn from(text: &str) -> Self {
        Self::Shell(text.to_owned())
    }
}

/// For the shell.
impl From<String> for CommandLine {
    fn from(text: String) -> Self {
        Self::Shell(text)
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A visitor, for an untagged enum would lose the position of a mistake.
        struct Line;

        impl<'de> Visitor<'de> for Line {
            type Value = CommandLine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command, as a string for the shell or as a list of words")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CommandLine, E> {
                if text.trim().is_empty() {
                    return Err(E::custom(
                        "the command is empty; name what to run, or leave it out",
                    ));
                }
                Ok(CommandLine::Shell(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<CommandLine, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element::<String>()? {
                    words.push(word);
                }
                if words.first().is_none_or(|program| program.trim().is_empty()) {
                    let message = "the list names no program; write it like [\"nginx\", \"-t\"]";
                    return Err(de::Error::custom(message));
                }
                Ok(CommandLine::Words(words))
            }
        }

        deserializer.deserialize_any(Line)
    }
}

/// `text` with every name of a file that is given replaced by what `write` makes of it.
fn replaced(text: &str, files: Files<'_>, write: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let named = after.split_once("}}").and_then(|(name, behind)| {
            let path = match name.trim() {
                ".src" | "src" => files.source,
                ".dest" | "dest" => files.destination,
                _ => None,
            };
            Some((path?, behind))
        });
        if let Some((path, behind)) = named {
            out.push_str(&write(&path.to_string_lossy()));
            rest = behind;
        } else {
            out.push_str("{{");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// `word` so that a shell takes it as one; a plain path stays as it is, for it may stand in quotes.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@=:,%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_source(line: &CommandLine, path: &str) -> CommandLine {
        line.with(Files { source: Some(Path::new(path)), destination: None })
    }

    #[test]
    fn the_staged_path_takes_the_place_of_its_name_in_both_spellings() {
        for (case, command, path, want) in [
            ("go", "check {{.src}}", "/a/b", "check /a/b"),
            ("go, spaced", "check {{ .src }}", "/a/b", "check /a/b"),
            ("jinja", "a {{ src }} b {{src}}", "/a", "a /a b /a"),
            ("in quotes", "check \"{{.src}}\"", "/a/b", "check \"/a/b\""),
            ("to be quoted", "check {{.src}}", "/a b'c", "check '/a b'\\''c'"),
            ("one that is not given", "echo {{.dest}} {{", "/a", "echo {{.dest}} {{"),
            ("others", "echo {{.x}} {{.src}}", "/a", "echo {{.x}} /a"),
        ] {
            assert_eq!(with_source(&command.into(), path), want.into(), "{case}");
        }
        let words = CommandLine::Words(vec!["check".into(), "-f={{.src}}".into()]);
        let want = CommandLine::Words(vec!["check".into(), "-f=/a b".into()]);
        assert_eq!(with_source(&words, "/a b"), want, "words need no quotes");
        let both = Files { source: Some(Path::new("/s")), destination: Some(Path::new("/d")) };
        assert_eq!(CommandLine::from("cmp {{.src}} {{.dest}}").with(both), "cmp /s /d".into());
    }

    #[test]
    fn a_string_is_for_the_shell_and_a_list_is_not() {
        #[derive(Debug, serde::Deserialize)]
        struct Holder {
            run: CommandLine,
        }
        for (case, text, want) in [
            ("string", "run = \"a b\"", Ok("a b".into())),
            (
                "list",
                "run = [\"a\", \"b c\"]",
                Ok(CommandLine::Words(vec!["a".into(), "b c".into()])),
            ),
            ("empty string", "run = \" \"", Err("the command is empty")),
            ("empty list", "run = []", Err("names no program")),
            ("no program", "run = [\"\", \"a\"]", Err("names no program")),
            ("number", "run = 5", Err("a command, as a string")),
            ("a list of others", "run = [1]", Err("string")),
        ] {
            let decoded = toml::from_str::<Holder>(text).map(|holder| holder.run);
            match (decoded, want) {
                (Ok(line), Ok(want)) => assert_eq!(line, want, "{case}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{case}: {error}");
                }
                (decoded, _) => panic!("{case}: {decoded:?}"),
            }
        }
    }

    #[test]
    fn words_are_shown_as_a_shell_would_take_them() {
        let line = CommandLine::Words(vec!["a".into(), "b c".into(), String::new()]);
        assert_eq!(line.to_string(), "a 'b c' ''");
    }
}

//! What was set, by name, with where: the same for files, flags and variables.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where something was set: `file:line:column`, a flag or a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct From(pub(super) Arc<str>);

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value of a known kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Leaf {
    Text(String),
    Flag(bool),
    Count(i64),
    Span(Duration),
    /// The signal's number; none: it is not listened to.
    Signal(Option<i32>),
    /// Permission bits.
    Mode(u32),
    Words(Vec<String>),
    Command(Command),
    /// Set, and not read.
    Set,
}

/// A command of a template or of the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Shell(String),
    Words(Vec<String>),
}

/// A block with all that was set in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Section {
    leaves: BTreeMap<&'static str, (Leaf, From)>,
    sections: BTreeMap<&'static str, Self>,
}

/// All that was set.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) top: Section,
    /// In the order in which they were named, each with its place.
    pub(super) templates: Vec<(Section, From)>,
}

impl Settings {
    /// Takes what `later` sets: it wins, templates are added.
    pub(super) fn merge(&mut self, later: Self) {
        self.top.merge(later.top);
        self.templates.extend(later.templates);
    }
}

impl Section {
    /// Sets what `path` names.
    pub(super) fn set(&mut self, path: &[&'static str], leaf: Leaf, from: From) {
        match path {
            [] => {}
            [name] => {
                self.leaves.insert(name, (leaf, from));
            }
            [section, rest @ ..] => self.section(section).set(rest, leaf, from),
        }
    }

    /// Adds to the list that `path` names.
    pub(super) fn add(&mut self, path: &[&'static str], words: Vec<String>, from: From) {
        let before = match self.at(path) {
            Some((Leaf::Words(before), _)) => before.clone(),
            _ => Vec::new(),
        };
        let new = words.into_iter().filter(|word| !before.contains(word)).collect();
        self.set(path, Leaf::Words([before, new].concat()), from);
    }

    /// The section called `name`, made if need be.
    pub(super) fn section(&mut self, name: &'static str) -> &mut Self {
        self.sections.entry(name).or_default()
    }

    /// The section that `path` names, made if need be.
    pub(super) fn below(&mut self, path: &[&'static str]) -> &mut Self {
        path.iter().fold(self, |section, name| section.section(name))
    }

    fn merge(&mut self, later: Self) {
        for (name, (leaf, from)) in later.leaves {
            match leaf {
                Leaf::Words(words) => self.add(&[name], words, from),
                leaf => {
                    self.leaves.insert(name, (leaf, from));
                }
            }
        }
        for (name, section) in later.sections {
            self.section(name).merge(section);
        }
    }

    fn at(&self, path: &[&str]) -> Option<&(Leaf, From)> {
        let (name, sections) = path.split_last()?;
        self.find(sections)?.leaves.get::<str>(name)
    }

    fn find(&self, path: &[&str]) -> Option<&Self> {
        let mut section = self;
        for name in path {
            section = section.sections.get::<str>(name)?;
        }
        Some(section)
    }

    /// Where what `path` names was set, if it was.
    pub(super) fn from(&self, path: &[&str]) -> Option<&From> {
        self.at(path).map(|(_, from)| from)
    }

    /// Whether nothing was set in the section that `path` names; the first place otherwise.
    pub(super) fn first(&self, path: &[&str]) -> Option<&From> {
        let section = self.find(path)?;
        let own = section.leaves.values().next().map(|(_, from)| from);
        own.or_else(|| section.sections.keys().find_map(|name| section.first(&[name])))
    }

    /// A text that is not empty.
    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        match self.at(path)? {
            (Leaf::Text(text), _) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, path: &[&str]) -> Option<bool> {
        match self.at(path)? {
            (Leaf::Flag(flag), _) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn count(&self, path: &[&str]) -> Option<i64> {
        match self.at(path)? {
            (Leaf::Count(count), _) => Some(*count),
            _ => None,
        }
    }

    pub(super) fn span(&self, path: &[&str]) -> Option<Duration> {
        match self.at(path)? {
            (Leaf::Span(span), _) => Some(*span),
            _ => None,
        }
    }

    /// The signal that was set, which may be none; `otherwise` when nothing was.
    pub(super) fn signal(&self, path: &[&str], otherwise: Option<i32>) -> Option<i32> {
        match self.at(path) {
            Some((Leaf::Signal(signal), _)) => *signal,
            _ => otherwise,
        }
    }

    pub(super) fn mode(&self, path: &[&str]) -> Option<u32> {
        match self.at(path)? {
            (Leaf::Mode(mode), _) => Some(*mode),
            _ => None,
        }
    }

    /// A list; empty when it was not set.
    pub(super) fn words(&self, path: &[&str]) -> &[String] {
        match self.at(path) {
            Some((Leaf::Words(words), _)) => words,
            _ => &[],
        }
    }

    /// A command that is not empty.
    pub(super) fn command(&self, path: &[&str]) -> Option<&Command> {
        match self.at(path)? {
            (Leaf::Command(command), _) => match command {
                Command::Shell(text) if text.trim().is_empty() => None,
                Command::Words(words) if words.first().is_none_or(String::is_empty) => None,
                command => Some(command),
            },
            _ => None,
        }
    }

    /// What stands right here, or below, by its full name.
    #[cfg(test)]
    pub(super) fn leaves(&self) -> Vec<String> {
        let below = self.sections.iter().flat_map(|(name, section)| {
            section.leaves().into_iter().map(move |leaf| format!("{name}.{leaf}"))
        });
        self.leaves.keys().map(|name| (*name).to_owned()).chain(below).collect()
    }

    #[cfg(test)]
    pub(super) fn leaf(&self, path: &[&str]) -> Option<&Leaf> {
        self.at(path).map(|(leaf, _)| leaf)
    }
}

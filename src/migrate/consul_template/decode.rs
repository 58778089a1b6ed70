//! From what a file says to what is set: every key is known, and every value of its kind.

use std::sync::Arc;

use super::hcl::{self, Item, Node, Place, Value};
use super::hcl_text::Number;
use super::schema::{Key, Kind, TEMPLATE, TOP, WAIT};
use super::settings::{Command, From, Leaf, Section, Settings};
use super::values;
use crate::suggest;

/// What the file called `name` sets.
///
/// # Errors
/// Every problem, as `file:line:column: message`.
pub(super) fn file(name: &str, text: &str) -> Result<Settings, Vec<String>> {
    let mut decoder = Decoder { file: name.into(), problems: Vec::new(), templates: Vec::new() };
    let items = hcl::read(text)
        .map_err(|fault| vec![format!("{name}:{}: {}", fault.place, fault.message)])?;
    let mut top = Section::default();
    decoder.block("the configuration", TOP, &items, &mut top);
    if decoder.problems.is_empty() {
        return Ok(Settings { top, templates: decoder.templates });
    }
    Err(decoder.problems)
}

struct Decoder {
    file: Arc<str>,
    problems: Vec<String>,
    templates: Vec<(Section, From)>,
}

impl Decoder {
    fn from(&self, place: Place) -> From {
        From(format!("{}:{place}", self.file).into())
    }

    fn complain(&mut self, place: Place, message: impl std::fmt::Display) {
        self.problems.push(format!("{}:{place}: {message}", self.file));
    }

    /// Reads `items` as the keys of `schema` into `section`, which `name` names in messages.
    fn block(&mut self, name: &str, schema: &[Key], items: &[Item], section: &mut Section) {
        for item in items {
            // Names are the same in any case, as they are there.
            let lower = item.key.to_ascii_lowercase();
            if let Some(key) = schema.iter().find(|key| key.name == lower) {
                self.key(key, &item.node, section);
            } else {
                let known: Vec<&str> = schema.iter().map(|key| key.name).collect();
                let message = suggest::unknown_key(&item.key, name, &known);
                self.complain(item.place, message);
            }
        }
    }

    fn key(&mut self, key: &Key, node: &Node, section: &mut Section) {
        if matches!(node.value, Value::Nothing) {
            return;
        }
        match key.kind {
            Kind::Block(schema) => self.blocks(key, schema, node, section),
            Kind::BlockOr(schema, text) => match &node.value {
                Value::Block(_) => self.blocks(key, schema, node, section),
                Value::List(nodes) if nodes.iter().all(|n| matches!(n.value, Value::Block(_))) => {
                    self.blocks(key, schema, node, section);
                }
                _ => {
                    let Some(inner) = schema.iter().find(|inner| inner.name == text) else {
                        return;
                    };
                    self.key(inner, node, below(section, key));
                }
            },
            Kind::Wait => match &node.value {
                Value::Text(text) => match values::wait(text) {
                    Ok((min, max)) => {
                        let from = self.from(node.place);
                        let wait = below(section, key);
                        wait.set(&["min"], Leaf::Span(min), from.clone());
                        wait.set(&["max"], Leaf::Span(max), from);
                    }
                    Err(why) => self.complain(node.place, format_args!("`{}`: {why}", key.name)),
                },
                _ => self.blocks(key, WAIT, node, section),
            },
            Kind::Templates => self.each(key, node, |decoder, items, place| {
                let mut template = Section::default();
                decoder.block("a template", TEMPLATE, items, &mut template);
                let from = decoder.from(place);
                decoder.templates.push((template, from));
            }),
            Kind::Words => match words(&node.value) {
                Some(words) => {
                    let from = self.from(node.place);
                    for path in key.to {
                        section.add(path, words.clone(), from.clone());
                    }
                }
                None => self.wrong(key, node, "a list of texts, like [\"a\", \"b\"]"),
            },
            _ => match leaf(key.kind, &node.value) {
                Ok(leaf) => {
                    let from = self.from(node.place);
                    for path in key.to {
                        section.set(path, leaf.clone(), from.clone());
                    }
                }
                Err(Wrong::Kind(wanted)) => self.wrong(key, node, wanted),
                Err(Wrong::Value(why)) => {
                    self.complain(node.place, format_args!("`{}`: {why}", key.name));
                }
            },
        }
    }

    fn wrong(&mut self, key: &Key, node: &Node, wanted: &str) {
        let found = match node.value {
            Value::Text(_) => "a text",
            Value::Number(_) => "a number",
            Value::Flag(_) => "true or false",
            Value::List(_) => "a list",
            Value::Block(_) => "a block",
            Value::Nothing => "nothing",
        };
        self.complain(node.place, format_args!("`{}` must be {wanted}, not {found}", key.name));
    }

    fn blocks(&mut self, key: &Key, schema: &[Key], node: &Node, section: &mut Section) {
        let section = below(section, key);
        self.each(key, node, |decoder, items, _| {
            decoder.block(&format!("`{}`", key.name), schema, items, section);
        });
    }

    /// The block that `node` is, or each of the list of blocks that it is.
    fn each(&mut self, key: &Key, node: &Node, mut read: impl FnMut(&mut Self, &[Item], Place)) {
        match &node.value {
            Value::Block(items) => read(self, items, node.place),
            Value::List(nodes) => {
                for node in nodes {
                    match &node.value {
                        Value::Block(items) => read(self, items, node.place),
                        _ => self.wrong(key, node, "a block"),
                    }
                }
            }
            _ => self.wrong(key, node, "a block"),
        }
    }
}

/// The section that a key of a block fills.
fn below<'s>(section: &'s mut Section, key: &Key) -> &'s mut Section {
    section.below(key.to.first().copied().unwrap_or_default())
}

enum Wrong {
    /// It must be this.
    Kind(&'static str),
    /// It is of the right kind, and yet wrong.
    Value(String),
}

fn leaf(kind: Kind, value: &Value) -> Result<Leaf, Wrong> {
    match (kind, value) {
        (Kind::Text, Value::Text(text)) => Ok(Leaf::Text(text.clone())),
        // Ids of users and groups are numbers.
        (Kind::Text, Value::Number(Number::Whole { value, .. })) => {
            Ok(Leaf::Text(value.to_string()))
        }
        (Kind::Text, _) => Err(Wrong::Kind("a text in quotes")),
        (Kind::Flag, Value::Flag(flag)) => Ok(Leaf::Flag(*flag)),
        (Kind::Flag, Value::Text(text)) => {
            values::flag(text).map(Leaf::Flag).ok_or(Wrong::Kind("true or false"))
        }
        (Kind::Flag, Value::Number(Number::Whole { value: value @ 0..=1, .. })) => {
            Ok(Leaf::Flag(*value == 1))
        }
        (Kind::Flag, _) => Err(Wrong::Kind("true or false")),
        (Kind::Count, Value::Number(Number::Whole { value, .. })) => Ok(Leaf::Count(*value)),
        (Kind::Count, Value::Text(text)) => {
            text.parse().map(Leaf::Count).map_err(|_| Wrong::Kind("a whole number"))
        }
        (Kind::Count, _) => Err(Wrong::Kind("a whole number")),
        (Kind::Fraction, Value::Number(_)) | (Kind::Any, _) => Ok(Leaf::Set),
        (Kind::Fraction, _) => Err(Wrong::Kind("a number")),
        (Kind::Span, Value::Text(text)) => values::span(text).map(Leaf::Span).map_err(Wrong::Value),
        (Kind::Span, Value::Number(Number::Whole { value: 0, .. })) => {
            Ok(Leaf::Span(std::time::Duration::ZERO))
        }
        (Kind::Span, _) => Err(Wrong::Kind("a length of time in quotes, like \"30s\"")),
        (Kind::Signal, Value::Text(text)) => {
            values::signal(text).map(Leaf::Signal).map_err(Wrong::Value)
        }
        (Kind::Signal, _) => Err(Wrong::Kind("a signal in quotes, like \"SIGHUP\"")),
        (Kind::Mode, Value::Text(text)) => values::mode(text).map(Leaf::Mode).map_err(Wrong::Value),
        (Kind::Mode, Value::Number(number)) => {
            values::mode_of(*number).map(Leaf::Mode).map_err(Wrong::Value)
        }
        (Kind::Mode, _) => Err(Wrong::Kind("permissions in octal, like 0644")),
        (Kind::Command, Value::Text(text)) => Ok(Leaf::Command(Command::Shell(text.clone()))),
        (Kind::Command, Value::List(_)) => {
            let words = words(value).ok_or(Wrong::Kind("a text, or a list of texts"))?;
            Ok(Leaf::Command(values::command(words)))
        }
        (Kind::Command, _) => Err(Wrong::Kind("a text, or a list of texts")),
        (Kind::Words | Kind::Wait | Kind::Block(_) | Kind::BlockOr(..) | Kind::Templates, _) => {
            Err(Wrong::Kind("a block"))
        }
    }
}

/// A list of texts; a text is the list of what stands between its commas.
fn words(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Text(text) if text.is_empty() => Some(Vec::new()),
        Value::Text(text) => Some(text.split(',').map(str::to_owned).collect()),
        Value::List(nodes) => nodes
            .iter()
            .map(|node| match &node.value {
                Value::Text(text) => Some(text.clone()),
                Value::Number(Number::Whole { value, .. }) => Some(value.to_string()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

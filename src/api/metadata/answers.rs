//! The answers of a file, word for word: by version, by client.
//!
//! A file holds sections of clients (`default`, or an address), or versions that hold such
//! sections. Which of both it is shows in its keys: versions are called `latest` or by a date.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::node::{Node, Record};

/// The section that is everybody's.
const DEFAULT: &str = "default";
/// The version that is there in any case.
pub(super) const LATEST: &str = "latest";

/// What a file answers.
#[derive(Debug)]
pub(super) struct Answers {
    /// What it was read from.
    text: Arc<str>,
    versions: BTreeMap<Arc<str>, Sections>,
    /// Of a file without versions: the same for each.
    every: Option<Sections>,
}

/// The sections of a version.
#[derive(Debug, Default)]
struct Sections {
    default: Arc<Record>,
    clients: HashMap<IpAddr, Arc<Record>>,
}

/// What a client is told: its own section, and that of everybody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    own: Option<&'a Record>,
    default: &'a Record,
}

impl<'a> Told<'a> {
    /// What stands under `key`: in its own section, or else in that of everybody.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.own.and_then(|own| own.get(key)).or_else(|| self.default.get(key))
    }

    /// Both sections as one.
    pub(super) fn whole(&self) -> Record {
        let mut whole = self.default.clone();
        whole.extend(self.own.into_iter().flatten().map(|(k, v)| (Arc::clone(k), v.clone())));
        whole
    }

    /// Whether others are told something else.
    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

impl Answers {
    /// Reads `text`, which is JSON; what is no table where one belongs is left out.
    pub(super) fn read(text: &Arc<str>) -> Self {
        let mut answers = Self { text: Arc::clone(text), versions: BTreeMap::new(), every: None };
        let Ok(Value::Object(top)) = serde_json::from_str(text) else { return answers };
        if top.keys().any(|key| is_version(key)) {
            let versions = top.into_iter().filter_map(|(version, value)| match value {
                Value::Object(clients) => Some((version.into(), Sections::read(clients))),
                _ => None,
            });
            answers.versions = versions.collect();
        } else {
            answers.every = Some(Sections::read(top));
        }
        answers
    }

    /// Whether it was read from this very text.
    pub(super) fn is_of(&self, text: &Arc<str>) -> bool {
        Arc::ptr_eq(&self.text, text) || self.text == *text
    }

    /// The versions that the file names; none when it is the same for each.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Arc<str>> {
        self.versions.keys()
    }

    /// Whether it is the same for each version.
    pub(super) const fn is_for_every(&self) -> bool {
        self.every.is_some()
    }

    /// What `client` is told in `version`; a `latest` that the file does not name is the version
    /// whose name is the highest. None: there is no such version.
    pub(super) fn told(&self, version: &str, client: IpAddr) -> Option<Told<'_>> {
        let named = self.every.as_ref().or_else(|| self.versions.get(version));
        let highest = || self.versions.values().next_back().filter(|_| version == LATEST);
        let sections = named.or_else(highest)?;
        let own = sections.clients.get(&client.to_canonical());
        Some(Told { own: own.map(|own| &**own), default: &sections.default })
    }
}

impl Sections {
    fn read(clients: serde_json::Map<String, Value>) -> Self {
        let mut sections = Self::default();
        for (client, value) in clients {
            let Node::Table(record) = Node::of(value) else { continue };
            if client == DEFAULT {
                sections.default = record;
            } else if let Ok(address) = client.parse::<IpAddr>() {
                sections.clients.insert(address.to_canonical(), record);
            }
        }
        sections
    }
}

/// Whether `key` is the name of a version: `latest`, or a date.
pub(super) fn is_version(key: &str) -> bool {
    let date = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    key == LATEST || (key.len() == 10 && key.bytes().enumerate().all(date))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, version: &str, client: &str) -> String {
        let answers = Answers::read(&text.into());
        let Some(told) = answers.told(version, client.parse().unwrap()) else {
            return "no such version".to_owned();
        };
        let whole = told.whole();
        let entries = whole.iter().map(|(key, value)| {
            assert_eq!(told.get(key), Some(value), "{key}");
            format!("{key}={}", value.plain().unwrap_or_else(|| "?".to_owned()))
        });
        entries.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_client_is_told_its_own_section_and_below_it_what_everybody_is_told() {
        let plain = r#"{"default": {"a": 1, "b": null}, "10.0.0.1": {"a": 2, "c": []},
                        "::1": {"a": 3}, "nonsense": {"a": 4}, "10.0.0.2": "text"}"#;
        let dated = format!(
            r#"{{"2015-07-25": {plain}, "2015-12-19": {{"default": {{"a": 9}}}}, "2014-01-01": 1}}"#
        );
        for (case, text, version, client, want) in [
            ("everybody", plain, "latest", "10.9.9.9", "a=1 b="),
            ("its own", plain, "2016-07-29", "10.0.0.1", "a=2 b= c=?"),
            ("mapped into IPv6", plain, "latest", "::ffff:10.0.0.1", "a=2 b= c=?"),
            ("IPv6", plain, "latest", "::1", "a=3 b="),
            ("a section that is no table", plain, "latest", "10.0.0.2", "a=1 b="),
            ("a version", &dated, "2015-07-25", "10.0.0.1", "a=2 b= c=?"),
            ("another version", &dated, "2015-12-19", "10.0.0.1", "a=9"),
            ("the highest is the latest", &dated, "latest", "10.0.0.1", "a=9"),
            ("no table", &dated, "2014-01-01", "10.0.0.1", "no such version"),
            ("no such one", &dated, "2016-07-29", "10.0.0.1", "no such version"),
            ("no JSON", "{", "latest", "10.0.0.1", "no such version"),
        ] {
            assert_eq!(told(text, version, client), want, "{case}");
        }
    }
}

//! The registry `rancher-answers`: the `answers.json` or `answers.yaml` of Rancher's DNS, or of its
//! metadata service (`metadata.rs`).
//!
//! Each entry of a section becomes a service whose meta the dialect `rancher` reads: the kind of
//! the entry (`rancher.answers`), whose section it is (`rancher.client`; none for `default`), its
//! name, TTL, target and texts. Addresses become instances. The service is called by its name, with
//! the client and a slash before it in a section of a client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::metadata;
use crate::catalog::model::{META_VALUE_MAX, Meta, parse_name, parse_text};
use crate::catalog::{Address, Instance, Problem, RegistryView, SourceService};
use crate::registry::Source;
use crate::registry::defaults::{sixty_four_mebibytes, two_hundred_thousand, two_seconds, yes};
use crate::registry::file::ServicesPath;
use crate::registry::follow::Followed;
use crate::registry::outlet::Outlet;
use crate::registry::tree::{self, Entry, Notation, Shape, Tree};
use crate::units::{Period, Size};

/// `[registry.NAME.rancher-answers]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RancherAnswersConfig {
    /// The file; `.json`, `.yaml` or `.yml`. A relative path begins at the configuration.
    pub path: ServicesPath,
    /// Whose answers they are.
    #[serde(default)]
    pub kind: AnswersKind,
    /// Who wins for the same instance id in two registries: the higher one.
    #[serde(default)]
    pub priority: i32,
    /// Whether the process is not ready before the file was read once. True unless told otherwise.
    #[serde(default = "yes")]
    pub required: bool,
    /// How often to look at the file where the kernel tells of no changes; at least 10 ms.
    #[serde(default = "two_seconds")]
    pub poll: Period,
    /// Whether to ask the kernel for changes at all; polling goes on either way.
    #[serde(default = "yes")]
    pub watch: bool,
    /// Largest file that is read; a larger one is refused as a whole.
    #[serde(default = "sixty_four_mebibytes")]
    pub max_size: Size,
    /// Most sections of clients; with more the file is refused as a whole.
    #[serde(default = "ten_thousand")]
    pub max_clients: usize,
    /// Most entries over all sections; with more the file is refused as a whole.
    #[serde(default = "two_hundred_thousand")]
    pub max_entries: usize,
}

/// What a file of answers was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswersKind {
    /// Rancher's DNS.
    #[default]
    Dns,
    /// Rancher's metadata service.
    Metadata,
}

const fn ten_thousand() -> usize {
    10_000
}

/// The section that is everybody's.
const DEFAULT: &str = "default";

impl Source for RancherAnswersConfig {
    async fn run(self, base_dir: PathBuf, outlet: Outlet) {
        let notation = self.path.notation();
        let limits = Limits { clients: self.max_clients, entries: self.max_entries };
        let kind = self.kind;
        let followed = Followed {
            path: base_dir.join(self.path.as_path()),
            poll: self.poll,
            watch: self.watch,
            max_size: self.max_size,
            decode: Arc::new(move |registry, file, text, last: &RegistryView| {
                if kind == AnswersKind::Metadata {
                    return metadata::decode(registry, file, text, notation, limits, last);
                }
                let (services, problems) = decode(registry, file, text, notation, limits)?;
                Ok(last.replaced(services, problems))
            }),
        };
        followed.run(outlet).await;
    }
}

/// How much a file may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) clients: usize,
    pub(super) entries: usize,
}

/// What a file holds, and what was refused of it.
struct Decoding<'a> {
    registry: &'a Arc<str>,
    services: BTreeMap<Arc<str>, SourceService>,
    problems: Vec<Problem>,
}

/// Reads `text`, the content of `file`, for the registry called `registry`. Pure.
fn decode(
    registry: &Arc<str>,
    file: &str,
    text: &str,
    notation: Notation,
    limits: Limits,
) -> Result<(Vec<SourceService>, Vec<Problem>), String> {
    let tree = tree::parse(notation, file, text)?;
    let Shape::Table(sections) = tree.shape else {
        return Err(format!("{file}: is no table of clients, each with its answers"));
    };
    if sections.len() > limits.clients {
        return Err(format!(
            "{file}: has {} clients, more than `max_clients` = {}; raise it",
            sections.len(),
            limits.clients
        ));
    }
    let mut decoding = Decoding { registry, services: BTreeMap::new(), problems: Vec::new() };
    let mut entries = 0;
    for Entry { key: client, value, .. } in &sections {
        let Some(kinds) = table(value) else {
            decoding.refuse(client, format!("is {}, not a table", value.shape.describe()));
            continue;
        };
        let whose = client.to_ascii_lowercase();
        let whose = (whose != DEFAULT).then_some(&*whose);
        for Entry { key: kind, value, .. } in kinds {
            match (&**kind, &value.shape) {
                ("a" | "cname" | "ptr" | "txt", Shape::Table(names)) => {
                    entries += names.len();
                    if entries > limits.entries {
                        return Err(format!(
                            "{file}: has more entries than `max_entries` = {}; raise it",
                            limits.entries
                        ));
                    }
                    for Entry { key: name, value, .. } in names {
                        decoding.entry(whose, kind, name, value);
                    }
                }
                ("search", Shape::List(_)) => decoding.search(whose, value),
                // Zones and forwarding are told by the configuration.
                ("authoritative" | "recurse", _) | (_, Shape::Null) => {}
                _ => {
                    let told = value.shape.describe();
                    decoding.refuse(client, format!("`{kind}` is {told}, which is not known"));
                }
            }
        }
    }
    Ok((decoding.services.into_values().collect(), decoding.problems))
}

fn table(tree: &Tree) -> Option<&Vec<Entry>> {
    match &tree.shape {
        Shape::Table(entries) => Some(entries),
        _ => None,
    }
}

/// Text or a list of texts.
fn texts(tree: &Tree) -> Vec<&str> {
    match &tree.shape {
        Shape::Text(text) => vec![text],
        Shape::List(all) => all.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

impl Decoding<'_> {
    fn refuse(&mut self, place: &str, message: String) {
        self.problems.push(Problem { place: place.into(), message: message.into() });
    }

    fn entry(&mut self, client: Option<&str>, kind: &str, name: &str, value: &Tree) {
        let place = format!("{}/{name}", client.unwrap_or(DEFAULT));
        let field = |key: &str| {
            table(value)?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
        };
        let answers = field("answer").map(texts).unwrap_or_default();
        let mut facts: Vec<(String, &str)> = Vec::new();
        let mut instances = Vec::new();
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        let mut owner = lower.clone();
        match kind {
            "a" => {
                for text in &answers {
                    match text.parse::<IpAddr>() {
                        Ok(ip) => {
                            instances.push(Instance::bare(self.registry, text, Address::Ip(ip)));
                        }
                        Err(_) => self.refuse(&place, format!("{text:?} is no IP address")),
                    }
                }
            }
            "txt" => {
                let numbered = answers.iter().enumerate();
                facts.extend(numbered.map(|(n, text)| (format!("rancher.text.{n:03}"), *text)));
            }
            _ => {
                let Some(target) = answers.first() else {
                    return self.refuse(&place, "has no `answer`".to_owned());
                };
                facts.push(("rancher.target".to_owned(), target.trim_end_matches('.')));
                if kind == "ptr"
                    && let Ok(ip) = name.parse::<IpAddr>()
                {
                    owner = reversed(ip);
                }
            }
        }
        let ttl = match field("ttl").map(|ttl| &ttl.shape) {
            Some(Shape::Integer(seconds)) => Some(seconds.to_string()),
            _ => None,
        };
        facts.push(("rancher.name".to_owned(), &owner));
        if let Some(ttl) = &ttl {
            facts.push(("rancher.ttl".to_owned(), ttl));
        }
        // One name may stand under several kinds.
        let called = if kind == "a" { lower.clone() } else { format!("{lower}/{kind}") };
        self.put(client, kind, &called, &facts, instances, &place);
    }

    fn search(&mut self, client: Option<&str>, value: &Tree) {
        let names = texts(value).join(" ");
        let place = format!("{}/search", client.unwrap_or(DEFAULT));
        self.put(
            client,
            "search",
            "search",
            &[("rancher.search".to_owned(), &names)],
            vec![],
            &place,
        );
    }

    fn put(
        &mut self,
        client: Option<&str>,
        kind: &str,
        called: &str,
        facts: &[(String, &str)],
        instances: Vec<Instance>,
        place: &str,
    ) {
        let whole = client.map_or_else(|| called.to_owned(), |client| format!("{client}/{called}"));
        let name = match parse_name("name", &whole) {
            Ok(name) => name,
            Err(message) => return self.refuse(place, message),
        };
        let mut meta = Meta::new();
        meta.insert("rancher.answers".into(), kind.into());
        if let Some(client) = client {
            meta.insert("rancher.client".into(), client.into());
        }
        for (key, value) in facts {
            match parse_text("value", value, META_VALUE_MAX) {
                Ok(value) => drop(meta.insert(key.as_str().into(), value)),
                Err(message) => self.refuse(place, message),
            }
        }
        let mut instances = instances;
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        instances.dedup_by(|a, b| a.id == b.id);
        let service = SourceService {
            name: Arc::clone(&name),
            tags: Arc::new([]),
            meta: Arc::new(meta),
            instances: instances.into_iter().map(Arc::new).collect(),
            problems: Vec::new(),
            suspect: None,
        };
        self.services.insert(name, service);
    }
}

/// The name under which `ip` is asked for backwards.
fn reversed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let digits = format!("{:032x}", u128::from(ip));
            let nibbles: Vec<String> = digits.chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa", nibbles.join("."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { clients: 5, entries: 20 };
    const ANSWERS: &str = r#"{
        "10.42.0.5": {
            "search": ["s.e.discover.internal", "e.discover.internal"],
            "recurse": ["8.8.8.8"],
            "cname": {"db.": {"answer": "mysql.s.e.discover.internal."}},
            "a": {"alias.": {"answer": ["10.1.0.2"], "ttl": 42}}
        },
        "default": {
            "authoritative": ["discover.internal"],
            "a": {"Web.S.E.discover.internal.": {"answer": ["10.1.0.1", "10.1.0.9"]},
                  "bad.": {"answer": ["10.1.0.300"]}},
            "ptr": {"10.1.0.1": {"answer": "web.s.e.discover.internal."}},
            "txt": {"t.": {"answer": ["one", "two"]}},
            "nope": {}
        }
    }"#;

    fn read(notation: Notation, text: &str, limits: Limits) -> Result<Vec<String>, String> {
        let (services, problems) = decode(&"r".into(), "answers", text, notation, limits)?;
        let mut lines: Vec<String> = services
            .iter()
            .map(|service| {
                let facts: Vec<String> =
                    service.meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let ids: Vec<&str> = service.instances.iter().map(|i| &*i.id).collect();
                format!("{} {} [{}]", service.name, facts.join(","), ids.join(" "))
            })
            .collect();
        lines.extend(problems.iter().map(|p| format!("! {} {}", p.place, p.message)));
        Ok(lines)
    }

    #[test]
    fn sections_become_services_and_what_is_wrong_costs_only_itself() {
        let want = [
            "10.42.0.5/alias rancher.answers=a,rancher.client=10.42.0.5,rancher.name=alias,rancher.ttl=42 [10.1.0.2]",
            "10.42.0.5/db/cname rancher.answers=cname,rancher.client=10.42.0.5,rancher.name=db,rancher.target=mysql.s.e.discover.internal []",
            "10.42.0.5/search rancher.answers=search,rancher.client=10.42.0.5,rancher.search=s.e.discover.internal e.discover.internal []",
            "10.1.0.1/ptr rancher.answers=ptr,rancher.name=1.0.1.10.in-addr.arpa,rancher.target=web.s.e.discover.internal []",
            "bad rancher.answers=a,rancher.name=bad []",
            "t/txt rancher.answers=txt,rancher.name=t,rancher.text.000=one,rancher.text.001=two []",
            "web.s.e.discover.internal rancher.answers=a,rancher.name=web.s.e.discover.internal [10.1.0.1 10.1.0.9]",
            "! default/bad. \"10.1.0.300\" is no IP address",
            "! default `nope` is a table, which is not known",
        ];
        let mut got = read(Notation::Json, ANSWERS, LIMITS).unwrap();
        got.sort();
        let mut want: Vec<String> = want.iter().map(ToString::to_string).collect();
        want.sort();
        assert_eq!(got, want);
        // JSON is YAML too, and so the files of old have been read.
        let mut yaml = read(Notation::Yaml, ANSWERS, LIMITS).unwrap();
        yaml.sort();
        assert_eq!(yaml, want);
    }

    #[test]
    fn a_file_beyond_its_limits_or_of_another_shape_is_refused_as_a_whole() {
        let few = |clients, entries| Limits { clients, entries };
        for (case, text, limits, want) in [
            ("clients", ANSWERS, few(1, 20), "`max_clients` = 1"),
            ("entries", ANSWERS, few(5, 3), "`max_entries` = 3"),
            ("a list", "[]", LIMITS, "no table of clients"),
            ("half a file", "{\"default\": {\"a\"", LIMITS, "answers:1:"),
        ] {
            let error = read(Notation::Json, text, limits).unwrap_err();
            assert!(error.contains(want), "{case}: {error}");
        }
    }
}

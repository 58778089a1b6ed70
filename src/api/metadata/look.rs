//! Looking into the tree: what a client is told in a version, and the way along a path.

use std::net::IpAddr;
use std::sync::Arc;

use super::answers::{LATEST, Told};
use super::chart::Chart;
use super::live;
use super::node::{Live, Node, Record};
use super::place::Placed;
use super::version::{KNOWN, Version};

/// The tree as one client is told it, in one version of one generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    chart: &'a Chart,
    version: Version,
    client: IpAddr,
    told: Option<Told<'a>>,
}

/// The names of the versions that there are, in order.
pub(super) fn versions(chart: &Chart) -> Vec<Arc<str>> {
    let mut all: Vec<Arc<str>> = vec![LATEST.into()];
    let files = chart.answers.as_ref();
    if chart.live || files.is_none_or(|answers| answers.is_for_every()) {
        all.extend(KNOWN.map(Arc::from));
    }
    all.extend(files.into_iter().flat_map(|answers| answers.versions().cloned()));
    all.sort();
    all.dedup();
    all
}

impl<'a> Look<'a> {
    /// What `client` is told in the version called `version`, if there is such a version.
    pub(super) fn new(chart: &'a Chart, version: &str, client: IpAddr) -> Option<Self> {
        let told = chart.answers.as_ref().and_then(|answers| answers.told(version, client));
        let known = KNOWN.contains(&version) || version == LATEST;
        let there = told.is_some() || (known && chart.live);
        there.then(|| Self { chart, version: Version::named(version), client, told })
    }

    /// Whether the answer at `path` may depend on who asks.
    pub(super) fn is_own(&self, path: &[String]) -> bool {
        let own = self.told.is_some_and(|told| told.is_own());
        own || path.first().is_none_or(|first| first.eq_ignore_ascii_case("self"))
    }

    /// What stands at `path`; when nothing does, what stands at the same path in lower case.
    pub(super) fn at(&self, path: &[String]) -> Option<Node> {
        self.along(path.iter().map(|part| &**part)).or_else(|| {
            let lower: Vec<String> = path.iter().map(|part| part.to_lowercase()).collect();
            if lower == path { None } else { self.along(lower.iter().map(|part| &**part)) }
        })
    }

    fn along<'p>(&self, mut path: impl Iterator<Item = &'p str>) -> Option<Node> {
        let Some(first) = path.next() else { return Some(Node::table(self.top_record())) };
        let mut node = self.top(first)?;
        for part in path {
            node = if node.is_list() {
                self.item_called(&node, part)?
            } else {
                self.entry(&node, part)?
            };
        }
        Some(node)
    }

    /// The entry `key` of the root: the generation, what a file says, what the catalog knows.
    fn top(&self, key: &str) -> Option<Node> {
        if key == "version" {
            return Some(Node::text(&self.chart.snapshot.generation.to_string()));
        }
        if let Some(found) = self.told.and_then(|told| told.get(key)) {
            return Some(found.clone());
        }
        if !self.chart.live {
            return None;
        }
        let environment = &self.chart.sieve.environment;
        Some(match key {
            "containers" => Node::Live(Live::Containers),
            "services" => Node::Live(Live::Services),
            "stacks" => Node::Live(Live::Stacks),
            "hosts" => Node::Live(Live::Hosts),
            "networks" => Node::list([]),
            "environment_name" => Node::Text(Arc::clone(environment)),
            "environment_uuid" => Node::Text(live::environment_uuid(environment)),
            "environments" => self.environments(),
            "self" => self.own()?,
            _ => return None,
        })
    }

    fn top_record(&self) -> Record {
        const KEYS: [&str; 10] = [
            "containers",
            "environment_name",
            "environment_uuid",
            "environments",
            "hosts",
            "networks",
            "self",
            "services",
            "stacks",
            "version",
        ];
        let mut record = self.told.map(|told| told.whole()).unwrap_or_default();
        for key in KEYS {
            if let Some(value) = self.top(key) {
                record.insert(key.into(), value);
            }
        }
        record
    }

    fn environments(&self) -> Node {
        Node::list(self.chart.environments().into_iter().map(|name| {
            let uuid = Node::Text(live::environment_uuid(name));
            Node::table(
                [("name".into(), Node::Text(Arc::clone(name))), ("uuid".into(), uuid)].into(),
            )
        }))
    }

    /// Who asks: the container at its address with all around it, or else the host there.
    fn own(&self) -> Option<Node> {
        let mut record = Record::new();
        let host = |number: Option<u32>| {
            number.map_or(Node::Null, |number| Node::Live(Live::Host(number)))
        };
        if let Some((service, nth)) = self.chart.container_at(self.client) {
            let placed = self.chart.service(service)?;
            let machine = placed.container(nth)?.node.as_ref();
            let stack = self.chart.stack_of(service);
            record.insert("container".into(), Node::Live(Live::Container(service, nth)));
            record.insert("service".into(), Node::Live(Live::Service(service)));
            let stack = stack.map_or(Node::Null, |stack| Node::Live(Live::Stack(stack)));
            record.insert("stack".into(), stack);
            let number = machine.and_then(|machine| self.chart.host_named(&machine.name));
            record.insert("host".into(), host(number));
        } else {
            let number = self.chart.host_at(self.client.to_canonical())?;
            record.insert("host".into(), host(Some(number)));
        }
        Some(Node::table(record))
    }

    /// The entries of a table; none for all else.
    pub(super) fn record(&self, node: &Node) -> Option<Arc<Record>> {
        let (chart, version) = (self.chart, self.version);
        match node {
            Node::Table(record) => Some(Arc::clone(record)),
            Node::Live(live) => {
                let record = match *live {
                    Live::Container(service, nth) => {
                        live::container(chart, chart.service(service)?, nth, version)?
                    }
                    Live::Service(number) => live::service(chart.service(number)?, number, version),
                    Live::Stack(number) => live::stack(chart, number, version)?,
                    Live::Host(number) => live::host(chart.host(number)?, version),
                    _ => return None,
                };
                Some(Arc::new(record))
            }
            _ => None,
        }
    }

    /// How many items a list has.
    pub(super) fn len(&self, node: &Node) -> usize {
        match node {
            Node::List(items) => items.len(),
            Node::Live(live) => match *live {
                Live::Containers => self.chart.containers(),
                Live::Services => self.chart.services(),
                Live::Stacks => self.chart.stacks(),
                Live::Hosts => self.chart.hosts(),
                Live::Members(service) => self.chart.service(service).map_or(0, |s| s.len()),
                Live::Within(stack) => self.chart.stack(stack).map_or(0, |range| range.len()),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Whether a list or table is empty.
    pub(super) fn is_empty(&self, node: &Node) -> bool {
        match node {
            Node::Table(record) => record.is_empty(),
            node if node.is_list() => self.len(node) == 0,
            _ => false,
        }
    }

    /// The item `index` of a list.
    pub(super) fn item(&self, node: &Node, index: usize) -> Option<Node> {
        if index >= self.len(node) {
            return None;
        }
        let number = u32::try_from(index).ok()?;
        match node {
            Node::List(items) => items.get(index).cloned(),
            Node::Live(live) => Some(Node::Live(match *live {
                Live::Containers => {
                    let (service, nth) = self.chart.container(index)?;
                    Live::Container(service, nth)
                }
                Live::Services => Live::Service(number),
                Live::Stacks => Live::Stack(number),
                Live::Hosts => Live::Host(number),
                Live::Members(service) => Live::Container(service, number),
                Live::Within(stack) => Live::Service(self.chart.stack(stack)?.start + number),
                _ => return None,
            })),
            _ => None,
        }
    }

    /// The item of a list by its index, or, when `part` is no number, by its name or identity.
    fn item_called(&self, node: &Node, part: &str) -> Option<Node> {
        if let Ok(index) = part.parse::<i64>() {
            return self.item(node, usize::try_from(index).ok()?);
        }
        if *node == Node::Live(Live::Containers) {
            let version = self.version;
            let found = self.chart.container_named(part, version.lower(), |placed, instance| {
                let name = version.cased(live::container_name(instance));
                [name, live::container_uuid(placed, instance)]
            });
            return found.map(|(service, nth)| Node::Live(Live::Container(service, nth)));
        }
        // Identities are made when they are asked for: not for each name.
        let is_uuid = part.len() == 36 && part.matches('-').count() == 4;
        if *node == Node::Live(Live::Services) && !is_uuid {
            let version = self.version;
            let name = |placed: &Placed| version.cased(&placed.name);
            let found = self.chart.service_named(part, version.lower(), name);
            return found.map(|number| Node::Live(Live::Service(number)));
        }
        (0..self.len(node)).find_map(|index| {
            let item = self.item(node, index)?;
            self.is_called(&item, part, is_uuid).then_some(item)
        })
    }

    fn is_called(&self, item: &Node, part: &str, is_uuid: bool) -> bool {
        let version = self.version;
        let same = |name: &Arc<str>| &*version.cased(name) == part;
        match item {
            Node::Table(record) => ["name", "uuid"]
                .into_iter()
                .any(|key| matches!(record.get(key), Some(Node::Text(own)) if &**own == part)),
            Node::Live(Live::Service(number)) => {
                self.chart.service(*number).is_some_and(|placed| {
                    same(&placed.name) || (is_uuid && &*live::service_uuid(placed) == part)
                })
            }
            Node::Live(Live::Stack(number)) => self.first_of(*number).is_some_and(|placed| {
                same(&placed.stack) || (is_uuid && &*live::stack_uuid(placed) == part)
            }),
            Node::Live(Live::Host(number)) => self.chart.host(*number).is_some_and(|machine| {
                &*machine.name == part || (is_uuid && &*live::host_uuid(machine) == part)
            }),
            Node::Live(Live::Container(service, nth)) => {
                let placed = self.chart.service(*service);
                let found = placed.and_then(|placed| Some((placed, placed.container(*nth)?)));
                found.is_some_and(|(placed, instance)| {
                    same(live::container_name(instance))
                        || (is_uuid && &*live::container_uuid(placed, instance) == part)
                })
            }
            _ => false,
        }
    }

    fn first_of(&self, stack: u32) -> Option<&'a Arc<Placed>> {
        self.chart.service(self.chart.stack(stack)?.start)
    }

    /// By what an item of a list is called in a listing: its name, or else its identity.
    pub(super) fn called(&self, item: &Node) -> Option<Arc<str>> {
        let cased = |name: &Arc<str>| Some(self.version.cased(name));
        match item {
            Node::Table(record) => {
                ["name", "uuid"].into_iter().find_map(|key| match record.get(key) {
                    Some(Node::Text(name)) => Some(Arc::clone(name)),
                    _ => None,
                })
            }
            Node::Live(Live::Service(number)) => cased(&self.chart.service(*number)?.name),
            Node::Live(Live::Stack(number)) => cased(&self.first_of(*number)?.stack),
            Node::Live(Live::Host(number)) => Some(Arc::clone(&self.chart.host(*number)?.name)),
            Node::Live(Live::Container(service, nth)) => {
                cased(live::container_name(self.chart.service(*service)?.container(*nth)?))
            }
            _ => None,
        }
    }

    /// The entry `key` of a table.
    fn entry(&self, node: &Node, key: &str) -> Option<Node> {
        self.record(node)?.get(key).cloned()
    }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;

//! The table that questions are answered from: every zone compiled from one snapshot.
//!
//! A table never changes. The next one shares with it all names that did not change: of each
//! service that is another one now, the dialect lists the records of then and of now, and only the
//! difference is applied. What one change costs therefore does not depend on how many services
//! there are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::build::Build;
use super::dialect::Stars;
use super::node::Node;
use super::settings::{Settings, ZoneSettings};
use super::soa;
use super::wire::{self, NAME_MAX, Name};
use crate::catalog::{Shards, Snapshot};

/// Longest node name that NSID tells, in bytes: a reply of 512 bytes has room for it always.
const NSID_NODE_MAX: usize = 100;

/// All zones, compiled from one snapshot.
#[derive(Debug)]
pub struct ZoneTable {
    generation: u64,
    settings: Arc<Settings>,
    zones: Vec<Zone>,
    index: Arc<Index>,
    pub(super) reverse: Shards<Name, Node>,
    /// What clients see besides; each view below a label of its own in the place of the root.
    pub(super) views: Shards<Name, Node>,
    pub(super) reverse_soa: Box<[u8]>,
    nsid: Box<[u8]>,
    pub(super) problems: Shards<Arc<str>, Vec<Arc<str>>>,
}

/// One zone of a table.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) nodes: Shards<Name, Node>,
    /// SOA record whose names point into the question; see [`soa`].
    pub(super) soa: soa::Compiled,
    /// One of its registries has never spoken: what is not known may yet exist.
    pub(super) unheard: bool,
    /// One of its registries does not answer now: what is known is what it said last.
    pub(super) stale: bool,
}

/// Which zone a name is in.
#[derive(Debug)]
struct Index {
    by_apex: HashMap<Name, usize, foldhash::fast::FixedState>,
    /// Bit `n` is set when an apex has `n` bytes: other lengths need no look-up.
    lengths: [u64; 4],
}

/// What stands under a name of a zone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// The apex itself.
    Apex(Option<&'a Node>),
    /// A name with records or with names below it.
    Node(&'a Node),
    /// The name of an address.
    Address(IpAddr),
    /// A name that exists and has no records.
    Bare,
    /// No name.
    Missing,
}

impl Default for ZoneTable {
    /// A table without zones, before anything was published.
    fn default() -> Self {
        Self::compile(&Arc::default(), None, &Snapshot::default())
    }
}

impl ZoneTable {
    /// Compiles the zones of `settings` from `snapshot`.
    ///
    /// With the table before and the snapshot that it was compiled from, only services that differ
    /// between the two snapshots are looked at. The table before counts only when its settings are
    /// the same allocation, and when it had at least half as many services: after a reload, and
    /// when a registry is heard for the first time, everything is compiled once.
    #[must_use]
    pub fn compile(
        settings: &Arc<Settings>,
        previous: Option<(&Self, &Snapshot)>,
        snapshot: &Snapshot,
    ) -> Self {
        let services = &snapshot.services;
        let previous = previous.filter(|(table, before)| {
            // Where most services are new, a table from nothing is made sooner.
            Arc::ptr_eq(&table.settings, settings) && before.services.len() >= services.len() / 2
        });
        let mut build = match previous {
            Some((table, _)) => Build::upon(table),
            None => Build::new(settings),
        };
        match previous {
            Some((_, before)) => {
                snapshot.changes_since(before, |(name, old, new)| build.change(name, old, new));
            }
            None => build.fill(services),
        }
        build.flush();
        let trees = build.trees;
        let serial = snapshot.generation as u32;
        let zones = settings.zones.iter().zip(trees.nodes).map(|(zone, nodes)| Zone {
            nodes,
            soa: soa::Compiled::new(zone.negative_ttl, serial),
            unheard: unheard(zone, snapshot),
            stale: snapshot
                .registries
                .iter()
                .any(|registry| registry.stale.is_some() && zone.shows(&registry.name)),
        });
        Self {
            generation: snapshot.generation,
            zones: zones.collect(),
            index: previous.map_or_else(
                || Arc::new(Index::new(settings)),
                |(table, _)| Arc::clone(&table.index),
            ),
            reverse: trees.reverse,
            views: trees.views,
            reverse_soa: settings
                .zones
                .first()
                .map(|zone| soa::in_full(&zone.apex, zone.negative_ttl, serial))
                .unwrap_or_default(),
            nsid: nsid(&settings.node, snapshot.generation),
            problems: trees.problems,
            settings: Arc::clone(settings),
        }
    }

    /// Generation of the snapshot that this was compiled from.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The settings that this was compiled with.
    #[must_use]
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What could not be put into a zone: service and reason, in no order that means anything.
    pub fn problems(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.problems
            .iter()
            .flat_map(|(service, all)| all.iter().map(move |problem| (service, problem)))
    }

    /// Names that exist in all zones, those of addresses left out; for tests and the status.
    #[must_use]
    pub fn names(&self) -> usize {
        self.zones.iter().map(|zone| zone.nodes.len()).sum()
    }

    /// Every name that has records, of zones and of addresses backwards, with each type that it has;
    /// for tests. What single clients see besides is left out.
    pub fn held(&self) -> impl Iterator<Item = (&Name, u16)> {
        let nodes = self.nodes().flat_map(Shards::iter).chain(self.reverse.iter());
        nodes.flat_map(|(name, node)| node.sets().iter().map(move |set| (name, set.rtype)))
    }

    /// The names of each zone.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Shards<Name, Node>> {
        self.zones.iter().map(|zone| &zone.nodes)
    }

    /// Who answers and from which generation, as the data of an NSID option (RFC 5001).
    pub(super) const fn nsid(&self) -> &[u8] {
        &self.nsid
    }

    /// The innermost zone that holds the name `key`.
    pub(super) fn zone_of(&self, key: &[u8]) -> Option<(&ZoneSettings, &Zone)> {
        let mut rest = Some(key);
        while let Some(suffix) = rest {
            if let Some(index) = self.index.get(suffix) {
                return Some((self.settings.zones.get(index)?, self.zones.get(index)?));
            }
            rest = wire::parent(suffix);
        }
        None
    }

    /// The name of an address backwards, and the SOA that goes with it.
    pub(super) fn reverse(&self, key: &[u8]) -> Option<(&Node, &[u8])> {
        if !key.ends_with(b"\x04arpa\0") {
            return None;
        }
        let node = self.reverse.get(key)?;
        // `in-addr.arpa` and `ip6.arpa` themselves, and what is above, are others' matter.
        let between = wire::parent(key).and_then(wire::parent).is_some_and(|above| above.len() > 1);
        (between || !node.sets().is_empty()).then_some((&**node, &*self.reverse_soa))
    }

    #[cfg(test)]
    pub(super) fn all_keys(&self) -> Vec<Name> {
        let zones = self.zones.iter().flat_map(|zone| zone.nodes.iter());
        zones
            .chain(self.reverse.iter())
            .chain(self.views.iter())
            .map(|(name, _)| name.clone())
            .collect()
    }
}

impl Zone {
    /// What stands under `key`, a name in this zone. Allocates nothing.
    pub(super) fn find(&self, settings: &ZoneSettings, key: &[u8]) -> Found<'_> {
        let apex = settings.apex.wire();
        if key == apex {
            return Found::Apex(self.nodes.get(key).map(|node| &**node));
        }
        let mut short = [0; NAME_MAX];
        let key = match settings.datacenter.as_ref().map(Name::wire) {
            Some(below) if key == below => return Found::Bare,
            // Names with the datacenter and without are the same: only the latter are kept.
            Some(below) if wire::ends_with_labels(key, below) => {
                let head = key.len() - below.len();
                let whole = head + apex.len();
                short[..head].copy_from_slice(&key[..head]);
                short[head..whole].copy_from_slice(apex);
                &short[..whole]
            }
            _ => key,
        };
        if let Some(node) = self.nodes.get(key) {
            return Found::Node(node);
        }
        match &settings.addresses {
            Some(addresses) if wire::parent(key) == Some(addresses.wire()) => {
                spelled_address(key).map_or(Found::Missing, Found::Address)
            }
            _ => self.starred(settings.dialect.stars, key),
        }
    }

    /// What stands under `key` once its stars mean what they mean in the dialect.
    fn starred(&self, stars: Stars, key: &[u8]) -> Found<'_> {
        let word: &[u8] = match stars {
            Stars::Plain => return Found::Missing,
            Stars::Dropped => b"\x01*",
            Stars::Match => b"\x03any",
        };
        let mut other = [0; NAME_MAX];
        let (mut read, mut length) = (0, 0);
        while let Some(label) = key.get(read).map(|size| usize::from(*size) + 1) {
            let Some(bytes) = key.get(read..read + label) else { return Found::Missing };
            let bytes = match stars {
                Stars::Dropped if bytes == word => &[],
                Stars::Match if bytes == word => &b"\x01*"[..],
                _ => bytes,
            };
            other[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
            read += label;
        }
        if &other[..length] == key {
            return Found::Missing;
        }
        self.nodes.get(&other[..length]).map_or(Found::Missing, |node| Found::Node(node))
    }
}

/// The address that the first label spells in 8 or 32 hexadecimal digits.
fn spelled_address(key: &[u8]) -> Option<IpAddr> {
    let digits = key.get(1..=usize::from(*key.first()?))?;
    let value = digits.iter().try_fold(0u128, |value, digit| {
        Some((value << 4) | u128::from(char::from(*digit).to_digit(16)?))
    });
    match digits.len() {
        8 => Some(IpAddr::from((value? as u32).to_be_bytes())),
        32 => Some(IpAddr::from(value?.to_be_bytes())),
        _ => None,
    }
}

fn unheard(zone: &ZoneSettings, snapshot: &Snapshot) -> bool {
    match &zone.registries {
        Some(names) => names.iter().any(|name| !snapshot.heard(name)),
        None => snapshot.registries.iter().any(|registry| !registry.heard),
    }
}

fn nsid(node: &str, generation: u64) -> Box<[u8]> {
    let mut end = node.len().min(NSID_NODE_MAX);
    while !node.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} gen={generation}", &node[..end]).into_bytes().into()
}

impl Index {
    fn new(settings: &Settings) -> Self {
        let mut lengths = [0; 4];
        for zone in &settings.zones {
            let length = zone.apex.wire().len();
            lengths[length / 64] |= 1 << (length % 64);
        }
        let by_apex =
            settings.zones.iter().enumerate().map(|(index, zone)| (zone.apex.clone(), index));
        Self { by_apex: by_apex.collect(), lengths }
    }

    fn get(&self, name: &[u8]) -> Option<usize> {
        let length = name.len();
        if self.lengths.get(length / 64)? & (1 << (length % 64)) == 0 {
            return None;
        }
        self.by_apex.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::testing::{service, settings};
    use super::*;
    use crate::catalog::RegistryStatus;
    use crate::catalog::model::Service;

    pub(crate) fn snapshot(services: &[Service]) -> Snapshot {
        let services = services.iter().map(|service| {
            let copy = Service {
                name: Arc::clone(&service.name),
                tags: Arc::clone(&service.tags),
                meta: Arc::clone(&service.meta),
                instances: Arc::clone(&service.instances),
                eligible: Arc::clone(&service.eligible),
                problems: Arc::clone(&service.problems),
            };
            (Arc::clone(&service.name), Arc::new(copy))
        });
        Snapshot {
            generation: 7,
            services: services.collect(),
            registries: Arc::new([]),
            ..Snapshot::default()
        }
    }

    fn exists(table: &ZoneTable, name: &str) -> bool {
        let name = Name::parse(name).unwrap();
        let (settings, zone) = table.zone_of(name.wire()).unwrap();
        !matches!(zone.find(settings, name.wire()), Found::Missing)
    }

    #[test]
    fn names_between_a_record_and_the_apex_exist_as_long_as_something_is_below_them() {
        let settings = settings("listen = []\n[zone.consul]\ndialect = \"consul\"");
        let mut now = snapshot(&[service("web", &["a 10.0.0.1 80 v1.2"])]);
        let table = ZoneTable::compile(&settings, None, &now);
        let between = ["service.consul", "2.web.service.consul", "_tcp.consul", "dc1.consul"];
        for name in between {
            assert!(exists(&table, name), "{name}");
        }
        let before = now.clone();
        now.services.remove("web");
        let table = ZoneTable::compile(&settings, Some((&table, &before)), &now);
        for name in &between[..3] {
            assert!(!exists(&table, name), "{name}");
        }
        assert_eq!(table.names(), ZoneTable::compile(&settings, None, &now).names());
    }

    #[test]
    fn the_innermost_zone_holds_a_name() {
        let settings = settings("listen = []\n[zone.a]\n[zone.\"b.a\"]");
        let table = ZoneTable::compile(&settings, None, &Snapshot::default());
        for (name, want) in
            [("x.a", Some("a.")), ("x.b.a", Some("b.a.")), ("b.a", Some("b.a.")), ("c", None)]
        {
            let name = Name::parse(name).unwrap();
            let apex = table.zone_of(name.wire()).map(|(zone, _)| zone.apex.to_string());
            assert_eq!(apex.as_deref(), want, "{name}");
        }
    }

    #[test]
    fn a_zone_is_unheard_until_each_of_its_registries_spoke() {
        let status = |name: &str, heard| RegistryStatus {
            name: name.into(),
            heard,
            stale: None,
            services: 0,
            problems: Arc::new([]),
            ..RegistryStatus::default()
        };
        let registries: Arc<[_]> = Arc::new([status("one", true), status("two", false)]);
        let snapshot = Snapshot { registries, ..Snapshot::default() };
        for (case, list, want) in [
            ("all", "", true),
            ("the one heard", "registries = [\"one\"]", false),
            ("the other", "registries = [\"two\"]", true),
            ("not configured", "registries = [\"three\"]", true),
        ] {
            let settings = settings(&format!("listen = []\n[zone.a]\n{list}"));
            let table = ZoneTable::compile(&settings, None, &snapshot);
            assert_eq!(table.zones[0].unheard, want, "{case}");
        }
    }

    #[test]
    fn problems_stay_with_their_service_and_go_with_it() {
        let settings = settings("listen = []\n[zone.a]");
        let long = "x".repeat(64);
        let mut now =
            snapshot(&[service(&long, &["a 10.0.0.1 80"]), service("ok", &["a 10.0.0.2 80"])]);
        let table = ZoneTable::compile(&settings, None, &now);
        let told: Vec<_> = table.problems().collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].1.starts_with("zone a.: ") && **told[0].0 == *long, "{told:?}");
        let before = now.clone();
        now.services.remove(&*long);
        let table = ZoneTable::compile(&settings, Some((&table, &before)), &now);
        assert_eq!(table.problems().count(), 0);
    }
}

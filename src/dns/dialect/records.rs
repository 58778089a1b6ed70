//! What a dialect lists of one service in one zone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::reverse_name;
use crate::catalog::model::{Instance, Meta};
use crate::dns::node::{Data, Mark, Record};
use crate::dns::wire::Name;

/// Most problems that are told of one service in one zone.
const PROBLEMS_MAX: usize = 16;

/// The same records under each of some names: they are kept and compiled once for all of them.
#[derive(Debug)]
pub struct Alike {
    /// The names.
    pub owners: Vec<Name>,
    /// What stands under each.
    pub records: Vec<Record>,
}

/// What a dialect lists: records by owner, and what could not be listed.
#[derive(Debug, Default)]
pub struct Records {
    /// Records below the apex of the zone, each under a name.
    pub zone: Vec<(Name, Record)>,
    /// Records below the apex of the zone that stand alike under several names, or many under one.
    pub alike: Vec<Alike>,
    /// Records below `in-addr.arpa` and `ip6.arpa`.
    pub reverse: Vec<(Name, Record)>,
    /// What single clients see besides, below the label of their view.
    pub views: Vec<(Name, Record)>,
    /// What was left out and why.
    pub problems: Vec<String>,
    /// Goes with every record that is put from now on.
    mark: Mark,
    favoured: BTreeMap<Arc<str>, u16>,
}

impl Records {
    /// Nothing yet; `mark` goes with every record.
    #[must_use]
    pub fn new(mark: Mark) -> Self {
        Self { mark, ..Self::default() }
    }

    /// Instances in these localities count as near there.
    pub(in crate::dns) fn favour(&mut self, localities: BTreeMap<Arc<str>, u16>) {
        self.favoured = localities;
    }

    /// What is put from now on tells of `instance`: its weight and its place go with it.
    pub fn about(&mut self, instance: &Instance) {
        self.mark.weight = instance.weight.value();
        let locality = instance.locality.as_ref().and_then(|name| self.favoured.get(name));
        self.mark.locality = locality.copied().unwrap_or(0);
    }

    /// Changes what goes with every record that is put from now on.
    pub const fn mark(&mut self) -> &mut Mark {
        &mut self.mark
    }

    /// `data` with what goes with every record now.
    #[must_use]
    pub fn record(&self, data: Data) -> Record {
        Record { data, mark: self.mark.clone() }
    }

    /// Puts `data` under `owner`.
    pub fn put(&mut self, owner: &Name, data: Data) {
        self.zone.push((owner.clone(), self.record(data)));
    }

    /// Puts `records` under each of `owners`.
    pub fn put_alike(&mut self, owners: Vec<Name>, records: Vec<Record>) {
        if !owners.is_empty() && !records.is_empty() {
            self.alike.push(Alike { owners, records });
        }
    }

    /// Every record below the apex of the zone, with its owner.
    pub fn in_zone(&self) -> impl Iterator<Item = (&Name, &Record)> {
        let alike = self.alike.iter().flat_map(|alike| {
            let of = |owner| alike.records.iter().map(move |record| (owner, record));
            alike.owners.iter().flat_map(of)
        });
        self.zone.iter().map(|(owner, record)| (owner, record)).chain(alike)
    }

    /// Puts `data` under `owner`, to be kept for `ttl` seconds.
    pub fn put_for(&mut self, ttl: u32, owner: &Name, data: Data) {
        let mark = Mark { ttl, ..self.mark.clone() };
        self.zone.push((owner.clone(), Record { data, mark }));
    }

    /// Puts `data` under `owner` for the clients of `view` only; see `lookup`.
    pub fn put_in(&mut self, view: &Name, owner: &Name, data: Data) {
        if let Some(owner) = self.checked(owner.onto(view)) {
            self.views.push((owner, self.record(data)));
        }
    }

    /// Puts the address of `instance` under `owner`; a host name only when it stands `alone`.
    ///
    /// A name holds either addresses or one alias (RFC 1034 §3.6.2), so that a host name beside
    /// other instances is left out: they answer, and it is told as a problem.
    pub fn put_address(&mut self, owner: &Name, instance: &Instance, alone: bool) {
        match (instance.address.ip(), alone) {
            (Some(ip), _) => self.put(owner, Data::address(ip)),
            (None, true) => {
                let target = Name::parse(&instance.address.to_string());
                if let Some(target) = self.checked(target) {
                    self.put(owner, Data::Cname(target));
                }
            }
            (None, false) => self.problem(format!(
                "instance {:?} is left out of {owner}: its address {} is a host name, and an \
                 alias cannot stand beside addresses; give it an IP address",
                instance.id, instance.address
            )),
        }
    }

    /// The value, or none and a problem more.
    pub fn checked<T>(&mut self, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.problem(problem)).ok()
    }

    /// Adds one more problem, up to the limit.
    pub fn problem(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Says that `ip` is called `target`.
    pub fn put_reverse(&mut self, ip: IpAddr, target: Name) {
        if let Ok(owner) = reverse_name(ip) {
            self.reverse.push((owner, self.record(Data::Ptr(target))));
        }
    }

    /// Puts each entry of `meta` under `owner` as text (RFC 1464).
    pub fn put_meta(&mut self, owner: &Name, meta: &Meta) {
        for (key, value) in meta {
            self.put(owner, Data::text(&format!("{key}={value}")));
        }
    }
}

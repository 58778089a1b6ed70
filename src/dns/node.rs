//! What stands under one name: its records, counted, and the bytes they are answered with.
//!
//! Several services may put the same record under the same name (two services on one node both
//! tell the node's address). Records are therefore counted, not owned: whoever takes one out leaves
//! it to the others, and nothing has to be remembered per service.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::counted::Counted;
use super::set::{Rules, Set, compile};
use super::wire::{Name, put16, rtype};

/// The data of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// No record: the name exists all the same.
    Here,
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Alias; shown only where there is no address.
    Cname(Name),
    /// Mail exchanger, with its preference.
    Mx(u16, Name),
    /// Name server.
    Ns(Name),
    /// Name of an address.
    Ptr(Name),
    /// Text, as it stands on the wire: strings with their lengths.
    Txt(Arc<[u8]>),
    /// Place of a service.
    Srv(Srv),
    /// No record: what stands in a client's view is looked for below these names too, in the
    /// order of the numbers.
    Search(u8, Name),
    /// No record: an environment whose names a client sees, as `env.apex`; the first is its own.
    Sees(u8, Name),
}

/// Data of an SRV record (RFC 2782). In order of the target, so that records of one target stand
/// side by side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// Host.
    pub target: Name,
    /// Port.
    pub port: u16,
    /// Lower is preferred.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// Address of the target, for the additional section.
    pub glue: Option<IpAddr>,
}

impl Data {
    /// A or AAAA, by the family of `ip`.
    #[must_use]
    pub const fn address(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::A(ip),
            IpAddr::V6(ip) => Self::Aaaa(ip),
        }
    }

    /// Text in strings of up to 255 bytes (RFC 1035 §3.3.14).
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut wire = Vec::with_capacity(text.len() + 1 + text.len() / 255);
        for part in text.as_bytes().chunks(255) {
            wire.push(part.len() as u8);
            wire.extend_from_slice(part);
        }
        if wire.is_empty() {
            wire.push(0);
        }
        Self::Txt(wire.into())
    }

    /// Its type on the wire, when it is a record.
    pub(super) const fn rtype(&self) -> Option<u16> {
        Some(match self {
            Self::Here | Self::Search(..) | Self::Sees(..) => return None,
            Self::A(_) => rtype::A,
            Self::Aaaa(_) => rtype::AAAA,
            Self::Cname(_) => rtype::CNAME,
            Self::Mx(..) => rtype::MX,
            Self::Ns(_) => rtype::NS,
            Self::Ptr(_) => rtype::PTR,
            Self::Txt(_) => rtype::TXT,
            Self::Srv(_) => rtype::SRV,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Here | Self::Search(..) | Self::Sees(..) => {}
            Self::A(ip) => out.extend_from_slice(&ip.octets()),
            Self::Aaaa(ip) => out.extend_from_slice(&ip.octets()),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => {
                out.extend_from_slice(name.wire());
            }
            Self::Mx(preference, name) => {
                put16(out, *preference);
                out.extend_from_slice(name.wire());
            }
            Self::Txt(wire) => out.extend_from_slice(wire),
            Self::Srv(srv) => {
                put16(out, srv.priority);
                put16(out, srv.weight);
                put16(out, srv.port);
                // In full: targets must not be compressed (RFC 2782).
                out.extend_from_slice(srv.target.wire());
            }
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("(no records)"),
            Self::A(ip) => write!(f, "A {ip}"),
            Self::Aaaa(ip) => write!(f, "AAAA {ip}"),
            Self::Cname(name) => write!(f, "CNAME {name}"),
            Self::Mx(preference, name) => write!(f, "MX {preference} {name}"),
            Self::Ns(name) => write!(f, "NS {name}"),
            Self::Ptr(name) => write!(f, "PTR {name}"),
            Self::Txt(wire) => write!(f, "TXT {:?}", String::from_utf8_lossy(wire)),
            Self::Srv(srv) => {
                write!(f, "SRV {} {} {} {}", srv.priority, srv.weight, srv.port, srv.target)
            }
            Self::Search(order, name) => write!(f, "(search {order} {name})"),
            Self::Sees(order, name) => write!(f, "(sees {order} {name})"),
        }
    }
}

/// What goes with a record besides its data. Several may tell the same data with other marks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// TTL in seconds.
    pub ttl: u32,
    /// Chance to come first among addresses, beside the others'.
    pub weight: u16,
    /// Number of the locality that it is near to; 0 for none.
    pub locality: u16,
    /// Labels of its own name below the apex, in dialects with groups.
    pub depth: u8,
    /// Group, in dialects that know groups.
    pub group: Option<Arc<str>>,
}

impl Default for Mark {
    fn default() -> Self {
        Self { ttl: 0, weight: 1, locality: 0, depth: 0, group: None }
    }
}

/// A record as it is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// What it says.
    pub data: Data,
    /// What goes with it.
    pub mark: Mark,
}

impl From<Data> for Record {
    fn from(data: Data) -> Self {
        Self { data, mark: Mark::default() }
    }
}

/// What a client's view says besides records.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Where names are looked for besides.
    pub(super) search: Vec<Name>,
    /// The environments that the client sees.
    pub(super) sees: Vec<Name>,
}

/// Everything under one name. A node that [`Node::exists`] is kept, any other is not.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Names one label further down that exist.
    pub(super) children: u32,
    records: Counted,
    sets: Arc<[Set]>,
    scope: Option<Arc<Scope>>,
}

impl Node {
    /// What stands under a name of which nothing is told but `records`.
    pub(super) fn of(records: Counted, rules: Rules) -> Self {
        let (sets, scope) = (compile(&records, rules), scope(&records));
        Self { children: 0, records, sets, scope }
    }

    /// The same with so many names below it.
    pub(super) fn with_children(self, children: u32) -> Self {
        Self { children, ..self }
    }

    /// Whether it has no records.
    pub(super) const fn is_bare(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether `records` are all that it has.
    pub(super) fn holds(&self, records: &Counted) -> bool {
        self.records == *records
    }

    /// What both have, which is told by different services; the children of both together.
    pub(super) fn joined(&self, other: &Self, rules: Rules) -> Self {
        let (more, less) = if self.is_bare() { (other, self) } else { (self, other) };
        let mut node = Self { children: self.children + other.children, ..more.clone() };
        let records = less.records.iter();
        node.change(records.map(|(record, count)| (record.clone(), count.into())), rules);
        node
    }

    /// Whether the name exists: for its records, or for names below it (RFC 8020).
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.children > 0 || !self.records.is_empty()
    }

    /// The answers, by type.
    #[must_use]
    pub fn sets(&self) -> &[Set] {
        &self.sets
    }

    /// The answer of one type; none when there is no record of it.
    #[must_use]
    pub fn set(&self, rtype: u16) -> Option<&Set> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }

    /// What the view whose apex this is says besides records.
    pub(super) fn scope(&self) -> Option<&Scope> {
        self.scope.as_deref()
    }

    /// Counts each record up or down, and compiles the answers anew when that made a difference:
    /// which is returned.
    pub(super) fn change(
        &mut self,
        changes: impl IntoIterator<Item = (Record, i64)>,
        rules: Rules,
    ) -> bool {
        let mut differs = false;
        for (record, by) in changes {
            differs |= self.records.add(record, by);
        }
        if differs {
            self.sets = compile(&self.records, rules);
            self.scope = scope(&self.records);
        }
        differs
    }
}

fn scope(records: &Counted) -> Option<Arc<Scope>> {
    // These sort behind all others.
    let last = records.last()?;
    if !matches!(last.data, Data::Search(..) | Data::Sees(..)) {
        return None;
    }
    let mut scope = Scope::default();
    for (record, _) in records.iter() {
        match &record.data {
            Data::Search(_, name) if !scope.search.contains(name) => {
                scope.search.push(name.clone());
            }
            Data::Sees(_, name) if !scope.sees.contains(name) => scope.sees.push(name.clone()),
            _ => {}
        }
    }
    Some(Arc::new(scope))
}

#[cfg(test)]
mod tests {
    use super::super::set::PTR_MAX;
    use super::*;

    fn a(last: u8) -> Data {
        Data::A(Ipv4Addr::new(10, 0, 0, last))
    }

    fn change(node: &mut Node, changes: impl IntoIterator<Item = (Data, i64)>) {
        let changes = changes.into_iter().map(|(data, by)| (Record::from(data), by));
        node.change(changes, Rules::default());
    }

    #[test]
    fn a_record_stays_until_the_last_who_told_it_takes_it_out() {
        let mut node = Node::default();
        change(&mut node, [(a(1), 2), (a(2), 1)]);
        assert_eq!(node.set(rtype::A).map(Set::len), Some(2));
        change(&mut node, [(a(1), -1)]);
        assert_eq!(node.set(rtype::A).map(Set::len), Some(2));
        change(&mut node, [(a(1), -1), (a(2), -1)]);
        assert!(node.set(rtype::A).is_none());
        assert!(!node.exists());
    }

    #[test]
    fn an_alias_gives_way_to_addresses_and_stands_alone() {
        let alias = |text| Data::Cname(Name::parse(text).unwrap());
        let mut node = Node::default();
        change(&mut node, [(alias("b.example"), 1), (alias("a.example"), 1)]);
        assert_eq!(node.set(rtype::CNAME).map(Set::len), Some(1));
        change(&mut node, [(a(1), 1)]);
        assert!(node.set(rtype::CNAME).is_none());
    }

    #[test]
    fn an_address_points_back_to_a_limited_number_of_names() {
        let mut node = Node::default();
        change(&mut node, (0..200).map(|n| (Data::Ptr(Name::parse(&format!("s{n}")).unwrap()), 1)));
        assert_eq!(node.set(rtype::PTR).map(Set::len), Some(PTR_MAX));
    }

    #[test]
    fn text_longer_than_a_string_is_parted() {
        let Data::Txt(wire) = Data::text(&"x".repeat(300)) else { panic!("no text") };
        assert_eq!((wire.len(), wire[0], wire[256]), (302, 255, 45));
        assert_eq!(Data::text(""), Data::Txt(Arc::from(&[0u8][..])));
    }
}

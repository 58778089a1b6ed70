//! What stands under one name: its records, counted, and the bytes they are answered with.
//!
//! Several services may put the same record under the same name (two services on one node both
//! tell the node's address). Records are therefore counted, not owned: whoever takes one out leaves
//! it to the others, and nothing has to be remembered per service.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::counted::Counted;
use super::wire::{CLASS_IN, HEADER, Name, put16, rtype};

/// Most names that one address points back to; the first ones in the order of their bytes. A
/// host with a thousand services would otherwise answer with a thousand names.
const PTR_MAX: usize = 64;
/// Bytes of a record before its data: pointer, type, class, TTL, length.
pub(super) const RR_HEAD: usize = 12;
/// The pointer to the question's name: the owner of every answer.
const OWNER: u16 = 0xc000 | HEADER as u16;

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
    /// Name server.
    Ns(Name),
    /// Name of an address.
    Ptr(Name),
    /// Text, as it stands on the wire: strings with their lengths.
    Txt(Arc<[u8]>),
    /// Place of a service.
    Srv(Srv),
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

    const fn rtype(&self) -> Option<u16> {
        Some(match self {
            Self::Here => return None,
            Self::A(_) => rtype::A,
            Self::Aaaa(_) => rtype::AAAA,
            Self::Cname(_) => rtype::CNAME,
            Self::Ns(_) => rtype::NS,
            Self::Ptr(_) => rtype::PTR,
            Self::Txt(_) => rtype::TXT,
            Self::Srv(_) => rtype::SRV,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Here => {}
            Self::A(ip) => out.extend_from_slice(&ip.octets()),
            Self::Aaaa(ip) => out.extend_from_slice(&ip.octets()),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => {
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
            Self::Ns(name) => write!(f, "NS {name}"),
            Self::Ptr(name) => write!(f, "PTR {name}"),
            Self::Txt(wire) => write!(f, "TXT {:?}", String::from_utf8_lossy(wire)),
            Self::Srv(srv) => {
                write!(f, "SRV {} {} {} {}", srv.priority, srv.weight, srv.port, srv.target)
            }
        }
    }
}

/// Everything under one name. A node that [`Node::exists`] is kept, any other is not.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Names one label further down that exist.
    pub(super) children: u32,
    records: Counted,
    sets: Arc<[Set]>,
}

impl Node {
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

    /// Counts each record up or down, and compiles the answers anew when that made a difference.
    pub(super) fn change(&mut self, changes: impl IntoIterator<Item = (Data, i64)>, ttl: u32) {
        let mut differs = false;
        for (data, by) in changes {
            differs |= self.records.add(data, by);
        }
        if differs {
            self.sets = compile(&self.records, ttl);
        }
    }
}

/// The records of one name and one type as they are sent, each with a pointer to the question for
/// its owner.
#[derive(Debug)]
pub struct Set {
    /// Type.
    pub rtype: u16,
    /// TTL in seconds.
    pub ttl: u32,
    bytes: Box<[u8]>,
    layout: Layout,
    /// For SRV: of each record, which target it has, and the address of that.
    glue: Box<[Glue]>,
}

/// Address of a target, and a number that records of the same target share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glue {
    pub(super) target: u32,
    pub(super) ip: Option<IpAddr>,
}

#[derive(Debug)]
enum Layout {
    /// All records have this length.
    Even(usize),
    /// Where each record starts, and where the last one ends.
    Uneven(Box<[u32]>),
}

impl Set {
    /// Number of records, at least 1.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.layout {
            Layout::Even(step) => self.bytes.len() / step,
            Layout::Uneven(starts) => starts.len() - 1,
        }
    }

    /// Whether it has no record; never, once compiled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All records, when they are of one length; with that length.
    pub(super) const fn even(&self) -> Option<(&[u8], usize)> {
        match &self.layout {
            Layout::Even(step) => Some((&self.bytes, *step)),
            Layout::Uneven(_) => None,
        }
    }

    /// The record of an index below [`Set::len`].
    pub(super) fn record(&self, index: usize) -> &[u8] {
        let range = match &self.layout {
            Layout::Even(step) => index * step..(index + 1) * step,
            Layout::Uneven(starts) => match starts.get(index..index + 2) {
                Some([from, to]) => *from as usize..*to as usize,
                _ => 0..0,
            },
        };
        self.bytes.get(range).unwrap_or_default()
    }

    /// Target and address of the record of that index; none for other types than SRV.
    pub(super) fn glue(&self, index: usize) -> Option<Glue> {
        self.glue.get(index).copied()
    }
}

fn compile(records: &Counted, ttl: u32) -> Arc<[Set]> {
    let has_address = records.iter().any(|data| matches!(data, Data::A(_) | Data::Aaaa(_)));
    let mut sets: Vec<Set> = Vec::new();
    let mut open: Vec<&Data> = Vec::new();
    for data in records.iter() {
        let most = match data {
            Data::Here => continue,
            Data::Cname(_) if has_address => continue,
            Data::Cname(_) => 1,
            Data::Ptr(_) => PTR_MAX,
            _ => usize::MAX,
        };
        if let Some(first) = open.first().filter(|first| first.rtype() != data.rtype()) {
            sets.extend(compile_set(first.rtype(), &open, ttl));
            open.clear();
        }
        if open.len() == PTR_MAX && matches!(data, Data::Ptr(_)) {
            // Only addresses have so many, and they have nothing else that sorts behind it.
            break;
        }
        if open.len() < most {
            open.push(data);
        }
    }
    if let Some(first) = open.first() {
        sets.extend(compile_set(first.rtype(), &open, ttl));
    }
    sets.into()
}

fn compile_set(rtype: Option<u16>, records: &[&Data], ttl: u32) -> Option<Set> {
    let rtype = rtype?;
    let mut bytes = Vec::new();
    let mut starts = vec![0];
    let mut glue: Vec<Glue> = Vec::new();
    let mut target: Option<&Name> = None;
    let mut targets = 0;
    for data in records {
        write_head(&mut bytes, OWNER, rtype, ttl);
        let length_at = bytes.len() - 2;
        data.write(&mut bytes);
        let length = bytes.len() - length_at - 2;
        super::wire::set16(&mut bytes, length_at, length as u16);
        starts.push(bytes.len() as u32);
        if let Data::Srv(srv) = data {
            if target != Some(&srv.target) {
                targets += 1;
            }
            target = Some(&srv.target);
            glue.push(Glue { target: targets, ip: srv.glue });
        }
    }
    let step = match rtype {
        rtype::A => Some(RR_HEAD + 4),
        rtype::AAAA => Some(RR_HEAD + 16),
        _ => None,
    };
    Some(Set {
        rtype,
        ttl,
        bytes: bytes.into(),
        layout: step.map_or_else(|| Layout::Uneven(starts.into()), Layout::Even),
        glue: glue.into(),
    })
}

/// Appends a record's head with a length of zero.
pub(super) fn write_head(out: &mut Vec<u8>, owner: u16, rtype: u16, ttl: u32) {
    put16(out, owner);
    put16(out, rtype);
    put16(out, CLASS_IN);
    out.extend_from_slice(&ttl.to_be_bytes());
    put16(out, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(last: u8) -> Data {
        Data::A(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn a_record_stays_until_the_last_who_told_it_takes_it_out() {
        let mut node = Node::default();
        node.change([(a(1), 2), (a(2), 1)], 0);
        assert_eq!(node.set(rtype::A).map(Set::len), Some(2));
        node.change([(a(1), -1)], 0);
        assert_eq!(node.set(rtype::A).map(Set::len), Some(2));
        node.change([(a(1), -1), (a(2), -1)], 0);
        assert!(node.set(rtype::A).is_none());
        assert!(!node.exists());
    }

    #[test]
    fn an_alias_gives_way_to_addresses_and_stands_alone() {
        let alias = |text| Data::Cname(Name::parse(text).unwrap());
        let mut node = Node::default();
        node.change([(alias("b.example"), 1), (alias("a.example"), 1)], 0);
        assert_eq!(node.set(rtype::CNAME).map(Set::len), Some(1));
        node.change([(a(1), 1)], 0);
        assert!(node.set(rtype::CNAME).is_none());
    }

    #[test]
    fn an_address_points_back_to_a_limited_number_of_names() {
        let mut node = Node::default();
        node.change((0..200).map(|n| (Data::Ptr(Name::parse(&format!("s{n}")).unwrap()), 1)), 0);
        assert_eq!(node.set(rtype::PTR).map(Set::len), Some(PTR_MAX));
    }

    #[test]
    fn text_longer_than_a_string_is_parted() {
        let Data::Txt(wire) = Data::text(&"x".repeat(300)) else { panic!("no text") };
        assert_eq!((wire.len(), wire[0], wire[256]), (302, 255, 45));
        assert_eq!(Data::text(""), Data::Txt(Arc::from(&[0u8][..])));
    }
}

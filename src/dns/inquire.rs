//! Questions from inside: the answer that a client would get, read back into words.

use std::net::IpAddr;

use super::node::Data;
use super::wire::{Header, LABEL_MAX, Name, be16, put16, rtype};
use super::zone::ZoneTable;
use super::{Action, Transport, respond};

/// An answer in words.
#[derive(Debug, Default)]
pub struct Told {
    /// Response code; none when the question would be forwarded.
    pub rcode: Option<u16>,
    /// Records of the answer: owner, TTL, data.
    pub answers: Vec<(Name, u32, Data)>,
    /// Addresses that go with them.
    pub additional: Vec<(Name, u32, Data)>,
}

/// The name of a response code.
#[must_use]
pub fn rcode_word(rcode: Option<u16>) -> &'static str {
    match rcode {
        None => "forwarded",
        Some(0) => "NOERROR",
        Some(1) => "FORMERR",
        Some(2) => "SERVFAIL",
        Some(3) => "NXDOMAIN",
        Some(4) => "NOTIMP",
        Some(5) => "REFUSED",
        Some(_) => "another code",
    }
}

/// The type that `word` names: `A`, `AAAA`, `SRV` and so on.
///
/// # Errors
/// Names those that there are.
pub fn type_of(word: &str) -> Result<u16, String> {
    TYPES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(word))
        .map(|(_, number)| *number)
        .ok_or_else(|| {
            let known: Vec<&str> = TYPES.iter().map(|(word, _)| *word).collect();
            format!("type {word:?} is unknown; there are {}", known.join(", "))
        })
}

const TYPES: [(&str, u16); 10] = [
    ("A", rtype::A),
    ("AAAA", rtype::AAAA),
    ("ANY", rtype::ANY),
    ("CNAME", rtype::CNAME),
    ("MX", rtype::MX),
    ("NS", rtype::NS),
    ("PTR", rtype::PTR),
    ("SOA", rtype::SOA),
    ("SRV", rtype::SRV),
    ("TXT", rtype::TXT),
];

/// What `client` is told by TCP who asks `table` for `name`.
#[must_use]
pub fn inquire(table: &ZoneTable, name: &Name, qtype: u16, client: IpAddr) -> Told {
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(name.wire());
    put16(&mut query, qtype);
    put16(&mut query, super::wire::CLASS_IN);
    let mut reply = Vec::new();
    match respond(table, &query, Transport::Tcp, client, 0, &mut reply) {
        Action::Reply | Action::Chase => read(&reply).unwrap_or_default(),
        Action::Drop | Action::Limit | Action::Forward => Told::default(),
    }
}

/// Reads a reply. None when it is cut or no reply.
pub(super) fn read(reply: &[u8]) -> Option<Told> {
    let header = Header::read(reply)?;
    let mut told = Told { rcode: Some(header.flags & 0xf), ..Told::default() };
    let mut at = super::wire::HEADER;
    for _ in 0..header.counts[0] {
        at = name(reply, at)?.1 + 4;
    }
    for (section, count) in header.counts.iter().enumerate().skip(1) {
        for _ in 0..*count {
            let (owner, head) = name(reply, at)?;
            let ttl = u32::from(be16(reply, head + 4)?) << 16 | u32::from(be16(reply, head + 6)?);
            let body = head + 10;
            at = body + usize::from(be16(reply, head + 8)?);
            let Some(data) = data(reply, be16(reply, head)?, body, at) else { continue };
            match section {
                1 => told.answers.push((owner, ttl, data)),
                3 => told.additional.push((owner, ttl, data)),
                _ => {}
            }
        }
    }
    Some(told)
}

/// The name at `at`, and where it ends.
fn name(reply: &[u8], mut at: usize) -> Option<(Name, usize)> {
    let mut labels: Vec<&[u8]> = Vec::new();
    let mut end = None;
    // A name has at most 127 labels; more steps would be a circle.
    for _ in 0..200 {
        let length = usize::from(*reply.get(at)?);
        if length == 0 {
            let name = labels.iter().rev().try_fold(Name::root(), |name, l| name.child_bytes(l))?;
            return Some((name, end.unwrap_or(at + 1)));
        }
        if length > LABEL_MAX {
            end = end.or(Some(at + 2));
            at = usize::from(be16(reply, at)? & 0x3fff);
        } else {
            labels.push(reply.get(at + 1..=at + length)?);
            at += length + 1;
        }
    }
    None
}

fn data(reply: &[u8], rtype: u16, at: usize, end: usize) -> Option<Data> {
    let bytes = reply.get(at..end)?;
    let target = |skip: usize| name(reply, at + skip).map(|(name, _)| name);
    Some(match rtype {
        rtype::A => Data::A(<[u8; 4]>::try_from(bytes).ok()?.into()),
        rtype::AAAA => Data::Aaaa(<[u8; 16]>::try_from(bytes).ok()?.into()),
        rtype::CNAME => Data::Cname(target(0)?),
        rtype::NS => Data::Ns(target(0)?),
        rtype::PTR => Data::Ptr(target(0)?),
        rtype::MX => Data::Mx(be16(bytes, 0)?, target(2)?),
        rtype::TXT => Data::Txt(bytes.into()),
        rtype::SRV => Data::Srv(super::node::Srv {
            priority: be16(bytes, 0)?,
            weight: be16(bytes, 2)?,
            port: be16(bytes, 4)?,
            target: target(6)?,
            glue: None,
        }),
        _ => return None,
    })
}

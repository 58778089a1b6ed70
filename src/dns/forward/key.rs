//! What a question is, as far as its answer depends on it; and the query that an upstream gets.

use std::borrow::Borrow;
use std::sync::Arc;

use super::super::edns::Edns;
use super::super::wire::{CLASS_IN, Header, Name, Question, be16, put16, rtype};

/// Largest reply by UDP that upstreams are asked for, in bytes: it passes unfragmented (RFC 9715).
pub(super) const PAYLOAD: u16 = 1232;
/// Checking disabled, in the header (RFC 4035 §3.2.2).
pub(in crate::dns) const CD: u16 = 0x0010;
/// Authentic data, in the header (RFC 6840 §5.7).
pub(in crate::dns) const AD: u16 = 0x0020;

const DO_BIT: u8 = 1;
const CD_BIT: u8 = 2;
const TCP_BIT: u8 = 4;
/// Bytes behind the name: type and flags.
const TAIL: usize = 3;

/// Name in lower case, type, and whether the answer is with signatures (DO) or unchecked (CD). The
/// class is always Internet. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::dns) struct Key(Arc<[u8]>);

impl Key {
    /// What `question` asks for, from a client with `edns` and the header flags `flags`.
    pub(in crate::dns) fn of(question: &Question, edns: Option<Edns>, flags: u16) -> Self {
        let signed = edns.is_some_and(|edns| edns.dnssec_ok);
        Self::new(question.key(), question.qtype, signed, flags & CD != 0)
    }

    /// A key for `name` in lower case and wire format.
    pub(in crate::dns) fn new(name: &[u8], qtype: u16, signed: bool, unchecked: bool) -> Self {
        let mut key = Vec::with_capacity(name.len() + TAIL);
        key.extend_from_slice(name);
        put16(&mut key, qtype);
        key.push(if signed { DO_BIT } else { 0 } | if unchecked { CD_BIT } else { 0 });
        Self(key.into())
    }

    /// The same question about another name.
    pub(in crate::dns) fn about(&self, name: &Name) -> Self {
        let flags = self.flags();
        Self::new(name.wire(), self.qtype(), flags & DO_BIT != 0, flags & CD_BIT != 0)
    }

    /// The same question of a client that takes any length.
    pub(super) fn by_tcp(&self) -> Self {
        let mut key = self.0.to_vec();
        if let Some(flags) = key.last_mut() {
            *flags |= TCP_BIT;
        }
        Self(key.into())
    }

    fn flags(&self) -> u8 {
        self.0.last().copied().unwrap_or_default()
    }

    /// The name, in lower case and wire format.
    pub(in crate::dns) fn name(&self) -> &[u8] {
        &self.0[..self.0.len() - TAIL]
    }

    /// The type.
    pub(in crate::dns) fn qtype(&self) -> u16 {
        be16(&self.0, self.0.len() - TAIL).unwrap_or_default()
    }

    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `question` is the one that was sent, letter case aside.
    pub(super) fn asks(&self, question: &Question) -> bool {
        (question.key(), question.qtype, question.qclass) == (self.name(), self.qtype(), CLASS_IN)
    }

    /// The query for an upstream: with EDNS unless it does not understand that, and no option in
    /// it. What the client sent besides stays here: its cookie is none of the upstream's business,
    /// its subnet neither.
    pub(super) fn query(&self, id: u16, edns: bool) -> Vec<u8> {
        let (flags, name) = (self.flags(), self.name());
        let mut query = Vec::with_capacity(name.len() + 28);
        put16(&mut query, id);
        // Asking with AD tells that the answer's AD is understood (RFC 6840 §5.7).
        put16(&mut query, Header::RD | AD | if flags & CD_BIT != 0 { CD } else { 0 });
        for count in [1, 0, 0, u16::from(edns)] {
            put16(&mut query, count);
        }
        query.extend_from_slice(name);
        put16(&mut query, self.qtype());
        put16(&mut query, CLASS_IN);
        if edns {
            query.push(0);
            put16(&mut query, rtype::OPT);
            put16(&mut query, PAYLOAD);
            put16(&mut query, 0);
            put16(&mut query, if flags & DO_BIT != 0 { 0x8000 } else { 0 });
            put16(&mut query, 0);
        }
        query
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_has_the_question_edns_of_1232_bytes_and_no_option() {
        let name = Name::parse("web.example").unwrap();
        for (signed, unchecked, flags, dnssec) in
            [(false, false, 0x0120, 0), (true, false, 0x0120, 0x80), (false, true, 0x0130, 0)]
        {
            let key = Key::new(name.wire(), 28, signed, unchecked);
            let query = key.query(0x1234, true);
            assert_eq!(query[..4], [0x12, 0x34, (flags >> 8) as u8, flags as u8]);
            assert_eq!(query[4..12], [0, 1, 0, 0, 0, 0, 0, 1]);
            let question = Question::read(&query).unwrap();
            assert!(key.asks(&question));
            assert_eq!(query[question.end..], [0, 0, 41, 4, 208, 0, 0, dnssec, 0, 0, 0]);
            assert_eq!(key.query(1, false).len(), question.end);
        }
    }

    #[test]
    fn questions_are_the_same_when_their_answers_are() {
        let name = Name::parse("web.example").unwrap();
        let key = |signed, unchecked| Key::new(name.wire(), 1, signed, unchecked);
        assert_eq!(key(false, false), key(false, false));
        assert_ne!(key(true, false), key(false, false));
        assert_ne!(key(false, true), key(false, false));
        assert_ne!(key(false, false).by_tcp(), key(false, false));
        assert_ne!(Key::new(name.wire(), 28, false, false), key(false, false));
        let other = Name::parse("other.example").unwrap();
        let moved = key(true, true).about(&other);
        assert_eq!(moved, Key::new(other.wire(), 1, true, true));
    }
}

//! The records of one name and one type, compiled to the bytes that are sent.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::counted::Counted;
use super::node::{Data, Record, Srv};
use super::wire::{CLASS_IN, HEADER, Name, put16, rtype, set16};

/// Most names that one address points back to; the first ones in the order of their bytes. A
/// host with a thousand services would otherwise answer with a thousand names.
pub(super) const PTR_MAX: usize = 64;
/// Bytes of a record before its data: pointer, type, class, TTL, length.
pub(super) const RR_HEAD: usize = 12;
/// The pointer to the question's name: the owner of every answer.
pub(super) const OWNER: u16 = 0xc000 | HEADER as u16;

/// How the records of a name are compiled, by dialect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Set when SRV weights are shares of a hundred among those of one priority: the least share.
    pub hundred: Option<u16>,
    /// Whether the group of the topmost instance leaves out those of other groups.
    pub groups: bool,
}

/// The records of one name and one type as they are sent, each with a pointer to the question for
/// its owner. Records of one locality stand side by side.
#[derive(Debug)]
pub struct Set {
    /// Type.
    pub rtype: u16,
    /// TTL in seconds: the least of its records' (RFC 2181 §5.2).
    pub ttl: u32,
    bytes: Box<[u8]>,
    layout: Layout,
    /// For SRV: of each record, which target it has, and the address of that.
    glue: Box<[Glue]>,
    /// Sums of the weights of addresses up to each; empty when all weigh the same.
    weights: Box<[u32]>,
    /// Where the records of each locality stand; none when no record has one.
    places: Box<[(u16, Range<usize>)]>,
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

    /// Reads the first byte of the first record, so that it is at hand.
    pub(super) fn touch(&self) -> u64 {
        self.bytes.first().map_or(0, |byte| u64::from(*byte))
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

    /// Where the records of a locality stand; empty when there are none or the number is 0.
    pub(super) fn near(&self, locality: u16) -> Range<usize> {
        if locality == 0 || self.places.is_empty() {
            return 0..0;
        }
        let found = self.places.iter().find(|(known, _)| *known == locality);
        found.map_or(0..0, |(_, range)| range.clone())
    }

    /// The index in `range` that `seed` chooses to come first: evenly, or by weight.
    pub(super) fn first(&self, range: Range<usize>, seed: u64) -> usize {
        let length = range.len().max(1) as u64;
        let even = range.start + (seed % length) as usize;
        let sum = |end: usize| end.checked_sub(1).and_then(|last| self.weights.get(last).copied());
        let Some(upto) = sum(range.end) else { return even };
        let before = sum(range.start).unwrap_or(0);
        if upto == before {
            return even;
        }
        let wanted = before + (seed % u64::from(upto - before)) as u32;
        self.weights.partition_point(|sum| *sum <= wanted)
    }
}

/// A record told by several, taken together.
struct Merged<'a> {
    data: &'a Data,
    ttl: u32,
    weight: u32,
    locality: u16,
    depth: u8,
    group: Option<&'a Arc<str>>,
    /// Told with other addresses of its target too: whoever wants them asks for the target.
    mixed: bool,
}

/// Whether both are the same on the wire, whatever goes with them.
fn is_same(one: &Data, other: &Data) -> bool {
    match (one, other) {
        (Data::Srv(one), Data::Srv(other)) => {
            let all = |srv: &Srv| (srv.port, srv.priority, srv.weight);
            one.target == other.target && all(one) == all(other)
        }
        _ => one == other,
    }
}

/// The answers of one name, by type.
pub(super) fn compile(records: &Counted, rules: Rules) -> Arc<[Set]> {
    let mut merged: Vec<Merged<'_>> = Vec::with_capacity(records.len());
    let mut pointers = 0;
    for (Record { data, mark }, count) in records.iter() {
        if data.rtype().is_none() {
            continue;
        }
        let weight = u32::from(mark.weight).saturating_mul(count);
        if let Some(last) = merged.last_mut().filter(|last| is_same(last.data, data)) {
            last.mixed |= last.data != data;
            last.ttl = last.ttl.min(mark.ttl);
            last.weight = last.weight.saturating_add(weight);
            // Told by the near and by the far: it is of no place alone.
            last.locality = if last.locality == mark.locality { last.locality } else { 0 };
            continue;
        }
        if matches!(data, Data::Ptr(_)) {
            if pointers == PTR_MAX {
                // Only addresses have so many, and they have nothing else that sorts behind it.
                break;
            }
            pointers += 1;
        }
        let (locality, depth) = (mark.locality, mark.depth);
        let group = mark.group.as_ref();
        merged.push(Merged { data, ttl: mark.ttl, weight, locality, depth, group, mixed: false });
    }
    if rules.groups {
        keep_group(&mut merged);
    }
    let has_address =
        merged.first().is_some_and(|first| matches!(first.data, Data::A(_) | Data::Aaaa(_)));
    let mut aliases = 0;
    merged.retain(|record| {
        let alias = matches!(record.data, Data::Cname(_));
        aliases += usize::from(alias);
        !alias || (!has_address && aliases == 1)
    });
    let mut sets = Vec::with_capacity(2);
    for set in merged.chunk_by_mut(|a, b| a.data.rtype() == b.data.rtype()) {
        // Those without a place last; the order within a place stays.
        set.sort_by_key(|record| (record.locality == 0, record.locality));
        sets.extend(compile_set(set, rules));
    }
    sets.into()
}

/// Leaves out what belongs to another group than the topmost record that has one. Where the
/// topmost ones disagree there is no group.
fn keep_group(records: &mut Vec<Merged<'_>>) {
    let top = records.iter().map(|record| record.depth).min();
    let mut groups = records.iter().filter(|record| Some(record.depth) == top);
    let Some(group) = groups.next().and_then(|record| record.group).cloned() else { return };
    if groups.any(|record| record.group.is_some_and(|other| *other != group)) {
        return;
    }
    records.retain(|record| record.group.is_none_or(|own| *own == group));
}

fn compile_set(records: &[Merged<'_>], rules: Rules) -> Option<Set> {
    let rtype = records.first()?.data.rtype()?;
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
    let even = match rtype {
        rtype::A => Some(RR_HEAD + 4),
        rtype::AAAA => Some(RR_HEAD + 16),
        _ => None,
    };
    let count = records.len();
    let mut bytes = Vec::with_capacity(count * even.unwrap_or_default());
    let mut starts = Vec::with_capacity(if even.is_some() { 0 } else { count + 1 });
    let mut glue: Vec<Glue> = Vec::with_capacity(if rtype == rtype::SRV { count } else { 0 });
    let mut target: Option<&Name> = None;
    let mut targets = 0;
    for record in records {
        if even.is_none() {
            starts.push(bytes.len() as u32);
        }
        write_head(&mut bytes, OWNER, rtype, ttl);
        let length_at = bytes.len() - 2;
        record.data.write(&mut bytes);
        let length = bytes.len() - length_at - 2;
        set16(&mut bytes, length_at, length as u16);
        // The first tells about how long they are.
        if bytes.capacity() < count * length {
            bytes.reserve_exact((count - 1) * bytes.len());
        }
        if let Data::Srv(srv) = record.data {
            if let Some(least) = rules.hundred {
                let sum: u64 =
                    records.iter().filter_map(|other| weight_at(other, srv.priority)).sum();
                let share = u64::from(srv.weight) * 100 / sum.max(1);
                // Behind priority; see how the data is written.
                set16(&mut bytes, length_at + 4, (share as u16).max(least));
            }
            if target != Some(&srv.target) {
                targets += 1;
            }
            target = Some(&srv.target);
            let ip = srv.glue.filter(|_| !record.mixed);
            glue.push(Glue { target: targets, ip });
        }
    }
    if even.is_none() {
        starts.push(bytes.len() as u32);
    }
    Some(Set {
        rtype,
        ttl,
        bytes: bytes.into(),
        layout: even.map_or_else(|| Layout::Uneven(starts.into()), Layout::Even),
        glue: glue.into(),
        weights: if even.is_some() { weights(records) } else { Box::default() },
        places: places(records),
    })
}

fn weight_at(record: &Merged<'_>, priority: u16) -> Option<u64> {
    match record.data {
        Data::Srv(srv) if srv.priority == priority => Some(u64::from(srv.weight)),
        _ => None,
    }
}

fn weights(records: &[Merged<'_>]) -> Box<[u32]> {
    let first = records.first().map(|record| record.weight);
    if records.iter().all(|record| Some(record.weight) == first) {
        return Box::default();
    }
    let mut sum = 0u32;
    let sums = records.iter().map(|record| {
        sum = sum.saturating_add(record.weight);
        sum
    });
    sums.collect()
}

fn places(records: &[Merged<'_>]) -> Box<[(u16, Range<usize>)]> {
    let mut places: Vec<(u16, Range<usize>)> = Vec::new();
    for (index, record) in records.iter().enumerate().filter(|(_, record)| record.locality != 0) {
        match places.last_mut() {
            Some((locality, range)) if *locality == record.locality => range.end = index + 1,
            _ => places.push((record.locality, index..index + 1)),
        }
    }
    places.into()
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
    use super::super::node::Mark;
    use super::*;

    fn sets(records: &[(Data, Mark)], rules: Rules) -> Arc<[Set]> {
        let mut counted = Counted::default();
        for (data, mark) in records {
            counted.add(Record { data: data.clone(), mark: mark.clone() }, 1);
        }
        compile(&counted, rules)
    }

    fn a(last: u8) -> Data {
        Data::A([10, 0, 0, last].into())
    }

    fn srv(priority: u16, weight: u16) -> Data {
        let target = Name::parse(&format!("t{weight}")).unwrap();
        Data::Srv(Srv { target, port: 80, priority, weight, glue: None })
    }

    #[test]
    fn weights_and_places_choose_who_comes_first() {
        let mark = |weight, locality| Mark { weight, locality, ..Mark::default() };
        let records =
            [(a(1), mark(1, 2)), (a(2), mark(3, 1)), (a(3), mark(1, 0)), (a(4), mark(1, 1))];
        let sets = sets(&records, Rules::default());
        let set = &sets[0];
        assert_eq!((set.near(1), set.near(2), set.near(3), set.near(0)), (0..2, 2..3, 0..0, 0..0));
        let last = |index: usize| set.record(index)[15];
        let drawn: Vec<u8> = (0..6).map(|seed| last(set.first(0..4, seed))).collect();
        assert_eq!(drawn, [2, 2, 2, 4, 1, 3]);
        let near: Vec<u8> = (0..4).map(|seed| last(set.first(0..2, seed))).collect();
        assert_eq!(near, [2, 2, 2, 4]);
    }

    #[test]
    fn the_least_ttl_counts_and_shares_of_a_hundred_are_by_priority() {
        let mark = |ttl| Mark { ttl, ..Mark::default() };
        let records = [(srv(1, 1), mark(9)), (srv(1, 2), mark(5)), (srv(2, 7), mark(8))];
        let sets = sets(&records, Rules { hundred: Some(1), groups: false });
        let shares: Vec<u16> =
            (0..3).map(|n| super::super::wire::be16(sets[0].record(n), 14).unwrap()).collect();
        assert_eq!((sets[0].ttl, shares), (5, vec![33, 66, 100]));
    }

    #[test]
    fn what_is_the_same_on_the_wire_is_answered_once() {
        let target = Name::parse("slave").unwrap();
        let at = |last| Srv {
            target: target.clone(),
            port: 5051,
            priority: 0,
            weight: 1,
            glue: Some([10, 0, 0, last].into()),
        };
        let other = Srv { port: 5052, ..at(1) };
        for (records, want) in [
            (vec![at(1), at(2), at(3)], vec![None]),
            (vec![at(1)], vec![at(1).glue]),
            (vec![at(1), at(2), other.clone()], vec![None, other.glue]),
        ] {
            let records: Vec<_> =
                records.into_iter().map(|srv| (Data::Srv(srv), Mark::default())).collect();
            let sets = sets(&records, Rules::default());
            let glue: Vec<_> = (0..sets[0].len()).map(|n| sets[0].glue(n).unwrap().ip).collect();
            assert_eq!(glue, want);
        }
    }

    #[test]
    fn the_group_of_the_topmost_leaves_out_the_others_unless_they_disagree() {
        let mark = |depth, group: &str| Mark {
            depth,
            group: (!group.is_empty()).then(|| group.into()),
            ..Mark::default()
        };
        for (case, records, want) in [
            ("one group", vec![(a(1), mark(1, "g")), (a(2), mark(2, "h")), (a(3), mark(2, ""))], 2),
            ("they disagree", vec![(a(1), mark(1, "g")), (a(2), mark(1, "h"))], 2),
            ("the topmost has none", vec![(a(1), mark(1, "")), (a(2), mark(2, "h"))], 2),
        ] {
            let sets = sets(&records, Rules { hundred: None, groups: true });
            assert_eq!(sets[0].len(), want, "{case}");
        }
    }
}

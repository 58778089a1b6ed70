//! Names in messages of others: followed only as far as they are names, and written in full.

use super::super::wire::{HEADER, Header, NAME_MAX, be16, put16, rtype};

/// Where the name at `at` ends, once all of it was seen to be one: pointers only lead back, and it
/// is not longer than a name can be.
pub(super) fn whole_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    let (mut end, mut length) = (None, 0);
    let mut lowest = at;
    loop {
        match *bytes.get(at)? {
            0 => return (length < NAME_MAX).then(|| end.unwrap_or(at + 1)),
            label @ 1..=63 => {
                at += usize::from(label) + 1;
                length += usize::from(label) + 1;
                if length >= NAME_MAX {
                    return None;
                }
            }
            0xc0..=0xff => {
                end = end.or(Some(at + 2));
                at = usize::from(be16(bytes, at)? & 0x3fff);
                if at >= lowest || at < HEADER {
                    return None;
                }
                lowest = at;
            }
            _ => return None,
        }
    }
}

/// The records of `message` of one section, each as it stands alone: no name in it is a pointer
/// any more. None when one cannot be read.
pub(in crate::dns) fn records(message: &[u8], wanted: usize) -> Option<Vec<Vec<u8>>> {
    let header = Header::read(message)?;
    let mut at = HEADER;
    for _ in 0..header.counts[0] {
        at = whole_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for section in 1..=wanted.min(3) {
        for _ in 0..header.counts[section] {
            let head = whole_name(message, at)?;
            let data = head + 10;
            let end = data + usize::from(be16(message, head + 8)?);
            let kind = be16(message, head)?;
            if section == wanted && kind != rtype::OPT {
                let mut record = Vec::new();
                spell(message, at, &mut record)?;
                record.extend_from_slice(message.get(head..head + 8)?);
                let mut body = Vec::new();
                spell_data(message, kind, data, end, &mut body)?;
                put16(&mut record, u16::try_from(body.len()).ok()?);
                record.extend_from_slice(&body);
                found.push(record);
            }
            at = end;
        }
    }
    Some(found)
}

/// Writes the data of a record with its names in full. Types that are not named here have no
/// pointers in them (RFC 3597 §4).
pub(super) fn spell_data(
    message: &[u8],
    kind: u16,
    mut at: usize,
    end: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    // Bytes before the first name, and how many names there are: NS, MD, MF, CNAME, MB, MG, MR,
    // PTR, DNAME · SOA, MINFO, RP · MX, AFSDB, RT, KX · PX · SRV.
    let (before, names) = match kind {
        2..=5 | 7..=9 | 12 | 39 => (0, 1),
        6 | 14 | 17 => (0, 2),
        15 | 18 | 21 | 36 => (2, 1),
        26 => (2, 2),
        33 => (6, 1),
        _ => (0, 0),
    };
    out.extend_from_slice(message.get(at..at + before)?);
    at += before;
    for _ in 0..names {
        at = spell(message, at, out)?;
    }
    out.extend_from_slice(message.get(at..end)?);
    Some(())
}

/// Writes the name at `at` in full; returns where it ends.
fn spell(message: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let end = whole_name(message, at)?;
    let mut at = at;
    loop {
        let label = *message.get(at)?;
        if label > 63 {
            at = usize::from(be16(message, at)? & 0x3fff);
            continue;
        }
        let next = at + usize::from(label) + 1;
        out.extend_from_slice(message.get(at..next)?);
        if label == 0 {
            return Some(end);
        }
        at = next;
    }
}

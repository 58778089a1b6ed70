//! The start of authority that goes with every negative answer (RFC 2308 §3).
//!
//! Its owner is always the apex of the zone, whatever was asked. Owner, name server and mailbox all
//! end in the apex, and the apex is the end of the question: all three are pointers into it, so
//! that one precompiled record serves every question of the zone.

use super::set::{RR_HEAD, write_head};
use super::wire::{HEADER, Name, put16, rtype, set16};

/// Label of the zone's name server.
pub(super) const SERVER: &str = "ns";
/// Label of the zone's mailbox.
const MAILBOX: &str = "hostmaster";
/// How often a secondary asks, asks again, and gives up, in seconds.
const TIMERS: [u32; 3] = [3600, 600, 86_400];

/// Where the pointer of the server's name stands in the record.
const SERVER_POINTER: usize = RR_HEAD + 1 + SERVER.len();
/// Where the pointer of the mailbox stands.
const MAILBOX_POINTER: usize = SERVER_POINTER + 2 + 1 + MAILBOX.len();
/// Length of the record.
pub(super) const LENGTH: usize = MAILBOX_POINTER + 2 + 20;

/// A record whose three pointers are still to be set.
#[derive(Debug, Clone)]
pub(super) struct Compiled(Box<[u8]>);

impl Compiled {
    /// The record of a zone whose negative answers may be kept for `negative_ttl` seconds.
    pub(super) fn new(negative_ttl: u32, serial: u32) -> Self {
        let mut bytes = Vec::with_capacity(LENGTH);
        write_head(&mut bytes, 0, rtype::SOA, negative_ttl);
        for label in [SERVER, MAILBOX] {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
            put16(&mut bytes, 0);
        }
        write_numbers(&mut bytes, serial, negative_ttl);
        set16(&mut bytes, RR_HEAD - 2, (LENGTH - RR_HEAD) as u16);
        Self(bytes.into())
    }

    /// Appends the record to `out`, whose question is for a name of `name` bytes that ends in the
    /// apex of `apex` bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>, name: usize, apex: usize) {
        let start = out.len();
        out.extend_from_slice(&self.0);
        let pointer = 0xc000 | (HEADER + name - apex) as u16;
        for at in [0, SERVER_POINTER, MAILBOX_POINTER] {
            set16(out, start + at, pointer);
        }
    }
}

/// The record with the question's own name for its owner and the names of `apex` in full: for
/// names outside the zones, each of which is a zone of its own.
pub(super) fn in_full(apex: &Name, negative_ttl: u32, serial: u32) -> Box<[u8]> {
    let mut bytes = Vec::new();
    write_head(&mut bytes, 0xc000 | HEADER as u16, rtype::SOA, negative_ttl);
    for label in [SERVER, MAILBOX] {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
        bytes.extend_from_slice(apex.wire());
    }
    write_numbers(&mut bytes, serial, negative_ttl);
    let length = bytes.len() - RR_HEAD;
    set16(&mut bytes, RR_HEAD - 2, length as u16);
    bytes.into()
}

fn write_numbers(out: &mut Vec<u8>, serial: u32, negative_ttl: u32) {
    for number in [serial, TIMERS[0], TIMERS[1], TIMERS[2], negative_ttl] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

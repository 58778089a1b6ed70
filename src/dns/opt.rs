//! The EDNS record of a reply.

use super::cookie;
use super::edns::{Edns, option};
use super::wire::{put16, rtype};
use crate::net::mmsg::QUERY_MAX;

/// Bytes of an EDNS record without options (RFC 6891 §6.1.2).
const OPT: usize = 11;
/// Bytes of an option before its data.
const OPTION_HEAD: usize = 4;
/// Bytes of the option that says why, which every reply with EDNS has room for.
const EXTENDED: usize = OPTION_HEAD + 2;

/// Who speaks EDNS, and what is told back.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptReply<'a> {
    pub(super) edns: Edns,
    /// What we can take by UDP, in bytes.
    pub(super) payload: u16,
    /// Set when the client asked for it.
    pub(super) nsid: Option<&'a [u8]>,
    /// The client's part of its cookie and ours.
    pub(super) cookie: Option<[u8; cookie::CLIENT + cookie::SERVER]>,
    /// How long the connection may be idle, in tenths of a second.
    pub(super) keepalive: Option<u16>,
    /// Options that say why, as an upstream gave them.
    pub(super) reasons: &'a [u8],
}

impl OptReply<'_> {
    /// Nothing but that EDNS is spoken here.
    pub(super) const fn plain(edns: Edns) -> Self {
        Self {
            edns,
            payload: QUERY_MAX as u16,
            nsid: None,
            cookie: None,
            keepalive: None,
            reasons: &[],
        }
    }
}

impl OptReply<'_> {
    fn len(&self) -> usize {
        let option = |length: Option<usize>| length.map_or(0, |length| OPTION_HEAD + length);
        OPT + option(self.nsid.map(<[u8]>::len))
            + option(self.cookie.map(|cookie| cookie.len()))
            + option(self.keepalive.map(|_| 2))
            + self.reasons.len()
    }

    /// Bytes that it takes at most.
    pub(super) fn room(&self) -> usize {
        self.len() + EXTENDED
    }

    /// Appends the record, with the high bits of `rcode` and the reason `extended`.
    pub(super) fn write(&self, out: &mut Vec<u8>, rcode: u16, extended: Option<u16>) {
        let reason = extended.map_or(0, |_| EXTENDED);
        out.push(0);
        put16(out, rtype::OPT);
        put16(out, self.payload);
        out.push((rcode >> 4) as u8);
        out.push(0);
        put16(out, if self.edns.dnssec_ok { 0x8000 } else { 0 });
        put16(out, (self.len() - OPT + reason) as u16);
        let mut option = |code, data: &[u8]| {
            put16(out, code);
            put16(out, data.len() as u16);
            out.extend_from_slice(data);
        };
        if let Some(nsid) = self.nsid {
            option(option::NSID, nsid);
        }
        if let Some(cookie) = &self.cookie {
            option(option::COOKIE, cookie);
        }
        if let Some(keepalive) = self.keepalive {
            option(option::KEEPALIVE, &keepalive.to_be_bytes());
        }
        if let Some(extended) = extended {
            option(option::EXTENDED_ERROR, &extended.to_be_bytes());
        }
        out.extend_from_slice(self.reasons);
    }
}

//! Writing a reply: sections in their order, never beyond the limit, always with room for EDNS.

use std::net::IpAddr;

use super::cookie;
use super::edns::{Edns, option};
use super::mmsg::QUERY_MAX;
use super::node::{RR_HEAD, Set, write_head};
use super::soa;
use super::wire::{HEADER, Header, Name, POINTER_MAX, Question, put16, rcode, rtype, set16};

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
}

impl OptReply<'_> {
    /// Nothing but that EDNS is spoken here.
    pub(super) const fn plain(edns: Edns) -> Self {
        Self { edns, payload: QUERY_MAX as u16, nsid: None, cookie: None, keepalive: None }
    }
}

impl OptReply<'_> {
    fn len(&self) -> usize {
        let option = |length: Option<usize>| length.map_or(0, |length| OPTION_HEAD + length);
        OPT + option(self.nsid.map(<[u8]>::len))
            + option(self.cookie.map(|cookie| cookie.len()))
            + option(self.keepalive.map(|_| 2))
    }

    /// Appends the record, with the high bits of `rcode` and the reason `extended`.
    fn write(&self, out: &mut Vec<u8>, rcode: u16, extended: Option<u16>) {
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
    }
}

/// A reply that is being written. Room for the EDNS record is kept free from the start.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    flags: u16,
    rcode: u16,
    counts: [u16; 4],
    opt: Option<OptReply<'a>>,
    extended: Option<u16>,
    /// Where the EDNS record has to start at the latest.
    limit: usize,
    question: &'a Question,
}

impl<'a> Reply<'a> {
    /// Starts a reply to `query`, of at most `limit` bytes: at least 512. Copies the question.
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        query: &[u8],
        question: &'a Question,
        opt: Option<OptReply<'a>>,
        limit: usize,
    ) -> Self {
        out.clear();
        out.extend_from_slice(query.get(..question.end).unwrap_or(query));
        let asked = Header::read(query).map_or(0, |header| header.flags);
        let limit = limit - opt.as_ref().map_or(0, |opt| opt.len() + EXTENDED);
        let flags = Header::QR | (asked & (Header::RD | 0x7800));
        Self {
            out,
            flags,
            rcode: rcode::NOERROR,
            counts: [1, 0, 0, 0],
            opt,
            extended: None,
            limit,
            question,
        }
    }

    /// Sets flags of the header.
    pub(super) const fn set(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// Sets the response code.
    pub(super) const fn code(&mut self, rcode: u16) {
        self.rcode = rcode;
    }

    /// Whether this is the response code now.
    pub(super) const fn is(&self, rcode: u16) -> bool {
        self.rcode == rcode
    }

    /// Says why, to clients with EDNS (RFC 8914).
    pub(super) const fn extended(&mut self, code: u16) {
        self.extended = Some(code);
    }

    const fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Puts the records of `set` into the answer, starting at a place that `seed` chooses, as many
    /// as fit. Returns the index of the first one, and how many there are. With `retry` a client
    /// that does not get all is told so: by TCP there is no larger way to ask again.
    pub(super) fn answer(&mut self, set: &Set, seed: u64, retry: bool) -> (usize, usize) {
        let all = set.len().max(1);
        let first = (seed % all as u64) as usize;
        let mut written = 0;
        if let Some((bytes, step)) = set.even() {
            written = (self.room() / step).min(all);
            let tail = written.min(all - first);
            let head = written - tail;
            self.out.extend_from_slice(&bytes[first * step..(first + tail) * step]);
            self.out.extend_from_slice(&bytes[..head * step]);
        } else {
            while written < all {
                let record = set.record((first + written) % all);
                if record.len() > self.room() {
                    break;
                }
                self.out.extend_from_slice(record);
                written += 1;
            }
        }
        self.counts[1] += written as u16;
        if written < all && retry {
            self.flags |= Header::TC;
        }
        (first, written)
    }

    /// Puts the addresses of the targets of those records into the additional section, as far as
    /// they fit: they may be left out without a word (RFC 2181 §9).
    pub(super) fn additional(&mut self, set: &Set, (first, written): (usize, usize)) {
        let all = set.len().max(1);
        let mut start = self.question.end;
        let mut last = None;
        let mut begin = None;
        for index in (0..written).map(|step| (first + step) % all) {
            // The target stands behind the head, priority, weight and port.
            let owner = start + RR_HEAD + 6;
            start += set.record(index).len();
            let Some(glue) = set.glue(index) else { return };
            // Records of one target stand side by side, but the first may come round again.
            if last == Some(glue.target) || begin == Some(glue.target) {
                continue;
            }
            last = Some(glue.target);
            begin = begin.or(last);
            let Some(ip) = glue.ip else { continue };
            if owner > POINTER_MAX || !self.put_address(3, 0xc000 | owner as u16, ip, set.ttl) {
                return;
            }
        }
    }

    /// Puts the address `ip` under the question's name.
    pub(super) fn answer_address(&mut self, ip: IpAddr, ttl: u32) {
        self.put_address(1, 0xc000 | HEADER as u16, ip, ttl);
    }

    fn put_address(&mut self, section: usize, owner: u16, ip: IpAddr, ttl: u32) -> bool {
        let (rtype, length) = match ip {
            IpAddr::V4(_) => (rtype::A, 4),
            IpAddr::V6(_) => (rtype::AAAA, 16),
        };
        if self.room() < RR_HEAD + length {
            return false;
        }
        write_head(self.out, owner, rtype, ttl);
        let at = self.out.len() - 2;
        set16(self.out, at, length as u16);
        match ip {
            IpAddr::V4(ip) => self.out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => self.out.extend_from_slice(&ip.octets()),
        }
        self.counts[section] += 1;
        true
    }

    /// Puts the SOA of the zone into a section: 1 for the answer, 2 for the authority.
    pub(super) fn soa(&mut self, section: usize, soa: &soa::Compiled, apex: &Name) {
        // Always fits: a name of 255 bytes, this and EDNS with NSID are below 512 together.
        debug_assert!(self.room() >= soa::LENGTH);
        soa.write(self.out, self.question.key().len(), apex.wire().len());
        self.counts[section] += 1;
    }

    /// Puts a whole record into the authority section, if it fits.
    pub(super) fn authority(&mut self, record: &[u8]) {
        if !record.is_empty() && record.len() <= self.room() {
            self.out.extend_from_slice(record);
            self.counts[2] += 1;
        }
    }

    /// Ends the reply with EDNS, when the client speaks it, and the header. Returns the code.
    pub(super) fn finish(mut self) -> u16 {
        if let Some(opt) = &self.opt {
            opt.write(self.out, self.rcode, self.extended);
            self.counts[3] += 1;
        }
        set16(self.out, 2, self.flags | (self.rcode & 0xf));
        for (index, count) in self.counts.iter().enumerate() {
            set16(self.out, 4 + 2 * index, *count);
        }
        self.rcode
    }
}

/// A reply of nothing but a header, for what cannot be read or is not served at all.
pub(super) fn bare(out: &mut Vec<u8>, header: Header, rcode: u16) {
    out.clear();
    put16(out, header.id);
    put16(out, Header::QR | (header.flags & (Header::RD | 0x7800)) | (rcode & 0xf));
    out.extend_from_slice(&[0; 8]);
}

/// A reply without a question, to a client that wants nothing but a cookie (RFC 7873 §5.4).
pub(super) fn cookie_only(out: &mut Vec<u8>, header: Header, opt: &OptReply<'_>) {
    bare(out, header, rcode::NOERROR);
    opt.write(out, rcode::NOERROR, None);
    set16(out, 10, 1);
}

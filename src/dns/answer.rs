//! Writing a reply: sections in their order, never beyond the limit, always with room for EDNS.

use std::net::IpAddr;

use super::config::Near;
use super::opt::OptReply;
use super::set::{OWNER, RR_HEAD, Set, write_head};
use super::soa;
use super::wire::{HEADER, Header, Name, POINTER_MAX, Question, put16, rcode, rtype, set16};
use super::zone_settings::ZoneSettings;

/// Which records of a set are given to a client, and in which order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Serving {
    /// Chooses who comes first, and who is left out when not all fit.
    pub(super) seed: u64,
    /// Where the client is; 0 when that is not known.
    pub(super) locality: u16,
    /// Whether it asks by UDP and does not speak EDNS.
    pub(super) plain: bool,
    /// Whether those elsewhere are left out while some are near.
    pub(super) only_near: bool,
    /// Most addresses.
    pub(super) addresses_max: usize,
    /// Most records of any type; beyond it the client is told that something is missing.
    pub(super) records_max: usize,
    /// Whether a client that does not get all is told so: by TCP there is no larger way to ask.
    pub(super) retry: bool,
}

impl Serving {
    /// As `zone` has it.
    pub(super) fn within(self, zone: &ZoneSettings) -> Self {
        Self {
            locality: if zone.near == Near::Off { 0 } else { self.locality },
            only_near: zone.near == Near::Only,
            addresses_max: zone.addresses_max,
            records_max: if self.plain { zone.udp_answers_max } else { usize::MAX },
            retry: self.retry && zone.truncate,
            ..self
        }
    }
}

/// The records that were put into the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    order: Order,
    /// How many.
    pub(super) count: usize,
    /// Where the first one starts.
    pub(super) start: usize,
}

/// Near records first, the others behind them, each part turned by some places.
#[derive(Debug, Clone, Copy)]
struct Order {
    start: usize,
    near: usize,
    all: usize,
    near_turn: usize,
    far_turn: usize,
}

impl Order {
    fn of(set: &Set, serving: &Serving) -> Self {
        let all = set.len().max(1);
        let range = set.near(serving.locality);
        let (start, near) = (range.start, range.len());
        if near == 0 || near == all {
            let far_turn = set.first(0..all, serving.seed);
            return Self { start: 0, near: 0, all, near_turn: 0, far_turn };
        }
        let near_turn = set.first(range, serving.seed) - start;
        let far_turn = (serving.seed.rotate_left(32) % (all - near) as u64) as usize;
        Self { start, near, all, near_turn, far_turn }
    }

    /// The index of the record at `position`, which is below the number of all.
    const fn index(&self, position: usize) -> usize {
        if position < self.near {
            return self.start + (position + self.near_turn) % self.near;
        }
        let far = self.all - self.near;
        let at = (position - self.near + self.far_turn) % far;
        if at < self.start { at } else { at + self.near }
    }
}

/// Shuffles the chunks of `step` bytes behind the first one, which was drawn already.
fn shuffle(chunks: &mut [u8], step: usize, seed: u64) {
    let mut state = seed | 1;
    for last in (2..chunks.len() / step).rev() {
        // The upper half of a product is even enough here, and needs no division.
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let other = 1 + (((state >> 32) * last as u64) >> 32) as usize;
        if other < last {
            let (before, after) = chunks.split_at_mut(last * step);
            before[other * step..(other + 1) * step].swap_with_slice(&mut after[..step]);
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
    /// Whether the answer ends in an alias of a name that is not ours.
    leaves: bool,
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
        let limit = limit - opt.as_ref().map_or(0, OptReply::room);
        let flags = Header::QR | (asked & (Header::RD | 0x7800));
        Self {
            out,
            flags,
            rcode: rcode::NOERROR,
            counts: [1, 0, 0, 0],
            opt,
            extended: None,
            leaves: false,
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

    /// The answer ends in an alias of a name that is not ours.
    pub(super) const fn leave(&mut self) {
        self.leaves = true;
    }

    /// Whether it does.
    pub(super) const fn leaves(&self) -> bool {
        self.leaves
    }

    /// Says why, to clients with EDNS (RFC 8914).
    pub(super) const fn extended(&mut self, code: u16) {
        self.extended = Some(code);
    }

    const fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Puts the records of `set` into the answer as `serving` has it, as many as fit, under the
    /// name that the pointer `owner` points at.
    pub(super) fn answer(&mut self, set: &Set, serving: &Serving, owner: u16) -> Written {
        let order = Order::of(set, serving);
        let start = self.out.len();
        let available = if serving.only_near && order.near > 0 { order.near } else { order.all };
        let most = match set.rtype {
            rtype::A | rtype::AAAA => available.min(serving.addresses_max),
            _ => available,
        };
        let wanted = most.min(serving.records_max);
        let mut count = 0;
        if let Some((bytes, step)) = set.even() {
            count = (self.room() / step).min(wanted);
            if order.near == 0 {
                let first = order.far_turn;
                let tail = count.min(order.all - first);
                let head = count - tail;
                self.out.extend_from_slice(&bytes[first * step..(first + tail) * step]);
                self.out.extend_from_slice(&bytes[..head * step]);
            } else {
                for position in 0..count {
                    self.out.extend_from_slice(set.record(order.index(position)));
                }
            }
            if count > 2 {
                let near = order.near.min(count);
                let chunks = &mut self.out[start..];
                shuffle(&mut chunks[..near * step], step, serving.seed);
                shuffle(&mut chunks[near * step..], step, serving.seed.rotate_left(17));
            }
        } else {
            while count < wanted {
                let record = set.record(order.index(count));
                if record.len() > self.room() {
                    break;
                }
                self.out.extend_from_slice(record);
                count += 1;
            }
        }
        if owner != OWNER {
            let mut at = start;
            for position in 0..count {
                set16(self.out, at, owner);
                at += set.record(order.index(position)).len();
            }
        }
        self.counts[1] += count as u16;
        if count < most && serving.retry {
            self.flags |= Header::TC;
        }
        Written { order, count, start }
    }

    /// Puts the addresses of the targets of those records into the additional section, as far as
    /// they fit: they may be left out without a word (RFC 2181 §9).
    pub(super) fn additional(&mut self, set: &Set, written: &Written) {
        let mut start = written.start;
        let mut last = None;
        let mut begin = None;
        for index in (0..written.count).map(|position| written.order.index(position)) {
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

//! Replies of upstreams, read without trusting a byte; and what clients are given of them.
//!
//! A reply is kept as it came, for what is decoded and encoded again loses what the decoder does
//! not know. What changes on the way out is the header, the spelling of the question, the TTLs and
//! EDNS. Whose records an upstream may tell is its own business: it is the resolver, and what it
//! says stands below the question that it was asked, nowhere else.

use super::super::edns::option;
use super::super::opt::OptReply;
use super::super::wire::{HEADER, Header, Question, be16, rcode, rtype, set16};
use super::key::{AD, CD, Key};
use super::names::{spell_data, whole_name};

/// Most bytes of reasons (RFC 8914) that are kept of a reply.
const REASONS_MAX: usize = 256;
/// Largest TTL; a larger one counts as 0 (RFC 2181 §8).
const TTL_MAX: u32 = 0x7fff_ffff;

/// Bounds of the time that answers may be kept, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttls {
    /// Shorter ones are raised to this.
    pub min: u32,
    /// Longer ones are lowered to this.
    pub max: u32,
    /// The same for what says that there is nothing.
    pub negative_max: u32,
}

impl Ttls {
    fn bound(self, ttl: u32) -> u32 {
        let honest = if ttl > TTL_MAX { 0 } else { ttl };
        honest.max(self.min).min(self.max)
    }

    fn bound_negative(self, ttl: u32) -> u32 {
        self.bound(ttl).min(self.negative_max)
    }
}

/// Why some bytes are not the reply to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// No reply at all, or the reply to a query with another id.
    Id,
    /// The reply to another question.
    Question,
    /// The reply to this query, and it cannot be read.
    Garbled,
}

/// What a reply is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Records, or the word that there are none.
    Answer,
    /// A part of it: the whole is to be had by TCP.
    Truncated,
    /// The upstream cannot say, or leads elsewhere: another one may know.
    Nothing,
}

/// One record of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    ttl_at: u16,
    end: u16,
    section: u8,
}

/// A reply, without EDNS. Never changes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::dns) struct Stored {
    bytes: Box<[u8]>,
    question_end: usize,
    marks: Box<[Mark]>,
    /// Response code with its high bits.
    pub(in crate::dns) rcode: u16,
    authentic: bool,
    truncated: bool,
    referral: bool,
    /// How long it may be kept, in seconds; 0: not at all.
    pub(in crate::dns) ttl: u32,
    /// Options of EDNS that say why (RFC 8914), as they came.
    reasons: Box<[u8]>,
}

/// How old an answer is when it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dns) enum Age {
    /// So many seconds; below its TTL.
    Fresh(u32),
    /// It has run out, and may be kept for so many seconds more.
    Stale(u32),
}

impl Stored {
    /// Reads the reply to the query for `key` that had this `id`. TTLs are put into their bounds.
    pub(super) fn read(message: &[u8], key: &Key, id: u16, ttls: Ttls) -> Result<Self, Wrong> {
        let header = Header::read(message).ok_or(Wrong::Id)?;
        if header.id != id || header.flags & Header::QR == 0 || header.opcode() != 0 {
            return Err(Wrong::Id);
        }
        let code = header.flags & 0xf;
        let settled = matches!(code, rcode::NOERROR | rcode::NXDOMAIN);
        if header.counts[0] == 0 && !settled {
            // What could not be read is not repeated.
            return Ok(Self::bare(key, code));
        }
        let question = Question::read(message).filter(|question| key.asks(question));
        let question = question.filter(|_| header.counts[0] == 1).ok_or(Wrong::Question)?;
        let mut reading = Reading {
            bytes: message.to_vec(),
            at: question.end,
            marks: Vec::new(),
            high: 0,
            reasons: Vec::new(),
            lowest: u32::MAX,
            soa: None,
            found: false,
            delegated: false,
        };
        reading.records(header, key.qtype(), ttls).ok_or(Wrong::Garbled)?;
        let Reading { mut bytes, at, marks, high, reasons, lowest, soa, found, delegated } =
            reading;
        bytes.truncate(at);
        let code = code | high << 4;
        let negative = code == rcode::NXDOMAIN || !found;
        let ttl = match soa {
            _ if !matches!(code, rcode::NOERROR | rcode::NXDOMAIN) => 0,
            _ if !negative => lowest,
            Some(negative) => lowest.min(negative),
            // Without SOA nobody said how long (RFC 2308 §5).
            None => 0,
        };
        let answered = marks.iter().any(|mark| mark.section == 1);
        Ok(Self {
            bytes: bytes.into(),
            question_end: question.end,
            rcode: code,
            authentic: header.flags & AD != 0,
            truncated: header.flags & Header::TC != 0,
            referral: code == rcode::NOERROR && !answered && soa.is_none() && delegated,
            ttl: if ttl == u32::MAX { 0 } else { ttl },
            marks: marks.into(),
            reasons: reasons.into(),
        })
    }

    /// A reply of nothing but a code.
    fn bare(key: &Key, rcode: u16) -> Self {
        let bytes = key.query(0, false);
        Self {
            question_end: bytes.len(),
            bytes: bytes.into(),
            marks: Box::default(),
            rcode,
            authentic: false,
            truncated: false,
            referral: false,
            ttl: 0,
            reasons: Box::default(),
        }
    }

    /// What it is worth to those who asked.
    pub(super) fn worth(&self) -> Worth {
        if self.truncated && matches!(self.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
            Worth::Truncated
        } else if matches!(self.rcode, rcode::NOERROR | rcode::NXDOMAIN) && !self.referral {
            Worth::Answer
        } else {
            Worth::Nothing
        }
    }

    /// Bytes that it takes in memory.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(&*self.marks) + self.reasons.len()
    }

    /// The reasons that the upstream gave, as options of EDNS.
    pub(super) fn reasons(&self) -> &[u8] {
        &self.reasons
    }

    /// The reply to `query`, whose question is `question`, of at most `limit` bytes; with `opt` for
    /// a client that speaks EDNS. What does not fit is left out from the end: additional records
    /// without a word, others with TC (RFC 2181 §9). The spelling of the question is the client's.
    pub(in crate::dns) fn reply(
        &self,
        query: &[u8],
        question: &Question,
        (opt, reason): (Option<OptReply<'_>>, Option<u16>),
        limit: usize,
        age: Age,
    ) -> Vec<u8> {
        let asked = Header::read(query).map_or(0, |header| header.flags);
        let opt = opt.map(|opt| OptReply { reasons: &self.reasons, ..opt });
        let room = limit.saturating_sub(opt.as_ref().map_or(0, OptReply::room));
        let mut out = self.bytes.to_vec();
        out.reserve(opt.as_ref().map_or(0, OptReply::room));
        for mark in &self.marks {
            let at = usize::from(mark.ttl_at);
            let ttl = match age {
                Age::Fresh(seconds) => ttl(&out, at).unwrap_or_default().saturating_sub(seconds),
                Age::Stale(left) => left,
            };
            set16(&mut out, at, (ttl >> 16) as u16);
            set16(&mut out, at + 2, ttl as u16);
        }
        let fit = self.marks.iter().take_while(|mark| usize::from(mark.end) <= room).count();
        let mut flags = Header::QR | Header::RA | (asked & (Header::RD | CD)) | (self.rcode & 0xf);
        if self.truncated || self.marks.get(fit).is_some_and(|mark| mark.section < 3) {
            flags |= Header::TC;
        }
        let knows_ad = asked & AD != 0 || opt.is_some_and(|opt| opt.edns.dnssec_ok);
        if self.authentic && knows_ad {
            flags |= AD;
        }
        let kept = self.marks.get(..fit).unwrap_or_default();
        out.truncate(kept.last().map_or(self.question_end, |mark| usize::from(mark.end)));
        if let (Some(theirs), Some(asked)) =
            (out.get_mut(HEADER..self.question_end), query.get(HEADER..question.end))
            && theirs.len() == asked.len()
        {
            theirs.copy_from_slice(asked);
        }
        let count = |section| kept.iter().filter(|mark| mark.section == section).count() as u16;
        let extra = u16::from(opt.is_some());
        let id = be16(query, 0).unwrap_or_default();
        for (index, value) in
            [id, flags, 1, count(1), count(2), count(3) + extra].into_iter().enumerate()
        {
            set16(&mut out, index * 2, value);
        }
        if let Some(opt) = &opt {
            opt.write(&mut out, self.rcode, reason);
        }
        out
    }

    /// The message as it is kept, for a reader inside.
    pub(in crate::dns) fn plain(&self, age: Age) -> Vec<u8> {
        match Question::read(&self.bytes) {
            Some(question) => self.reply(&self.bytes, &question, (None, None), usize::MAX, age),
            None => Vec::new(),
        }
    }
}

/// A message that is being read.
struct Reading {
    bytes: Vec<u8>,
    at: usize,
    marks: Vec<Mark>,
    high: u16,
    reasons: Vec<u8>,
    /// The lowest TTL of the answer.
    lowest: u32,
    /// How long a negative answer may be kept.
    soa: Option<u32>,
    /// Whether a record is there as it was asked for.
    found: bool,
    /// Whether there are name servers in the authority section.
    delegated: bool,
}

impl Reading {
    /// Reads all records, up to EDNS: what stands behind that is not needed. None when one cannot
    /// be read. Ends behind the last record that is kept.
    fn records(&mut self, header: Header, qtype: u16, ttls: Ttls) -> Option<()> {
        let mut spelled = Vec::new();
        for section in 1..4u8 {
            for _ in 0..header.counts[usize::from(section)] {
                let owner = self.at;
                let head = whole_name(&self.bytes, owner)?;
                let kind = be16(&self.bytes, head)?;
                let data = head + 10;
                let end = data + usize::from(be16(&self.bytes, head + 8)?);
                self.bytes.get(data..end)?;
                // Its names are seen to be names, or else clients would have to.
                spelled.clear();
                spell_data(&self.bytes, kind, data, end, &mut spelled)?;
                if kind == rtype::OPT {
                    return (section == 3).then(|| self.edns(head, data..end))?;
                }
                let mut bounded = ttls.bound(ttl(&self.bytes, head + 4)?);
                match (section, kind) {
                    (1, _) => {
                        self.lowest = self.lowest.min(bounded);
                        self.found |= kind == qtype || qtype == rtype::ANY;
                    }
                    (2, rtype::SOA) if self.soa.is_none() => {
                        // The last of its numbers counts too (RFC 2308 §4).
                        let minimum = ttl(&self.bytes, end.checked_sub(4)?.max(data))?;
                        bounded = ttls.bound_negative(bounded.min(minimum));
                        self.soa = Some(bounded);
                    }
                    (2, rtype::NS) => self.delegated = true,
                    _ => {}
                }
                set16(&mut self.bytes, head + 4, (bounded >> 16) as u16);
                set16(&mut self.bytes, head + 6, bounded as u16);
                self.marks.push(Mark {
                    ttl_at: u16::try_from(head + 4).ok()?,
                    end: u16::try_from(end).ok()?,
                    section,
                });
                self.at = end;
            }
        }
        Some(())
    }

    /// Takes the code's high bits and the reasons out of the EDNS record.
    fn edns(&mut self, head: usize, data: std::ops::Range<usize>) -> Option<()> {
        self.high = u16::from(*self.bytes.get(head + 4)?);
        let mut options = self.bytes.get(data)?;
        while !options.is_empty() {
            let length = 4 + usize::from(be16(options, 2)?);
            let whole = options.get(..length)?;
            if be16(whole, 0) == Some(option::EXTENDED_ERROR)
                && length >= 6
                && self.reasons.len() + length <= REASONS_MAX
            {
                self.reasons.extend_from_slice(whole);
            }
            options = options.get(length..)?;
        }
        Some(())
    }
}

/// The number of four bytes at `at`.
fn ttl(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

#[cfg(test)]
#[path = "message_tests.rs"]
pub(super) mod tests;

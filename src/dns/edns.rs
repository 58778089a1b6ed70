//! What stands behind the question: EDNS, read without trusting a single count.

use super::cookie::Cookie;
use super::wire::{Header, be16, rtype};

/// Codes of EDNS options.
pub mod option {
    /// Who answers (RFC 5001).
    pub const NSID: u16 = 3;
    /// Client and server know each other (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// How long a TCP connection may be idle (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// Why it is so (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;
}

/// Codes that say why (RFC 8914 §4).
pub mod extended {
    /// The registry or the upstream that told this does not answer now.
    pub const STALE: u16 = 3;
    /// All upstreams failed a moment ago.
    pub const CACHED_ERROR: u16 = 13;
    /// Nothing is known yet.
    pub const NOT_READY: u16 = 14;
    /// This client may not ask for that.
    pub const PROHIBITED: u16 = 18;
    /// The one that told of no such name does not answer now.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// There is no such zone here.
    pub const NOT_AUTHORITATIVE: u16 = 20;
    /// This kind of question is not served.
    pub const NOT_SUPPORTED: u16 = 21;
    /// No upstream answered.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// The network said that no upstream can be reached.
    pub const NETWORK_ERROR: u16 = 23;
}

/// What EDNS says of the client (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Largest reply by UDP, in bytes, as sent; below 512 it counts as 512.
    pub payload: u16,
    /// Version; only 0 is known.
    pub version: u8,
    /// The client understands DNSSEC: repeated in the reply (RFC 3225 §3).
    pub dnssec_ok: bool,
    /// The client asks who answers (RFC 5001).
    pub nsid: bool,
    /// The client asks how long its connection may be idle (RFC 7828).
    pub keepalive: bool,
    /// Its cookie (RFC 7873).
    pub cookie: Cookie,
}

/// A query that cannot be answered because its records cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads the records behind the question and returns the one EDNS record among them, if any.
///
/// Counts are believed only as far as bytes follow. What stands behind the last record is ignored.
///
/// # Errors
/// When a record or an option is cut, when there are two EDNS records, when one has an owner other
/// than the root, or when it stands outside the additional section (RFC 6891 §6.1.1).
pub fn read_edns(message: &[u8], header: Header, mut at: usize) -> Result<Option<Edns>, Malformed> {
    let mut edns = None;
    for section in 1..4 {
        for _ in 0..header.counts[section] {
            let owner = at;
            at = skip_name(message, at).ok_or(Malformed)?;
            let kind = be16(message, at).ok_or(Malformed)?;
            let length = usize::from(be16(message, at + 8).ok_or(Malformed)?);
            let data = message.get(at + 10..at + 10 + length).ok_or(Malformed)?;
            if kind == rtype::OPT {
                if section != 3 || edns.is_some() || message.get(owner) != Some(&0) {
                    return Err(Malformed);
                }
                edns = Some(read_opt(message, at, data)?);
            }
            at += 10 + length;
        }
    }
    Ok(edns)
}

fn read_opt(message: &[u8], at: usize, mut options: &[u8]) -> Result<Edns, Malformed> {
    let mut edns = Edns {
        payload: be16(message, at + 2).ok_or(Malformed)?,
        version: *message.get(at + 5).ok_or(Malformed)?,
        dnssec_ok: message.get(at + 6).is_some_and(|flags| flags & 0x80 != 0),
        nsid: false,
        keepalive: false,
        cookie: Cookie::Absent,
    };
    while !options.is_empty() {
        let code = be16(options, 0).ok_or(Malformed)?;
        let length = usize::from(be16(options, 2).ok_or(Malformed)?);
        let data = options.get(4..4 + length).ok_or(Malformed)?;
        options = &options[4 + length..];
        match code {
            option::NSID => edns.nsid = true,
            option::KEEPALIVE => edns.keepalive = true,
            // Only the first counts (RFC 7873 §5.2).
            option::COOKIE if edns.cookie == Cookie::Absent => edns.cookie = Cookie::read(data),
            _ => {}
        }
    }
    Ok(edns)
}

/// Where the name that starts at `at` ends. A pointer ends it and is not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}

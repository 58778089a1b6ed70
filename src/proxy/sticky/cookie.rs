//! The cookie that brings a client back: sealed, so that it tells nothing and cannot be made.
//!
//! Forty-eight characters of base64url: a tag of sixteen bytes, and twenty bytes that hold the time of
//! issue and the endpoint's identity. The tag is an HMAC-SHA-256 over the cookie's name and those
//! twenty bytes; they themselves are hidden by another HMAC over the tag (the construction of SIV, RFC
//! 5297, with one primitive). Every node with the same key reads it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::identity::Identity;

/// Seconds for which a cookie is good.
pub const GOOD_FOR: u32 = 30 * 24 * 3600;
/// Seconds after which a client that comes back is given a fresh one.
const FRESH_FOR: u32 = GOOD_FOR / 2;
/// Seconds by which a cookie may be from the future: the clocks of nodes that share a key.
const AHEAD: u32 = 300;
/// Cookies of one name that are looked at in one request.
const TRIES: usize = 4;

const TAG: usize = 16;
const PLAIN: usize = 20;
/// Characters of a cookie's value.
const LENGTH: usize = (TAG + PLAIN) / 3 * 4;
/// Bytes of a key.
pub const KEY: usize = 32;

/// The keys of cookies: the first one seals, each of them opens. Never shown.
#[derive(Clone)]
pub struct Keys {
    seals: Pair,
    former: Option<Pair>,
}

#[derive(Clone)]
struct Pair {
    signs: Hmac<Sha256>,
    hides: Hmac<Sha256>,
}

/// A cookie that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The endpoint that it names.
    pub identity: Identity,
    /// It is old, or sealed with the former key: the client should get a fresh one.
    pub stale: bool,
}

/// What the cookies of a request say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// There is none of that name.
    Nothing,
    /// There is one, and none is good: forged, for another name, too old.
    Bad,
    /// One that is good.
    Good(Opened),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Pair {
    fn new(key: &[u8; KEY]) -> Self {
        let purpose = |purpose: &[u8]| {
            let derived = mac(key).chain_update(purpose).finalize().into_bytes();
            mac(&derived)
        };
        Self { signs: purpose(b"portolan sticky signs"), hides: purpose(b"portolan sticky hides") }
    }

    fn sign(&self, name: &str, plain: &[u8; PLAIN]) -> Hmac<Sha256> {
        // The plain part has one length, so that name and plain part cannot be read in two ways.
        self.signs.clone().chain_update(plain).chain_update(name)
    }

    /// Hides what is plain, and shows what is hidden.
    fn hide(&self, tag: &[u8], text: &mut [u8]) {
        let mask = self.hides.clone().chain_update(tag).finalize().into_bytes();
        text.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }

    fn open(&self, name: &str, sealed: &[u8; TAG + PLAIN]) -> Option<[u8; PLAIN]> {
        let (tag, hidden) = sealed.split_first_chunk::<TAG>()?;
        let mut plain: [u8; PLAIN] = hidden.first_chunk().copied()?;
        self.hide(tag, &mut plain);
        self.sign(name, &plain).verify_truncated_left(tag).is_ok().then_some(plain)
    }
}

/// HMAC with a key of at least one byte; every length is taken, so that this never fails.
fn mac(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => Hmac::<Sha256>::new(&hmac::digest::Key::<Hmac<Sha256>>::default()),
    }
}

impl Keys {
    /// Seals with `key`; what `former` sealed is still taken.
    #[must_use]
    pub fn new(key: &[u8; KEY], former: Option<&[u8; KEY]>) -> Self {
        Self { seals: Pair::new(key), former: former.map(Pair::new) }
    }

    /// The value of the cookie `name` that brings a client back to `identity`; `now` in seconds of
    /// Unix time.
    #[must_use]
    pub fn seal(&self, name: &str, identity: Identity, now: u32) -> String {
        let mut plain = [0; PLAIN];
        plain[..4].copy_from_slice(&now.to_be_bytes());
        plain[4..12].copy_from_slice(&identity.upstream.to_be_bytes());
        plain[12..].copy_from_slice(&identity.endpoint.to_be_bytes());
        let tag = self.seals.sign(name, &plain).finalize().into_bytes();
        let mut sealed = [0; TAG + PLAIN];
        sealed[..TAG].copy_from_slice(&tag[..TAG]);
        self.seals.hide(&tag[..TAG], &mut plain);
        sealed[TAG..].copy_from_slice(&plain);
        BASE64.encode(sealed)
    }

    /// What the value of the cookie `name` says, if it was sealed with one of these keys for this
    /// name within the last thirty days. Tags are compared in constant time; never allocates.
    #[must_use]
    pub fn open(&self, name: &str, value: &[u8], now: u32) -> Option<Opened> {
        if value.len() != LENGTH {
            return None;
        }
        let mut sealed = [0; TAG + PLAIN];
        BASE64.decode_slice(value, &mut sealed).ok().filter(|length| *length == TAG + PLAIN)?;
        let (plain, former) = match self.seals.open(name, &sealed) {
            Some(plain) => (plain, false),
            None => (self.former.as_ref()?.open(name, &sealed)?, true),
        };
        let number = |at: usize| plain[at..].first_chunk().copied().map(u64::from_be_bytes);
        let issued = plain.first_chunk().copied().map(u32::from_be_bytes)?;
        let age = now.saturating_sub(issued);
        if age > GOOD_FOR || issued > now.saturating_add(AHEAD) {
            return None;
        }
        let identity = Identity { upstream: number(4)?, endpoint: number(12)? };
        Some(Opened { identity, stale: former || age > FRESH_FOR })
    }

    /// What the cookies called `name` in the `Cookie` lines of a request say: the first that is good
    /// counts.
    #[must_use]
    pub fn read<'a>(&self, name: &str, lines: impl Iterator<Item = &'a [u8]>, now: u32) -> Brought {
        let mut brought = Brought::Nothing;
        let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
        for value in pairs.filter_map(|pair| value_of(pair, name)).take(TRIES) {
            match self.open(name, value, now) {
                Some(opened) => return Brought::Good(opened),
                None => brought = Brought::Bad,
            }
        }
        brought
    }
}

/// The value of `pair` if its name is `name`; letter case counts (RFC 6265 §5.4).
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// The `Cookie` line to send on in place of `lines`: without the cookies called `name`, all others as
/// they came. Empty when nothing is left; `None` when there is nothing to take out.
#[must_use]
pub fn without<'a>(name: &str, lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    let mut taken = false;
    for line in lines {
        let mut first = true;
        for pair in line.split(|byte| *byte == b';') {
            if value_of(pair, name).is_some() {
                taken = true;
                continue;
            }
            let pair = if first || kept.is_empty() { pair.trim_ascii_start() } else { pair };
            match (kept.is_empty(), first) {
                (true, _) => {}
                // Several lines become one (RFC 9113 §8.2.3).
                (false, true) => kept.extend_from_slice(b"; "),
                (false, false) => kept.push(b';'),
            }
            first = false;
            kept.extend_from_slice(pair);
        }
    }
    taken.then_some(kept)
}

/// The value of the `Set-Cookie` line for a sealed `value`: for the whole site, out of reach of
/// scripts, not sent along by other sites' forms, until the browser is closed.
#[must_use]
pub fn set_cookie(name: &str, value: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;

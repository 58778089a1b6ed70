//! Response rate limiting: nobody floods a third by asking us in its name. Counted per network and
//! kind of reply, in a table of fixed size, without a lock.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Networks whose counts are kept at a time; one more takes the place of another.
const PLACES: usize = 1 << 16;
/// Leading bits that make a network: those of NSD.
const V4_BITS: u32 = 24;
const V6_BITS: u32 = 64;

/// What is counted apart: a flood of names that do not exist does not cost those that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Records were found.
    Answer,
    /// There is no such name, or no such type.
    Negative,
    /// Everything else.
    Error,
}

/// What becomes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Send,
    /// A short one goes out, which an honest client follows up by TCP.
    Slip,
    /// Nothing goes out.
    Drop,
}

/// Counts per network and kind. Two threads that count the same at once may lose one of the two:
/// the limit is a dam, not a toll.
#[derive(Debug)]
pub struct Rates {
    /// Of each place: 24 bits to know its network by, 16 of the second, 24 of its count.
    places: OnceLock<Box<[AtomicU64]>>,
    /// Chosen by the system: nobody outside knows who shares a place.
    hasher: RandomState,
}

impl Default for Rates {
    fn default() -> Self {
        Self { places: OnceLock::new(), hasher: RandomState::new() }
    }
}

impl Rates {
    /// Counts a reply to `client` in the second `now`, of which there may be `limit`, and says what
    /// becomes of it. Of those beyond, one in `slip` slips, by `seed`; of zero none. Allocates its
    /// table once, and never waits.
    pub fn count(
        &self,
        client: IpAddr,
        kind: Kind,
        now: u32,
        (limit, slip): (u32, u32),
        seed: u64,
    ) -> Verdict {
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let hash = self.hasher.hash_one((network(client), kind));
        let Some(place) = places.get(hash as usize % PLACES) else { return Verdict::Send };
        let mark = (hash & !0xff_ffff_ffff) | (u64::from(now & 0xffff) << 24);
        let before = place.load(Ordering::Relaxed);
        let count = if before & !0xff_ffff == mark { (before & 0xff_ffff) + 1 } else { 1 };
        place.store(mark | count.min(0xff_ffff), Ordering::Relaxed);
        if count <= u64::from(limit) {
            Verdict::Send
        } else if slip > 0 && seed.is_multiple_of(u64::from(slip)) {
            Verdict::Slip
        } else {
            Verdict::Drop
        }
    }
}

/// The network of an address, and its family.
fn network(client: IpAddr) -> (u8, u64) {
    match client.to_canonical() {
        IpAddr::V4(ip) => (4, u64::from(u32::from(ip) >> (32 - V4_BITS))),
        IpAddr::V6(ip) => (6, (u128::from(ip) >> (128 - V6_BITS)) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gets_its_share_of_each_kind_every_second() {
        let rates = Rates::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let sent = |client: &str, kind, now, times: u32| {
            (0..times)
                .filter(|n| {
                    let seed = u64::from(*n);
                    rates.count(ip(client), kind, now, (20, 0), seed) == Verdict::Send
                })
                .count()
        };
        assert_eq!(sent("192.0.2.1", Kind::Answer, 5, 30), 20);
        assert_eq!(sent("192.0.2.200", Kind::Answer, 5, 30), 0, "the same network");
        assert_eq!(sent("192.0.2.200", Kind::Negative, 5, 30), 20, "another kind");
        assert_eq!(sent("192.0.3.1", Kind::Answer, 5, 30), 20, "another network");
        assert_eq!(sent("::ffff:192.0.2.1", Kind::Answer, 5, 30), 0, "the same, mapped");
        assert_eq!(sent("2001:db8::1", Kind::Answer, 5, 30), 20);
        assert_eq!(sent("2001:db8::2", Kind::Answer, 5, 30), 0);
        assert_eq!(sent("2001:db8:0:1::2", Kind::Answer, 5, 30), 20);
        assert_eq!(sent("192.0.2.1", Kind::Answer, 6, 30), 20, "the next second");
    }

    #[test]
    fn one_in_so_many_slips() {
        let rates = Rates::default();
        let client = "192.0.2.1".parse().unwrap();
        let slipped = |slip| {
            (0..100)
                .filter(|seed| {
                    rates.count(client, Kind::Error, 1, (0, slip), *seed) == Verdict::Slip
                })
                .count()
        };
        assert_eq!((slipped(0), slipped(1), slipped(2), slipped(4)), (0, 100, 50, 25));
    }
}

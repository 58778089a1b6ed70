//! How fast requests may come: a bucket per client or per route, by the generic cell rate algorithm
//! (GCRA, ITU-T I.371 annex A), in a table of fixed size that all workers share. No lock, no wait.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::proxy::config::{RateBy, RateLimitConfig};

/// Clients of one route whose buckets are kept at a time.
pub const PLACES: usize = 1 << 15;
/// Places that one client may take: those of one cache line.
const WAYS: usize = 8;
/// Bits of a place that tell until when its bucket is in debt; the others tell whose it is.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Leading bits of an IPv6 address that count as one client: what one household or host has.
const V6_BITS: u32 = 64;
/// How often a place is tried that another worker changes at the same moment.
const TRIES: usize = 64;

/// A rate, in ticks as long as fits it: about a thousand to the time of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    tick_nanos: u64,
    /// What one request costs.
    interval: u64,
    /// The largest debt: what a full bucket pays for.
    capacity: u64,
}

impl Gcra {
    /// So many `requests` and `burst` more at once, of which `requests` come back in `per_nanos`.
    /// More than 10⁹ in a second are no limit that anything here could reach.
    #[must_use]
    pub fn new(requests: u32, burst: u32, per_nanos: u64) -> Self {
        let interval_nanos = (per_nanos / u64::from(requests.max(1))).max(1);
        let bucket = u64::from(requests.max(1)) + u64::from(burst);
        let fine = interval_nanos >> 10;
        let coarse = (u128::from(interval_nanos) * u128::from(bucket)) >> (TIME_BITS - 2);
        let tick_nanos = fine.max(u64::try_from(coarse).unwrap_or(u64::MAX)).max(1);
        let interval = (interval_nanos / tick_nanos).max(1);
        Self { tick_nanos, interval, capacity: interval.saturating_mul(bucket).min(TIME_MASK / 2) }
    }

    /// The place after one more request at `now_nanos`, where it was `until` before; else after
    /// how many nanoseconds one would be taken.
    fn take(&self, until: u64, now_nanos: u64) -> Result<u64, u64> {
        let debt = self.debt(until, now_nanos) + self.interval;
        if debt > self.capacity {
            return Err((debt - self.capacity).saturating_mul(self.tick_nanos));
        }
        Ok((now_nanos / self.tick_nanos + debt) & TIME_MASK)
    }

    /// How far `until` is ahead. Time goes in a circle of 2⁴⁰ ticks; what is further ahead than a
    /// debt can be is long past.
    const fn debt(&self, until: u64, now_nanos: u64) -> u64 {
        let ahead = until.wrapping_sub(now_nanos / self.tick_nanos) & TIME_MASK;
        if ahead > self.capacity { 0 } else { ahead }
    }
}

/// The buckets of one route.
///
/// Each client has eight places to be in; when all are taken, the one with the least debt gives
/// way, so that a crowd of new addresses costs first those who have asked least. Two clients whose
/// keyed hashes agree in 35 bits share a bucket.
#[derive(Debug)]
pub struct Rate {
    config: RateLimitConfig,
    gcra: Gcra,
    places: Box<[AtomicU64]>,
    /// Chosen by the system: nobody outside knows who shares a place.
    hasher: RandomState,
}

impl Rate {
    /// Empty buckets.
    #[must_use]
    pub fn new(config: &RateLimitConfig) -> Self {
        let places = match config.by {
            RateBy::Client => PLACES,
            RateBy::Route => WAYS,
        };
        let per_nanos = u64::try_from(config.per.0.as_nanos()).unwrap_or(u64::MAX);
        Self {
            gcra: Gcra::new(config.requests, config.burst, per_nanos),
            config: config.clone(),
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// As it was configured.
    #[must_use]
    pub const fn config(&self) -> &RateLimitConfig {
        &self.config
    }

    /// Counts a request of `client`, `now_nanos` after a moment that is the same for all.
    ///
    /// # Errors
    /// It is one too many; after so many nanoseconds one would be taken.
    pub fn take(&self, client: IpAddr, now_nanos: u64) -> Result<(), u64> {
        match self.config.by {
            RateBy::Client => self.take_for(self.hasher.hash_one(network(client)), now_nanos),
            RateBy::Route => self.take_for(0, now_nanos),
        }
    }

    fn take_for(&self, hash: u64, now_nanos: u64) -> Result<(), u64> {
        // Never zero, so that a place that nobody has taken is nobody's.
        let tag = (hash >> TIME_BITS) | 1;
        let group = (hash as usize % (self.places.len() / WAYS)) * WAYS;
        let places = self.places.get(group..group + WAYS).unwrap_or_default();
        for _ in 0..TRIES {
            let mut least: Option<(u64, &AtomicU64, u64)> = None;
            let mut own = None;
            for place in places {
                let word = place.load(Relaxed);
                if word >> TIME_BITS == tag {
                    own = Some((place, word));
                    break;
                }
                let debt = if word == 0 { 0 } else { self.gcra.debt(word & TIME_MASK, now_nanos) };
                if least.is_none_or(|(known, ..)| debt < known) {
                    least = Some((debt, place, word));
                }
            }
            let Some((place, word, until)) = own
                .map(|(place, word)| (place, word, word & TIME_MASK))
                .or_else(|| least.map(|(_, place, word)| (place, word, self.past(now_nanos))))
            else {
                return Ok(());
            };
            let next = (tag << TIME_BITS) | self.gcra.take(until, now_nanos)?;
            if place.compare_exchange_weak(word, next, Relaxed, Relaxed).is_ok() {
                return Ok(());
            }
        }
        // So many workers at one place at once: the limit is a dam, not a toll.
        Ok(())
    }

    /// A time without debt.
    const fn past(&self, now_nanos: u64) -> u64 {
        (now_nanos / self.gcra.tick_nanos) & TIME_MASK
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address.
fn network(client: IpAddr) -> (u8, u64) {
    match client.to_canonical() {
        IpAddr::V4(ip) => (4, u64::from(u32::from(ip))),
        IpAddr::V6(ip) => (6, (u128::from(ip) >> (128 - V6_BITS)) as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::units::Period;

    const SECOND: u64 = 1_000_000_000;

    fn config(requests: u32, burst: u32, per: &str, by: RateBy) -> RateLimitConfig {
        RateLimitConfig { requests, burst, per: per.parse().unwrap(), by }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of `requests` at the moment `now` are taken.
    fn taken(rate: &Rate, client: &str, now: u64, requests: usize) -> usize {
        (0..requests).filter(|_| rate.take(ip(client), now).is_ok()).count()
    }

    #[test]
    fn a_full_bucket_pays_for_the_requests_and_the_burst_and_fills_at_the_rate() {
        let rate = Rate::new(&config(10, 5, "1s", RateBy::Client));
        let client = "192.0.2.1";
        assert_eq!(taken(&rate, client, SECOND, 40), 15);
        assert_eq!(taken(&rate, client, SECOND + SECOND / 2, 40), 5, "half a second later");
        assert_eq!(taken(&rate, client, 9 * SECOND, 40), 15, "never more than a bucket");
        let wait = rate.take(ip(client), 9 * SECOND).unwrap_err();
        assert!((90_000_000..=110_000_000).contains(&wait), "until the next: {wait}");
    }

    #[test]
    fn clients_are_counted_apart_and_a_64_of_ipv6_is_one() {
        let rate = Rate::new(&config(3, 0, "1s", RateBy::Client));
        for (case, client, want) in [
            ("the first", "192.0.2.1", 3),
            ("another", "192.0.2.2", 3),
            ("the first, mapped", "::ffff:192.0.2.1", 0),
            ("of IPv6", "2001:db8::1", 3),
            ("the same /64", "2001:db8::2", 0),
            ("another /64", "2001:db8:0:1::2", 3),
        ] {
            assert_eq!(taken(&rate, client, SECOND, 9), want, "{case}");
        }
        let rate = Rate::new(&config(3, 0, "1s", RateBy::Route));
        assert_eq!(taken(&rate, "192.0.2.1", SECOND, 2), 2);
        assert_eq!(taken(&rate, "192.0.2.2", SECOND, 2), 1, "all of a route are one");
    }

    #[test]
    fn a_crowd_of_new_clients_costs_first_those_who_asked_least() {
        let rate = Rate::new(&config(100, 0, "1h", RateBy::Client));
        assert_eq!(taken(&rate, "203.0.113.9", SECOND, 200), 100);
        for n in 0..(PLACES as u32 * 4) {
            let _ = rate.take(Ipv4Addr::from(0x0a00_0000 + n).into(), SECOND);
        }
        assert_eq!(taken(&rate, "203.0.113.9", SECOND, 10), 0, "it is still known");
    }

    #[test]
    fn odd_rates_neither_overflow_nor_let_everything_through() {
        for (requests, burst, per) in [
            (1, 0, "365d"),
            (1, u32::MAX, "365d"),
            (u32::MAX, u32::MAX, "365d"),
            (u32::MAX, 0, "1ms"),
            (1, 0, "1ms"),
        ] {
            let gcra = Gcra::new(requests, burst, 0);
            assert!(gcra.interval >= 1 && gcra.capacity >= gcra.interval, "{per}: {gcra:?}");
            let rate = Rate::new(&config(requests, burst, per, RateBy::Route));
            let most = (u64::from(requests) + u64::from(burst)).min(1000) as usize;
            let now = 40 * 365 * 24 * 3600 * SECOND;
            assert_eq!(taken(&rate, "::1", now, most), most, "{requests} {burst} {per}");
            if most < 1000 {
                assert_eq!(taken(&rate, "::1", now, 5), 0, "{requests} {burst} {per}");
            }
        }
    }

    #[test]
    fn workers_at_once_take_no_more_than_the_bucket_has() {
        let rate = Arc::new(Rate::new(&config(1000, 0, "1h", RateBy::Client)));
        let taken = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if rate.take(ip("192.0.2.1"), SECOND).is_ok() {
                            taken.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.load(Relaxed), 1000);
    }

    proptest! {
        /// Against a model that keeps every client's debt as a plain number.
        #[test]
        fn decides_as_a_model_without_a_table_does(
            requests in 1_u32..50,
            burst in 0_u32..50,
            per_millis in 1_u64..100_000,
            steps in prop::collection::vec((0_u8..5, 0_u64..3_000), 1..300),
        ) {
            let config = RateLimitConfig {
                requests, burst, per: Period::from_millis(per_millis), by: RateBy::Client,
            };
            let rate = Rate::new(&config);
            let Gcra { tick_nanos, interval, capacity } = rate.gcra;
            let mut until: HashMap<u8, u64> = HashMap::new();
            let mut now = SECOND;
            for (client, gap) in steps {
                // Gaps of up to three intervals, so that both answers come up.
                now += gap * interval * tick_nanos / 1000;
                let ticks = now / tick_nanos;
                let known = until.entry(client).or_default();
                let next = (*known).max(ticks) + interval;
                let allowed = next - ticks <= capacity;
                if allowed {
                    *known = next;
                }
                let client = Ipv4Addr::new(10, 0, 0, client).into();
                prop_assert_eq!(rate.take(client, now).is_ok(), allowed);
            }
        }
    }
}

//! Requests of one route spread over several services by their shares.

use std::collections::BTreeMap;

use super::ServiceRef;
use crate::catalog::model::parse_name;

/// Most services of one split.
const SERVICES_MAX: usize = 100;

/// Services with their shares.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    services: Box<[(ServiceRef, u32)]>,
}

impl Split {
    /// Reads `{ web = 95, web-next = 5 }`.
    ///
    /// # Errors
    /// What can't be, and what to write.
    pub fn compile(config: &BTreeMap<String, u32>) -> Result<Self, String> {
        if config.len() > SERVICES_MAX {
            let count = config.len();
            return Err(format!("has {count} services; {SERVICES_MAX} are the most"));
        }
        for service in config.keys() {
            parse_name("service", service)?;
        }
        if config.values().all(|share| *share == 0) {
            return Err("has no share above 0; give one to a service that gets requests".into());
        }
        let services = config.iter().map(|(name, share)| (ServiceRef::parse(name), *share));
        Ok(Self { services: services.collect() })
    }

    /// Every service of it, those with a share of 0 too.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &ServiceRef> {
        self.services.iter().map(|(service, _)| service)
    }

    /// The service at an index that [`Split::choose`] gave.
    #[must_use]
    pub fn service(&self, index: usize) -> Option<&ServiceRef> {
        self.services.get(index).map(|(service, _)| service)
    }

    /// The index of the service that gets a request, by shares and `random` bits, among those that
    /// are `usable`; `None` when none with a share is. Allocates nothing.
    #[must_use]
    pub fn choose(&self, random: u64, usable: impl Fn(&ServiceRef) -> bool) -> Option<usize> {
        let first = self.among(random, |_| true)?;
        if self.service(first).is_some_and(&usable) {
            return Some(first);
        }
        // The lower bits were of next to no weight in the first choice.
        self.among(random.rotate_left(32), usable)
    }

    fn among(&self, random: u64, counts: impl Fn(&ServiceRef) -> bool) -> Option<usize> {
        let share = |(service, share): &(ServiceRef, u32)| {
            if *share > 0 && counts(service) { u64::from(*share) } else { 0 }
        };
        let total: u64 = self.services.iter().map(share).sum();
        // Scaled down instead of a remainder: every share gets its part of all bits.
        let mut left = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        for (index, service) in self.services.iter().enumerate() {
            let share = share(service);
            if left < share {
                return Some(index);
            }
            left -= share;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(shares: &[(&str, u32)]) -> Result<Split, String> {
        Split::compile(&shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect())
    }

    /// How often each service is chosen in `total` draws that are spread evenly.
    fn counts(split: &Split, total: u64, usable: impl Fn(&str) -> bool) -> Vec<u64> {
        let mut counts = vec![0; split.services.len()];
        for draw in 0..total {
            // Odd multiples of 2^64 by the golden ratio are spread evenly in both halves.
            let random = draw.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            if let Some(index) = split.choose(random, |service| usable(&service.service)) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn services_get_their_shares_and_those_of_who_cannot_serve() {
        let split = split(&[("a", 60), ("b", 30), ("c", 10), ("d", 0)]).unwrap();
        let near = |got: &[u64], want: [u64; 4]| {
            got.iter().zip(want).all(|(got, want)| got.abs_diff(want) < 200)
        };
        let all = counts(&split, 100_000, |_| true);
        assert!(near(&all, [60_000, 30_000, 10_000, 0]) && all[3] == 0, "{all:?}");
        let without = counts(&split, 100_000, |name| name != "a");
        assert!(near(&without, [0, 75_000, 25_000, 0]) && without[0] == 0, "{without:?}");
        let none = counts(&split, 1000, |name| name == "d");
        assert_eq!(none, [0; 4], "a share of 0 is none, also when nobody else can serve");
    }

    #[test]
    fn a_split_that_gives_nothing_to_anybody_is_refused() {
        assert!(split(&[("a", 0)]).unwrap_err().contains("no share above 0"));
        assert!(split(&[("a b", 1)]).is_err());
    }
}

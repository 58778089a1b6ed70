//! Consistent hashing by Maglev's table (Eisenbud et al., NSDI 2016, §3.4).

use std::sync::Arc;

use super::hash::{mix, of_address};
use super::{PickKey, Policy, Shared};
use crate::proxy::upstream::Endpoint;

/// Sends each hash to one endpoint, all of them as often as they weigh; when one leaves, little else
/// moves than what it had. A pick is one look-up.
///
/// Each endpoint has its own order of all places of the table, by its address alone, and they take
/// turns: a heavier one more often. So several balancers, and this one after a restart, have the same
/// table, whatever order they learn of endpoints in.
#[derive(Debug)]
pub struct Maglev {
    /// Index of the endpoint by the rest of the hash; empty without endpoints.
    table: Box<[u32]>,
}

/// Sizes of a table: primes, so that every step goes through all places. Another one moves nearly
/// everything, which is why there are few.
const SIZES: [usize; 3] = [65_537, 262_147, 1_048_583];

/// Places per endpoint that a table should have: shares are then about one percent off.
const PER_ENDPOINT: usize = 100;

/// One endpoint while the table is filled.
struct Filling {
    index: u32,
    place: usize,
    step: usize,
    /// Weight in relation to the heaviest.
    weight: f64,
    /// What it has earned; a whole turn costs 1.
    credit: f64,
}

impl Maglev {
    /// The policy for `endpoints`. Takes about two milliseconds up to 655 of them, and at most some
    /// fifty: it is done where tables are compiled, and only when addresses or weights changed.
    pub fn build(endpoints: &[Arc<Endpoint>], _: Shared) -> Box<dyn Policy> {
        let wanted = endpoints.len() * PER_ENDPOINT;
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[2]);
        Box::new(Self { table: fill(endpoints, size) })
    }
}

fn fill(endpoints: &[Arc<Endpoint>], size: usize) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    let heaviest = endpoints.iter().map(|endpoint| endpoint.weight).max().unwrap_or(1).max(1);
    let mut order: Vec<(u64, u32)> = (0..)
        .zip(endpoints)
        .map(|(index, endpoint)| (of_address(endpoint.address), index))
        .collect();
    order.sort_unstable();
    let filling = order.into_iter().map(|(hash, index)| Filling {
        index,
        place: (hash % size as u64) as usize,
        step: (mix(hash) % (size as u64 - 1)) as usize + 1,
        weight: f64::from(endpoints[index as usize].weight.max(1)) / f64::from(heaviest),
        credit: 0.0,
    });
    let mut filling: Vec<Filling> = filling.collect();
    if filling.is_empty() {
        return Box::default();
    }
    let mut table = vec![FREE; size];
    let mut left = size;
    loop {
        for endpoint in &mut filling {
            endpoint.credit += endpoint.weight;
            if endpoint.credit < 1.0 {
                continue;
            }
            endpoint.credit -= 1.0;
            while table[endpoint.place] != FREE {
                endpoint.place = (endpoint.place + endpoint.step) % size;
            }
            table[endpoint.place] = endpoint.index;
            left -= 1;
            if left == 0 {
                return table.into();
            }
        }
    }
}

impl Policy for Maglev {
    fn pick(&self, _: &[Arc<Endpoint>], key: PickKey) -> Option<usize> {
        let place = key.hash.checked_rem(self.table.len() as u64)?;
        Some(self.table[place as usize] as usize)
    }

    fn by_hash(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::proxy::balance::simulation::{assert_shares, picks};
    use crate::proxy::upstream::tests::endpoints;

    /// Who of `endpoints` each of 100,000 clients gets.
    fn flows(endpoints: &[Arc<Endpoint>]) -> Vec<SocketAddr> {
        let policy = Maglev::build(endpoints, Shared::default());
        let flow = |n| {
            let index = policy.pick(endpoints, PickKey::new(0, 0).with_hash(mix(n))).unwrap();
            endpoints[index].address
        };
        (0..100_000).map(flow).collect()
    }

    #[test]
    fn when_one_of_a_hundred_leaves_at_most_two_percent_more_move_than_must() {
        let all = endpoints(&[1; 100]);
        let before = flows(&all);
        for leaver in [0, 42, 99] {
            let left: Vec<_> =
                all.iter().filter(|e| e.address != all[leaver].address).cloned().collect();
            let after = flows(&left);
            let (mut must, mut moved) = (0, 0);
            for (before, after) in before.iter().zip(&after) {
                must += usize::from(*before == all[leaver].address);
                moved += usize::from(before != after);
            }
            let more = (moved - must) as f64 / before.len() as f64;
            assert!(more <= 0.02, "{leaver}: {must} had to move, {moved} did");
        }
    }

    #[test]
    fn the_table_is_the_same_whatever_order_endpoints_are_learnt_in() {
        let forth = endpoints(&[1, 2, 3, 4, 5]);
        let mut back = forth.to_vec();
        back.reverse();
        assert_eq!(flows(&forth), flows(&back));
    }

    #[test]
    fn every_endpoint_has_its_share_of_the_table() {
        for weights in [vec![1; 3], vec![1; 100], vec![1, 2, 7], vec![1000, 1, 500], vec![1; 2000]]
        {
            let endpoints = endpoints(&weights);
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let size = if weights.len() > 655 { SIZES[1] } else { SIZES[0] };
            let mut places = vec![0.0; weights.len()];
            fill(&endpoints, size).iter().for_each(|index| places[*index as usize] += 1.0);
            for (places, weight) in places.iter().zip(&weights) {
                let want = size as f64 * f64::from(*weight) / total;
                assert!((places - want).abs() <= 1.0 + want * 0.01, "{places} not {want}");
            }
        }
        let weights = [1, 2, 7, 3];
        assert_shares("maglev", &weights, &picks(Maglev::build, &weights, 50_000));
    }

    #[test]
    fn another_weight_moves_little_more_than_it_must() {
        let mut weights = vec![10; 50];
        let before = flows(&endpoints(&weights));
        weights[7] = 20;
        let after = flows(&endpoints(&weights));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        // It has 2 % of the flows, and gets nearly 2 % more.
        assert!(moved < 10_000, "{moved} of 100000");
    }

    #[test]
    fn without_endpoints_there_is_no_pick() {
        assert_eq!(Maglev::build(&[], Shared::default()).pick(&[], PickKey::new(7, 0)), None);
    }
}

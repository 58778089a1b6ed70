//! Which network an address is in: the longest prefix wins.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::IpNet;

/// Values by network. A look-up costs one hash per length of prefix that is there, and allocates
/// nothing.
#[derive(Debug, Clone)]
pub struct Networks<T> {
    /// Lengths of prefixes that are there, the longest first; those of IPv4 count 96 more.
    lengths: Vec<u8>,
    by_prefix: HashMap<(u8, u128), T, FixedState>,
}

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Self { lengths: Vec::new(), by_prefix: HashMap::default() }
    }
}

impl<T: Copy> Networks<T> {
    /// Puts `value` at `network`; returns what stood there.
    pub fn insert(&mut self, network: IpNet, value: T) -> Option<T> {
        let extra = if network.addr().is_ipv4() { 96 } else { 0 };
        let length = network.prefix_len() + extra;
        if let Err(at) = self.lengths.binary_search_by(|known| length.cmp(known)) {
            self.lengths.insert(at, length);
        }
        self.by_prefix.insert((length, bits(network.network(), length)), value)
    }

    /// The value of the narrowest network that holds `address`.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<T> {
        self.lengths
            .iter()
            .find_map(|length| self.by_prefix.get(&(*length, bits(address, *length))))
            .copied()
    }

    /// Whether there is no network.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}

/// The first `length` bits of `address`; IPv4 as it is mapped into IPv6 (RFC 4291 §2.5.5.2).
fn bits(address: IpAddr, length: u8) -> u128 {
    let all = match address {
        IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => u128::from(ip),
    };
    let rest = 128 - u32::from(length.min(128));
    all.checked_shr(rest).and_then(|kept| kept.checked_shl(rest)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_network_counts_and_mapped_addresses_are_what_they_map() {
        let mut networks = Networks::default();
        for (network, value) in [
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.2.3/32", 3),
            ("::/0", 4),
            ("fd00::/8", 5),
        ] {
            assert_eq!(networks.insert(network.parse().unwrap(), value), None);
        }
        for (address, want) in [
            ("10.2.0.1", 1),
            ("10.1.9.9", 2),
            ("10.1.2.3", 3),
            ("::ffff:10.1.2.3", 3),
            ("11.0.0.1", 4),
            ("fd12::1", 5),
            ("2001:db8::1", 4),
        ] {
            assert_eq!(networks.of(address.parse().unwrap()), Some(want), "{address}");
        }
        assert_eq!(Networks::<u8>::default().of("10.0.0.1".parse().unwrap()), None);
    }
}

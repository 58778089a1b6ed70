//! Hashes that are the same in every process, so that several balancers and a restarted one send a
//! client to the same endpoint. Not for secrets, and not against somebody who looks for collisions.

use std::net::{IpAddr, SocketAddr};

/// Every bit of the result depends on every bit of `bits` (the finish of splitmix64).
#[must_use]
pub const fn mix(bits: u64) -> u64 {
    let mut x = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The hash of `bytes` (FNV-1a, mixed).
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    mix(bytes.iter().fold(0xCBF2_9CE4_8422_2325, step))
}

/// The hash of a client's address; an IPv4 address mapped into IPv6 counts as IPv4.
#[must_use]
pub fn of_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => of_bytes(&ip.octets()),
        IpAddr::V6(ip) => of_bytes(&ip.octets()),
    }
}

/// The hash of an endpoint's address and port.
#[must_use]
pub fn of_address(address: SocketAddr) -> u64 {
    mix(of_ip(address.ip()) ^ u64::from(address.port()))
}

/// `bits` scaled down to `0..to`: the high half of the product. 0 for a `to` of 0.
#[must_use]
pub const fn scale(bits: u64, to: u64) -> u64 {
    ((bits as u128 * to as u128) >> 64) as u64
}

/// `bits` as a number from 0 up to, and without, 1.
#[must_use]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_these_for_ever_or_else_a_new_version_moves_every_client() {
        assert_eq!(of_bytes(b""), 0xC381_7C01_6BA4_FF30);
        assert_eq!(of_bytes(b"portolan"), 0xC4BC_0416_8426_D7EE);
        assert_eq!(of_ip("10.0.0.1".parse().unwrap()), of_ip("::ffff:10.0.0.1".parse().unwrap()));
        assert_ne!(
            of_address("10.0.0.1:80".parse().unwrap()),
            of_address("10.0.0.1:81".parse().unwrap())
        );
    }

    #[test]
    fn scaled_bits_cover_the_range_and_stay_in_it() {
        assert_eq!((scale(0, 3), scale(u64::MAX / 2, 3), scale(u64::MAX, 3)), (0, 1, 2));
        assert_eq!(scale(7, 0), 0);
        assert!(unit(u64::MAX) < 1.0);
    }
}

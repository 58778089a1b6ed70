//! DNS cookies (RFC 7873) in the form that all servers share (RFC 9018): a client that brings back
//! what it was given has shown that it receives at its address.

#![allow(deprecated, reason = "std's only SipHash-2-4 with keys of our choice is a deprecated one")]

use std::hash::{BuildHasher, Hasher, RandomState, SipHasher};
use std::net::IpAddr;

/// Bytes of the part that the client chose.
pub const CLIENT: usize = 8;
/// Bytes of the part that we make (RFC 9018 §4).
pub const SERVER: usize = 16;
/// Most bytes of a server's part in general (RFC 7873 §4).
const SERVER_MAX: usize = 32;
/// The only version there is.
const VERSION: u8 = 1;
/// Seconds for which a cookie is good (RFC 9018 §4.3).
const GOOD_FOR: u32 = 3600;
/// Seconds by which a cookie may be from the future: the clocks of servers that share a secret.
const AHEAD: u32 = 300;

/// The option as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    /// There was none.
    Absent,
    /// Its length is none that a cookie can have (RFC 7873 §5.2.2).
    Malformed,
    /// The client's part, and what it brings back of ours; zero length: nothing yet.
    Told {
        /// The client's part.
        client: [u8; CLIENT],
        /// Our part.
        server: [u8; SERVER_MAX],
        /// Bytes of our part.
        length: u8,
    },
}

impl Cookie {
    /// Reads the data of the option.
    #[must_use]
    pub fn read(data: &[u8]) -> Self {
        let Some((client, rest)) = data.split_first_chunk::<CLIENT>() else {
            return Self::Malformed;
        };
        let mut server = [0; SERVER_MAX];
        match rest.len() {
            0 => {}
            8..=SERVER_MAX => server[..rest.len()].copy_from_slice(rest),
            _ => return Self::Malformed,
        }
        Self::Told { client: *client, server, length: rest.len() as u8 }
    }
}

/// A server's secret. Never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Sixteen bytes from the system's randomness.
    #[must_use]
    pub fn random() -> Self {
        let part = || RandomState::new().build_hasher().finish().to_le_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&part());
        bytes[8..].copy_from_slice(&part());
        Self(bytes)
    }

    /// The secret that 32 hexadecimal digits spell.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim();
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(|value| Self(value.to_be_bytes()))
    }

    fn hash(&self, client: [u8; CLIENT], head: &[u8], ip: IpAddr) -> [u8; 8] {
        let [low, high] = [0, 8]
            .map(|at| u64::from_le_bytes(self.0[at..].first_chunk().copied().unwrap_or_default()));
        let mut input = [0; CLIENT + 8 + 16];
        input[..CLIENT].copy_from_slice(&client);
        input[CLIENT..CLIENT + 8].copy_from_slice(head);
        let end = match ip.to_canonical() {
            IpAddr::V4(ip) => {
                input[CLIENT + 8..CLIENT + 12].copy_from_slice(&ip.octets());
                CLIENT + 12
            }
            IpAddr::V6(ip) => {
                input[CLIENT + 8..].copy_from_slice(&ip.octets());
                input.len()
            }
        };
        let mut hasher = SipHasher::new_with_keys(low, high);
        hasher.write(&input[..end]);
        hasher.finish().to_le_bytes()
    }
}

/// Our part for `client` at `ip`; `now` in seconds of Unix time, which go round in 2106 (RFC 1982).
#[must_use]
pub fn make(secret: &Secret, client: [u8; CLIENT], ip: IpAddr, now: u32) -> [u8; SERVER] {
    let mut server = [0; SERVER];
    server[0] = VERSION;
    server[4..8].copy_from_slice(&now.to_be_bytes());
    let hash = secret.hash(client, &server[..8], ip);
    server[8..].copy_from_slice(&hash);
    server
}

/// Whether one of `secrets` made `server` for `client` at `ip`, not too long before `now`.
#[must_use]
pub fn is_ours(
    secrets: &[Secret],
    client: [u8; CLIENT],
    server: &[u8],
    ip: IpAddr,
    now: u32,
) -> bool {
    let Some((head, hash)) = server.split_at_checked(8).filter(|(_, hash)| hash.len() == 8) else {
        return false;
    };
    let made = head.last_chunk().copied().map_or(0, u32::from_be_bytes);
    let age = now.wrapping_sub(made);
    if head[0] != VERSION || (age > GOOD_FOR && made.wrapping_sub(now) > AHEAD) {
        return false;
    }
    let same = |secret: &Secret| {
        // No early end: how many bytes are right is nobody's business.
        let right = secret.hash(client, head, ip);
        right.iter().zip(hash).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    };
    secrets.iter().any(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_cookies_are_those_of_the_standards_examples() {
        // RFC 9018, appendix A: first contact, and a renewal; by IPv6 with an old and a new secret.
        let ours = Secret::parse("e5e973e5a6b2a43f48e7dc849e37bfcf").unwrap();
        for (case, secret, client, ip, at, want) in [
            (
                "A.1",
                ours,
                "2464c4abcf10c957",
                "198.51.100.100",
                1_559_731_985,
                "010000005cf79f111f8130c3eee29480",
            ),
            (
                "A.2",
                ours,
                "2464c4abcf10c957",
                "198.51.100.100",
                1_559_734_385,
                "010000005cf7a871d4a564a1442aca77",
            ),
        ] {
            let client: [u8; 8] = hex(client).try_into().unwrap();
            let ip = ip.parse().unwrap();
            let made = make(&secret, client, ip, at);
            assert_eq!(made.to_vec(), hex(want), "{case}");
            assert!(is_ours(&[secret], client, &made, ip, at + 60), "{case}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_maker_its_client_and_an_hour() {
        let (ours, former, other) = (Secret::random(), Secret::random(), Secret::random());
        let (client, ip) = ([7; 8], "192.0.2.1".parse::<IpAddr>().unwrap());
        let now = 1_700_000_000;
        let made = |secret: &Secret, at: u32| make(secret, client, ip, at).to_vec();
        let mut flipped = made(&ours, now);
        flipped[15] ^= 1;
        let mut version = made(&ours, now);
        version[0] = 2;
        for (case, cookie, at, want) in [
            ("fresh", made(&ours, now), ip, true),
            ("by the secret before", made(&former, now), ip, true),
            ("by another secret", made(&other, now), ip, false),
            ("of another client", made(&ours, now), "192.0.2.2".parse().unwrap(), false),
            ("an hour old", made(&ours, now - 3600), ip, true),
            ("older", made(&ours, now - 3601), ip, false),
            ("from a clock ahead", made(&ours, now + 300), ip, true),
            ("from the future", made(&ours, now + 301), ip, false),
            ("one bit off", flipped, ip, false),
            ("another version", version, ip, false),
            ("too short", made(&ours, now)[..8].to_vec(), ip, false),
        ] {
            assert_eq!(is_ours(&[ours, former], client, &cookie, at, now), want, "{case}");
        }
    }

    #[test]
    fn only_the_lengths_of_the_standard_are_cookies() {
        for length in 0..60 {
            let read = Cookie::read(&vec![1; length]);
            let good = length == 8 || (16..=40).contains(&length);
            assert_eq!(read != Cookie::Malformed, good, "{length}");
        }
    }

    #[test]
    fn a_secret_is_32_digits_and_does_not_show() {
        for bad in
            ["", "12", "g5e973e5a6b2a43f48e7dc849e37bfcf", "+5e973e5a6b2a43f48e7dc849e37bfcf"]
        {
            assert!(Secret::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{:?}", Secret::random()), "Secret");
        assert_ne!(Secret::random(), Secret::random());
    }
}

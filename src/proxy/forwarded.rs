//! Who asked, told to the endpoint: `X-Forwarded-For`, `-Proto`, `-Port` and `-Host`.
//!
//! What a trusted proxy says is kept and added to; what anybody else says about themselves is
//! replaced. The meaning is that of nginx's `$proxy_add_x_forwarded_for` and its companions.

use std::net::IpAddr;

use ipnet::IpNet;

/// Header names that only trusted proxies may set; from others they are removed or replaced.
pub const FOR: &str = "x-forwarded-for";
/// Scheme that the first client used.
pub const PROTO: &str = "x-forwarded-proto";
/// Port that the first client connected to.
pub const PORT: &str = "x-forwarded-port";
/// Host that the first client asked for.
pub const HOST: &str = "x-forwarded-host";
/// The same facts in the form of RFC 7239; from strangers it is removed.
pub const FORWARDED: &str = "forwarded";

/// Whether `peer` is one of `networks`; an IPv4 address mapped into IPv6 counts as IPv4.
#[must_use]
pub fn within(peer: IpAddr, networks: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// The value of `X-Forwarded-For` to send on: the chain that a trusted `peer` told, and the peer.
#[must_use]
pub fn chain(told: impl Iterator<Item = impl AsRef<str>>, peer: IpAddr, trusted: bool) -> String {
    use std::fmt::Write as _;
    let mut chain = String::with_capacity(40);
    if trusted {
        for part in told {
            chain.push_str(part.as_ref().trim());
            chain.push_str(", ");
        }
    }
    // Writing to a String cannot fail.
    let _ = write!(chain, "{}", peer.to_canonical());
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trusted_proxy_is_added_to_and_a_stranger_replaced() {
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        for (case, told, trusted, want) in [
            ("stranger who lies", &["1.2.3.4"][..], false, "10.0.0.9"),
            ("trusted", &["1.2.3.4"][..], true, "1.2.3.4, 10.0.0.9"),
            (
                "trusted, two lines",
                &["1.2.3.4", " 5.6.7.8"][..],
                true,
                "1.2.3.4, 5.6.7.8, 10.0.0.9",
            ),
            ("trusted, nothing told", &[][..], true, "10.0.0.9"),
        ] {
            assert_eq!(chain(told.iter(), peer, trusted), want, "{case}");
        }
    }

    #[test]
    fn networks_take_mapped_addresses_for_what_they_are() {
        let networks = ["10.0.0.0/8".parse().unwrap()];
        assert!(within("::ffff:10.1.2.3".parse().unwrap(), &networks));
        assert!(!within("11.1.2.3".parse().unwrap(), &networks));
    }
}

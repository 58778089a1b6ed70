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

/// Who asks: `peer`, or what trusted proxies tell of it: the rightmost address of the chain that
/// is none of theirs. What cannot be read ends the chain, and who told it counts.
#[must_use]
pub fn client<'a>(
    peer: IpAddr,
    told: impl DoubleEndedIterator<Item = &'a str>,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let mut known = peer;
    for part in told.rev().flat_map(|line| line.rsplit(',')) {
        if !within(known, trusted_proxies) {
            break;
        }
        let Some(address) = address_of(part.trim()) else { break };
        known = address;
    }
    known.to_canonical()
}

/// An address as proxies write it: bare, or with a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.parse().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip())).or_else(bracketed)
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
    fn the_client_is_the_last_one_whom_no_trusted_proxy_told_about_itself() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (case, peer, told, want) in [
            ("a stranger who lies", "192.0.2.1", &["1.2.3.4"][..], "192.0.2.1"),
            ("told by a proxy", "10.0.0.1", &["1.2.3.4"][..], "1.2.3.4"),
            ("who was lied to", "10.0.0.1", &["9.9.9.9, 1.2.3.4"][..], "1.2.3.4"),
            ("two proxies", "10.0.0.1", &["1.2.3.4, 10.0.0.2"][..], "1.2.3.4"),
            ("in two lines", "10.0.0.1", &["9.9.9.9, 1.2.3.4", "10.0.0.2"][..], "1.2.3.4"),
            ("proxies only", "10.0.0.1", &["10.0.0.3, 10.0.0.2"][..], "10.0.0.3"),
            ("nothing told", "10.0.0.1", &[][..], "10.0.0.1"),
            ("garbage", "10.0.0.1", &["1.2.3.4, unknown"][..], "10.0.0.1"),
            ("garbage further away", "10.0.0.1", &["x, 1.2.3.4"][..], "1.2.3.4"),
            ("with a port", "10.0.0.1", &["1.2.3.4:5678"][..], "1.2.3.4"),
            ("of IPv6", "fd00::1", &["2001:db8::1"][..], "2001:db8::1"),
            ("of IPv6 with a port", "fd00::1", &["[2001:db8::1]:80"][..], "2001:db8::1"),
            ("in brackets", "fd00::1", &["[2001:db8::1]"][..], "2001:db8::1"),
            ("a mapped proxy", "::ffff:10.0.0.1", &["::ffff:1.2.3.4"][..], "1.2.3.4"),
        ] {
            let peer: IpAddr = peer.parse().unwrap();
            let want: IpAddr = want.parse().unwrap();
            assert_eq!(client(peer, told.iter().copied(), &trusted), want, "{case}");
        }
    }

    #[test]
    fn networks_take_mapped_addresses_for_what_they_are() {
        let networks = ["10.0.0.0/8".parse().unwrap()];
        assert!(within("::ffff:10.1.2.3".parse().unwrap(), &networks));
        assert!(!within("11.1.2.3".parse().unwrap(), &networks));
    }
}

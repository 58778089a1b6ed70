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
/// Whether the client's certificate was verified: `SUCCESS`, or `NONE` when it showed none (nginx's
/// `$ssl_client_verify`). It and the three below are removed from what strangers send.
pub const CLIENT_VERIFY: &str = "x-ssl-client-verify";
/// Its subject (nginx's `$ssl_client_s_dn`).
pub const CLIENT_SUBJECT: &str = "x-ssl-client-s-dn";
/// The common name in it.
pub const CLIENT_NAME: &str = "x-ssl-client-cn";
/// SHA-256 of it, in hexadecimal digits.
pub const CLIENT_SHA256: &str = "x-ssl-client-sha256";

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

/// The client's address: the peer, or, as far as trusted proxies tell, who stands before them. That
/// is the last address of `lines` (the values of `X-Forwarded-For`) that is not trusted itself, or the
/// first one when all are: nginx's `real_ip_recursive`. What is no address ends the chain. Allocates
/// nothing.
#[must_use]
pub fn client<'a>(
    peer: IpAddr,
    lines: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = peer.to_canonical();
    let parts = lines.rev().flat_map(|line| line.rsplit([',', ' ', '\t']));
    for part in parts.filter(|part| !part.is_empty()) {
        if !within(client, trusted) {
            break;
        }
        let Some(told) = address(part) else { break };
        client = told;
    }
    client
}

/// Whether the first client came by https, as `X-Forwarded-Proto` says; none when it says nothing.
#[must_use]
pub fn secure(headers: &http::HeaderMap) -> Option<bool> {
    let told = headers.get(PROTO)?.to_str().ok()?;
    let first = told.split(',').next().unwrap_or_default();
    Some(first.trim().eq_ignore_ascii_case("https"))
}

/// An address with or without a port, in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
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
    fn the_client_is_the_last_one_that_no_trusted_proxy_vouches_for() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (case, peer, lines, want) in [
            ("nothing told", "10.0.0.1", &[][..], "10.0.0.1"),
            ("a stranger's word", "192.0.2.1", &["1.2.3.4"][..], "192.0.2.1"),
            ("one proxy", "10.0.0.1", &["1.2.3.4"][..], "1.2.3.4"),
            ("a lie before the truth", "10.0.0.1", &["6.6.6.6, 1.2.3.4"][..], "1.2.3.4"),
            ("two proxies", "10.0.0.1", &["1.2.3.4, 10.0.0.2"][..], "1.2.3.4"),
            ("two lines", "10.0.0.1", &["6.6.6.6", "1.2.3.4,10.0.0.2"][..], "1.2.3.4"),
            ("all trusted", "10.0.0.1", &["10.0.0.3, 10.0.0.2"][..], "10.0.0.3"),
            ("no address", "10.0.0.1", &["1.2.3.4, unknown, 10.0.0.2"][..], "10.0.0.2"),
            ("with a port", "10.0.0.1", &["1.2.3.4:5678"][..], "1.2.3.4"),
            ("IPv6", "::ffff:10.0.0.1", &["2001:db8::1, [fd00::1]:80"][..], "2001:db8::1"),
            ("mapped", "10.0.0.1", &["::ffff:1.2.3.4"][..], "1.2.3.4"),
        ] {
            let got = client(peer.parse().unwrap(), lines.iter().copied(), &trusted);
            assert_eq!(got, want.parse::<IpAddr>().unwrap(), "{case}");
        }
    }

    #[test]
    fn the_first_hop_says_whether_the_client_came_by_https() {
        for (told, want) in [
            (None, None),
            (Some("https"), Some(true)),
            (Some("HTTPS, http"), Some(true)),
            (Some("http"), Some(false)),
            (Some("http, https"), Some(false)),
            (Some(""), Some(false)),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.extend(
                told.map(|told| (http::HeaderName::from_static(PROTO), told.parse().unwrap())),
            );
            assert_eq!(secure(&headers), want, "{told:?}");
        }
    }

    #[test]
    fn networks_take_mapped_addresses_for_what_they_are() {
        let networks = ["10.0.0.0/8".parse().unwrap()];
        assert!(within("::ffff:10.1.2.3".parse().unwrap(), &networks));
        assert!(!within("11.1.2.3".parse().unwrap(), &networks));
    }
}

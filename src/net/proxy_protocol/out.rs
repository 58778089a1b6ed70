//! Headers that we send: who connected to us, told to whom we connect to.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::Deserialize;

use super::{v1, v2};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary, with room for more facts.
    V2,
}

/// A type, and a length of two bytes.
const FACT: usize = 3;
/// A checksum over the header that it came in: of another header it is none.
const CRC32C: u8 = 3;
/// Says nothing.
const NOOP: u8 = 4;

impl Version {
    /// Lower-case word, as it is configured.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The header of a connection that `client` made to `server`. `facts` are those of a header that
    /// came in; version 2 passes them on, known or not, but for a checksum and for padding.
    ///
    /// Where one address is IPv4 and the other IPv6, IPv4 is written as IPv6 (`::ffff:192.0.2.1`), for
    /// a header has one family.
    #[must_use]
    pub fn header(self, client: SocketAddr, server: SocketAddr, facts: &[u8]) -> Vec<u8> {
        let pair = match (client.ip().to_canonical(), server.ip().to_canonical()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => Ok((client, server)),
            (client, server) => Err((as_v6(client), as_v6(server))),
        };
        let ports = (client.port(), server.port());
        match self {
            Self::V1 => {
                let mut line = v1::SIGNATURE.to_vec();
                // A vector takes all that is written.
                let _ = match pair {
                    Ok((client, server)) => write!(line, "TCP4 {client} {server}"),
                    Err((client, server)) => write!(line, "TCP6 {client} {server}"),
                };
                let _ = write!(line, " {} {}\r\n", ports.0, ports.1);
                line
            }
            Self::V2 => {
                let mut rest = Vec::new();
                let family = match pair {
                    Ok((client, server)) => {
                        rest.extend(client.octets());
                        rest.extend(server.octets());
                        v2::TCP4
                    }
                    Err((client, server)) => {
                        rest.extend(client.octets());
                        rest.extend(server.octets());
                        v2::TCP6
                    }
                };
                rest.extend(ports.0.to_be_bytes());
                rest.extend(ports.1.to_be_bytes());
                for (kind, fact) in each(facts) {
                    if kind != CRC32C && kind != NOOP {
                        rest.extend(fact);
                    }
                }
                v2_header(v2::PROXY, family, &rest)
            }
        }
    }

    /// The header of a connection that we make for ourselves, to see whether anybody is there.
    #[must_use]
    pub fn own(self) -> Vec<u8> {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            Self::V2 => v2_header(v2::LOCAL, v2::UNSPECIFIED, &[]),
        }
    }
}

fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = v2::SIGNATURE.to_vec();
    // Addresses, and facts of at most 16 KiB, as they came.
    let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
    header.extend([command, family]);
    header.extend(length.to_be_bytes());
    header.extend(&rest[..usize::from(length)]);
    header
}

/// The facts in `bytes`, each whole with its type in front of it.
fn each(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let &[kind, high, low, ..] = bytes else { return None };
        let length = FACT + usize::from(u16::from_be_bytes([high, low]));
        let (fact, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some((kind, fact))
    })
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

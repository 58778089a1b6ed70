//! Version 2: binary, with a length in front and room for more facts behind the addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ProxyError, Told};

/// What a header begins with: nothing that a line of text or TLS would.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes up to where the addresses begin.
pub(super) const HEAD: usize = 16;
/// Longest that may follow: many times what proxies send, with the client's certificate among it.
const REST_MAX: usize = 16 << 10;

/// The command of who speaks of a client, and of who speaks for itself.
pub(super) const PROXY: u8 = 0x21;
pub(super) const LOCAL: u8 = 0x20;
/// Families of addresses.
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;
pub(super) const UNSPECIFIED: u8 = 0;

const fn bad<T>(what: &'static str) -> Result<T, ProxyError> {
    Err(ProxyError::Malformed(what))
}

/// What stands between the signature and the addresses.
#[derive(Debug)]
pub(super) struct Head {
    /// The proxy speaks of a client, not for itself.
    proxied: bool,
    family: Family,
    /// Bytes that follow.
    pub(super) length: usize,
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
    /// Unspecified, or a unix socket: so many bytes of addresses that say nothing to us.
    Other(usize),
}

impl Head {
    /// Reads the four bytes behind the signature.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ProxyError> {
        let &[command, protocol, high, low] = bytes else { return bad("it is cut short") };
        let proxied = match command {
            LOCAL => false,
            PROXY => true,
            _ => return bad("an unknown version or command"),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > REST_MAX {
            return bad("it is longer than 16 KiB");
        }
        let family = match protocol {
            TCP4 => Family::V4,
            TCP6 => Family::V6,
            // For what the proxy says of itself, the family counts for nothing.
            _ if !proxied => Family::Other(0),
            UNSPECIFIED => Family::Other(0),
            0x31 => Family::Other(216),
            _ => return bad("neither TCP nor a stream of a unix socket"),
        };
        Ok(Self { proxied, family, length })
    }

    /// Reads what follows: the addresses, and behind them facts that must at least be whole.
    pub(super) fn told(&self, rest: &[u8]) -> Result<Option<Told>, ProxyError> {
        const SHORT: ProxyError = ProxyError::Malformed("its addresses are cut short");
        if !self.proxied {
            return Ok(None);
        }
        let (told, facts) = match self.family {
            Family::V4 => {
                let (at, facts) = rest.split_first_chunk::<12>().ok_or(SHORT)?;
                let address = |from: usize| {
                    IpAddr::V4(Ipv4Addr::new(at[from], at[from + 1], at[from + 2], at[from + 3]))
                };
                (Some(pair(address(0), address(4), &at[8..])), facts)
            }
            Family::V6 => {
                let (at, facts) = rest.split_first_chunk::<36>().ok_or(SHORT)?;
                let address = |from: usize| {
                    let mut bytes = [0; 16];
                    bytes.copy_from_slice(&at[from..from + 16]);
                    IpAddr::V6(Ipv6Addr::from(bytes))
                };
                (Some(pair(address(0), address(16), &at[32..])), facts)
            }
            Family::Other(addresses) => (None, rest.get(addresses..).ok_or(SHORT)?),
        };
        whole(facts)?;
        Ok(told.map(|(client, server)| Told { client, server, facts: facts.to_vec() }))
    }
}

/// Ports are the client's, then the server's, in network order.
fn pair(client: IpAddr, server: IpAddr, ports: &[u8]) -> (SocketAddr, SocketAddr) {
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    (SocketAddr::new(client, port(0)), SocketAddr::new(server, port(2)))
}

/// Facts are a type, a length of two bytes, and so many bytes, to the very end.
fn whole(mut facts: &[u8]) -> Result<(), ProxyError> {
    while !facts.is_empty() {
        let Some((&[_, high, low], rest)) = facts.split_first_chunk::<3>() else {
            return bad("a fact behind the addresses is cut short");
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(rest) = rest.get(length..) else {
            return bad("a fact behind the addresses is longer than the header");
        };
        facts = rest;
    }
    Ok(())
}

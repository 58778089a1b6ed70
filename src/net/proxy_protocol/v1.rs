//! Version 1: one line of text.

use std::net::{IpAddr, SocketAddr};

use super::{ProxyError, Told};

/// What a line begins with.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// The longest line, its end included.
pub(super) const MOST: usize = 107;

const BAD: ProxyError = ProxyError::Malformed("not a line of version 1");

/// Reads a whole line with its end. Fields are one space apart, numbers and addresses in their only
/// usual form: what two readers could take for two things is refused.
pub(super) fn told(line: &[u8]) -> Result<Option<Told>, ProxyError> {
    let line = line.strip_suffix(b"\r\n").and_then(|line| line.strip_prefix(SIGNATURE));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(BAD)?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let fields: Vec<&str> = line.split(' ').collect();
    let [family, client, server, client_port, server_port] = fields[..] else { return Err(BAD) };
    let address = |text: &str| match family {
        "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| BAD),
        "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| BAD),
        _ => Err(BAD),
    };
    Ok(Some(Told {
        client: SocketAddr::new(address(client)?, port(client_port)?),
        server: SocketAddr::new(address(server)?, port(server_port)?),
        facts: Vec::new(),
    }))
}

/// 0 to 65535, without a sign or zeros in front.
fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain).ok_or(BAD)
}

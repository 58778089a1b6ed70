//! The PROXY protocol, versions 1 and 2, as HAProxy defines it: who connected, told by the proxy in
//! front of us before the first byte of the connection itself.
//!
//! `v1` and `v2` are pure; [`arrive`] reads exactly what belongs to the header from a socket and
//! leaves every byte behind it there.

mod out;
mod v1;
mod v2;

use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

pub use out::Version;

/// Bytes that every header has, whatever its version: the shortest one is `PROXY UNKNOWN\r\n`.
const FIRST: usize = 15;

/// Who connected to the proxy, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The client.
    pub client: SocketAddr,
    /// What it connected to.
    pub server: SocketAddr,
    /// What version 2 had behind the addresses, as it came: types, lengths and values that are whole,
    /// of at most 16 KiB.
    pub facts: Vec<u8>,
}

/// Why a connection has no header that counts.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// It begins with something else.
    #[error("there is no PROXY header")]
    None,
    /// The header cannot be read in one way only.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    /// The connection ended or broke within it.
    #[error("the connection ended within its PROXY header: {0}")]
    Ended(#[from] std::io::Error),
}

impl ProxyError {
    /// One word, as metrics and logs write it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Malformed(_) => "malformed",
            Self::Ended(_) => "ended",
        }
    }
}

/// Reads the header at the front of `stream`; `None` when the proxy speaks for itself (`LOCAL`), or
/// of a client without an address that means something here (`UNKNOWN`, a unix socket).
///
/// Waits as long as the proxy takes: whoever calls sets the limit. May be dropped, but then the
/// connection is of no use any more.
///
/// # Errors
/// There is no header that counts; the connection is to be closed without an answer, for what
/// follows could be anything.
pub async fn arrive(stream: &mut TcpStream) -> Result<Option<Told>, ProxyError> {
    let mut head = [0; v1::MOST];
    let first = &mut head[..FIRST];
    stream.read_exact(first).await?;
    if first.starts_with(v2::SIGNATURE) {
        stream.read_exact(&mut head[FIRST..v2::HEAD]).await?;
        let head = v2::Head::read(&head[FIRST - 3..v2::HEAD])?;
        let mut rest = vec![0; head.length];
        stream.read_exact(&mut rest).await?;
        return head.told(&rest);
    }
    if !first.starts_with(v1::SIGNATURE) {
        return Err(ProxyError::None);
    }
    let mut length = FIRST;
    while head[length - 1] != b'\n' {
        let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) else {
            return Err(ProxyError::Malformed("a line of more than 107 bytes"));
        };
        // What is looked at stays: only what is known to belong to the line is taken.
        let seen = stream.peek(rest).await?;
        let line = rest[..seen].iter().position(|byte| *byte == b'\n').map_or(seen, |at| at + 1);
        if line == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        stream.read_exact(&mut rest[..line]).await?;
        length += line;
    }
    v1::told(&head[..length])
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! The hello of a client, read from its connection.

use std::io;

use bytes::BufMut as _;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::net::tls::hello::{HelloError, HelloReader};

/// Room for what comes first: hellos of today fit into it.
const FIRST: usize = 2048;

/// A hello, and all that came with it.
pub(super) struct Arrived {
    /// What was read, byte by byte as it came: the hello, and perhaps something behind it.
    pub(super) opening: Vec<u8>,
    /// What it says.
    pub(super) reader: HelloReader,
}

/// Why there is none.
#[derive(Debug, Error)]
pub(super) enum Vain {
    #[error("it did not come in time")]
    Timeout,
    #[error("the client left: {0}")]
    Closed(#[from] io::Error),
    #[error("it is HTTP in the clear")]
    Plain,
    #[error(transparent)]
    Hello(#[from] HelloError),
}

impl Vain {
    /// One word, as metrics and logs write it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed(_) => "closed",
            Self::Plain => "plain-http",
            Self::Hello(error) => error.word(),
        }
    }
}

/// Reads until the hello is complete, `max` bytes at most. Holds no memory before the first byte.
///
/// # Errors
/// It never will be.
pub(super) async fn hello(stream: &TcpStream, max: usize) -> Result<Arrived, Vain> {
    let mut opening = Vec::new();
    let mut reader = HelloReader::new(max);
    loop {
        stream.readable().await?;
        let before = opening.len();
        let room = max - before;
        if opening.capacity() - before < FIRST.min(room) {
            // It doubles, so that what was copied is little in all.
            opening.reserve(before.max(FIRST).min(room));
        }
        let room = room.min(opening.capacity() - before);
        match stream.try_read_buf(&mut (&mut opening).limit(room)) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        // No record of TLS begins with a letter (RFC 8446 §5.1), every method of HTTP does.
        if before == 0 && opening.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(Vain::Plain);
        }
        if reader.push(&opening[before..])? {
            return Ok(Arrived { opening, reader });
        }
        if opening.len() >= max {
            return Err(HelloError::TooLong.into());
        }
    }
}

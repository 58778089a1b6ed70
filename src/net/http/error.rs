//! What can go wrong on the way to an answer, in the words of whoever configured the address.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::net::tls::TlsError;

/// Why there is no (whole) answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The host name has no address.
    #[error("{host} cannot be resolved: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody listens, or no way leads there.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// `host:port`.
        to: String,
        /// What the system said.
        source: io::Error,
    },
    /// The handshake failed: an unknown authority, another name, no common protocol.
    #[error("no TLS with {to}: {source}")]
    Handshake {
        /// `host:port`.
        to: String,
        /// What the library said.
        source: io::Error,
    },
    /// Our own files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The request cannot be written: a character that no URL or header has.
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    /// The connection broke before the whole answer was there.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Not answered in time.
    #[error("no answer within {}", crate::units::Period(*.0))]
    Deadline(Duration),
    /// Headers came, then no byte of the body for so long.
    #[error("the answer stopped: no byte for {}", crate::units::Period(*.0))]
    Silent(Duration),
    /// More bytes than allowed; reading stopped there.
    #[error("the answer has more than {} bytes", .0)]
    TooLarge(u64),
}

impl HttpError {
    pub(super) fn broken(error: &hyper::Error) -> Self {
        let mut told = error.to_string();
        let mut inner = std::error::Error::source(error);
        while let Some(source) = inner {
            told.push_str(": ");
            told.push_str(&source.to_string());
            inner = source.source();
        }
        Self::Broken(told)
    }

    /// Whether another address of the same server is worth a try: it says nothing of the request.
    #[must_use]
    pub const fn unreachable(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. }
                | Self::Connect { .. }
                | Self::Handshake { .. }
                | Self::Deadline(_)
        )
    }
}

//! What breaks a client's connection in the middle of a request, besides the network.

use std::io;

/// Why a connection is not gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The chunked body breaks a rule.
    #[error("the chunked body is malformed")]
    Chunks,
    /// The body has trailers, where they are refused.
    #[error("trailers are not carried")]
    Trailers,
    /// The body comes more slowly than `min_rates` allow.
    #[error("the body came too slowly")]
    SlowBody,
    /// The answer is taken more slowly than `min_rates` allow.
    #[error("the answer was taken too slowly")]
    SlowReader,
}

impl Broken {
    /// The word for metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Chunks => "chunks",
            Self::Trailers => "trailers",
            Self::SlowBody => "slow-body",
            Self::SlowReader => "slow-reader",
        }
    }

    /// The status by which the client is told, if it still can be.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Chunks | Self::Trailers => 400,
            Self::SlowBody => 408,
            Self::SlowReader => 0,
        }
    }

    /// What `error` says, if it is one of ours.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        let kind = match broken {
            Broken::Chunks | Broken::Trailers => io::ErrorKind::InvalidData,
            Broken::SlowBody | Broken::SlowReader => io::ErrorKind::TimedOut,
        };
        Self::new(kind, broken)
    }
}

//! Why the application cannot start.

use std::path::PathBuf;

use crate::catalog::store::StoreError;
use crate::net::listen::ListenError;
use crate::net::tls::TlsError;
use crate::proxy::log::OpenError;
use crate::proxy::sticky::store::KeyError;

/// Why the application cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An access log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The directory of the state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key of sticky cookies cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A listener cannot speak TLS as it is to.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file that the configuration names cannot be read.
    #[error("cannot read {setting} {path}: {source}", path = path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The unix socket of the admin face cannot be made.
    #[error("cannot make the admin socket {path}: {source}; set [admin] socket to a path that \
             this user may write", path = path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// HAProxy's stats socket cannot be made.
    #[error("cannot make the stats socket {path}: {source}; set [haproxy] socket to a path whose \
             directory this user may write", path = path.display())]
    StatsSocket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The process that this one was to replace did not hand over.
    #[error("the process before this one did not hand over: {0}")]
    Predecessor(String),
    /// A thread or a metric could not be made.
    #[error("cannot start: {0}")]
    System(String),
}

pub(super) fn system(error: impl std::fmt::Display) -> StartError {
    StartError::System(error.to_string())
}

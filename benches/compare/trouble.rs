//! What can go wrong in a measurement, told with the next step.

use std::io;
use std::path::PathBuf;

/// Why a peer, a load or the whole run gave no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// A program that Debian or a wheel brings isn't there.
    #[error("{program} is not installed; install it with `{install}`")]
    Missing { program: &'static str, install: &'static str },
    /// A server ended before it answered, or never answered.
    #[error("{peer} {what}; the end of what it printed:\n{log}")]
    NotReady { peer: &'static str, what: String, ended: bool, log: String },
    /// The system refused something.
    #[error("cannot {doing}: {source}")]
    System { doing: String, source: io::Error },
    /// A load generator failed, or printed what can't be read.
    #[error("{generator} gave no result ({why}); it printed:\n{output}")]
    Load { generator: &'static str, why: String, output: String },
    /// The bounds file can't be used.
    #[error("cannot use {}: {why}", path.display())]
    Bounds { path: PathBuf, why: String },
    /// A choice on the command line that isn't there.
    #[error("there is no {kind} {value:?}; there are: {known}")]
    Unknown { kind: &'static str, value: String, known: String },
    /// Nothing to compare with.
    #[error(
        "none of the servers to compare with is installed; install them with `scripts/install-peers`"
    )]
    NoPeers,
}

/// Adds what was being done to an error of the system.
pub(crate) trait Doing<T> {
    /// `doing` completes the sentence "cannot …".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Trouble>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Trouble> {
        self.map_err(|source| Trouble::System { doing: doing(), source })
    }
}

//! What users write about the admin face.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// `[admin]`. Changes need the token or the unix socket; off loopback, reading needs it too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address to listen on; none: only the unix socket.
    pub listen: Option<SocketAddr>,
    /// File that holds the token, for `Authorization: Bearer …`; one line.
    pub token_file: Option<PathBuf>,
    /// A unix socket of mode 0600, over which everything is allowed. Default: `admin.sock` in the
    /// node's `data_dir`, if there is one.
    pub socket: Option<PathBuf>,
}

impl AdminConfig {
    /// What makes it unsafe, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let listen = self.listen?;
        (!listen.ip().is_loopback() && self.token_file.is_none()).then(|| {
            format!("{listen} is reachable from outside: set `token_file`, or listen on 127.0.0.1")
        })
    }
}

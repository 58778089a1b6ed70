//! The stats socket at its path.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::app::StartError;
use crate::config::Config;
use crate::net::unix;

/// A socket that is bound and not at its path yet: a process that is to be replaced keeps it until then.
#[derive(Debug)]
pub(in crate::app) struct StatsPath {
    listener: UnixListener,
    bound: PathBuf,
    path: PathBuf,
}

impl StatsPath {
    /// Binds the socket that `config` asks for, if it asks for one. Unless this process `replaces`
    /// another one, nobody may answer at its path.
    pub(in crate::app) fn bind(
        config: &Config,
        replaces: bool,
    ) -> Result<Option<Self>, StartError> {
        let Some(haproxy) = &config.haproxy else { return Ok(None) };
        let Some(path) = haproxy.socket.as_ref().map(|path| config.base_dir.join(path)) else {
            return Ok(None);
        };
        let refused = |source| StartError::StatsSocket { path: path.clone(), source };
        if !replaces {
            unix::is_free(&path).map_err(refused)?;
        }
        let mode = haproxy.mode().unwrap_or(0o600);
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}", std::process::id()));
        let bound = path.with_file_name(name);
        let listener = unix::bind(&bound, mode).map_err(refused)?;
        Ok(Some(Self { listener, bound, path }))
    }

    /// Puts it at its path, where it takes the place of what was there.
    pub(super) fn place(self) -> io::Result<UnixListener> {
        std::fs::rename(&self.bound, &self.path)?;
        tracing::info!(path = %self.path.display(), "the stats socket is listening");
        Ok(self.listener)
    }
}

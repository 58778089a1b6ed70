//! The doors of the admin face: a TCP address, a unix socket, the token.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use tokio::task::JoinHandle;

use super::StartError;
use crate::api::Admin;
use crate::api::operate::Who;
use crate::config::Config;
use crate::lifecycle::{Lifecycle, Phase, Phases};
use crate::net::adopt::Adopted;

/// The token of the admin face, if a file holds one.
pub(super) fn read_token(config: &Config) -> Result<Option<Arc<str>>, StartError> {
    let Some(file) = config.admin.as_ref().and_then(|admin| admin.token_file.as_ref()) else {
        return Ok(None);
    };
    let path = config.base_dir.join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Err(StartError::File {
            setting: "[admin] token_file",
            path,
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty"),
        }),
        Ok(text) => Ok(Some(text.trim().into())),
        Err(source) => Err(StartError::File { setting: "[admin] token_file", path, source }),
    }
}

/// The TCP listener of the admin face, if it has one.
pub(super) fn bind_tcp(
    config: &Config,
    adopted: &mut Adopted,
) -> Result<Option<std::net::TcpListener>, StartError> {
    let listen = config.admin.as_ref().and_then(|admin| admin.listen);
    let bind = |listen| crate::net::listen::tcp(listen, "[admin] listen", adopted);
    Ok(listen.map(bind).transpose()?)
}

/// The unix socket, made anew; one that another process still answers on is left alone.
pub(super) fn bind_unix(
    config: &Config,
    data_dir: Option<&PathBuf>,
) -> Result<Option<std::os::unix::net::UnixListener>, StartError> {
    let Some(path) = socket_path(config, data_dir) else { return Ok(None) };
    let refused = |source| StartError::Socket { path: path.clone(), source };
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        let taken = "another process answers on it; stop that one first";
        return Err(refused(std::io::Error::new(std::io::ErrorKind::AddrInUse, taken)));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    // The socket is made with the permissions that the mask leaves, so that nobody else can open
    // it in between.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = std::os::unix::net::UnixListener::bind(&path);
    rustix::process::umask(before);
    let listener = bound.map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(Some(listener))
}

/// Where the admin face's unix socket lies, if it has one.
#[must_use]
pub fn socket_path(config: &Config, data_dir: Option<&PathBuf>) -> Option<PathBuf> {
    let told = config.admin.as_ref().and_then(|admin| admin.socket.as_ref());
    told.map(|path| config.base_dir.join(path))
        .or_else(|| data_dir.map(|dir| dir.join("admin.sock")))
}

/// `router`, told with each connection who is at its other end.
fn told_who(router: axum::Router) -> IntoMakeServiceWithConnectInfo<axum::Router, Who> {
    router.into_make_service_with_connect_info::<Who>()
}

/// Serves `admin` by both doors until the process stops.
pub(super) fn serve(
    admin: Admin,
    tcp: Option<std::net::TcpListener>,
    socket: Option<std::os::unix::net::UnixListener>,
    lifecycle: &Lifecycle,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    let stopped = |mut phases: Phases| async move { phases.reached(Phase::Stopped).await };
    if let Some(listener) = tcp {
        let served = listener.local_addr().and_then(|address| {
            tracing::info!(%address, "the admin face is listening");
            let router = admin.clone().over_tcp(address);
            Ok((tokio::net::TcpListener::from_std(listener)?, router))
        });
        match served {
            Ok((listener, router)) => {
                let ended = stopped(lifecycle.phases());
                tasks.push(tokio::spawn(async move {
                    let serve = axum::serve(listener, told_who(router));
                    tokio::select! { _ = serve => {}, () = ended => {} }
                }));
            }
            Err(error) => tracing::error!(%error, "the admin face is not served"),
        }
    }
    if let Some(listener) = socket {
        match tokio::net::UnixListener::from_std(listener) {
            Ok(listener) => {
                let (router, ended) = (admin.over_socket(), stopped(lifecycle.phases()));
                tasks.push(tokio::spawn(async move {
                    let serve = axum::serve(listener, told_who(router));
                    tokio::select! { _ = serve => {}, () = ended => {} }
                }));
            }
            Err(error) => tracing::error!(%error, "the admin socket is not served"),
        }
    }
    tasks
}

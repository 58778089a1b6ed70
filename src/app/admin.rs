//! The doors of the admin face: a TCP address, a unix socket, the token.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::StartError;
use super::error::system;
use crate::api::Admin;
use crate::api::operate::Who;
use crate::config::Config;
use crate::lifecycle::{Lifecycle, Phase, Phases};
use crate::net::adopt::Adopted;
use crate::net::handover::Label;
use crate::net::unix;

/// The setting that asks for the TCP listener.
const LISTEN: &str = "[admin] listen";

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

/// What the TCP listener of the admin face is for.
pub(super) fn label(config: &Config) -> Label {
    let asked = config.admin.as_ref().and_then(|admin| admin.listen);
    Label { setting: LISTEN.to_owned(), asked }
}

/// The TCP listener of the admin face, if it has one.
pub(super) fn bind_tcp(
    config: &Config,
    adopted: &mut Adopted,
) -> Result<Option<TcpListener>, StartError> {
    let listen = config.admin.as_ref().and_then(|admin| admin.listen);
    let bind = |listen| crate::net::listen::tcp(listen, LISTEN, adopted);
    Ok(listen.map(bind).transpose()?)
}

/// The unix socket, made anew; one that another process still answers on is left alone.
pub(super) fn bind_unix(
    config: &Config,
    data_dir: Option<&PathBuf>,
    adopted: &mut Adopted,
) -> Result<Option<UnixListener>, StartError> {
    let Some(path) = socket_path(config, data_dir) else { return Ok(None) };
    if let Some(listener) = adopted.take_unix(&path) {
        return Ok(Some(listener));
    }
    let refused = |source| StartError::Socket { path: path.clone(), source };
    unix::is_free(&path).map_err(refused)?;
    let listener = unix::bind(&path, 0o600).map_err(refused)?;
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

/// Our own hold on both doors: for who takes over from us, and to close them.
#[derive(Debug)]
pub(super) struct Doors {
    /// What the TCP listener is for.
    label: Label,
    tcp: Option<TcpListener>,
    socket: Option<UnixListener>,
    closed: watch::Sender<bool>,
}

impl Doors {
    pub(super) fn hold(
        config: &Config,
        tcp: Option<&TcpListener>,
        socket: Option<&UnixListener>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            label: label(config),
            tcp: tcp.map(TcpListener::try_clone).transpose().map_err(system)?,
            socket: socket.map(UnixListener::try_clone).transpose().map_err(system)?,
            closed: watch::Sender::new(false),
        })
    }

    /// Both, once more, with what they are for.
    pub(super) fn labelled(&self) -> std::io::Result<Vec<(Label, OwnedFd)>> {
        let mut all = Vec::new();
        if let Some(listener) = &self.tcp {
            all.push((self.label.clone(), listener.try_clone()?.into()));
        }
        if let Some(listener) = &self.socket {
            let label = Label { setting: "[admin] socket".to_owned(), asked: None };
            all.push((label, listener.try_clone()?.into()));
        }
        Ok(all)
    }

    /// No more connections; what is being answered is answered.
    pub(super) fn close(&mut self) {
        self.closed.send_replace(true);
        (self.tcp, self.socket) = (None, None);
    }

    /// Serves `admin` by both doors until they close, or the process stops.
    pub(super) fn serve(
        &self,
        admin: Admin,
        tcp: Option<TcpListener>,
        socket: Option<UnixListener>,
        lifecycle: &Lifecycle,
    ) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        let closed = || {
            let mut closed = self.closed.subscribe();
            // Nobody left to say it: the process ends.
            async move { drop(closed.wait_for(|closed| *closed).await) }
        };
        let stopped = |mut phases: Phases| async move { phases.reached(Phase::Stopped).await };
        if let Some(listener) = tcp {
            let served = listener.local_addr().and_then(|address| {
                tracing::info!(%address, "the admin face is listening");
                let router = admin.clone().over_tcp(address);
                Ok((tokio::net::TcpListener::from_std(listener)?, router))
            });
            match served {
                Ok((listener, router)) => {
                    let (closed, ended) = (closed(), stopped(lifecycle.phases()));
                    tasks.push(tokio::spawn(async move {
                        let serve = axum::serve(listener, told_who(router));
                        let serve = serve.with_graceful_shutdown(closed).into_future();
                        tokio::select! { _ = serve => {}, () = ended => {} }
                    }));
                }
                Err(error) => tracing::error!(%error, "the admin face is not served"),
            }
        }
        if let Some(listener) = socket {
            match tokio::net::UnixListener::from_std(listener) {
                Ok(listener) => {
                    let router = admin.over_socket();
                    let (closed, ended) = (closed(), stopped(lifecycle.phases()));
                    tasks.push(tokio::spawn(async move {
                        let serve = axum::serve(listener, told_who(router));
                        let serve = serve.with_graceful_shutdown(closed).into_future();
                        tokio::select! { _ = serve => {}, () = ended => {} }
                    }));
                }
                Err(error) => tracing::error!(%error, "the admin socket is not served"),
            }
        }
        tasks
    }
}

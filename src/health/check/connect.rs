//! Connections for probes.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::tracker::Observation;
use super::Target;
use crate::catalog::model::Address;
use crate::net::proxy_protocol::Version;

tokio::task_local! {
    /// With what header of the PROXY protocol the connections of a probe begin.
    static ANNOUNCES: Version;
}

/// What `ask` finds, with connections that begin with a header of the PROXY protocol, which says that
/// nobody else is behind them.
pub(super) async fn announcing<T>(version: Option<Version>, ask: impl Future<Output = T>) -> T {
    match version {
        Some(version) => ANNOUNCES.scope(version, ask).await,
        None => ask.await,
    }
}

/// A connection to `target`, which is reset when it is dropped.
///
/// A probe ends with a reset on purpose: a clean end would leave a socket in TIME_WAIT for a minute
/// on this side, 300,000 of them at 5,000 probes a second. Servers see what HAProxy's checks do.
pub(super) async fn connect(target: &Target) -> Result<TcpStream, Observation> {
    let (address, port) = target.socket()?;
    let connected = match address {
        Address::Ip(ip) => TcpStream::connect((*ip, port)).await,
        Address::Name(name) => TcpStream::connect((&**name, port)).await,
    };
    let mut stream = connected.map_err(|error| Observation::failed(&in_words(&error)))?;
    // It only spares work: a socket that refuses it is as good.
    let _ = stream.set_zero_linger();
    if let Ok(version) = ANNOUNCES.try_with(|version| *version) {
        let sent = stream.write_all(&version.own()).await;
        sent.map_err(|error| Observation::failed(&in_words(&error)))?;
    }
    Ok(stream)
}

/// What the system said, without the number.
pub(super) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "no route to the network".to_owned(),
        io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => error.to_string(),
    }
}

/// How a target is named in a `Host` header or an `:authority`: as configured, else by its address.
pub(super) fn authority(host: Option<&Arc<str>>, target: &Target) -> String {
    host.map_or_else(|| target.to_string(), ToString::to_string)
}

//! Who is at the other end of a connection: the peer, or whom a proxy before us tells of.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::forwarded;
use super::metrics::ListenerMetrics;
use super::table::ProxyTable;
use crate::catalog::publish::Current;
use crate::net::proxy_protocol::{self, Told};

/// What stands before a listener's connections within one worker.
#[derive(Debug)]
pub struct Front {
    /// Name of the listener.
    pub name: Arc<str>,
    /// The tables.
    pub current: Current<ProxyTable>,
    /// Counters of this listener.
    pub metrics: ListenerMetrics,
}

/// A connection that came, before a byte of its own was read.
#[derive(Debug)]
pub struct Arrived {
    /// The socket.
    pub stream: TcpStream,
    /// Whose it is: the peer, or whom a proxy before us told of.
    pub peer: SocketAddr,
    /// What that proxy told, if one did.
    pub told: Option<Told>,
}

impl Front {
    /// The connection, and whose it is, once that is known. Peers of `proxy_protocol.from` must begin
    /// with a header, or the connection is closed and counted; nobody else's is looked for.
    pub async fn arrive(&self, mut stream: TcpStream, peer: SocketAddr) -> Option<Arrived> {
        let patience = {
            let table = self.current.load();
            let rule = table.listener(&self.name).and_then(|listener| listener.proxy_protocol());
            let rule = rule.filter(|rule| forwarded::within(peer.ip(), &rule.from));
            rule.map(|rule| rule.timeout.0)
        };
        let Some(patience) = patience else { return Some(Arrived { stream, peer, told: None }) };
        let told = match timeout(patience, proxy_protocol::arrive(&mut stream)).await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => {
                self.metrics.announced(error.word());
                tracing::debug!(listener = &*self.name, %peer, %error, "a proxy's connection is closed");
                return None;
            }
            Err(_) => {
                self.metrics.announced("timeout");
                return None;
            }
        };
        self.metrics.announced(if told.is_some() { "told" } else { "local" });
        let peer = told.as_ref().map_or(peer, |told| told.client);
        Some(Arrived { stream, peer, told })
    }
}

//! The connection to an endpoint, as the library is told of it.
//!
//! The library keeps connections, and asks for new ones. For TLS it gets one that is ready: shaken by
//! our own configuration, behind a pair of sockets ([`crate::proxy::out::bridge`]). One that begins
//! with a header of the PROXY protocol is of one client, and serves one request of it only.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::prelude::{Error, ErrorType, HttpPeer};
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::{Digest, SocketDigest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::proxy::config::HttpTimeouts;
use crate::proxy::http::exchange::{Exchange, patience};
use crate::proxy::out::bridge::{self, Bridge};
use crate::proxy::out::secure::Secure;
use crate::proxy::upstream::Endpoint;
use crate::random;

/// Where the library believes to be connected to, when it talks to one end of a pair of sockets: it
/// does not compare the unspecified address with what the socket says.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
/// Bridges that may be known before those that are gone are forgotten.
const SWEEP: usize = 64;

/// The bridges of one worker, by the descriptor of the library's end. Locked when a connection is made
/// or used again; only one worker asks, so that the lock is always free.
#[derive(Debug, Default)]
pub(super) struct Bridges(Mutex<(HashMap<RawFd, Weak<Bridge>>, usize)>);

impl Bridges {
    fn know(&self, fd: RawFd, bridge: &Arc<Bridge>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (bridges, sweep_at) = &mut *known;
        if bridges.len() >= (*sweep_at).max(SWEEP) {
            bridges.retain(|_, bridge| bridge.strong_count() > 0);
            *sweep_at = bridges.len() * 2;
        }
        bridges.insert(fd, Arc::downgrade(bridge));
    }

    /// The bridge whose end is `fd`; none when it is gone.
    pub(super) fn of(&self, fd: RawFd) -> Option<Arc<Bridge>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.get(&fd)?.upgrade()
    }
}

/// What the library is told of `endpoint`. With `brief`, a connection that is at rest closes at once.
pub(super) fn peer(
    endpoint: &Endpoint,
    exchange: &Exchange,
    bridges: &Arc<Bridges>,
    brief: bool,
) -> HttpPeer {
    let timeouts: HttpTimeouts = exchange.timeouts();
    let way = &endpoint.way;
    let first = first(endpoint, exchange);
    let alone = first.is_some();
    let at = if way.tls.is_some() { NOWHERE } else { endpoint.address };
    let mut peer = HttpPeer::new(at, false, String::new());
    if way.tls.is_some() || alone {
        peer.options.custom_l4 = Some(Arc::new(Dial {
            address: endpoint.address,
            first: first.unwrap_or_default(),
            secure: way.tls.clone(),
            timeout: timeouts.connect.0,
            bridges: Arc::clone(bridges),
        }));
    }
    if way.key != 0 {
        peer.group_key = group(endpoint.address, way.key);
    }
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect.0);
    options.read_timeout = Some(patience(&timeouts, exchange.upgrade));
    options.write_timeout = Some(timeouts.read.0);
    options.idle_timeout = Some(if brief { Duration::ZERO } else { timeouts.idle.0 });
    if way.protocol.is_h2() {
        options.set_http_version(2, 2);
        options.max_h2_streams = way.h2.max_streams as usize;
        options.h2_ping_interval = Some(way.h2.ping.0);
        options.h2_stream_window_size = u32::try_from(way.h2.stream_window.0).ok();
        options.h2_connection_window_size = u32::try_from(way.h2.connection_window.0).ok();
    }
    if alone || exchange.wants_renewal() {
        // No connection is kept under this number, and nobody asks for it again.
        peer.group_key = random::bits();
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    peer
}

/// The header of the PROXY protocol that `endpoint` is to hear first, if it wants one.
fn first(endpoint: &Endpoint, exchange: &Exchange) -> Option<Vec<u8>> {
    let version = endpoint.way.announces?;
    let arrival = exchange.arrival.as_ref();
    let ends = arrival.and_then(|arrival| Some((arrival.peer, arrival.server?)));
    // Without a client's socket there is nobody to tell of.
    Some(ends.map_or_else(|| version.own(), |(client, server)| version.header(client, server, &[])))
}

/// Which connections may stand for each other: those to one address by one way.
fn group(address: SocketAddr, key: u64) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (address, key).hash(&mut hasher);
    hasher.finish()
}

/// What is known of the socket to the endpoint.
pub(super) fn socket(
    bridge: Option<&Bridge>,
    digest: Option<&Digest>,
) -> Option<Arc<SocketDigest>> {
    match bridge {
        Some(bridge) => Some(Arc::new(SocketDigest::from_raw_fd(bridge.tcp()))),
        None => digest.and_then(|digest| digest.socket_digest.clone()),
    }
}

/// Makes connections to one endpoint that are over TLS, or begin with a header, or both.
#[derive(Debug)]
struct Dial {
    address: SocketAddr,
    first: Vec<u8>,
    secure: Option<Arc<Secure>>,
    timeout: Duration,
    bridges: Arc<Bridges>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, _: &PeerAddr) -> pingora_error::Result<Stream> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let connecting = async {
            let mut tcp = TcpStream::connect(self.address).await?;
            tcp.set_nodelay(true)?;
            if !self.first.is_empty() {
                tcp.write_all(&self.first).await?;
            }
            Ok(tcp)
        };
        let tcp = match tokio::time::timeout_at(deadline, connecting).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return unconnected(&error),
            Err(_) => {
                return Error::e_explain(ErrorType::ConnectTimedout, "connecting took too long");
            }
        };
        let Some(secure) = &self.secure else { return Ok(tcp.into()) };
        let shaken = tokio::time::timeout_at(deadline, secure.shake(tcp, self.address)).await;
        let failed = |kind, why: String| {
            secure.failed(self.address, &why);
            Error::e_explain(kind, why)
        };
        let tls = match shaken {
            Ok(Ok(tls)) => tls,
            Ok(Err(why)) => return failed(ErrorType::TLSHandshakeFailure, why),
            Err(_) => {
                let why = "the handshake took longer than `connect` allows".to_owned();
                return failed(ErrorType::TLSHandshakeTimedout, why);
            }
        };
        let laid = bridge::lay(tls, Arc::clone(secure), self.address);
        let (socket, bridge) = laid.map_err(|error| {
            Error::because(ErrorType::InternalError, "no descriptors for a TLS connection", error)
        })?;
        self.bridges.know(socket.as_raw_fd(), &bridge);
        Ok(socket.into())
    }
}

fn unconnected<T>(error: &io::Error) -> pingora_error::Result<T> {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let kind = match error.kind() {
        ConnectionRefused => ErrorType::ConnectRefused,
        HostUnreachable | NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::e_explain(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_other_addresses_or_by_other_ways_are_never_exchanged() {
        let (a, b): (SocketAddr, SocketAddr) =
            ("10.0.0.1:443".parse().unwrap(), "10.0.0.2:443".parse().unwrap());
        assert_eq!(group(a, 1), group(a, 1));
        assert_ne!(group(a, 1), group(b, 1));
        assert_ne!(group(a, 1), group(a, 2));
    }
}

//! The way to an endpoint: connect, and say what it is to hear first.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::super::clock;
use super::super::upstream::Endpoint;
use super::secure::{Manner, Socket};
use crate::net::proxy_protocol::Told;
use crate::net::stream::Stream;

/// The header of the PROXY protocol that `endpoint` is to hear before all else, with the addresses that
/// we were told or see ourselves; empty when it wants none.
pub(super) fn header(
    endpoint: &Endpoint,
    client: &Stream,
    peer: SocketAddr,
    told: Option<&Told>,
) -> Vec<u8> {
    let Some(version) = endpoint.way.announces else { return Vec::new() };
    match told {
        Some(told) => version.header(told.client, told.server, &told.facts),
        None => match client.tcp().local_addr() {
            Ok(server) => version.header(peer, server, &[]),
            // The client has gone meanwhile.
            Err(_) => version.own(),
        },
    }
}

/// Connects to `endpoint` in this `manner` and sends it a header, which is always in the clear, and what
/// was read of the connection already; all within `limit`. Notes for those who pick endpoints how that
/// went.
///
/// # Errors
/// It could not be reached.
pub(super) async fn reach(
    endpoint: &Endpoint,
    limit: Duration,
    (mut header, opening): (Vec<u8>, &[u8]),
    manner: Manner<'_>,
) -> io::Result<Socket> {
    let began = Instant::now();
    let connecting = async {
        let mut stream = TcpStream::connect(endpoint.address).await?;
        // If the kernel refuses, small messages wait a little; they still arrive.
        let _ = stream.set_nodelay(true);
        if manner.tls.is_none() {
            if header.is_empty() {
                if !opening.is_empty() {
                    stream.write_all(opening).await?;
                }
            } else {
                header.extend_from_slice(opening);
                stream.write_all(&header).await?;
            }
            return Ok(Socket::Plain(stream));
        }
        if !header.is_empty() {
            stream.write_all(&header).await?;
        }
        // Boxed, as all that connections in the clear have no need of.
        Box::pin(Socket::over(stream, endpoint, manner, opening)).await
    };
    let reached = timeout(limit, connecting).await;
    let reached = reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match &reached {
        Ok(_) => endpoint.connected(began.elapsed().as_micros() as u64),
        Err(error) if ours(error) => {}
        Err(_) => endpoint.unreachable(limit.as_micros() as u64, clock::micros()),
    }
    reached
}

/// Whether connecting failed for want of something of our own: descriptors, or free ports.
fn ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    of_ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

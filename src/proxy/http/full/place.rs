//! A place at an endpoint for a request, and what its connection is to be kept by.

use std::future::pending;
use std::ops::Deref;

use pingora_core::prelude::{Error, ErrorType};
use pingora_core::protocols::{Digest, SocketDigest};
use pingora_proxy::Session;
use tokio::net::TcpStream;

use super::super::carrier::Carrier;
use super::super::exchange::Exchange;
use super::super::kept::Kept;
use super::super::refusal::Refusal;
use crate::proxy::clock;
use crate::proxy::route::ServiceRef;
use crate::proxy::upstream::Missed;
use crate::proxy::waiting::{Refused, left};

/// Takes a place at an endpoint of `wanted`, after waiting for it if need be. A client that leaves
/// meanwhile is seen.
pub(super) fn place<'a>(
    session: &'a Session,
    exchange: &'a mut Exchange,
    wanted: &'a ServiceRef,
) -> impl Future<Output = Result<(), Refused>> + Send + 'a {
    // Not the session itself, which other threads must not see, goes into the future.
    let request = session.req_header().deref();
    let carrier = session.as_downstream().stream();
    let carrier = carrier.and_then(|stream| stream.as_any().downcast_ref::<Carrier>());
    let client = carrier.map(Carrier::stream);
    async move {
        match exchange.pick(request, wanted, clock::micros()) {
            Ok(()) => Ok(()),
            Err(Missed::Nobody) => Err(Refused::Nobody),
            // Boxed, so that requests that need not wait are as small as they can be.
            Err(Missed::Full) => Box::pin(exchange.wait(request, wanted, gone(client))).await,
        }
    }
}

async fn gone(client: Option<&TcpStream>) {
    match client {
        Some(client) => left(client, false).await,
        None => pending().await,
    }
}

/// The answer to a request that gets no place; an error when nobody is there to be answered.
pub(super) fn refusal(refused: Refused) -> pingora_error::Result<Refusal> {
    match refused {
        Refused::Nobody => {
            Ok(Refusal::new(503, "no-endpoint", "no instance of the service is eligible"))
        }
        Refused::Full => {
            Ok(Refusal::new(503, "queue-full", "every instance is busy, and too many wait"))
        }
        Refused::Timeout => {
            Ok(Refusal::new(503, "queue-timeout", "every instance was busy for too long"))
        }
        Refused::Left => {
            let error = Error::explain(ErrorType::ConnectionClosed, "left while it waited");
            Err(error.into_down())
        }
    }
}

/// The same where a second endpoint was to be tried.
pub(super) fn failure(refused: Refused) -> pingora_error::Result<()> {
    let refusal = refusal(refused)?;
    Error::e_explain(ErrorType::HTTPStatus(refusal.status), refusal.reason)
}

/// Whether a new connection may be kept after its request. One for an upgrade never is, so that it
/// takes nobody's place.
pub(super) fn is_kept(
    kept: &Kept<SocketDigest>,
    digest: Option<&Digest>,
    exchange: &Exchange,
) -> bool {
    let (Some((upstream, most)), false) = (&exchange.keep_alive, exchange.upgrade) else {
        return true;
    };
    let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
    socket.is_none_or(|socket| kept.admit(upstream, *most, socket))
}

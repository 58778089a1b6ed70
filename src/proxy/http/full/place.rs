//! A place at an endpoint for a request, and what its connection is to be kept by.

use std::future::pending;
use std::ops::Deref;

use pingora_core::prelude::{Error, ErrorType};
use pingora_core::protocols::{Digest, SocketDigest};
use pingora_proxy::Session;
use tokio::net::TcpStream;

use super::super::carrier::Carrier;
use super::super::exchange::Exchange;
use super::super::h2::reply::Leaving;
use super::super::kept::Kept;
use super::super::refusal::Refusal;
use super::super::terms::Terms;
use crate::proxy::clock;
use crate::proxy::route::ServiceRef;
use crate::proxy::upstream::{Endpoint, Missed};
use crate::proxy::waiting::{Refused, broken, left};

/// Takes a place at an endpoint of `wanted`, after waiting for it if need be. A client that leaves
/// meanwhile is seen.
pub(super) fn place<'a>(
    session: &'a Session,
    exchange: &'a mut Exchange,
    wanted: &'a ServiceRef,
) -> impl Future<Output = Result<(), Refused>> + Send + 'a {
    // Not the session itself, which other threads must not see, goes into the future.
    let request = session.req_header().deref();
    let client = carrier(session).map(|carrier| (carrier.tcp(), carrier.terms()));
    let leaving = exchange.leaving.clone();
    async move {
        match exchange.pick(request, wanted, clock::micros()) {
            Ok(()) => Ok(()),
            Err(Missed::Nobody) => Err(Refused::Nobody),
            // Boxed, so that requests that need not wait are as small as they can be.
            Err(Missed::Full) => {
                Box::pin(exchange.wait(request, wanted, gone(client, leaving))).await
            }
        }
    }
}

async fn gone(client: Option<(&TcpStream, Terms)>, stream: Option<Leaving>) {
    match (client, stream) {
        (Some((client, terms)), _) if terms.answer_half_closed => broken(client).await,
        (Some((client, _)), _) => left(client, false).await,
        (None, Some(stream)) => stream.left().await,
        (None, None) => pending().await,
    }
}

/// The client's connection below `session`, if it speaks HTTP/1.1.
pub(super) fn carrier(session: &Session) -> Option<&Carrier> {
    session.as_downstream().stream().and_then(|stream| stream.as_any().downcast_ref())
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
    let Some(socket) = socket else { return true };
    if exchange.endpoint.as_ref().is_some_and(|endpoint| endpoint.way.protocol.is_h2()) {
        // Others may be on it already: it closes when none is, if it is one too many then.
        kept.note(upstream, socket);
        return true;
    }
    kept.admit(upstream, *most, socket)
}

/// Whether the connection that carries this request is to close once nobody uses it any more: where
/// several requests share one, there is no other moment to tell it.
pub(super) fn is_brief(
    kept: &Kept<SocketDigest>,
    endpoint: &Endpoint,
    exchange: &Exchange,
) -> bool {
    endpoint.way.protocol.is_h2()
        && exchange.keep_alive.as_ref().is_some_and(|(upstream, most)| kept.beyond(upstream, *most))
}

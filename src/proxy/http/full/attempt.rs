//! What is known of an attempt that failed, in words that the deciding understands.

use http::request::Parts;
use pingora_core::prelude::{Error, ErrorType};
use pingora_core::protocols::Digest;
use pingora_error::ErrorSource;
use pingora_proxy::Session;

use super::blame::failure_of;
use crate::catalog::observed::Failure;
use crate::proxy::http::exchange::Exchange;
use crate::proxy::http::retry::{Failed, Sent, is_idempotent};

/// A TCP connection on which either side may still send (`TCP_ESTABLISHED` of Linux).
const ESTABLISHED: u8 = 1;

/// Whether the request is to be sent again after an attempt that ended in `error`, on a connection
/// that was kept from before (`reused`) or was new.
pub(super) fn again(
    session: &Session,
    error: &Error,
    reused: bool,
    exchange: &mut Exchange,
    now_micros: u64,
) -> bool {
    if std::mem::take(&mut exchange.limited.given_up) {
        return true;
    }
    let attempt = failed(session, error, reused, exchange);
    let kept = matches!(attempt, Some((Failed::Closed | Failed::Stale, _)));
    let again = attempt.is_some_and(|(how, sent)| exchange.again(how, sent, now_micros));
    // To close what is idle is no failure; an endpoint that is gone refuses the next connection.
    if !(kept && again) {
        note(error, exchange);
    }
    again
}

/// Gives the answer up that has just begun to come, when its status is one to try again on.
pub(super) fn give_up_to_try_again(
    session: &Session,
    exchange: &mut Exchange,
    now_micros: u64,
) -> pingora_error::Result<()> {
    let status = exchange.status;
    if matches!(status, 502..=504) {
        let sent = sent(session, exchange);
        if exchange.again(Failed::Status(status), sent, now_micros) {
            exchange.limited.given_up = true;
            return Error::e_explain(ErrorType::HTTPStatus(status), "an answer to try again on");
        }
    }
    Ok(())
}

/// Refuses a kept connection that has been closed, for a request that may not be sent twice.
pub(super) fn usable(
    session: &Session,
    digest: Option<&Digest>,
    exchange: &mut Exchange,
) -> pingora_error::Result<()> {
    if !harmless(session.req_header(), exchange) && is_closed(digest) {
        exchange.limited.closed = true;
        return Error::e_explain(ErrorType::ConnectionClosed, "closed while it was kept")
            .map_err(Error::into_up);
    }
    Ok(())
}

/// How the attempt failed that ended in `error`, and what was sent by then; none when it was not
/// the endpoint that failed, or when it answered something that is no HTTP.
fn failed(
    session: &Session,
    error: &Error,
    reused: bool,
    exchange: &mut Exchange,
) -> Option<(Failed, Sent)> {
    use ErrorType::{ConnectionClosed, ReadError, ReadTimedout, WriteError, WriteTimedout};
    if *error.esource() != ErrorSource::Upstream {
        return None;
    }
    let closed = std::mem::take(&mut exchange.limited.closed);
    let failed = match error.etype() {
        ConnectionClosed | ReadError | WriteError if closed => Failed::Closed,
        ConnectionClosed | ReadError | WriteError if reused => Failed::Stale,
        ConnectionClosed | ReadError | WriteError => Failed::Reset,
        ReadTimedout | WriteTimedout => Failed::Timeout,
        _ => return None,
    };
    Some((failed, sent(session, exchange)))
}

/// What was sent of the request, and of the answer to the client.
pub(super) fn sent(session: &Session, exchange: &Exchange) -> Sent {
    let begun = session.response_written().is_some_and(|response| {
        !response.status.is_informational() || response.status.as_u16() == 101
    });
    // The library keeps what it has read, up to 64 KiB, and none of what is longer.
    let replayable = !session.retry_buffer_truncated();
    Sent { idempotent: harmless(session.req_header(), exchange), begun, replayable }
}

/// Whether sending the request twice does no harm.
fn harmless(request: &Parts, exchange: &Exchange) -> bool {
    !exchange.upgrade && is_idempotent(request.method.as_str())
}

/// Whether a kept connection has been closed by the endpoint while nobody looked. The library looks
/// when it takes one out, but only as far as the runtime has heard of it.
fn is_closed(digest: Option<&Digest>) -> bool {
    let socket = digest.and_then(|digest| digest.socket_digest.as_deref());
    let state = socket.and_then(pingora_core::protocols::SocketDigest::tcp_info);
    state.is_some_and(|info| info.tcpi_state != ESTABLISHED)
}

/// Tells the endpoint's record that it failed, by an attempt that is over.
fn note(error: &Error, exchange: &Exchange) {
    if *error.esource() != ErrorSource::Upstream {
        return;
    }
    let broke = failure_of(error.etype()).filter(|failure| *failure != Failure::Connect);
    let tunnel = exchange.upgrade && exchange.answered;
    if let (Some(endpoint), Some(failure), false) = (&exchange.endpoint, broke, tunnel) {
        endpoint.failed(failure);
    }
}

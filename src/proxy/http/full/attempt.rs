//! What is known of an attempt that failed, in words that the deciding understands.

use http::request::Parts;
use pingora_core::prelude::{Error, ErrorType};
use pingora_core::protocols::http::v2::client::PING_TIMEDOUT;
use pingora_core::protocols::{Digest, SocketDigest};
use pingora_error::ErrorSource;
use pingora_proxy::Session;

use super::blame::failure_of;
use super::peer;
use crate::catalog::observed::Failure;
use crate::proxy::http::carrier::Carrier;
use crate::proxy::http::exchange::Exchange;
use crate::proxy::http::retry::{Failed, Sent, is_idempotent};
use crate::proxy::upstream::tally::Trouble;

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
    let kept = matches!(attempt, Some((Failed::Closed | Failed::Stale | Failed::Refused, _)));
    let again = attempt.is_some_and(|(how, sent)| exchange.again(how, sent, now_micros));
    // To close what is idle is no failure; an endpoint that is gone refuses the next connection.
    if !(kept && again) {
        note(error, exchange);
    }
    again
}

/// Whether the request is to be sent again after no connection came about, by `error`: nothing was
/// sent.
pub(super) fn unconnected(
    session: &Session,
    error: &mut Error,
    exchange: &mut Exchange,
    now_micros: u64,
) -> bool {
    let sent = sent(session, exchange);
    // A shared connection that takes no further request, and was found only now to be over.
    if *error.etype() == ErrorType::H2Error && h2_of(error).is_some() {
        let again = exchange.again(Failed::Closed, sent, now_micros);
        error.etype = ErrorType::ConnectError;
        return again;
    }
    if matches!(error.etype(), ErrorType::H2Error | ErrorType::HandshakeError) {
        error.etype = ErrorType::ConnectError;
    }
    if let Some(endpoint) = &exchange.endpoint
        && failure_of(error.etype()) == Some(Failure::Connect)
    {
        let cost = exchange.timeouts().connect.0.as_micros() as u64;
        endpoint.unreachable(cost, now_micros);
    }
    exchange.again(Failed::Connect, sent, now_micros)
}

/// Refuses the end of an answer that ended with its connection, when that was cut off.
pub(super) fn whole(exchange: &Exchange) -> pingora_error::Result<()> {
    let cut =
        exchange.until_close && exchange.bridge.as_ref().is_some_and(|bridge| bridge.broken());
    if cut {
        let why = "TLS ended without a goodbye, within an answer that ends with it";
        return Error::e_explain(ErrorType::ReadError, why).map_err(Error::into_up);
    }
    Ok(())
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
    if !harmless(session.req_header(), exchange) && is_closed(digest, exchange) {
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
    use ErrorType::{
        ConnectionClosed, H2Error, ReadError, ReadTimedout, WriteError, WriteTimedout,
    };
    if *error.esource() != ErrorSource::Upstream {
        return None;
    }
    let closed = std::mem::take(&mut exchange.limited.closed);
    let failed = match error.etype() {
        ConnectionClosed | ReadError | WriteError if closed => Failed::Closed,
        H2Error | ReadError | WriteError if is_refused(error) => Failed::Refused,
        // A stream that was reset says nothing of the connection.
        H2Error | ReadError | WriteError if h2_of(error).is_some_and(h2::Error::is_reset) => {
            Failed::Reset
        }
        H2Error if h2_of(error).is_none_or(h2::Error::is_library) => return None,
        ConnectionClosed | H2Error | ReadError | WriteError if reused => Failed::Stale,
        ConnectionClosed | H2Error | ReadError | WriteError => Failed::Reset,
        other if *other == PING_TIMEDOUT => Failed::Reset,
        ReadTimedout | WriteTimedout => Failed::Timeout,
        _ => return None,
    };
    Some((failed, sent(session, exchange)))
}

/// What was sent of the request, and of the answer to the client.
pub(super) fn sent(session: &Session, exchange: &Exchange) -> Sent {
    // The library keeps what it has read, up to 64 KiB, and none of what is longer.
    let replayable = !session.retry_buffer_truncated();
    let idempotent = harmless(session.req_header(), exchange);
    Sent { idempotent, begun: begun(session), replayable }
}

/// Whether some of the answer has gone to the client.
fn begun(session: &Session) -> bool {
    session.response_written().is_some_and(|response| {
        !response.status.is_informational() || response.status.as_u16() == 101
    })
}

/// Lets the client see that its answer is not whole, when it was the endpoint that broke off.
pub(super) fn show_broken(session: &Session, error: &Error) {
    if *error.esource() != ErrorSource::Upstream || !begun(session) {
        return;
    }
    let stream = session.as_downstream().stream();
    if let Some(carrier) = stream.and_then(|stream| stream.as_any().downcast_ref::<Carrier>()) {
        carrier.break_off();
    }
}

/// Whether sending the request twice does no harm.
fn harmless(request: &Parts, exchange: &Exchange) -> bool {
    !exchange.upgrade && is_idempotent(request.method.as_str())
}

/// Whether a kept connection has been closed by the endpoint while nobody looked. The library looks
/// when it takes one out, but only as far as the runtime has heard of it.
fn is_closed(digest: Option<&Digest>, exchange: &Exchange) -> bool {
    let socket = peer::socket(exchange.bridge.as_deref(), digest);
    let state = socket.as_deref().and_then(SocketDigest::tcp_info);
    state.is_some_and(|info| info.tcpi_state != ESTABLISHED)
}

/// What HTTP/2 has to say of it.
fn h2_of(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref()
}

/// Whether the endpoint says that it has not begun with the request: it refused the stream, or has
/// said which was the last that it looks at, and this was a later one (RFC 9113 §6.8, §8.7). The
/// library tells streams up to that last one of the end of their connection instead.
fn is_refused(error: &Error) -> bool {
    h2_of(error).is_some_and(|error| {
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || error.is_reset() && refused)
    })
}

/// Tells the endpoint's record that it failed, by an attempt that is over.
fn note(error: &Error, exchange: &Exchange) {
    if *error.esource() != ErrorSource::Upstream {
        return;
    }
    let broke = failure_of(error.etype()).filter(|failure| *failure != Failure::Connect);
    let tunnel = exchange.upgrade && exchange.answered;
    if let (Some(endpoint), Some(failure), false) = (&exchange.endpoint, broke, tunnel) {
        let left = if exchange.answered { Trouble::EndpointLeft } else { Trouble::Response };
        endpoint.tally().troubled(left);
        endpoint.failed(failure);
    }
}

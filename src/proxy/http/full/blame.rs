//! Whose fault an error is: the endpoint's, the client's or our own.

use pingora_core::prelude::{Error, ErrorType};
use pingora_error::ErrorSource;

use crate::catalog::observed::Failure;
use crate::proxy::http::broken::Broken;
use crate::proxy::route_metrics::Fault;

/// How an endpoint failed, by an error at its side; none when it is not to blame: the connection
/// was not even tried, or the failure is our own.
pub(super) fn failure_of(error: &ErrorType) -> Option<Failure> {
    use ErrorType::{
        BindError, ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, HTTPStatus,
        InternalError, ReadTimedout, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
        WriteTimedout,
    };
    match error {
        ConnectError | ConnectNoRoute | ConnectRefused | ConnectTimedout | TLSHandshakeFailure
        | TLSHandshakeTimedout => Some(Failure::Connect),
        ReadTimedout | WriteTimedout => Some(Failure::Timeout),
        BindError | HTTPStatus(_) | InternalError | SocketError => None,
        _ => Some(Failure::Reset),
    }
}

/// The same for logs and metrics, of errors on every side.
pub(super) fn fault_of(error: &Error) -> Fault {
    use ErrorType::{TLSHandshakeFailure, TLSHandshakeTimedout};
    match (error.esource(), failure_of(error.etype())) {
        (ErrorSource::Downstream, _) => Fault::Client,
        _ if matches!(error.etype(), TLSHandshakeFailure | TLSHandshakeTimedout) => Fault::Tls,
        (ErrorSource::Upstream, Some(Failure::Connect)) => Fault::Connect,
        (ErrorSource::Upstream, Some(Failure::Timeout)) => Fault::Timeout,
        (ErrorSource::Upstream, Some(_)) => Fault::Reset,
        _ => Fault::Internal,
    }
}

/// What broke the client's connection, if it was not the network.
pub(super) fn broken(error: &Error) -> Option<Broken> {
    error.root_cause().downcast_ref().and_then(Broken::of)
}

/// The status that tells the client whose fault it was; 0 when the client itself is gone.
pub(super) fn status_for(error: &Error) -> u16 {
    use ErrorType::{
        ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, ConnectionClosed,
        HTTPStatus, ReadTimedout, TLSHandshakeFailure, TLSHandshakeTimedout, WriteError,
        WriteTimedout,
    };
    if let Some(broken) = broken(error) {
        return broken.status();
    }
    match (error.esource(), error.etype()) {
        (_, HTTPStatus(status)) => *status,
        (ErrorSource::Downstream, ReadTimedout) => 408,
        (ErrorSource::Downstream, WriteError | ConnectionClosed | WriteTimedout) => 0,
        // Answering to a closed socket harms nobody.
        (ErrorSource::Downstream, _) => 400,
        // Nobody could be reached, and nothing was sent: trying again does no harm.
        (
            _,
            ConnectError | ConnectNoRoute | ConnectRefused | ConnectTimedout | TLSHandshakeFailure
            | TLSHandshakeTimedout,
        ) => 503,
        (_, ReadTimedout | WriteTimedout) => 504,
        _ => 502,
    }
}

//! The head of a request as its endpoint gets it.

use http::HeaderName;
use pingora_core::prelude::{Error, ErrorType};
use pingora_http::RequestHeader;

use crate::proxy::forwarded;
use crate::proxy::http::edits::{Line, Lines};
use crate::proxy::http::exchange::{Exchange, host_of};
use crate::proxy::http::trace;
use crate::proxy::route::Route;

/// Makes `request`, a copy of what `came`, into what goes on.
pub(super) fn head(
    came: &RequestHeader,
    request: &mut RequestHeader,
    exchange: &Exchange,
) -> pingora_error::Result<()> {
    to_origin_form(request, exchange.route.as_deref())?;
    // Equal lengths in several lines were let through as one meaning; one line goes on.
    let lengths = request.headers.get_all("content-length").iter().count();
    if lengths > 1
        && let Some(length) = request.headers.get("content-length").cloned()
    {
        request.insert_header("content-length", length)?;
    }
    match exchange.cookies_left(&request.headers) {
        Some(left) if left.is_empty() => drop(request.remove_header("cookie")),
        Some(left) => request.insert_header("Cookie", left)?,
        None => {}
    }
    if exchange.close_after {
        request.insert_header("connection", "close")?;
    }
    let Some(arrival) = &exchange.arrival else { return Ok(()) };
    let trusted = exchange.trusted();
    let told = came.headers.get_all(forwarded::FOR);
    let told = told.iter().filter_map(|value| value.to_str().ok());
    let chain = forwarded::chain(told, arrival.peer.ip(), trusted);
    request.insert_header(forwarded::FOR, chain)?;
    let told = |name| trusted && came.headers.contains_key(name);
    if !told(forwarded::PROTO) {
        request.insert_header(forwarded::PROTO, "http")?;
    }
    if !told(forwarded::PORT) {
        request.insert_header(forwarded::PORT, arrival.service.port.to_string())?;
    }
    if !told(forwarded::HOST) {
        request.insert_header(forwarded::HOST, host_of(came))?;
    }
    if !trusted {
        request.remove_header(forwarded::FORWARDED);
    }
    match &exchange.route {
        Some(route) => route.request_edits.make(request),
        None => Ok(()),
    }
}

/// Gives `request`, a copy of what `came`, the trace context and the id that it is to have.
pub(super) fn trace(
    came: &RequestHeader,
    request: &mut RequestHeader,
    exchange: &mut Exchange,
) -> pingora_error::Result<()> {
    let made = exchange.made(came);
    if let Some(parent) = made.traceparent() {
        request.remove_header(trace::TRACESTATE);
        request.insert_header(trace::TRACEPARENT, parent)?;
    }
    if let Some(id) = made.request_id() {
        request.insert_header(trace::REQUEST_ID, id)?;
    }
    Ok(())
}

/// The path to ask the endpoint for: in origin form (RFC 9112 §3.2.1), with the route's edits.
fn to_origin_form(request: &mut RequestHeader, route: Option<&Route>) -> pingora_error::Result<()> {
    // The library keeps a target in absolute form as it came, beside a URI of its path alone.
    let absolute = !request.raw_path().starts_with(b"/") && request.raw_path() != b"*";
    let edits = route.map(|route| &route.path_edits).filter(|edits| !edits.is_empty());
    if !absolute && edits.is_none() {
        return Ok(());
    }
    let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let Some(path) = edits.map_or_else(|| Some(path.into()), |edits| edits.apply(path)) else {
        return Error::e_explain(ErrorType::HTTPStatus(400), "the path cannot be rewritten");
    };
    let uri = format!("{path}{query}").parse::<http::Uri>().map_err(|error| {
        Error::because(ErrorType::HTTPStatus(400), "the path cannot be rewritten", error)
    })?;
    request.set_uri(uri);
    Ok(())
}

impl Lines for RequestHeader {
    type Error = Box<Error>;

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn set(&mut self, line: &Line) -> pingora_error::Result<()> {
        self.insert_header(line.written.clone(), line.value.clone())
    }

    fn add(&mut self, line: &Line) -> pingora_error::Result<()> {
        self.append_header(line.written.clone(), line.value.clone()).map(drop)
    }
}

//! The head of a request as its endpoint gets it.

use pingora_core::prelude::{Error, ErrorType};
use pingora_http::RequestHeader;

use crate::proxy::forwarded;
use crate::proxy::http::exchange::{Exchange, host_of};
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
    if exchange.close_after {
        request.insert_header("connection", "close")?;
    }
    let Some(arrival) = &exchange.arrival else { return Ok(()) };
    let trusted = exchange
        .config()
        .is_some_and(|config| forwarded::within(arrival.peer.ip(), &config.trusted_proxies));
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
    Ok(())
}

/// The path to ask the endpoint for: in origin form (RFC 9112 §3.2.1), without the route's prefix.
fn to_origin_form(request: &mut RequestHeader, route: Option<&Route>) -> pingora_error::Result<()> {
    // The library keeps a target in absolute form as it came, beside a URI of its path alone.
    let absolute = !request.raw_path().starts_with(b"/") && request.raw_path() != b"*";
    let strip = route.and_then(|route| route.strip_prefix.as_deref());
    if !absolute && strip.is_none() {
        return Ok(());
    }
    let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let rest = strip.and_then(|prefix| target.strip_prefix(prefix));
    let target = match rest {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) if rest.is_empty() || rest.starts_with('?') => format!("/{rest}"),
        _ => target.to_owned(),
    };
    let uri = target.parse::<http::Uri>().map_err(|error| {
        Error::because(ErrorType::InvalidHTTPHeader, "the target without its prefix", error)
    })?;
    request.set_uri(uri);
    Ok(())
}

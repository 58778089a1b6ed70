//! The head of a request as its endpoint gets it.

use http::{HeaderName, HeaderValue};
use pingora_core::prelude::{Error, ErrorType};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::net::tls::{Client, Facts};
use crate::proxy::forwarded;
use crate::proxy::http::edits::{Line, Lines};
use crate::proxy::http::exchange::{Exchange, host_of};
use crate::proxy::http::trace;
use crate::proxy::http::variable::{About, scheme};
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
    let h2 = exchange.endpoint.as_ref().is_some_and(|endpoint| endpoint.way.protocol.is_h2());
    // It is about this hop, but gRPC servers want to see that trailers would be taken (RFC 9113
    // §8.2.2); the library took it away.
    let asks = came.version == http::Version::HTTP_2 && came.headers.contains_key(http::header::TE);
    if h2 && asks {
        request.insert_header("te", "trailers")?;
    }
    if exchange.close_after && !h2 {
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
        request.insert_header(forwarded::PROTO, scheme(arrival.secure))?;
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
    client_certificate(request, arrival.tls.as_deref(), trusted)?;
    let Some(route) = &exchange.route else { return Ok(()) };
    if route.users.as_ref().is_some_and(|users| !users.forward) {
        request.remove_header("authorization");
    }
    let about = About {
        host: host_of(came),
        port: arrival.service.port,
        client: exchange.source(),
        secure: arrival.secure,
    };
    route.request_edits.make(request, Some(&about))
}

/// What `request` says of the client's certificate: what we saw, or what a trusted proxy says.
fn client_certificate(
    request: &mut RequestHeader,
    tls: Option<&Facts>,
    trusted: bool,
) -> pingora_error::Result<()> {
    use forwarded::{CLIENT_NAME, CLIENT_SHA256, CLIENT_SUBJECT, CLIENT_VERIFY};
    let client = tls.map_or(&Client::Untold, |tls| &tls.client);
    if !trusted || *client != Client::Untold {
        for name in [CLIENT_VERIFY, CLIENT_SUBJECT, CLIENT_NAME, CLIENT_SHA256] {
            request.remove_header(name);
        }
    }
    match client {
        Client::Untold => Ok(()),
        Client::Without => request.insert_header(CLIENT_VERIFY, "NONE"),
        Client::Verified(shown) => {
            request.insert_header(CLIENT_VERIFY, "SUCCESS")?;
            request.insert_header(CLIENT_SUBJECT, &*shown.subject)?;
            if let Some(name) = &shown.common_name {
                request.insert_header(CLIENT_NAME, &**name)?;
            }
            request.insert_header(CLIENT_SHA256, &*shown.sha256)
        }
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

/// What belongs to one connection only, and has no place in HTTP/2 (RFC 9113 §8.2.2).
const OF_CONNECTIONS: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Makes `request` into one of HTTP/2, when that is what the endpoint speaks: host, path and scheme
/// as such (RFC 9113 §8.3.1), and nothing of one connection only. A client that waits to be asked for
/// its body is asked here, for the library lets no interim answer of such an endpoint through.
pub(super) async fn by_way(
    session: &mut Session,
    request: &mut RequestHeader,
    exchange: &mut Exchange,
) -> pingora_error::Result<()> {
    let Some(endpoint) = exchange.endpoint.clone() else { return Ok(()) };
    if !endpoint.way.protocol.is_h2() {
        return Ok(());
    }
    for name in OF_CONNECTIONS {
        request.remove_header(name);
    }
    let refuse = |_| Error::explain(ErrorType::HTTPStatus(400), "this host has no place in h2");
    let authority = match request.remove_header("host") {
        Some(host) => host.as_bytes().try_into().map_err(refuse)?,
        None => match request.uri.authority() {
            Some(authority) => authority.clone(),
            None => endpoint.address.to_string().parse().map_err(refuse)?,
        },
    };
    let path = request.uri.path_and_query().cloned();
    let uri = http::Uri::builder()
        .scheme(if endpoint.way.tls.is_some() { "https" } else { "http" })
        .authority::<http::uri::Authority>(authority)
        .path_and_query(path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")))
        .build();
    request.set_uri(uri.map_err(|error| {
        Error::because(ErrorType::HTTPStatus(400), "this target has no place in h2", error)
    })?);
    if request.remove_header("expect").is_some() && !exchange.continued {
        exchange.continued = true;
        session.as_downstream_mut().write_continue_response().await?;
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

    fn set(&mut self, line: &Line, value: HeaderValue) -> pingora_error::Result<()> {
        self.insert_header(line.written.clone(), value)
    }

    fn add(&mut self, line: &Line, value: HeaderValue) -> pingora_error::Result<()> {
        self.append_header(line.written.clone(), value).map(drop)
    }
}

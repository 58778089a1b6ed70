//! Answers that are given here, without an endpoint.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use pingora_error::Error;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::h2;
use crate::proxy::forwarded;
use crate::proxy::http::edits::{Line, Lines};
use crate::proxy::http::error_page::DESCRIBING;
use crate::proxy::http::exchange::{Exchange, host_of};
use crate::proxy::http::h2::grpc;
use crate::proxy::http::limited::{TOO_LARGE, TRAILERS};
use crate::proxy::http::location::{self, LocationPrefix};
use crate::proxy::http::redirect::Redirect;
use crate::proxy::http::refusal::Refusal;

/// Response header that shows the generation, to configured networks.
const GENERATION: &str = "x-portolan-generation";

/// Answers here, in full.
pub(super) async fn answer(
    session: &mut Session,
    exchange: &mut Exchange,
    status: u16,
    body: Bytes,
) -> pingora_error::Result<()> {
    answer_at(session, exchange, status, body, None).await
}

/// Sends the client to another address.
pub(super) async fn redirect(
    session: &mut Session,
    exchange: &mut Exchange,
    redirect: &Redirect,
) -> pingora_error::Result<()> {
    match exchange.location(redirect, session.req_header()) {
        Ok(to) => answer_at(session, exchange, redirect.status, Bytes::new(), Some(to)).await,
        Err(refusal) => answer(session, exchange, refusal.status, refusal_body(refusal)).await,
    }
}

async fn answer_at(
    session: &mut Session,
    exchange: &mut Exchange,
    status: u16,
    body: Bytes,
    location: Option<String>,
) -> pingora_error::Result<()> {
    exchange.status = status;
    if status >= 400 && h2::is_grpc(session) {
        return answer_grpc(session, exchange, status, &body).await;
    }
    let mut response = ResponseHeader::build(status, Some(6))?;
    let page = exchange.route.as_ref().and_then(|route| route.error_pages.of(status)).cloned();
    let (body, kind) = page.map_or((body, "text/plain"), |page| (page.body, page.kind));
    response.insert_header("content-type", kind)?;
    response.insert_header("content-length", body.len().to_string())?;
    if let Some(location) = location {
        response.insert_header("location", location)?;
    }
    if let Some(route) = &exchange.route {
        route.response_edits.make(&mut response, None)?;
    }
    if let Some(seconds) = exchange.limited.retry_after {
        response.insert_header("retry-after", seconds.to_string())?;
    }
    let users = exchange.route.as_ref().and_then(|route| route.users.as_ref());
    if let Some(users) = users.filter(|_| status == 401) {
        response.insert_header("www-authenticate", users.challenge.clone())?;
    }
    show_generation(&mut response, exchange)?;
    let head_only = session.req_header().method == http::Method::HEAD;
    let bodyless = head_only || body.is_empty() || status == 204 || status == 304;
    session.write_response_header(Box::new(response), bodyless).await?;
    if !bodyless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// An interim answer: it goes to the client before anything else does. Where an error page may be
/// written beside the library, which writes what came together at once, this one is too, and before.
pub(super) async fn interim(
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &Exchange,
) -> pingora_error::Result<()> {
    show_generation(response, exchange)?;
    let paged = exchange.route.as_ref().is_some_and(|route| !route.error_pages.is_empty());
    if paged && session.req_header().version != http::Version::HTTP_10 {
        session.as_downstream_mut().set_ignore_info_resp(false);
        session.write_response_header(Box::new(response.clone()), false).await?;
        // What was written is not to be written again. The library passes over all interim answers
        // but a 100 that was asked for.
        session.as_downstream_mut().set_ignore_info_resp(true);
        response.set_status(103)?;
    }
    Ok(())
}

/// The same for a client of gRPC: an answer of trailers alone.
async fn answer_grpc(
    session: &mut Session,
    exchange: &Exchange,
    status: u16,
    body: &[u8],
) -> pingora_error::Result<()> {
    let mut told = http::Response::new(());
    grpc::dress(&mut told, status, &String::from_utf8_lossy(body));
    told.extensions_mut().insert(h2::HeadOnly);
    let mut response = ResponseHeader::from(told.into_parts().0);
    if let Some(seconds) = exchange.limited.retry_after {
        response.insert_header("retry-after", seconds.to_string())?;
    }
    show_generation(&mut response, exchange)?;
    session.write_response_header(Box::new(response), true).await
}

/// Makes an endpoint's answer into what the client gets: the route's error page instead of its body,
/// and the route's edits of its header.
pub(super) async fn dress(
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> pingora_error::Result<()> {
    let route = exchange.route.clone().filter(|_| exchange.status >= 200);
    let Some(route) = route else { return show_generation(response, exchange) };
    let page = route.error_pages.of(exchange.status);
    let told = |name| response.headers.get(name).map(HeaderValue::as_bytes);
    let empty = told("transfer-encoding").is_none()
        && told("content-length").is_none_or(|length| length == b"0");
    if let Some(page) = page {
        for name in DESCRIBING {
            response.remove_header(name);
        }
        response.insert_header("content-type", page.kind)?;
        response.insert_header("content-length", page.body.len().to_string())?;
    }
    if let Some(prefix) = &route.location {
        lead_back(session, response, prefix)?;
    }
    route.response_edits.make(response, None)?;
    show_generation(response, exchange)?;
    let head_only = session.req_header().method == http::Method::HEAD;
    if let Some(page) = page.filter(|_| !head_only) {
        if empty {
            // No body follows that the page could stand for. The library sees that a header was
            // written, and does not write this one again.
            session.write_response_header(Box::new(response.clone()), false).await?;
            session.write_response_body(Some(page.body.clone()), true).await?;
        } else {
            exchange.page = Some(page.body.clone());
        }
    }
    Ok(())
}

/// Puts the route's prefix before the paths of addresses that lead back here.
fn lead_back(
    session: &Session,
    response: &mut ResponseHeader,
    prefix: &LocationPrefix,
) -> pingora_error::Result<()> {
    let host = host_of(session.req_header());
    for name in location::NAMES {
        let told = response.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(address) = told.and_then(|told| prefix.apply(told, host)) {
            response.insert_header(name, address)?;
        }
    }
    Ok(())
}

/// Takes the chunks away for a client of HTTP/1.0, which knows none (RFC 9112 §6.1): the end of the
/// connection ends its answer, as behind nginx.
pub(super) fn unchunk(session: &mut Session, response: &mut ResponseHeader) {
    let old = session.req_header().version < http::Version::HTTP_11;
    if old && response.remove_header("transfer-encoding").is_some() {
        session.set_keepalive(None);
    }
}

/// Whether the body of an answer to `request` goes on to the end of the connection (RFC 9112 §6.3).
pub(super) fn ends_with_connection(request: &Parts, response: &ResponseHeader) -> bool {
    let bodyless = request.method == http::Method::HEAD
        || response.status.is_informational()
        || matches!(response.status.as_u16(), 204 | 304);
    response.version != http::Version::HTTP_2
        && !bodyless
        && !response.headers.contains_key("content-length")
        && !response.headers.contains_key("transfer-encoding")
}

/// Tells the client who it is bound to, when it does not know yet.
pub(super) fn stick(
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> pingora_error::Result<()> {
    let told = exchange.settle(&response.headers);
    if let Some(cookie) = told.set_cookie {
        response.append_header("Set-Cookie", cookie)?;
    }
    if told.private {
        response.append_header("Cache-Control", "private")?;
    }
    Ok(())
}

/// Puts the error page, if there is one, in the place of a body that is passing: at its end, so that
/// the connection to the endpoint can be used again.
pub(super) fn replace_body(body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) {
    if exchange.page.is_some() {
        *body = if end { exchange.page.take() } else { None };
    }
}

impl Lines for ResponseHeader {
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

/// Answers with an error instead of carrying the request. A body that has not come yet is not waited
/// for: the connection closes then.
pub(super) async fn refuse(
    session: &mut Session,
    exchange: &mut Exchange,
    refusal: Refusal,
) -> pingora_error::Result<bool> {
    exchange.story.refused(refusal);
    if !session.is_body_done() {
        session.set_keepalive(None);
    }
    answer(session, exchange, refusal.status, refusal_body(refusal)).await?;
    Ok(true)
}

/// Tells the client how the request failed, and ends the connection.
pub(super) async fn tell(session: &mut Session, exchange: &mut Exchange, status: u16) {
    let refusal = match status {
        413 => TOO_LARGE,
        501 => TRAILERS,
        _ => Refusal::new(status, "upstream", "the service did not answer"),
    };
    session.set_keepalive(None);
    exchange.work = None;
    // The client may be gone already; the status is counted all the same.
    let _ = answer(session, exchange, status, refusal_body(refusal)).await;
    session.as_downstream_mut().shutdown().await;
}

pub(super) fn refusal_body(refusal: Refusal) -> Bytes {
    Bytes::from(format!("{}\n", refusal.message))
}

pub(super) fn show_generation(
    response: &mut ResponseHeader,
    exchange: &Exchange,
) -> pingora_error::Result<()> {
    let (Some(config), Some(arrival)) = (exchange.config(), &exchange.arrival) else {
        return Ok(());
    };
    if forwarded::within(arrival.peer.ip(), &config.show_generation) {
        response.insert_header(GENERATION, exchange.generation.to_string())?;
    }
    Ok(())
}

//! Answers that are given here, without an endpoint.

use bytes::Bytes;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::proxy::forwarded;
use crate::proxy::http::exchange::Exchange;
use crate::proxy::http::limited::TOO_LARGE;
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
    exchange.status = status;
    let mut response = ResponseHeader::build(status, Some(4))?;
    response.insert_header("content-type", "text/plain")?;
    response.insert_header("content-length", body.len().to_string())?;
    if let Some(seconds) = exchange.limited.retry_after {
        response.insert_header("retry-after", seconds.to_string())?;
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

/// Answers with an error instead of carrying the request. A body that has not come yet is not waited
/// for: the connection closes then.
pub(super) async fn refuse(
    session: &mut Session,
    exchange: &mut Exchange,
    refusal: Refusal,
) -> pingora_error::Result<bool> {
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

//! Answers that are given here, without an endpoint.

use bytes::Bytes;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::proxy::forwarded;
use crate::proxy::http::exchange::Exchange;
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
    show_generation(&mut response, exchange)?;
    let head_only = session.req_header().method == http::Method::HEAD;
    let bodyless = head_only || body.is_empty() || status == 204 || status == 304;
    session.write_response_header(Box::new(response), bodyless).await?;
    if !bodyless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
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

//! One stream of HTTP/2 as the library's session: what it would do by its own type for HTTP/2, and
//! what that one leaves out: interim answers, rates, trailers of requests that are not lost in
//! silence, and a stream that ends visibly when its request is cut.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Response};
use pingora_core::prelude::{Error, ErrorType};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as Custom;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::time::timeout;

use crate::proxy::http::exchange::{Arrival, Exchange};
use crate::proxy::http::h2::grpc;
use crate::proxy::http::h2::incoming::{Broken, Incoming};
use crate::proxy::http::h2::reply::{Leaving, Reply, Unsent};
use crate::proxy::http::limited::TRAILERS;

/// So much of a body is kept, in case that the request is sent again; as for HTTP/1.1.
const KEPT_MAX: usize = 64 << 10;

/// Part of an answer that ends with its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadOnly;

/// What a request brings along to the hooks. Its head is copied for the endpoint: what was taken out
/// is gone from the copies too.
#[derive(Clone)]
struct Brought(Arc<Mutex<Option<(Arrival, Leaving)>>>);

/// Whether a client of gRPC waits for the answer.
pub(super) fn is_grpc(session: &Session) -> bool {
    session.is_custom() && grpc::asks(&session.req_header().headers)
}

/// Takes what a stream brought along, when the request came by one.
pub(super) fn arrived(session: &Session, exchange: &mut Exchange) {
    if session.is_custom()
        && let Some(Brought(brought)) = session.req_header().extensions.get()
        && let Some((arrival, leaving)) =
            brought.lock().unwrap_or_else(PoisonError::into_inner).take()
    {
        exchange.story.received = arrival.received;
        exchange.arrival = Some(arrival);
        exchange.leaving = Some(leaving);
    }
}

/// What was read of a body, in case that the request is sent again.
enum Kept {
    /// It is not to be kept, or not yet.
    Nothing,
    All(BytesMut),
    TooLarge,
}

/// One stream.
pub(super) struct Streamed {
    head: RequestHeader,
    body: Incoming,
    reply: Reply,
    written: Option<Box<ResponseHeader>>,
    kept: Kept,
    patience: Option<Duration>,
    drained_within: Option<Duration>,
}

impl Streamed {
    /// The session of a request; its `arrival` waits in it for the hooks.
    pub(super) fn session(
        mut head: Parts,
        body: Incoming,
        reply: Reply,
        arrival: Arrival,
    ) -> ServerSession {
        let brought = Mutex::new(Some((arrival, reply.leaving())));
        head.extensions.insert(Brought(Arc::new(brought)));
        ServerSession::new_custom(Box::new(Self {
            head: head.into(),
            body,
            reply,
            written: None,
            kept: Kept::Nothing,
            patience: None,
            drained_within: None,
        }))
    }

    /// Whether the answer has no body, whatever its head says of one.
    fn is_bodyless(&self, response: &ResponseHeader) -> bool {
        self.head.method == Method::HEAD
            || matches!(response.status.as_u16(), 204 | 304)
            || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
            || response.extensions.get::<HeadOnly>().is_some()
    }

    fn write_head(&mut self, mut response: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.written.is_some() || self.reply.ended() {
            return Ok(());
        }
        let interim = response.status.is_informational();
        if interim && response.status.as_u16() == 101 {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "101 on HTTP/2");
        }
        strip(&mut response);
        if interim {
            let mut told = Response::new(());
            *told.status_mut() = response.status;
            *told.headers_mut() = response.headers.clone();
            return self.reply.interim(told).or_else(unsent);
        }
        response.insert_header(DATE, get_cached_date())?;
        let end = end || self.is_bodyless(&response);
        let told = Response::from_parts(response.as_owned_parts(), ());
        self.reply.head(told, end).or_else(unsent)?;
        self.written = Some(response);
        Ok(())
    }

    async fn write(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.reply.data(data, end).await.or_else(unsent)
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        let next = self.body.next();
        let next = match self.patience {
            Some(patience) => timeout(patience, next).await.map_err(|_| {
                Error::explain(ErrorType::ReadTimedout, "the client sent nothing").into_down()
            })?,
            None => next.await,
        };
        let piece = next.map_err(|broken| match broken {
            Broken::Stream(error) => {
                // The client left; else its body was refused, as one that is not as long as told.
                let left = error.is_remote() || error.is_io();
                let kind = if left { ErrorType::ConnectionClosed } else { ErrorType::ReadError };
                Error::because(kind, "reading a stream", error).into_down()
            }
            Broken::Trailers => {
                Error::explain(ErrorType::HTTPStatus(TRAILERS.status), TRAILERS.message).into_down()
            }
        })?;
        if let (Some(piece), Kept::All(kept)) = (&piece, &mut self.kept) {
            if kept.len() + piece.len() <= KEPT_MAX {
                kept.extend_from_slice(piece);
            } else {
                self.kept = Kept::TooLarge;
            }
        }
        Ok(piece)
    }
}

/// Takes away what is about a connection of HTTP/1.1 (RFC 9113 §8.2.2).
fn strip(response: &mut ResponseHeader) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        response.remove_header(&name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        response.remove_header(name);
    }
}

fn unsent<T>(unsent: Unsent) -> Result<T> {
    let error = match unsent {
        Unsent::Timeout => Error::explain(ErrorType::WriteTimedout, "the client took nothing"),
        Unsent::Stream(error) => Error::because(ErrorType::WriteError, "answering a stream", error),
    };
    Err(error.into_down())
}

#[async_trait]
impl Custom for Streamed {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        // A stream is no connection: what is not read ends with it.
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write(data, end).await
    }

    async fn write_trailers(&mut self, mut trailers: HeaderMap) -> Result<()> {
        for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, CONTENT_LENGTH] {
            trailers.remove(name);
        }
        self.reply.trailers(trailers).or_else(unsent)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            ended |= match task {
                HttpTask::Header(head, end) => {
                    self.write_head(head, end)?;
                    end
                }
                HttpTask::Body(data, end) => {
                    if let Some(data) = data.filter(|data| !data.is_empty()) {
                        self.write(data, end).await?;
                    }
                    end
                }
                HttpTask::Trailer(Some(trailers)) => {
                    self.write_trailers(*trailers).await?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "a tunnel on HTTP/2");
                }
            };
        }
        if ended {
            self.reply.finish().or_else(unsent)?;
        }
        Ok(ended)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.patience = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.patience
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.reply.patience = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.reply.patience
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drained_within = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drained_within
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.reply.reset(h2::Reason::INTERNAL_ERROR);
    }

    fn is_body_done(&mut self) -> bool {
        self.is_body_empty() || self.body.done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.reply.finish().or_else(unsent)
    }

    fn is_body_empty(&mut self) -> bool {
        let none = self.head.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
        self.body.read() == 0 && (self.body.done() || none)
    }

    async fn read_body_or_idle(&mut self, idle: bool) -> Result<Option<Bytes>> {
        if !idle && !self.is_body_done() {
            return self.read().await;
        }
        let ended = poll_fn(|cx| self.reply.poll_reset(cx)).await;
        let told = match ended {
            Ok(reason) => Error::explain(ErrorType::ConnectionClosed, reason.to_string()),
            Err(error) => Error::because(ErrorType::ConnectionClosed, "the stream ended", error),
        };
        Err(told.into_down())
    }

    fn body_bytes_sent(&self) -> usize {
        self.reply.sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.body.read()
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {
        if matches!(self.kept, Kept::Nothing) {
            self.kept = Kept::All(BytesMut::new());
        }
    }

    fn retry_buffer_truncated(&self) -> bool {
        matches!(self.kept, Kept::TooLarge)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.kept {
            Kept::All(kept) if !kept.is_empty() => Some(Bytes::copy_from_slice(kept)),
            _ => None,
        }
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "h2_tests.rs"]
mod tests;

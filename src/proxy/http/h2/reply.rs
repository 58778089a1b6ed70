//! The answer to a request, as its stream takes it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};
use tokio::time::timeout;

use crate::proxy::http::paced::Paced;
use crate::proxy::http::refusal::Refusal;
use crate::proxy::limit::bandwidth::Pace;

/// Why no more of an answer can be sent.
#[derive(Debug)]
pub enum Unsent {
    /// The stream or its connection ended.
    Stream(h2::Error),
    /// The client took nothing for too long.
    Timeout,
}

/// Tells when a client no longer waits for an answer that has not begun.
#[derive(Debug, Clone)]
pub struct Leaving(Arc<Mutex<SendResponse<Bytes>>>);

impl Leaving {
    /// Returns once the stream was reset, or its connection ended.
    pub async fn left(&self) {
        poll_fn(|cx| lock(&self.0).poll_reset(cx).map(drop)).await;
    }
}

fn lock(respond: &Mutex<SendResponse<Bytes>>) -> MutexGuard<'_, SendResponse<Bytes>> {
    respond.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to one request. Dropped before its end, it resets the stream: nobody can take a part
/// of it for the whole.
#[derive(Debug)]
pub struct Reply {
    /// Only one task has it, so that its lock is always free.
    respond: Arc<Mutex<SendResponse<Bytes>>>,
    body: Option<SendStream<Bytes>>,
    ended: bool,
    sent: usize,
    /// How fast it goes out.
    pace: Pace,
    paced: Option<Box<Paced>>,
    /// How long the client may take nothing.
    pub patience: Option<Duration>,
}

impl Reply {
    /// Nothing of it has been sent.
    #[must_use]
    pub fn new(respond: SendResponse<Bytes>, pace: Pace) -> Self {
        Self {
            respond: Arc::new(Mutex::new(respond)),
            body: None,
            ended: false,
            sent: 0,
            pace,
            paced: None,
            patience: None,
        }
    }

    /// For whoever waits before it can begin.
    #[must_use]
    pub fn leaving(&self) -> Leaving {
        Leaving(Arc::clone(&self.respond))
    }

    /// Whether its end was sent.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// Bytes of its body that were sent.
    #[must_use]
    pub const fn sent(&self) -> usize {
        self.sent
    }

    /// Sends an interim answer (1xx), before the answer itself.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn interim(&self, response: Response<()>) -> Result<(), Unsent> {
        lock(&self.respond).send_informational(response).map_err(Unsent::Stream)
    }

    /// Sends the head of the answer; with `end`, that is all of it.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn head(&mut self, response: Response<()>, end: bool) -> Result<(), Unsent> {
        let body = lock(&self.respond).send_response(response, end).map_err(Unsent::Stream)?;
        self.body = Some(body);
        self.ended = end;
        Ok(())
    }

    /// Sends a piece of the body, as fast as the client takes it and as it may go out.
    ///
    /// # Errors
    /// The stream is gone, or the client takes nothing.
    pub async fn data(&mut self, mut data: Bytes, end: bool) -> Result<(), Unsent> {
        if self.ended {
            return Ok(());
        }
        if self.paced.is_none()
            && let Some(bandwidth) = self.pace.limit()
        {
            self.paced = Some(Box::new(Paced::new(bandwidth)));
        }
        let Some(body) = &mut self.body else { return Ok(()) };
        while !data.is_empty() {
            let most = match &mut self.paced {
                Some(paced) => poll_fn(|cx| paced.poll_allowed(cx)).await.min(data.len()),
                None => data.len(),
            };
            body.reserve_capacity(most);
            let room = poll_fn(|cx| body.poll_capacity(cx));
            let room = match self.patience {
                Some(patience) => timeout(patience, room).await.map_err(|_| Unsent::Timeout)?,
                None => room.await,
            };
            let room = room.transpose().map_err(Unsent::Stream)?.ok_or_else(gone)?.min(most);
            if room > 0 {
                let part = data.split_to(room);
                let last = end && data.is_empty();
                body.send_data(part, last).map_err(Unsent::Stream)?;
                self.ended = last;
                self.sent += room;
                self.pace.wrote(room);
                if let Some(paced) = &mut self.paced {
                    paced.sent(room);
                }
            }
        }
        if end { self.finish() } else { Ok(()) }
    }

    /// Ends the answer with trailers.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Unsent> {
        if let (Some(body), false) = (&mut self.body, self.ended) {
            body.send_trailers(trailers).map_err(Unsent::Stream)?;
            self.ended = true;
        }
        Ok(())
    }

    /// Ends the answer, if it has begun and has not ended yet.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn finish(&mut self) -> Result<(), Unsent> {
        if let (Some(body), false) = (&mut self.body, self.ended) {
            body.send_data(Bytes::new(), true).map_err(Unsent::Stream)?;
            self.ended = true;
        }
        Ok(())
    }

    /// Ends the stream without an end of the answer.
    pub fn reset(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.ended, true) {
            match &mut self.body {
                Some(body) => body.send_reset(reason),
                None => lock(&self.respond).send_reset(reason),
            }
        }
    }

    /// Answers with `refusal`, all at once.
    pub fn refuse(&mut self, refusal: Refusal, grpc: bool) {
        let mut response = Response::new(());
        if grpc {
            super::grpc::dress(&mut response, refusal.status, refusal.message);
            // The client may be gone; there is nobody left to tell.
            let _ = self.head(response, true);
            return;
        }
        let text = Bytes::from(format!("{}\n", refusal.message));
        *response.status_mut() = http::StatusCode::from_u16(refusal.status).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
        headers.insert("content-length", text.len().into());
        if self.head(response, false).is_ok()
            && let Some(body) = &mut self.body
        {
            self.sent = text.len();
            // What the client's window does not take now, the library keeps for it.
            self.ended = body.send_data(text, true).is_ok();
        }
    }

    /// Ready when the client no longer wants the answer.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => lock(&self.respond).poll_reset(cx),
        }
    }
}

fn gone() -> Unsent {
    Unsent::Stream(Reason::STREAM_CLOSED.into())
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.reset(Reason::INTERNAL_ERROR);
    }
}

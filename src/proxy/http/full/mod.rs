//! The full lane: one request at a time through pingora's proxy, with our decisions.
//!
//! Which route, endpoint and headers apply is asked of pure code; this file only tells pingora.
//! Its own accept loop, balancing and upstream configuration are not used.

mod answer;
mod blame;
mod outgoing;
mod place;

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::apps::HttpServerApp;
use pingora_core::prelude::{Error, ErrorType, HttpPeer};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Digest, SocketDigest};
use pingora_core::server::configuration::ServerConf;
use pingora_error::ErrorSource;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, Session, http_proxy};
use tokio::sync::watch;

use answer::{answer, refusal_body, show_generation};
use blame::{failure_of, status_for};

use super::carrier::Carrier;
use super::exchange::{Arrival, Exchange, patience};
use super::kept::Kept;
use super::refusal::Refusal;
use crate::catalog::observed::Failure;
use crate::lifecycle::{Phase, Phases, Readiness};
use crate::proxy::clock;
use crate::proxy::config::{RespondConfig, RespondWhen};
use crate::proxy::route::Target;

/// Endpoints that are tried in all when connecting fails: nothing has been sent by then, so
/// that trying another one is safe for every method.
const CONNECTS_MAX: usize = 3;

/// The full lane of one worker, with the worker's own pool of connections to endpoints.
pub struct FullLane {
    proxy: Arc<HttpProxy<Full>>,
    /// Pingora wants one; draining is told to it per request instead.
    shutdown: watch::Receiver<bool>,
    _never: watch::Sender<bool>,
}

impl std::fmt::Debug for FullLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FullLane")
    }
}

impl FullLane {
    /// A lane that keeps at most `idle_max` idle connections to endpoints.
    #[must_use]
    pub fn new(idle_max: usize, readiness: Readiness, phases: Phases) -> Arc<Self> {
        let conf = ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: idle_max,
            max_retries: CONNECTS_MAX,
            ..ServerConf::default()
        };
        let full = Full { readiness, phases, kept: Kept::default() };
        let proxy = http_proxy(&Arc::new(conf), full);
        let (never, shutdown) = watch::channel(false);
        Arc::new(Self { proxy: Arc::new(proxy), shutdown, _never: never })
    }

    /// Carries the request at the front of `carrier`; gives the connection back when it can carry
    /// another one. While the process drains, the answer says that the connection closes.
    pub async fn carry(&self, carrier: Carrier, arrival: Arrival) -> Option<Carrier> {
        let mut session = ServerSession::new_http1(Box::new(carrier));
        session.set_connection_user_context(Some(Box::new(arrival)));
        let reused = self.proxy.process_new_http(session, &self.shutdown).await?;
        let (stream, _) = reused.consume();
        stream.into_any().downcast::<Carrier>().ok().map(|carrier| *carrier)
    }
}

/// Our decisions as pingora's hooks.
struct Full {
    readiness: Readiness,
    phases: Phases,
    /// Connections that are kept, by service, where the configuration limits them.
    kept: Kept<SocketDigest>,
}

impl Full {
    /// Tells the client with this answer that no more is read, when the process drains.
    fn last_when_draining(&self, session: &mut Session) {
        if self.phases.now() >= Phase::Draining {
            session.set_keepalive(None);
        }
    }

    fn respond(&self, config: &RespondConfig) -> (u16, Bytes) {
        let ready = config.when == RespondWhen::Always || self.readiness.ready();
        let status = if ready { config.status } else { 503 };
        (status, Bytes::copy_from_slice(config.body.as_bytes()))
    }
}

#[async_trait]
impl ProxyHttp for Full {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::default()
    }

    fn on_connection_reuse(
        &self,
        _: &mut Session,
        exchange: &mut Exchange,
        arrival: Box<dyn Any + Send + Sync>,
    ) {
        exchange.arrival = arrival.downcast().ok().map(|arrival| *arrival);
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<bool> {
        self.last_when_draining(session);
        if let Err(refusal) = exchange.decide(session.req_header(), clock::micros()) {
            answer(session, exchange, refusal.status, refusal_body(refusal)).await?;
            return Ok(true);
        }
        let timeouts = exchange.config().map(|config| config.timeouts.clone());
        let timeouts = timeouts.unwrap_or_default();
        session.as_downstream_mut().set_read_timeout(Some(patience(&timeouts, exchange.upgrade)));
        let route = exchange.route.clone();
        match route.as_ref().map(|route| &route.target) {
            Some(Target::Respond(config)) => {
                let (status, body) = self.respond(config);
                answer(session, exchange, status, body).await?;
                Ok(true)
            }
            Some(Target::Service(wanted)) => match place::place(session, exchange, wanted).await {
                Ok(()) => Ok(false),
                Err(refused) => {
                    let refusal = place::refusal(refused)?;
                    answer(session, exchange, refusal.status, refusal_body(refusal)).await?;
                    Ok(true)
                }
            },
            _ => Ok(false),
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<Box<HttpPeer>> {
        let route = exchange.route.clone();
        let again = exchange.endpoint.as_ref().is_some_and(|e| exchange.tried.contains(&e.address));
        if let (Some(Target::Service(wanted)), true) = (route.as_ref().map(|r| &r.target), again) {
            let placed = place::place(session, exchange, wanted).await;
            placed.or_else(place::failure)?;
        }
        let Some(endpoint) = exchange.endpoint.clone() else {
            return Error::e_explain(ErrorType::HTTPStatus(503), "no endpoint was picked");
        };
        let timeouts = exchange.config().map(|config| config.timeouts.clone()).unwrap_or_default();
        let mut peer = HttpPeer::new(endpoint.address, false, String::new());
        peer.options.connection_timeout = Some(timeouts.connect.0);
        peer.options.read_timeout = Some(patience(&timeouts, exchange.upgrade));
        peer.options.write_timeout = Some(timeouts.read.0);
        peer.options.idle_timeout = Some(timeouts.idle.0);
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: RawFd,
        digest: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        exchange.close_after = !reused && !place::is_kept(&self.kept, digest, exchange);
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let Some(address) = peer._address.as_inet() else { return error };
        exchange.tried.push(*address);
        exchange.work = None;
        if let Some(endpoint) = &exchange.endpoint
            && failure_of(error.etype()) == Some(Failure::Connect)
        {
            endpoint.failed(Failure::Connect);
        }
        if exchange.tried.len() < CONNECTS_MAX {
            if let Some(arrival) = &exchange.arrival {
                arrival.service.metrics.retries.inc();
            }
            error.set_retry(true);
        }
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        outgoing::head(session.req_header(), request, exchange)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        self.last_when_draining(session);
        exchange.status = response.status.as_u16();
        if exchange.status == 101 && !exchange.upgrade {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "101 that nobody asked for");
        }
        let now = clock::micros();
        if let Some(endpoint) = &exchange.endpoint
            && (exchange.status == 101 || exchange.status >= 200)
        {
            exchange.answered = true;
            endpoint.answered(exchange.status, now.saturating_sub(exchange.sent_micros), now);
        }
        show_generation(response, exchange)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let status = status_for(error);
        if status > 0 && session.response_written().is_none() {
            let refusal = Refusal::new(status, "upstream", "the service did not answer");
            session.set_keepalive(None);
            // The client may be gone already; the status is counted all the same.
            let _ = answer(session, exchange, status, refusal_body(refusal)).await;
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, _: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        exchange.work = None;
        let Some(arrival) = &exchange.arrival else { return };
        arrival.service.metrics.request(exchange.status);
        let now = clock::micros();
        if now.is_multiple_of(8) {
            let micros = now.saturating_sub(exchange.began_micros);
            arrival.service.metrics.duration.observe(micros as f64 / 1e6);
        }
        if let Some(error) = error
            && *error.esource() == ErrorSource::Upstream
        {
            let broke = failure_of(error.etype()).filter(|failure| *failure != Failure::Connect);
            let tunnel = exchange.upgrade && exchange.answered;
            if let (Some(endpoint), Some(failure), false) = (&exchange.endpoint, broke, tunnel) {
                endpoint.failed(failure);
            }
            let endpoint = exchange.endpoint.as_ref().map(|endpoint| endpoint.address);
            tracing::debug!(
                listener = &*arrival.service.name,
                ?endpoint,
                %error,
                "a request failed at its endpoint"
            );
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Exchange, _: &Error) -> bool {
        true
    }
}

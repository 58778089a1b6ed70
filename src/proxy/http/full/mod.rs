//! The full lane: one request at a time through pingora's proxy, with our decisions.
//!
//! Which route, endpoint and headers apply is asked of pure code; this file only tells pingora.
//! Its own accept loop, balancing and upstream configuration are not used.

mod answer;
mod attempt;
mod blame;
mod outgoing;
mod place;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

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

use answer::{answer, dress, redirect, refuse, replace_body, tell};
use blame::{failure_of, status_for};

use super::carrier::Carrier;
use super::exchange::{Arrival, Exchange, patience};
use super::kept::Kept;
use super::limited::TOO_LARGE;
use super::retry::Failed;
use super::story::{self, Seen};
use crate::catalog::observed::Failure;
use crate::lifecycle::{Phase, Phases, Readiness};
use crate::proxy::clock;
use crate::proxy::config::{RespondConfig, RespondWhen};
use crate::proxy::route::Target;
use crate::proxy::waiting::Refused;
use crate::random;

/// More attempts than our own deciding ever allows for one request: it ends them, not the library.
const ATTEMPTS_MAX: usize = 1024;

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
            max_retries: ATTEMPTS_MAX,
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
        exchange.arrival = arrival.downcast().ok().map(|arrival: Box<Arrival>| *arrival);
        let received = exchange.arrival.as_ref().map(|arrival| arrival.received);
        exchange.story.received = received.unwrap_or_default();
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<bool> {
        self.last_when_draining(session);
        if let Err(refusal) = exchange.decide(session.req_header(), clock::micros()) {
            return refuse(session, exchange, refusal).await;
        }
        if let Err(refusal) = exchange.admit(session.req_header()) {
            return refuse(session, exchange, refusal).await;
        }
        let timeouts = exchange.timeouts();
        session.as_downstream_mut().set_read_timeout(Some(patience(&timeouts, exchange.upgrade)));
        exchange.stick(session.req_header());
        exchange.keep_to_service();
        let route = exchange.route.clone();
        if let Err(refusal) = exchange.fits(session.req_header()) {
            return refuse(session, exchange, refusal).await;
        }
        exchange.counted(clock::micros());
        match route.as_ref().map(|route| &route.target) {
            Some(Target::Respond(config)) => {
                let (status, body) = self.respond(config);
                answer(session, exchange, status, body).await?;
                Ok(true)
            }
            Some(Target::Redirect(to)) => {
                redirect(session, exchange, to).await?;
                Ok(true)
            }
            Some(target) => {
                let placed = match target.service(exchange.choice) {
                    Some(wanted) => place::place(session, exchange, wanted).await,
                    None => Err(Refused::Nobody),
                };
                match placed {
                    Ok(()) => Ok(false),
                    Err(refused) => {
                        let refusal = place::refusal(refused)?;
                        refuse(session, exchange, refusal).await
                    }
                }
            }
            _ => Ok(false),
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<Box<HttpPeer>> {
        let route = exchange.route.clone();
        let again = std::mem::take(&mut exchange.limited.another);
        let wanted = route.as_ref().and_then(|route| route.target.service(exchange.choice));
        if let (Some(wanted), true) = (wanted, again) {
            place::place(session, exchange, wanted).await.or_else(place::failure)?;
        }
        let Some(endpoint) = exchange.endpoint.clone() else {
            return Error::e_explain(ErrorType::HTTPStatus(503), "no endpoint was picked");
        };
        let timeouts = exchange.timeouts();
        exchange.story.goes(clock::micros());
        let mut peer = HttpPeer::new(endpoint.address, false, String::new());
        peer.options.connection_timeout = Some(timeouts.connect.0);
        peer.options.read_timeout = Some(patience(&timeouts, exchange.upgrade));
        peer.options.write_timeout = Some(timeouts.read.0);
        peer.options.idle_timeout = Some(timeouts.idle.0);
        if exchange.wants_renewal() {
            // No connection is kept under this number, and nobody asks for it again.
            peer.group_key = random::bits();
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
        Ok(Box::new(peer))
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(endpoint) = &exchange.endpoint
            && failure_of(error.etype()) == Some(Failure::Connect)
        {
            endpoint.failed(Failure::Connect);
        }
        let sent = attempt::sent(session, exchange);
        error.set_retry(exchange.again(Failed::Connect, sent, clock::micros()));
        error
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: std::os::fd::RawFd,
        digest: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        exchange.story.connected(reused, clock::micros());
        exchange.close_after = !reused && !place::is_kept(&self.kept, digest, exchange);
        if reused { attempt::usable(session, digest, exchange) } else { Ok(()) }
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        error.set_retry(attempt::again(session, &error, reused, exchange, clock::micros()));
        error
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        if !session.was_upgraded() && exchange.beyond_body(session.body_bytes_read()) {
            let status = ErrorType::HTTPStatus(TOO_LARGE.status);
            return Error::e_explain(status, TOO_LARGE.message);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        outgoing::head(session.req_header(), request, exchange)?;
        outgoing::trace(session.req_header(), request, exchange)?;
        exchange.story.sent(clock::micros());
        Ok(())
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
        exchange.story.answered(now);
        if let Some(endpoint) = &exchange.endpoint
            && (exchange.status == 101 || exchange.status >= 200)
        {
            exchange.answered = true;
            endpoint.answered(exchange.status, now.saturating_sub(exchange.sent_micros), now);
            answer::stick(response, exchange)?;
        }
        attempt::give_up_to_try_again(session, exchange, now)?;
        exchange.pace();
        dress(session, response, exchange).await
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<Option<Duration>> {
        replace_body(body, end, exchange);
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let status = status_for(error);
        if status > 0 && session.response_written().is_none() {
            tell(session, exchange, status).await;
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        exchange.work = None;
        exchange.ended();
        let seen = Seen {
            head: session.req_header(),
            target: session.req_header().raw_path(),
            bytes_in: session.body_bytes_read() as u64,
            bytes_out: session.body_bytes_sent() as u64,
            fault: error.map(blame::fault_of),
        };
        story::tell(exchange, &seen, clock::micros());
        let Some(arrival) = &exchange.arrival else { return };
        if let Some(error) = error
            && *error.esource() == ErrorSource::Upstream
        {
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

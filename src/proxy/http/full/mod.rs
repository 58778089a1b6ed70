//! The full lane: one request at a time through pingora's proxy, with our decisions.
//!
//! Which route, endpoint and headers apply is asked of pure code; this file only tells pingora.
//! Its own accept loop, balancing and upstream configuration are not used.

mod answer;
mod attempt;
mod blame;
mod h2;
mod lane;
mod outgoing;
mod peer;
mod place;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::prelude::{Error, ErrorType, HttpPeer};
use pingora_core::protocols::{Digest, SocketDigest};
use pingora_error::ErrorSource;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

pub use lane::FullLane;

use answer::{answer, dress, redirect, refuse, replace_body, tell};
use blame::status_for;
use peer::Bridges;

use super::auth::{Gate, Verifying};
use super::carrier::Carrier;
use super::exchange::{Arrival, Exchange, patience};
use super::kept::Kept;
use super::lenient::Fault;
use super::limited::TOO_LARGE;
use super::story::{self, Seen};
use crate::lifecycle::{Phase, Phases, Readiness};
use crate::proxy::clock;
use crate::proxy::config::{RespondConfig, RespondWhen};
use crate::proxy::route::Target;
use crate::proxy::waiting::Refused;

/// Interim answers (1xx) to one request.
const INTERIM_MAX: u32 = 32;

/// Our decisions as pingora's hooks.
struct Full {
    readiness: Readiness,
    phases: Phases,
    /// Connections that are kept, by service, where the configuration limits them.
    kept: Kept<SocketDigest>,
    /// TLS connections to endpoints.
    bridges: Arc<Bridges>,
    /// Who asks for names and passwords.
    gate: Gate,
}

impl Full {
    fn new(readiness: Readiness, phases: Phases, verifying: Verifying) -> Self {
        let (kept, bridges, gate) = (Kept::default(), Arc::default(), Gate::new(verifying));
        Self { readiness, phases, kept, bridges, gate }
    }

    /// Tells the client with this answer that no more is read, when the process drains, or when what
    /// follows its request must not be taken for another one.
    fn last_if_it_is(&self, session: &mut Session) {
        let last = place::carrier(session).is_some_and(|carrier| carrier.terms().last);
        if last || self.phases.now() >= Phase::Replaced {
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
        h2::arrived(session, exchange);
        self.last_if_it_is(session);
        // RFC 9110 §15.2: a client of HTTP/1.0 knows no interim answers.
        let one_zero = session.req_header().version == http::Version::HTTP_10;
        session.as_downstream_mut().set_ignore_info_resp(one_zero);
        if let Err(refusal) = exchange.decide(session.req_header(), clock::micros()) {
            return refuse(session, exchange, refusal).await;
        }
        if let Err(refusal) = exchange.admit() {
            return refuse(session, exchange, refusal).await;
        }
        if let Some(route) = exchange.route.clone()
            && let (Some(users), Some(arrival)) = (&route.users, &exchange.arrival)
        {
            let metrics = arrival.service.metrics.auth.clone();
            let headers = &session.req_header().headers;
            if let Err(refusal) = self.gate.admit(users, headers, &metrics).await {
                return refuse(session, exchange, refusal).await;
            }
        }
        let timeouts = exchange.timeouts();
        session.as_downstream_mut().set_read_timeout(Some(patience(&timeouts, exchange.upgrade)));
        if session.is_custom() {
            // A window that stays closed must not hold an answer for ever.
            session.as_downstream_mut().set_write_timeout(Some(timeouts.read.0));
        }
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
        exchange.story.goes(clock::micros());
        let brief = place::is_brief(&self.kept, &endpoint, exchange);
        Ok(Box::new(peer::peer(&endpoint, exchange, &self.bridges, brief)))
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let again = attempt::unconnected(session, &mut error, exchange, clock::micros());
        error.set_retry(again);
        error
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _: &HttpPeer,
        fd: std::os::fd::RawFd,
        digest: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        exchange.story.connected(reused, clock::micros());
        if let Some(endpoint) = &exchange.endpoint {
            endpoint.tally().connected(reused);
        }
        let secure = exchange.endpoint.as_ref().is_some_and(|endpoint| endpoint.way.tls.is_some());
        exchange.bridge = if secure { self.bridges.of(fd) } else { None };
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
        exchange.story.came(session.body_bytes_read());
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
        outgoing::by_way(session, request, exchange).await?;
        exchange.story.sent(clock::micros());
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        // Later the library has added how the client gets it.
        exchange.until_close = answer::ends_with_connection(session.req_header(), response);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<()> {
        self.last_if_it_is(session);
        exchange.status = response.status.as_u16();
        if exchange.status == 101 && !exchange.upgrade {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "101 that nobody asked for");
        }
        if exchange.status < 200 {
            exchange.interim += 1;
            if exchange.interim > INTERIM_MAX {
                return Error::e_explain(
                    ErrorType::InvalidHTTPHeader,
                    "a storm of interim answers",
                );
            }
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
        if exchange.status < 200 && exchange.status != 101 {
            return answer::interim(session, response, exchange).await;
        }
        attempt::give_up_to_try_again(session, exchange, now)?;
        exchange.pace();
        dress(session, response, exchange).await?;
        answer::unchunk(session, response);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> pingora_error::Result<Option<Duration>> {
        if end {
            attempt::whole(exchange)?;
        }
        replace_body(body, end, exchange);
        exchange.story.passed(body.as_ref().map_or(0, Bytes::len));
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
        attempt::show_broken(session, error);
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        exchange.work = None;
        exchange.ended();
        exchange.broke(error.and_then(blame::broken));
        if place::carrier(session).is_some_and(Carrier::lost_trailers)
            && let Some(arrival) = &exchange.arrival
        {
            arrival.service.metrics.mended(Fault::Trailers.word());
        }
        let seen = Seen {
            head: session.req_header(),
            target: session.req_header().raw_path(),
            bytes_in: session.body_bytes_read() as u64,
            bytes_out: session.body_bytes_sent() as u64,
            fault: error.map(blame::fault_of),
            cut: None,
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

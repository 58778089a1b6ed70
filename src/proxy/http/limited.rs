//! Limits and retries in the course of one request: asked by the hooks, decided in
//! [`crate::proxy::limit`] and [`super::retry`]. Knows nothing of the library that carries it.

use std::sync::Arc;

use http::request::Parts;

use super::exchange::Exchange;
use super::refusal::Refusal;
use super::retry::{self, Attempts, Failed, Sent, Verdict};
use crate::proxy::limit::body;
use crate::proxy::limit::metrics::{Outcome, Reason};
use crate::proxy::limit::{Admission, Retries};
use crate::proxy::route::Target;
use crate::proxy::upstream::tally::Trouble;

/// What is answered when a body is beyond `body_max`.
pub(super) const TOO_LARGE: Refusal = Refusal::new(413, "body", "the request's body is too large");

/// What is answered to trailers of a request: no endpoint would hear of them.
pub(super) const TRAILERS: Refusal =
    Refusal::new(501, "trailers", "trailers of requests are not carried");

/// What a request remembers of limits and retries.
#[derive(Debug, Default)]
pub(super) struct Limited {
    admission: Admission,
    retries: Option<Arc<Retries>>,
    /// Seconds that the client is told to wait before it comes again.
    pub(super) retry_after: Option<u64>,
    /// Further endpoints that it was sent to.
    made: u8,
    /// The next connection to this endpoint must be a new one.
    renewed: bool,
    /// The next attempt goes to another endpoint.
    pub(super) another: bool,
    /// The kept connection turned out to be closed, before anything was sent on it.
    pub(super) closed: bool,
    /// The answer was given up so that the request is sent again.
    pub(super) given_up: bool,
}

impl Exchange {
    /// Lets the request in, or says why not; first of all by what runs, then by rate. What is let
    /// in is counted until [`Self::ended`], or until it is dropped.
    pub(super) fn admit(&mut self) -> Result<(), Refusal> {
        let (Some(arrival), Some(route)) = (&self.arrival, &self.route) else { return Ok(()) };
        let table = arrival.service.current.load();
        let answered_here = matches!(route.target, Target::Respond(_));
        match table.limits().admit(&route.name, answered_here, || self.source()) {
            Ok(admission) => {
                self.limited.admission = admission;
                Ok(())
            }
            Err(beyond) => {
                arrival.service.metrics.limits.limited(beyond.reason);
                self.limited.retry_after = Some(beyond.retry_after);
                Err(refusal(beyond.reason))
            }
        }
    }

    /// Refuses a request whose body is said to be beyond the route's `body_max`.
    pub(super) fn fits(&self, request: &Parts) -> Result<(), Refusal> {
        let length = request.headers.get("content-length").map(http::HeaderValue::as_bytes);
        let max = self.route.as_ref().and_then(|route| route.config.body_max);
        if max.is_some_and(|max| body::declared_beyond(length, max.0)) {
            self.count_too_large();
            return Err(TOO_LARGE);
        }
        Ok(())
    }

    /// Whether a body of which so many bytes have come is beyond the route's `body_max`.
    pub(super) fn beyond_body(&self, bytes: usize) -> bool {
        let max = self.route.as_ref().and_then(|route| route.config.body_max);
        let beyond = max.is_some_and(|max| bytes as u64 > max.0);
        if beyond {
            self.count_too_large();
        }
        beyond
    }

    fn count_too_large(&self) {
        if let Some(arrival) = &self.arrival {
            arrival.service.metrics.limits.limited(Reason::Body);
        }
    }

    /// Counts a request that goes to a service, for the budget of its retries.
    pub(super) fn counted(&mut self, now_micros: u64) {
        let (Some(arrival), Some(wanted)) = (&self.arrival, self.wanted()) else { return };
        let table = arrival.service.current.load();
        let retries = table.retries(&wanted.service).cloned();
        if let Some(retries) = &retries {
            retries.budget.requested(second(now_micros));
        }
        self.limited.retries = retries;
    }

    /// Limits how fast the answer goes out, when the route says so; not what a tunnel carries.
    pub(super) fn pace(&self) {
        if let (Some(arrival), Some(route)) = (&self.arrival, &self.route)
            && let Some(rate) = route.config.limit_rate
            && self.status != 101
        {
            let after = route.config.limit_rate_after.map_or(0, |after| after.0);
            arrival.pace.set(rate.0, after);
        }
    }

    /// Whether the next connection has to be a new one.
    pub(super) const fn wants_renewal(&self) -> bool {
        self.limited.renewed
    }

    /// Notes an attempt that failed; true when the request is to be sent again, to another endpoint
    /// or by another connection.
    pub(super) fn again(&mut self, failed: Failed, sent: Sent, now_micros: u64) -> bool {
        let Some(retries) = self.limited.retries.clone() else {
            self.counts_failed(failed, Verdict::Tell);
            return false;
        };
        let here = self.endpoint.as_ref().map(|endpoint| endpoint.address);
        let (same, another) = self.left(here);
        let attempts = Attempts {
            made: self.limited.made,
            // An endpoint that the newest table does not have gets no new connection.
            renewed: self.limited.renewed || !same,
            another,
        };
        let budget = || retries.budget.take(second(now_micros), retries.config.budget.0);
        let (verdict, outcome) = retry::decide(failed, sent, attempts, &retries.config, budget);
        if let (Some(arrival), Some(outcome)) = (&self.arrival, outcome) {
            arrival.service.metrics.limits.failed(outcome);
            if outcome == Outcome::Connect {
                arrival.service.metrics.retries.inc();
            }
        }
        self.counts_failed(failed, verdict);
        match verdict {
            Verdict::Renew => self.limited.renewed = true,
            Verdict::Another => {
                self.limited.renewed = false;
                self.limited.made += 1;
                self.limited.another = true;
                self.tried.extend(here);
                self.work = None;
            }
            Verdict::Tell => return false,
        }
        self.answered = false;
        self.status = 0;
        true
    }

    /// Counts at the endpoint that an attempt there failed, and what follows.
    fn counts_failed(&self, failed: Failed, verdict: Verdict) {
        let Some(tally) = self.endpoint.as_ref().map(|endpoint| endpoint.tally()) else { return };
        match verdict {
            Verdict::Renew => tally.troubled(Trouble::Retried),
            Verdict::Another => tally.failed(true),
            Verdict::Tell if failed == Failed::Connect => tally.failed(false),
            // What is wrong with an answer is counted where it is told of the endpoint.
            Verdict::Tell => {}
        }
    }

    /// Whether the newest table still has `here`, and any endpoint that was not tried.
    fn left(&self, here: Option<std::net::SocketAddr>) -> (bool, bool) {
        let (Some(arrival), Some(wanted)) = (&self.arrival, self.wanted()) else {
            return (false, false);
        };
        let table = arrival.service.current.load();
        let Some(upstream) = table.upstream(wanted) else { return (false, false) };
        let is_here = |address| Some(address) == here;
        let untried = |address| !is_here(address) && !self.tried.contains(&address);
        let all = upstream.endpoints.iter().chain(&upstream.staying);
        let same = all.map(|endpoint| endpoint.address).any(is_here);
        (same, upstream.endpoints.iter().map(|endpoint| endpoint.address).any(untried))
    }

    /// The request has ended: it is counted out.
    pub(super) fn ended(&mut self) {
        self.limited.admission = Admission::default();
    }
}

const fn second(now_micros: u64) -> u64 {
    now_micros / 1_000_000
}

/// The answer to a request that is beyond a limit.
const fn refusal(reason: Reason) -> Refusal {
    match reason {
        Reason::Rate => Refusal::new(429, "rate", "there are too many requests; come again later"),
        Reason::Body => TOO_LARGE,
        Reason::Requests => Refusal::new(503, "requests", "too much is going on; come again"),
        Reason::RouteRequests => {
            Refusal::new(503, "route-requests", "too much is going on here; come again")
        }
        Reason::Memory => Refusal::new(503, "memory", "memory is short; come again"),
    }
}

//! What limits and retries count, by listener. Every handle is looked up when a listener starts.

use prometheus::{IntCounter, IntCounterVec, Registry};

use crate::telemetry::metrics::Register as _;

/// Why a request was not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// As many run as `[limits] requests` allows.
    Requests,
    /// As many run as the route's `requests_max` allows.
    RouteRequests,
    /// More memory is in use than `[limits] memory` allows.
    Memory,
    /// The route's `rate_limit`.
    Rate,
    /// The route's `body_max`.
    Body,
}

/// What became of an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody could be reached there: another endpoint is tried.
    Connect,
    /// A kept connection had been closed: a new one to the same endpoint is tried.
    Stale,
    /// The connection broke: another endpoint is tried.
    Reset,
    /// No answer in time: another endpoint is tried.
    Timeout,
    /// The answer was a status to try again on.
    Status,
    /// It would have been tried again, but the budget is spent.
    Spent,
    /// It would have been tried again, but so often or so many endpoints were.
    Exhausted,
    /// Something of it may have arrived, and twice would be wrong or is not possible.
    Unsafe,
}

const REASONS: [&str; 5] = ["requests", "route-requests", "memory", "rate", "body"];
const OUTCOMES: [&str; 8] =
    ["connect", "stale", "reset", "timeout", "status", "spent", "exhausted", "unsafe"];

/// The counters of all listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    limited: IntCounterVec,
    retries: IntCounterVec,
}

/// The counters of one listener.
#[derive(Debug, Clone)]
pub struct Counts {
    limited: [IntCounter; REASONS.len()],
    retries: [IntCounter; OUTCOMES.len()],
}

impl Metrics {
    /// Registers what limits and retries count.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            limited: registry.counter_vec(
                "portolan_proxy_limited_total",
                "HTTP requests that a limit kept from being carried, by listener and reason.",
                &["listener", "reason"],
            )?,
            retries: registry.counter_vec(
                "portolan_proxy_retries_total",
                "HTTP attempts that failed, by listener and what became of them.",
                &["listener", "result"],
            )?,
        })
    }

    /// The handles of one listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Counts {
        Counts {
            limited: REASONS.map(|reason| self.limited.with_label_values(&[name, reason])),
            retries: OUTCOMES.map(|result| self.retries.with_label_values(&[name, result])),
        }
    }
}

impl Counts {
    /// Counts a request that is not carried.
    pub fn limited(&self, reason: Reason) {
        self.limited[reason as usize].inc();
    }

    /// Counts an attempt that failed.
    pub fn failed(&self, outcome: Outcome) {
        self.retries[outcome as usize].inc();
    }
}

//! What the proxy saw of an endpoint: counters that data threads write and outlier detection reads.
//!
//! Counters only grow; whoever reads them keeps what it read before and looks at the difference.
//! Writing takes neither lock nor allocation, and only endpoints of services that want outlier
//! detection have one at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use serde::Deserialize;

use super::model::Instance;

/// How an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It could not be reached, or not in time.
    Connect,
    /// The connection broke before it was through, or what came back was no answer.
    Reset,
    /// It did not answer in time.
    Timeout,
    /// It answered with a status that counts as failure.
    Status,
}

impl Failure {
    /// Every kind, in the order of [`Totals::failures`].
    pub const ALL: [Self; 4] = [Self::Connect, Self::Reset, Self::Timeout, Self::Status];

    /// Its name in causes and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

/// Which answers count as failures of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum FailureStatus {
    /// 500 to 599 without 501 and 505, which are about the request (as HAProxy's `observe layer7`).
    #[default]
    #[serde(rename = "5xx")]
    Server,
    /// 502, 503 and 504 only: for applications whose 500 says nothing about their instance.
    #[serde(rename = "gateway")]
    Gateway,
}

impl FailureStatus {
    /// Whether an answer with `status` is a failure.
    #[must_use]
    pub const fn fails(self, status: u16) -> bool {
        match self {
            Self::Server => matches!(status, 500 | 502..=504 | 506..=599),
            Self::Gateway => matches!(status, 502..=504),
        }
    }
}

/// What one endpoint (registry, service, id, address, port) has shown.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Observed {
    successes: AtomicU64,
    failures: [AtomicU64; 4],
    answers: AtomicU64,
    latency_micros: AtomicU64,
    /// Failures since the last success.
    run: AtomicU32,
    /// The longest run since somebody looked.
    longest_run: AtomicU32,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests or connections that went well.
    pub successes: u64,
    /// Those that failed, in the order of [`Failure::ALL`].
    pub failures: [u64; 4],
    /// How many times are in `latency_micros`.
    pub answers: u64,
    /// Sum of the times to the head of an answer (HTTP) or to the connection (TCP).
    pub latency_micros: u64,
}

impl Observed {
    /// One more that went well. Never blocks.
    pub fn succeeded(&self) {
        self.successes.fetch_add(1, Relaxed);
        // Read first: in the usual case the line is not written a second time.
        if self.run.load(Relaxed) != 0 {
            self.run.store(0, Relaxed);
        }
    }

    /// One more that failed. Never blocks.
    pub fn failed(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Relaxed);
        let run = self.run.fetch_add(1, Relaxed).saturating_add(1);
        self.longest_run.fetch_max(run, Relaxed);
    }

    /// An answer came after `micros`. Never blocks.
    pub fn took(&self, micros: u64) {
        self.answers.fetch_add(1, Relaxed);
        self.latency_micros.fetch_add(micros, Relaxed);
    }

    /// All counters. Those of one request may be split between this look and the next.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            successes: self.successes.load(Relaxed),
            failures: std::array::from_fn(|kind| self.failures[kind].load(Relaxed)),
            answers: self.answers.load(Relaxed),
            latency_micros: self.latency_micros.load(Relaxed),
        }
    }

    /// The longest run of failures, without a success between, that grew since the last call; 0 when
    /// nothing failed since.
    #[must_use]
    pub fn take_run(&self) -> u32 {
        self.longest_run.swap(0, Relaxed)
    }

    /// Counts runs from nothing: for an endpoint that gets another chance.
    pub fn forget_run(&self) {
        self.run.store(0, Relaxed);
        self.longest_run.store(0, Relaxed);
    }
}

impl std::ops::Sub for Totals {
    type Output = Self;

    /// What came in between; counters that went back (a new endpoint) count as nothing.
    fn sub(self, before: Self) -> Self {
        Self {
            successes: self.successes.saturating_sub(before.successes),
            failures: std::array::from_fn(|kind| {
                self.failures[kind].saturating_sub(before.failures[kind])
            }),
            answers: self.answers.saturating_sub(before.answers),
            latency_micros: self.latency_micros.saturating_sub(before.latency_micros),
        }
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.successes += more.successes;
        for (sum, more) in self.failures.iter_mut().zip(more.failures) {
            *sum += more;
        }
        self.answers += more.answers;
        self.latency_micros += more.latency_micros;
    }
}

/// Calls back for each endpoint of the service that work can go to now, with its counters. An
/// instance comes once per port that is used.
pub type Sightings = Arc<dyn Fn(&str, &mut dyn FnMut(&Instance, &Arc<Observed>)) + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_seen_once_also_when_a_success_came_before_anybody_looked() {
        let observed = Observed::default();
        for _ in 0..3 {
            observed.failed(Failure::Connect);
        }
        observed.succeeded();
        observed.failed(Failure::Status);
        assert_eq!(observed.take_run(), 3);
        assert_eq!(observed.take_run(), 0, "nothing failed since");
        observed.failed(Failure::Reset);
        assert_eq!(observed.take_run(), 2, "a run goes on over a look");
        observed.forget_run();
        observed.failed(Failure::Reset);
        assert_eq!(observed.take_run(), 1);
        assert_eq!(observed.totals().failures, [3, 2, 0, 1]);
    }

    #[test]
    fn the_difference_of_two_looks_is_what_came_between() {
        let observed = Observed::default();
        observed.succeeded();
        observed.took(70);
        let before = observed.totals();
        observed.succeeded();
        observed.failed(Failure::Timeout);
        observed.took(30);
        let between = observed.totals() - before;
        let wanted =
            Totals { successes: 1, failures: [0, 0, 1, 0], answers: 1, latency_micros: 30 };
        assert_eq!(between, wanted);
        assert_eq!(Totals::default() - before, Totals::default());
    }

    #[test]
    fn which_answers_are_failures_is_a_choice() {
        for (status, server, gateway) in
            [(200, false, false), (404, false, false), (500, true, false), (501, false, false)]
                .into_iter()
                .chain([
                    (503, true, true),
                    (505, false, false),
                    (504, true, true),
                    (599, true, false),
                ])
        {
            assert_eq!(FailureStatus::Server.fails(status), server, "{status}");
            assert_eq!(FailureStatus::Gateway.fails(status), gateway, "{status}");
        }
    }
}

//! An endpoint: an address, its weight, and what it remembers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use super::tally::{Step, Tally};
use crate::catalog::Instance;
use crate::catalog::observed::{Failure, FailureStatus, Observed};
use crate::proxy::cut;
use crate::proxy::out::Way;
use crate::proxy::queue::Queue;

/// How fast a latency peak is forgotten: after this long, about a third of it is left.
const DECAY_MICROS: f64 = 10_000_000.0;
/// How fast a failed connect is forgotten: after each such time half of it is left.
const CONNECT_DECAY_MICROS: f64 = 1_000_000.0;
/// What an endpoint is taken for before it has answered once.
const UNKNOWN_LATENCY_MICROS: u64 = 1000;
/// Share of its weight that counts when a slow start begins.
pub const FIRST_SHARE: f64 = 0.1;

/// Where work goes: an address, its weight, and the load that outlives every snapshot.
#[derive(Debug)]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// Share of the work beside its siblings, 1 to 1000.
    pub weight: u16,
    /// The instance behind it, for logs, metrics and identity.
    pub instance: Arc<Instance>,
    pub(super) load: Arc<Load>,
    pub(super) watched: Option<Watched>,
    /// Its slow start, when it came while others were there.
    pub(super) warming: Option<Warming>,
    /// Most work at once, over all workers.
    pub(super) max: Option<u32>,
    /// How it is reached.
    pub way: Arc<Way>,
}

/// What outlier detection gets to see of an endpoint.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) observed: Arc<Observed>,
    pub(super) statuses: FailureStatus,
}

/// A slow start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Warming {
    pub(super) since_micros: u64,
    pub(super) length_micros: u64,
}

/// What an endpoint remembers. It belongs to the endpoint's identity (registry, service, id,
/// address, port), so that a new snapshot neither forgets who is busy nor who is slow.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Load {
    in_flight: AtomicU32,
    latency_micros: AtomicU64,
    observed_micros: AtomicU64,
    /// What the last failed connect counts for, and when it was; 0: it was connected to since.
    unreachable_micros: AtomicU64,
    unreachable_since_micros: AtomicU64,
    /// Who waits for a place here, once the work at endpoints was limited.
    pub(super) queue: OnceLock<Arc<Queue>>,
    /// Whether what runs there has had its time.
    pub(in crate::proxy) cut: cut::Mark,
    tally: Tally,
}

/// One piece of work at an endpoint; dropping it ends the work.
#[derive(Debug)]
pub struct Work(Arc<Load>);

impl Warming {
    pub(super) const fn end(&self) -> u64 {
        self.since_micros.saturating_add(self.length_micros)
    }
}

impl Endpoint {
    /// Counts one piece of work in until the returned value is dropped, however many run.
    #[must_use]
    pub fn begin(&self) -> Work {
        let running = self.load.in_flight.fetch_add(1, Relaxed) + 1;
        self.work(running)
    }

    /// The same, unless as many run as may (`max_connections`).
    #[must_use]
    pub fn try_begin(&self) -> Option<Work> {
        let Some(max) = self.max else { return Some(self.begin()) };
        let room = |running| (running < max).then_some(running + 1);
        let taken = self.load.in_flight.fetch_update(SeqCst, SeqCst, room);
        taken.ok().map(|running| self.work(running + 1))
    }

    fn work(&self, running: u32) -> Work {
        self.load.tally.began(running);
        cut::tie(&self.load);
        Work(Arc::clone(&self.load))
    }

    /// Most work at once, if that is limited.
    #[must_use]
    pub const fn limit(&self) -> Option<u32> {
        self.max
    }

    /// What it counts.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.load.tally
    }

    /// What it remembers; the same allocation for as long as it is the same endpoint.
    #[must_use]
    pub const fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Whether what runs there has had its time, and is being cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.load.cut.reason().is_some()
    }

    /// The latency peak that was noted last, for people; none before it has answered once.
    #[must_use]
    pub fn remembered_micros(&self) -> Option<u64> {
        Some(self.load.latency_micros.load(Relaxed)).filter(|micros| *micros > 0)
    }

    /// How much work runs now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Relaxed)
    }

    /// Share of its weight that counts now, above 0 to 1: below 1 in its slow start, in which it
    /// rises in proportion to time.
    #[must_use]
    pub fn share(&self, now_micros: u64) -> f64 {
        let Some(Warming { since_micros, length_micros }) = self.warming else { return 1.0 };
        let passed = now_micros.saturating_sub(since_micros);
        if passed >= length_micros {
            return 1.0;
        }
        (passed as f64 / length_micros as f64).mul_add(1.0 - FIRST_SHARE, FIRST_SHARE)
    }

    /// The weight that counts now, slow start included.
    #[must_use]
    pub fn effective_weight(&self, now_micros: u64) -> f64 {
        f64::from(self.weight.max(1)) * self.share(now_micros)
    }

    /// Notes that an answer took `latency_micros`, at `now_micros`: a peak counts at once, what
    /// is below it wears the peak down with time.
    pub fn observe(&self, latency_micros: u64, now_micros: u64) {
        self.reached();
        let worn = self.peak(now_micros);
        let next = if latency_micros as f64 >= worn {
            latency_micros as f64
        } else {
            let keep = self.keep(now_micros);
            worn.mul_add(keep, latency_micros as f64 * (1.0 - keep)).max(latency_micros as f64)
        };
        self.load.latency_micros.store(next as u64, Relaxed);
        self.load.observed_micros.store(now_micros, Relaxed);
    }

    /// What is counted of it, when its service is watched.
    #[must_use]
    pub fn observed(&self) -> Option<&Arc<Observed>> {
        self.watched.as_ref().map(|watched| &watched.observed)
    }

    /// An answer with `status` came after `latency_micros`, at `now_micros`. Never blocks.
    pub fn answered(&self, status: u16, latency_micros: u64, now_micros: u64) {
        self.observe(latency_micros, now_micros);
        self.load.tally.answered(status);
        self.load.tally.took(Step::Response, latency_micros);
        let Some(Watched { observed, statuses }) = &self.watched else { return };
        observed.took(latency_micros);
        if statuses.fails(status) {
            observed.failed(Failure::Status);
        } else {
            observed.succeeded();
        }
    }

    /// A connection was there after `latency_micros`; what becomes of it is told later.
    pub fn connected(&self, latency_micros: u64) {
        self.reached();
        self.load.tally.connected(false);
        self.load.tally.took(Step::Connect, latency_micros);
        if let Some(watched) = &self.watched {
            watched.observed.took(latency_micros);
        }
    }

    /// A connection was of use.
    pub fn succeeded(&self) {
        if let Some(watched) = &self.watched {
            watched.observed.succeeded();
        }
    }

    /// It failed. Never blocks.
    pub fn failed(&self, failure: Failure) {
        if let Some(watched) = &self.watched {
            watched.observed.failed(failure);
        }
    }

    /// It could not be connected to, at `now_micros`. To whoever picks by latency it is as slow as
    /// `cost_micros` from now on (what a connect may take at most: that this one was refused at once
    /// does not make the endpoint a fast one). Half of that is forgotten in a second, so that it is
    /// tried again after some ten, and all of it at the first answer. Never blocks.
    pub fn unreachable(&self, cost_micros: u64, now_micros: u64) {
        self.load.unreachable_since_micros.store(now_micros, Relaxed);
        self.load.unreachable_micros.store(cost_micros, Relaxed);
        self.failed(Failure::Connect);
    }

    fn reached(&self) {
        // Read first: nearly always there is nothing to forget, and nothing is written then.
        if self.load.unreachable_micros.load(Relaxed) > 0 {
            self.load.unreachable_micros.store(0, Relaxed);
        }
    }

    /// What one more piece of work would cost here, in microseconds per weight.
    #[must_use]
    pub fn cost(&self, now_micros: u64) -> f64 {
        let waiting = f64::from(self.in_flight()) + 1.0;
        self.latency(now_micros) * waiting / f64::from(self.weight.max(1))
    }

    /// Share of the remembered peak that is left at `now_micros`.
    fn keep(&self, now_micros: u64) -> f64 {
        let age = now_micros.saturating_sub(self.load.observed_micros.load(Relaxed));
        (-(age as f64) / DECAY_MICROS).exp()
    }

    /// The peak of its latencies, or of a failed connect, worn down with time, in microseconds.
    #[must_use]
    pub fn latency(&self, now_micros: u64) -> f64 {
        let peak = self.peak(now_micros);
        match self.load.unreachable_micros.load(Relaxed) {
            0 => peak,
            cost => {
                let since = self.load.unreachable_since_micros.load(Relaxed);
                let age = now_micros.saturating_sub(since) as f64 / CONNECT_DECAY_MICROS;
                peak.max(cost as f64 * (-age).exp2())
            }
        }
    }

    fn peak(&self, now_micros: u64) -> f64 {
        match self.load.latency_micros.load(Relaxed) {
            // Tried by one request, for it could be the fastest: at a guess it would stay unknown for
            // ever among others that are faster than that. By no more: one that breaks off whatever it
            // is asked would be the cheapest each time.
            0 if self.load.tally.untouched() => 0.0,
            0 => UNKNOWN_LATENCY_MICROS as f64,
            peak => (peak as f64 * self.keep(now_micros)).max(1.0),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        cut::untie(&self.0);
        let Some(queue) = self.0.queue.get() else {
            self.0.in_flight.fetch_sub(1, Relaxed);
            return;
        };
        // Free first, then look who waits: who waits stands in line first, and looks then.
        self.0.in_flight.fetch_sub(1, SeqCst);
        queue.call();
    }
}

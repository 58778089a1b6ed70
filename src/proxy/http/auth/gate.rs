//! Lets in who brings a good password, and remembers what was good and what was not.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use prometheus::{IntCounter, Registry};
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::{Users, credentials};
use crate::proxy::http::refusal::Refusal;
use crate::proxy::sticky::store::random;
use crate::telemetry::metrics::Register as _;

/// Verdicts that one worker remembers, twice: those of late, and those before.
const REMEMBERED: usize = 4096;
/// Requests of one worker that wait for a verdict.
const WAITING_MAX: usize = 64;

const UNKNOWN: Refusal = Refusal::new(401, "auth", "name and password are asked for here");
const BUSY: Refusal = Refusal::new(503, "auth-busy", "too many passwords are being verified");

/// What the gates of all workers share: how many passwords are verified at once, and the key of marks.
#[derive(Clone)]
pub struct Verifying {
    places: Arc<Semaphore>,
    key: [u8; 32],
}

impl Verifying {
    /// One place for four cores, at least one.
    ///
    /// # Errors
    /// The system has no randomness for a key.
    pub fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { places: Arc::new(Semaphore::new(cores.div_ceil(4))), key: random()? })
    }
}

impl fmt::Debug for Verifying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifying").field("places", &self.places).finish_non_exhaustive()
    }
}

/// What becomes of those who are asked.
#[derive(Debug, Clone)]
pub struct AuthMetrics([IntCounter; RESULTS.len()]);

#[derive(Debug, Clone, Copy)]
enum Verdict {
    Good,
    Remembered,
    Missing,
    Wrong,
    Busy,
}

const RESULTS: [&str; 5] = ["verified", "remembered", "missing", "wrong", "busy"];

impl AuthMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = "portolan_proxy_auth_total";
        let help = "Requests of routes that ask for name and password, by what became of it.";
        let counter = registry.counter_vec(name, help, &["result"])?;
        Ok(Self(RESULTS.map(|result| counter.with_label_values(&[result]))))
    }

    fn count(&self, verdict: Verdict) {
        self.0[verdict as usize].inc();
    }
}

type Mark = [u8; 16];

/// Verdicts by marks of what was brought; forgets the older half when it is full.
#[derive(Debug, Default)]
struct Memory {
    late: HashMap<Mark, bool>,
    before: HashMap<Mark, bool>,
}

impl Memory {
    fn recall(&mut self, mark: &Mark) -> Option<bool> {
        if let Some(good) = self.late.get(mark) {
            return Some(*good);
        }
        let good = self.before.remove(mark)?;
        self.note(*mark, good);
        Some(good)
    }

    fn note(&mut self, mark: Mark, good: bool) {
        if self.late.len() >= REMEMBERED {
            self.before = std::mem::take(&mut self.late);
        }
        self.late.insert(mark, good);
    }
}

/// The gate of one worker. Only that worker asks, so that the lock of its memory is always free.
pub struct Gate {
    key: Hmac<Sha256>,
    memory: Mutex<Memory>,
    verifying: Verifying,
    waiting: AtomicUsize,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// One that waits; dropping it counts it out.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Gate {
    /// A gate that remembers nothing yet.
    #[must_use]
    pub fn new(verifying: Verifying) -> Self {
        let key = match Hmac::<Sha256>::new_from_slice(&verifying.key) {
            Ok(key) => key,
            // A key of any length is one.
            Err(_) => Hmac::<Sha256>::new(&hmac::digest::Key::<Hmac<Sha256>>::default()),
        };
        Self { key, memory: Mutex::default(), verifying, waiting: AtomicUsize::new(0) }
    }

    /// Returns once it is known that the request with these `headers` comes from one of `users`.
    ///
    /// # Errors
    /// It does not (401), or too many wait to be known (503).
    pub async fn admit(
        &self,
        users: &Users,
        headers: &HeaderMap,
        metrics: &AuthMetrics,
    ) -> Result<(), Refusal> {
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let brought = lines.next().filter(|_| lines.next().is_none()).and_then(credentials);
        let Some((name, password)) = brought else {
            metrics.count(Verdict::Missing);
            return Err(UNKNOWN);
        };
        let (hash, own) = users.hash(&name);
        let mark = self.mark(hash.bytes(), name.as_bytes(), &password);
        if let Some(good) = self.recall(&mark) {
            return told(good, Verdict::Remembered, metrics);
        }
        if self.waiting.fetch_add(1, Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Relaxed);
            metrics.count(Verdict::Busy);
            return Err(BUSY);
        }
        let _waiting = Waiting(&self.waiting);
        let Ok(permit) = Arc::clone(&self.verifying.places).acquire_owned().await else {
            return Err(BUSY);
        };
        // Whoever was before may have brought the same.
        if let Some(good) = self.recall(&mark) {
            return told(good, Verdict::Remembered, metrics);
        }
        let hash = Arc::clone(hash);
        let verified = tokio::task::spawn_blocking(move || {
            let good = hash.verify(&password);
            // Who asked may be gone by now: the thread counts as long as it reckons.
            drop(permit);
            good
        });
        let good = verified.await.unwrap_or(false) && own;
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).note(mark, good);
        told(good, Verdict::Good, metrics)
    }

    fn recall(&self, mark: &Mark) -> Option<bool> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).recall(mark)
    }

    /// A keyed hash of what is stored and what was brought, each behind its length.
    fn mark(&self, stored: &[u8], name: &[u8], password: &[u8]) -> Mark {
        let mut mac = self.key.clone();
        for part in [stored, name, password] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let whole = mac.finalize().into_bytes();
        let mut mark = Mark::default();
        mark.copy_from_slice(&whole[..16]);
        mark
    }
}

fn told(good: bool, by: Verdict, metrics: &AuthMetrics) -> Result<(), Refusal> {
    metrics.count(if good { by } else { Verdict::Wrong });
    if good { Ok(()) } else { Err(UNKNOWN) }
}

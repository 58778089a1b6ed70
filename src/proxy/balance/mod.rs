//! Policies: who of the eligible endpoints gets the next piece of work.
//!
//! A policy is one file here and one line in [`POLICIES`]. It sees endpoints and a key, never a
//! connection; what it has to remember between two compiles of the same upstream it keeps in
//! [`Load`](super::upstream::Load) or in [`Shared`].

pub mod hash;
pub mod least_connections;
pub mod maglev;
pub mod p2c;
pub mod random;
pub mod ring_hash;
pub mod round_robin;
#[cfg(test)]
pub(crate) mod simulation;
pub mod weights;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::upstream::Endpoint;
use hash::mix;

/// What a pick may go by, besides the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickKey {
    /// Fresh random bits.
    pub random: u64,
    /// Microseconds on the process's own clock.
    pub now_micros: u64,
    /// The same for work that belongs together; random where nothing tells.
    pub hash: u64,
}

impl PickKey {
    /// A key for work that belongs with no other.
    #[must_use]
    pub const fn new(random: u64, now_micros: u64) -> Self {
        Self { random, now_micros, hash: mix(random) }
    }

    /// The same, for work that belongs together with all of this hash.
    #[must_use]
    pub const fn with_hash(self, hash: u64) -> Self {
        Self { hash, ..self }
    }

    /// The key for another try: other random bits, and of each hash the same other one.
    #[must_use]
    pub const fn again(self) -> Self {
        Self { random: mix(self.random), hash: mix(self.hash), ..self }
    }
}

/// What outlives a compile: the position of an upstream among its own picks.
pub type Shared = Arc<AtomicU64>;

/// Picks among endpoints. Called per request or connection: never blocks, never allocates.
pub trait Policy: Send + Sync + std::fmt::Debug {
    /// Index into `endpoints`, or `None` when there is none. They are the ones that the policy was
    /// built for, or others of the same addresses and weights.
    fn pick(&self, endpoints: &[Arc<Endpoint>], key: PickKey) -> Option<usize>;

    /// Whether it goes by [`PickKey::hash`], so that `hash_on` means something.
    fn by_hash(&self) -> bool {
        false
    }

    /// Whether it goes by [`Endpoint::share`] itself. For others a pick that falls on an endpoint
    /// in its slow start counts with that chance only.
    fn warms(&self) -> bool {
        false
    }
}

/// Builds a policy for one upstream.
pub type Build = fn(&[Arc<Endpoint>], Shared) -> Box<dyn Policy>;

/// Every policy by the name that users write; the first one is the default.
pub const POLICIES: &[(&str, Build)] = &[
    ("p2c", p2c::PowerOfTwo::build),
    ("round-robin", round_robin::RoundRobin::build),
    ("least-connections", least_connections::LeastConnections::build),
    ("random", random::Random::build),
    ("maglev", maglev::Maglev::build),
    ("ring-hash", ring_hash::RingHash::build),
];

/// The policy called `name`.
///
/// # Errors
/// Names the value and all that are known.
pub fn policy(name: &str) -> Result<Build, String> {
    POLICIES.iter().find(|(known, _)| *known == name).map(|(_, build)| *build).ok_or_else(|| {
        let known: Vec<&str> = POLICIES.iter().map(|(known, _)| *known).collect();
        format!("unknown policy {name:?}; known are {}", known.join(", "))
    })
}

//! Policies: who of the eligible endpoints gets the next piece of work.
//!
//! A policy is one file here and one line in [`POLICIES`]. It sees endpoints and a key, never a
//! connection; what it has to remember between two compiles of the same upstream it keeps in
//! [`Load`](super::upstream::Load) or in [`Shared`].

pub mod p2c;
pub mod round_robin;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::upstream::Endpoint;

/// What a pick may go by, besides the endpoints.
#[derive(Debug, Clone, Copy)]
pub struct PickKey {
    /// Fresh random bits.
    pub random: u64,
    /// Microseconds on the process's own clock.
    pub now_micros: u64,
}

/// What outlives a compile: the position of an upstream among its own picks.
pub type Shared = Arc<AtomicU64>;

/// Picks among endpoints. Called per request or connection: never blocks, never allocates.
pub trait Policy: Send + Sync + std::fmt::Debug {
    /// Index into `endpoints`, or `None` when there is none.
    fn pick(&self, endpoints: &[Arc<Endpoint>], key: PickKey) -> Option<usize>;
}

/// Builds a policy for one upstream.
pub type Build = fn(&[Arc<Endpoint>], Shared) -> Box<dyn Policy>;

/// Every policy by the name that users write; the first one is the default.
pub const POLICIES: &[(&str, Build)] =
    &[("p2c", p2c::PowerOfTwo::build), ("round-robin", round_robin::RoundRobin::build)];

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

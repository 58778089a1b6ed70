//! Limits of routes and of endpoints, as users write them.

use serde::Deserialize;

use crate::units::{Period, Share};

/// `rate_limit = { requests = 100, per = "1s", burst = 50, by = "client" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// So many requests …
    pub requests: u32,
    /// … in so long.
    #[serde(default = "one_second")]
    pub per: Period,
    /// So many more at once before the rate counts.
    #[serde(default)]
    pub burst: u32,
    /// Whose requests are counted together.
    #[serde(default)]
    pub by: RateBy,
}

/// Whose requests a rate limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateBy {
    /// Those of one client address (IPv6: of one /64).
    #[default]
    Client,
    /// All of the route.
    Route,
}

const fn one_second() -> Period {
    Period::from_secs(1)
}

/// `queue = { size = 100, timeout = "1s" }`: who waits while every endpoint is full.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Requests or connections that may wait; beyond it 503 at once.
    pub size: u32,
    /// How long one waits; then 503.
    pub timeout: Period,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { size: 100, timeout: Period::from_secs(1) }
    }
}

/// `retries = { attempts = 2, budget = "20%", on = ["connect", "reset"] }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Further endpoints that one request may be sent to.
    pub attempts: u8,
    /// Retries in relation to requests, beyond ten in a second.
    pub budget: Share,
    /// After which failures.
    pub on: Vec<RetryOn>,
}

/// A failure after which a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RetryOn {
    /// No connection to the endpoint.
    #[serde(rename = "connect")]
    Connect,
    /// The connection broke before an answer.
    #[serde(rename = "reset")]
    Reset,
    /// No answer in time.
    #[serde(rename = "timeout")]
    Timeout,
    /// The endpoint answered 502.
    #[serde(rename = "502")]
    BadGateway,
    /// The endpoint answered 503.
    #[serde(rename = "503")]
    Unavailable,
    /// The endpoint answered 504.
    #[serde(rename = "504")]
    GatewayTimeout,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { attempts: 2, budget: Share(0.2), on: vec![RetryOn::Connect, RetryOn::Reset] }
    }
}

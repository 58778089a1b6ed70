//! What users write about operations.

use std::path::PathBuf;

use serde::Deserialize;

use crate::net::post::Target;
use crate::units::{Period, Size};

/// `[operations]`: drain, maintenance and weight by API and command line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperationsConfig {
    /// How many there may be at a time.
    pub max: u32,
    /// How long an instance has to be gone from its registry before what was said of it is
    /// forgotten. What is said of a node stays.
    pub forget: Period,
    /// Where each change is noted, a line of JSON each; none: `audit.jsonl` in `[node] data_dir`.
    pub audit_log: Option<PathBuf>,
    /// A log that would grow above it is renamed to `….1`, in place of the one before.
    pub audit_max: Size,
    /// Who is told when an instance is drained.
    pub webhook: Option<WebhookConfig>,
}

impl Default for OperationsConfig {
    fn default() -> Self {
        Self {
            max: 10_000,
            forget: Period::from_secs(3600),
            audit_log: None,
            audit_max: Size(16 << 20),
            webhook: None,
        }
    }
}

/// `[operations.webhook]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where the event is posted to as JSON: a URL of `http` or `https`.
    pub url: String,
    /// A file of header lines that go with it: a token, say. Read for each try.
    pub headers: Option<PathBuf>,
    /// How long one try may take.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// The longest pause before the second try; each later one is up to twice as long.
    #[serde(default = "retry_min")]
    pub retry_min: Period,
    /// The longest pause before any try.
    #[serde(default = "retry_max")]
    pub retry_max: Period,
    /// How long an event is tried before it is given up.
    #[serde(default = "give_up")]
    pub give_up: Period,
    /// Events that are told at a time; more are dropped, logged and counted.
    #[serde(default = "pending")]
    pub pending: u32,
}

const fn timeout() -> Period {
    Period::from_secs(5)
}

const fn retry_min() -> Period {
    Period::from_secs(1)
}

const fn retry_max() -> Period {
    Period::from_secs(60)
}

const fn give_up() -> Period {
    Period::from_secs(3600)
}

const fn pending() -> u32 {
    1000
}

impl OperationsConfig {
    /// What can't be, with the keys that lead there.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static [&'static str], String)> {
        let webhook = self.webhook.as_ref()?;
        if let Err(message) = Target::parse(&webhook.url) {
            return Some((&["webhook", "url"], message));
        }
        if webhook.timeout.0.is_zero() {
            return Some((&["webhook", "timeout"], "timeout is 0".to_owned()));
        }
        if webhook.retry_min.0.is_zero() {
            return Some((&["webhook", "retry_min"], "retry_min is 0".to_owned()));
        }
        if webhook.pending == 0 {
            let message = "pending = 0 would never tell an event".to_owned();
            return Some((&["webhook", "pending"], message));
        }
        None
    }
}

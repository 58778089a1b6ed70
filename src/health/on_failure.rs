//! `[service.NAME] on_failure`: when somebody is told about an unhealthy instance, and how.

use std::path::PathBuf;

use serde::Deserialize;

use crate::net::post::Target;
use crate::units::Period;

/// `[service.NAME] on_failure`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnFailureConfig {
    /// When an event is told.
    pub strategy: Strategy,
    /// With `recreate-on-quorum`: how many others have to be healthy.
    pub quorum: u32,
    /// How long an instance has to be unhealthy without a break.
    pub after: Period,
    /// Where the event is posted to as JSON: a URL of `http` or `https`.
    pub webhook: Option<String>,
    /// A file of header lines that go with the webhook: a token, say. Read for each try.
    pub webhook_headers: Option<PathBuf>,
    /// What is run by a shell, with the event in its environment.
    pub command: Option<String>,
    /// How long one try may take.
    pub timeout: Period,
    /// The longest pause before the second try; each later one is up to twice as long.
    pub retry_min: Period,
    /// The longest pause before any try.
    pub retry_max: Period,
    /// How long an event is tried before it is given up.
    pub give_up: Period,
    /// Events that are tried at a time; others wait until one of them is through.
    pub pending: u32,
}

impl Default for OnFailureConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::None,
            quorum: 1,
            after: Period::from_secs(0),
            webhook: None,
            webhook_headers: None,
            command: None,
            timeout: Period::from_secs(10),
            retry_min: Period::from_secs(1),
            retry_max: Period::from_secs(60),
            give_up: Period::from_secs(3600),
            pending: 16,
        }
    }
}

/// When an event is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Never.
    #[default]
    None,
    /// For each instance that turns unhealthy.
    Recreate,
    /// For each one, once `quorum` others are healthy.
    RecreateOnQuorum,
}

impl OnFailureConfig {
    /// What can't be, with what to write.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let to_nobody = self.webhook.is_none() && self.command.is_none();
        if self.strategy != Strategy::None && to_nobody {
            let message = "tells nobody; add webhook = \"http://…\" or command = \"…\"";
            return Some(("strategy", message.to_owned()));
        }
        if let Some(Err(message)) = self.webhook.as_deref().map(Target::parse) {
            return Some(("webhook", message));
        }
        if self.webhook_headers.is_some() && self.webhook.is_none() {
            return Some(("webhook_headers", "has no webhook to go with".to_owned()));
        }
        if self.strategy == Strategy::RecreateOnQuorum && self.quorum == 0 {
            return Some(("quorum", "quorum = 0 is what strategy = \"recreate\" does".to_owned()));
        }
        if self.pending == 0 {
            return Some(("pending", "pending = 0 would never tell an event".to_owned()));
        }
        for (key, period) in [("timeout", self.timeout), ("retry_min", self.retry_min)] {
            if period.0.is_zero() {
                return Some((key, format!("{key} is 0")));
            }
        }
        None
    }
}

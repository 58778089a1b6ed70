//! How work is spread over the endpoints of one service, compiled from `[service.NAME]`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::catalog::observed::FailureStatus;
use crate::proxy::balance::{self, Build, POLICIES, Shared};
use crate::proxy::config::{QueueConfig, ServiceBalance};
use crate::proxy::hash_on::HashOn;
use crate::proxy::out::Way;
use crate::units::Share;

/// What counts for the endpoints of one service.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(super) build: Build,
    /// What the policy hashes, when it does.
    pub(super) hash_on: Option<HashOn>,
    /// Length of a slow start; 0: none.
    pub(super) slow_start_micros: u64,
    /// Most work at one endpoint.
    pub(super) max: Option<u32>,
    /// Who may wait for it.
    pub queue: QueueConfig,
    /// Idle connections that a worker keeps.
    pub keep_alive: Option<u32>,
    /// Share of near endpoints that keeps all work near.
    pub(super) near: Option<Share>,
    /// Where this process is.
    pub(super) locality: Option<Arc<str>>,
    /// Which answers are failures, when endpoints are watched.
    pub(super) watch: Option<FailureStatus>,
    /// How endpoints are reached.
    pub(super) way: Arc<Way>,
}

impl Default for Rules {
    fn default() -> Self {
        Self::of(POLICIES[0].1)
    }
}

impl Rules {
    /// A policy, and all else by default.
    #[must_use]
    pub fn of(build: Build) -> Self {
        Self {
            build,
            hash_on: None,
            slow_start_micros: 0,
            max: None,
            queue: QueueConfig::default(),
            keep_alive: None,
            near: None,
            locality: None,
            watch: None,
            way: Arc::default(),
        }
    }

    /// Those of a service.
    ///
    /// # Errors
    /// Each key that can't be, with what is wrong and what to write.
    pub fn compile(config: &ServiceBalance) -> Result<Self, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let mut rules = Self::default();
        if let Some(name) = &config.policy {
            match balance::policy(name) {
                Ok(build) => rules.build = build,
                Err(message) => problems.push(("policy", message)),
            }
        }
        let by_hash = (rules.build)(&[], Shared::default()).by_hash();
        rules.hash_on = by_hash.then_some(HashOn::Source);
        match config.hash_on.as_deref().map(HashOn::parse) {
            Some(Ok(_)) if !by_hash && problems.is_empty() => {
                let message = "means something with policy = \"maglev\" or \"ring-hash\" only; \
                               choose one of them, or leave it out";
                problems.push(("hash_on", message.into()));
            }
            Some(Ok(hash_on)) => rules.hash_on = Some(hash_on),
            Some(Err(message)) => problems.push(("hash_on", message)),
            None => {}
        }
        if config.max_connections == Some(0) {
            let message = "max_connections = 0 would let nothing through; \
                           leave it out for no limit, or use `weight` or a drain for no new work";
            problems.push(("max_connections", message.into()));
        }
        let micros = |period: crate::units::Period| period.0.as_micros() as u64;
        rules.slow_start_micros = config.slow_start.map_or(0, micros);
        rules.max = config.max_connections;
        rules.queue = config.queue.clone();
        rules.keep_alive = config.keep_alive;
        rules.near = config.near;
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }

    /// With endpoints watched for outliers, and which of their answers are failures.
    #[must_use]
    pub fn watching(mut self, statuses: Option<FailureStatus>) -> Self {
        self.watch = statuses;
        self
    }

    /// With endpoints that are reached by `way`.
    #[must_use]
    pub fn by(mut self, way: Arc<Way>) -> Self {
        self.way = way;
        self
    }

    /// Seen, placed and reached as `other` has it.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        self.watch = other.watch;
        self.locality.clone_from(&other.locality);
        self.way = Arc::clone(&other.way);
        self
    }

    /// How endpoints are reached.
    #[must_use]
    pub const fn way(&self) -> &Arc<Way> {
        &self.way
    }

    /// In a process that is there.
    #[must_use]
    pub fn at(mut self, locality: Option<Arc<str>>) -> Self {
        self.locality = locality;
        self
    }

    /// The hash of a request, or of a connection without one, when the policy goes by hashes;
    /// `None` when there is nothing to hash.
    #[must_use]
    pub fn hash(&self, source: IpAddr, request: Option<&http::request::Parts>) -> Option<u64> {
        self.hash_on.as_ref()?.of(source, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_are_refused_with_the_reason() {
        let config = |policy: &str, hash_on: &str, max| ServiceBalance {
            policy: Some(policy.into()),
            hash_on: Some(hash_on.to_owned()).filter(|text| !text.is_empty()),
            max_connections: max,
            ..ServiceBalance::default()
        };
        for (case, config, key, want) in [
            ("policy", config("fastest", "", None), "policy", "known are p2c, round-robin"),
            ("no hash", config("p2c", "path", None), "hash_on", "\"maglev\" or \"ring-hash\" only"),
            ("hash", config("maglev", "query", None), "hash_on", "header:NAME"),
            ("header", config("maglev", "header:a b", None), "hash_on", "header:NAME"),
            ("nothing", config("random", "", Some(0)), "max_connections", "nothing through"),
        ] {
            let problems = Rules::compile(&config).unwrap_err();
            assert_eq!(problems[0].0, key, "{case}");
            assert!(problems[0].1.contains(want), "{case}: {problems:?}");
        }
        assert!(Rules::compile(&config("ring-hash", "cookie:id", Some(1))).is_ok());
    }
}

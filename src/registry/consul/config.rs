//! `[registry.NAME.consul]`: its keys, their defaults and limits.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::catalog::stale::WhenStale;
use crate::net::http::Origin;
use crate::registry::defaults::{
    one_hundred_thousand, sixty_four_mebibytes, ten_seconds, two_seconds, yes,
};
use crate::registry::secret::Secret;
use crate::units::{Period, Size};

/// `[registry.NAME.consul]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulConfig {
    /// URL of the agent; `http://127.0.0.1:8500` when neither this nor `addresses` is given.
    pub address: Option<Origin>,
    /// URLs of further agents, tried in turn when the one before cannot be reached.
    #[serde(default)]
    pub addresses: Vec<Origin>,
    /// Datacenter to ask for; none: the agent's own.
    pub datacenter: Option<String>,
    /// Namespace to ask for (Consul Enterprise).
    pub namespace: Option<String>,
    /// Partition to ask for (Consul Enterprise).
    pub partition: Option<String>,
    /// ACL token. `token_file` is better: it is no part of the configuration.
    pub token: Option<Secret>,
    /// File with the ACL token, read again when it changes and when the agent refuses the token.
    pub token_file: Option<PathBuf>,
    /// User name for a proxy before the agent that asks for one (RFC 7617).
    pub username: Option<String>,
    /// Password of that user.
    pub password: Option<Secret>,
    /// Only instances that bear all of these count.
    #[serde(default)]
    pub tags: Vec<Arc<str>>,
    /// Which tagged address of an instance to use, `wan` for one, instead of its plain one.
    pub address_tag: Option<String>,
    /// Prefixes of the key-value store that are always read, beside those that somebody wants.
    #[serde(default)]
    pub keys: Vec<Arc<str>>,
    /// Who wins for the same instance id in two registries: the higher one.
    #[serde(default)]
    pub priority: i32,
    /// Whether the process is not ready before it was heard once.
    #[serde(default = "yes")]
    pub required: bool,
    /// After so long without contact `when_stale` applies; none: never.
    pub max_stale: Option<Period>,
    /// What happens then.
    #[serde(default)]
    pub when_stale: WhenStale,
    /// PEM file with the authorities to trust, or a directory of such files, instead of those of
    /// the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of our certificate.
    pub key_file: Option<PathBuf>,
    /// Name that the agent's certificate must bear, when it is not the host of the address.
    pub server_name: Option<String>,
    /// Whether the agent's certificate is looked at. Without that, anybody on the way can pose as
    /// the agent.
    #[serde(default = "yes")]
    pub verify: bool,
    /// Longest time that a question may park at the agent; Consul takes at most 10 minutes.
    #[serde(default = "five_minutes")]
    pub wait: Period,
    /// Time for an answer that need not park, and beyond the time that one may.
    #[serde(default = "ten_seconds")]
    pub timeout: Period,
    /// Longest silence within an answer, and longest time of silence before the agent is asked
    /// whether it is still there.
    #[serde(default = "ten_seconds")]
    pub heartbeat: Period,
    /// Whether any server may answer, also without a leader; else only the leader does.
    #[serde(default = "yes")]
    pub stale: bool,
    /// An answer of a server that has not heard its leader for longer is asked of the leader.
    #[serde(default = "two_seconds")]
    pub max_stale_read: Period,
    /// Longest pause between two questions of a watch that wakes up for nothing.
    #[serde(default = "one_second")]
    pub max_pause: Period,
    /// Most connections to the agent, below its own limit of 200. One carries one watch, over
    /// HTTP/2 as many as the agent allows. Services beyond take turns.
    #[serde(default = "one_hundred_and_fifty")]
    pub max_watches: usize,
    /// Most watches and turns that begin in a second.
    #[serde(default = "fifty")]
    pub max_starts: u32,
    /// Largest answer that is read.
    #[serde(default = "sixty_four_mebibytes")]
    pub max_body: Size,
    /// Most services in the list; with more the list is refused as a whole.
    #[serde(default = "twenty_thousand")]
    pub max_services: usize,
    /// Most instances of all services; a service that would exceed it keeps those it had.
    #[serde(default = "two_hundred_thousand")]
    pub max_instances: usize,
    /// Most keys of all prefixes; a prefix that would exceed it keeps those it had.
    #[serde(default = "one_hundred_thousand")]
    pub max_keys: usize,
}

impl ConsulConfig {
    /// The agents in the order in which they are tried; never empty.
    pub(super) fn agents(&self) -> Vec<Origin> {
        let mut all: Vec<Origin> = self.address.iter().chain(&self.addresses).cloned().collect();
        if all.is_empty() {
            all.extend(Origin::parse("http://127.0.0.1:8500").ok());
        }
        all
    }
}

const fn one_second() -> Period {
    Period::from_secs(1)
}

const fn five_minutes() -> Period {
    Period::from_secs(300)
}

const fn fifty() -> u32 {
    50
}

const fn one_hundred_and_fifty() -> usize {
    150
}

const fn twenty_thousand() -> usize {
    20_000
}

const fn two_hundred_thousand() -> usize {
    200_000
}

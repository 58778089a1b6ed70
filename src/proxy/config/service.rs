//! What `[service.NAME]` says to the proxy.

use serde::Deserialize;

use super::limits::{QueueConfig, RetryConfig};
use super::outward::{ServiceTlsConfig, UpstreamH2Config, UpstreamProtocol};
use crate::net::proxy_protocol::Version;
use crate::units::{Period, Share};

/// What becomes of connections and tunnels to an instance that turns unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// They go on.
    #[default]
    Keep,
    /// They are reset at once.
    Close,
}

/// How work is spread over the endpoints of one service. Gathered from `[service.NAME]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceBalance {
    /// Name of the policy; absent: the default one.
    pub policy: Option<String>,
    /// What maglev and ring-hash go by: `source`, `header:NAME`, `cookie:NAME` or `path`.
    pub hash_on: Option<String>,
    /// How long a new endpoint takes to its full share.
    pub slow_start: Option<Period>,
    /// Work that runs at one endpoint at once.
    pub max_connections: Option<u32>,
    /// Who waits while every endpoint is full.
    pub queue: QueueConfig,
    /// Idle connections to its endpoints that each worker keeps.
    pub keep_alive: Option<u32>,
    /// Share of near endpoints that must be eligible for all work to stay near.
    pub near: Option<Share>,
    /// How requests are sent again.
    pub retries: RetryConfig,
    /// How long what runs at an endpoint that leaves may go on.
    pub drain: Option<Period>,
    /// What is spoken with its endpoints.
    pub protocol: UpstreamProtocol,
    /// TLS towards its endpoints; absent: in the clear. Paths are absolute, or from where we stand.
    pub tls: Option<ServiceTlsConfig>,
    /// Limits of HTTP/2 connections to its endpoints.
    pub h2: UpstreamH2Config,
    /// What becomes of connections and tunnels to an instance that turns unhealthy.
    pub on_unhealthy: OnUnhealthy,
    /// With what header of the PROXY protocol connections to its endpoints begin, if with one.
    pub proxy_protocol: Option<Version>,
}

//! `[dns.forward]` as users write it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::units::{Period, Share, Size};

/// `[dns.forward]`: who is asked for names outside the zones, for whom, and what is kept of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardConfig {
    /// `"system"` (those of `/etc/resolv.conf`), `"address"` or `"address:port"`; the fastest that
    /// answers is asked. Empty: only the names of `zone` are forwarded.
    #[serde(default = "system")]
    pub upstreams: Vec<String>,
    /// Who is asked for the names of one domain, by the domain; the longest that fits counts.
    #[serde(default)]
    pub zone: BTreeMap<String, ForwardZoneConfig>,
    /// Who may ask: `"private"` (loopback and private networks, the default) or networks such as
    /// `"10.0.0.0/8"`.
    #[serde(default = "private")]
    pub allow: Vec<String>,
    /// How long one upstream has to answer before the next is asked. Default: `2s`.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// Failures in a row after which an upstream is suspected: asked last, and probed. Default: 3.
    #[serde(default = "fall")]
    pub fall: u32,
    /// Pause before the first probe of a suspected upstream; each later one is twice as long.
    /// Default: `500ms`.
    #[serde(default = "probe_interval")]
    pub probe_interval: Period,
    /// Longest pause between two probes. Default: `10s`.
    #[serde(default = "probe_interval_max")]
    pub probe_interval_max: Period,
    /// Most queries to upstreams under way at a time; beyond it SERVFAIL. Default: 1000.
    #[serde(default = "max_in_flight")]
    pub max_in_flight: usize,
    /// Most questions that wait for those queries; beyond it SERVFAIL. Default: 10000.
    #[serde(default = "max_waiting")]
    pub max_waiting: usize,
    /// Of those, most of one address. Default: 250.
    #[serde(default = "max_per_client")]
    pub max_per_client: usize,
    /// Most answers that are kept; 0: none. Default: 10000.
    #[serde(default = "cache_size")]
    pub cache_size: usize,
    /// Most bytes of answers that are kept. Default: `32MiB`.
    #[serde(default = "cache_bytes")]
    pub cache_bytes: Size,
    /// How long an answer that has run out is given while the upstreams fail (RFC 8767); `0s`:
    /// never. Default: `1h`.
    #[serde(default = "serve_stale")]
    pub serve_stale: Period,
    /// How long a client waits for the upstreams before it gets such an answer. Default: `1800ms`.
    #[serde(default = "stale_after")]
    pub stale_after: Period,
    /// How long it may be kept by the client. Default: `30s`.
    #[serde(default = "stale_ttl")]
    pub stale_ttl: Period,
    /// After upstreams failed, how long such an answer is given without asking again. Default:
    /// `30s`.
    #[serde(default = "stale_recheck")]
    pub stale_recheck: Period,
    /// Shorter TTLs are raised to this. Default: `0s`.
    #[serde(default = "ttl_min")]
    pub ttl_min: Period,
    /// Longer TTLs are lowered to this. Default: `1d`.
    #[serde(default = "ttl_max")]
    pub ttl_max: Period,
    /// Longest time for which the news that there is no such name or type is kept (RFC 2308).
    /// Default: `1h`.
    #[serde(default = "negative_ttl_max")]
    pub negative_ttl_max: Period,
    /// How long it is remembered that all upstreams failed (RFC 9520). Default: `1s`.
    #[serde(default = "failure_ttl")]
    pub failure_ttl: Period,
    /// In the last share of its time an answer that is asked for is fetched anew; `0%`: never.
    /// Default: `10%`.
    #[serde(default = "prefetch")]
    pub prefetch: Share,
    /// How often it has to be asked for before that. Default: 3.
    #[serde(default = "prefetch_hits")]
    pub prefetch_hits: u32,
}

/// `[dns.forward.zone.NAME]`: who is asked for the names of one domain.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardZoneConfig {
    /// As in `[dns.forward]`; none: names of this domain are REFUSED.
    pub upstreams: Vec<String>,
}

fn system() -> Vec<String> {
    vec!["system".to_owned()]
}

fn private() -> Vec<String> {
    vec!["private".to_owned()]
}

const fn timeout() -> Period {
    Period::from_secs(2)
}

const fn fall() -> u32 {
    3
}

const fn probe_interval() -> Period {
    Period::from_millis(500)
}

const fn probe_interval_max() -> Period {
    Period::from_secs(10)
}

const fn max_in_flight() -> usize {
    1000
}

const fn max_waiting() -> usize {
    10_000
}

const fn max_per_client() -> usize {
    250
}

const fn cache_size() -> usize {
    10_000
}

const fn cache_bytes() -> Size {
    Size(32 << 20)
}

const fn serve_stale() -> Period {
    Period::from_secs(3600)
}

const fn stale_after() -> Period {
    Period::from_millis(1800)
}

const fn stale_ttl() -> Period {
    Period::from_secs(30)
}

const fn stale_recheck() -> Period {
    Period::from_secs(30)
}

const fn ttl_min() -> Period {
    Period::from_secs(0)
}

const fn ttl_max() -> Period {
    Period::from_secs(86_400)
}

const fn negative_ttl_max() -> Period {
    Period::from_secs(3600)
}

const fn failure_ttl() -> Period {
    Period::from_secs(1)
}

const fn prefetch() -> Share {
    Share(0.1)
}

const fn prefetch_hits() -> u32 {
    3
}

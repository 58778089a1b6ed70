//! `[labels]`: whose labels are read, and what they may ask for.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::Deserialize;

use crate::proxy::config::{HttpTimeouts, PortRange, TcpTimeouts};

/// `[labels]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// `HAPROXY_…`, as marathon-lb reads them.
    #[serde(rename = "marathon-lb", default)]
    pub marathon_lb: Option<MarathonLbConfig>,
}

/// `[labels.marathon-lb]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarathonLbConfig {
    /// Services of these groups are served; `"*"`: all, those of no group too.
    pub group: Vec<String>,
    /// Whether ports are served only where `HAPROXY_{n}_ENABLED` says so.
    #[serde(default)]
    pub strict: bool,
    /// The http listener of virtual hosts; none: there are none in the clear.
    #[serde(default)]
    pub http: Option<Arc<str>>,
    /// The https listener of virtual hosts; its certificates are those of ports of their own too.
    #[serde(default)]
    pub https: Option<Arc<str>>,
    /// The http listener that goes by `X-Marathon-App-Id`.
    #[serde(default)]
    pub app_id: Option<Arc<str>>,
    /// Where ports of their own are opened.
    #[serde(default = "everywhere")]
    pub bind: Vec<IpAddr>,
    /// Which, and how many.
    #[serde(default)]
    pub ports: LabelPorts,
    /// Ports for apps whose tasks have addresses of their own, and to which Marathon gave none: by a
    /// hash of the app's id and its port. None: they get none.
    #[serde(default = "assigned")]
    pub assigned: Vec<PortRange>,
    /// Ids of apps that are not served, such as the balancer's own.
    #[serde(default)]
    pub except: Vec<String>,
    /// Timeouts of ports of their own that speak HTTP.
    #[serde(default)]
    pub http_timeouts: HttpTimeouts,
    /// Timeouts of the others.
    #[serde(default)]
    pub tcp_timeouts: TcpTimeouts,
    /// Most virtual hosts of one port of an app.
    #[serde(default = "hundred")]
    pub hosts_max: usize,
}

/// `ports = { allowed = ["1024-65535"], max = 1024 }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelPorts {
    /// Ports that may be had.
    pub allowed: Vec<PortRange>,
    /// How many at once.
    pub max: usize,
}

impl Default for LabelPorts {
    fn default() -> Self {
        Self { allowed: vec![PortRange { first: 1024, last: u16::MAX }], max: 1024 }
    }
}

impl LabelPorts {
    /// Whether `port` may be had.
    #[must_use]
    pub fn allows(&self, port: u16) -> bool {
        self.allowed.iter().any(|range| (range.first..=range.last).contains(&port))
    }
}

fn everywhere() -> Vec<IpAddr> {
    vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
}

fn assigned() -> Vec<PortRange> {
    vec![PortRange { first: 10_050, last: 10_100 }]
}

const fn hundred() -> usize {
    100
}

//! What users write about listeners, routes and the spreading of work.

mod access_log;
mod limits;
mod route;
mod service;
mod sticky;

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::units::{Period, Size};

pub use access_log::{AccessLogConfig, Facility, LogFormat, LogTarget, RequestIdMode, TraceMode};
pub use limits::{QueueConfig, RateBy, RateLimitConfig, RetryConfig, RetryOn};
pub use route::{
    HeaderEdits, RedirectConfig, RespondConfig, RespondWhen, RewriteConfig, RouteConfig,
    RouteTimeouts,
};
pub use service::ServiceBalance;
pub use sticky::{StickyConfig, StickyRule, StickyTable};

/// `[listener.NAME.http]` or `[listener.NAME.tcp]`: exactly one kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Routed by host and path.
    pub http: Option<HttpListenerConfig>,
    /// Carried byte by byte to one service.
    pub tcp: Option<TcpListenerConfig>,
}

impl ListenerConfig {
    /// The addresses to listen on.
    #[must_use]
    pub fn bind(&self) -> &[SocketAddr] {
        match (&self.http, &self.tcp) {
            (Some(http), _) => &http.bind,
            (None, Some(tcp)) => &tcp.bind,
            (None, None) => &[],
        }
    }

    /// The service, or `service:port-name`, that gets all of its connections.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.tcp.as_ref().map(|tcp| &*tcp.service)
    }

    /// `http` or `tcp`, the kind that is set.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        if self.http.is_some() { "http" } else { "tcp" }
    }
}

/// `[listener.NAME.http]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpListenerConfig {
    /// Addresses to listen on. One that this host doesn't have yet is bound all the same.
    pub bind: Vec<SocketAddr>,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: HttpTimeouts,
    /// Whose `X-Forwarded-*` are kept and added to; those of others are replaced.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Who is shown the generation, in the response header `x-portolan-generation`.
    #[serde(default)]
    pub show_generation: Vec<IpNet>,
    /// Largest head of a request; beyond it 431.
    #[serde(default = "default_head_max")]
    pub head_max: Size,
    /// Most header lines of a request, at most 255; beyond it 431.
    #[serde(default = "default_headers_max")]
    pub headers_max: u8,
    /// Instead of `[access_log]`.
    #[serde(default)]
    pub access_log: Option<AccessLogConfig>,
    /// What becomes of the trace context.
    #[serde(default)]
    pub trace: TraceMode,
    /// What becomes of `X-Request-Id`.
    #[serde(default)]
    pub request_id: RequestIdMode,
}

/// How long each step of an HTTP exchange may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpTimeouts {
    /// From the first byte of a request to the end of its head; beyond it 408.
    pub request_head: Period,
    /// Between two reads from the endpoint, or from the client within a body.
    pub read: Period,
    /// Without a request, before the connection is closed.
    pub idle: Period,
    /// To connect to an endpoint.
    pub connect: Period,
    /// Without a byte in a tunnel (WebSocket), before it is cut.
    pub tunnel: Period,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            request_head: Period::from_secs(10),
            read: Period::from_secs(60),
            idle: Period::from_secs(60),
            connect: Period::from_secs(3),
            tunnel: Period::from_secs(3600),
        }
    }
}

const fn default_head_max() -> Size {
    Size(64 << 10)
}

const fn default_headers_max() -> u8 {
    100
}

/// `[listener.NAME.tcp]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpListenerConfig {
    /// Addresses to listen on. One that this host doesn't have yet is bound all the same.
    pub bind: Vec<SocketAddr>,
    /// Who gets the connections: a service, or `service:port-name`.
    pub service: String,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: TcpTimeouts,
    /// How a client comes back to the endpoint that it had.
    #[serde(default)]
    pub sticky: Option<StickyConfig>,
}

/// How long each step of a TCP connection may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcpTimeouts {
    /// To connect to an endpoint; another one is tried then.
    pub connect: Period,
    /// Without a byte in either direction, before the connection is closed.
    pub idle: Period,
}

impl Default for TcpTimeouts {
    fn default() -> Self {
        Self { connect: Period::from_secs(3), idle: Period::from_secs(3600) }
    }
}

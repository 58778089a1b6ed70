//! What users write about listeners, routes and the spreading of work.

mod access_log;
mod basic_auth;
mod clients;
mod limits;
mod outward;
mod ports;
mod route;
mod service;
mod sticky;
mod tls;
mod udp;

use std::net::SocketAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use serde::Deserialize;

use crate::net::tls::{Protocol, TlsConfig, UnknownName};
use crate::units::{Period, Size};

pub use access_log::{AccessLogConfig, Facility, LogFormat, LogTarget, RequestIdMode, TraceMode};
pub use basic_auth::BasicAuthConfig;
pub use clients::{HalfClose, MinRates, ProxyProtocolConfig, Strictness};
pub use limits::{QueueConfig, RateBy, RateLimitConfig, RetryConfig, RetryOn};
pub use outward::{ServiceTlsConfig, TlsVersion, UpstreamH2Config, UpstreamProtocol};
pub use ports::{PortRange, PortsFrom, RegistryPorts};
pub use route::{
    HeaderEdits, RedirectConfig, RespondConfig, RespondWhen, RewriteConfig, RouteConfig,
    RouteTimeouts,
};
pub use service::{OnUnhealthy, ServiceBalance};
pub use sticky::{StickyConfig, StickyRule, StickyTable};
pub use tls::{TlsListenerConfig, TlsTimeouts};
pub use udp::{Moved, UdpListenerConfig, UdpTimeouts};

/// `[listener.NAME.http]`, `.https`, `.tcp`, `.tls` or `.udp`: exactly one kind.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Routed by host and path.
    pub http: Option<HttpListenerConfig>,
    /// The same over TLS.
    pub https: Option<HttpListenerConfig>,
    /// Carried byte by byte to one service.
    pub tcp: Option<TcpListenerConfig>,
    /// TLS that is passed on as it is, routed by what the client's hello asks for.
    pub tls: Option<TlsListenerConfig>,
    /// Datagrams, carried to one service.
    pub udp: Option<UdpListenerConfig>,
}

impl ListenerConfig {
    /// What is said about requests, over TLS or not.
    #[must_use]
    pub const fn requests(&self) -> Option<&HttpListenerConfig> {
        match (&self.http, &self.https) {
            (Some(http), _) | (None, Some(http)) => Some(http),
            (None, None) => None,
        }
    }

    /// The addresses to listen on.
    #[must_use]
    pub fn bind(&self) -> &[SocketAddr] {
        match (self.requests(), &self.tcp, &self.tls) {
            (Some(http), ..) => &http.bind,
            (None, Some(tcp), _) => &tcp.bind,
            (None, None, Some(tls)) => &tls.bind,
            (None, None, None) => self.udp.as_ref().map_or(&[], |udp| &udp.bind),
        }
    }

    /// The service, or `service:port-name`, that gets all of its connections or datagrams.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        let udp = self.udp.as_ref().map(|udp| &*udp.service);
        let tcp = self.tcp.as_ref().filter(|tcp| tcp.ports.is_none());
        tcp.map(|tcp| &*tcp.service).or(udp)
    }

    /// Whether its ports come and go with the services that ask for them.
    #[must_use]
    pub fn opens_ports(&self) -> bool {
        self.tcp.as_ref().is_some_and(|tcp| tcp.ports.is_some())
    }

    /// What can't be about its clients, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let http = self.requests();
        let most = match (http, &self.tcp, &self.tls) {
            (Some(http), ..) => http.connections_per_client,
            (None, Some(tcp), _) => tcp.connections_per_client,
            (None, None, tls) => tls.as_ref().and_then(|tls| tls.connections_per_client),
        };
        if most == Some(0) {
            return Some("connections_per_client = 0 lets nobody in; at least 1".into());
        }
        let tcp = || self.tcp.as_ref().and_then(TcpListenerConfig::problem);
        let tls = || self.tls.as_ref().and_then(TlsListenerConfig::problem);
        let udp = self.udp.as_ref().and_then(UdpListenerConfig::problem);
        http.and_then(|http| http.min_rates.problem()).or_else(tcp).or_else(tls).or(udp)
    }

    /// How a client comes back to the endpoint that it had, where connections are carried.
    #[must_use]
    pub fn sticky(&self) -> Option<&StickyConfig> {
        let tcp = self.tcp.as_ref().and_then(|tcp| tcp.sticky.as_ref());
        let tls = || self.tls.as_ref()?.sticky.as_ref();
        tcp.or_else(tls).or_else(|| self.udp.as_ref()?.sticky.as_ref())
    }

    /// `http`, `https`, `tcp`, `tls` or `udp`, the kind that is set.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match (&self.http, &self.https, &self.tls) {
            (Some(_), ..) => "http",
            (None, Some(_), _) => "https",
            (None, None, Some(_)) => "tls",
            (None, None, None) if self.udp.is_some() => "udp",
            (None, None, None) => "tcp",
        }
    }
}

/// `[listener.NAME.http]` and `[listener.NAME.https]`.
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
    /// What becomes of requests that could be sent more carefully.
    #[serde(default)]
    pub strictness: Strictness,
    /// What becomes of a request whose client has ended its own side.
    #[serde(default)]
    pub half_close: HalfClose,
    /// How slow a client may be.
    #[serde(default)]
    pub min_rates: MinRates,
    /// Open connections of one client (IPv6: of one /64), but for trusted proxies; one more is closed
    /// at once.
    #[serde(default)]
    pub connections_per_client: Option<u32>,
    /// Whose connections begin with a header of the PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocolConfig>,
    /// Most streams, requests at once, of one connection of HTTP/2.
    #[serde(default = "default_streams_max")]
    pub streams_max: NonZeroU16,
    /// Instead of `[access_log]`.
    #[serde(default)]
    pub access_log: Option<AccessLogConfig>,
    /// What becomes of the trace context.
    #[serde(default)]
    pub trace: TraceMode,
    /// What becomes of `X-Request-Id`.
    #[serde(default)]
    pub request_id: RequestIdMode,
    /// Over TLS only: names of its `[certificate.NAME]`, all there are unless told. The first is for
    /// clients that name no host, or one that no certificate is for.
    #[serde(default)]
    pub certificates: Option<Vec<String>>,
    /// Over TLS only: what becomes of clients that name a host that no certificate is for.
    #[serde(default)]
    pub unknown_name: Option<UnknownName>,
    /// Over TLS only: offered by ALPN, best first.
    #[serde(default)]
    pub protocols: Option<Vec<Protocol>>,
    /// Over TLS only: versions, clients' certificates, limits.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

impl HttpListenerConfig {
    /// One of which nothing is said but where it listens.
    #[must_use]
    pub fn usual(bind: Vec<SocketAddr>) -> Self {
        Self {
            bind,
            timeouts: HttpTimeouts::default(),
            trusted_proxies: Vec::new(),
            show_generation: Vec::new(),
            head_max: default_head_max(),
            headers_max: default_headers_max(),
            strictness: Strictness::default(),
            half_close: HalfClose::default(),
            min_rates: MinRates::default(),
            connections_per_client: None,
            proxy_protocol: None,
            streams_max: default_streams_max(),
            access_log: None,
            trace: TraceMode::default(),
            request_id: RequestIdMode::default(),
            certificates: None,
            unknown_name: None,
            protocols: None,
            tls: None,
        }
    }

    /// The keys that are set and mean something over TLS only.
    #[must_use]
    pub fn tls_keys(&self) -> Vec<&'static str> {
        let keys = [
            ("certificates", self.certificates.is_some()),
            ("unknown_name", self.unknown_name.is_some()),
            ("protocols", self.protocols.is_some()),
            ("tls", self.tls.is_some()),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
    }
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

const fn default_streams_max() -> NonZeroU16 {
    match NonZeroU16::new(100) {
        Some(streams) => streams,
        None => NonZeroU16::MIN,
    }
}

/// `[listener.NAME.tcp]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpListenerConfig {
    /// Addresses to listen on. One that this host doesn't have yet is bound all the same.
    pub bind: Vec<SocketAddr>,
    /// Who gets the connections: a service, or `service:port-name`. None with `ports`.
    #[serde(default)]
    pub service: String,
    /// Ports that come and go with the services that ask for them. `bind` then names addresses with
    /// port 0.
    #[serde(default)]
    pub ports: Option<PortsFrom>,
    /// With `ports`: which, and how they are asked for.
    #[serde(default)]
    pub from_registry: RegistryPorts,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: TcpTimeouts,
    /// Open connections of one client (IPv6: of one /64); one more is closed at once.
    #[serde(default)]
    pub connections_per_client: Option<u32>,
    /// Whose connections begin with a header of the PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocolConfig>,
    /// How a client comes back to the endpoint that it had.
    #[serde(default)]
    pub sticky: Option<StickyConfig>,
    /// With any of these four clients speak TLS, and endpoints get what is inside. Names of the
    /// `[certificate.NAME]` that are shown, as for https.
    #[serde(default)]
    pub certificates: Option<Vec<String>>,
    /// What becomes of clients that name a host that no certificate is for.
    #[serde(default)]
    pub unknown_name: Option<UnknownName>,
    /// Offered by ALPN, best first; nothing unless told.
    #[serde(default)]
    pub protocols: Option<Vec<String>>,
    /// Versions, clients' certificates, limits.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

impl TcpListenerConfig {
    /// One of which nothing is said but where it listens and who gets the connections.
    #[must_use]
    pub fn usual(bind: Vec<SocketAddr>, service: String) -> Self {
        Self {
            bind,
            service,
            ports: None,
            from_registry: RegistryPorts::default(),
            timeouts: TcpTimeouts::default(),
            connections_per_client: None,
            proxy_protocol: None,
            sticky: None,
            certificates: None,
            unknown_name: None,
            protocols: None,
            tls: None,
        }
    }

    /// Whether clients speak TLS.
    #[must_use]
    pub const fn speaks_tls(&self) -> bool {
        self.certificates.is_some()
            || self.unknown_name.is_some()
            || self.protocols.is_some()
            || self.tls.is_some()
    }

    /// What does not go together.
    fn problem(&self) -> Option<String> {
        match (&self.ports, &*self.service) {
            (None, "") => Some(
                "has no `service`; name who gets the connections, or write ports = \
                 \"from-registry\""
                    .into(),
            ),
            (Some(_), service) if !service.is_empty() => Some(format!(
                "has service = {service:?} beside ports = \"from-registry\", by which services ask \
                 for ports of their own; take one of them away"
            )),
            (Some(_), _) => {
                let address = self.bind.iter().find(|address| address.port() != 0)?;
                Some(format!(
                    "bind = {:?} names a port, which ports = \"from-registry\" finds in the \
                     registry; write \"{}\"",
                    address.to_string(),
                    SocketAddr::new(address.ip(), 0)
                ))
            }
            (None, _) => None,
        }
    }
}

/// How long each step of a TCP connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcpTimeouts {
    /// To connect to an endpoint; another one is tried then.
    pub connect: Period,
    /// Without a byte in either direction, before the connection is closed; it may take a quarter
    /// longer.
    pub idle: Period,
    /// From the connect to its endpoint on, whatever moves; absent: as long as it takes.
    pub lifetime: Option<Period>,
}

impl Default for TcpTimeouts {
    fn default() -> Self {
        Self { connect: Period::from_secs(3), idle: Period::from_secs(3600), lifetime: None }
    }
}

//! A listener as it was configured, compiled.

use std::net::IpAddr;
use std::sync::Arc;

use super::config::{
    HttpListenerConfig, ProxyProtocolConfig, TcpListenerConfig, TlsListenerConfig,
    UdpListenerConfig,
};
use super::forwarded;
use super::http::access::Access;
use super::log::Rule;
use super::ports::Opening;
use super::route::{LabelledRoutes, Routes, ServiceRef};
use super::sni;

/// One listener as its connections see it.
#[derive(Debug)]
pub enum Listener {
    /// HTTP, by routes.
    Http {
        /// As it was configured.
        config: Box<HttpListenerConfig>,
        /// Its routes.
        routes: Routes,
        /// Its access log.
        log: Option<Arc<Rule>>,
    },
    /// TCP, to one service.
    Tcp {
        /// As it was configured.
        config: Box<TcpListenerConfig>,
        /// The service.
        target: ServiceRef,
        /// Which clients are let in.
        access: Access,
    },
    /// TLS as it is, by what its hello asks for.
    Tls {
        /// As it was configured.
        config: Box<TlsListenerConfig>,
        /// Its routes.
        routes: sni::Routes,
    },
    /// UDP, to one service.
    Udp {
        /// As it was configured.
        config: UdpListenerConfig,
        /// The service.
        target: ServiceRef,
    },
}

impl Listener {
    /// How many connections the client at `peer` may have open here; none: as many as it wants, as
    /// proxies may whose word is trusted.
    #[must_use]
    pub fn connections_per_client(&self, peer: IpAddr) -> Option<u32> {
        let most = match self {
            Self::Http { config, .. } => config
                .connections_per_client
                .filter(|_| !forwarded::within(peer, &config.trusted_proxies)),
            Self::Tcp { config, .. } => config.connections_per_client,
            Self::Tls { config, .. } => config.connections_per_client,
            Self::Udp { .. } => None,
        };
        let announces = |rule: &ProxyProtocolConfig| forwarded::within(peer, &rule.from);
        most.filter(|_| !self.proxy_protocol().is_some_and(announces))
    }

    /// The same with these routes of labels, where it has routes at all.
    pub(super) fn with(&self, labelled: LabelledRoutes) -> Option<Self> {
        let Self::Http { config, routes, log } = self else { return None };
        Some(Self::Http { config: config.clone(), routes: routes.with(labelled), log: log.clone() })
    }

    /// Whether a connection of the client at `peer` is carried at all.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        match self {
            Self::Tcp { access, .. } => access.admits(peer),
            Self::Http { .. } | Self::Tls { .. } | Self::Udp { .. } => true,
        }
    }

    /// How services ask for its ports, when they do.
    pub(super) fn opening(&self, name: &str) -> Option<Opening> {
        let Self::Tcp { config, .. } = self else { return None };
        config.ports?;
        let (rule, sticky) = (config.from_registry.clone(), config.sticky.is_some());
        Some(Opening { listener: name.into(), rule, sticky })
    }

    /// Whose connections begin with a header of the PROXY protocol.
    #[must_use]
    pub fn proxy_protocol(&self) -> Option<&ProxyProtocolConfig> {
        match self {
            Self::Http { config, .. } => config.proxy_protocol.as_ref(),
            Self::Tcp { config, .. } => config.proxy_protocol.as_ref(),
            Self::Tls { config, .. } => config.proxy_protocol.as_ref(),
            Self::Udp { .. } => None,
        }
    }
}

//! `[listener.NAME.tls]`: TLS that is passed on by the name that it asks for.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{ProxyProtocolConfig, StickyConfig, TcpTimeouts};
use crate::net::tls::TlsConfig;
use crate::units::{Period, Size};

/// Least and most that `hello_max` may be: hellos of today have some hundred bytes, and with
/// post-quantum keys less than 2 KiB; a message of TLS that can be terminated here has 64 KiB.
const HELLO_MAX: std::ops::RangeInclusive<u64> = 512..=64 << 10;

/// `[listener.NAME.tls]`: by routes, from what a client says before anything is encrypted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsListenerConfig {
    /// Addresses to listen on. One that this host doesn't have yet is bound all the same.
    pub bind: Vec<SocketAddr>,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: TlsTimeouts,
    /// Largest hello of a client, heads of records included; beyond it the connection is closed.
    #[serde(default = "default_hello_max")]
    pub hello_max: Size,
    /// Open connections of one client (IPv6: of one /64); one more is closed at once.
    #[serde(default)]
    pub connections_per_client: Option<u32>,
    /// Whose connections begin with a header of the PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocolConfig>,
    /// How a client comes back to the endpoint that it had.
    #[serde(default)]
    pub sticky: Option<StickyConfig>,
    /// For routes that terminate: names of the `[certificate.NAME]` that are shown.
    #[serde(default)]
    pub certificates: Option<Vec<String>>,
    /// For routes that terminate: offered by ALPN, best first.
    #[serde(default)]
    pub protocols: Option<Vec<String>>,
    /// For routes that terminate: versions, clients' certificates, limits.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

const fn default_hello_max() -> Size {
    Size(16 << 10)
}

impl TlsListenerConfig {
    /// The keys that are set and mean something for routes that terminate only.
    #[must_use]
    pub fn keys_of_ended(&self) -> Vec<&'static str> {
        let keys = [
            ("certificates", self.certificates.is_some()),
            ("protocols", self.protocols.is_some()),
            ("tls", self.tls.is_some()),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
    }

    /// What can't be, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if !HELLO_MAX.contains(&self.hello_max.0) {
            let (least, most) = (Size(*HELLO_MAX.start()), Size(*HELLO_MAX.end()));
            let max = self.hello_max;
            return Some(format!("hello_max = \"{max}\" is not between {least} and {most}"));
        }
        if self.timeouts.hello.0.is_zero() {
            return Some("timeouts.hello = 0: no client says anything in no time; raise it".into());
        }
        None
    }
}

/// How long each step of such a connection may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsTimeouts {
    /// From the connection to the end of the client's hello.
    pub hello: Period,
    /// To connect to an endpoint; another one is tried then.
    pub connect: Period,
    /// Without a byte in either direction, before the connection is closed; it may take a quarter
    /// longer.
    pub idle: Period,
    /// From the end of the hello on, whatever moves; absent: as long as it takes.
    pub lifetime: Option<Period>,
}

impl Default for TlsTimeouts {
    fn default() -> Self {
        let TcpTimeouts { connect, idle, lifetime } = TcpTimeouts::default();
        Self { hello: Period::from_secs(10), connect, idle, lifetime }
    }
}

impl TlsTimeouts {
    /// Those of what is carried once it is known where to.
    #[must_use]
    pub const fn carried(&self) -> TcpTimeouts {
        TcpTimeouts { connect: self.connect, idle: self.idle, lifetime: self.lifetime }
    }
}

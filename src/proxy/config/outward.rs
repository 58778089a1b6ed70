//! What `[service.NAME]` says about the way to its endpoints: which protocol, and TLS.

use std::path::PathBuf;

use serde::Deserialize;

use crate::units::{Period, Size};

/// `protocol = "h2"`: what is spoken with the endpoints of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize)]
pub enum UpstreamProtocol {
    /// HTTP/1.1, in the clear or over TLS.
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2 in the clear, by prior knowledge (RFC 9113 §3.3).
    #[serde(rename = "h2c")]
    H2c,
    /// HTTP/2 over TLS, agreed on by ALPN (RFC 9113 §3.2).
    #[serde(rename = "h2")]
    H2,
}

impl UpstreamProtocol {
    /// Whether it is HTTP/2.
    #[must_use]
    pub const fn is_h2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }

    /// As it is written in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::H2c => "h2c",
            Self::H2 => "h2",
        }
    }
}

/// `[service.NAME.tls]`: TLS towards its endpoints. An empty table is enough: what the system trusts
/// is trusted, and the certificate must be for the endpoint's address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceTlsConfig {
    /// PEM file (or a directory of such) with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whom the certificate must be for, and what is asked for by SNI (RFC 6066 §3). Default: the
    /// endpoint's IP address.
    pub server_name: Option<String>,
    /// False: any certificate will do, so that whoever is on the way can read and answer all.
    pub verify: bool,
    /// PEM file with the certificate that is shown to endpoints, and those up to its authority.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min: TlsVersion,
}

impl Default for ServiceTlsConfig {
    fn default() -> Self {
        Self {
            ca_file: None,
            server_name: None,
            verify: true,
            cert_file: None,
            key_file: None,
            min: TlsVersion::default(),
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V13,
}

/// `[service.NAME] h2 = { … }`: limits of HTTP/2 connections to endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamH2Config {
    /// Requests that share one connection at once; the endpoint may allow fewer.
    pub max_streams: u32,
    /// How long a connection is in use before it is asked by a PING whether it still is alive; no
    /// answer within 5 s closes it.
    pub ping: Period,
    /// What an endpoint may send of one answer before somebody has read it.
    pub stream_window: Size,
    /// The same, of all answers of a connection together.
    pub connection_window: Size,
}

impl Default for UpstreamH2Config {
    fn default() -> Self {
        Self {
            max_streams: 100,
            ping: Period::from_secs(30),
            stream_window: Size(1 << 20),
            connection_window: Size(16 << 20),
        }
    }
}

impl UpstreamH2Config {
    /// What cannot be, and its key.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        /// The largest window (RFC 9113 §6.9.1).
        const WINDOW_MAX: u64 = (1 << 31) - 1;
        /// The window before anything is agreed on (RFC 9113 §6.9.2); smaller ones make no sense.
        const WINDOW_MIN: u64 = 65_535;
        if self.max_streams == 0 {
            let message = "max_streams = 0 would carry nothing; write at least 1";
            return Some(("max_streams", message.into()));
        }
        if self.ping.0.is_zero() {
            let message = "ping = \"0s\" would ask all the time; write \"30s\"";
            return Some(("ping", message.into()));
        }
        let windows =
            [("stream_window", self.stream_window), ("connection_window", self.connection_window)];
        windows.into_iter().find(|(_, size)| !(WINDOW_MIN..=WINDOW_MAX).contains(&size.0)).map(
            |(key, size)| {
                (key, format!("{} bytes is not between 64KiB and 2GiB less a byte", size.0))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_h2_that_cannot_be_are_refused_by_their_key() {
        let usual = UpstreamH2Config::default();
        assert_eq!(usual.problem(), None);
        for (key, config) in [
            ("max_streams", UpstreamH2Config { max_streams: 0, ..usual.clone() }),
            ("ping", UpstreamH2Config { ping: Period::from_secs(0), ..usual.clone() }),
            ("stream_window", UpstreamH2Config { stream_window: Size(1000), ..usual.clone() }),
            (
                "connection_window",
                UpstreamH2Config { connection_window: Size(1 << 31), ..usual.clone() },
            ),
        ] {
            assert_eq!(config.problem().unwrap().0, key);
        }
    }
}

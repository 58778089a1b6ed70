//! What users write about TLS towards clients.

use std::path::PathBuf;

use serde::Deserialize;

use crate::units::Period;

/// `[certificate.NAME]`: a certificate that listeners may show.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// PEM file with the certificate, and those between it and its authority behind it.
    pub cert_file: PathBuf,
    /// PEM file with its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key_file: PathBuf,
}

/// What a client gets that asks for a name (RFC 6066 §3) of which no certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownName {
    /// The first certificate.
    #[default]
    Default,
    /// The alert `unrecognized_name`.
    Refuse,
}

/// A protocol that is agreed on by ALPN (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// HTTP/2.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http1,
}

impl Protocol {
    /// Its name on the wire.
    #[must_use]
    pub const fn id(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V13,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// They are not asked for one.
    #[default]
    None,
    /// They may; one that cannot be verified is refused all the same.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// `[listener.NAME.https.tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The oldest version that is spoken.
    pub min: TlsVersion,
    /// Whether clients show certificates.
    pub client_certificate: ClientCertificate,
    /// PEM file with the authorities of clients' certificates, or a directory of such files.
    pub client_ca_file: Option<PathBuf>,
    /// Whether endpoints are told of the client's certificate, by `X-SSL-Client-*`.
    pub client_headers: bool,
    /// From the connection to the end of the handshake.
    pub handshake_timeout: Period,
    /// Handshakes that run at once in each worker.
    pub handshakes_max: usize,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            min: TlsVersion::default(),
            client_certificate: ClientCertificate::default(),
            client_ca_file: None,
            client_headers: false,
            handshake_timeout: Period::from_secs(10),
            handshakes_max: 2000,
        }
    }
}

impl TlsConfig {
    /// The key that cannot be as it is, and why.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let asked = self.client_certificate != ClientCertificate::None;
        if asked && self.client_ca_file.is_none() {
            let message = "clients' certificates are verified by `client_ca_file`; add it";
            return Some(("client_certificate", message));
        }
        if !asked && self.client_ca_file.is_some() {
            let message = "nobody is asked for a certificate; add client_certificate = \"required\" \
                           or \"optional\"";
            return Some(("client_ca_file", message));
        }
        if !asked && self.client_headers {
            let message = "there is no client's certificate to tell of; add client_certificate = \
                           \"required\" or \"optional\"";
            return Some(("client_headers", message));
        }
        if self.handshake_timeout.0.is_zero() {
            return Some(("handshake_timeout", "no client shakes hands in no time; raise it"));
        }
        if self.handshakes_max == 0 {
            return Some(("handshakes_max", "0 would let nobody in; raise it"));
        }
        None
    }
}

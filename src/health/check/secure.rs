//! TLS for probes: whom to believe, and the handshake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature};
use tokio_rustls::rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::super::tracker::Observation;
use super::Target;
use super::connect::{connect, in_words};
use crate::catalog::model::Address;

/// The key `tls` of a check: how its connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Whom the certificate must be for, and what is asked for by SNI. Default: the instance's
    /// address.
    pub server_name: Option<String>,
    /// False: any certificate will do.
    pub verify: bool,
    /// Authorities to believe, in PEM. Default: those of the system.
    pub ca_file: Option<PathBuf>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { server_name: None, verify: true, ca_file: None }
    }
}

/// A compiled [`TlsConfig`].
#[derive(Debug, Clone)]
pub(super) struct Secure {
    server_name: Option<ServerName<'static>>,
    config: Arc<ClientConfig>,
}

impl Secure {
    /// Reads what the configuration names; `alpn` is what the connection is for.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub(super) fn compile(
        config: &TlsConfig,
        base_dir: &Path,
        alpn: &[&[u8]],
    ) -> Result<Self, (&'static str, String)> {
        let server_name = config.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                ("server_name", format!("{name:?} is neither a host name nor an IP address"))
            })
        });
        let provider = Arc::new(ring::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| ("tls", error.to_string()))?;
        let mut client = if config.verify {
            let roots = roots(config.ca_file.as_ref().map(|file| base_dir.join(file)).as_deref())?;
            versions.with_root_certificates(roots).with_no_client_auth()
        } else {
            versions
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody::of(&provider)))
                .with_no_client_auth()
        };
        client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self { server_name: server_name.transpose()?, config: Arc::new(client) })
    }

    /// As [`Secure::compile`], for the table `tls` of a check.
    ///
    /// # Errors
    /// What is wrong in it, told at `tls`.
    pub(super) fn within(
        config: &TlsConfig,
        base_dir: &Path,
        alpn: &[&[u8]],
    ) -> Result<Self, (&'static str, String)> {
        Self::compile(config, base_dir, alpn)
            .map_err(|(key, message)| ("tls", format!("{key}: {message}")))
    }

    /// Connects to `target` and shakes hands.
    pub(super) async fn connect(
        &self,
        target: &Target,
    ) -> Result<TlsStream<TcpStream>, Observation> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => name_of(target.socket()?.0)?,
        };
        let stream = connect(target).await?;
        let shaken = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await;
        shaken.map_err(|error| Observation::failed(&format!("TLS: {}", in_words(&error))))
    }
}

fn name_of(address: &Address) -> Result<ServerName<'static>, Observation> {
    match address {
        Address::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Address::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|_| Observation::failed("TLS: the address is no name for a certificate")),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, (&'static str, String)> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca_file else {
        let system = rustls_native_certs::load_native_certs().certs;
        roots.add_parsable_certificates(system);
        return Ok(roots);
    };
    let refused = |why: String| ("ca_file", format!("cannot read {}: {why}", file.display()));
    let found = CertificateDer::pem_file_iter(file).map_err(|error| refused(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Believes any certificate; the signatures of the handshake must still be right.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl Anybody {
    fn of(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

//! One key and certificate for all servers that end TLS, and clients that take whatever they are
//! shown: what a client verifies is no cost of a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup, SignatureScheme,
    version,
};

/// The name in the certificate, which clients ask for.
pub(crate) const NAME: &str = "bench.test";

/// PEM texts.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// An ECDSA key on P-256 and its own certificate, the same for all servers of a run.
pub(crate) fn pair() -> std::io::Result<&'static Pair> {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    if let Some(pair) = PAIR.get() {
        return Ok(pair);
    }
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let pair = Pair { cert: made.cert.pem(), key: made.signing_key.serialize_pem() };
    Ok(PAIR.get_or_init(|| pair))
}

/// A connection by TLS 1.3, with `alpn`; `tickets` says whether it may resume.
pub(crate) fn client(config: &Arc<ClientConfig>) -> Result<ClientConnection, Error> {
    let name = ServerName::try_from(NAME).map_err(|error| Error::General(error.to_string()))?;
    ClientConnection::new(Arc::clone(config), name)
}

/// How such connections are made.
pub(crate) fn config(alpn: &[u8], tickets: &Arc<Tickets>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::store(Arc::clone(tickets) as Arc<dyn ClientSessionStore>);
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Tickets as they come: counted, and the latest offered again if that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    offer: bool,
    seen: AtomicU64,
    latest: Mutex<Option<Tls13ClientSessionValue>>,
}

impl Tickets {
    /// Tickets that are offered again, or that are only counted.
    pub(crate) fn new(offer: bool) -> Arc<Self> {
        Arc::new(Self { offer, ..Self::default() })
    }

    /// How many have come.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        if self.offer {
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_one_of_a_curve() {
        let first = pair().unwrap();
        assert!(std::ptr::eq(first, pair().unwrap()));
        assert!(first.cert.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(first.key.contains("PRIVATE KEY"));
        assert!(client(&config(b"h2", &Tickets::new(true)).unwrap()).is_ok());
    }
}

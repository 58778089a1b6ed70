//! How one listener speaks TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::certificate::{certificates, read};
use super::config::{ClientCertificate, TlsConfig, TlsVersion, UnknownName};
use super::names::Shown;
use super::{TlsError, provider};

/// Sessions of TLS 1.2 that are remembered here, for clients without tickets.
const SESSIONS: usize = 4096;

/// How one listener speaks TLS, compiled.
#[derive(Debug)]
pub struct Secured {
    pub(super) config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    pub(super) unknown_name: UnknownName,
    pub(super) handshake_timeout: Duration,
    pub(super) handshakes_max: usize,
    pub(super) client_headers: bool,
}

/// Whose client certificates a listener accepts.
#[derive(Debug, Clone)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// What tells them from others: certificates, and whether they are required.
    pub(super) identity: (Vec<CertificateDer<'static>>, bool),
}

/// What makes sessions resumable: with it, a session of one worker or listener is good at all.
///
/// Who resumes a session shows no certificate again. So listeners that look at clients' certificates
/// each have their own.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    /// Tickets under keys that exist only here, and change every six hours.
    pub(super) fn new() -> Result<Self, TlsError> {
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new();
        let ticketer = ticketer.map_err(|error| TlsError::Refused(error.to_string()))?;
        Ok(Self { ticketer, storage: ServerSessionMemoryCache::new(SESSIONS) })
    }
}

impl Authorities {
    /// Those in `path`, a PEM file or a directory of such files. Blocks.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn load(path: &Path, asked: ClientCertificate) -> Result<Self, TlsError> {
        let failed = |path: &Path, why: String| TlsError::File {
            what: "client_ca_file",
            path: path.to_path_buf(),
            why,
        };
        let mut files = vec![path.to_path_buf()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path);
            let entries = entries.map_err(|error| failed(path, error.to_string()))?;
            files = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|file: &PathBuf| file.is_file());
            files.sort();
        }
        let (mut roots, mut all) = (RootCertStore::empty(), Vec::new());
        for file in &files {
            let found = read(file).and_then(|bytes| certificates(&bytes));
            for certificate in found.map_err(|why| failed(file, why))? {
                let added = roots.add(certificate.clone());
                added.map_err(|error| failed(file, error.to_string()))?;
                all.push(certificate);
            }
        }
        if all.is_empty() {
            return Err(failed(path, "no certificate in it".to_owned()));
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let required = asked == ClientCertificate::Required;
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|error| TlsError::Refused(error.to_string()))?;
        Ok(Self { verifier, identity: (all, required) })
    }
}

impl Secured {
    /// How a listener with these settings speaks TLS, showing `shown`.
    ///
    /// # Errors
    /// The library refuses them.
    pub(super) fn new(
        tls: &TlsConfig,
        unknown_name: UnknownName,
        protocols: &[Vec<u8>],
        authorities: Option<&Authorities>,
        sessions: &Sessions,
        shown: Arc<Shown>,
    ) -> Result<Self, TlsError> {
        let versions = match tls.min {
            TlsVersion::V12 => &[&TLS13, &TLS12][..],
            TlsVersion::V13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(versions);
        let builder = builder.map_err(|error| TlsError::Refused(error.to_string()))?;
        let builder = match authorities {
            Some(authorities) => {
                builder.with_client_cert_verifier(Arc::clone(&authorities.verifier))
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = protocols.to_vec();
        config.ticketer = Arc::clone(&sessions.ticketer);
        config.session_storage = Arc::clone(&sessions.storage);
        // All that are offered are good; which is cheapest here is not the client's to say.
        config.ignore_client_order = true;
        // A request within the first flight could be played again by anybody (RFC 8446 §8).
        config.max_early_data_size = 0;
        Ok(Self {
            config: Arc::new(config),
            shown,
            unknown_name,
            handshake_timeout: tls.handshake_timeout.0,
            handshakes_max: tls.handshakes_max,
            client_headers: tls.client_headers,
        })
    }

    /// The certificates that are shown.
    #[must_use]
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Whether a client that asks for a name of no certificate is refused.
    #[must_use]
    pub fn refuses_unknown_names(&self) -> bool {
        self.unknown_name == UnknownName::Refuse
    }
}

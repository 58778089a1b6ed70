//! TLS: towards servers, whom to trust and who we are, from PEM files; towards clients, which
//! certificate is shown for which name, followed while its files change.

mod certificate;
mod config;
mod facts;
mod handshake;
pub mod hello;
mod kept;
mod metrics;
mod names;
mod server;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

pub use certificate::{Certificate, CertificateError, CertificateFiles};
pub use config::{
    CertificateConfig, ClientCertificate, Protocol, TlsConfig, TlsVersion, UnknownName,
};
pub use facts::{Client, Facts};
pub use handshake::{Handshakes, say_alert, say_plainly};
pub use kept::{Certificates, ListenerWanted, Wanted};
pub use metrics::Metrics;
pub use names::{Names, Shown};
pub use server::{Authorities, Secured};

/// The cryptography of this process, for every connection in either direction: that of aws-lc-rs,
/// see docs/decisions/. The first call installs it as the process's default, which libraries take
/// that ask for none.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static OURS: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let ours = OURS.get_or_init(|| {
        let ours = rustls::crypto::aws_lc_rs::default_provider();
        // Whoever embeds us may have installed another one: then that is the process's.
        let _ = ours.clone().install_default();
        CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ours))
    });
    Arc::clone(ours)
}

/// Files of one client. The default trusts what the system trusts and shows no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// PEM file with the authorities to trust, or a directory of such files, instead of those of
    /// the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, and those between it and its authority. Needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of our certificate.
    pub key_file: Option<PathBuf>,
    /// Whether any certificate of the server will do. Whoever is on the way can then read and
    /// answer all.
    pub unverified: bool,
    /// Whether TLS 1.2 is refused.
    pub only_13: bool,
}

impl TlsFiles {
    /// The same, with relative paths beginning at `base_dir`.
    #[must_use]
    pub fn below(self, base_dir: &Path) -> Self {
        let below = |file: Option<PathBuf>| file.map(|file| base_dir.join(file));
        Self {
            ca_file: below(self.ca_file),
            cert_file: below(self.cert_file),
            key_file: below(self.key_file),
            ..self
        }
    }
}

/// Why there can be no TLS with these files.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is missing, unreadable or holds nothing of use.
    #[error("cannot use {what} {}: {why}; it must be a readable PEM file", .path.display())]
    File {
        /// Key of the configuration.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// One of `cert_file` and `key_file` without the other.
    #[error("`{present}` is set without `{missing}`; set both or none")]
    Half {
        /// The key that is set.
        present: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// The system lists no authority.
    #[error("the system trusts no certificate authority ({0}); install its list or set `ca_file`")]
    NoRoots(String),
    /// Certificate and key do not fit, or the library refuses them.
    #[error("these certificates cannot be used: {0}")]
    Refused(String),
}

const ONLY_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The configuration of a TLS client that offers `alpn`, best first.
///
/// Reads files, so that it blocks: call it where that is allowed.
///
/// # Errors
/// When a file cannot be used; the message names its key and path, never its content.
pub fn client(files: &TlsFiles, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let refused = |error: &dyn std::fmt::Display| TlsError::Refused(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(if files.only_13 { ONLY_13 } else { rustls::DEFAULT_VERSIONS })
        .map_err(|error| refused(&error))?;
    let builder = if files.unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        let roots = Arc::new(roots(files.ca_file.as_deref())?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        builder.with_webpki_verifier(verifier.map_err(|error| refused(&error))?)
    };
    let mut config = match (&files.cert_file, &files.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates("cert_file", cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File {
                what: "key_file",
                path: key.clone(),
                why: error.to_string(),
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| refused(&error))?
        }
        (Some(_), None) => {
            return Err(TlsError::Half { present: "cert_file", missing: "key_file" });
        }
        (None, Some(_)) => {
            return Err(TlsError::Half { present: "key_file", missing: "cert_file" });
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let failed = |error: &dyn std::fmt::Display| TlsError::File {
            what: "ca_file",
            path: path.to_path_buf(),
            why: error.to_string(),
        };
        let mut files = vec![path.to_path_buf()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|error| failed(&error))?;
            files = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|file| file.is_file());
        }
        for file in files {
            for certificate in certificates("ca_file", &file)? {
                roots.add(certificate).map_err(|error| failed(&error))?;
            }
        }
        return Ok(roots);
    }
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        let why = native.errors.first().map_or_else(|| "none found".into(), ToString::to_string);
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}

/// Takes any certificate; that the server has its key is looked at all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |why: String| TlsError::File { what, path: path.to_path_buf(), why };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() {
        return Err(refuse("no certificate in it".into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(dir.path().join(name));
        std::fs::write(dir.path().join("empty.pem"), "").unwrap();
        for (case, files, want) in [
            (
                "missing",
                TlsFiles { ca_file: path("no.pem"), ..TlsFiles::default() },
                "cannot use ca_file",
            ),
            (
                "empty",
                TlsFiles { ca_file: path("empty.pem"), ..TlsFiles::default() },
                "no certificate in it",
            ),
        ] {
            let error = client(&files, &[]).unwrap_err().to_string();
            assert!(error.contains(want), "{case}: {error}");
        }
        let made = rcgen::generate_simple_self_signed(vec!["here".into()]).unwrap();
        std::fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        let half =
            TlsFiles { ca_file: path("ca.pem"), cert_file: path("c"), ..TlsFiles::default() };
        let error = client(&half, &[]).unwrap_err().to_string();
        assert_eq!(error, "`cert_file` is set without `key_file`; set both or none");
        let whole = TlsFiles { ca_file: path("ca.pem"), ..TlsFiles::default() };
        assert!(client(&whole, &[b"h2"]).is_ok());
        std::fs::remove_file(dir.path().join("empty.pem")).unwrap();
        let folder = TlsFiles { ca_file: path("."), ..TlsFiles::default() };
        assert!(client(&folder, &[]).is_ok(), "a directory of files");
        let anybody = TlsFiles { ca_file: path("no.pem"), unverified: true, ..TlsFiles::default() };
        assert!(client(&anybody, &[]).is_ok(), "nobody is asked for");
    }
}

//! One certificate with its key, from files, checked before anybody sees it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::provider;

/// Largest file of a certificate or key.
const SIZE_MAX: u64 = 1 << 20;

/// A certificate that can be shown.
#[derive(Debug)]
pub struct Certificate {
    /// What it is called in the configuration.
    pub name: Arc<str>,
    /// The DNS names in it (`subjectAltName`, RFC 5280 §4.2.1.6), in lower case; some may begin
    /// with `*.`.
    pub names: Vec<Box<str>>,
    /// When it runs out.
    pub not_after: SystemTime,
    pub(super) key: Arc<CertifiedKey>,
}

/// Where the two files of a certificate lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those above it.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// How often, and how far apart, a pair that does not fit is read again.
const SETTLE_TRIES: u32 = 10;
const SETTLE: Duration = Duration::from_millis(100);

/// Why there is no such certificate. Never tells what stands in a file.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file is missing, unreadable or holds nothing of use.
    #[error("cannot use {what} {}: {why}", .path.display())]
    File {
        /// Key of the configuration.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// They belong to others.
    #[error("the key in {} is not that of the first certificate in {}; put the two that belong together there", .key_file.display(), .cert_file.display())]
    Mismatch {
        /// The certificate.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
    },
}

impl CertificateError {
    /// The key of the configuration that is to blame.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::File { what, .. } => what,
            Self::Mismatch { .. } => "key_file",
        }
    }
}

impl Certificate {
    /// Reads and checks it. Blocks.
    ///
    /// # Errors
    /// A file cannot be used, or the key is not the certificate's.
    pub fn load(name: &Arc<str>, files: &CertificateFiles) -> Result<Self, CertificateError> {
        let CertificateFiles { cert_file, key_file } = files;
        let file = |what, path: &Path, why: String| CertificateError::File {
            what,
            path: path.to_path_buf(),
            why,
        };
        let cert_error = |why| file("cert_file", cert_file, why);
        let chain = certificates(&read(cert_file).map_err(cert_error)?).map_err(cert_error)?;
        let key_error = |why| file("key_file", key_file, why);
        let key = PrivateKeyDer::from_pem_slice(&read(key_file).map_err(key_error)?);
        let key = key.map_err(|error| key_error(of_key(&error).to_owned()))?;
        let Some(first) = chain.first() else {
            return Err(cert_error("no certificate in it; put one there in PEM".to_owned()));
        };
        let (names, not_after) = told(first).map_err(cert_error)?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let (cert_file, key_file) = (cert_file.clone(), key_file.clone());
                CertificateError::Mismatch { cert_file, key_file }
            }
            rustls::Error::InvalidCertificate(error) => {
                cert_error(format!("its first certificate cannot be read ({error:?})"))
            }
            _ => key_error("a key of this kind is not known; use ECDSA, Ed25519 or RSA".to_owned()),
        })?;
        Ok(Self { name: Arc::clone(name), names, not_after, key: Arc::new(key) })
    }

    /// The same; a pair that does not fit is read again for a moment, for whoever replaces two files
    /// does so one after the other. Blocks, for up to a second then.
    ///
    /// # Errors
    /// As [`Self::load`].
    #[expect(clippy::disallowed_methods, reason = "files are read where blocking is allowed")]
    pub fn load_settled(
        name: &Arc<str>,
        files: &CertificateFiles,
    ) -> Result<Self, CertificateError> {
        for _ in 0..SETTLE_TRIES {
            match Self::load(name, files) {
                Err(CertificateError::Mismatch { .. }) => std::thread::sleep(SETTLE),
                other => return other,
            }
        }
        Self::load(name, files)
    }

    /// Whether it is the same certificate as `other`, with the same ones above it.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.name == other.name && self.key.cert == other.key.cert
    }

    /// Whether it has run out at `now`.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        self.not_after <= now
    }

    /// When it runs out, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> i64 {
        let since = self.not_after.duration_since(UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

/// All certificates in a PEM file.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    found.map_err(|_| "it is broken, or no PEM file; write it anew".to_owned())
}

/// The content of a file that is not too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{error}; put it there, or correct the path"),
        std::io::ErrorKind::PermissionDenied => format!("{error}; let this process read it"),
        _ => error.to_string(),
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(format!("it is larger than {} KiB", SIZE_MAX >> 10));
    }
    Ok(bytes)
}

/// What is wrong with a key, without anything that stands in it.
const fn of_key(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => {
            "no private key in it that is not encrypted; put one there in PEM"
        }
        _ => "it is broken, or no PEM file; write it anew",
    }
}

/// The names in a certificate, and when it runs out.
fn told(der: &CertificateDer<'_>) -> Result<(Vec<Box<str>>, SystemTime), String> {
    let unread = |error: &dyn std::fmt::Display| {
        format!("its first certificate cannot be read ({error}); write it anew")
    };
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| unread(&error))?;
    let alternatives = parsed.subject_alternative_name().map_err(|error| unread(&error))?;
    let names = alternatives.iter().flat_map(|found| &found.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into_boxed_str()),
        _ => None,
    });
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok((names.collect(), UNIX_EPOCH + Duration::from_secs(seconds)))
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Writes a certificate for `names` that signs itself as `dir/stem.crt` and `dir/stem.key`.
    pub(crate) fn write(dir: &Path, stem: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let files = CertificateFiles {
            cert_file: dir.join(format!("{stem}.crt")),
            key_file: dir.join(format!("{stem}.key")),
        };
        std::fs::write(&files.cert_file, made.pem()).unwrap();
        std::fs::write(&files.key_file, key.serialize_pem()).unwrap();
        files
    }

    pub(crate) fn loaded(name: &str, names: &[&str]) -> Arc<Certificate> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Certificate::load(&name.into(), &write(dir.path(), "a", names)).unwrap())
    }

    #[test]
    fn a_pair_that_is_being_replaced_is_read_when_it_fits_again() {
        let dir = tempfile::tempdir().unwrap();
        let (files, other) = (write(dir.path(), "a", &["a"]), write(dir.path(), "b", &["b"]));
        std::fs::copy(&other.key_file, &files.key_file).unwrap();
        assert!(Certificate::load(&"a".into(), &files).is_err());
        let (from, to) = (other.cert_file, files.cert_file.clone());
        let replaced = std::thread::spawn(move || std::fs::copy(from, to).unwrap());
        let loaded = Certificate::load_settled(&"a".into(), &files).unwrap();
        replaced.join().unwrap();
        assert_eq!(loaded.names, ["b".into()]);
    }

    #[test]
    fn a_certificate_tells_its_names_in_lower_case_and_when_it_runs_out() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "a", &["Shop.Example", "*.shop.example", "127.0.0.1"]);
        let certificate = Certificate::load(&"shop".into(), &files).unwrap();
        assert_eq!(certificate.names, ["shop.example".into(), Box::from("*.shop.example")]);
        assert!(!certificate.expired(SystemTime::now()) && certificate.expires() > 0);
        assert!(certificate.expired(certificate.not_after));
        let again = Certificate::load(&"shop".into(), &files).unwrap();
        assert!(certificate.same(&again));
        let other = write(dir.path(), "b", &["shop.example"]);
        assert!(!certificate.same(&Certificate::load(&"shop".into(), &other).unwrap()));
    }

    #[test]
    fn files_that_make_no_certificate_are_named_with_their_key_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (good, other) = (write(dir.path(), "a", &["a"]), write(dir.path(), "b", &["b"]));
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let secret = std::fs::read_to_string(&good.key_file).unwrap();
        let cut = file("cut.key", &secret[..secret.len() / 2]);
        let locked = secret.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let locked = file("locked.key", &locked);
        let words = file("words.crt", "words");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken = file("broken.crt", broken);
        let gone = dir.path().join("gone");
        for (case, cert_file, key_file, key, want) in [
            ("no certificate", &gone, &good.key_file, "cert_file", "put it there"),
            ("no key", &good.cert_file, &gone, "key_file", "put it there"),
            ("words", &words, &good.key_file, "cert_file", "no certificate in it"),
            ("broken", &broken, &good.key_file, "cert_file", "cannot be read"),
            ("cut", &good.cert_file, &cut, "key_file", "it is broken"),
            ("encrypted", &good.cert_file, &locked, "key_file", "not encrypted"),
            ("a certificate for a key", &good.cert_file, &good.cert_file, "key_file", "no private"),
            ("another's key", &good.cert_file, &other.key_file, "key_file", "belong together"),
        ] {
            let files =
                CertificateFiles { cert_file: cert_file.clone(), key_file: key_file.clone() };
            let error = Certificate::load(&"a".into(), &files).unwrap_err();
            let told = error.to_string();
            assert_eq!(error.key(), key, "{case}: {told}");
            assert!(told.contains(want), "{case}: {told}");
            assert!(!told.contains(&secret[40..60]), "{case}: {told}");
        }
    }
}

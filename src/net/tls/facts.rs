//! What is known of a connection over TLS once the handshake is over.

use std::fmt::Write as _;

use rustls::{ProtocolVersion, ServerConnection};
use sha2::{Digest, Sha256};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What one connection was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.3`, as nginx and OpenSSL write it.
    pub version: &'static str,
    /// The cipher suite by its IANA name: `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The name that the client asked for (RFC 6066 §3), in lower case.
    pub name: Option<Box<str>>,
    /// The client's certificate, where endpoints are to be told of it.
    pub client: Client,
}

/// The certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// Endpoints are not told of certificates.
    Untold,
    /// It showed none.
    Without,
    /// It showed one, which was verified.
    Verified(Box<Shown>),
}

/// The certificate that a client showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its subject as RFC 4514 writes names, visible ASCII only.
    pub subject: String,
    /// The most specific common name in it, written in the same way.
    pub common_name: Option<String>,
    /// SHA-256 of it (DER), 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl Facts {
    /// The facts of `connection`, whose handshake is over.
    pub(super) fn of(connection: &ServerConnection, tell_client: bool) -> Self {
        let client = match connection.peer_certificates().and_then(<[_]>::first) {
            _ if !tell_client => Client::Untold,
            None => Client::Without,
            Some(der) => Client::Verified(Box::new(Shown::of(der))),
        };
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLS",
            },
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .map_or("", iana),
            name: connection.server_name().map(Into::into),
            client,
        }
    }
}

/// The library writes those of TLS 1.3 in a way of its own.
fn iana(suite: &'static str) -> &'static str {
    match suite {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

impl Shown {
    fn of(der: &[u8]) -> Self {
        let mut sha256 = String::with_capacity(64);
        for byte in Sha256::digest(der) {
            // Writing to a String cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        // One that could not be read would not have been verified.
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            return Self { subject: String::new(), common_name: None, sha256 };
        };
        let mut subject = String::new();
        let mut common_name = None;
        // Most specific first (RFC 4514 §2.1): the other way round than in the certificate.
        let parts: Vec<_> = parsed.subject().iter().collect();
        for part in parts.into_iter().rev() {
            for (index, attribute) in part.iter().enumerate() {
                if !subject.is_empty() {
                    subject.push(if index == 0 { ',' } else { '+' });
                }
                let oid = attribute.attr_type();
                let kind = oid2abbrev(oid, oid_registry());
                let value = escaped(attribute.as_slice());
                match kind {
                    Ok(kind) => subject.push_str(kind),
                    Err(_) => {
                        let _ = write!(subject, "{oid}");
                    }
                }
                subject.push('=');
                subject.push_str(&value);
                if kind == Ok("CN") && common_name.is_none() {
                    common_name = Some(value);
                }
            }
        }
        Self { subject, common_name, sha256 }
    }
}

/// A value as RFC 4514 §2.4 writes it, with everything that is not visible ASCII as `\XX`.
fn escaped(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    for (index, byte) in value.iter().enumerate() {
        let edge = index == 0 || index + 1 == value.len();
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'#' if index == 0 => out.push_str("\\#"),
            b' ' if edge => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    #[test]
    fn a_subject_is_written_most_specific_first_and_no_byte_of_it_ends_a_header() {
        let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "CH");
        params.distinguished_name.push(DnType::OrganizationName, "Ships, Boats & Söhne\r\nX: y");
        params.distinguished_name.push(DnType::CommonName, "#client one ");
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let shown = Shown::of(made.der());
        let want = "CN=\\#client one\\ ,O=Ships\\, Boats & S\\C3\\B6hne\\0D\\0AX: y,C=CH";
        assert_eq!(shown.subject, want);
        assert_eq!(shown.common_name.as_deref(), Some("\\#client one\\ "));
        assert_eq!(shown.sha256.len(), 64);
        assert!(http::HeaderValue::from_str(&shown.subject).is_ok());
    }

    #[test]
    fn what_cannot_be_read_has_a_fingerprint_and_nothing_else() {
        let shown = Shown::of(b"nothing");
        assert_eq!((&*shown.subject, shown.common_name), ("", None));
        assert_eq!(shown.sha256.len(), 64);
    }
}

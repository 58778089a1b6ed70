//! Certificates and the listeners that show them, loaded and checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{Document, Problem};
use super::tables::Config;
use crate::net::tls::{
    Authorities, Certificate, CertificateFiles, ClientCertificate, ListenerWanted, Protocol,
    TlsConfig, UnknownName, Wanted,
};
use crate::proxy::{HttpListenerConfig, ListenerConfig};
use crate::suggest;

/// What listeners offer by ALPN where nothing is said.
const PROTOCOLS: [Protocol; 2] = [Protocol::H2, Protocol::Http1];

/// Loads every certificate and checks every listener that speaks TLS. Blocks.
pub(super) fn load(
    document: &Document<'_>,
    config: &Config,
    problems: &mut Vec<Problem>,
) -> Wanted {
    let mut wanted = Wanted::default();
    for (name, certificate) in &config.certificates {
        let files = CertificateFiles {
            cert_file: config.base_dir.join(&certificate.cert_file),
            key_file: config.base_dir.join(&certificate.key_file),
        };
        match Certificate::load_settled(&name.as_str().into(), &files) {
            Ok(loaded) => wanted.certificates.push((files, Arc::new(loaded))),
            Err(error) => {
                let path = ["certificate", name, error.key()];
                problems.push(document.problem(&path, error.to_string()));
            }
        }
    }
    for (name, listener) in &config.listeners {
        if let Some(http) = &listener.http {
            for key in http.tls_keys() {
                let message = format!(
                    "`{key}` is about TLS, which an http listener does not speak; take it away, or \
                     call the table [listener.{name}.https]"
                );
                problems.push(document.problem(&["listener", name, "http", key], message));
            }
        }
        let sealed = listener.tls.as_ref().filter(|_| !terminates(config, name));
        for key in sealed.iter().flat_map(|tls| tls.keys_of_ended()) {
            let message = format!(
                "`{key}` is for routes with terminate = true, of which this listener has none; take it \
                 away"
            );
            problems.push(document.problem(&["listener", name, "tls", key], message));
        }
        if let Some(asked) = Asked::of(listener, || terminates(config, name)) {
            wanted.listeners.extend(of_listener(document, config, (name, &asked), problems));
        }
    }
    wanted
}

/// Whether a route of the listener called `name` ends TLS here.
fn terminates(config: &Config, name: &str) -> bool {
    config.routes.values().any(|route| route.terminate && route.listener == name)
}

/// What a listener says of TLS.
struct Asked<'a> {
    /// The table that it stands in.
    kind: &'static str,
    certificates: Option<&'a [String]>,
    unknown_name: UnknownName,
    protocols: Option<Vec<Vec<u8>>>,
    tls: TlsConfig,
}

impl<'a> Asked<'a> {
    /// Of a listener where TLS ends; `None` of others.
    fn of(listener: &'a ListenerConfig, terminates: impl Fn() -> bool) -> Option<Self> {
        if let Some(https) = &listener.https {
            return Some(Self::of_https(https));
        }
        let bytes = |list: &Vec<String>| list.iter().map(|one| one.clone().into_bytes()).collect();
        if let Some(tcp) = listener.tcp.as_ref().filter(|tcp| tcp.speaks_tls()) {
            return Some(Self {
                kind: "tcp",
                certificates: tcp.certificates.as_deref(),
                unknown_name: tcp.unknown_name.unwrap_or_default(),
                protocols: tcp.protocols.as_ref().map(bytes),
                tls: tcp.tls.clone().unwrap_or_default(),
            });
        }
        let tls = listener.tls.as_ref().filter(|_| terminates())?;
        Some(Self {
            kind: "tls",
            certificates: tls.certificates.as_deref(),
            // Which names are known is said by the routes.
            unknown_name: UnknownName::Default,
            protocols: tls.protocols.as_ref().map(bytes),
            tls: tls.tls.clone().unwrap_or_default(),
        })
    }

    fn of_https(https: &'a HttpListenerConfig) -> Self {
        let protocols = https.protocols.as_deref().unwrap_or(&PROTOCOLS);
        Self {
            kind: "https",
            certificates: https.certificates.as_deref(),
            unknown_name: https.unknown_name.unwrap_or_default(),
            protocols: Some(protocols.iter().map(|protocol| protocol.id().to_vec()).collect()),
            tls: https.tls.clone().unwrap_or_default(),
        }
    }
}

/// What the listener called `name` wants; none when it can't be.
fn of_listener(
    document: &Document<'_>,
    config: &Config,
    (name, asked): (&str, &Asked<'_>),
    problems: &mut Vec<Problem>,
) -> Option<ListenerWanted> {
    let before = problems.len();
    let mut problem = |keys: &[&str], message: String| {
        let path: Vec<&str> = ["listener", name, asked.kind].iter().chain(keys).copied().collect();
        problems.push(document.problem(&path, message));
    };
    let known = &config.certificates;
    let certificates = match asked.certificates {
        Some(certificates) => certificates.to_vec(),
        None => known.keys().cloned().collect(),
    };
    for certificate in certificates.iter().filter(|wanted| !known.contains_key(*wanted)) {
        // One that did not decode has been told.
        if !document.has(&["certificate", certificate]) {
            problem(&["certificates"], no_certificate(certificate, known));
        }
    }
    if certificates.is_empty() && document.names("certificate").is_empty() {
        let message = "there is no certificate to show; add [certificate.NAME] with cert_file and \
                       key_file";
        problem(&[], message.to_owned());
    } else if asked.certificates.is_some_and(<[_]>::is_empty) {
        let message = "`certificates` is empty; name at least one, or leave it out for all of them";
        problem(&["certificates"], message.to_owned());
    }
    let protocols = asked.protocols.clone();
    if protocols.as_ref().is_some_and(Vec::is_empty) {
        let message = "`protocols` is empty; name at least one, or leave it out";
        problem(&["protocols"], message.to_owned());
    }
    let protocols = protocols.unwrap_or_default();
    if protocols.iter().any(|protocol| !(1..=255).contains(&protocol.len())) {
        let message = "the name of a protocol has 1 to 255 bytes";
        problem(&["protocols"], message.to_owned());
    }
    let tls = asked.tls.clone();
    if let Some((key, message)) = tls.problem() {
        problem(&["tls", key], message.to_owned());
    }
    if tls.client_headers && asked.kind != "https" {
        let message = "there are no headers in what is carried here; take it away";
        problem(&["tls", "client_headers"], message.to_owned());
    }
    let shows = tls.client_certificate != ClientCertificate::None;
    let path = tls.client_ca_file.as_ref().filter(|_| shows);
    let authorities =
        path.map(|path| Authorities::load(&config.base_dir.join(path), tls.client_certificate));
    let authorities = authorities.and_then(|loaded| match loaded {
        Ok(authorities) => Some(authorities),
        Err(error) => {
            problem(&["tls", "client_ca_file"], error.to_string());
            None
        }
    });
    let wanted = ListenerWanted {
        name: name.into(),
        certificates: certificates.iter().map(|name| name.as_str().into()).collect(),
        unknown_name: asked.unknown_name,
        protocols,
        tls,
        authorities,
    };
    (problems.len() == before).then_some(wanted)
}

fn no_certificate<T>(name: &str, known: &BTreeMap<String, T>) -> String {
    let known: Vec<&str> = known.keys().map(String::as_str).collect();
    format!("there is no [certificate.{name}]{}", suggest::remedy(name, &known, "There are"))
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;

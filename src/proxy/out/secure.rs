//! TLS towards the endpoints of one service: whom to trust, who we are, and the handshake.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::net::tls::{self, TlsFiles};
use crate::proxy::config::{ServiceTlsConfig, TlsVersion};

/// Endpoints whose trouble with TLS is remembered, so that it is told once; of more nothing is told.
const TROUBLED_MAX: usize = 1024;

/// Configurations of clients by what they were built from, so that each is built once, and sessions
/// are resumed (RFC 8446 §2.2) by all workers and services that share it.
#[derive(Debug, Default)]
pub struct Configs(Vec<(TlsFiles, bool, Arc<ClientConfig>)>);

impl Configs {
    /// How many were built.
    #[must_use]
    pub fn built(&self) -> usize {
        self.0.len()
    }

    fn of(&mut self, files: TlsFiles, h2: bool) -> Result<Arc<ClientConfig>, tls::TlsError> {
        let known = self.0.iter().find(|(known, of_h2, _)| *known == files && *of_h2 == h2);
        if let Some((.., config)) = known {
            return Ok(Arc::clone(config));
        }
        let alpn: &[&[u8]] = if h2 { &[b"h2"] } else { &[b"http/1.1"] };
        let config = Arc::new(tls::client(&files, alpn)?);
        self.0.push((files, h2, Arc::clone(&config)));
        Ok(config)
    }
}

/// A compiled [`ServiceTlsConfig`].
#[derive(Debug)]
pub struct Secure {
    service: Arc<str>,
    server_name: Option<ServerName<'static>>,
    config: Arc<ClientConfig>,
    /// The same, which offers no protocol. Both share their sessions.
    bytes: Arc<ClientConfig>,
    h2: bool,
    verifies: bool,
    digest: u64,
    troubled: Mutex<HashSet<SocketAddr>>,
}

impl Secure {
    /// TLS as `config` has it, to speak h2 or else HTTP/1.1. Reads files.
    ///
    /// # Errors
    /// Which key is wrong, and why.
    pub fn compile(
        service: &str,
        config: &ServiceTlsConfig,
        h2: bool,
        configs: &mut Configs,
    ) -> Result<Self, String> {
        let server_name = config.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                format!("`server_name`: {name:?} is neither a host name nor an IP address")
            })
        });
        let server_name = server_name.transpose()?;
        let files = TlsFiles {
            ca_file: config.ca_file.clone(),
            cert_file: config.cert_file.clone(),
            key_file: config.key_file.clone(),
            unverified: !config.verify,
            only_13: config.min == TlsVersion::V13,
        };
        let mut hasher = std::hash::DefaultHasher::new();
        (&files, h2, &config.server_name).hash(&mut hasher);
        let read = [&files.ca_file, &files.cert_file, &files.key_file];
        read.into_iter().flatten().for_each(|file| hash(file, &mut hasher));
        let client = configs.of(files, h2).map_err(|error| error.to_string())?;
        Ok(Self {
            service: service.into(),
            server_name,
            bytes: offering(&client, None),
            config: client,
            h2,
            verifies: config.verify,
            digest: hasher.finish(),
            troubled: Mutex::default(),
        })
    }

    /// Whether endpoints have to show who they are.
    #[must_use]
    pub const fn verifies(&self) -> bool {
        self.verifies
    }

    /// Differs where the configuration, or what is in its files, differs.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Shakes hands with the endpoint at the other end of `tcp`.
    ///
    /// # Errors
    /// Why it is not to be talked with: it is somebody else, no TLS is spoken there, or no h2.
    pub async fn shake(
        &self,
        tcp: TcpStream,
        endpoint: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, String> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let shaken = connector.connect(self.name(endpoint), tcp).await;
        let stream = shaken.map_err(|error| in_words(&error))?;
        if self.h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("it speaks no h2 there: ALPN agreed on nothing".to_owned());
        }
        Ok(stream)
    }

    /// The same to carry bytes that are not ours to read; `protocol` is offered, if there is one. What
    /// the endpoint makes of that is between it and the client.
    ///
    /// # Errors
    /// Why it is not to be talked with.
    pub async fn shake_for(
        &self,
        tcp: TcpStream,
        endpoint: SocketAddr,
        protocol: Option<&[u8]>,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = match protocol {
            None => Arc::clone(&self.bytes),
            some => offering(&self.config, some),
        };
        let shaken = TlsConnector::from(config).connect(self.name(endpoint), tcp).await;
        shaken.map_err(|error| in_words(&error))
    }

    /// Whose certificate the endpoint has to show.
    fn name(&self, endpoint: SocketAddr) -> ServerName<'static> {
        let by_address = || ServerName::IpAddress(endpoint.ip().to_canonical().into());
        self.server_name.clone().unwrap_or_else(by_address)
    }

    /// Tells of trouble with an endpoint, the first time.
    pub fn failed(&self, endpoint: SocketAddr, why: &str) {
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        if troubled.len() < TROUBLED_MAX && troubled.insert(endpoint) {
            let service = &*self.service;
            tracing::warn!(service, %endpoint, reason = "tls", why, "TLS to an endpoint failed");
        }
    }

    /// Tells that trouble with an endpoint is over, if there was any.
    pub fn succeeded(&self, endpoint: SocketAddr) {
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        if troubled.remove(&endpoint) {
            let service = &*self.service;
            tracing::info!(service, %endpoint, "TLS to an endpoint works again");
        }
    }
}

/// `config` with this protocol on offer, or none.
fn offering(config: &ClientConfig, protocol: Option<&[u8]>) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
    Arc::new(config)
}

/// What the library says, without the frame that the standard library puts around it.
pub(in crate::proxy) fn in_words(error: &io::Error) -> String {
    error.get_ref().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The content of a file, or of the files in a directory. What cannot be read is told elsewhere.
fn hash(path: &Path, hasher: &mut impl Hasher) {
    if let Ok(entries) = std::fs::read_dir(path) {
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        files.iter().filter_map(|file| std::fs::read(file).ok()).for_each(|read| read.hash(hasher));
    } else if let Ok(read) = std::fs::read(path) {
        read.hash(hasher);
    }
}

//! TLS for probes: whom to believe, and the handshake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::tracker::Observation;
use super::Target;
use super::connect::{connect, in_words};
use crate::catalog::model::Address;
use crate::net::tls::{self, TlsError, TlsFiles};

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
        let files = TlsFiles {
            ca_file: config.ca_file.clone(),
            unverified: !config.verify,
            ..TlsFiles::default()
        };
        let client = tls::client(&files.below(base_dir), alpn).map_err(|error| match error {
            TlsError::File { what, path, why } => {
                (what, format!("cannot use {}: {why}", path.display()))
            }
            other => ("tls", other.to_string()),
        })?;
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

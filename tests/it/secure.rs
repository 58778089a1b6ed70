//! A certificate authority of a test, and clients that speak TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, version,
};

use crate::rig::{Client, Rig, service, within};

/// A connection over TLS.
pub(crate) type Secure = Client<TlsStream<TcpStream>>;

/// Signs certificates, and keeps them as files in a directory of its own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) directory: TempDir,
}

impl Authority {
    /// Its own certificate is `ca.pem`.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let made = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), made.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a server's certificate for `names`: `STEM.crt`, with a rename as it should be, and
    /// `STEM.key`.
    pub(crate) fn server(&self, stem: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, stem);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let list = CrlDistributionPoint { uris: vec!["http://127.0.0.1:1/crl".to_owned()] };
        params.crl_distribution_points = vec![list];
        // As long as browsers let one be good for, and no shorter than testssl.sh likes it.
        const DAY: Duration = Duration::from_secs(86_400);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(DAY);
        params.not_after = epoch + (now + DAY * 300);
        self.sign(stem, &params);
    }

    /// Signs a client's certificate.
    pub(crate) fn client(&self, stem: &str, expired: bool) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Ships, Boats");
        params.distinguished_name.push(DnType::CommonName, stem);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        self.sign(stem, &params);
    }

    fn sign(&self, stem: &str, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let aside = |name: &str| self.path(&format!("{stem}.{name}.new"));
        std::fs::write(aside("key"), key.serialize_pem()).unwrap();
        std::fs::write(aside("crt"), made.pem()).unwrap();
        // Right behind each other: for half a second the two may belong to different pairs.
        for name in ["key", "crt"] {
            std::fs::rename(aside(name), self.path(&format!("{stem}.{name}"))).unwrap();
        }
    }

    pub(crate) fn certificate(&self, stem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{stem}.crt"))).unwrap()
    }

    /// `[certificate.STEM]` for each of `stems`.
    pub(crate) fn tables(&self, stems: &[&str]) -> String {
        let table = |stem: &&str| {
            let file = |what: &str| self.path(&format!("{stem}.{what}")).display().to_string();
            let (cert, key) = (file("crt"), file("key"));
            format!("[certificate.{stem}]\ncert_file = {cert:?}\nkey_file = {key:?}\n")
        };
        stems.iter().map(table).collect()
    }

    /// One https listener `web` with all certificates, whose every request goes to the service `web`
    /// at `origins`. `more` goes into its table, and other tables behind it.
    pub(crate) fn configuration(&self, stems: &[&str], more: &str) -> String {
        format!(
            "{}[node]\nworkers = 1\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
             [listener.web.https]\nbind = [\"127.0.0.1:0\"]\n{more}",
            self.tables(stems)
        )
    }

    /// The application with [`Self::configuration`].
    pub(crate) async fn rig(&self, stems: &[&str], more: &str, origins: &[SocketAddr]) -> Rig {
        Box::pin(Rig::start(&self.configuration(stems, more), vec![service("web", origins)])).await
    }

    /// A client that trusts this authority.
    pub(crate) fn trusting(&self) -> Terms {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        Terms { roots: Some(roots), ..Terms::anybody() }
    }
}

/// How a client speaks TLS.
pub(crate) struct Terms {
    /// Whom it trusts; none: anybody.
    pub(crate) roots: Option<RootCertStore>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) alpn: Vec<Vec<u8>>,
    /// Its certificate and key.
    pub(crate) shows: Option<(PathBuf, PathBuf)>,
}

impl Terms {
    /// Takes any certificate, and shows none.
    pub(crate) fn anybody() -> Self {
        Self {
            roots: None,
            versions: vec![&version::TLS13, &version::TLS12],
            alpn: Vec::new(),
            shows: None,
        }
    }

    /// The same with the certificate `STEM.crt` of `authority`.
    pub(crate) fn showing(mut self, authority: &Authority, stem: &str) -> Self {
        let file = |what: &str| authority.path(&format!("{stem}.{what}"));
        self.shows = Some((file("crt"), file("key")));
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&self.versions).unwrap();
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)),
        };
        let mut config = match &self.shows {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let cert = CertificateDer::from_pem_file(cert).unwrap();
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    /// Shakes hands as a client that asks for `name`; one that is an address is not sent.
    pub(crate) async fn connect(&self, at: SocketAddr, name: &str) -> std::io::Result<Secure> {
        shake(&self.config(), at, name).await
    }
}

/// The same with a configuration that is there, and its sessions.
pub(crate) async fn shake(
    config: &Arc<ClientConfig>,
    at: SocketAddr,
    name: &str,
) -> std::io::Result<Secure> {
    let tcp = within("connect", TcpStream::connect(at)).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let shaken = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
    Ok(Client::over(within("the handshake", shaken).await?))
}

/// What the library says of a failed handshake.
pub(crate) fn told(error: &std::io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The certificate that was shown to `client`.
pub(crate) fn shown(client: &Secure) -> CertificateDer<'static> {
    client.stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody;

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
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

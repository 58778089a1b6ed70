//! QUIC through a UDP listener, by a client and servers that speak it for real.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig, TransportConfig};
use tokio::task::JoinSet;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::rig::{Rig, service, within};
use crate::secure::Authority;

const NAME: &str = "a.example";
/// Of one stream, there and back.
const LENGTH: usize = 1 << 20;

/// Two servers and a client that trusts them.
struct Quic {
    servers: [Endpoint; 2],
    client: Endpoint,
}

impl Quic {
    fn start() -> Self {
        let authority = Authority::new();
        authority.server("a", &[NAME]);
        let servers = ["one", "two"].map(|name| serve(&authority, name));
        let mut terms = authority.trusting();
        terms.alpn = vec![b"echo".to_vec()];
        terms.versions.retain(|version| **version == rustls::version::TLS13);
        let crypto = QuicClientConfig::try_from(Arc::unwrap_or_clone(terms.config())).unwrap();
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        // As clients behind a NAT do.
        transport.keep_alive_interval(Some(Duration::from_millis(200)));
        config.transport_config(Arc::new(transport));
        let mut client = Endpoint::client(any()).unwrap();
        client.set_default_client_config(config);
        Self { servers, client }
    }

    /// Where the servers are.
    fn addresses(&self) -> [SocketAddr; 2] {
        self.servers.each_ref().map(|server| server.local_addr().unwrap())
    }

    async fn connect(&self, rig: &Rig) -> Connection {
        let to = rig.address("quic").await;
        let connecting = self.client.connect(to, NAME).unwrap();
        within("a handshake", connecting).await.unwrap()
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A server that begins each answer with its name, and gives back what it was sent.
fn serve(authority: &Authority, name: &'static str) -> Endpoint {
    let key = PrivateKeyDer::from_pem_file(authority.path("a.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut crypto = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![authority.certificate("a")], key)
        .unwrap();
    crypto.alpn_protocols = vec![b"echo".to_vec()];
    let crypto = QuicServerConfig::try_from(crypto).unwrap();
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, any()).unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await?;
                while let Ok((mut answer, mut question)) = connection.accept_bi().await {
                    let asked = question.read_to_end(LENGTH).await.unwrap_or_default();
                    let _ = answer.write_all(&[name.as_bytes(), &asked].concat()).await;
                    let _ = answer.finish();
                }
                Ok::<_, quinn::ConnectionError>(())
            });
        }
    });
    endpoint
}

/// Who answers on a new stream, once everything has come back whole.
async fn asked(connection: &Connection, length: usize) -> String {
    let sent: Vec<u8> = (0..=250).cycle().take(length).collect();
    let asked = async {
        let (mut question, mut answer) = connection.open_bi().await.unwrap();
        // Both at once: neither side keeps a whole body on its way.
        let ask = async {
            question.write_all(&sent).await.unwrap();
            question.finish().unwrap();
        };
        let ((), answer) = tokio::join!(ask, answer.read_to_end(LENGTH + 8));
        answer.unwrap()
    };
    let answer = within("an answer", asked).await;
    let (name, echoed) = answer.split_at(3);
    assert!(echoed == sent, "{} of {length} bytes came back, or others", echoed.len());
    String::from_utf8(name.to_vec()).unwrap()
}

fn config(more: &str) -> String {
    format!(
        "[node]\nworkers = 2\n[listener.quic.udp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n{more}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_stay_with_their_server_through_reloads_and_while_others_come_and_go() {
    let quic = Quic::start();
    let addresses = quic.addresses();
    let turns = "[service.web]\npolicy = \"round-robin\"\n";
    let rig = Rig::start(&config(turns), vec![service("web", &addresses)]).await;
    let connection = quic.connect(&rig).await;
    let first = asked(&connection, LENGTH).await;
    let at = usize::from(first == "two");
    for round in 0..5 {
        rig.tell(vec![service("web", &addresses[at..=at])]).await;
        assert_eq!(asked(&connection, LENGTH / 4).await, first, "the other one is gone");
        rig.tell(vec![service("web", &addresses)]).await;
        rig.reload(&config(&format!("timeouts = {{ idle = \"{}s\" }}\n{turns}", 40 + round))).await;
        let mut streams = JoinSet::new();
        for _ in 0..8 {
            let connection = connection.clone();
            streams.spawn(async move { asked(&connection, LENGTH / 16).await });
        }
        for who in streams.join_all().await {
            assert_eq!(who, first, "streams at once, behind a reload");
        }
    }
    let path = connection.stats().path;
    assert_eq!(connection.close_reason(), None);
    assert!(path.current_mtu > 1400, "large datagrams pass: {path:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_from_another_port_is_carried_to_the_server_that_knows_it() {
    let quic = Quic::start();
    let maglev = "[service.web]\npolicy = \"maglev\"\n";
    let rig = Rig::start(&config(maglev), vec![service("web", &quic.addresses())]).await;
    let connection = quic.connect(&rig).await;
    let first = asked(&connection, LENGTH).await;
    for _ in 0..5 {
        let before = quic.client.local_addr().unwrap();
        quic.client.rebind(UdpSocket::bind(any()).unwrap()).unwrap();
        assert_ne!(quic.client.local_addr().unwrap(), before);
        assert_eq!(asked(&connection, LENGTH / 4).await, first);
    }
    assert_eq!(connection.close_reason(), None);
    let begun = "portolan_udp_flows_total{listener=\"quic\",result=\"begun\"}";
    assert_eq!(rig.metric(begun).await, Some(6.0), "each port is a flow of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_behind_a_server_that_left_is_served_by_the_other() {
    let quic = Quic::start();
    let addresses = quic.addresses();
    let more = "moved = \"drop\"\n";
    let rig = Rig::start(&config(more), vec![service("web", &addresses)]).await;
    let connection = quic.connect(&rig).await;
    let first = asked(&connection, 100).await;
    let at = usize::from(first == "two");
    rig.tell(vec![service("web", &[addresses[1 - at]])]).await;
    quic.servers[at].close(0u8.into(), b"leaving");
    let again = quic.connect(&rig).await;
    let other = ["two", "one"][at];
    assert_eq!(asked(&again, LENGTH).await, other);
}

//! A Marathon behind TLS: whose certificate is believed, and who sees the credentials.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::marathon_link::{Linked, Node, Role};
use crate::support::until;
use crate::upstream_tls::{Authority, acceptor};

const BASIC: &str = "Basic dTpodW50ZXIy";

/// Takes connections over TLS; those that come to nothing are none.
struct Secure(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, from)) = self.0.accept().await else { continue };
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A node of which `authority` says that it is this address.
async fn node(authority: &Authority, role: Role) -> Node {
    let acceptor = acceptor(&authority.certify(&["127.0.0.1"], false), None, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Node::serve("https", listener.local_addr().unwrap(), Secure(listener, acceptor), role)
}

/// A directory with the password, and the keys of a registry that sends it.
fn credentials(authority: &Authority) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("password"), "hunter2\n").unwrap();
    let keys = "username = \"u\"\npassword_file = \"password\"\nbackoff_max = \"20ms\"\n";
    (directory, format!("{keys}resync = \"1h\"\n{}", authority.ca()))
}

#[tokio::test]
async fn a_node_whose_certificate_is_of_our_authority_is_followed_and_gets_the_credentials() {
    let authority = Authority::new();
    let (directory, keys) = credentials(&authority);
    let node = node(&authority, Role::Leads).await;
    node.app("web", &[31_001]);
    node.model().secret = Some(BASIC.into());
    let mut linked = Linked::start(&[node.url()], &keys, directory.path());
    linked.live("web", &[31_001]).await;
    node.app("web", &[31_001, 31_002]);
    node.task("web", 31_002, "TASK_RUNNING");
    linked.live("web", &[31_001, 31_002]).await;
    let asked = node.model().asked.clone();
    assert!(asked.len() >= 4, "{asked:?}");
    assert!(asked.iter().all(|(_, shown)| shown.as_deref() == Some(BASIC)), "{asked:?}");
}

#[tokio::test]
async fn a_node_whose_certificate_is_of_somebody_else_hears_nothing_and_is_told() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (directory, keys) = credentials(&ours);
    let (good, bad) = (node(&ours, Role::Leads).await, node(&theirs, Role::Leads).await);
    good.app("web", &[31_001]);
    bad.app("web", &[31_666]);
    let mut linked = Linked::start(&[good.url(), bad.url()], &keys, directory.path());
    linked.live("web", &[31_001]).await;
    good.model().role = Role::Fails(503);
    good.close_streams();
    linked.stale(&format!("no TLS with {}: invalid peer certificate", bad.address)).await;
    assert_eq!(bad.model().asked, []);
    // It takes a word of the configuration to believe anybody.
    drop(linked);
    let keys = keys.replace(&ours.ca(), "verify = false\n");
    let mut linked = Linked::start(&[bad.url()], &keys, directory.path());
    linked.live("web", &[31_666]).await;
}

#[tokio::test]
async fn a_redirect_takes_the_credentials_to_the_leader_over_tls_and_never_in_plain_text() {
    let authority = Authority::new();
    let (directory, keys) = credentials(&authority);
    let leader = node(&authority, Role::Leads).await;
    leader.app("web", &[31_001]);
    leader.model().secret = Some(BASIC.into());
    let standby = node(&authority, Role::Redirects(leader.url())).await;
    standby.model().leader = Some(leader.url());
    let mut linked = Linked::start(&[standby.url()], &keys, directory.path());
    linked.live("web", &[31_001]).await;
    drop(linked);

    // The same, but that the leader speaks no TLS: as it is named whole, and by `/v2/leader`.
    for named in [true, false] {
        let plain = Node::start(Role::Leads).await;
        plain.model().secret = Some(BASIC.into());
        let standby = node(&authority, Role::Redirects(plain.url())).await;
        let url = plain.url();
        let name = if named { &*url } else { url.trim_start_matches("http://") };
        standby.model().leader = Some(name.to_owned());
        let linked = Linked::start(&[standby.url()], &keys, directory.path());
        until("it is asked", async || (plain.model().asked.len() > 1).then_some(())).await;
        let asked = plain.model().asked.clone();
        assert!(asked.iter().all(|(_, shown)| shown.is_none()), "{asked:?}");
        assert!(standby.model().asked.iter().all(|(_, shown)| shown.as_deref() == Some(BASIC)));
        drop(linked);
    }
}

//! What a service says, over TCP: policies, who stands in, and what becomes of connections when an
//! instance turns unhealthy.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use portolan::catalog::{Health, SourceService};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

use crate::origin::{Exchange, Origin};
use crate::rig::{Client, Rig, instance, service, within};
use crate::tcp::{rig, says_back};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\n\r\n";

/// A connection from 127.0.0.`host`, and who answers it.
async fn from(rig: &Rig, host: u8) -> (Client, char) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    let stream = within("connect", socket.connect(rig.address("web").await)).await.unwrap();
    let mut client = Client::over(stream);
    let name = client.bytes(1).await[0];
    (client, name.into())
}

/// `web` at these addresses, those with `false` unhealthy.
fn web(instances: &[(SocketAddr, bool)]) -> SourceService {
    let told = instances.iter().map(|(at, well)| {
        let health = if *well { Health::Healthy } else { Health::Unhealthy };
        Arc::new(portolan::catalog::Instance { health, ..instance(&at.to_string(), *at) })
    });
    SourceService { instances: told.collect(), ..service("web", &[]) }
}

#[tokio::test]
async fn every_policy_spreads_connections_and_tries_the_next_endpoint_when_one_is_dead() {
    let (a, b) = (Origin::lettered('a').await, Origin::lettered('b').await);
    let dead = TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let all = [a.address, b.address, dead.local_addr().unwrap()];
    for policy in ["p2c", "round-robin", "least-connections", "random", "maglev", "ring-hash"] {
        let rig = rig(&format!("[service.web]\npolicy = \"{policy}\"\n"), &all).await;
        let (mut held, mut seen) = (Vec::new(), BTreeSet::new());
        for host in 1..=40 {
            let (client, name) = from(&rig, host).await;
            seen.insert(name);
            held.push(client);
        }
        assert_eq!(seen, BTreeSet::from(['a', 'b']), "{policy}");
        for client in &mut held {
            says_back(client, "still there").await;
        }
        let retries = rig.metric("portolan_proxy_connect_retries_total{listener=\"web\"}").await;
        assert!(retries.is_some_and(|retries| retries >= 1.0), "{policy}: {retries:?}");
    }
}

#[tokio::test]
async fn a_client_comes_back_to_the_same_endpoint_under_policies_that_hash() {
    let (a, b) = (Origin::lettered('a').await, Origin::lettered('b').await);
    for policy in ["maglev", "ring-hash"] {
        let config = format!("[service.web]\npolicy = \"{policy}\"\n");
        let rig = rig(&config, &[a.address, b.address]).await;
        let (mut seen, mut gone) = (BTreeSet::new(), 0);
        for host in 1..=20 {
            let mut names = BTreeSet::new();
            for _ in 0..3 {
                let (client, name) = from(&rig, host).await;
                names.insert(name);
                drop(client);
                // Nobody else is there: one that is busy would give way to the other one.
                gone += 1;
                let ended = "portolan_proxy_tcp_ended_total{end=\"whole\",listener=\"web\"}";
                rig.metric_is(ended, f64::from(gone)).await;
            }
            assert_eq!(names.len(), 1, "{policy}, 127.0.0.{host}: {names:?}");
            seen.extend(names);
        }
        assert_eq!(seen, BTreeSet::from(['a', 'b']), "{policy}");
    }
}

#[tokio::test]
async fn when_none_is_healthy_the_failing_serve_or_the_backup_does_as_the_service_says() {
    let (a, b) = (Origin::lettered('a').await, Origin::lettered('b').await);
    let sick = || web(&[(a.address, false)]);
    let well = || web(&[(a.address, true)]);
    let spare = || service("spare", &[b.address]);

    let refuse = rig("", &[a.address]).await;
    refuse.tell(vec![sick()]).await;
    assert_eq!(refuse.client().await.rest().await, b"", "nobody is there");

    let serve = rig("[service.web]\nwhen_none_healthy = \"all\"\n", &[a.address]).await;
    serve.tell(vec![sick()]).await;
    assert_eq!(from(&serve, 1).await.1, 'a');

    let backed = rig("[service.web]\nbackup = \"spare\"\n", &[a.address]).await;
    backed.tell(vec![well(), spare()]).await;
    let (mut first, name) = from(&backed, 1).await;
    assert_eq!(name, 'a');
    backed.tell(vec![sick(), spare()]).await;
    let (mut second, name) = from(&backed, 1).await;
    assert_eq!(name, 'b');
    says_back(&mut first, "unhealthy is no reason to be cut").await;
    backed.tell(vec![well(), spare()]).await;
    assert_eq!(from(&backed, 1).await.1, 'a');
    says_back(&mut second, "nor is to stand in no more").await;
}

#[tokio::test]
async fn connections_and_tunnels_to_an_instance_that_turns_unhealthy_are_closed_where_that_is_said()
{
    let chat = |mut exchange: Exchange| async move {
        exchange.head().await?;
        exchange.send(SWITCHING).await?;
        exchange.echo().await
    };
    let mute = |mut exchange: Exchange| async move {
        exchange.head().await?;
        exchange.rest().await
    };
    for close in [true, false] {
        let (a, b) = (Origin::lettered('a').await, Origin::lettered('b').await);
        let (tunnel, slow) = (Origin::start(chat).await, Origin::start(mute).await);
        let says = if close { "close" } else { "keep" };
        let config = format!(
            "[node]\nworkers = 1\n\
             [listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web\"\n\
             [service.web]\non_unhealthy = \"{says}\"\n\
             [listener.chat.http]\nbind = [\"127.0.0.1:0\"]\n\
             [route.chat]\nlistener = \"chat\"\nservice = \"chat\"\n\
             [service.chat]\non_unhealthy = \"{says}\"\n\
             [route.slow]\nlistener = \"chat\"\nservice = \"slow\"\npath = \"/slow\"\n\
             [service.slow]\non_unhealthy = \"{says}\"\n"
        );
        let one = |name: &str, origin: &Origin, well| SourceService {
            name: name.into(),
            ..web(&[(origin.address, well)])
        };
        let say = |well| {
            vec![
                web(&[(a.address, well), (b.address, true)]),
                one("chat", &tunnel, well),
                one("slow", &slow, well),
            ]
        };
        let rig = Rig::start(&config, say(true)).await;
        let mut held = Vec::new();
        for host in 1..=20 {
            held.push(from(&rig, host).await);
        }
        let at = rig.address("chat").await;
        let mut chat = Client::connect(at).await;
        chat.send(UPGRADE).await;
        assert_eq!(chat.answer().await.status, 101);
        let mut request = Client::connect(at).await;
        request.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        slow.seen("the request", |all| all.iter().any(|c| c.text().contains("/slow"))).await;

        rig.tell(say(false)).await;
        let at_a = held.iter().filter(|(_, name)| *name == 'a').count();
        assert!(at_a > 0, "the test needs one");
        for (client, name) in &mut held {
            if close && *name == 'a' {
                assert!(client.is_reset().await, "a clean end would look like a whole answer");
            } else {
                says_back(client, "still there").await;
            }
        }
        if close {
            assert!(chat.is_reset().await);
            a.seen("the ends", |all| all.iter().filter(|c| c.ended).count() == at_a).await;
            let counted = |listener: &str| {
                format!("portolan_proxy_cut_total{{listener=\"{listener}\",reason=\"unhealthy\"}}")
            };
            rig.metric_is(&counted("web"), at_a as f64).await;
            rig.metric_is(&counted("chat"), 1.0).await;
        } else {
            says_back(&mut chat, "still there").await;
        }
        let mut nothing = [0];
        let waits = tokio::time::timeout(
            std::time::Duration::from_millis(50),
            request.stream.read(&mut nothing),
        );
        assert!(waits.await.is_err(), "a request goes on");

        // Back again, it keeps what it gets.
        rig.tell(say(true)).await;
        let mut again = BTreeSet::new();
        for host in 1..=20 {
            let (mut client, name) = from(&rig, host).await;
            says_back(&mut client, "hello").await;
            again.insert(name);
        }
        assert!(again.contains(&'a'), "{again:?}");
    }
}

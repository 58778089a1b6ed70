//! The leader of a Marathon as a real ZooKeeper knows it: found, followed through an election, and
//! kept while ZooKeeper is gone.

use std::path::Path;

use portolan::catalog::RegistryState;

use crate::marathon_link::{Linked, Node, Role};
use crate::support::zookeeper::ZooKeeper;
use crate::support::{until, within};

/// A link by ZooKeeper, of whose servers the first one is not there.
fn linked(zookeeper: &ZooKeeper) -> Linked {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("zk://{nobody},{}/marathon", zookeeper.address);
    let keys = "resync = \"1h\"\ncoalesce = \"20ms\"\nbackoff_max = \"50ms\"";
    Linked::start(&[url], keys, Path::new("."))
}

/// Returns once events of `node` are followed.
async fn follows(linked: &Linked, node: &Node) {
    let at = format!("http://{}; follows", node.address);
    until(&at, async || linked.registry.reports().borrow().detail.starts_with(&at).then_some(()))
        .await;
}

#[tokio::test]
async fn the_leader_is_followed_through_elections_and_outages_of_zookeeper() {
    let (a, b) = (Node::start(Role::Leads).await, Node::start(Role::Leads).await);
    a.app("web", &[31_001]);
    b.app("web", &[31_001, 31_002]);
    let mut zookeeper = ZooKeeper::start().await;
    let mut linked = linked(&zookeeper);
    // Nobody stands for election yet; then one, and another one behind it.
    let first = tokio::spawn(zookeeper.stand(a.address).await.live());
    linked.live("web", &[31_001]).await;
    let second = tokio::spawn(zookeeper.stand(b.address).await.live());
    follows(&linked, &a).await;

    // The leader's session ends: nobody told us, ZooKeeper does.
    first.abort();
    a.model().role = Role::Fails(503);
    linked.live("web", &[31_001, 31_002]).await;
    follows(&linked, &b).await;

    // ZooKeeper is killed: nothing changes, and events go on.
    zookeeper.kill().await;
    b.app("web", &[31_003]);
    b.task("web", 31_003, "TASK_RUNNING");
    linked.live("web", &[31_003]).await;
    until("the outage is told", async || {
        linked.registry.reports().borrow().detail.contains("ZooKeeper at").then_some(())
    })
    .await;
    assert!(matches!(*linked.states.borrow(), RegistryState::Live(_)));
    // The stream breaks too: the leader that was named last is asked.
    b.app("web", &[31_004]);
    b.close_streams();
    linked.live("web", &[31_004]).await;

    // It is back, and another one leads.
    within("the end of a session", second).await.unwrap();
    zookeeper.run().await;
    a.app("web", &[31_005]);
    a.model().role = Role::Leads;
    let third = tokio::spawn(zookeeper.stand(a.address).await.live());
    linked.live("web", &[31_005]).await;

    // It is set up anew, and knows less than we have seen.
    zookeeper.kill().await;
    within("the end of a session", third).await.unwrap();
    zookeeper.wipe();
    zookeeper.run().await;
    b.app("web", &[31_006]);
    let fourth = tokio::spawn(zookeeper.stand(b.address).await.live());
    linked.live("web", &[31_006]).await;
    follows(&linked, &b).await;
    fourth.abort();
}

#[tokio::test]
async fn a_marathon_that_elects_as_of_old_is_found_too() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    let zookeeper = ZooKeeper::start().await;
    let mut linked = linked(&zookeeper);
    let candidate = tokio::spawn(zookeeper.stand_as_of_old(node.address).await.live());
    linked.live("web", &[31_001]).await;
    candidate.abort();
}

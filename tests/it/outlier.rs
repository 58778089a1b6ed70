//! Instances that fail are taken out by what the proxy sees of them, come back, and are never too
//! many; and whoever turns unhealthy is told about.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use portolan::catalog::{Health, Instance, RegistryState, RegistryView, SourceService};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::origin::{OK, Origin, Received};
use crate::rig::{Client, Rig, instance, service, within};
use crate::support;

const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A rig whose service `web` has `outlier` as given.
async fn rig(outlier: &str, origins: &[SocketAddr]) -> Rig {
    Rig::http(&format!("[service.web]\npolicy = \"round-robin\"\noutlier = {outlier}\n"), origins)
        .await
}

/// Returns once exactly `wanted` get work.
async fn eligible(rig: &Rig, wanted: &[SocketAddr]) {
    let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    let published = rig.app.published(|snapshot| {
        let service = snapshot.service("web").unwrap();
        service.eligible.iter().map(|i| i.id.to_string()).collect::<BTreeSet<_>>() == wanted
    });
    within("the eligible ones", published).await;
}

fn count(rig: &Rig) -> usize {
    rig.app.tables().snapshot.service("web").unwrap().eligible.len()
}

/// Asks until somebody is ejected.
async fn ask_until_one_is_out(rig: &Rig, origins: usize) {
    within("an ejection", async {
        while count(rig) == origins {
            let _ = rig.ask(GET).await;
        }
    })
    .await;
}

/// What of so many requests came back as status.
async fn statuses(rig: &Rig, requests: usize) -> BTreeSet<u16> {
    let mut client = rig.client().await;
    let mut seen = BTreeSet::new();
    for _ in 0..requests {
        client.send(GET).await;
        seen.insert(client.answer().await.status);
    }
    seen
}

#[tokio::test]
async fn one_of_three_that_answers_500_is_out_and_comes_back_after_its_time() {
    let (a, b) = (Origin::answering(OK).await, Origin::answering(OK).await);
    let bad = Origin::answering(BROKEN).await;
    let all = [a.address, b.address, bad.address];
    let rig = rig("{ base_ejection = \"4s\" }", &all).await;
    let began = Instant::now();
    ask_until_one_is_out(&rig, 3).await;
    eligible(&rig, &all[..2]).await;
    println!("out after {:?}", began.elapsed());
    assert_eq!(statuses(&rig, 30).await, BTreeSet::from([200]), "nobody sees it meanwhile");
    let told = rig.app.tables().snapshot.service("web").unwrap().clone();
    let ejected = told.instances.iter().find(|i| i.id.as_ref() == bad.address.to_string()).unwrap();
    assert_eq!(ejected.health, Health::Unhealthy);
    assert!(ejected.cause.ends_with("failures in a row (status); out for 4s"), "{}", ejected.cause);
    rig.metric_is("portolan_health_ejections_total{signal=\"consecutive_failures\"}", 1.0).await;
    eligible(&rig, &all).await;
    // From before it was out: whoever looks late has seen less of its time.
    let away = began.elapsed();
    assert!(away >= Duration::from_secs(4), "{away:?}");
    ask_until_one_is_out(&rig, 3).await;
    let told = rig.app.tables().snapshot.service("web").unwrap().clone();
    assert!(told.instances.iter().any(|i| i.cause.ends_with("out for 8s")), "longer this time");
}

#[tokio::test]
async fn one_that_breaks_connections_or_is_not_there_is_out() {
    let (a, b) = (Origin::answering(OK).await, Origin::answering(OK).await);
    let resets = Origin::start(|mut exchange| async move {
        exchange.request().await?;
        socket2::SockRef::from(&exchange.stream).set_linger(Some(Duration::ZERO)).ok()
    })
    .await;
    let all = [a.address, b.address, resets.address];
    let rig = rig("{ consecutive_failures = 3 }", &all).await;
    ask_until_one_is_out(&rig, 3).await;
    eligible(&rig, &all[..2]).await;

    // Nobody listens there any more: clients are served by the others, and it is out all the same.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let all = [a.address, b.address, gone];
    rig.tell(vec![service("web", &all)]).await;
    within("an ejection", async {
        while count(&rig) == 3 {
            assert_eq!(rig.ask(GET).await.status, 200);
        }
    })
    .await;
    eligible(&rig, &all[..2]).await;
}

#[tokio::test]
async fn a_slow_one_is_out_when_latency_is_compared() {
    let (a, b) = (Origin::answering(OK).await, Origin::answering(OK).await);
    let slow = Origin::start(|mut exchange| async move {
        loop {
            exchange.request().await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            exchange.send(OK).await?;
        }
    })
    .await;
    let all = [a.address, b.address, slow.address];
    let outlier = "{ interval = \"500ms\", \
                   latency = { min_requests = 3, min_difference = \"100ms\", factor = 3.0 } }";
    let rig = rig(outlier, &all).await;
    let address = rig.address("web").await;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                loop {
                    client.send(GET).await;
                    assert_eq!(client.answer().await.status, 200);
                }
            })
        })
        .collect();
    eligible(&rig, &all[..2]).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    let told = rig.app.tables().snapshot.service("web").unwrap().clone();
    let taken = told.instances.iter().find_map(|i| {
        let (_, taken) = i.cause.split_once("its answers take ")?;
        taken.split_once(" ms")?.0.parse::<u32>().ok()
    });
    assert!(taken.is_some_and(|taken| taken >= 300), "{told:?}");
}

#[tokio::test]
async fn when_all_fail_the_share_holds() {
    let mut origins = Vec::new();
    for _ in 0..4 {
        origins.push(Origin::answering(BROKEN).await);
    }
    let all: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let rig = rig("{ consecutive_failures = 2, max_ejected = \"50%\" }", &all).await;
    let spared = "portolan_health_ejections_spared_total";
    within("half of them out, and one more spared", async {
        while rig.metric(spared).await == Some(0.0) {
            assert_eq!(rig.ask(GET).await.status, 500);
            assert!(count(&rig) >= 2);
        }
    })
    .await;
    // Judged is not yet published.
    within("two out", async {
        while count(&rig) != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    rig.metric_is("portolan_health_ejected_instances", 2.0).await;
    assert_eq!(count(&rig), 2);
}

#[tokio::test]
async fn tcp_connections_that_are_refused_or_reset_before_a_byte_take_an_instance_out() {
    let echo = Origin::echoing().await;
    let resets = Origin::start(|exchange| async move {
        socket2::SockRef::from(&exchange.stream).set_linger(Some(Duration::ZERO)).ok()
    })
    .await;
    let config = "[node]\nworkers = 1\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\n\
                  service = \"web\"\n[service.web]\npolicy = \"round-robin\"\n\
                  outlier = { consecutive_failures = 3 }\n";
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for bad in [resets.address, gone] {
        let all = [echo.address, bad];
        let rig = Rig::start(config, vec![service("web", &all)]).await;
        within("an ejection", async {
            while count(&rig) == 2 {
                let mut client = rig.client().await;
                // It may be broken already.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"hi").await;
                let _ = tokio::io::AsyncReadExt::read(&mut client.stream, &mut [0; 2]).await;
            }
        })
        .await;
        eligible(&rig, &all[..1]).await;
        let mut client = rig.client().await;
        client.send("hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
    }
}

#[tokio::test]
async fn an_ejection_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (Origin::answering(OK).await, Origin::answering(BROKEN).await);
    let registry = support::Memory::new("mem");
    registry.tell("web", &[good.address, bad.address]);
    let config = "[node]\nworkers = 1\ndata_dir = \"data\"\n[route.all]\nlistener = \"web\"\n\
                  service = \"web\"\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                  [service.web]\npolicy = \"round-robin\"\n\
                  outlier = { consecutive_failures = 1, base_ejection = \"1h\", max_ejection = \"1h\" }\n\
                  [admin]\nsocket = \"admin.sock\"\n";
    let app = support::start_with(config, directory.path(), &[&registry]).await;
    support::known(&app, "web", 2).await;
    let address = support::address(&app, "web").await;
    within("an ejection", async {
        while app.tables().snapshot.service("web").unwrap().eligible.len() == 2 {
            let mut client = Client::connect(address).await;
            client.send(GET).await;
            client.answer().await;
        }
    })
    .await;
    app.stop().await;

    let app = support::start_with(config, directory.path(), &[&registry]).await;
    support::known(&app, "web", 2).await;
    let web = app.tables().snapshot.service("web").unwrap().clone();
    let eligible: Vec<_> = web.eligible.iter().map(|i| i.id.to_string()).collect();
    assert_eq!(eligible, [good.address.to_string()]);
    app.stop().await;
}

/// `web` with an instance at each address; those at `bad` are unhealthy by their registry's word.
fn web(addresses: &[SocketAddr], bad: &[SocketAddr]) -> Vec<SourceService> {
    let instances = addresses.iter().map(|address| {
        let health = if bad.contains(address) { Health::Unhealthy } else { Health::Healthy };
        let cause = if bad.contains(address) { "the disk is full" } else { "" };
        let known = instance(&address.to_string(), *address);
        Arc::new(Instance { health, cause: cause.into(), ..known })
    });
    vec![SourceService { instances: instances.collect(), ..service("web", &[]) }]
}

fn addresses() -> Vec<SocketAddr> {
    (1..=4).map(|n| SocketAddr::from(([10, 0, 0, n], 80))).collect()
}

/// The event that a webhook got, from the body of a request.
fn event(request: &str) -> serde_json::Value {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

/// A webhook that refuses so many requests and takes all that come after.
async fn webhook(refusals: usize) -> Origin {
    let left = Arc::new(AtomicUsize::new(refusals));
    Origin::start(move |mut exchange| {
        let left = Arc::clone(&left);
        async move {
            loop {
                exchange.request().await?;
                let refuse = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
                exchange.send(if refuse { BROKEN } else { OK }).await?;
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_event_is_posted_until_it_is_taken_each_time_with_the_same_id() {
    let hook = webhook(2).await;
    let secrets = tempfile::tempdir().unwrap();
    let headers = secrets.path().join("headers");
    std::fs::write(&headers, "Authorization: Bearer something\n").unwrap();
    let all = addresses();
    let config = format!(
        "[service.web]\non_failure = {{ strategy = \"recreate\", retry_min = \"10ms\", \
         webhook = \"http://{}/hook?x=1\", webhook_headers = \"{}\" }}\n",
        hook.address,
        headers.display()
    );
    let rig = Rig::start(&config, web(&all, &[])).await;
    rig.tell(web(&all, &all[1..2])).await;
    hook.seen("three tries", |all| all.iter().filter(|one| !one.bytes.is_empty()).count() == 3)
        .await;
    rig.metric_is("portolan_health_events_total{end=\"acknowledged\"}", 1.0).await;
    rig.metric_is("portolan_health_events_pending", 0.0).await;
    let requests: Vec<String> = hook.received().iter().map(Received::text).collect();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert!(request.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{request}");
        let head = request.to_ascii_lowercase();
        assert!(head.contains("authorization: bearer something\r\n"), "{request}");
        assert!(head.contains("content-type: application/json\r\n"), "{request}");
        assert_eq!(event(request), event(&requests[0]));
    }
    let told = event(&requests[0]);
    assert_eq!(told["event"], "recreate");
    assert_eq!(told["service"], "web");
    assert_eq!(told["instance"], "10.0.0.2:80");
    assert_eq!(told["cause"], "the disk is full");
    assert!(told["id"].as_str().unwrap().contains(":web:mem:10.0.0.2:80"), "{told}");
}

#[tokio::test]
async fn with_a_quorum_the_event_waits_for_it_and_an_instance_that_recovers_is_not_told() {
    let hook = webhook(0).await;
    let all = addresses();
    let config = format!(
        "[service.web]\non_failure = {{ strategy = \"recreate-on-quorum\", quorum = 3, \
         webhook = \"http://{}/\" }}\n",
        hook.address
    );
    let rig = Rig::start(&config, web(&all, &[])).await;
    let waiting = "portolan_health_events_waiting";
    rig.tell(web(&all, &all[..2])).await;
    rig.metric_is(waiting, 2.0).await;
    assert_eq!(hook.received(), []);
    // The first one recovers: three others are healthy, and the second one is told.
    rig.tell(web(&all, &all[1..2])).await;
    rig.metric_is("portolan_health_events_total{end=\"acknowledged\"}", 1.0).await;
    rig.metric_is(waiting, 0.0).await;
    assert_eq!(hook.received().len(), 1);
    assert_eq!(event(&hook.text())["instance"], "10.0.0.2:80");
}

#[tokio::test]
async fn an_event_that_nobody_has_taken_is_told_again_after_a_restart_by_its_id() {
    let hook = webhook(1).await;
    let directory = tempfile::tempdir().unwrap();
    let registry = support::Memory::new("mem");
    let all = addresses();
    let config = format!(
        "[node]\nworkers = 1\ndata_dir = \"data\"\n[service.web]\non_failure = {{ \
         strategy = \"recreate\", retry_min = \"30d\", retry_max = \"30d\", give_up = \"90d\", \
         webhook = \"http://{}/\" }}\n",
        hook.address
    );
    let say = |bad: &[SocketAddr]| {
        let view = RegistryView::default().replaced(web(&all, bad), Vec::new());
        registry.say(RegistryState::Live(view));
    };
    say(&[]);
    let asked = |count: usize| {
        let asked =
            move |all: &[Received]| all.iter().filter(|one| !one.bytes.is_empty()).count() == count;
        hook.seen("a try", asked)
    };
    let app = support::start_with(&config, directory.path(), &[&registry]).await;
    support::known(&app, "web", all.len()).await;
    say(&all[1..2]);
    asked(1).await;
    app.stop().await;
    for restarts in 0..2 {
        let app = support::start_with(&config, directory.path(), &[&registry]).await;
        asked(2).await;
        // The ledger tells when the answer was heard.
        let ledger = directory.path().join("data/events.json");
        support::until("it is through", async || {
            (std::fs::read_to_string(&ledger).unwrap() == "[]").then_some(())
        })
        .await;
        app.stop().await;
        let events: Vec<_> = hook.received().iter().map(|one| event(&one.text())).collect();
        assert_eq!(events.len(), 2, "restart {restarts}");
        assert_eq!(events[0]["id"], events[1]["id"]);
    }
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_dropped_when_the_instance_recovers() {
    let hook = webhook(usize::MAX).await;
    let all = addresses();
    let config = format!(
        "[service.web]\non_failure = {{ strategy = \"recreate\", retry_min = \"10ms\", \
         webhook = \"http://{}/\" }}\n",
        hook.address
    );
    let rig = Rig::start(&config, web(&all, &[])).await;
    rig.tell(web(&all, &all[..1])).await;
    hook.seen("a try", |all| !all.is_empty()).await;
    rig.tell(web(&all, &[])).await;
    rig.metric_is("portolan_health_events_total{end=\"dropped\"}", 1.0).await;
    rig.metric_is("portolan_health_events_pending", 0.0).await;
    assert_eq!(rig.metric("portolan_health_events_total{end=\"acknowledged\"}").await, Some(0.0));
}

//! Policies over real sockets: who gets which request, how many at a time, and who waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::origin::{Origin, saying};
use crate::rig::{Answer, Client, Rig, service, within};

/// Origins that say who they are.
async fn named(names: &[&'static str]) -> Vec<Origin> {
    let mut origins = Vec::new();
    for &name in names {
        origins.push(Origin::saying(name).await);
    }
    origins
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

/// An origin that holds its answers back, and what is told of it.
struct Slow {
    origin: Origin,
    /// Answers that may go.
    go: Arc<Semaphore>,
    /// Requests, or connections by TCP, that run there now, and the most that ever did.
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Slow {
    async fn start(tcp: bool) -> Self {
        let go = Arc::new(Semaphore::new(0));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = (Arc::clone(&go), Arc::clone(&now), Arc::clone(&most));
        let origin = Origin::start(move |mut exchange| {
            let (go, now, most) = seen.clone();
            async move {
                loop {
                    let asked = if tcp {
                        String::from_utf8(exchange.some().await?).unwrap()
                    } else {
                        exchange.request().await?
                    };
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    go.acquire().await.unwrap().forget();
                    now.fetch_sub(1, SeqCst);
                    if tcp {
                        return exchange.send(asked).await;
                    }
                    // The path comes back, so that each client sees that its answer is its own.
                    exchange.send(saying(asked.split(' ').nth(1)?)).await?;
                }
            }
        });
        Self { origin: origin.await, go, now, most }
    }

    async fn runs(&self, count: usize) {
        within("requests at the origin", async {
            while self.now.load(SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n")
}

fn waiting() -> &'static str {
    "portolan_proxy_queue_waiting{listener=\"web\"}"
}

fn refused(reason: &str) -> String {
    format!("portolan_proxy_queue_refused_total{{listener=\"web\",reason=\"{reason}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_beyond_the_limit_waits_in_line_and_is_served_in_order_over_all_workers() {
    let slow = Slow::start(false).await;
    let config = "[node]\nworkers = 2\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\nhalf_close = \"abort\"\n\
                  [service.web]\nmax_connections = 2\nqueue = { size = 4, timeout = \"20s\" }\n";
    let rig = Rig::start(config, vec![service("web", &[slow.origin.address])]).await;
    let mut clients: Vec<Client> = Vec::new();
    for n in 0..6 {
        let mut client = rig.client().await;
        client.send(get(&format!("/{n}"), "")).await;
        if n < 2 {
            slow.runs(n + 1).await;
        } else {
            rig.metric_is(waiting(), n as f64 - 1.0).await;
        }
        clients.push(client);
    }
    // The line is full.
    let answer = rig.ask(&get("/too-many", "")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    rig.metric_is(&refused("full"), 1.0).await;
    // The second of those who wait leaves, without a word; its place in line goes to the next.
    drop(clients.remove(3));
    rig.metric_is(&refused("left"), 1.0).await;
    rig.metric_is(waiting(), 3.0).await;

    // One by one; what is served is told by the order in which requests came to the origin.
    for served in 1..=5_usize {
        slow.go.add_permits(1);
        let running = 2.min(5 - served);
        slow.runs(running).await;
    }
    for (client, path) in clients.iter_mut().zip(["/0", "/1", "/2", "/4", "/5"]) {
        let Answer { status, body, .. } = client.answer().await;
        assert_eq!((status, &*body), (200, path));
    }
    assert_eq!(slow.most.load(SeqCst), 2, "the limit held");
    let text = slow.origin.text();
    assert!(!text.contains("GET /3 ") && !text.contains("too-many"), "{text}");
    rig.metric_is("portolan_proxy_queue_placed_total{listener=\"web\"}", 3.0).await;
    rig.metric_is(waiting(), 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_503_in_time_or_a_place_at_an_endpoint_that_comes() {
    let (slow, other) = (Slow::start(false).await, named(&["other"]).await);
    let more = "[service.web]\nmax_connections = 1\nqueue = { size = 9, timeout = \"300ms\" }\n";
    let rig = Rig::http(more, &[slow.origin.address]).await;
    let mut first = rig.client().await;
    first.send(get("/0", "")).await;
    slow.runs(1).await;
    let began = Instant::now();
    let answer = rig.ask(&get("/late", "")).await;
    assert_eq!((answer.status, began.elapsed() >= Duration::from_millis(300)), (503, true));
    rig.metric_is(&refused("timeout"), 1.0).await;

    // Without any place that gets free: the next table has another endpoint.
    let longer = "[node]\nworkers = 1\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                  [service.web]\nmax_connections = 1\nqueue = { timeout = \"25s\" }\n";
    let old = rig.address("web").await;
    rig.reload(&longer.replace("127.0.0.1:0", &old.to_string())).await;
    let mut waits = rig.client().await;
    waits.send(get("/waits", "")).await;
    rig.metric_is(waiting(), 1.0).await;
    rig.tell(vec![service("web", &[slow.origin.address, other[0].address])]).await;
    assert_eq!(waits.answer().await.body, "other");
    slow.go.add_permits(1);
    assert_eq!(first.answer().await.body, "/0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_connections_wait_in_the_same_line() {
    let slow = Slow::start(true).await;
    let config = "[node]\nworkers = 2\n[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\n\
                  service = \"web\"\n\
                  [service.web]\nmax_connections = 1\nqueue = { size = 2, timeout = \"20s\" }\n";
    let rig = Rig::start(config, vec![service("web", &[slow.origin.address])]).await;
    let mut clients = Vec::new();
    for n in 0..3 {
        let mut client = rig.client().await;
        client.send(format!("hello {n}")).await;
        if n == 0 {
            slow.runs(1).await;
        } else {
            rig.metric_is(waiting(), f64::from(n)).await;
        }
        clients.push(client);
    }
    // Nobody waits behind a full line; the reset may come before the connection is seen here.
    if let Ok(mut late) = TcpStream::connect(rig.address("web").await).await {
        let read = within("a reset", late.read(&mut [0])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    // A place is free when both sides have ended.
    for (n, mut client) in clients.into_iter().enumerate() {
        slow.go.add_permits(1);
        assert_eq!(String::from_utf8(client.rest().await).unwrap(), format!("hello {n}"));
    }
    assert_eq!(slow.most.load(SeqCst), 1);
    rig.metric_is(&refused("full"), 1.0).await;
}

#[tokio::test]
async fn requests_that_belong_together_go_together_by_what_the_service_says() {
    let origins = named(&["a", "b", "c", "d", "e"]).await;
    for policy in ["maglev", "ring-hash"] {
        for (hash_on, header) in
            [("header:X-User", "X-User: "), ("cookie:id", "Cookie: a=b; id="), ("path", "")]
        {
            let more = format!("[service.web]\npolicy = \"{policy}\"\nhash_on = \"{hash_on}\"\n");
            let rig = Rig::http(&more, &addresses(&origins)).await;
            let mut seen: BTreeMap<u32, String> = BTreeMap::new();
            for round in 0..3 {
                for user in 0..20 {
                    let request = match hash_on {
                        "path" => get(&format!("/{user}?round={round}"), ""),
                        _ => get(&format!("/{round}"), &format!("{header}{user}\r\n")),
                    };
                    let body = rig.ask(&request).await.body;
                    let known = seen.entry(user).or_insert_with(|| body.clone());
                    assert_eq!(*known, body, "{policy} {hash_on}: {user} in round {round}");
                }
            }
            let different: std::collections::BTreeSet<&String> = seen.values().collect();
            assert!(different.len() >= 4, "{policy} {hash_on}: {different:?} for 20 users");
            if hash_on != "path" {
                // Without it, by chance.
                let mut lone = std::collections::BTreeSet::new();
                for _ in 0..40 {
                    lone.insert(rig.ask(&get("/", "")).await.body);
                }
                assert!(lone.len() >= 3, "{policy} {hash_on}: {lone:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_answers_ten_times_slower_gets_little_under_p2c() {
    let fast = named(&["fast", "fast", "fast", "fast"]).await;
    let slow = Origin::start(|mut exchange| async move {
        loop {
            exchange.request().await?;
            // Real time: it is what the policy sees. The fast ones take well below a tenth.
            tokio::time::sleep(Duration::from_millis(100)).await;
            exchange.send(saying("slow")).await?;
        }
    })
    .await;
    let mut all = addresses(&fast);
    all.push(slow.address);
    let rig = Rig::http("", &all).await;
    let mut client = rig.client().await;
    let mut count = 0;
    for _ in 0..200 {
        client.send(get("/", "")).await;
        count += usize::from(client.answer().await.body == "slow");
    }
    assert!(count <= 200 / 5 / 5, "{count} of 200, where 40 are its fair share");
    assert!(count >= 1, "it is asked as long as nobody knows that it is slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_idle_connections_to_endpoints_are_kept_as_the_service_says() {
    for (keep, want) in [(0, 0), (3, 3), (100, 8)] {
        let slow = Slow::start(false).await;
        let more = format!("[service.web]\nkeep_alive = {keep}\n");
        let rig = Rig::http(&more, &[slow.origin.address]).await;
        let mut clients = Vec::new();
        for round in 0..3 {
            for n in clients.len()..8 {
                clients.push(rig.client().await);
                assert!(n < 8);
            }
            for (n, client) in clients.iter_mut().enumerate() {
                client.send(get(&format!("/{n}"), "")).await;
            }
            slow.runs(8).await;
            slow.go.add_permits(8);
            for client in &mut clients {
                assert_eq!(client.answer().await.status, 200, "round {round}");
            }
            slow.origin
                .seen("that the others have closed", |connections| {
                    connections.iter().filter(|one| !one.ended).count() == want
                })
                .await;
        }
        let made = slow.origin.received().len();
        assert_eq!(made, 8 + 2 * (8 - want), "{keep}: those that are kept are used again");
        assert_eq!(slow.most.load(SeqCst), 8);
    }
}

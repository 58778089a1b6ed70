use std::sync::atomic::AtomicUsize;

use tokio::net::UdpSocket;

use super::message::tests::{record, reply};
use super::*;
use crate::dns::dialect::testing::settings;

fn key(name: &str) -> Key {
    Key::new(Name::parse(name).unwrap().wire(), rtype::A, false, false)
}

fn forwarder() -> Forwarder {
    Forwarder::new(Metrics::register(&prometheus::Registry::new()).unwrap())
}

fn client(last: u8) -> Asking<'static> {
    Asking { client: IpAddr::from([10, 0, 0, last]), whole: false, query: &[] }
}

fn forwarding(upstreams: &[SocketAddr], more: &str) -> Arc<Settings> {
    let upstreams: Vec<String> = upstreams.iter().map(|address| format!("\"{address}\"")).collect();
    settings(&format!("listen = []\n[forward]\nupstreams = [{}]\n{more}", upstreams.join(", ")))
}

/// An upstream that answers every question with 10.0.0.1 once it was let, and counts them.
struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
}

impl Upstream {
    async fn start(ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (open, mut opened) = watch::channel(true);
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut query).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                if opened.wait_for(|open| *open).await.is_err() {
                    return;
                }
                let question = crate::dns::wire::Question::read(&query[..length]).unwrap();
                let key = Key::of(&question, None, 0);
                let answer = record(rtype::A, ttl, &[10, 0, 0, 1]);
                let mut message = reply(&key, 0, [&[answer], &[], &[]]);
                message[..2].copy_from_slice(&query[..2]);
                socket.send_to(&message, peer).await.unwrap();
            }
        });
        Self { address, asked, open }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A port that was just closed: the kernel refuses at once.
fn closed() -> SocketAddr {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Asks from as many clients at once; how many got an answer.
async fn ask_all(
    forwarder: &Forwarder,
    settings: &Arc<Settings>,
    asked: &Key,
    clients: impl Iterator<Item = u8>,
) -> usize {
    let mut all = tokio::task::JoinSet::new();
    for last in clients {
        let (forwarder, settings, asked) = (forwarder.clone(), Arc::clone(settings), asked.clone());
        all.spawn(async move { forwarder.resolve(&settings, &asked, client(last)).await.is_ok() });
    }
    all.join_all().await.into_iter().filter(|answered| *answered).count()
}

#[tokio::test]
async fn many_who_ask_the_same_cost_one_query_and_the_next_ones_none() {
    let upstream = Upstream::start(300).await;
    let settings = forwarding(&[upstream.address], "");
    let forwarder = forwarder();
    upstream.open.send_replace(false);
    let asked = key("web.example");
    let all = ask_all(&forwarder, &settings, &asked, 0..100);
    let open = async {
        while forwarder.0.metrics.waiting.get() < 100 || upstream.asked() < 1 {
            tokio::task::yield_now().await;
        }
        upstream.open.send_replace(true);
    };
    let (answered, ()) = tokio::join!(all, open);
    assert_eq!((answered, upstream.asked()), (100, 1));
    let metrics = &forwarder.0.metrics;
    assert_eq!((metrics.coalesced.get(), metrics.waiting.get()), (99, 0));
    assert_eq!(ask_all(&forwarder, &settings, &asked, 0..50).await, 50);
    assert_eq!((upstream.asked(), metrics.cache_hit.get()), (1, 50));
    assert_eq!(metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn each_limit_is_servfail_at_once_and_counted() {
    let upstream = Upstream::start(300).await;
    upstream.open.send_replace(false);
    let limits = "max_in_flight = 2\nmax_waiting = 4\nmax_per_client = 2";
    let settings = forwarding(&[upstream.address], limits);
    let forwarder = forwarder();
    let metrics = &forwarder.0.metrics;
    let mut waiting = tokio::task::JoinSet::new();
    let counts = || {
        let over = (&metrics.over_in_flight, &metrics.over_waiting, &metrics.over_per_client);
        (over.0.get(), over.1.get(), over.2.get())
    };
    for (n, (name, last)) in [("a", 1), ("a", 1), ("b", 2), ("b", 3)].into_iter().enumerate() {
        let (asking, with) = (forwarder.clone(), Arc::clone(&settings));
        waiting.spawn(async move { asking.resolve(&with, &key(name), client(last)).await });
        while metrics.waiting.get() <= n as i64 {
            tokio::task::yield_now().await;
        }
        let refused = match n {
            1 => ("a", 1, (0, 0, 1)),
            2 => ("c", 9, (1, 0, 1)),
            3 => ("a", 9, (1, 1, 1)),
            _ => continue,
        };
        let (name, last, want) = refused;
        let told = forwarder.resolve(&settings, &key(name), client(last)).await.unwrap_err();
        assert_eq!((told.rcode, told.limit), (rcode::SERVFAIL, true));
        assert_eq!(counts(), want);
    }
    upstream.open.send_replace(true);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
    assert_eq!(metrics.waiting.get(), 0);
}

#[tokio::test]
async fn the_next_upstream_is_asked_and_when_all_fail_it_is_servfail_and_remembered() {
    let upstream = Upstream::start(300).await;
    let forwarder_one = forwarder();
    let settings = forwarding(&[closed(), upstream.address], "");
    let told = forwarder_one.resolve(&settings, &key("a.example"), client(1)).await;
    assert_eq!(told.unwrap().1, Age::Fresh(0));

    let (settings, forwarder) =
        (forwarding(&[closed(), closed()], "failure_ttl = \"1h\""), forwarder());
    for (want, failures) in [(extended::NETWORK_ERROR, 0), (extended::CACHED_ERROR, 1)] {
        let told = forwarder.resolve(&settings, &key("a.example"), client(1)).await.unwrap_err();
        assert_eq!((told.rcode, told.reason), (rcode::SERVFAIL, Some(want)));
        assert_eq!(forwarder.0.metrics.cache_failure.get(), failures);
    }
    assert!(forwarder.told(&settings).unwrap().upstreams.iter().all(|u| u.failures == 1));
}

#[tokio::test]
async fn with_other_upstreams_what_the_former_ones_said_is_forgotten() {
    let (first, second) = (Upstream::start(300).await, Upstream::start(300).await);
    let forwarder = forwarder();
    let asked = key("web.example");
    for (settings, want) in [
        (forwarding(&[first.address], ""), (1, 0)),
        (forwarding(&[first.address], "timeout = \"3s\""), (1, 0)),
        (forwarding(&[second.address], ""), (1, 1)),
        (forwarding(&[first.address], ""), (2, 1)),
    ] {
        forwarder.resolve(&settings, &asked, client(1)).await.unwrap();
        assert_eq!((first.asked(), second.asked()), want);
        let told = forwarder.told(&settings).unwrap();
        assert_eq!((told.upstreams.len(), told.cache_entries, told.in_flight), (1, 1, 0));
    }
}

#[tokio::test]
async fn our_own_query_that_comes_back_is_not_asked_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let settings = forwarding(&[socket.local_addr().unwrap()], "");
    let forwarder = forwarder();
    let asked = key("web.example");
    let around = async {
        let mut query = [0; 512];
        let (length, peer) = socket.recv_from(&mut query).await.unwrap();
        let query = &query[..length];
        let back = Asking { query, ..client(2) };
        let told = forwarder.resolve(&settings, &asked, back).await.unwrap_err();
        assert_eq!(told.rcode, rcode::SERVFAIL);
        // A stranger's question that is the same but for its id waits with the others.
        let mut other = query.to_vec();
        other[0] ^= 1;
        let asking = Asking { query: &other, ..client(3) };
        let waits = forwarder.resolve(&settings, &asked, asking);
        assert!(timeout(Duration::from_millis(1), waits).await.is_err());
        let mut refusal = query.to_vec();
        refusal[2] |= 0x80;
        refusal[3] = 0x82;
        socket.send_to(&refusal, peer).await.unwrap();
    };
    let (told, ()) = tokio::join!(forwarder.resolve(&settings, &asked, client(1)), around);
    assert_eq!(told.unwrap_err().rcode, rcode::SERVFAIL);
    assert_eq!(forwarder.0.metrics.loops.get(), 1);
}

#[tokio::test]
async fn names_of_no_upstream_are_refused() {
    let upstream = Upstream::start(300).await;
    let text = format!(
        "listen = []\n[forward]\nupstreams = []\n[forward.zone.a]\nupstreams = [\"{}\"]",
        upstream.address
    );
    let (settings, forwarder) = (settings(&text), forwarder());
    assert!(forwarder.resolve(&settings, &key("x.a"), client(1)).await.is_ok());
    let told = forwarder.resolve(&settings, &key("x.b"), client(1)).await.unwrap_err();
    assert_eq!((told.rcode, told.reason), (rcode::REFUSED, Some(extended::NOT_AUTHORITATIVE)));
    assert_eq!(upstream.asked(), 1);
    let name = Name::parse("x.a").unwrap();
    let told = forwarder.told_of(&settings, &name, rtype::A).unwrap();
    assert_eq!((&*told.domain, told.upstreams.len(), told.cached.len()), ("a.", 1, 1));
    assert_eq!(told.cached[0].answers, ["x.a. 300 A 10.0.0.1"]);
    assert!(forwarder.told_of(&settings, &Name::parse("x.b").unwrap(), rtype::A).is_none());
}

//! Who is sent on, how often, how fast and how much: retries, rate limits, shedding, bandwidth and
//! the size of bodies, over real sockets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::SockRef;
use tokio::process::Command;
use tokio::time::Instant;

use crate::origin::{OK, Origin, end_of_request};
use crate::peers::{own_address, serving, start};
use crate::rig::{Answer, Client, Rig, find, header, service, within};
use crate::support::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ROUND_ROBIN: &str = "[service.web]\npolicy = \"round-robin\"\n";

/// One listener with one worker; `more` holds the route and all else.
fn config(listener: &str, more: &str) -> String {
    format!("[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n{listener}{more}")
}

/// A rig whose only route to the service `web` has these keys more.
async fn routed(route: &str, origins: &[SocketAddr]) -> Rig {
    let more = format!("[route.all]\nlistener = \"web\"\nservice = \"web\"\n{route}\n");
    Rig::start(&config("", &more), vec![service("web", origins)]).await
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
}

/// How often each path was asked for, over all of `origins`.
fn counts(origins: &[&Origin]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for text in origins.iter().map(|origin| origin.text()) {
        for line in text.lines().filter(|line| line.ends_with(" HTTP/1.1")) {
            let path = line.split(' ').nth(1).unwrap().to_owned();
            *counts.entry(path).or_default() += 1;
        }
    }
    counts
}

fn retries(result: &str) -> String {
    format!("portolan_proxy_retries_total{{listener=\"web\",result=\"{result}\"}}")
}

fn limited(reason: &str) -> String {
    format!("portolan_proxy_limited_total{{listener=\"web\",reason=\"{reason}\"}}")
}

/// Returns once the counter `name` has come to `least`.
async fn comes_to(rig: &Rig, name: &str, least: f64) {
    let what = format!("{name} of {least} at least");
    until(&what, async || rig.metric(name).await.filter(|counted| *counted >= least)).await;
}

/// How an origin dies of a request.
#[derive(Debug, Clone, Copy)]
enum Death {
    AfterAccepting,
    AfterHead,
    AfterRequest,
    ByReset,
    InTheAnswersHead,
}

impl Death {
    async fn origin(self) -> Origin {
        Origin::start(move |mut exchange| async move {
            match self {
                Self::AfterAccepting => return None,
                Self::AfterHead => drop(exchange.head().await?),
                Self::AfterRequest => drop(exchange.request().await?),
                Self::ByReset => {
                    exchange.request().await?;
                    SockRef::from(&exchange.stream).set_linger(Some(Duration::ZERO)).ok()?;
                }
                Self::InTheAnswersHead => {
                    exchange.request().await?;
                    exchange.send("HTTP/1.1 200 OK\r\nContent-").await?;
                }
            }
            Some(())
        })
        .await
    }
}

#[tokio::test]
async fn an_origin_that_dies_costs_no_idempotent_request_and_doubles_no_other() {
    let whole = Origin::answering(OK).await;
    for death in [
        Death::AfterAccepting,
        Death::AfterHead,
        Death::AfterRequest,
        Death::ByReset,
        Death::InTheAnswersHead,
    ] {
        let dying = death.origin().await;
        // Half of all requests fail first: far more than is allowed to be sent again by default.
        let more = format!("{ROUND_ROBIN}retries = {{ budget = \"100%\" }}\n");
        let rig = Rig::http(&more, &[dying.address, whole.address]).await;
        let mut refused = 0_u32;
        for n in 0..12 {
            for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
                let mut client = rig.client().await;
                client.send(request(method, &format!("/{method}{n}"))).await;
                let answer = client.answer_to(method).await;
                assert_eq!(answer.status, 200, "{death:?} {method}: {answer:?}");
            }
            for method in ["POST", "PATCH"] {
                let answer = rig.ask(&request(method, &format!("/{method}{n}"))).await;
                assert!([200, 502].contains(&answer.status), "{death:?} {method}: {answer:?}");
                refused += u32::from(answer.status == 502);
            }
        }
        assert!(refused > 0, "{death:?}: the dying one was never asked");
        for (path, count) in counts(&[&dying, &whole]) {
            let once = path.starts_with("/P") && !path.starts_with("/PUT");
            assert!(count == 1 || !once && count == 2, "{death:?}: {path} came {count} times");
        }
        comes_to(&rig, &retries("reset"), 1.0).await;
        rig.metric_is(&retries("unsafe"), f64::from(refused)).await;
        whole.forget();
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_ends_visibly_broken_and_is_not_begun_again() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let (a, b) = (Origin::answering_once(half).await, Origin::answering_once(half).await);
    let rig = Rig::http(ROUND_ROBIN, &[a.address, b.address]).await;
    for n in 0..4 {
        let mut client = rig.client().await;
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let got = String::from_utf8(client.rest().await).unwrap();
        assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("hello"), "{got:?}");
    }
    let counts = counts(&[&a, &b]);
    assert!(counts.len() == 4 && counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_with_a_reset_whatever_its_framing() {
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let whole = format!("{CHUNKS}0\r\n\r\n");
    for (case, version, answer, broken) in [
        ("a length", "1.1", LENGTH, true),
        ("a length for an old client", "1.0", LENGTH, true),
        ("chunks", "1.1", CHUNKS, true),
        ("chunks for an old client, which gets none", "1.0", CHUNKS, true),
        ("the same, and whole", "1.0", &*whole, false),
    ] {
        let origin = Origin::answering_once(String::from(answer).leak()).await;
        let rig = Rig::http("", &[origin.address]).await;
        let mut client = rig.client().await;
        let request = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        client.send(request).await;
        let head = String::from_utf8(client.until("\r\n\r\n").await).unwrap();
        let chunked = answer != LENGTH && version == "1.1";
        assert_eq!(header(&head, "transfer-encoding").is_some(), chunked, "{case}: {head}");
        if answer != LENGTH && version == "1.0" {
            assert_eq!(header(&head, "connection"), Some("close"), "{case}: {head}");
            assert_eq!(client.bytes(5).await, b"hello", "{case}");
        }
        assert_eq!(client.is_reset().await, broken, "{case}");
    }
}

#[tokio::test]
async fn a_body_is_sent_again_up_to_64_kib_and_one_beyond_is_not() {
    let (dying, whole) = (Death::AfterRequest.origin().await, Origin::answering(OK).await);
    for (size, chunked) in
        [(60_000, false), (60_000, true), (0, true), (200_000, false), (200_000, true)]
    {
        let rig = Rig::http(ROUND_ROBIN, &[dying.address, whole.address]).await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let body = "x".repeat(size);
            let request = if chunked {
                let chunk =
                    if size > 0 { format!("{size:x}\r\n{body}\r\n") } else { String::new() };
                format!(
                    "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
                )
            } else {
                format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}")
            };
            statuses.push(rig.ask(&request).await.status);
        }
        // One of the two at least met the dying one first.
        let want = if size < 65_536 { [200, 200] } else { [200, 502] };
        statuses.sort_unstable();
        assert_eq!(statuses, want, "{size} bytes, chunked: {chunked}");
        let came = |origin: &Origin| origin.text().matches("PUT / ").count();
        let again = if want == [200, 200] { came(&dying) } else { 0 };
        assert!(came(&dying) > 0, "{size}, chunked: {chunked}: the dying one was never asked");
        assert_eq!(came(&dying) + came(&whole), 2 + again, "{size}, chunked: {chunked}");
        dying.forget();
        whole.forget();
    }
}

/// Answers the first request of each connection; at the first byte of a second one it closes, and
/// reads none of it.
async fn closes_on_the_second() -> Origin {
    Origin::start(|mut exchange| async move {
        exchange.request().await?;
        exchange.send(OK).await?;
        exchange.stream.peek(&mut [0]).await.ok()?;
        Some(())
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_closes_at_the_same_moment_costs_no_get_and_doubles_no_post() {
    let origin = closes_on_the_second().await;
    // There is nobody else: the same endpoint is asked by another connection.
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    for n in 0..250 {
        client.send(request("GET", &format!("/get{n}"))).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"), "{n}: {answer:?}");
    }
    // Closes were met.
    comes_to(&rig, &retries("stale"), 100.0).await;
    let mut statuses = BTreeMap::new();
    for n in 0..250 {
        let answer = rig.ask(&request("POST", &format!("/post{n}"))).await;
        *statuses.entry(answer.status).or_insert(0) += 1;
    }
    assert!(statuses.keys().all(|status| [200, 502].contains(status)), "{statuses:?}");
    let counts = counts(&[&origin]);
    let posts = counts.iter().filter(|(path, _)| path.starts_with("/post"));
    assert!(posts.clone().all(|(_, count)| *count == 1), "{counts:?}");
    assert_eq!(posts.count(), statuses[&200], "one that was answered has arrived, another not");
    println!("POSTs on connections that close under them: {statuses:?}");
}

#[tokio::test]
async fn a_connection_closed_while_it_was_kept_costs_no_post() {
    let closed = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&closed);
    let origin = Origin::start(move |mut exchange| {
        let noted = Arc::clone(&noted);
        async move {
            exchange.request().await?;
            exchange.send(OK).await?;
            drop(exchange);
            noted.fetch_add(1, SeqCst);
            Some(())
        }
    })
    .await;
    let rig = Rig::http("", &[origin.address]).await;
    let mut client = rig.client().await;
    for n in 1..=250 {
        client.send(request("POST", &format!("/{n}"))).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"), "{n}: {answer:?}");
        within("the close", async {
            while closed.load(SeqCst) < n {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let counts = counts(&[&origin]);
    assert!(counts.len() == 250 && counts.values().all(|count| *count == 1));
}

#[tokio::test]
async fn the_budget_ends_a_storm_of_retries() {
    let dying = [
        Death::AfterRequest.origin().await,
        Death::AfterRequest.origin().await,
        Death::AfterRequest.origin().await,
    ];
    let origins = dying.each_ref().map(|origin| origin.address);
    let rig = Rig::http("", &origins).await;
    let began = Instant::now();
    let mut client = rig.client().await;
    for _ in 0..400 {
        client.send(GET).await;
        assert_eq!(client.answer().await.status, 502);
        client = rig.client().await;
    }
    let seconds = began.elapsed().as_secs() as usize + 2;
    let attempts: usize = dying.iter().map(|origin| origin.text().matches("GET /").count()).sum();
    println!("400 requests, {attempts} attempts in {seconds} s at most");
    assert!(attempts > 400, "some were tried again");
    assert!(attempts <= 400 + 80 + 10 * seconds, "{attempts} attempts in {seconds} s at most");
    comes_to(&rig, &retries("spent"), 101.0).await;
}

#[tokio::test]
async fn a_status_is_tried_again_only_when_that_is_asked_for() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    let (bad, good) = (Origin::answering(busy).await, Origin::answering(OK).await);
    let silent = Origin::silent().await;
    for (case, retries, other, method, want) in [
        ("not asked for", "{}", &bad, "GET", vec![200, 503]),
        ("asked for", "{ on = [\"503\"] }", &bad, "GET", vec![200, 200]),
        ("not of a POST", "{ on = [\"503\"] }", &bad, "POST", vec![200, 503]),
        ("another status", "{ on = [\"502\", \"504\"] }", &bad, "GET", vec![200, 503]),
        ("no attempts", "{ on = [\"503\"], attempts = 0 }", &bad, "GET", vec![200, 503]),
        ("no answer in time", "{}", &silent, "GET", vec![200, 504]),
        ("no answer, asked for", "{ on = [\"timeout\"] }", &silent, "GET", vec![200, 200]),
        ("no answer to a POST", "{ on = [\"timeout\"] }", &silent, "POST", vec![200, 504]),
    ] {
        let more = format!("timeouts = {{ read = \"1s\" }}\n{ROUND_ROBIN}retries = {retries}\n");
        let rig = Rig::http(&more, &[other.address, good.address]).await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            statuses.push(rig.ask(&request(method, "/")).await.status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, want, "{case}");
    }
    // When nobody has a better answer, the last one given is passed on whole.
    let more = format!("{ROUND_ROBIN}retries = {{ on = [\"503\"] }}\n");
    let rig = Rig::http(&more, &[bad.address]).await;
    let answer = rig.ask(GET).await;
    assert_eq!((answer.status, &*answer.body), (503, "busy"));
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_not_asked_first_again_and_again() {
    let whole = Origin::answering(OK).await;
    // Bound and not listening: the kernel refuses.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let rig = Rig::http("", &[dead.local_addr().unwrap(), whole.address]).await;
    let began = Instant::now();
    let mut client = rig.client().await;
    for n in 0..200 {
        client.send(GET).await;
        assert_eq!(client.answer().await.status, 200, "{n}");
    }
    let refused = rig.metric(&retries("connect")).await.unwrap();
    let took = began.elapsed();
    println!("{refused} of 200 requests met the dead one in {took:?}");
    // Once, and once more every ten seconds or so.
    assert!(refused <= 1.0 + (took.as_secs() / 5) as f64, "{refused} in {took:?}");
}

/// What `count` requests of `client`, told by a trusted proxy, come back as.
async fn asked_by(rig: &Rig, client: &str, count: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        answers.push(rig.ask(&request).await);
    }
    answers
}

fn taken(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[tokio::test]
async fn rates_hold_for_each_client_or_for_the_route_over_all_workers() {
    let origin = Origin::answering(OK).await;
    let rig = |limit: &'static str| {
        let config = format!(
            "[node]\nworkers = 2\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
             trusted_proxies = [\"127.0.0.0/8\"]\n\
             [route.all]\nlistener = \"web\"\nservice = \"web\"\nrate_limit = {limit}\n"
        );
        async move { Rig::start(&config, vec![service("web", &[origin.address])]).await }
    };
    let by_client = rig("{ requests = 5, per = \"1h\", burst = 3 }").await;
    for (case, client, want) in [
        ("the first", "192.0.2.1", 8),
        ("the first again", "192.0.2.1", 0),
        ("who lies about itself", "203.0.113.7, 192.0.2.1", 0),
        ("another", "192.0.2.2", 8),
        ("of IPv6", "2001:db8::1", 8),
        ("its neighbour", "2001:db8::ffff", 0),
        ("another network", "2001:db8:0:1::1", 8),
    ] {
        let answers = asked_by(&by_client, client, 12).await;
        assert_eq!(taken(&answers), want, "{case}");
        let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((600..=720).contains(&wait), "{case}: {refused:?}");
        assert_eq!(refused.header("connection"), Some("keep-alive"), "{case}");
    }
    by_client.metric_is(&limited("rate"), 52.0).await;

    let by_route = rig("{ requests = 5, per = \"1h\", by = \"route\" }").await;
    assert_eq!(taken(&asked_by(&by_route, "192.0.2.1", 3).await), 3);
    assert_eq!(taken(&asked_by(&by_route, "192.0.2.2", 12).await), 2, "all are counted together");

    let fast = rig("{ requests = 1, per = \"300ms\" }").await;
    assert_eq!(taken(&asked_by(&fast, "192.0.2.1", 1).await), 1);
    within("the next one", async {
        while taken(&asked_by(&fast, "192.0.2.1", 1).await) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// An origin that answers when it is told to, and what tells it.
async fn waiting() -> (Origin, tokio::sync::watch::Sender<bool>) {
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut exchange| {
        let mut wait = wait.clone();
        async move {
            loop {
                exchange.request().await?;
                wait.wait_for(|go| *go).await.ok()?;
                exchange.send(OK).await?;
            }
        }
    })
    .await;
    (origin, go)
}

#[tokio::test]
async fn beyond_what_may_run_requests_are_shed_at_once_and_what_ends_makes_room() {
    let routes = "[route.all]\nlistener = \"web\"\nservice = \"web\"\n@\
                  [route.other]\nlistener = \"web\"\npath = \"/other\"\nservice = \"web\"\n\
                  [route.ready]\nlistener = \"web\"\npath = \"/ready\"\nrespond = { status = 204 }\n";
    for (case, reason, route, limits, other) in [
        ("a route", "route-requests", "requests_max = 2\n", "", 200),
        ("the process", "requests", "", "[limits]\nrequests = 2\n", 503),
    ] {
        let (origin, go) = waiting().await;
        let more = format!("{}{limits}", routes.replace('@', route));
        let rig = Rig::start(&config("", &more), vec![service("web", &[origin.address])]).await;
        let mut running = Vec::new();
        for n in 1..=2 {
            let mut client = rig.client().await;
            client.send(GET).await;
            origin
                .seen("a request", |all| all.iter().filter(|c| !c.bytes.is_empty()).count() == n)
                .await;
            running.push(client);
        }
        let answer = rig.ask(GET).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{case}");
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{case}");
        // The body is not waited for.
        let answer = rig.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await;
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{case}");
        let answer = rig.ask("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer.status, 204, "{case}: what is answered here is never shed");
        rig.metric_is(&limited(reason), 2.0).await;

        go.send(true).unwrap();
        for client in &mut running {
            assert_eq!(client.answer().await.status, 200, "{case}");
        }
        let _again = within("room", async {
            loop {
                let answer = rig.ask(GET).await;
                if answer.status == 200 {
                    return answer;
                }
            }
        })
        .await;
        let before = origin.received().len();
        go.send(false).unwrap();
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut client = rig.client().await;
            client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
            held.push(client);
        }
        origin.seen("both", |_| origin.text().matches("/held").count() == 2).await;
        let mut client = rig.client().await;
        client.send("GET /other HTTP/1.1\r\nHost: a\r\n\r\n").await;
        if other == 200 {
            origin.seen("the other route", |_| origin.text().contains("/other")).await;
            go.send(true).unwrap();
        }
        assert_eq!(client.answer().await.status, other, "{case}: another route, {before}");
    }
}

#[tokio::test]
async fn short_memory_sheds_requests_until_the_limit_is_gone() {
    let origin = Origin::answering(OK).await;
    let routes = "[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
                  [route.ready]\nlistener = \"web\"\npath = \"/ready\"\nrespond = { status = 204 }\n";
    let short = config("", &format!("{routes}[limits]\nmemory = \"1MiB\"\n"));
    let rig = Rig::start(&short, vec![service("web", &[origin.address])]).await;
    let becomes = async |status| {
        within("the other status", async {
            loop {
                let answer = rig.ask(GET).await;
                if answer.status == status {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    };
    assert_eq!(becomes(503).await.header("retry-after"), Some("1"));
    assert_eq!(rig.ask("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 204);
    comes_to(&rig, &limited("memory"), 1.0).await;
    rig.reload(&config("", routes)).await;
    becomes(200).await;
}

/// How long after its first byte the last one of a download came, and how many had come half a
/// second after the first.
async fn download(address: SocketAddr, target: &str, size: usize) -> (Duration, usize) {
    let mut client = Client::connect(address).await;
    let mut began = Instant::now();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    let (mut got, mut early) = (Vec::new(), 0);
    within("a download", async {
        loop {
            let before = got.len();
            client.stream.readable().await.unwrap();
            let mut piece = [0; 4096];
            match client.stream.try_read(&mut piece) {
                Ok(read) => got.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error}"),
            }
            if before == 0 {
                began = Instant::now();
            }
            let body = find(&got, b"\r\n\r\n").map_or(0, |head| got.len() - head - 4);
            if began.elapsed() < Duration::from_millis(500) {
                early = got.len();
            }
            if body >= size {
                return;
            }
            assert!(got.len() > before, "closed after {} bytes", got.len());
        }
    })
    .await;
    (began.elapsed(), early)
}

#[tokio::test]
async fn a_limited_download_takes_as_long_as_behind_nginx_and_bursts_no_more() {
    const SIZE: usize = 50 << 10;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
    let _ = write!(answer, "{}", "x".repeat(SIZE));
    let origin = Origin::answering(Box::leak(answer.into_boxed_str())).await;
    let routes = "[route.slow]\nlistener = \"web\"\nservice = \"web\"\npath = \"/slow\"\nlimit_rate = \"20KiB\"\n\
                  [route.after]\nlistener = \"web\"\nservice = \"web\"\npath = \"/after\"\nlimit_rate = \"15KiB\"\n\
                  limit_rate_after = \"15KiB\"\n\
                  [route.free]\nlistener = \"web\"\nservice = \"web\"\npath = \"/free\"\n";
    let rig = Rig::start(&config("", routes), vec![service("web", &[origin.address])]).await;
    let portolan = rig.address("web").await;

    let nginx_at = own_address();
    let directory = tempfile::tempdir().unwrap();
    let conf = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr warn;\npid nginx.pid;\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         server {{ listen {nginx_at};\nproxy_http_version 1.1;\n\
         location /slow {{ proxy_pass http://{origin}; limit_rate 20k; }}\n\
         location /after {{ proxy_pass http://{origin}; limit_rate 15k; limit_rate_after 15k; }}\n\
         location /free {{ proxy_pass http://{origin}; }}\n}}\n}}\n",
        origin = origin.address
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, conf).unwrap();
    let mut nginx =
        start(Command::new("nginx").arg("-p").arg(directory.path()).arg("-c").arg(file));
    serving(&mut nginx, nginx_at).await;

    // Nginx counts by whole seconds of the clock: one that begins just before the next is given that
    // one's bytes at once.
    loop {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis();
        if (200..700).contains(&millis) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let of = async |address| {
        tokio::join!(
            download(address, "/slow", SIZE),
            download(address, "/after", SIZE),
            download(address, "/free", SIZE)
        )
    };
    let (ours, theirs) = tokio::join!(of(portolan), of(nginx_at));
    println!("Portolan {ours:?}, nginx {theirs:?}");
    for (case, ours, theirs, start) in
        [("a rate", ours.0, theirs.0, 20 << 10), ("after a start", ours.1, theirs.1, 30 << 10)]
    {
        let ratio = ours.0.as_secs_f64() / theirs.0.as_secs_f64();
        assert!((0.9..=1.1).contains(&ratio), "{case}: {ours:?}, and nginx {theirs:?}");
        assert!(ours.0 > Duration::from_millis(1800), "{case}: {ours:?}");
        assert!(ours.1 <= start, "{case}: {ours:?} bytes early on, and nginx {theirs:?}");
    }
    assert!(ours.2.0 < Duration::from_secs(1), "without a limit: {ours:?}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_it_is_asked_for_or_while_it_comes() {
    let origin = Origin::answering(OK).await;
    let rig = routed("body_max = \"1KiB\"", &[origin.address]).await;
    let sized = |size: usize, more: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n{more}\r\n")
    };
    for (case, head, body) in [
        ("said so", sized(1025, ""), String::new()),
        ("and not invited", sized(1025, "Expect: 100-continue\r\n"), String::new()),
        ("and sent all the same", sized(4 << 20, ""), "x".repeat(4 << 20)),
    ] {
        let mut client = rig.client().await;
        client.send(head).await;
        client.send(body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{case}");
        assert_eq!(answer.body, "the request's body is too large\n", "{case}");
        client.finish().await;
    }
    assert!(origin.received().is_empty(), "nobody was connected to");

    let chunked = |chunks: usize| {
        let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", chunk.repeat(chunks))
    };
    for chunks in [3, 2000] {
        let mut client = rig.client().await;
        client.send(chunked(chunks)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{chunks}");
        client.finish().await;
    }
    origin.seen("the end", |all| all.iter().all(|connection| connection.ended)).await;
    for connection in origin.received() {
        assert_eq!(end_of_request(&connection.bytes), None, "never a whole request");
    }
    rig.metric_is(&limited("body"), 5.0).await;

    for (case, request) in [
        ("as much as there may be", sized(1024, "") + &"x".repeat(1024)),
        ("in chunks", chunked(2)),
        ("none", GET.to_owned()),
    ] {
        assert_eq!(rig.ask(&request).await.status, 200, "{case}");
    }
}

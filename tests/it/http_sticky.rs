//! Stickiness over real sockets: by cookie and by address, through reloads, restarts and drains.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portolan::app::{App, Options};
use portolan::catalog::model::Presence;
use portolan::catalog::publish::Feed;
use portolan::catalog::{Health, Instance, RegistryState, RegistryView, SourceService};
use portolan::proxy::sticky::Clock;
use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::clients::get_by_socket;
use crate::origin::Origin;
use crate::rig::{Answer, Client, instance, service};
use crate::support::{address, load, until, within};

/// Milliseconds of a time at which the clock of these tests starts.
const START: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;

const ANSWERS: [&str; 3] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc",
];

async fn origins() -> [Origin; 3] {
    [
        Origin::answering(ANSWERS[0]).await,
        Origin::answering(ANSWERS[1]).await,
        Origin::answering(ANSWERS[2]).await,
    ]
}

/// The same, without keeping a connection: whoever is gone is gone.
async fn closing_origins() -> [Origin; 3] {
    [
        Origin::answering_once(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
        )
        .await,
        Origin::answering_once(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nb",
        )
        .await,
        Origin::answering_once(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nc",
        )
        .await,
    ]
}

/// A service `web` at these addresses, each with its presence.
fn web(origins: &[(&Origin, Presence)]) -> SourceService {
    let instances = origins.iter().map(|(origin, presence)| {
        let told = instance(&origin.address.to_string(), origin.address);
        Arc::new(Instance { presence: *presence, ..told })
    });
    SourceService { instances: instances.collect(), ..service("web", &[]) }
}

fn all(origins: &[Origin]) -> SourceService {
    web(&origins.iter().map(|origin| (origin, Presence::Active)).collect::<Vec<_>>())
}

/// One process among several that may share a directory.
struct Node {
    app: App,
    registry: watch::Sender<RegistryState>,
    directory: PathBuf,
    clock: Arc<AtomicU64>,
}

impl Node {
    /// A route or listener `sticky` as given; `more` are further tables, `data_dir` among them.
    async fn start(directory: &Path, config: &str, told: SourceService) -> Self {
        Self::start_at(directory, config, told, START).await
    }

    async fn start_at(directory: &Path, config: &str, told: SourceService, now: u64) -> Self {
        let (registry, states) = watch::channel(RegistryState::Live(view(&told)));
        let clock = Arc::new(AtomicU64::new(now));
        let options = Options {
            feeds: vec![Feed::new("mem", 0, states)],
            clock: Clock::showing(Arc::clone(&clock)),
            ..Options::default()
        };
        let loaded = load(&whole(config), directory).unwrap();
        let app = within("start", Box::pin(App::start(loaded, options))).await.unwrap();
        let node = Self { app, registry, directory: directory.to_path_buf(), clock };
        node.tell(told).await;
        node
    }

    /// From now on `web` is this; returns once it is published.
    async fn tell(&self, told: SourceService) {
        self.registry.send_replace(RegistryState::Live(view(&told)));
        let mut wanted = told.instances.clone();
        wanted.sort_by(|a, b| a.id.cmp(&b.id));
        let published = self.app.published(|snapshot| {
            snapshot.service("web").is_some_and(|known| *known.instances == *wanted)
        });
        within("published", published).await;
    }

    async fn reload(&self, config: &str) {
        let loaded = load(&whole(config), &self.directory).unwrap();
        within("reload", Box::pin(self.app.reload(loaded))).await.unwrap();
    }

    /// The answer to a request with these header lines, on a connection of its own.
    async fn ask(&self, headers: &str) -> Answer {
        self.ask_for("a", headers).await
    }

    async fn ask_for(&self, host: &str, headers: &str) -> Answer {
        let mut client = Client::connect(address(&self.app, "web").await).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")).await;
        client.answer().await
    }

    /// Who answers a client with this cookie, and the cookie that it is given, if any.
    async fn ask_with(&self, cookie: &str) -> (String, Option<String>) {
        let answer = self.ask(&format!("Cookie: {cookie}\r\n")).await;
        assert_eq!(answer.status, 200);
        let given = given(&answer);
        (answer.body, given)
    }

    /// Who answers a new client, and the cookie that it is given.
    async fn ask_anew(&self) -> (String, String) {
        let answer = self.ask("").await;
        assert_eq!(answer.status, 200);
        let given = given(&answer).expect("a new client is given a cookie");
        (answer.body, given)
    }

    /// Who answers the client at this address, which a trusted proxy tells.
    async fn ask_from(&self, client: &str) -> String {
        self.ask(&format!("X-Forwarded-For: {client}\r\n")).await.body
    }

    async fn metric(&self, result: &str) -> u64 {
        let name = format!("portolan_proxy_sticky_total{{listener=\"web\",result=\"{result}\"}}");
        self.value(&name).await
    }

    async fn value(&self, name: &str) -> u64 {
        self.look(name).await.unwrap_or_else(|| panic!("there is no {name}"))
    }

    async fn look(&self, name: &str) -> Option<u64> {
        let page = get_by_socket(&self.directory.join("admin.sock"), "/metrics").await.body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.trim().parse().ok()
    }

    /// It is so many milliseconds later than at the start, and everybody has left before.
    async fn at(&self, millis: u64) {
        let open = "portolan_listener_connections{listener=\"web\"}";
        until("nobody", async || (self.look(open).await.unwrap_or(0) == 0).then_some(())).await;
        self.clock.store(START + millis, Ordering::Relaxed);
    }
}

/// What the registry says: `told`, and the same instances as another service.
fn view(told: &SourceService) -> RegistryView {
    let other = SourceService { name: "other".into(), ..told.clone() };
    RegistryView::default().replaced(vec![told.clone(), other], Vec::new())
}

fn whole(config: &str) -> String {
    let service = if config.contains("[service.web]") { "" } else { "[service.web]\n" };
    format!("{config}\n{service}policy = \"round-robin\"\n[admin]\nsocket = \"admin.sock\"\n")
}

/// A configuration with one HTTP route that is sticky as told.
fn http(node: &str, sticky: &str) -> String {
    format!(
        "[node]\nworkers = 2\n{node}\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         trusted_proxies = [\"127.0.0.0/8\"]\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\nsticky = {{ {sticky} }}\n"
    )
}

const COOKIE: &str = "cookie = \"portolan\"";
const SOURCE: &str = "source = \"10m\"";
const DATA: &str = "data_dir = \"data\"\n";

/// The cookie that an answer gives: `name=value`.
fn given(answer: &Answer) -> Option<String> {
    Some(answer.header("set-cookie")?.split(';').next()?.to_owned())
}

#[tokio::test]
async fn a_client_comes_back_by_a_cookie_that_names_no_address_and_endpoints_never_see() {
    let directory = tempfile::tempdir().unwrap();
    let origins = origins().await;
    let node = Node::start(directory.path(), &http(DATA, COOKIE), all(&origins)).await;
    let first = node.ask("Cookie: theme=dark\r\n").await;
    let line = first.header("set-cookie").unwrap();
    let (cookie, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(first.header("cache-control"), Some("private"));
    let value = cookie.strip_prefix("portolan=").unwrap();
    assert_eq!(value.len(), 48, "{value}");
    for origin in &origins {
        for told in [origin.address.to_string(), origin.address.port().to_string()] {
            assert!(!value.contains(&told), "{value} names {told}");
        }
    }
    origins.iter().for_each(Origin::forget);
    for number in 0..12 {
        let sent = format!("Cookie: theme=dark; {cookie}; number={number}\r\n");
        let answer = node.ask(&sent).await;
        assert_eq!(answer.body, first.body, "another endpoint than before");
        assert_eq!((answer.header("set-cookie"), answer.header("cache-control")), (None, None));
        let alone = node.ask(&format!("Cookie: {cookie}\r\n")).await;
        assert_eq!(alone.body, first.body);
    }
    let seen: String = origins.iter().map(Origin::text).collect();
    assert!(!seen.contains("portolan="), "{seen}");
    let others = seen.matches("Cookie: theme=dark; number=").count();
    assert_eq!((others, seen.matches("ookie:").count()), (12, 12), "{seen}");
    assert_eq!((node.metric("new").await, node.metric("bound").await), (1, 24));

    // A client without the cookie is spread as always.
    let mut answered = BTreeSet::new();
    for _ in 0..6 {
        answered.insert(node.ask_anew().await.0);
    }
    assert_eq!(answered.len(), 3);
    let https = node.ask("X-Forwarded-Proto: https\r\n").await;
    assert!(https.header("set-cookie").unwrap().ends_with("; SameSite=Lax; Secure"));
    node.app.stop().await;
}

#[tokio::test]
async fn a_cookie_that_was_made_up_is_ignored_counted_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let origins = origins().await;
    let config = http(DATA, COOKIE)
        + "[route.other]\nlistener = \"web\"\nhost = \"other\"\nservice = \"other\"\n\
           sticky = { cookie = \"portolan\" }\n";
    let node = Node::start(directory.path(), &config, all(&origins)).await;
    let (_, cookie) = node.ask_anew().await;
    let mut forged = cookie.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    for (case, sent) in [
        ("changed", forged),
        ("made up", "portolan=10.0.0.1:80".to_owned()),
        ("empty", "portolan=".to_owned()),
    ] {
        let (_, given) = node.ask_with(&sent).await;
        let given = given.unwrap_or_else(|| panic!("{case}: no other cookie is given"));
        assert!(node.ask_with(&given).await.1.is_none(), "{case}");
    }
    assert_eq!(node.metric("forged").await, 3);
    // Of another name: nothing of ours.
    assert!(node.ask_with(&cookie.replace("portolan", "other")).await.1.is_some());
    assert_eq!((node.metric("forged").await, node.metric("new").await), (3, 2));
    // Of another service.
    let (_, other) = node.ask_anew().await;
    let answer = node.ask_for("other", &format!("Cookie: {other}\r\n")).await;
    let given = given(&answer).unwrap();
    let answer = node.ask_for("other", &format!("Cookie: {other}; {given}\r\n")).await;
    assert!(answer.header("set-cookie").is_some(), "the first good one counts");
    let answer = node.ask_for("other", &format!("Cookie: {given}\r\n")).await;
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!((node.metric("forged").await, node.metric("new").await), (5, 3));

    // Thirty days later it is worth nothing; half way it was replaced by one for the same endpoint.
    let (first, cookie) = node.ask_anew().await;
    node.at(20 * 24 * 60 * MINUTE).await;
    let (second, fresh) = node.ask_with(&cookie).await;
    assert_eq!(second, first);
    node.at(31 * 24 * 60 * MINUTE).await;
    assert_eq!(node.ask_with(&fresh.unwrap()).await, (first, None));
    assert!(node.ask_with(&cookie).await.1.is_some());
    assert_eq!(node.metric("forged").await, 6);
    node.app.stop().await;
}

#[tokio::test]
async fn cookies_are_kept_over_reloads_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let origins = origins().await;
    let config = http(DATA, COOKIE);
    let node = Node::start(directory.path(), &config, all(&origins)).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(node.ask_anew().await);
    }
    let stay = async |node: &Node, when: &str| {
        for (endpoint, cookie) in &clients {
            let (answered, given) = node.ask_with(cookie).await;
            assert_eq!((&answered, given), (endpoint, None), "{when}");
        }
    };
    let other = config.replace(
        "[listener.web.http]",
        "[listener.next.http]\nbind = [\"127.0.0.1:0\"]\n[listener.web.http]\nhead_max = \"32KiB\"",
    );
    node.reload(&other).await;
    stay(&node, "after a reload").await;
    node.tell(web(&[
        (&origins[2], Presence::Active),
        (&origins[0], Presence::Active),
        (&origins[1], Presence::Active),
    ]))
    .await;
    stay(&node, "after a change of order").await;
    node.app.stop().await;

    let node = Node::start(directory.path(), &config, all(&origins)).await;
    stay(&node, "after a restart").await;
    node.app.stop().await;
    let key = directory.path().join("data/sticky.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    // With another key they are worth nothing.
    std::fs::remove_file(key).unwrap();
    let node = Node::start(directory.path(), &config, all(&origins)).await;
    assert!(node.ask_with(&clients[0].1).await.1.is_some());
    assert_eq!(node.metric("forged").await, 1);
    node.app.stop().await;
}

#[tokio::test]
async fn nodes_with_the_same_key_take_each_others_cookies() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = "5e".repeat(32);
    let config = http("", COOKIE) + "[sticky]\nkey_file = \"shared.key\"\n";
    let origins = origins().await;
    let mut nodes = Vec::new();
    for (directory, name) in [(&one, "node-1"), (&two, "node-2")] {
        std::fs::write(directory.path().join("shared.key"), format!("{key}\n")).unwrap();
        let config = config.replace("[node]", &format!("[node]\nname = \"{name}\""));
        nodes.push(Node::start(directory.path(), &config, all(&origins)).await);
    }
    for _ in 0..6 {
        let (endpoint, cookie) = nodes[0].ask_anew().await;
        assert_eq!(nodes[1].ask_with(&cookie).await, (endpoint, None));
    }
    assert_eq!((nodes[1].metric("bound").await, nodes[1].metric("new").await), (6, 0));

    // The key is replaced node by node: what the former one sealed is still taken.
    let (endpoint, cookie) = nodes[0].ask_anew().await;
    let rotated = format!("{}\n{key}\n", "77".repeat(32));
    std::fs::write(two.path().join("shared.key"), rotated).unwrap();
    nodes[1].reload(&config.replace("[node]", "[node]\nname = \"node-2\"")).await;
    let (same, fresh) = nodes[1].ask_with(&cookie).await;
    assert_eq!(same, endpoint);
    assert_eq!(nodes[1].ask_with(&fresh.unwrap()).await, (endpoint, None));

    // A key that is none refuses the reload, and the one before goes on.
    std::fs::write(two.path().join("shared.key"), "no key").unwrap();
    let loaded = load(&whole(&config.replace("[node]", "[node]\nname = \"node-2\"")), two.path());
    let problems = within("reload", Box::pin(nodes[1].app.reload(loaded.unwrap()))).await;
    let problems = problems.unwrap_err();
    assert!(problems[0].contains("openssl rand -hex 32"), "{problems:?}");
    assert_eq!(nodes[1].ask_with(&cookie).await.0, same);
    for node in nodes {
        node.app.stop().await;
    }
}

#[tokio::test]
async fn who_drains_keeps_its_own_clients_and_gets_no_new_ones_and_who_leaves_loses_them() {
    use Presence::{Active, Draining, Leaving};
    let directory = tempfile::tempdir().unwrap();
    let origins = origins().await;
    let [a, b, c] = &origins;
    let node = Node::start(directory.path(), &http(DATA, COOKIE), all(&origins)).await;
    let own = loop {
        let (endpoint, cookie) = node.ask_anew().await;
        if endpoint == "a" {
            break cookie;
        }
    };
    node.tell(web(&[(a, Draining), (b, Active), (c, Active)])).await;
    for _ in 0..20 {
        assert_eq!(node.ask_with(&own).await, ("a".to_owned(), None), "its own client stays");
        assert_ne!(node.ask_anew().await.0, "a", "no new one comes");
    }
    node.tell(web(&[(a, Leaving), (b, Active), (c, Active)])).await;
    let (elsewhere, given) = node.ask_with(&own).await;
    assert_ne!(elsewhere, "a");
    let moved = given.expect("a cookie for the new endpoint");
    assert_eq!(node.metric("broken").await, 1);
    // It stays there, also when the first one is back.
    node.tell(all(&origins)).await;
    for _ in 0..6 {
        assert_eq!(node.ask_with(&moved).await, (elsewhere.clone(), None));
    }

    // Gone, unhealthy, and drained while unhealthy: each breaks it.
    let (_, cookie) = (0, own);
    let sick = |presence| {
        let mut told = web(&[(a, presence), (b, Active), (c, Active)]);
        let ill = told.instances.iter().map(|known| {
            let sick = known.id.as_ref() == a.address.to_string();
            let health = if sick { Health::Unhealthy } else { known.health };
            Arc::new(Instance { health, ..Instance::clone(known) })
        });
        told.instances = ill.collect();
        told
    };
    for (case, told) in [
        ("gone", web(&[(b, Active), (c, Active)])),
        ("unhealthy", sick(Active)),
        ("draining and unhealthy", sick(Draining)),
    ] {
        node.tell(all(&origins)).await;
        assert_eq!(node.ask_with(&cookie).await, ("a".to_owned(), None), "{case}: before");
        node.tell(told).await;
        let (endpoint, given) = node.ask_with(&cookie).await;
        assert!(endpoint != "a" && given.is_some(), "{case}: {endpoint}");
    }
    assert_eq!(node.metric("broken").await, 4);

    // All of them drain: who is bound stays, anybody else gets 503.
    node.tell(web(&[(a, Draining), (b, Draining), (c, Draining)])).await;
    assert_eq!(node.ask_with(&cookie).await, ("a".to_owned(), None));
    assert_eq!(node.ask("").await.status, 503);
    node.app.stop().await;
}

#[tokio::test]
async fn a_bound_endpoint_that_does_not_answer_gives_way_and_the_client_stays_with_the_next() {
    for sticky in [COOKIE, SOURCE] {
        let directory = tempfile::tempdir().unwrap();
        let origins = closing_origins().await;
        let node = Node::start(directory.path(), &http(DATA, sticky), all(&origins)).await;
        let by_cookie = sticky == COOKIE;
        let ask = async |cookie: &str| {
            let headers = if by_cookie { format!("Cookie: {cookie}\r\n") } else { String::new() };
            let answer = node.ask(&headers).await;
            assert_eq!(answer.status, 200, "{sticky}");
            let given = given(&answer);
            (answer.body, given)
        };
        let (first, cookie) = ask("").await;
        let number = usize::from(first.as_bytes()[0] - b'a');
        let address = origins[number].address;
        let mut origins: Vec<Option<Origin>> = origins.into_iter().map(Some).collect();
        drop(origins[number].take());
        // Bound and not listening: the kernel refuses, and the port stays taken.
        let dead = until("the port", async || {
            let dead = TcpSocket::new_v4().unwrap();
            dead.set_reuseaddr(true).unwrap();
            dead.bind(address).ok().map(|()| dead)
        })
        .await;
        let (next, given) = ask(&cookie.unwrap_or_default()).await;
        assert_ne!(next, first, "{sticky}");
        assert_eq!(given.is_some(), by_cookie);
        for _ in 0..6 {
            assert_eq!(ask(given.as_deref().unwrap_or_default()).await.0, next, "{sticky}");
        }
        assert_eq!((node.metric("new").await, node.metric("broken").await), (1, 1), "{sticky}");
        drop(dead);
        node.app.stop().await;
    }
}

/// Answers with its own name; what asks for `/hold` when it is let go.
async fn holding(name: &'static str, go: watch::Receiver<bool>) -> Origin {
    Origin::start(move |mut exchange| {
        let mut go = go.clone();
        async move {
            loop {
                if exchange.request().await?.starts_with("GET /hold") {
                    go.wait_for(|go| *go).await.ok()?;
                }
                exchange
                    .send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}"))
                    .await?;
            }
        }
    })
    .await
}

#[tokio::test]
async fn who_is_bound_to_an_endpoint_that_is_full_goes_elsewhere_for_once_and_stays_bound() {
    for sticky in [COOKIE, SOURCE] {
        let directory = tempfile::tempdir().unwrap();
        let (go, wait) = watch::channel(false);
        let origins = [holding("a", wait.clone()).await, holding("b", wait).await];
        let config = http(DATA, sticky);
        let config = config + "[service.web]\nmax_connections = 1\n";
        let node = Node::start(directory.path(), &config, all(&origins)).await;
        // One after the other on one connection: each is counted out before the next is read.
        let mut client = Client::connect(address(&node.app, "web").await).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer().await;
        let (home, cookie) = (answer.body.clone(), given(&answer));
        assert_eq!(cookie.is_some(), sticky == COOKIE);
        let headers = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
        client.send(format!("GET /hold HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
        let number = usize::from(home.as_bytes()[0] - b'a');
        origins[number].seen("the held one", |_| origins[number].text().contains("/hold")).await;
        let mut other = Client::connect(address(&node.app, "web").await).await;
        for _ in 0..3 {
            other.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
            let answer = other.answer().await;
            assert_eq!(answer.status, 200, "{sticky}");
            assert_ne!(answer.body, home, "{sticky}: it is full");
            assert_eq!(given(&answer), None, "{sticky}: it is not bound anew");
        }
        go.send(true).unwrap();
        assert_eq!(client.answer().await.body, home, "{sticky}");
        for _ in 0..5 {
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
            assert_eq!(client.answer().await.body, home, "{sticky}: there is room again");
        }
        assert!(node.metric("elsewhere").await >= 3, "{sticky}");
        assert_eq!((node.metric("new").await, node.metric("broken").await), (1, 0), "{sticky}");
        node.app.stop().await;
    }
}

#[tokio::test]
async fn clients_are_known_by_the_address_that_a_trusted_proxy_tells_for_their_time() {
    let directory = tempfile::tempdir().unwrap();
    let origins = origins().await;
    let node = Node::start(directory.path(), &http(DATA, SOURCE), all(&origins)).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        let client = format!("192.0.2.{number}");
        clients.push((node.ask_from(&client).await, client));
    }
    let spread: BTreeSet<&String> = clients.iter().map(|(endpoint, _)| endpoint).collect();
    assert_eq!(spread.len(), 3, "new clients are spread as always");
    let stay = async |node: &Node, when: &str| {
        for (endpoint, client) in &clients {
            assert_eq!(&node.ask_from(client).await, endpoint, "{when}: {client}");
        }
    };
    stay(&node, "at once").await;
    node.at(9 * MINUTE).await;
    stay(&node, "nine minutes later").await;
    node.at(18 * MINUTE).await;
    stay(&node, "nine minutes after that").await;
    let longer = http(DATA, SOURCE) + "[listener.next.http]\nbind = [\"127.0.0.1:0\"]\n";
    node.reload(&longer).await;
    stay(&node, "after a reload").await;
    assert_eq!((node.metric("new").await, node.metric("broken").await), (6, 0));
    assert_eq!(given(&node.ask("X-Forwarded-For: 192.0.2.1\r\n").await), None);

    // Others drain and leave.
    let [a, b, c] = &origins;
    let of_a = &clients.iter().find(|(endpoint, _)| endpoint == "a").unwrap().1;
    let drained = [(a, Presence::Draining), (b, Presence::Active), (c, Presence::Active)];
    node.tell(web(&drained)).await;
    for number in 100..110 {
        assert_eq!(node.ask_from(of_a).await, "a", "its own client stays");
        assert_ne!(node.ask_from(&format!("192.0.2.{number}")).await, "a", "no new one comes");
    }
    node.tell(web(&drained[1..])).await;
    let next = node.ask_from(of_a).await;
    node.tell(all(&origins)).await;
    assert_eq!(node.ask_from(of_a).await, next, "the new binding holds");
    assert_eq!(node.metric("broken").await, 1);

    // Not seen for ten minutes: forgotten.
    node.at(28 * MINUTE).await;
    let before = node.metric("new").await;
    for (_, client) in &clients {
        node.ask_from(client).await;
    }
    assert_eq!(node.metric("new").await - before, 6);
    node.app.stop().await;
}

/// A TCP listener that is sticky, as a configuration.
fn tcp() -> String {
    format!(
        "[node]\nworkers = 2\n{DATA}[listener.web.tcp]\nbind = [\"127.0.0.1:0\"]\n\
         service = \"web\"\nsticky = {{ source = \"1h\" }}\n"
    )
}

/// Who answers a connection from 127.0.0.`host`.
async fn by_tcp(node: &Node, host: u8) -> String {
    let to = address(&node.app, "web").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    let stream = within("connect", socket.connect(to)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = Client::over(stream);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.answer().await.body
}

#[tokio::test]
async fn connections_come_back_by_address_over_reload_restart_and_drain_until_their_time() {
    let directory = tempfile::tempdir().unwrap();
    let origins = origins().await;
    let node = Node::start(directory.path(), &tcp(), all(&origins)).await;
    let hosts = 2..8_u8;
    let mut clients = Vec::new();
    for host in hosts.clone() {
        clients.push((by_tcp(&node, host).await, host));
    }
    let spread: BTreeSet<&String> = clients.iter().map(|(endpoint, _)| endpoint).collect();
    assert_eq!(spread.len(), 3);
    let stay = async |node: &Node, when: &str| {
        for (endpoint, host) in &clients {
            assert_eq!(&by_tcp(node, *host).await, endpoint, "{when}: {host}");
        }
    };
    node.at(59 * MINUTE).await;
    stay(&node, "an hour less a minute later").await;
    node.reload(&tcp().replace("sticky", "timeouts = { idle = \"2h\" }\nsticky")).await;
    stay(&node, "after a reload").await;
    node.tell(web(&[
        (&origins[0], Presence::Draining),
        (&origins[1], Presence::Active),
        (&origins[2], Presence::Active),
    ]))
    .await;
    stay(&node, "while one drains").await;
    assert_ne!(by_tcp(&node, 100).await, "a");
    assert_ne!(by_tcp(&node, 101).await, "a");
    node.app.stop().await;

    let later = START + (59 + 58) * MINUTE;
    let node = Node::start_at(directory.path(), &tcp(), all(&origins), later).await;
    stay(&node, "after a restart").await;
    assert_eq!((node.metric("bound").await, node.metric("new").await), (6, 0));
    node.tell(web(&[(&origins[1], Presence::Active), (&origins[2], Presence::Active)])).await;
    let of_a = clients.iter().find(|(endpoint, _)| endpoint == "a").unwrap().1;
    let next = by_tcp(&node, of_a).await;
    assert_eq!(by_tcp(&node, of_a).await, next);
    assert_eq!(node.metric("broken").await, 1);
    node.at((59 + 58 + 61) * MINUTE).await;
    by_tcp(&node, of_a).await;
    assert_eq!(node.metric("new").await, 1, "an hour after it was last seen");
    node.app.stop().await;

    // Damaged: everybody is new, and it serves.
    let file = directory.path().join("data/sticky.sources");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let node = Node::start_at(directory.path(), &tcp(), all(&origins), later).await;
    by_tcp(&node, of_a).await;
    assert_eq!((node.metric("bound").await, node.metric("new").await), (0, 1));
    node.app.stop().await;
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_client_is_forgotten_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let origins = origins().await;
    let config = http(DATA, SOURCE) + "[sticky]\nsources_max = 3\n";
    let node = Node::start(directory.path(), &config, all(&origins)).await;
    for number in 0..4_u64 {
        node.at(number).await;
        node.ask_from(&format!("192.0.2.{number}")).await;
    }
    assert_eq!(node.value("portolan_proxy_sticky_dropped_total").await, 1);
    for number in 1..4 {
        node.at(10 + number).await;
        node.ask_from(&format!("192.0.2.{number}")).await;
    }
    assert_eq!((node.metric("bound").await, node.metric("new").await), (3, 4));
    node.at(20).await;
    node.ask_from("192.0.2.0").await;
    assert_eq!(node.metric("new").await, 5, "it was the one to go");

    // More room, and who is known stays.
    node.reload(&(http(DATA, SOURCE) + "[sticky]\nsources_max = 30\n")).await;
    for number in [0, 2, 3] {
        node.ask_from(&format!("192.0.2.{number}")).await;
    }
    assert_eq!(node.metric("bound").await, 6);
    node.app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_sticky_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let tcp = |sticky: &str| tcp().replace("source = \"1h\"", sticky);
    for (case, config, want) in [
        ("both", http("", "cookie = \"a\", source = \"1m\""), "keep one"),
        ("none", http("", ""), "needs one of `cookie` and `source`"),
        ("a cookie by TCP", tcp("cookie = \"a\""), "sees no cookies"),
        ("none by TCP", tcp(""), "needs `source`"),
        ("a bad name", http("", "cookie = \"a b\""), "is no name of a cookie"),
        ("no time", http("", "source = \"0\""), "at least \"1s\""),
        ("no client", http("", SOURCE) + "[sticky]\nsources_max = 0\n", "between 1 and 16000000"),
    ] {
        let problems = load(&whole(&config), directory.path()).unwrap_err().join("\n");
        assert!(problems.contains(want), "{case}: {problems}");
    }
    let config = http("", COOKIE) + "[sticky]\nkey_file = \"none.key\"\n";
    let loaded = load(&whole(&config), directory.path()).unwrap();
    let error = App::start(loaded, Options::default()).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot read [sticky] key_file "), "{error}");
}

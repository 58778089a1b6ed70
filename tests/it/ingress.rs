//! Two hosts with one address: real network namespaces, a real keepalived and the real binary on each,
//! by the files of `config/ingress`; clients that never stop are on a third host.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::child::{PORTOLAN, Running, command};
use crate::clients::get_by_socket;
use crate::support::consul_fake::{Fake, Member, Status, TOKEN};
use crate::support::netns::Lan;
use crate::support::{listing, until};

/// The shared address.
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// How soon new connections work again: what is promised, and what a crowded machine is granted.
const PROMISED: Duration = Duration::from_secs(3);
const GRANTED: Duration = Duration::from_secs(12);

fn bound() -> Duration {
    if full() { PROMISED } else { GRANTED }
}

fn full() -> bool {
    std::env::var_os("PORTOLAN_FULL").is_some()
}

/// Whether a program is there; else the reason is printed.
fn there(program: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("skipped: {program} is missing; install it with scripts/install-peers");
    }
    found
}

/// A host with Portolan on it.
struct Edge {
    name: &'static str,
    directory: TempDir,
    portolan: Option<Running>,
}

impl Edge {
    /// By `config/ingress/portolan.toml`, with the texts `replaced`.
    fn new(name: &'static str, services: &str, replaced: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state").display().to_string();
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/ingress");
        let mut text = fs::read_to_string(from.join("portolan.toml")).unwrap();
        for (old, new) in [&[("/var/lib/portolan", &*state)], replaced].concat() {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        let text = text.replace("[node]\n", "[node]\nworkers = 1\n");
        fs::write(directory.path().join("portolan.toml"), text).unwrap();
        fs::write(directory.path().join("services.toml"), services).unwrap();
        fs::copy(from.join("sorry.html"), directory.path().join("sorry.html")).unwrap();
        Self { name, directory, portolan: None }
    }

    async fn start(&mut self, lan: &Lan) {
        let mut command = lan.command(self.name, PORTOLAN);
        command.args(["run", "--config"]).arg(self.directory.path().join("portolan.toml"));
        let running = Running::spawn(command);
        running.logged("serving").await;
        running.ready(&self.directory.path().join("state/admin.sock")).await;
        self.portolan = Some(running);
    }

    fn running(&self) -> &Running {
        self.portolan.as_ref().unwrap()
    }

    async fn kill(&mut self) {
        let mut running = self.portolan.take().unwrap();
        running.signal(Signal::KILL);
        running.ended().await;
    }

    /// keepalived by `config/ingress/keepalived.conf`, asking this binary.
    fn keepalived(&self, lan: &Lan) -> Running {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/ingress/keepalived.conf");
        let mut text = fs::read_to_string(from).unwrap();
        // The binary under test may stand where nobody else can reach it.
        for (old, new) in [("/usr/bin/portolan", PORTOLAN), ("nobody nogroup", "root")] {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        let place = self.directory.path();
        let file = place.join("keepalived.conf");
        fs::write(&file, text).unwrap();
        let mut command = lan.command(self.name, "keepalived");
        command.args(["-n", "-l", "-D", "-P", "-i", self.name, "-f"]).arg(file);
        command.arg("-p").arg(place.join("keepalived.pid"));
        command.arg("-r").arg(place.join("vrrp.pid"));
        Running::spawn(command)
    }
}

/// What became of each connection of a client.
#[derive(Default)]
struct Seen {
    /// Starts of those that failed, and how.
    failed: Vec<(Instant, String)>,
    /// When those that worked were answered.
    answered: Vec<Instant>,
}

/// Connects, asks and reads, over and over, on a thread on the host `client`.
struct Client<'a> {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    lan: std::marker::PhantomData<&'a Lan>,
}

impl<'a> Client<'a> {
    #[allow(clippy::disallowed_methods, reason = "a thread of its own, which nobody waits for")]
    fn start(lan: &'a Lan, server: Ipv4Addr) -> Self {
        let (seen, stop) =
            (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        // The inner thread stays on that host when the outer one is gone.
        lan.inside("client", move || {
            std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let end = ask(SocketAddr::from((server, 80)));
                    let mut seen = noted.lock().unwrap();
                    match end {
                        Ok(()) => seen.answered.push(Instant::now()),
                        Err(why) => seen.failed.push((began, why)),
                    }
                    drop(seen);
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        });
        Self { seen, stop, lan: std::marker::PhantomData }
    }

    /// How many connections failed until now.
    fn failures(&self) -> usize {
        self.seen.lock().unwrap().failed.len()
    }

    /// How they failed.
    fn reasons(&self) -> Vec<String> {
        self.seen.lock().unwrap().failed.iter().map(|(_, why)| why.clone()).collect()
    }

    /// Returns once a connection that began after `moment` was answered.
    async fn served_after(&self, moment: Instant) {
        until("a client is served", async || {
            let late = Duration::from_millis(50);
            self.seen.lock().unwrap().answered.last().filter(|at| **at > moment + late).map(|_| ())
        })
        .await;
    }

    /// The longest time without an answer since `moment`, which is told.
    fn gap_since(&self, moment: Instant, what: &str) -> Duration {
        let seen = self.seen.lock().unwrap();
        let later = seen.answered.iter().copied().filter(|at| *at > moment);
        let (gap, _) =
            later.fold((Duration::ZERO, moment), |(gap, last), at| (gap.max(at - last), at));
        let failed = seen.failed.iter().filter(|(at, _)| *at > moment).count();
        println!("ingress: {what}: new connections work again after {gap:?}; {failed} failed");
        gap
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One connection with a question and its answer.
fn ask(server: SocketAddr) -> Result<(), String> {
    // Shorter than the second after which a lost SYN is sent again.
    let limit = Duration::from_millis(900);
    let patience = if full() { limit } else { Duration::from_secs(3) };
    let mut stream =
        TcpStream::connect_timeout(&server, limit).map_err(|error| format!("connect: {error}"))?;
    let mut exchange = || {
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /api/x HTTP/1.0\r\nHost: shop.example\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let answer = exchange().map_err(|error| format!("read: {error}"))?;
    if answer.contains(" 200 OK\r\n") { Ok(()) } else { Err(format!("answer: {answer}")) }
}

/// A backend on the host `client`, and what a services file says of it.
fn backend(lan: &Lan) -> (SocketAddr, String) {
    let listener = lan.listen("client", 8080);
    let at = listener.local_addr().unwrap();
    let router = Router::new().fallback(|| async { "here" });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (at, listing("api", &[("api-1", at)]))
}

/// The host, of two, that has the shared address.
fn holder(lan: &Lan) -> Option<&'static str> {
    match (lan.has("edge-1", SHARED), lan.has("edge-2", SHARED)) {
        (true, false) => Some("edge-1"),
        (false, true) => Some("edge-2"),
        _ => None,
    }
}

async fn held_by(lan: &Lan, wanted: &str) {
    until(&format!("{wanted} has the address"), async || {
        (holder(lan) == Some(wanted)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_address_is_where_portolan_is_ready() {
    if !there("keepalived") {
        return;
    }
    let Some(lan) = Lan::new(&["edge-1", "edge-2", "client"]) else { return };
    let (at, services) = backend(&lan);
    // Each host has an agent of Consul of its own, which knows the service.
    let mut agents = Vec::new();
    for host in ["edge-1", "edge-2"] {
        agents.push((host, agent(&lan, host, at)));
    }
    let registry = format!(
        "[registry.consul.consul]\naddress = \"http://HERE:8500\"\ntoken = \"{TOKEN}\"\n\
         max_stale = \"1s\"\nwhen_stale = \"drain\"\n[registry.local.file]"
    );
    let mut edges = Vec::new();
    for host in ["edge-1", "edge-2"] {
        let registry = registry.replace("HERE", &lan.address(host).to_string());
        let mut edge = Edge::new(host, &services, &[("[registry.local.file]", &registry)]);
        edge.start(&lan).await;
        edges.push(edge);
    }
    let keepers: Vec<Running> = edges.iter().map(|edge| edge.keepalived(&lan)).collect();
    let first = until("one has the address", async || holder(&lan)).await;
    let (one, two) = if first == "edge-1" { (0, 1) } else { (1, 0) };
    let second = edges[two].name;
    let client = Client::start(&lan, SHARED);
    client.served_after(Instant::now()).await;

    // The process is killed.
    let fault = Instant::now();
    edges[one].kill().await;
    held_by(&lan, second).await;
    client.served_after(Instant::now()).await;
    assert!(client.gap_since(fault, "killed") < bound());
    // It is back, and nothing moves: nobody notices.
    let failed = client.failures();
    edges[one].start(&lan).await;
    steady(&keepers[one], &client).await;
    assert_eq!((holder(&lan), client.failures()), (Some(second), failed), "{:?}", client.reasons());

    // A cable is cut.
    let fault = Instant::now();
    lan.cable(second, false);
    until("the first has the address", async || lan.has(first, SHARED).then_some(())).await;
    client.served_after(Instant::now()).await;
    assert!(client.gap_since(fault, "a cut cable") < bound());
    let failed = client.failures();
    lan.cable(second, true);
    held_by(&lan, first).await;
    client.served_after(Instant::now() + Duration::from_secs(1)).await;
    assert_eq!(client.failures(), failed, "{:?}", client.reasons());

    // The registry of one is dead for longer than max_stale.
    let fault = Instant::now();
    let (_, dead) = agents.remove(one);
    dead.cut_all();
    drop(dead);
    held_by(&lan, second).await;
    client.served_after(Instant::now()).await;
    let gap = client.gap_since(fault, "a dead registry");
    assert!(gap < bound());
    let state = edges[one].directory.path().join("state/admin.sock");
    let readiness = get_by_socket(&state, "/readyz").await;
    assert_eq!(readiness.status, 503);
    assert_eq!(readiness.body, "registry consul is silent for longer than max_stale\n");
    let failed = client.failures();
    agents.insert(one, (first, agent(&lan, first, at)));
    edges[one].running().ready(&state).await;
    steady(&keepers[one], &client).await;
    assert_eq!((holder(&lan), client.failures()), (Some(second), failed), "{:?}", client.reasons());

    // An orderly leave: told to go, it says so and serves on until the address has moved.
    let left = Instant::now();
    edges[two].running().signal(Signal::TERM);
    held_by(&lan, first).await;
    client.served_after(Instant::now()).await;
    let ended = edges[two].portolan.as_mut().unwrap().ended().await;
    assert!(ended.success());
    client.gap_since(left, "an orderly leave");
    // Only what is under way at the very moment at which the address moves can be lost.
    let lost = client.reasons().split_off(failed);
    assert!(lost.len() <= 3 && !lost.iter().any(|why| why.contains("refused")), "{lost:?}");
    // Neither is ready: the address stays.
    edges[one].kill().await;
    keepers[one]
        .line("both failed", |line| line.contains("effective priority from 100 to 50"))
        .await;
    assert_eq!(holder(&lan), Some(first));
    for (mut keeper, edge) in keepers.into_iter().zip(&edges) {
        keeper.signal(Signal::TERM);
        keeper.ended().await;
        assert!(!lan.has(edge.name, SHARED), "{}", edge.name);
    }
}

/// Returns once this keepalived has taken note that its host is ready again, and clients came since.
async fn steady(keeper: &Running, client: &Client<'_>) {
    let again = |lines: &[String]| {
        let last = lines.iter().rev().find(|line| line.contains("effective priority from"));
        last.is_some_and(|line| line.ends_with("from 50 to 100"))
    };
    until("it is ready again", async || again(&keeper.said()).then_some(())).await;
    client.served_after(Instant::now() + Duration::from_millis(500)).await;
}

/// An agent of Consul on `host` that knows of the service.
fn agent(lan: &Lan, host: &str, at: SocketAddr) -> Fake {
    let fake = Fake::on(lan.listen(host, 8500));
    let member = Member {
        at,
        status: Status::Passing,
        tags: Vec::new(),
        weights: (1, 1),
        meta: std::collections::BTreeMap::new(),
        output: String::new(),
    };
    fake.set("known", "known-1", member);
    fake
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn behind_a_director_in_direct_routing_mode_the_ready_route_says_where_to_go() {
    if !there("arping") {
        return;
    }
    let Some(lan) = Lan::new(&["edge-1", "edge-2", "client"]) else { return };
    let (_, services) = backend(&lan);
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/ingress/lvs.sh");
    let (script, shared) = (script.display().to_string(), SHARED.to_string());
    let mut edges = Vec::new();
    for host in ["edge-1", "edge-2"] {
        lan.tool(host, &["sh", &script, &shared]).unwrap();
        let mut edge = Edge::new(host, &services, &[]);
        edge.start(&lan).await;
        edges.push(edge);
    }
    // Nobody says who has the address …
    let heard = lan.tool("client", &["arping", "-f", "-w", "1", "-I", "eth0", &shared]);
    assert!(heard.is_err(), "somebody says so: {heard:?}");
    let own = lan.address("edge-1").to_string();
    lan.tool("client", &["arping", "-f", "-w", "5", "-I", "eth0", &own]).unwrap();
    // … but the director, who sends frames for it to the host of his choice.
    let direct = |host: &str| {
        let link = lan.ip(host, &["-o", "link", "show", "eth0"]);
        let address =
            link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let to = [
            "neighbour",
            "replace",
            &shared,
            "lladdr",
            &address,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ];
        lan.ip("client", &to);
    };
    let ready = |host: &str| {
        let url = format!("http://{}/ready", lan.address(host));
        let words = [PORTOLAN, "ready", "--url", &url];
        lan.tool("client", &words).is_ok()
    };
    direct("edge-1");
    let client = Client::start(&lan, SHARED);
    client.served_after(Instant::now()).await;

    // The director looks at the ready route. A leave in order loses nothing.
    assert!(ready("edge-1") && ready("edge-2"));
    edges[0].running().signal(Signal::TERM);
    until("the director sees it", async || (!ready("edge-1")).then_some(())).await;
    // It takes as long to see it as it likes, within the notice.
    client.served_after(Instant::now() + Duration::from_millis(500)).await;
    assert_eq!(client.failures(), 0, "{:?}", client.reasons());
    direct("edge-2");
    client.served_after(Instant::now()).await;
    assert!(edges[0].portolan.take().unwrap().ended().await.success());
    client.served_after(Instant::now()).await;
    // What was under way when the static entry changed: a director keeps connections where they are.
    assert!(client.failures() <= 1, "{:?}", client.reasons());

    edges[0].start(&lan).await;
    let failed = client.failures();
    let fault = Instant::now();
    edges[1].kill().await;
    until("the director sees it", async || (!ready("edge-2")).then_some(())).await;
    until("a client sees it", async || (client.failures() > failed).then_some(())).await;
    direct("edge-1");
    client.served_after(Instant::now()).await;
    assert!(client.gap_since(fault, "killed behind a director") < bound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_tells_by_its_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).display().to_string();
    let text = "[node]\nworkers = 1\ndata_dir = \"state\"\n[limits]\nnotice = \"10m\"\n\
                [admin]\nlisten = \"127.0.0.1:0\"\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                [route.ready]\nlistener = \"web\"\npath_exact = \"/ready\"\n\
                respond = { status = 204, when = \"ready\" }\n";
    fs::write(place("portolan.toml"), text).unwrap();
    fs::write(place("broken.toml"), "[nodes]\n").unwrap();
    let (config, socket) = (place("portolan.toml"), place("state/admin.sock"));
    let asks = async |arguments: &[&str]| {
        let output = command(&[&["ready"], arguments].concat()).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = asks(&["--config", &config]).await;
    assert_eq!(code, Some(69), "{told}");
    assert!(
        told.starts_with("not ready: nobody answers at ") && told.contains("admin.sock"),
        "{told}"
    );

    let mut process = Running::start(directory.path().join("portolan.toml").as_path()).await;
    process.ready(directory.path().join("state/admin.sock").as_path()).await;
    let admin = format!("http://{}/readyz", process.address("admin").await);
    let route = format!("http://{}/ready", process.address("web").await);
    let ways: [&[&str]; 4] =
        [&["--config", &config], &["--socket", &socket], &["--url", &admin], &["--url", &route]];
    for way in ways {
        assert_eq!(asks(way).await, (Some(0), String::new()), "{way:?}");
    }
    for (way, want) in [
        (&["--config", &*place("broken.toml")][..], 78),
        (&["--url", "https://127.0.0.1/"], 2),
        (&["--url", &route, "--socket", &socket], 2),
        (&["some-id", "--socket", &socket], 2),
    ] {
        let (code, told) = asks(way).await;
        assert_eq!(code, Some(want), "{way:?} {told}");
    }
    // One that hangs is no better than one that is gone.
    process.signal(Signal::STOP);
    let (code, told) = asks(&["--url", &admin, "--timeout", "200ms"]).await;
    assert_eq!(code, Some(69), "{told}");
    process.signal(Signal::CONT);

    // Told to leave it says so, and serves on; another word ends the notice.
    process.signal(Signal::TERM);
    process.logged("leaving; no longer ready").await;
    for way in ways {
        let (code, told) = asks(way).await;
        assert_eq!(code, Some(75), "{way:?} {told}");
        assert!(told.starts_with("not ready (503): "), "{told}");
    }
    process.signal(Signal::TERM);
    process.logged("draining").await;
    assert!(process.ended().await.success());
}

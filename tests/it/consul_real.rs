//! On a real Consul, from the write there to every face here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan::app::App;
use serde_json::{Value, json};

use crate::clients::{Dns, Http, dig, get, get_by_socket};
use crate::consul_latency::instance;
use crate::support::consul::{Consul, Entry};
use crate::support::{address, backend, granted, known, soon, start, until, within};

/// The bound of a restart that is stated, and what is asked of a build that was not optimised.
pub(crate) const RESTART: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 200 });

const TEMPLATE: &str = "{% for i in service('web') %}{{ i.address }}:{{ i.port }} {{ i.health }} \
    {{ i.weight }} {{ i.tags | join(',') }}\n{% endfor %}";

/// A configuration that is fed from `consul` alone.
fn configuration(consul: &Consul) -> String {
    let mut text = format!(
        r#"
[node]
workers = 1
data_dir = "data"
[registry.dc1.consul]
address = "{}"
datacenter = "dc1"
CA
[guard]
hold = "3s"
[dns]
listen = ["127.0.0.1:0"]
[dns.zone.consul]
dialect = "consul"
[dns.zone."svc.test"]
[listener.web.http]
bind = ["127.0.0.1:0"]
[route.all]
listener = "web"
service = "web"
[service.web]
policy = "round-robin"
[template.list]
source = "list.j2"
destination = "list"
[admin]
socket = "admin.sock"
"#,
        consul.url()
    );
    let authority = if consul.url().starts_with("https") {
        format!("ca_file = \"{}\"", consul.authority().display())
    } else {
        String::new()
    };
    text = text.replace("CA\n", &format!("{authority}\n"));
    text
}

pub(crate) async fn launch(consul: &Consul, directory: &Path) -> App {
    std::fs::write(directory.join("list.j2"), TEMPLATE).unwrap();
    start(&configuration(consul), directory).await
}

/// What one instance of `web` is to look like.
type Shown = (SocketAddr, &'static str, u16, &'static str);

/// All who can be asked.
struct Faces<'a> {
    app: &'a App,
    directory: &'a Path,
    server: SocketAddr,
    dns: Dns,
    web: SocketAddr,
}

impl<'a> Faces<'a> {
    async fn of(app: &'a App, directory: &'a Path) -> Self {
        let server = address(app, "dns").await;
        let web = address(app, "web").await;
        Self { app, directory, server, dns: Dns::to(server).await, web }
    }

    /// Returns once every face shows exactly `wanted`; and soon: `since` was the change.
    async fn show(&self, what: &str, since: Instant, wanted: &[Shown]) {
        let ips: BTreeSet<IpAddr> = wanted.iter().map(|(at, ..)| at.ip()).collect();
        until(&format!("{what}: DNS tells {ips:?}"), async || {
            (self.dns.addresses("web.service.consul").await == ips).then_some(())
        })
        .await;
        let by_dns = since.elapsed();
        let lines = wanted.iter().map(|(at, health, weight, tags)| {
            format!("{at} {health} {weight} {tags}").trim_end().to_owned()
        });
        let lines: BTreeSet<_> = lines.collect();
        let mut last = String::new();
        until(&format!("{what}: the file tells {lines:?}"), async || {
            last = std::fs::read_to_string(self.directory.join("list")).unwrap_or_default();
            let told: BTreeSet<_> = last.lines().map(|line| line.trim_end().to_owned()).collect();
            (told == lines).then_some(())
        })
        .await;
        let by_file = since.elapsed();
        let total: u16 = wanted.iter().map(|(_, _, weight, _)| weight).sum();
        until(&format!("{what}: the proxy reaches {ips:?} by weight"), async || {
            let told = self.reached(2 * u32::from(total).max(1)).await;
            let fair = wanted.iter().map(|(at, _, weight, _)| (at.ip(), 2 * u32::from(*weight)));
            (told == fair.collect()).then_some(())
        })
        .await;
        let all = since.elapsed();
        println!("{what}: DNS after {by_dns:?}, file {by_file:?}");
        soon(&format!("{what}: all"), all);
    }

    /// Who answered how many of these requests; each backend says its address.
    async fn reached(&self, requests: u32) -> BTreeMap<IpAddr, u32> {
        let mut client = Http::to(self.web).await;
        let mut counted = BTreeMap::new();
        for _ in 0..requests {
            let answer = client.get("/").await;
            if answer.status == 503 {
                return counted;
            }
            *counted.entry(answer.body.parse().unwrap()).or_default() += 1;
        }
        counted
    }

    async fn status(&self) -> Value {
        get_by_socket(&self.directory.join("admin.sock"), "/v1/status").await.json()
    }

    /// Returns once the registry is called stale, or no longer.
    async fn stale(&self, wanted: bool) -> Value {
        until(&format!("stale: {wanted}"), async || {
            let status = self.status().await;
            (status["registries"][0]["stale"].is_object() == wanted).then_some(status)
        })
        .await
    }

    fn generation(&self) -> u64 {
        self.app.tables().snapshot.generation
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_in_consul_is_seen_by_every_face_within_a_second() {
    let consul = Consul::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (backend("127.0.0.21", 21).await, backend("127.0.0.22", 22).await);
    let app = launch(&consul, directory.path()).await;
    within("heard", app.published(|snapshot| snapshot.heard("dc1"))).await;
    let faces = Faces::of(&app, directory.path()).await;
    let (a, b) = (Entry::new("web", "a", one), Entry::new("web", "b", two));
    let (up_a, up_b) = ((one, "healthy", 1, ""), (two, "healthy", 1, ""));

    let since = Instant::now();
    consul.register(&a).await;
    faces.show("the first is registered", since, &[up_a]).await;
    let since = Instant::now();
    consul.register(&b).await;
    faces.show("a second is registered", since, &[up_a, up_b]).await;

    let since = Instant::now();
    consul.check(&a, "warn").await;
    faces.show("a check warns", since, &[(one, "warning", 1, ""), up_b]).await;
    let since = Instant::now();
    consul.check(&a, "fail").await;
    faces.show("a check fails", since, &[up_b]).await;
    let since = Instant::now();
    consul.check(&a, "pass").await;
    faces.show("it passes again", since, &[up_a, up_b]).await;

    let since = Instant::now();
    consul.register(&b.clone().tagged("v2")).await;
    faces.show("a tag is given", since, &[up_a, (two, "healthy", 1, "v2")]).await;
    assert_eq!(faces.dns.addresses("v2.web.service.consul").await, [two.ip()].into());
    let since = Instant::now();
    consul.register(&b.clone().weighing(3)).await;
    let heavy = (two, "healthy", 3, "");
    faces.show("a weight grows, a tag is taken", since, &[up_a, heavy]).await;
    assert!(faces.dns.addresses("v2.web.service.consul").await.is_empty());
    let weights = dig(faces.server, "web.service.consul", "SRV").await;
    let weights: BTreeSet<_> = weights.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(weights, ["1", "3"].into());

    for (what, of, left) in [("the service", Some("b"), &[up_a][..]), ("the node", None, &[][..])] {
        let since = Instant::now();
        consul.maintenance(of, true).await;
        faces.show(&format!("{what} is in maintenance"), since, left).await;
        let since = Instant::now();
        consul.maintenance(of, false).await;
        faces.show(&format!("{what} is back"), since, &[up_a, heavy]).await;
    }

    let since = Instant::now();
    consul.deregister("b").await;
    faces.show("one is deregistered", since, &[up_a]).await;
    let since = Instant::now();
    consul.deregister("a").await;
    faces.show("the last is deregistered", since, &[]).await;
    let gone = faces.dns.ask("web.service.consul", RecordType::A).await;
    assert_eq!(gone.code(), ResponseCode::NXDomain);
    assert_eq!(get(faces.web, "/").await.status, 503);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_consul_all_stays_as_it_was_and_an_empty_one_is_believed_only_when_it_says_so_twice()
 {
    let mut consul = Consul::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (backend("127.0.0.23", 23).await, backend("127.0.0.24", 24).await);
    let (a, b) = (Entry::new("web", "a", one), Entry::new("web", "b", two));
    let both: BTreeSet<IpAddr> = [one.ip(), two.ip()].into();
    consul.register(&a).await;
    consul.register(&b).await;
    let app = launch(&consul, directory.path()).await;
    known(&app, "web", 2).await;
    let faces = Faces::of(&app, directory.path()).await;
    assert_eq!(faces.dns.addresses("web.service.consul").await, both);
    until("all of it is heard", async || (faces.stale(false).await["ready"] == true).then_some(()))
        .await;

    let list = directory.path().join("list");
    until("the file tells both", async || {
        let file = std::fs::read_to_string(&list).unwrap_or_default();
        (file.lines().count() == 2).then_some(())
    })
    .await;
    let web = app.tables().snapshot.service("web").cloned().unwrap();
    consul.kill().await;
    let status = faces.stale(true).await;
    println!("killed: {}", status["registries"][0]);
    assert_eq!(status["ready"], true);
    for _ in 0..200 {
        assert_eq!(faces.dns.addresses("web.service.consul").await, both);
    }
    assert_eq!(faces.reached(4).await.keys().copied().collect::<BTreeSet<_>>(), both);
    assert!(Arc::ptr_eq(app.tables().snapshot.service("web").unwrap(), &web));
    let file = std::fs::read_to_string(&list).unwrap();
    assert_eq!(file.lines().count(), 2, "{file}");
    app.stop().await;

    let started = Instant::now();
    let app = launch(&consul, directory.path()).await;
    let dns = Dns::to(address(&app, "dns").await).await;
    let first = dns.addresses("web.service.consul").await;
    let took = started.elapsed();
    println!("restarted without Consul: the first answer after {took:?}");
    assert_eq!(first, both);
    assert!(took < granted(RESTART), "{took:?}");
    assert!(app.readiness().ready());
    let faces = Faces::of(&app, directory.path()).await;
    assert!(faces.stale(true).await["ready"].as_bool().unwrap());
    assert_eq!(faces.reached(4).await.keys().copied().collect::<BTreeSet<_>>(), both);

    // It speaks before it leads itself, and says that there is nothing.
    let held = async {
        let held = async || {
            let status = faces.status().await;
            (status["registries"][0]["held"][0]["lost"] == 2).then_some(status)
        };
        // Held before the question and behind its answer, so that it was all the while.
        let asked = until("the loss is held", async || {
            held().await?;
            let since = Instant::now();
            let told = faces.dns.addresses("web.service.consul").await;
            Some((since, told, held().await?))
        });
        let (since, told, status) = asked.await;
        assert_eq!(told, both);
        println!("back, empty: {}", status["registries"][0]);
        until("the loss is believed", async || {
            faces.dns.addresses("web.service.consul").await.is_empty().then_some(())
        })
        .await;
        println!("the loss was believed {:?} after it was held", since.elapsed());
    };
    tokio::join!(consul.back_empty(), held);
    assert_eq!(get(faces.web, "/").await.status, 503);

    let since = Instant::now();
    consul.register(&a).await;
    faces.show("registered anew", since, &[(one, "healthy", 1, "")]).await;
    let since = Instant::now();
    consul.deregister("a").await;
    faces.show("the last one leaves while all is well", since, &[]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_consul_with_its_memory_changes_nothing() {
    let mut consul = Consul::start().await;
    let directory = tempfile::tempdir().unwrap();
    let one = backend("127.0.0.25", 25).await;
    let entry = Entry::new("web", "a", one);
    consul.register(&entry).await;
    let app = launch(&consul, directory.path()).await;
    known(&app, "web", 1).await;
    let faces = Faces::of(&app, directory.path()).await;
    consul.kill().await;
    faces.stale(true).await;
    consul.back().await;
    faces.stale(false).await;
    assert_eq!(faces.dns.addresses("web.service.consul").await, [one.ip()].into());
    let since = Instant::now();
    consul.register(&Entry::new("other", "o", one)).await;
    until("news come as before", async || {
        (faces.dns.addresses("other.service.consul").await.len() == 1).then_some(())
    })
    .await;
    println!("news after the restart: {:?}", since.elapsed());
    assert_eq!(faces.dns.addresses("web.service.consul").await, [one.ip()].into());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_changes_of_check_output_a_second_make_no_generation() {
    const CHECKS: usize = 50;
    let consul = Consul::start().await;
    let directory = tempfile::tempdir().unwrap();
    let entry = |n: usize| {
        Entry::new(if n < CHECKS / 2 { "web" } else { "api" }, &format!("i{n}"), instance(0, n))
    };
    let entries: Vec<_> = (0..CHECKS).map(entry).collect();
    consul.fill(&entries).await;
    let say = |output: &str| {
        let check = |entry: &Entry| {
            json!({"Check": {"Verb": "set", "Check": {
                "Node": format!("node-{}", entry.service), "CheckID": entry.check(), "Name": "c",
                "Status": "passing", "ServiceID": entry.id, "Output": output,
            }}})
        };
        entries.iter().map(check).collect::<Value>()
    };
    consul.put("/v1/txn", say("first")).await;
    let app = launch(&consul, directory.path()).await;
    let healthy = |name: &'static str| {
        app.published(move |snapshot| {
            snapshot.service(name).is_some_and(|service| {
                let mut all = service.instances.iter();
                service.instances.len() == CHECKS / 2 && all.all(|i| i.health.word() == "healthy")
            })
        })
    };
    within("web", healthy("web")).await;
    within("api", healthy("api")).await;
    // The service of Consul itself is news too, and so is that all of it was heard.
    let rest = app.published(|snapshot| {
        let consul = snapshot.service("consul");
        snapshot.heard("dc1") && consul.is_some_and(|service| !service.instances.is_empty())
    });
    within("all of it", rest).await;
    let faces = Faces::of(&app, directory.path()).await;
    let generation = faces.generation();

    let started = Instant::now();
    let mut changes = 0;
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    while changes < 3000 {
        beat.tick().await;
        consul.put("/v1/txn", say(&format!("output {changes}"))).await;
        changes += CHECKS;
    }
    let took = started.elapsed();
    let rate = changes as f64 / took.as_secs_f64();
    println!("{changes} changes of output in {took:?}: {rate:.0} a second");
    let since = Instant::now();
    consul.fill(&[Entry::new("marker", "m", instance(1, 1))]).await;
    within("a marker", app.published(|snapshot| snapshot.service("marker").is_some())).await;
    println!("a change of substance behind them: {:?}", since.elapsed());
    // The marker's service comes by its name, and then with its instance.
    assert!(faces.generation() <= generation + 2, "{} after {generation}", faces.generation());
    app.stop().await;
}

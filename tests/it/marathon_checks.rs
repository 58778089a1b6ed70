//! Checks that services ask for in their registry: the health checks of Marathon's apps, and what
//! services of Consul say in their meta.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use portolan::catalog::{Health, Snapshot};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clients::get_by_socket;
use crate::origin::Origin;
use crate::rig::{Answer, Client, Rig};
use crate::support::consul_fake::{self, Member, Status};
use crate::support::marathon::{Era, Fake};
use crate::support::{start, until, within};

/// The task of an app: an origin that says its name, and whether it says that it is well.
struct Task {
    origin: Origin,
    well: watch::Sender<bool>,
    /// How often it still says that it is not; who asks then waits until it is well.
    complaints: Arc<AtomicUsize>,
}

impl Task {
    async fn start(name: &'static str) -> Self {
        let (well, says) = watch::channel(true);
        let complaints = Arc::new(AtomicUsize::new(usize::MAX));
        let left = Arc::clone(&complaints);
        let origin = Origin::start(move |mut exchange| {
            let (mut says, left) = (says.clone(), Arc::clone(&left));
            async move {
                loop {
                    let request = exchange.request().await?;
                    let asked = request.starts_with("GET /health ");
                    let mut complains = asked && !*says.borrow();
                    let one = |left: usize| left.checked_sub(1);
                    if complains
                        && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one).is_err()
                    {
                        says.wait_for(|well| *well).await.ok()?;
                        complains = false;
                    }
                    let status = match complains {
                        true => "503 Unwell",
                        // What HAProxy and Marathon take for well too.
                        false if asked => "302 Found",
                        false => "200 OK",
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}",
                        name.len()
                    );
                    exchange.send(answer).await?;
                }
            }
        })
        .await;
        Self { origin, well, complaints }
    }

    fn at(&self) -> SocketAddr {
        self.origin.address
    }

    fn says_well(&self, well: bool) {
        self.well.send_replace(well);
    }

    /// How often it was asked for `path`.
    fn asked(&self, path: &str) -> usize {
        self.origin.text().matches(&format!("GET {path} ")).count()
    }
}

/// An app as Marathon lists it, whose tasks are well by Marathon; a task has a port `http` and, where
/// a second is given, one `admin`.
fn app(id: &str, labels: &Value, checks: &Value, tasks: &[&[SocketAddr]]) -> Value {
    let labels = {
        let mut all = json!({"HAPROXY_GROUP": "external"});
        all.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
        all
    };
    let task = |(number, ports): (usize, &&[SocketAddr])| {
        json!({
            "id": format!("{}.task-{number}", id.trim_start_matches('/')), "host": "127.0.0.1",
            "ports": ports.iter().map(SocketAddr::port).collect::<Vec<_>>(),
            "state": "TASK_RUNNING", "version": "v1", "slaveId": "S0",
            "startedAt": "2026-01-01T00:00:00.000Z", "stagedAt": "2026-01-01T00:00:00.000Z",
            "healthCheckResults": [{"alive": true}],
        })
    };
    json!({
        "id": id, "version": "v1", "labels": labels, "healthChecks": checks,
        "networks": [{"mode": "host"}],
        "portDefinitions": [{"port": 0, "name": "http"}, {"port": 0, "name": "admin"}],
        "tasks": tasks.iter().enumerate().map(task).collect::<Value>(),
    })
}

fn health_check(path: &str, index: u8) -> Value {
    json!({
        "protocol": "MESOS_HTTP", "path": path, "portIndex": index, "intervalSeconds": 1,
        "timeoutSeconds": 5, "maxConsecutiveFailures": 1, "gracePeriodSeconds": 300,
    })
}

/// A rig with a virtual host for each app of a Marathon that lists `apps`.
async fn rig(apps: &[Value], more: &str) -> (Rig, Fake) {
    let marathon = Fake::start(Era::V1_8, 1).await;
    marathon.world(|world| world.odd = apps.iter().map(|app| app.to_string().into()).collect());
    let config = format!(
        "[node]\nworkers = 1\n[registry.m.marathon]\nurls = {:?}\n\
         [labels.marathon-lb]\ngroup = [\"external\"]\nhttp = \"web\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n{more}",
        marathon.urls()
    );
    (Rig::start_beside(&config).await, marathon)
}

/// Who answers so many requests in a row, each on a connection of its own.
async fn answering(rig: &Rig, host: &str, requests: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..requests {
        *seen.entry(ask(rig, host).await.body).or_default() += 1;
    }
    seen
}

async fn ask(rig: &Rig, host: &str) -> Answer {
    let mut client = Client::connect(rig.address("web").await).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
    client.answer().await
}

fn instance(snapshot: &Snapshot, service: &str, at: usize) -> Option<(Health, String)> {
    let instance = snapshot.service(service)?.instances.get(at)?;
    Some((instance.health, instance.cause.to_string()))
}

/// Returns once the instance is of this health, with its cause.
async fn becomes(rig: &Rig, service: &str, at: usize, want: Health, cause: &str) {
    let is = |snapshot: &Snapshot| {
        instance(snapshot, service, at)
            .is_some_and(|(health, why)| health == want && why.starts_with(cause))
    };
    within(&format!("{service} {at} is {want:?}: {cause}"), rig.app.published(is)).await;
}

#[tokio::test]
async fn a_task_that_marathon_calls_well_and_whose_own_check_fails_gets_nothing_and_comes_back() {
    // `maxConsecutiveFailures` and one more; one may have been on its way.
    const ENOUGH: usize = 4;
    let (a, b) = (Task::start("a").await, Task::start("b").await);
    let tasks = [&[a.at()][..], &[b.at()]];
    let checks = json!([health_check("/health", 0)]);
    let labels = json!({"HAPROXY_0_VHOST": "shop.test", "HAPROXY_0_BALANCE": "roundrobin"});
    let shop = app("/shop", &labels, &checks, &tasks);
    let more = "[health]\nfrom_registry = true\nfast_interval = \"50ms\"\n";
    let (rig, _marathon) = rig(&[shop], more).await;
    for at in [0, 1] {
        becomes(&rig, "shop", at, Health::Healthy, "http: 302 Found").await;
    }
    assert_eq!(answering(&rig, "shop.test", 40).await.len(), 2);

    a.complaints.store(ENOUGH, Ordering::SeqCst);
    a.says_well(false);
    becomes(&rig, "shop", 0, Health::Unhealthy, "http: 503 Unwell").await;
    let left = a.complaints.load(Ordering::SeqCst);
    assert!(ENOUGH - left >= 2, "{left} of {ENOUGH} are left");
    let got = a.asked("/");
    assert_eq!(answering(&rig, "shop.test", 20).await, BTreeMap::from([("b".into(), 20)]));
    assert_eq!(a.asked("/"), got);

    a.says_well(true);
    becomes(&rig, "shop", 0, Health::Healthy, "http: 302 Found").await;
    until("both again", async || (answering(&rig, "shop.test", 10).await.len() == 2).then_some(()))
        .await;
}

#[tokio::test]
async fn after_a_restart_nobody_serves_on_marathons_word_who_had_failed_its_own_check() {
    let (task, directory) = (Task::start("web").await, tempfile::tempdir().unwrap());
    let checks = json!([health_check("/health", 0)]);
    let web = app("/web", &json!({}), &checks, &[&[task.at()]]);
    let marathon = Fake::start(Era::V1_8, 1).await;
    marathon.world(|world| world.odd = vec![web.to_string().into()]);
    let config = format!(
        "[node]\nworkers = 1\ndata_dir = \"state\"\n[health]\nfrom_registry = true\n\
         [registry.m.marathon]\nurls = {:?}\n",
        marathon.urls()
    );
    task.says_well(false);
    let app = start(&config, directory.path()).await;
    let failed = |snapshot: &Snapshot| {
        instance(snapshot, "web", 0).is_some_and(|(_, cause)| cause == "http: 503 Unwell")
    };
    within("a verdict", app.published(failed)).await;
    app.stop().await;

    let app = start(&config, directory.path()).await;
    let first = Mutex::new(None);
    let look = |snapshot: &Snapshot| {
        first.lock().unwrap().get_or_insert_with(|| instance(snapshot, "web", 0));
        true
    };
    within("what is told first", app.published(look)).await;
    let first = first.into_inner().unwrap().flatten();
    assert_eq!(first.map(|(health, _)| health), Some(Health::Unhealthy));
    app.stop().await;
}

#[tokio::test]
async fn the_port_that_a_label_names_is_the_one_that_is_asked() {
    let (http, admin) = (Task::start("http").await, Task::start("admin").await);
    let tasks = [&[http.at(), admin.at()][..]];
    let checks = json!([health_check("/health", 0), health_check("/admin-health", 1)]);
    let labels = json!({
        "HAPROXY_0_VHOST": "shop.test", "HAPROXY_0_BACKEND_HEALTHCHECK_PORT_INDEX": "1",
    });
    let shop = app("/shop", &labels, &checks, &tasks);
    let (rig, _marathon) = rig(&[shop], "[health]\nfrom_registry = true\n").await;
    becomes(&rig, "shop", 0, Health::Healthy, "http: 200 OK").await;
    assert_eq!(ask(&rig, "shop.test").await.body, "http");
    admin.origin.seen("a second round", |_| admin.asked("/admin-health") >= 2).await;
    assert_eq!((http.asked("/health"), http.asked("/admin-health")), (0, 0));
    assert_eq!(admin.asked("/health"), 0);
}

#[tokio::test]
async fn an_app_that_asks_for_nonsense_is_told_so_and_served() {
    let (web, other) = (Task::start("web").await, Task::start("other").await);
    let checks = json!([health_check("/health", 0)]);
    let nonsense = json!({
        "HAPROXY_0_VHOST": "web.test",
        "portolan-check": "htp /health; http /health port=nowhere; tcp intervall=1s"
    });
    let apps = [
        app("/web", &nonsense, &checks, &[&[web.at()]]),
        app("/other", &json!({"HAPROXY_0_VHOST": "other.test"}), &checks, &[&[other.at()]]),
    ];
    let (rig, _marathon) = rig(&apps, "[health]\nfrom_registry = true\n").await;
    becomes(&rig, "other", 0, Health::Healthy, "http: 302 Found").await;
    becomes(&rig, "web", 0, Health::Healthy, "Marathon's health check passes").await;
    assert_eq!(ask(&rig, "web.test").await.body, "web");
    let socket = rig.directory().join("admin.sock");
    let told = until("all refused", async || {
        let status = get_by_socket(&socket, "/v1/status").await.json();
        let told = status["refused_checks"].as_array().unwrap().clone();
        (told.len() == 3).then_some(told)
    })
    .await;
    assert!(told.iter().all(|one| one["service"] == "web"), "{told:#?}");
    let why = get_by_socket(&socket, "/v1/why?service=web").await.json();
    let why = why["refused_checks"].to_string();
    for want in [
        "\\\"htp\\\" is no kind of check; did you mean `http`?",
        "http port=nowhere: not every instance has a port of that name",
        "\\\"intervall\\\" is no key; did you mean `interval`?",
    ] {
        assert!(why.contains(want), "{want}: {why}");
    }
    rig.metric_is("portolan_health_asked_refused{reason=\"unreadable\"}", 2.0).await;
    assert_eq!(web.asked("/health"), 0);
    let why = get_by_socket(&socket, "/v1/why?service=other").await.json();
    assert!(why["refused_checks"].is_null(), "{why}");
    let words = why["instances"][0]["words"].as_array().unwrap();
    assert!(words.iter().any(|word| word["by"] == "check"), "{words:?}");
}

#[tokio::test]
async fn nobody_is_asked_unless_services_may_ask_and_a_reload_that_lets_them_cuts_nobody_off() {
    let task = Task::start("web").await;
    let checks = json!([health_check("/health", 0)]);
    let web = app("/web", &json!({"HAPROXY_0_VHOST": "web.test"}), &checks, &[&[task.at()]]);
    let (rig, marathon) = rig(&[web], "").await;
    becomes(&rig, "web", 0, Health::Healthy, "Marathon's health check passes").await;
    let meta = |snapshot: &Snapshot| {
        let text = snapshot.service("web").and_then(|web| web.meta.get("portolan-check").cloned());
        let want = "http /health port=http interval=1s timeout=5s fall=2 status=200-399";
        text.as_deref() == Some(want)
    };
    within("the wish", rig.app.published(meta)).await;
    assert_eq!(task.asked("/health"), 0);
    let config = |health: &str| {
        format!(
            "[node]\nworkers = 1\n[registry.m.marathon]\nurls = {:?}\n\
             [labels.marathon-lb]\ngroup = [\"external\"]\nhttp = \"web\"\n\
             [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n{health}",
            marathon.urls()
        )
    };
    rig.reload(&config("[health]\nfrom_registry = { max = 1 }\n")).await;
    assert_eq!(ask(&rig, "web.test").await.body, "web");
    becomes(&rig, "web", 0, Health::Healthy, "http: 302 Found").await;
    rig.reload(&config("")).await;
    becomes(&rig, "web", 0, Health::Healthy, "Marathon's health check passes").await;
}

#[tokio::test]
async fn a_service_of_consul_asks_in_its_meta_for_a_tcp_check() {
    let origin = Task::start("web").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let consul = consul_fake::Fake::start().await;
    for (id, at) in [("a", origin.at()), ("b", closed)] {
        let member = Member {
            at,
            status: Status::Passing,
            tags: Vec::new(),
            weights: (1, 1),
            meta: BTreeMap::from([("portolan-check".into(), "tcp interval=1s".into())]),
            output: String::new(),
        };
        consul.set("web", id, member);
    }
    let config = format!(
        "[node]\nworkers = 1\n[health]\nfrom_registry = true\n\
         [registry.c.consul]\naddress = \"http://{}\"\ntoken = \"{}\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n",
        consul.address,
        consul_fake::TOKEN
    );
    let rig = Rig::start_beside(&config).await;
    becomes(&rig, "web", 0, Health::Healthy, "tcp: connected").await;
    becomes(&rig, "web", 1, Health::Unhealthy, "tcp: connection refused").await;
    assert_eq!(answering(&rig, "any", 10).await, BTreeMap::from([("web".into(), 10)]));
}

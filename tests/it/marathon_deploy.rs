//! What those did who hung on marathon-lb, played to its end against the real program: deployments in
//! blue and green under load, and an autoscaler. Marathon is the scripted one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::child::Running;
use crate::clients::{Dns, get};
use crate::haproxy_face::{CSV, as_autoscale};
use crate::peers::own_ip;
use crate::rig::Client;
use crate::support::load::Wrk;
use crate::support::marathon::{Era, Fake};
use crate::support::marathon_cluster::{Cluster, HELD, told_by};
use crate::support::zdd::{Zdd, ask, balancers, leader};
use crate::support::{until, within};

const HOST: &str = "shop.example";
const PORT: u16 = 10_001;

/// Marathon, its agents, and the program, at the ports that everybody knows.
struct Site {
    directory: TempDir,
    _marathon: Arc<Fake>,
    cluster: Arc<Cluster>,
    portolan: Running,
    ip: IpAddr,
}

impl Site {
    async fn start() -> Self {
        let (ip, master) = (own_ip(), SocketAddr::new(own_ip(), 8080));
        let marathon = Arc::new(Fake::start_at(Era::V1_11, &[master]).await);
        let cluster = Arc::new(Cluster::start(Arc::clone(&marathon)));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("portolan.toml");
        let config = format!(
            "[node]\nworkers = 2\ndata_dir = \"data\"\n\
             [registry.m.marathon]\nurls = {:?}\nadvertise = {{ marathon-lb = [\"{ip}\"] }}\n\
             [dns]\nlisten = [\"{ip}:0\"]\n[dns.zone.mesos]\ndialect = \"mesos\"\n\
             [listener.web.http]\nbind = [\"{ip}:0\"]\n\
             [labels.marathon-lb]\ngroup = [\"external\"]\nhttp = \"web\"\nbind = [\"{ip}\"]\n\
             [haproxy]\nlisten = \"{ip}:9090\"\nsocket = \"haproxy.sock\"\n\
             [admin]\nsocket = \"admin.sock\"\n",
            marathon.urls()
        );
        std::fs::write(&file, config).unwrap();
        let portolan = Running::start(&file).await;
        portolan.ready(&directory.path().join("admin.sock")).await;
        Self { directory, _marathon: marathon, cluster, portolan, ip }
    }

    async fn dns(&self) -> Dns {
        Dns::to(self.portolan.address("dns").await).await
    }

    /// A directory below that of the program.
    fn beside(&self, name: &str) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

/// The file that all deployments begin with.
fn file(instances: usize) -> Value {
    json!({
        "id": "/shop", "instances": instances, "cmd": "./serve",
        "portDefinitions": [{"port": PORT, "protocol": "tcp", "name": "http"}],
        "healthChecks": [{"protocol": "HTTP", "path": "/health", "portIndex": 0}],
        "labels": {
            "HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": HOST,
            "HAPROXY_DEPLOYMENT_GROUP": "shop", "HAPROXY_DEPLOYMENT_ALT_PORT": "20001"
        }
    })
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// One request over a connection that is kept, whose answer must be whole: the colour that gave it.
async fn colour(client: &mut Client, path: &str) -> String {
    client.send(request(path)).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(answer.header("connection"), Some("close"), "the connection stays");
    let told = told_by(&answer.body);
    told.unwrap_or_else(|| panic!("half an answer: {answer:?}")).0.to_owned()
}

/// Clients that hold one connection each and ask without a pause, by when they asked and who answered.
struct Clients {
    stop: Arc<AtomicBool>,
    /// How often somebody wanted to know who answers from now on.
    times: Arc<AtomicU64>,
    told: Arc<Mutex<BTreeMap<(u64, String), u64>>>,
    running: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(count: usize, to: [SocketAddr; 2]) -> Self {
        let (stop, times) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let told = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let run = |number: usize| {
            let (stop, times, told) = (Arc::clone(&stop), Arc::clone(&times), Arc::clone(&told));
            tokio::spawn(async move {
                let mut client = Client::connect(to[number % 2]).await;
                while !stop.load(SeqCst) {
                    let asked = times.load(SeqCst);
                    let colour = colour(&mut client, "/").await;
                    *told.lock().unwrap().entry((asked, colour)).or_default() += 1;
                }
            })
        };
        let running = (0..count).map(run).collect();
        Self { stop, times, told, running }
    }

    /// Who answers the next requests, `count` of them at least.
    async fn colours(&self, count: u64) -> BTreeMap<String, u64> {
        let asked = self.times.fetch_add(1, SeqCst) + 1;
        until("answers", async || {
            let told = self.told.lock().unwrap();
            let of = told.iter().filter(|((time, _), _)| *time == asked);
            let of: BTreeMap<_, _> = of.map(|((_, who), n)| (who.clone(), *n)).collect();
            (of.values().sum::<u64>() >= count).then_some(of)
        })
        .await
    }

    /// All answers are of this colour.
    async fn all_are(&self, colour: &str) {
        let told = self.colours(100).await;
        assert_eq!(told.keys().collect::<Vec<_>>(), [colour], "{told:?}");
    }

    /// Lets them end; how many answers they got.
    async fn end(self) -> u64 {
        self.stop.store(true, SeqCst);
        for client in self.running {
            client.await.unwrap();
        }
        self.told.lock().unwrap().values().sum()
    }
}

/// A request that waits at the task at `at`, and some at others, until zdd has seen a task that
/// drains and has work. They all get their answer.
async fn held(site: &Site, zdd: &Zdd, web: SocketAddr, at: SocketAddr) -> JoinHandle<usize> {
    site.cluster.hold(true);
    let mut all = Vec::new();
    until("a request that waits there", async || {
        all.push(tokio::spawn(async move {
            colour(&mut Client::connect(web).await, HELD).await;
        }));
        (site.cluster.waiting(at) > 0).then_some(())
    })
    .await;
    let (mut busy, cluster) = (zdd.busy.subscribe(), Arc::clone(&site.cluster));
    tokio::spawn(async move {
        within("a task that drains and has work", busy.changed()).await.unwrap();
        cluster.hold(false);
        let count = all.len();
        for one in all {
            one.await.unwrap();
        }
        count
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_in_blue_and_green_under_load_lose_nothing() {
    const ALL: usize = 4;
    let site = Site::start().await;
    let mut zdd = Zdd::new(site.dns().await);
    let web = site.portolan.address("web").await;
    let own = SocketAddr::new(site.ip, PORT);
    assert!(zdd.begin(&file(ALL), None).await.is_none(), "nobody was there before");

    let pause = Duration::from_millis(20);
    let wrk = |host, to, name| Wrk::start_for(host, to, "/", &site.beside(name), 8, pause, true);
    let load = [wrk(HOST, web, "hosts"), wrk("", own, "port")];
    let clients = Clients::start(8, [web, own]);
    clients.all_are("blue").await;
    let mut waited = 0;

    // From blue to green and back, the service port and its stand-in changing places.
    for (new, port) in [("green", 20_001), ("blue", u64::from(PORT))] {
        let old = zdd.members(&file(ALL)).await[0]["id"].as_str().unwrap().to_owned();
        let first = zdd.tasks(&old).await[0];
        let waiting = held(&site, &zdd, web, first).await;
        let swap = zdd.begin(&file(ALL), None).await.unwrap();
        zdd.finish(&swap).await;
        waited += waiting.await.unwrap();
        clients.all_are(new).await;
        let members = zdd.members(&file(ALL)).await;
        assert_eq!(members.len(), 1);
        assert_eq!(members[0]["id"], format!("/shop-{new}"));
        assert_eq!(members[0]["portDefinitions"][0]["port"], port);
    }

    // Two instances of four are of the new colour, and it stays so. From here on the new colour is
    // scaled before the old one's tasks are killed: that scales the old one last, and must not turn
    // the deployment round.
    zdd.kills_first = false;
    let mixed = zdd.begin(&file(ALL), Some(2)).await.unwrap();
    zdd.finish(&mixed).await;
    let told = clients.colours(300).await;
    let share = told["green"] as f64 / told.values().sum::<u64>() as f64;
    assert!((0.35..0.65).contains(&share), "half is green: {told:?}");
    let steps = zdd.steps;
    assert!(zdd.step(&mixed).await, "there is nothing left to do");
    let instances = [zdd.instances(&mixed.new).await, zdd.instances(&mixed.old).await];
    assert_eq!((zdd.steps, instances), (steps, [Some(2), Some(2)]));
    let (listeners, _) = zdd.listeners("shop_10001").await.unwrap();
    assert!(listeners.len() == ALL && listeners.iter().all(|one| one.status == "UP"));
    // Until somebody completes it.
    zdd.finish(&mixed.completed()).await;
    clients.all_are("green").await;

    // Half way there it is taken back.
    let half = zdd.begin(&file(ALL), Some(3)).await.unwrap();
    while zdd.instances(&half.new).await != Some(3) {
        assert!(!zdd.step(&half).await);
    }
    let told = clients.colours(60).await;
    assert_eq!(told.len(), 2, "{told:?}");
    let back = half.back();
    zdd.kills_first = true;
    zdd.finish(&back).await;
    assert_eq!(zdd.instances(&half.new).await, None);
    assert_eq!(zdd.instances(&half.old).await, Some(ALL));
    clients.all_are("green").await;

    let answers = clients.end().await;
    let [hosts, port] = load;
    let (hosts, port) = (hosts.end().await, port.end().await);
    hosts.is_clean();
    port.is_clean();
    let (ended, cut) = site.cluster.ended();
    assert_eq!((ended, cut), (zdd.killed, 0), "who was killed had no work");
    println!(
        "5 deployments, {} steps, {} looks at the CSV, {} of them at a task that drained and had \
         work; {ended} tasks killed; {} requests to the host, {} to the port, {answers} over kept \
         connections, {waited} held: 0 errors",
        zdd.steps,
        zdd.looks,
        *zdd.busy.borrow(),
        hosts.requests,
        port.requests,
    );
}

/// marathon-lb-autoscale: `--marathon http://leader.mesos:8080 --haproxy
/// http://marathon-lb.marathon.mesos:9090 --target-rps RPS --apps nginx_10000`.
struct Autoscale {
    dns: Dns,
    /// The proxy of the app: its id and its service port.
    app: &'static str,
    /// Which rows it adds up.
    kind: &'static str,
    /// Requests a second that one instance is to have.
    rps: f64,
    samples: Vec<u64>,
}

/// What a decision goes by.
const SAMPLES: usize = 4;
const INTERVAL: Duration = Duration::from_millis(100);

impl Autoscale {
    fn id(&self) -> &'static str {
        self.app.rsplit_once('_').unwrap().0
    }

    /// One more sample, of all balancers together.
    async fn sample(&mut self) {
        let mut sum = 0;
        for at in balancers(&self.dns).await {
            let told = get(at, CSV).await;
            assert_eq!(told.status, 200);
            sum += as_autoscale(&told.body, self.kind)[self.app];
        }
        if self.samples.len() == SAMPLES {
            self.samples.remove(0);
        }
        self.samples.push(sum);
    }

    /// Samples until the app has to have another number of instances, and says so to Marathon: from
    /// how many to how many.
    async fn scales(&mut self) -> (usize, usize) {
        self.samples.clear();
        loop {
            self.sample().await;
            let marathon = leader(&self.dns).await;
            let (status, told) = ask(marathon, "GET", "/v2/apps", &Value::Null).await;
            assert_eq!(status, 200);
            let apps = told["apps"].as_array().unwrap();
            let own = apps.iter().find(|app| app["id"] == format!("/{}", self.id())).unwrap();
            let now = own["instances"].as_u64().unwrap() as usize;
            let rate = self.samples.iter().sum::<u64>() as f64 / self.samples.len() as f64;
            let wanted = ((rate / self.rps).ceil() as usize).max(1);
            if self.samples.len() == SAMPLES && wanted != now {
                let path = format!("/v2/apps/{}", self.id());
                let change = json!({ "instances": wanted });
                let (status, told) = ask(marathon, "PUT", &path, &change).await;
                // It is locked as long as the last change is being made.
                if status != 409 {
                    assert_eq!(status, 200, "{told}");
                    return (now, wanted);
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

#[tokio::test]
async fn an_autoscaler_finds_both_by_name_and_scales_by_what_the_csv_says() {
    let site = Site::start().await;
    let dns = site.dns().await;
    let at = SocketAddr::new(site.ip, 10_000);
    let nginx = json!({
        "id": "/nginx", "instances": 1, "portDefinitions": [{"port": 10_000}],
        "healthChecks": [{"protocol": "HTTP"}], "labels": {"HAPROXY_GROUP": "external"}
    });
    let (status, told) = ask(leader(&dns).await, "POST", "/v2/apps", &nginx).await;
    assert_eq!(status, 201, "{told}");
    let face = balancers(&dns).await[0];
    // Servers that are up, of all that are told.
    let up = async || {
        let rows = crate::haproxy_face::as_zdd(&get(face, CSV).await.body);
        let servers = rows.into_iter().filter(|row| {
            row["pxname"] == "nginx_10000" && !["FRONTEND", "BACKEND"].contains(&&*row["svname"])
        });
        servers.map(|row| row["status"] == "UP").collect::<Vec<_>>()
    };
    until("the app", async || (up().await == [true]).then_some(())).await;

    // Who asks once over each connection: the rate of a frontend is that of connections.
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(SeqCst) {
                    colour(&mut Client::connect(at).await, "/").await;
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let (app, samples) = ("nginx_10000", Vec::new());
    let mut scaler = Autoscale { dns, app, kind: "FRONTEND", rps: 10.0, samples };
    let (from, to) = within_a_minute(async {
        loop {
            let scaled = scaler.scales().await;
            if scaled.1 > 1 {
                return scaled;
            }
        }
    })
    .await;
    assert_eq!(from, 1);
    until("all instances", async || (up().await == vec![true; to]).then_some(())).await;
    // Told to look at backends, it sees the same requests there.
    until("a rate of the backend", async || {
        let told = get(face, CSV).await.body;
        (as_autoscale(&told, "BACKEND")["nginx_10000"] > 0).then_some(())
    })
    .await;
    stop.store(true, SeqCst);
    let mut asked = 0;
    for client in clients {
        asked += client.await.unwrap();
    }

    let (_, back) = within_a_minute(async {
        loop {
            let scaled = scaler.scales().await;
            if scaled.1 == 1 {
                return scaled;
            }
        }
    })
    .await;
    assert_eq!(back, 1);
    until("one instance", async || (up().await == [true]).then_some(())).await;
    println!("{asked} requests: from {from} to {to} instances and back to {back}");
}

async fn within_a_minute<T>(wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), wanted).await.unwrap()
}

//! A deployment in blue and green as zdd of marathon-lb does it: by Marathon's API and the balancer's
//! CSV alone, both found by the names of Mesos-DNS.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{LOOK, until, within};
use crate::clients::{Dns, get};
use crate::haproxy_face::{CSV, as_zdd};
use crate::marathon_fake::json as body;
use crate::rig::Client;

const GROUP: &str = "HAPROXY_DEPLOYMENT_GROUP";
const COLOUR: &str = "HAPROXY_DEPLOYMENT_COLOUR";
const ALT_PORT: &str = "HAPROXY_DEPLOYMENT_ALT_PORT";
const TARGET: &str = "HAPROXY_DEPLOYMENT_TARGET_INSTANCES";
const NEW: &str = "HAPROXY_DEPLOYMENT_NEW_INSTANCES";
const STARTED: &str = "HAPROXY_DEPLOYMENT_STARTED_AT";
/// The service port of the group, whichever of both its apps stands behind it.
const PORT: &str = "HAPROXY_0_PORT";
/// So many processes of a balancer are still about to take over from each other.
const RELOADING: usize = 3;

/// Who deploys, and what was seen.
pub(crate) struct Zdd {
    dns: Dns,
    began: u32,
    /// Whether tasks are killed before the new app is scaled; else behind that.
    pub(crate) kills_first: bool,
    /// Looks at the CSV of all balancers.
    pub(crate) looks: u64,
    /// Steps that changed something.
    pub(crate) steps: u64,
    /// Tasks that were killed because they were drained.
    pub(crate) killed: u64,
    /// Looks at which a task that drains had work.
    pub(crate) busy: watch::Sender<u64>,
}

/// A deployment under way, from one app of a group to another.
#[derive(Debug, Clone)]
pub(crate) struct Swap {
    pub(crate) new: String,
    pub(crate) old: String,
    /// What the CSV calls the group.
    proxy: String,
    /// Instances of both in the end.
    target: usize,
    /// So many of the new app are wanted, and the old one keeps the others.
    stay: Option<usize>,
}

/// One server of one balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    name: String,
    pub(crate) status: String,
    /// What runs there, and what waits for it.
    work: u64,
}

impl Swap {
    /// The way back: what came goes, what went comes back whole.
    pub(crate) fn back(&self) -> Self {
        let (new, old) = (self.old.clone(), self.new.clone());
        Self { new, old, stay: None, ..self.clone() }
    }

    /// The way on: nothing of the old one stays.
    pub(crate) fn completed(&self) -> Self {
        Self { stay: None, ..self.clone() }
    }
}

/// One request to Marathon, and its answer.
pub(crate) async fn ask(at: SocketAddr, method: &str, path: &str, told: &Value) -> (u16, Value) {
    let text = if told.is_null() { String::new() } else { told.to_string() };
    let mut client = Client::connect(at).await;
    let length = text.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: leader.mesos:8080\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
    );
    client.send(request).await;
    let answer = client.answer().await;
    (answer.status, body(&answer))
}

/// The one address of `leader.mesos`, at the port that everybody asks.
pub(crate) async fn leader(dns: &Dns) -> SocketAddr {
    let found = dns.addresses("leader.mesos").await;
    assert_eq!(found.len(), 1, "{found:?}");
    SocketAddr::new(*found.first().unwrap(), 8080)
}

/// Where all balancers tell of themselves.
pub(crate) async fn balancers(dns: &Dns) -> Vec<SocketAddr> {
    let found = dns.addresses("marathon-lb.marathon.mesos").await;
    assert!(!found.is_empty());
    found.into_iter().map(|ip| SocketAddr::new(ip, 9090)).collect()
}

fn number(value: &Value) -> usize {
    let text = value.as_str().map(|text| text.parse().ok());
    text.unwrap_or_else(|| value.as_u64()).unwrap_or_else(|| panic!("no number: {value}")) as usize
}

/// The server of a task as marathon-lb calls it: host, address and port, the address once if it is
/// the host.
fn server_name(task: &Value) -> String {
    let host = task["host"].as_str().unwrap();
    let whole = format!("{host}_{}", task["ports"][0]);
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    whole.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

impl Zdd {
    pub(crate) fn new(dns: Dns) -> Self {
        Self {
            dns,
            began: 0,
            kills_first: true,
            looks: 0,
            steps: 0,
            killed: 0,
            busy: watch::Sender::new(0),
        }
    }

    async fn ask(&self, method: &str, path: &str, told: &Value) -> (u16, Value) {
        ask(leader(&self.dns).await, method, path, told).await
    }

    /// The app with its tasks, unless it is gone.
    async fn app(&self, id: &str) -> Option<Value> {
        let path = format!("/v2/apps/{id}?embed=app.tasks");
        let (status, told) = self.ask("GET", &path, &Value::Null).await;
        (status == 200).then(|| told["app"].clone())
    }

    /// The app's tasks, the first by their ids first: where each is reached.
    pub(crate) async fn tasks(&self, id: &str) -> Vec<SocketAddr> {
        let app = self.app(id).await.unwrap();
        let mut tasks = app["tasks"].as_array().unwrap().clone();
        tasks.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
        let at = |task: &Value| {
            format!("{}:{}", task["host"].as_str().unwrap(), task["ports"][0]).parse().unwrap()
        };
        tasks.iter().map(at).collect()
    }

    /// How many instances an app is to have; none: it is gone.
    pub(crate) async fn instances(&self, id: &str) -> Option<usize> {
        self.app(id).await.map(|app| number(&app["instances"]))
    }

    /// The apps of the group of `file`.
    pub(crate) async fn members(&self, file: &Value) -> Vec<Value> {
        let (status, told) = self.ask("GET", "/v2/apps", &Value::Null).await;
        assert_eq!(status, 200);
        let own = |app: &&Value| app["labels"][GROUP] == file["labels"][GROUP];
        told["apps"].as_array().unwrap().iter().filter(own).cloned().collect()
    }

    async fn settled(&self) -> bool {
        let (status, told) = self.ask("GET", "/v2/deployments", &Value::Null).await;
        assert_eq!(status, 200);
        told.as_array().unwrap().is_empty()
    }

    /// All servers of the group, of all balancers, and how many of these there are; none while one
    /// of them is still being reloaded.
    pub(crate) async fn listeners(&mut self, proxy: &str) -> Option<(Vec<Listener>, usize)> {
        let balancers = balancers(&self.dns).await;
        let mut all = Vec::new();
        for at in &balancers {
            let pids = get(*at, "/_haproxy_getpids").await;
            assert_eq!(pids.status, 200);
            if pids.body.split_whitespace().count() >= RELOADING {
                return None;
            }
            let told = get(*at, CSV).await;
            assert_eq!(told.status, 200);
            let count = |text: &str| if text.is_empty() { 0 } else { text.parse::<u64>().unwrap() };
            for row in as_zdd(&told.body) {
                if row["pxname"] == proxy && !["FRONTEND", "BACKEND"].contains(&&*row["svname"]) {
                    let work = count(&row["qcur"]) + count(&row["scur"]);
                    let (name, status) = (row["svname"].clone(), row["status"].clone());
                    all.push(Listener { name, status, work });
                }
            }
        }
        self.looks += 1;
        Some((all, balancers.len()))
    }

    /// Posts the app in `file` under the next colour of its group. With `stay` so many of it are
    /// wanted beside the other colour. None where nobody was there before: then it is all there.
    pub(crate) async fn begin(&mut self, file: &Value, stay: Option<usize>) -> Option<Swap> {
        let members = self.members(file).await;
        assert!(members.len() < 2, "two apps are of the group already: {members:?}");
        let old = members.into_iter().next();
        let mut new = file.clone();
        let before = old.as_ref().map(|old| (&old["labels"][COLOUR], &old["portDefinitions"][0]));
        let colour =
            if before.is_some_and(|(colour, _)| colour == "blue") { "green" } else { "blue" };
        let own = number(&file["portDefinitions"][0]["port"]);
        let alternative = number(&file["labels"][ALT_PORT]);
        // Marathon gives no service port to two apps.
        let port = match before {
            Some((_, definition)) if number(&definition["port"]) != alternative => alternative,
            _ => own,
        };
        let group = file["labels"][GROUP].as_str().unwrap().trim_matches('/').to_owned();
        let target = number(&file["instances"]);
        self.began += 1;
        new["id"] = format!("/{group}-{colour}").into();
        new["portDefinitions"][0]["port"] = port.into();
        new["instances"] = if old.is_some() { 1.into() } else { target.into() };
        let labels = &mut new["labels"];
        labels[PORT] = own.to_string().into();
        labels[COLOUR] = colour.into();
        labels[TARGET] = target.to_string().into();
        labels[STARTED] = format!("2026-11-23T17:{:02}:00.123456", self.began).into();
        if let Some(stay) = stay {
            labels[NEW] = stay.to_string().into();
        }
        let (status, told) = self.ask("POST", "/v2/apps", &new).await;
        assert_eq!(status, 201, "{told}");
        let proxy = format!("{}_{own}", group.replace('/', "_"));
        let id = |app: &Value| app["id"].as_str().unwrap().to_owned();
        if let Some(old) = &old {
            return Some(Swap { new: id(&new), old: id(old), proxy, target, stay });
        }
        within("the first colour", async {
            loop {
                let told = self.listeners(&proxy).await;
                let up = |one: &&Listener| one.status == "UP";
                if told.is_some_and(|(all, count)| all.iter().filter(up).count() == count * target)
                {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        None
    }

    /// Goes on until the deployment is over.
    pub(crate) async fn finish(&mut self, swap: &Swap) {
        while !self.step(swap).await {}
    }

    /// Waits until something may be changed, and changes it; whether there is nothing left to do.
    pub(crate) async fn step(&mut self, swap: &Swap) -> bool {
        let mut last = String::new();
        let looking = async {
            loop {
                if let Some(done) = self.look(swap, &mut last).await {
                    return done;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(30), looking).await;
        done.unwrap_or_else(|_| panic!("{swap:?} goes no further: {last}"))
    }

    /// One look: none when it has to wait, else whether it was the last.
    async fn look(&mut self, swap: &Swap, last: &mut String) -> Option<bool> {
        if !self.settled().await {
            *last = "deployments".into();
            return None;
        }
        let (new, old) = (self.app(&swap.new).await.unwrap(), self.app(&swap.old).await.unwrap());
        let (coming, going) = (number(&new["instances"]), number(&old["instances"]));
        let (listeners, balancers) = self.listeners(&swap.proxy).await?;
        *last = format!("{coming} come, {going} go, {listeners:?}");
        let up = listeners.iter().filter(|one| one.status == "UP").count();
        if listeners.len() != balancers * (coming + going) || up < balancers * coming {
            return None;
        }
        let (mut drained, mut busy) = (Vec::new(), false);
        for task in old["tasks"].as_array().unwrap() {
            let name = server_name(task);
            let own: Vec<_> = listeners.iter().filter(|one| one.name == name).collect();
            assert_eq!(own.len(), balancers, "{name} is none of {listeners:?}");
            if own.iter().all(|one| one.status == "MAINT") {
                busy |= own.iter().any(|one| one.work > 0);
                drained.push(task["id"].clone());
            }
        }
        if busy {
            self.busy.send_modify(|busy| *busy += 1);
            return None;
        }
        let full = coming == swap.stay.unwrap_or(swap.target);
        let over = match swap.stay {
            None => full && drained.len() == going,
            Some(stay) => full && drained.is_empty() && going + stay == swap.target,
        };
        if over {
            if swap.stay.is_none() {
                self.delete(&swap.old, going).await;
            }
            return Some(true);
        }
        // More are there than are wanted, and none of them has been told to go yet.
        let drains = listeners.iter().any(|one| one.status == "MAINT");
        if drained.is_empty() && (full || coming + going > swap.target && !drains) {
            return None;
        }
        self.steps += 1;
        if full {
            self.kill(&drained).await;
        } else if self.kills_first {
            self.kill(&drained).await;
            self.scale(swap, coming).await;
        } else {
            self.scale(swap, coming).await;
            self.kill(&drained).await;
        }
        Some(false)
    }

    /// Kills tasks, in whose place nobody comes.
    async fn kill(&mut self, drained: &[Value]) {
        if !drained.is_empty() {
            self.killed += drained.len() as u64;
            let ids = json!({ "ids": drained });
            let (status, told) = self.ask("POST", "/v2/tasks/delete?scale=true", &ids).await;
            assert_eq!((status, &told["killed"]), (200, &drained.len().into()), "{told}");
        }
    }

    /// Lets the app that comes have half as many again, as far as it may.
    async fn scale(&self, swap: &Swap, coming: usize) {
        let next = (coming + coming.div_ceil(2)).min(swap.stay.unwrap_or(swap.target));
        let (path, change) = (format!("/v2/apps/{}", swap.new), json!({ "instances": next }));
        let (status, told) = self.ask("PUT", &path, &change).await;
        assert_eq!(status, 200, "{told}");
    }

    /// Deletes an app whose every task is drained, and waits until it is gone.
    async fn delete(&mut self, id: &str, tasks: usize) {
        self.steps += 1;
        self.killed += tasks as u64;
        let (status, told) = self.ask("DELETE", &format!("/v2/apps/{id}"), &Value::Null).await;
        assert_eq!(status, 200, "{told}");
        let gone = async || self.app(id).await.is_none().then_some(());
        until("the end of an app", gone).await;
    }
}

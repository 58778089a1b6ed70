//! The link to a Marathon, one rule of its protocol at a time: nodes that redirect, close, refuse,
//! fall mute, or change their leader, and never a loss by that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use portolan::catalog::{Health, Presence, RegistryState};
use portolan::registry::{Metrics, Registry, RegistryConfig, Surroundings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::support::{until, within};

const ATTACHED: &str =
    "event: event_stream_attached\ndata: {\"eventType\":\"event_stream_attached\"}\n\n";
const UUID: &str = "5dd78972-6771-11e5-94e1-be5b2935a987";

/// How a node behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Role {
    /// It leads.
    Leads,
    /// It accepts a stream, says nothing, and closes it.
    Closes,
    /// It accepts a stream and says nothing.
    Mute,
    /// It answers everything with this status.
    Fails(u16),
    /// It sends whoever asks for events there, and answers all else itself.
    Redirects(String),
    /// It answers events only when it is asked without parameters.
    Old,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) role: Role,
    apps: BTreeMap<String, Value>,
    /// The value of `Authorization` that is asked for.
    pub(crate) secret: Option<String>,
    /// The leader that answers name.
    pub(crate) leader: Option<String>,
    /// Pods, by their ids; as their status is.
    pods: BTreeMap<String, Value>,
    /// So many reads of apps, of one or of all, are refused with 503; those behind them wait as
    /// long as `held`.
    refused: usize,
    held: watch::Sender<bool>,
    /// Path with query, and `Authorization`.
    pub(crate) asked: Vec<(String, Option<String>)>,
    streams: Vec<mpsc::UnboundedSender<Bytes>>,
}

/// A node; ends when it is dropped.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    model: Arc<Mutex<Model>>,
    serving: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Node {
    pub(crate) async fn start(role: Role) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::serve("http", address, listener, role)
    }

    /// Serves connections of `listener`, which is at `address`.
    pub(crate) fn serve<L>(
        scheme: &'static str,
        address: SocketAddr,
        listener: L,
        role: Role,
    ) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let model = Arc::new(Mutex::new(Model {
            role,
            apps: BTreeMap::new(),
            secret: None,
            leader: None,
            pods: BTreeMap::new(),
            refused: 0,
            held: watch::Sender::new(false),
            asked: Vec::new(),
            streams: Vec::new(),
        }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&model));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { address, scheme, model, serving }
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// From now on `/id` has a task at each of these ports.
    pub(crate) fn app(&self, id: &str, ports: &[u16]) {
        self.model().apps.insert(format!("/{id}"), app(id, ports));
    }

    /// Sends to all streams; those that are gone are forgotten.
    fn send(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.model().streams.retain(|stream| stream.send(bytes.clone()).is_ok());
    }

    fn event(&self, kind: &str, data: &Value) {
        self.send(&format!("event: {kind}\ndata: {data}\n\n"));
    }

    pub(crate) fn task(&self, id: &str, port: u16, state: &str) {
        let data = json!({
            "eventType": "status_update_event", "appId": format!("/{id}"), "taskStatus": state,
            "taskId": task_id(id, port), "host": "10.0.0.1", "ports": [port], "slaveId": "S0",
        });
        self.event("status_update_event", &data);
    }

    pub(crate) fn close_streams(&self) {
        self.model().streams.clear();
    }

    fn asked(&self, part: &str) -> usize {
        self.model().asked.iter().filter(|(path, _)| path.contains(part)).count()
    }
}

fn task_id(id: &str, port: u16) -> String {
    format!("{}.{}", id.replace('/', "_"), UUID.replacen("5dd7", &format!("{port:04x}"), 1))
}

fn app(id: &str, ports: &[u16]) -> Value {
    let tasks: Vec<Value> = ports
        .iter()
        .map(|port| {
            json!({
                "id": task_id(id, *port), "appId": format!("/{id}"), "host": "10.0.0.1", "ports": [port],
                "slaveId": "S0", "state": "TASK_RUNNING", "startedAt": "2026-01-01T00:00:00.000Z",
                "stagedAt": "2026-01-01T00:00:00.000Z", "version": "2026-01-01T00:00:00.000Z",
                "ipAddresses": [{"ipAddress": "10.0.0.1", "protocol": "IPv4"}],
            })
        })
        .collect();
    json!({
        "id": format!("/{id}"), "cmd": "x", "instances": ports.len(), "cpus": 0.1, "mem": 16,
        "networks": [{"mode": "host"}], "labels": {}, "healthChecks": [], "deployments": [],
        "portDefinitions": [{"port": 10_001, "protocol": "tcp", "name": "http"}],
        "version": "2026-01-01T00:00:00.000Z", "tasks": tasks, "tasksRunning": ports.len(),
    })
}

async fn answer(State(model): State<Arc<Mutex<Model>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let authorization = request.headers().get("authorization");
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    let accepts = request.headers().get("accept").map(|value| value.to_str().unwrap().to_owned());
    let (refused, mut held) = {
        let mut model = model.lock().unwrap();
        let refused = path.starts_with("/v2/apps") && model.refused > 0;
        model.refused -= usize::from(refused);
        (refused, model.held.subscribe())
    };
    if path.starts_with("/v2/apps") && !refused {
        held.wait_for(|held| !held).await.unwrap();
    }
    let mut model = model.lock().unwrap();
    model.asked.push((format!("{path}?{query}"), authorization.clone()));
    let mut response = Response::builder();
    if let Some(leader) = &model.leader {
        response = response.header("x-marathon-leader", leader);
    }
    let plain = |status: u16, text: &'static str, response: http::response::Builder| {
        response.status(status).body(Body::from(text)).unwrap()
    };
    if model.secret.is_some() && authorization != model.secret {
        return plain(401, "Invalid username or password.", response);
    }
    if refused {
        return plain(503, "as the script says", response);
    }
    if let Role::Fails(status) = model.role {
        return plain(status, "Could not determine the current leader", response);
    }
    let json = |value: Value, response: http::response::Builder| {
        let response = response.header("content-type", "application/json");
        response.body(Body::from(value.to_string())).unwrap()
    };
    match path.as_str() {
        "/v2/events" => {
            assert_eq!(accepts.as_deref(), Some("text/event-stream"));
            let speaks = match &model.role {
                Role::Redirects(to) => {
                    let to = format!("{to}/v2/events?{query}");
                    return plain(302, "", response.header("location", to));
                }
                Role::Old if !query.is_empty() => return plain(400, "what?", response),
                role => !matches!(role, Role::Closes | Role::Mute),
            };
            let (sender, receiver) = mpsc::unbounded_channel();
            if speaks {
                sender.send(Bytes::from_static(ATTACHED.as_bytes())).unwrap();
            }
            if model.role != Role::Closes {
                model.streams.push(sender);
            }
            response
                .header("content-type", "text/event-stream;charset=UTF-8")
                .body(Body::from_stream(Told(receiver)))
                .unwrap()
        }
        "/v2/leader" => match &model.leader {
            Some(leader) => {
                let named = leader.trim_start_matches("http://").to_owned();
                json(json!({ "leader": named }), response)
            }
            None => plain(404, "There is no leader", response),
        },
        "/v2/apps" => {
            let apps: Vec<&Value> = model.apps.values().collect();
            json(json!({ "apps": apps }), response)
        }
        "/v2/pods/::status" => {
            let pods: Vec<&Value> = model.pods.values().collect();
            json(json!(pods), response)
        }
        other if other.ends_with("::status") => {
            let id = other.trim_start_matches("/v2/pods/").trim_end_matches("::status");
            match model.pods.get(id) {
                Some(pod) => json(pod.clone(), response),
                None => plain(404, "no such pod", response),
            }
        }
        other => match other.strip_prefix("/v2/apps/").and_then(|id| model.apps.get(id)) {
            Some(app) => json(json!({ "app": app }), response),
            None => plain(404, "no such app", response),
        },
    }
}

/// What comes by a channel, as a body.
struct Told(mpsc::UnboundedReceiver<Bytes>);

impl futures_core::Stream for Told {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(Ok))
    }
}

/// The registry at work.
pub(crate) struct Linked {
    pub(crate) registry: Registry,
    pub(crate) states: watch::Receiver<RegistryState>,
    prometheus: prometheus::Registry,
}

impl Linked {
    pub(crate) fn start(urls: &[String], keys: &str, dir: &Path) -> Self {
        let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
        let text = format!("[marathon]\nurls = [{}]\n{keys}", urls.join(", "));
        let config: RegistryConfig = toml::from_str(&text).unwrap();
        let prometheus = prometheus::Registry::new();
        let metrics = Metrics::register(&prometheus).unwrap();
        let registry = config.start("mesos", Surroundings::new(dir), None, &metrics);
        Self { states: registry.states(), registry, prometheus }
    }

    /// Follows `nodes` with an interval of reading everything that no test waits for.
    fn to(nodes: &[&Node], keys: &str) -> Self {
        let urls: Vec<String> = nodes.iter().map(|node| node.url()).collect();
        Self::start(&urls, &format!("resync = \"1h\"\ncoalesce = \"20ms\"\n{keys}"), Path::new("."))
    }

    /// Returns once `wanted` holds of the state.
    async fn until(&mut self, what: &str, wanted: impl FnMut(&RegistryState) -> bool) {
        within(what, self.states.wait_for(wanted)).await.unwrap();
    }

    /// Returns once it is live and `service` has instances at exactly these ports.
    pub(crate) async fn live(&mut self, service: &str, ports: &[u16]) {
        let what = format!("{service} live at {ports:?}");
        self.until(&what, |state| {
            matches!(state, RegistryState::Live(_)) && told(state, service) == ports
        })
        .await;
    }

    /// Returns once it is stale for a reason with these words.
    pub(crate) async fn stale(&mut self, words: &str) {
        self.until(
            &format!("stale: {words}"),
            |state| matches!(state, RegistryState::Stale { why, .. } if why.contains(words)),
        )
        .await;
    }

    /// The value of a metric of these labels, whole.
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        let families = self.prometheus.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let fits = |metric: &&prometheus::proto::Metric| {
            labels.iter().all(|(key, value)| {
                metric.get_label().iter().any(|l| l.name() == *key && l.value() == *value)
            })
        };
        let all = family.get_metric().iter().filter(fits);
        all.map(|m| (m.get_counter().get_value() + m.get_gauge().get_value()) as i64).sum()
    }
}

/// The ports of `service`, in order.
fn told(state: &RegistryState, service: &str) -> Vec<u16> {
    let service = state.view().and_then(|view| view.services.get(service));
    let instances = service.iter().flat_map(|service| &service.instances);
    let mut ports: Vec<u16> =
        instances.flat_map(|instance| instance.ports.iter().map(|port| port.number)).collect();
    ports.sort_unstable();
    ports
}

/// How many instances of `service` are being killed.
fn leaving(state: &RegistryState, service: &str) -> usize {
    let service = state.view().and_then(|view| view.services.get(service));
    let all = service.iter().flat_map(|service| &service.instances);
    all.filter(|instance| instance.presence == Presence::Leaving).count()
}

#[tokio::test]
async fn an_event_has_its_app_read_and_what_is_gone_goes() {
    let node = Node::start(Role::Leads).await;
    node.app("shop/web", &[31_001]);
    let mut linked = Linked::to(&[&node], "");
    linked.live("web.shop", &[31_001]).await;
    node.app("shop/web", &[31_001, 31_002]);
    node.task("shop/web", 31_002, "TASK_RUNNING");
    linked.live("web.shop", &[31_001, 31_002]).await;
    assert_eq!(node.asked("/v2/apps?"), 1, "everything was read once");
    assert_eq!(node.asked("/v2/apps//shop/web?embed=app.tasks"), 1);
    node.app("new", &[31_003]);
    node.event(
        "api_post_event",
        &json!({"eventType": "api_post_event", "appDefinition": {"id": "/new"}}),
    );
    linked.live("new", &[31_003]).await;
    node.model().apps.remove("/new");
    node.event(
        "app_terminated_event",
        &json!({"eventType": "app_terminated_event", "appId": "/new"}),
    );
    linked.live("new", &[]).await;
    let events = |kind| linked.metric("portolan_marathon_events_total", &[("type", kind)]);
    assert_eq!((events("status_update_event"), events("api_post_event")), (1, 1));
    // The report follows the state.
    until("it is told", async || {
        let detail = linked.registry.reports().borrow().detail.clone();
        detail.contains("follows events; 1 apps").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_task_that_is_killed_leaves_with_its_event_though_its_app_cannot_be_read() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001, 31_002]);
    let mut linked = Linked::to(&[&node], "timeout = \"1h\"\nsnapshot_timeout = \"1h\"");
    linked.live("web", &[31_001, 31_002]).await;
    node.model().held.send_replace(true);
    node.task("web", 31_001, "TASK_KILLING");
    linked.until("one leaves", |state| leaving(state, "web") == 1).await;
}

#[tokio::test]
async fn a_pod_is_read_alone_when_an_event_names_it_and_goes_when_it_is_gone() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    let pod = |ports: &[u16]| {
        let instance = |port: &u16| {
            let endpoint = json!({"name": "http", "allocatedHostPort": port});
            json!({"id": format!("prod_pod.instance-{}", UUID.replacen("5dd7", &port.to_string(), 1)),
                "status": "STABLE", "agentHostname": "10.0.0.2", "agentId": "S1",
                "containers": [{"name": "c", "endpoints": [endpoint]}]})
        };
        let instances: Vec<Value> = ports.iter().map(instance).collect();
        json!({"id": "/prod/pod", "status": "STABLE", "instances": instances,
            "spec": {"id": "/prod/pod", "version": "2026-01-01T00:00:00.000Z", "containers":
                [{"name": "c", "endpoints": [{"name": "http", "hostPort": 0}]}]}})
    };
    node.model().pods.insert("/prod/pod".into(), pod(&[3101]));
    let mut linked = Linked::to(&[&node], "app_max = \"4KiB\"");
    linked.live("pod.prod", &[3101]).await;
    let changed = || {
        let data = json!({"eventType": "instance_changed_event", "runSpecId": "/prod/pod",
            "instanceId": "prod_pod.instance-x", "condition": "Running", "agentId": "S1"});
        node.event("instance_changed_event", &data);
    };
    node.model().pods.insert("/prod/pod".into(), pod(&[3101, 3102]));
    changed();
    linked.live("pod.prod", &[3101, 3102]).await;
    assert_eq!(node.asked("/v2/pods//prod/pod::status"), 1);
    // One that is longer than allowed is refused alone, and what it said before counts on.
    let all: Vec<u16> = (3103..3150).collect();
    node.model().pods.insert("/prod/pod".into(), pod(&all));
    changed();
    linked
        .until("it is refused", |state| {
            let pod = state.view().unwrap().services.get("pod.prod").unwrap();
            pod.problems.iter().any(|problem| problem.contains("it has more than 4096 bytes"))
        })
        .await;
    linked.live("pod.prod", &[3101, 3102]).await;
    node.model().pods.clear();
    changed();
    linked.live("pod.prod", &[]).await;
    assert_eq!((node.asked("/v2/pods/::status"), node.asked("/v2/apps?")), (1, 1));
    assert_eq!(linked.metric("portolan_marathon_stream_breaks_total", &[]), 0);
}

#[tokio::test]
async fn answers_that_fail_are_told_and_asked_for_again_and_events_go_on_to_count_at_once() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001, 31_002, 31_003]);
    let mut linked = Linked::to(&[&node], "");
    linked.live("web", &[31_001, 31_002, 31_003]).await;
    // One read fails, and the next one takes as long as it is looked at.
    node.model().refused = 1;
    node.model().held.send_replace(true);
    node.app("web", &[31_003, 31_004]);
    node.task("web", 31_001, "TASK_KILLING");
    linked.stale("503 as the script says").await;
    assert_eq!(leaving(&linked.states.borrow(), "web"), 1, "the event counts");
    node.task("web", 31_002, "TASK_FAILED");
    linked.until("one is gone", |state| told(state, "web") == [31_001, 31_003]).await;
    let stale = matches!(*linked.states.borrow(), RegistryState::Stale { .. });
    assert!(stale, "what is not known yet is still to be read");
    until("it is told what goes on", async || {
        let detail = linked.registry.reports().borrow().detail.clone();
        detail.contains("tries once more").then_some(())
    })
    .await;
    node.model().held.send_replace(false);
    linked.live("web", &[31_003, 31_004]).await;
    // A read of everything too: at the first and the second try.
    node.model().refused = 2;
    node.app("web", &[31_005]);
    node.send("event: deployment_success\ndata: {\n\n");
    linked.stale("503 as the script says").await;
    linked.live("web", &[31_005]).await;
    assert_eq!(linked.metric("portolan_marathon_stream_breaks_total", &[]), 0);
    assert_eq!(node.asked("/v2/events"), 1, "all that by one stream");
    let failed = |what| {
        let labels = [("what", what), ("result", "failed")];
        linked.metric("portolan_marathon_reads_total", &labels)
    };
    assert_eq!((failed("app"), failed("everything")), (1, 2));
}

#[tokio::test]
async fn a_node_whose_answers_go_on_to_fail_or_name_another_leader_is_left() {
    for names in [false, true] {
        let (bad, good) = (Node::start(Role::Leads).await, Node::start(Role::Leads).await);
        bad.app("web", &[31_001]);
        good.app("web", &[31_002]);
        if names {
            bad.model().leader = Some(bad.url());
            good.model().leader = Some(good.url());
        }
        let mut linked = Linked::to(&[&bad, &good], "");
        linked.live("web", &[31_001]).await;
        bad.model().refused = usize::MAX;
        if names {
            bad.model().leader = Some(good.url());
        }
        bad.task("web", 31_001, "TASK_RUNNING");
        linked.live("web", &[31_002]).await;
        let failed = linked.metric("portolan_marathon_reads_total", &[("result", "failed")]);
        assert_eq!(failed, if names { 1 } else { 3 });
        assert_eq!(linked.metric("portolan_marathon_stream_breaks_total", &[]), 1);
    }
}

#[tokio::test]
async fn a_node_that_closes_fails_or_is_mute_is_left_for_the_next() {
    let nodes = [
        Node::start(Role::Closes).await,
        Node::start(Role::Fails(502)).await,
        Node::start(Role::Mute).await,
        Node::start(Role::Leads).await,
    ];
    nodes[3].app("web", &[31_001]);
    let all: Vec<&Node> = nodes.iter().collect();
    let mut linked = Linked::to(&all, "idle = \"2500ms\"\nbackoff_max = \"20ms\"");
    linked.live("web", &[31_001]).await;
    for node in &nodes[..3] {
        assert_eq!(node.asked("/v2/events"), 1);
        assert_eq!(node.asked("/v2/apps"), 0, "nothing is read behind no stream");
    }
    assert_eq!(linked.metric("portolan_marathon_stream_breaks_total", &[]), 3);
}

#[tokio::test]
async fn a_stream_that_falls_mute_or_ends_is_replaced_and_what_changed_meanwhile_is_seen() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    let mut linked = Linked::to(&[&node], "idle = \"400ms\"\nbackoff_max = \"20ms\"");
    linked.live("web", &[31_001]).await;
    // No heartbeat comes: it is mute from the start.
    node.app("web", &[31_001, 31_002]);
    linked.live("web", &[31_001, 31_002]).await;
    assert!(linked.metric("portolan_marathon_stream_breaks_total", &[]) >= 1);
    node.app("web", &[31_003]);
    node.model().role = Role::Fails(503);
    node.close_streams();
    linked.stale("503 Could not determine the current leader; it knows no leader now").await;
    assert_eq!(told(&linked.states.borrow(), "web"), [31_001, 31_002], "nothing is lost");
    node.model().role = Role::Leads;
    linked.live("web", &[31_003]).await;
}

#[tokio::test]
async fn a_change_without_an_event_is_found_by_reading_everything_now_and_then() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    let mut linked = Linked::start(&[node.url()], "resync = \"200ms\"", Path::new("."));
    linked.live("web", &[31_001]).await;
    node.app("web", &[31_002]);
    linked.live("web", &[31_002]).await;
    assert_eq!(linked.metric("portolan_marathon_stream_breaks_total", &[]), 0);
}

#[tokio::test]
async fn heartbeats_of_any_form_keep_a_stream() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    let mut linked = Linked::to(&[&node], "idle = \"3s\"");
    linked.live("web", &[31_001]).await;
    for round in 0..70 {
        node.send(["\r", "\r\n", "\n", ": ping\n"][round % 4]);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(linked.metric("portolan_marathon_stream_breaks_total", &[]), 0);
    assert_eq!(node.asked("/v2/events"), 1);
}

#[tokio::test]
async fn credentials_follow_a_redirect_to_the_leader_and_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("password"), "hunter2\n").unwrap();
    let keys =
        "username = \"u\"\npassword_file = \"password\"\nbackoff_max = \"20ms\"\nresync = \"1h\"";
    let secret = Some("Basic dTpodW50ZXIy".to_owned());

    // By the header, or by the question for the leader.
    let leader = Node::start(Role::Leads).await;
    leader.app("web", &[31_001]);
    leader.model().secret.clone_from(&secret);
    let standby = Node::start(Role::Redirects(leader.url())).await;
    standby.model().leader = Some(leader.url());
    standby.model().secret.clone_from(&secret);
    let mut linked = Linked::start(&[standby.url()], keys, dir.path());
    linked.live("web", &[31_001]).await;
    drop(linked);

    // A stranger gets none, and what it lacks is told.
    let stranger = Node::start(Role::Leads).await;
    stranger.model().secret.clone_from(&secret);
    let standby = Node::start(Role::Redirects(stranger.url())).await;
    standby.model().leader = Some(leader.url());
    let linked = Linked::start(&[standby.url()], keys, dir.path());
    until("the stranger is asked", async || (stranger.asked("/v2/events") > 0).then_some(())).await;
    let shown = stranger.model().asked.iter().all(|(_, authorization)| authorization.is_none());
    assert!(shown, "{:?}", stranger.model().asked);
    drop(linked);

    // Without a limit it would never end.
    let ring = Node::start(Role::Leads).await;
    let to_itself = Role::Redirects(ring.url());
    ring.model().role = to_itself;
    let linked = Linked::start(&[ring.url()], "backoff_max = \"1h\"\nredirects = 2", dir.path());
    until("it was asked", async || (ring.asked("/v2/events") == 3).then_some(())).await;
    drop(linked);
}

#[tokio::test]
async fn a_password_that_was_changed_is_read_again_when_the_old_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    node.model().secret = Some("token=old".into());
    let keys = "token_file = \"token\"\nbackoff_max = \"20ms\"\nresync = \"1h\"";
    let mut linked = Linked::start(&[node.url()], keys, dir.path());
    linked.live("web", &[31_001]).await;
    node.model().secret = Some("token=new".into());
    node.close_streams();
    linked.stale("401 Invalid username or password.; check `username`").await;
    let why = format!("{:?}", linked.states.borrow());
    assert!(!why.contains("token=") && !why.contains("old\""), "{why}");
    std::fs::write(&file, "new").unwrap();
    linked.live("web", &[31_001]).await;
}

#[tokio::test]
async fn another_leader_named_in_an_answer_is_followed() {
    let (old, new) = (Node::start(Role::Leads).await, Node::start(Role::Leads).await);
    for node in [&old, &new] {
        node.app("web", &[31_001]);
        node.model().leader = Some(old.url());
    }
    let mut linked = Linked::to(&[&old, &new], "backoff_max = \"20ms\"");
    linked.live("web", &[31_001]).await;
    let first = old.asked("/v2/events") + new.asked("/v2/events");
    for node in [&old, &new] {
        node.model().leader = Some(new.url());
        node.app("web", &[31_002]);
    }
    old.task("web", 31_002, "TASK_RUNNING");
    new.task("web", 31_002, "TASK_RUNNING");
    until("another stream", async || {
        (old.asked("/v2/events") + new.asked("/v2/events") > first).then_some(())
    })
    .await;
    linked.live("web", &[31_002]).await;
    until("the new one is followed", async || {
        linked.registry.reports().borrow().detail.starts_with(&new.url()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_by_its_name_is_passed_over() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    node.model().leader = Some(format!("http://{nobody}"));
    let mut linked = Linked::to(&[&node], "backoff_max = \"20ms\"");
    linked.live("web", &[31_001]).await;
    node.app("web", &[31_002]);
    node.close_streams();
    linked.live("web", &[31_002]).await;
    until("it is followed", async || {
        linked.registry.reports().borrow().detail.starts_with(&node.url()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_refuses_parameters_is_asked_without_them() {
    let node = Node::start(Role::Old).await;
    node.app("web", &[31_001]);
    let mut linked = Linked::to(&[&node], "backoff_max = \"20ms\"");
    linked.live("web", &[31_001]).await;
    let first = node.model().asked[0].0.clone();
    assert!(first.contains("plan-format=light&event_type=event_stream_attached"), "{first}");
}

#[tokio::test]
async fn an_event_that_is_too_large_or_no_json_has_everything_read() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001]);
    let mut linked = Linked::to(&[&node], "event_max = \"1KiB\"");
    linked.live("web", &[31_001]).await;
    node.app("web", &[31_002]);
    node.event("status_update_event", &json!({"appId": "/web", "message": "x".repeat(5000)}));
    linked.live("web", &[31_002]).await;
    node.app("web", &[31_003]);
    node.send("event: status_update_event\ndata: {\"appId\n\n");
    linked.live("web", &[31_003]).await;
    let dropped = |why| linked.metric("portolan_marathon_events_dropped_total", &[("reason", why)]);
    assert_eq!((dropped("too_large"), dropped("unreadable")), (1, 1));
    node.send("event: brand_new_event\ndata: {\"eventType\":\"brand_new_event\"}\n\n");
    let counts = || {
        let ignored = linked.metric("portolan_marathon_events_ignored_total", &[]);
        (ignored, linked.metric("portolan_marathon_events_total", &[("type", "other")]))
    };
    until("it is counted as both", async || (counts() == (1, 1)).then_some(())).await;
}

#[tokio::test]
async fn what_is_no_marathon_is_told_as_such() {
    let node = Node::start(Role::Fails(404)).await;
    let linked = Linked::to(&[&node], "backoff_max = \"1h\"");
    until("it was asked", async || (node.asked("/v2/events") > 0).then_some(())).await;
    assert!(matches!(*linked.states.borrow(), RegistryState::Syncing), "nothing was ever said");
}

#[tokio::test]
async fn a_loss_behind_a_new_stream_is_suspect_until_a_second_read_and_later_ones_are_not() {
    let node = Node::start(Role::Leads).await;
    node.app("web", &[31_001, 31_002]);
    let dir = tempfile::tempdir().unwrap();
    let config: RegistryConfig = toml::from_str(&format!(
        "[marathon]\nurls = [{:?}]\nresync = \"1h\"\nbackoff_max = \"20ms\"",
        node.url()
    ))
    .unwrap();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let hold = std::time::Duration::from_millis(500);
    let surroundings = Surroundings { hold, ..Surroundings::new(dir.path()) };
    let registry = config.start("mesos", surroundings, None, &metrics);
    let states = registry.states();
    let mut linked = Linked { registry, states, prometheus: prometheus::Registry::new() };
    linked.live("web", &[31_001, 31_002]).await;
    let suspect = |state: &RegistryState| state.view().unwrap().suspect.is_some();
    assert!(!suspect(&linked.states.borrow()));
    node.app("web", &[31_001]);
    node.task("web", 31_002, "TASK_KILLED");
    linked.live("web", &[31_001]).await;
    assert!(!suspect(&linked.states.borrow()), "an event said so");
    node.app("web", &[]);
    node.close_streams();
    linked.until("suspect", |state| told(state, "web").is_empty() && suspect(state)).await;
    linked.until("believed", |state| told(state, "web").is_empty() && !suspect(state)).await;
}

#[tokio::test]
async fn health_that_a_new_leader_has_forgotten_is_that_from_before_until_it_has_settled() {
    let node = Node::start(Role::Leads).await;
    let mut web = app("web", &[31_001]);
    web["healthChecks"] = json!([{"protocol": "HTTP", "path": "/", "portIndex": 0}]);
    web["tasks"][0]["healthCheckResults"] =
        json!([{"alive": true, "taskId": task_id("web", 31_001)}]);
    node.model().apps.insert("/web".into(), web.clone());
    let mut linked = Linked::to(&[&node], "backoff_max = \"20ms\"\nsettle = \"1s\"");
    let health = |state: &RegistryState| {
        let service = state.view().unwrap().services.get("web").cloned();
        service.and_then(|service| service.instances.first().map(|i| i.health))
    };
    linked.live("web", &[31_001]).await;
    assert_eq!(health(&linked.states.borrow()), Some(Health::Healthy));
    web["tasks"][0]["healthCheckResults"] = json!([]);
    node.model().apps.insert("/web".into(), web);
    node.close_streams();
    linked.stale("its event stream ended").await;
    linked.live("web", &[31_001]).await;
    assert_eq!(health(&linked.states.borrow()), Some(Health::Healthy), "as before");
    linked
        .until("settled", |state| health(state).is_some_and(|health| health != Health::Healthy))
        .await;
}

//! The nodes of a scripted Marathon: who leads, what is asked of them, and what they answer.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::era::Era;
use super::events::{self, Said};
use super::http::{Answer, Asked};
use super::script::{Auth, Fault, Script, Standby};
use super::streams::{self, Streams};
use super::world::World;
use super::writes;

/// What it knows, will do, and has seen.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) world: World,
    pub(super) script: Script,
    pub(super) leader: Option<usize>,
    pub(super) streams: Streams,
    faults: VecDeque<Option<Fault>>,
    log: Vec<Asked>,
    /// Lists of all apps that were sent to their end.
    listed: u64,
    /// When the last of them was asked for.
    listed_since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) model: Mutex<Model>,
    nodes: Vec<SocketAddr>,
    /// Who leads, or that nobody does: answers that wait for one look again.
    elected: watch::Sender<()>,
    /// Answers that hang are given up when this changes.
    healed: watch::Sender<()>,
    /// Connections of an earlier life are cut.
    life: watch::Sender<u64>,
}

/// A listening Marathon; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    shared: Arc<Shared>,
    accepting: Vec<JoinHandle<()>>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Somebody who had read everything before heard of it.
    Live,
    /// Nobody did, or only who was still reading.
    NotLive,
}

impl Fake {
    /// Starts so many nodes, of which the first one leads and knows of nothing.
    pub(crate) async fn start(era: Era, nodes: usize) -> Self {
        Self::start_at(era, &vec![SocketAddr::from(([127, 0, 0, 1], 0)); nodes]).await
    }

    /// The same with nodes at these addresses.
    pub(crate) async fn start_at(era: Era, nodes: &[SocketAddr]) -> Self {
        let mut listeners = Vec::new();
        for node in nodes {
            listeners.push(TcpListener::bind(node).await.unwrap());
        }
        let shared = Arc::new(Shared {
            model: Mutex::new(Model {
                world: World::new(era),
                script: Script::default(),
                leader: Some(0),
                streams: Streams::default(),
                faults: VecDeque::new(),
                log: Vec::new(),
                listed: 0,
                listed_since: None,
            }),
            nodes: listeners.iter().map(|listener| listener.local_addr().unwrap()).collect(),
            elected: watch::Sender::new(()),
            healed: watch::Sender::new(()),
            life: watch::Sender::new(0),
        });
        let accept = |(node, listener): (usize, TcpListener)| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(connection(stream, node, Arc::clone(&shared)));
                }
            })
        };
        let accepting = listeners.into_iter().enumerate().map(accept).collect();
        Self { shared, accepting }
    }

    /// Where the nodes are.
    pub(crate) fn nodes(&self) -> &[SocketAddr] {
        &self.shared.nodes
    }

    /// Their addresses as a configuration takes them.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.shared.nodes.iter().map(|node| format!("http://{node}")).collect()
    }

    /// Changes how they behave from now on.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.model().script);
    }

    /// Looks at what is true, or changes it without telling anybody.
    pub(crate) fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.model().world)
    }

    /// Changes what is true, and tells the events of it.
    pub(crate) fn act(&self, change: impl FnOnce(&mut World) -> Vec<Said>) -> Told {
        let mut model = self.model();
        let said = change(&mut model.world);
        model.tell(&said)
    }

    /// Another node leads, or nobody; who led knows no health any more and ends its streams.
    pub(crate) fn lead(&self, leader: Option<usize>) {
        let mut model = self.model();
        if model.leader == leader {
            return;
        }
        model.leader = leader;
        model.streams.end();
        if leader.is_some() {
            model.world.forget_health();
        }
        drop(model);
        self.shared.elected.send_replace(());
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.model().leader
    }

    /// Streams that are open stay so, and nothing more comes by them: no event, and, unless
    /// `heartbeats`, nothing at all.
    pub(crate) fn mute(&self, heartbeats: bool) {
        self.model().streams.mute(heartbeats);
    }

    /// Ends the streams that are open; who leads leads on.
    pub(crate) fn end_streams(&self) {
        self.model().streams.end();
    }

    /// The next requests but those for events go wrong in these ways, one each, or go well.
    pub(crate) fn arm(&self, faults: impl IntoIterator<Item = impl Into<Option<Fault>>>) {
        self.model().faults.extend(faults.into_iter().map(Into::into));
    }

    /// Armed faults that nothing has met yet.
    pub(crate) fn armed(&self) -> usize {
        self.model().faults.len()
    }

    /// From now on answers go well, no event is lost, and answers that hang end.
    pub(crate) fn heal(&self) {
        let mut model = self.model();
        model.faults.clear();
        model.script.lost = 0;
        drop(model);
        self.shared.healed.send_replace(());
    }

    /// All that was asked so far.
    pub(crate) fn log(&self) -> Vec<Asked> {
        self.model().log.clone()
    }

    /// How many requests there were so far.
    pub(crate) fn asked(&self) -> usize {
        self.model().log.len()
    }

    /// How many lists of all apps were sent to their end.
    pub(crate) fn listed(&self) -> u64 {
        self.model().listed
    }

    /// When the last list of all apps that was sent to its end was asked for.
    pub(crate) fn listed_since(&self) -> Option<Instant> {
        self.model().listed_since
    }

    /// Whether somebody who listened was found to be gone in this time.
    pub(crate) fn left_between(&self, from: Instant, to: Instant) -> bool {
        self.model().streams.left_between(from, to)
    }

    /// How many streams are open by which something comes.
    pub(crate) fn hearing(&self) -> usize {
        self.model().streams.hearing()
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model.lock().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
        self.shared.life.send_modify(|life| *life += 1);
    }
}

impl Model {
    fn tell(&mut self, said: &[Said]) -> Told {
        let mut told = Told::NotLive;
        for said in said {
            if self.script.lost > 0 {
                self.script.lost -= 1;
                told = Told::NotLive;
            } else {
                let live = self.streams.send(self.world.era, self.script.plan, said);
                told = if live { Told::Live } else { Told::NotLive };
            }
        }
        told
    }

    /// What `node` answers, which leads or asks the leader; `None`: nobody leads.
    fn answer(&mut self, node: usize, nodes: &[SocketAddr], asked: &Asked) -> Option<Answer> {
        let leader = self.leader?;
        let at = self.script.advertised.clone().unwrap_or_else(|| nodes[leader].to_string());
        let mut answer = self.told(&asked.path, &at, asked);
        answer.headers = format!("X-Marathon-Leader: http://{at}\r\n");
        if node != leader {
            let _ = write!(answer.headers, "X-Marathon-Via: 1.1 {}\r\n", nodes[node]);
        }
        Some(answer)
    }

    fn told(&mut self, path: &str, leader: &str, asked: &Asked) -> Answer {
        let era = self.world.era;
        if asked.method != "GET" {
            let (answer, said) = writes::done(&mut self.world, asked);
            self.tell(&said);
            return answer;
        }
        match path {
            "/v2/deployments" => Answer::new(200, self.world.deployments()),
            "/ping" => Answer::new(200, "pong"),
            "/v2/leader" => Answer::new(200, format!("{{\"leader\":\"{leader}\"}}")),
            "/v2/info" => Answer::new(
                200,
                format!(
                    "{{\"name\":\"marathon\",\"version\":\"{}\",\"elected\":true,\"buildref\":\"x\",\
                     \"leader\":\"{leader}\",\"frameworkId\":\"5b1c4d2e-0000\",\"marathon_config\":\
                     {{\"framework_name\":\"marathon\",\"ha\":true}},\"event_subscriber\":null}}",
                    era.release()
                ),
            ),
            "/v2/apps" | "/v2/apps/" => {
                let tasks = asked.parameters("embed").any(|embed| embed == "apps.tasks");
                Answer::list("{\"apps\":[", self.world.listed(tasks), "]}")
            }
            "/v2/tasks" => Answer::list("{\"tasks\":[", self.world.tasks(), "]}"),
            "/v2/pods/::status" if era.has_instances() => Answer::list("[", self.world.pods(), "]"),
            pod if pod.ends_with("::status") && era.has_instances() => self.pod(pod),
            _ => path.strip_prefix("/v2/apps/").map_or_else(
                || Answer::new(404, "{\"message\":\"HTTP 404 Not Found\"}"),
                |id| self.app(id),
            ),
        }
    }

    fn app(&mut self, id: &str) -> Answer {
        let id = format!("/{}", id.trim_start_matches('/'));
        let Some(body) = self.world.body(&id) else {
            return Answer::new(404, format!("{{\"message\":\"App '{id}' does not exist\"}}"));
        };
        let mut answer = Answer::new(200, "{\"app\":");
        answer.body.extend([body, "}".into()]);
        answer
    }

    fn pod(&self, path: &str) -> Answer {
        let id = path.trim_start_matches("/v2/pods").trim_end_matches("::status");
        let id = format!("/{}", id.trim_start_matches('/'));
        match self.world.pod(&id) {
            Some(body) => Answer::new(200, body),
            None => Answer::new(404, format!("{{\"message\":\"Pod '{id}' does not exist\"}}")),
        }
    }

    fn allows(&self, asked: &Asked) -> bool {
        let given = asked.authorization.as_deref();
        match &self.script.auth {
            Auth::Anybody => true,
            Auth::Token(token) => given == Some(&format!("token={token}")),
            Auth::Basic(name, password) => {
                let pair = STANDARD.encode(format!("{name}:{password}"));
                given == Some(&format!("Basic {pair}"))
            }
        }
    }
}

/// Serves one connection until it ends, whoever ends it.
async fn connection(mut stream: TcpStream, node: usize, shared: Arc<Shared>) {
    let mut life = shared.life.subscribe();
    tokio::select! {
        _ = life.changed() => {}
        _ = requests(&mut stream, node, &shared) => {}
    }
}

/// Answers request by request; `None`: the connection is to end.
async fn requests(stream: &mut TcpStream, node: usize, shared: &Arc<Shared>) -> Option<()> {
    let mut healed = shared.healed.subscribe();
    loop {
        let asked = Asked::read(stream).await?;
        let events = asked.path == "/v2/events";
        let (allowed, fault) = {
            let mut model = shared.model.lock().unwrap();
            model.log.push(asked.clone());
            let allowed = model.allows(&asked);
            (allowed, if events || !allowed { None } else { model.faults.pop_front().flatten() })
        };
        if !allowed {
            let mut answer = Answer::new(401, "{\"message\":\"invalid credentials\"}");
            answer.headers = "WWW-Authenticate: Basic realm=\"Mesosphere\"\r\n".into();
            answer.send(stream, None, &mut healed).await?;
        } else if events {
            follow(stream, node, shared, &asked).await?;
        } else {
            respond(stream, node, shared, &asked, fault, &mut healed).await?;
        }
    }
}

/// Answers a wish for anything but events.
async fn respond(
    stream: &mut TcpStream,
    node: usize,
    shared: &Arc<Shared>,
    asked: &Asked,
    fault: Option<Fault>,
    healed: &mut watch::Receiver<()>,
) -> Option<()> {
    match fault {
        Some(Fault::Reset) => {
            let _ = stream.set_zero_linger();
            return None;
        }
        Some(Fault::HalfOpen) => {
            healed.mark_unchanged();
            tokio::select! { _ = healed.changed() => {}, () = streams::gone(stream) => {} }
            return None;
        }
        Some(Fault::Refused(status)) => {
            let answer = Answer::new(status, "{\"message\":\"as the script says\"}");
            return answer.send(stream, None, healed).await;
        }
        _ => {}
    }
    let mut elected = shared.elected.subscribe();
    let election = shared.model.lock().unwrap().script.election;
    let (answer, seen) = loop {
        let (answer, seen) = {
            let mut model = shared.model.lock().unwrap();
            let answer = model.answer(node, &shared.nodes, asked);
            (answer, model.streams.newest())
        };
        if let Some(answer) = answer {
            break (answer, seen);
        }
        if tokio::time::timeout(election, elected.changed()).await.is_err() {
            let none = "{\"message\":\"Could not determine the current leader\"}";
            break (Answer::new(502, none), seen);
        }
    };
    let good = answer.status == 200 && !matches!(fault, Some(Fault::Garbage | Fault::OtherJson));
    let answer = match fault {
        Some(Fault::Garbage) => Answer::new(200, "\u{0}{[]]not json".repeat(20)),
        Some(Fault::OtherJson) => Answer::new(200, "{\"web\": 5, \"rows\": [[]]}"),
        _ => answer,
    };
    if matches!(fault, Some(Fault::Slow(_))) {
        healed.mark_unchanged();
    }
    answer.send(stream, fault, healed).await?;
    let mut model = shared.model.lock().unwrap();
    if good && asked.path == "/v2/apps" {
        model.listed += 1;
        model.listed_since = Some(asked.at);
        model.streams.listed_apps(seen);
    } else if good && asked.path == "/v2/pods/::status" {
        model.streams.listed_pods(seen);
    }
    Some(())
}

/// Answers a wish for events.
async fn follow(
    stream: &mut TcpStream,
    node: usize,
    shared: &Arc<Shared>,
    asked: &Asked,
) -> Option<()> {
    let mut healed = shared.healed.subscribe();
    if !asked.events {
        let answer = Answer::new(405, "{\"message\":\"HTTP 405 Method Not Allowed\"}");
        return answer.send(stream, None, &mut healed).await;
    }
    let (leader, standby, at) = {
        let model = shared.model.lock().unwrap();
        let at = model.leader.map(|leader| shared.nodes[leader].to_string());
        (model.leader, model.script.standby, model.script.advertised.clone().or(at))
    };
    if leader == Some(node) || leader.is_some() && standby == Standby::Proxies {
        return streams::serve(stream, shared, asked).await;
    }
    if let Some(at) = at.filter(|_| leader.is_some() && standby == Standby::Redirects) {
        let query = if asked.query.is_empty() { "" } else { "?" };
        let mut answer = Answer::new(302, "");
        answer.headers = format!("Location: http://{at}/v2/events{query}{}\r\n", asked.query);
        return answer.send(stream, None, &mut healed).await;
    }
    streams::accept(stream).await?;
    None
}

impl Fake {
    /// An event of a kind that nobody knows.
    pub(crate) fn say_something_new(&self) {
        self.act(|_| vec![events::unheard_of()]);
    }
}

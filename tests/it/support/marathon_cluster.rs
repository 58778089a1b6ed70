//! The agents of a scripted Marathon: they run its tasks as HTTP servers that take their time, and
//! end them when Marathon kills them, without regard for what they do.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::LOOK;
use super::marathon::{App, End, Fake, State, Task, World};
use crate::origin::end_of_request;

/// First octets of the addresses of tasks.
const NET: u32 = 0x7f2b_0000;
/// How long a request takes.
const WORK: Duration = Duration::from_millis(25);
/// Where requests go that wait until they are let go.
pub(crate) const HELD: &str = "/held";

/// Agents that run whatever Marathon wants. They stop when this is dropped.
pub(crate) struct Cluster {
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

struct Shared {
    /// By the task's own part of its id.
    processes: Mutex<HashMap<String, Process>>,
    /// Whether requests for [`HELD`] wait.
    held: watch::Sender<bool>,
    /// Requests that were being worked on when their task ended.
    cut: AtomicUsize,
    /// Tasks that have ended.
    ended: AtomicU64,
}

/// One task that runs; dropping it ends it with all of its connections.
struct Process {
    at: SocketAddr,
    serving: JoinHandle<()>,
    work: Arc<Work>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Default)]
struct Work {
    running: AtomicUsize,
    waiting: AtomicUsize,
}

/// Counts one up for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// What is to be done next.
enum Deed {
    Stage(String),
    Become(String, String, State),
    Check(String, String),
    End(String, String),
    Delete(String),
    Deployed(String),
}

impl Cluster {
    /// Runs what `fake` wants from now on.
    pub(crate) fn start(fake: Arc<Fake>) -> Self {
        let shared = Arc::new(Shared {
            processes: Mutex::default(),
            held: watch::Sender::new(false),
            cut: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
        });
        let agents = Arc::clone(&shared);
        let running = tokio::spawn(async move {
            let mut numbers = 0;
            loop {
                let deeds = fake.world(|world| deeds(world));
                for deed in deeds {
                    agents.play(&fake, deed, &mut numbers).await;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { shared, running }
    }

    /// Whether requests for [`HELD`] wait from now on.
    pub(crate) fn hold(&self, on: bool) {
        self.shared.held.send_replace(on);
    }

    /// How many of them wait at the task that is reached there.
    pub(crate) fn waiting(&self, at: SocketAddr) -> usize {
        let processes = self.shared.processes.lock().unwrap();
        let found = processes.values().find(|process| process.at == at);
        found.map_or(0, |process| process.work.waiting.load(SeqCst))
    }

    /// Tasks that have ended, and requests that ended with them.
    pub(crate) fn ended(&self) -> (u64, usize) {
        (self.shared.ended.load(SeqCst), self.shared.cut.load(SeqCst))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.running.abort();
        self.shared.processes.lock().unwrap().clear();
    }
}

/// What Marathon wants that is not so yet: one step of each app and task.
fn deeds(world: &World) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for (id, app) in &world.apps {
        let Some(wanted) = app.instances else { continue };
        let alive = || app.tasks.iter().filter(|(_, task)| task.state != State::Killing);
        let there = alive().count();
        deeds.extend((there..wanted).map(|_| Deed::Stage(id.clone())));
        // Those that came last go first.
        for (own, _) in alive().rev().take(there.saturating_sub(wanted)) {
            deeds.push(Deed::Become(id.clone(), own.clone(), State::Killing));
        }
        for (own, task) in &app.tasks {
            deeds.extend(next(id, app, own, task));
        }
        if app.deleted && app.tasks.is_empty() {
            deeds.push(Deed::Delete(id.clone()));
        } else if app.deployment.is_some() && there == wanted && there == app.tasks.len() {
            let up = |task: &Task| task.state == State::Running && app.serves(task);
            if alive().all(|(_, task)| up(task)) {
                deeds.push(Deed::Deployed(id.clone()));
            }
        }
    }
    deeds
}

fn next(id: &str, app: &App, own: &str, task: &Task) -> Option<Deed> {
    let (id, own) = (id.to_owned(), own.to_owned());
    match task.state {
        State::Staging => Some(Deed::Become(id, own, State::Running)),
        State::Running if app.checks && task.health.is_none() => Some(Deed::Check(id, own)),
        State::Killing => Some(Deed::End(id, own)),
        State::Running | State::Unreachable => None,
    }
}

impl Shared {
    async fn play(self: &Arc<Self>, fake: &Fake, deed: Deed, numbers: &mut u32) {
        match deed {
            Deed::Stage(id) => self.stage(fake, &id, numbers).await,
            Deed::Become(id, own, state) => {
                fake.act(|world| {
                    // Somebody may have had it killed meanwhile.
                    let dies = world.apps[&id].tasks[&own].state == State::Killing;
                    if dies { Vec::new() } else { world.becomes(&id, &own, state) }
                });
            }
            Deed::Check(id, own) => {
                fake.act(|world| world.checked(&id, &own, true));
            }
            Deed::End(id, own) => {
                if let Some(process) = self.processes.lock().unwrap().remove(&own) {
                    self.cut.fetch_add(process.work.running.load(SeqCst), SeqCst);
                    self.ended.fetch_add(1, SeqCst);
                }
                fake.act(|world| world.end(&id, &own, End::Killed));
            }
            Deed::Delete(id) => {
                fake.act(|world| {
                    let mut said = world.deployed(&id);
                    said.extend(world.delete(&id));
                    said
                });
            }
            Deed::Deployed(id) => {
                fake.act(|world| world.deployed(&id));
            }
        }
    }

    /// Starts the server of a task, and then tells of the task.
    async fn stage(self: &Arc<Self>, fake: &Fake, id: &str, numbers: &mut u32) {
        let listener = loop {
            *numbers += 1;
            let ip = IpAddr::V4(Ipv4Addr::from(NET + *numbers));
            if let Ok(listener) = TcpListener::bind((ip, 0)).await {
                break listener;
            }
        };
        let at = listener.local_addr().unwrap();
        let work = Arc::<Work>::default();
        let mut own = String::new();
        fake.act(|world| {
            let (staged, said) = world.stage(id, at);
            own = staged;
            said
        });
        let labels = fake.world(|world| world.app(id).labels.clone());
        let name = format!("{} {own}", colour(&labels));
        let serving = serve(listener, name, self.held.subscribe(), Arc::clone(&work));
        let process = Process { at, serving: tokio::spawn(serving), work };
        self.processes.lock().unwrap().insert(own, process);
    }
}

fn colour(labels: &BTreeMap<String, String>) -> &str {
    labels.get("HAPROXY_DEPLOYMENT_COLOUR").map_or("none", |colour| colour)
}

/// Serves until it is dropped, with all connections.
async fn serve(listener: TcpListener, name: String, held: watch::Receiver<bool>, work: Arc<Work>) {
    let name: Arc<str> = name.into();
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (name, held) = (Arc::clone(&name), held.clone());
        connections.spawn(requests(stream, name, held, Arc::clone(&work)));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers request by request; `None`: the other side has closed.
async fn requests(
    mut stream: TcpStream,
    name: Arc<str>,
    mut held: watch::Receiver<bool>,
    work: Arc<Work>,
) -> Option<()> {
    let mut unread = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = end_of_request(&unread) {
                break end;
            }
            if stream.read_buf(&mut unread).await.ok()? == 0 {
                return None;
            }
        };
        let running = Counted::new(&work.running);
        let waits = String::from_utf8_lossy(&unread[..end]).contains(HELD);
        unread.drain(..end);
        if waits {
            let _waiting = Counted::new(&work.waiting);
            let _ = held.wait_for(|held| !held).await;
        }
        tokio::time::sleep(WORK).await;
        let answer = answer(&name);
        drop(running);
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// Bytes behind the name of who answers.
const FILLER: usize = 3000;

fn answer(name: &str) -> String {
    let body = format!("{name} {}", "x".repeat(FILLER));
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The colour and the task by which a body was written, if it is whole.
pub(crate) fn told_by(body: &str) -> Option<(&str, &str)> {
    let mut words = body.split(' ');
    let (colour, own, filler) = (words.next()?, words.next()?, words.next()?);
    let whole = filler.len() == FILLER && filler.bytes().all(|byte| byte == b'x');
    (whole && words.next().is_none()).then_some((colour, own))
}

//! A Consul that misbehaves by a script: it tells what it is told to know, gets restarted without
//! its memory, and lets single answers go wrong. It keeps a log of all that it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The token without which nothing is told.
pub(crate) const TOKEN: &str = "c0ffee00-storm";
/// Bytes of a body that is far too large.
const HUGE: usize = 200 << 20;

/// One instance, as Consul knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) at: SocketAddr,
    pub(crate) status: Status,
    pub(crate) tags: Vec<String>,
    /// For a passing instance, and for one that warns.
    pub(crate) weights: (u16, u16),
    /// The output of its check, which is nobody's business.
    pub(crate) output: String,
}

/// What its check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Passing,
    Warning,
    Critical,
}

/// What goes wrong with one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The truth, with an index below all that was told before.
    IndexBackwards,
    /// The truth, with an index that would not block.
    IndexZero,
    /// The truth at once, although nothing is new.
    SameAtOnce,
    /// An HTTP error: 429, 403, or 500 for want of a leader.
    Refused(u16, &'static str),
    /// Nothing but what the token may see, and that is nothing.
    Filtered,
    /// The connection ends in the middle of the body.
    Cut,
    /// A body that is no JSON.
    Garbage,
    /// JSON that says something else than it should.
    OtherJson,
    /// A body of 200 MB.
    Huge,
    /// No answer, ever.
    HalfOpen,
    /// A byte now and then.
    Slow,
    /// The connection is reset.
    Reset,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::IndexBackwards,
        Self::IndexZero,
        Self::SameAtOnce,
        Self::Refused(429, "rate limit exceeded"),
        Self::Refused(403, "Permission denied"),
        Self::Refused(403, "ACL not found"),
        Self::Refused(500, "No cluster leader"),
        Self::Refused(404, "not here"),
        Self::Filtered,
        Self::Cut,
        Self::Garbage,
        Self::OtherJson,
        Self::HalfOpen,
        Self::Slow,
        Self::Reset,
    ];
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    /// The path without its parameters.
    pub(crate) path: String,
    pub(crate) index: Option<String>,
    pub(crate) wait: Option<String>,
    pub(crate) consistent: bool,
    pub(crate) token: Option<String>,
}

/// What it knows, and what it will do.
#[derive(Debug)]
struct Model {
    services: BTreeMap<String, BTreeMap<String, Member>>,
    /// Index of the last change of each service, also of those that are gone.
    touched: BTreeMap<String, u64>,
    /// Index of the last change of a registration.
    registered: u64,
    /// Value, index of its creation, index of its last change.
    keys: BTreeMap<String, (String, u64, u64)>,
    keys_touched: u64,
    index: u64,
    faults: VecDeque<Fault>,
    log: Vec<Asked>,
    open: usize,
    most_open: usize,
    /// Bytes that were taken of a body that is far too large, at most.
    swallowed: usize,
}

#[derive(Debug)]
struct Shared {
    model: Mutex<Model>,
    /// Changes with the model.
    changed: watch::Sender<()>,
    /// Connections of an earlier life are cut.
    life: watch::Sender<u64>,
    /// Answers that hang are given up when this changes.
    healed: watch::Sender<()>,
}

/// A listening server; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Fake {
    /// Starts one that knows of nothing.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            model: Mutex::new(Model::new()),
            changed: watch::Sender::new(()),
            life: watch::Sender::new(0),
            healed: watch::Sender::new(()),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared, accepting }
    }

    /// Registers an instance, or changes it.
    pub(crate) fn set(&self, service: &str, id: &str, member: Member) {
        self.change(|model| model.set(service, id, member));
    }

    /// Takes an instance away; with the last one the service is gone.
    pub(crate) fn remove(&self, service: &str, id: &str) {
        self.change(|model| model.remove(service, id));
    }

    /// Writes a key, or with no value deletes it.
    pub(crate) fn key(&self, path: &str, value: Option<&str>) {
        self.change(|model| model.key(path, value));
    }

    /// The next requests go wrong in these ways, one each.
    pub(crate) fn arm(&self, faults: impl IntoIterator<Item = Fault>) {
        self.model().faults.extend(faults);
    }

    /// From now on all goes well, and answers that hang end.
    pub(crate) fn heal(&self) {
        self.model().faults.clear();
        self.shared.healed.send_replace(());
    }

    /// It comes back without its memory: indexes are small again, connections are cut.
    pub(crate) fn restart_empty(&self) {
        self.change(|model| {
            let (log, open, most_open) =
                (std::mem::take(&mut model.log), model.open, model.most_open);
            *model = Model { log, open, most_open, ..Model::new() };
        });
        self.shared.life.send_modify(|life| *life += 1);
    }

    /// Cuts all connections; nothing is forgotten.
    pub(crate) fn cut_all(&self) {
        self.shared.life.send_modify(|life| *life += 1);
    }

    /// All that was asked so far.
    pub(crate) fn log(&self) -> Vec<Asked> {
        self.model().log.clone()
    }

    /// How many requests there were so far.
    pub(crate) fn asked(&self) -> usize {
        self.model().log.len()
    }

    /// How many connections were open at once, at most.
    pub(crate) fn most_open(&self) -> usize {
        self.model().most_open
    }

    /// How much of a body that is far too large was taken, at most.
    pub(crate) fn swallowed(&self) -> usize {
        self.model().swallowed
    }

    /// Armed faults that nothing has met yet.
    pub(crate) fn armed(&self) -> usize {
        self.model().faults.len()
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model());
        self.shared.changed.send_replace(());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.life.send_modify(|life| *life += 1);
    }
}

impl Model {
    fn new() -> Self {
        Self {
            services: BTreeMap::new(),
            touched: BTreeMap::new(),
            registered: 5,
            keys: BTreeMap::new(),
            keys_touched: 5,
            index: 5,
            faults: VecDeque::new(),
            log: Vec::new(),
            open: 0,
            most_open: 0,
            swallowed: 0,
        }
    }

    fn set(&mut self, service: &str, id: &str, member: Member) {
        self.index += 1;
        let known =
            self.services.entry(service.into()).or_default().insert(id.into(), member.clone());
        self.touched.insert(service.into(), self.index);
        // The list of names wakes up for registrations, not for checks.
        if known.is_none_or(|known| (known.tags, known.at) != (member.tags, member.at)) {
            self.registered = self.index;
        }
    }

    fn remove(&mut self, service: &str, id: &str) {
        self.index += 1;
        let Some(members) = self.services.get_mut(service) else { return };
        members.remove(id);
        if members.is_empty() {
            self.services.remove(service);
        }
        self.touched.insert(service.into(), self.index);
        self.registered = self.index;
    }

    fn key(&mut self, path: &str, value: Option<&str>) {
        self.index += 1;
        self.keys_touched = self.index;
        if let Some(value) = value {
            let created = self.keys.get(path).map_or(self.index, |(_, created, _)| *created);
            self.keys.insert(path.into(), (value.into(), created, self.index));
        } else {
            self.keys.remove(path);
        }
    }

    /// Status, index and body for a path; `filtered`: for a token that may see nothing.
    fn tell(&self, path: &str, filtered: bool) -> (u16, u64, String) {
        if path == "/v1/catalog/services" {
            let tags = |members: &BTreeMap<String, Member>| {
                let all = members.values().flat_map(|member| member.tags.clone());
                Value::from_iter(all.collect::<std::collections::BTreeSet<_>>())
            };
            let shown = self.services.iter().filter(|_| !filtered);
            let names: serde_json::Map<_, _> =
                shown.map(|(name, members)| (name.clone(), tags(members))).collect();
            return (200, self.registered, Value::Object(names).to_string());
        }
        if let Some(name) = path.strip_prefix("/v1/health/service/") {
            let index = self.touched.get(name).copied().unwrap_or(self.registered);
            let members = self.services.get(name).filter(|_| !filtered);
            let rows = members.into_iter().flatten().map(|(id, member)| member.row(name, id));
            return (200, index, Value::from_iter(rows).to_string());
        }
        if let Some(prefix) = path.strip_prefix("/v1/kv/") {
            let shown = self.keys.iter().filter(|(path, _)| !filtered && path.starts_with(prefix));
            let rows: Vec<_> = shown
                .map(|(path, (value, created, changed))| {
                    json!({"Key": path, "Value": base64(value.as_bytes()), "Flags": 0,
                        "CreateIndex": created, "ModifyIndex": changed, "LockIndex": 0})
                })
                .collect();
            let index = self.keys_touched;
            return match rows.is_empty() {
                true => (404, index, String::new()),
                false => (200, index, Value::Array(rows).to_string()),
            };
        }
        match path {
            "/v1/status/leader" => (200, self.index, "\"127.0.0.1:8300\"".into()),
            "/v1/agent/self" => {
                let told = json!({"Config": {"Datacenter": "dc1", "NodeName": "fake", "Version": "1.8.7"}});
                (200, self.index, told.to_string())
            }
            _ => (404, self.index, "no such path".into()),
        }
    }
}

impl Member {
    fn row(&self, service: &str, id: &str) -> Value {
        let status = match self.status {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
        };
        json!({
            "Node": {"ID": "", "Node": "n1", "Address": "127.0.0.1", "Datacenter": "dc1",
                "TaggedAddresses": null, "Meta": null, "CreateIndex": 5, "ModifyIndex": 5},
            "Service": {"ID": id, "Service": service, "Tags": self.tags, "Address": self.at.ip(),
                "TaggedAddresses": null, "Meta": null, "Port": self.at.port(),
                "Weights": {"Passing": self.weights.0, "Warning": self.weights.1}},
            "Checks": [{"Node": "n1", "CheckID": format!("service:{id}"), "Name": "its check",
                "Status": status, "Notes": "", "Output": self.output, "ServiceID": id,
                "ServiceName": service, "ServiceTags": self.tags}],
        })
    }
}

/// Base64 with padding (RFC 4648 §4), as values of keys are told.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let three = |some: &[u8]| {
        let at = |n: usize| some.get(n).map_or(0, |byte| u32::from(*byte));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let letter = |n: usize| char::from(LETTERS[(bits >> (18 - 6 * n) & 63) as usize]);
        (0..4).map(|n| if n <= some.len() { letter(n) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(three).collect()
}

/// Serves one connection until it ends, whoever ends it.
async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut life = shared.life.subscribe();
    {
        let mut model = shared.model.lock().unwrap();
        model.open += 1;
        model.most_open = model.most_open.max(model.open);
    }
    tokio::select! {
        _ = life.changed() => {}
        _ = requests(&mut stream, &shared) => {}
    }
    shared.model.lock().unwrap().open -= 1;
}

/// Answers request by request; `None`: the connection is to end.
async fn requests(stream: &mut TcpStream, shared: &Shared) -> Option<()> {
    loop {
        let asked = Asked::read(stream).await?;
        let path = asked.path.clone();
        let index = asked.index.as_deref().and_then(|text| text.parse::<u64>().ok());
        let wait = asked.wait.as_deref().map_or(Duration::from_secs(300), seconds);
        let known = asked.token.as_deref() == Some(TOKEN);
        let fault = {
            let mut model = shared.model.lock().unwrap();
            model.log.push(asked);
            model.faults.pop_front()
        };
        let fault = if known { fault } else { Some(Fault::Refused(403, "ACL not found")) };
        match fault {
            Some(Fault::Reset) => {
                let _ = stream.set_zero_linger();
                return None;
            }
            Some(Fault::Refused(status, why)) => {
                let text =
                    format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{why}", why.len());
                stream.write_all(text.as_bytes()).await.ok()?;
                continue;
            }
            Some(Fault::HalfOpen) => {
                let mut healed = shared.healed.subscribe();
                tokio::select! { _ = healed.changed() => {}, () = gone(stream) => {} }
                return None;
            }
            Some(Fault::Huge) => return huge(stream, shared).await,
            _ => {}
        }
        if fault != Some(Fault::SameAtOnce) {
            news(stream, shared, &path, index.unwrap_or(0), wait).await?;
        }
        let told = shared.model.lock().unwrap().tell(&path, fault == Some(Fault::Filtered));
        answer(stream, shared, fault, told).await?;
    }
}

/// Returns once there is something newer than `index`, or after `wait`; `None`: nobody waits.
async fn news(
    stream: &TcpStream,
    shared: &Shared,
    path: &str,
    index: u64,
    wait: Duration,
) -> Option<()> {
    if index == 0 {
        return Some(());
    }
    let mut changed = shared.changed.subscribe();
    let newer = async {
        while shared.model.lock().unwrap().tell(path, false).1 <= index {
            let _ = changed.changed().await;
        }
    };
    tokio::select! {
        () = newer => Some(()),
        () = tokio::time::sleep(wait) => Some(()),
        () = gone(stream) => None,
    }
}

/// Returns once the other side has closed.
async fn gone(stream: &TcpStream) {
    // Who asks for more before the answer has come asks for trouble; nobody should.
    let read = stream.peek(&mut [0]).await;
    assert!(!matches!(read, Ok(1..)), "a second request before the first was answered");
}

async fn answer(
    stream: &mut TcpStream,
    shared: &Shared,
    fault: Option<Fault>,
    (status, index, body): (u16, u64, String),
) -> Option<()> {
    let index = match fault {
        Some(Fault::IndexBackwards) => (index / 2).max(1),
        Some(Fault::IndexZero) => 0,
        _ => index,
    };
    let body = match fault {
        Some(Fault::Garbage) => "\u{0}{[]]not json".repeat(20),
        Some(Fault::OtherJson) => "{\"web\": 5, \"rows\": [[]]}".to_owned(),
        _ => body,
    };
    let mut head = format!(
        "HTTP/1.1 {status} As told\r\nContent-Type: application/json\r\nX-Consul-Index: {index}\r\n\
         X-Consul-Knownleader: true\r\nX-Consul-Lastcontact: 0\r\n"
    );
    if fault == Some(Fault::Filtered) {
        head.push_str("X-Consul-Results-Filtered-By-ACLs: true\r\n");
    }
    // As Consul does: what is long comes in chunks.
    let mut text = if body.len() > 2048 && fault != Some(Fault::Cut) {
        let mut text = head + "Transfer-Encoding: chunked\r\n\r\n";
        let (one, two) = body.split_at(body.floor_char_boundary(body.len() / 2));
        for part in [one, two] {
            write!(text, "{:x}\r\n{part}\r\n", part.len()).unwrap();
        }
        text + "0\r\n\r\n"
    } else {
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    match fault {
        Some(Fault::Cut) => {
            text.truncate(text.len() - body.len().div_ceil(2));
            let _ = stream.write_all(text.as_bytes()).await;
            None
        }
        Some(Fault::Slow) => {
            let mut healed = shared.healed.subscribe();
            for byte in text.bytes() {
                stream.write_all(&[byte]).await.ok()?;
                tokio::select! {
                    _ = healed.changed() => return None,
                    () = gone(stream) => return None,
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
            Some(())
        }
        _ => stream.write_all(text.as_bytes()).await.ok(),
    }
}

/// A body that never becomes JSON, as long as somebody takes it.
async fn huge(stream: &mut TcpStream, shared: &Shared) -> Option<()> {
    let head = format!("HTTP/1.1 200 OK\r\nX-Consul-Index: 9\r\nContent-Length: {HUGE}\r\n\r\n[");
    stream.write_all(head.as_bytes()).await.ok()?;
    let some = vec![b' '; 1 << 20];
    for taken in (0..HUGE).step_by(some.len()) {
        {
            let mut model = shared.model.lock().unwrap();
            model.swallowed = model.swallowed.max(taken);
        }
        stream.write_all(&some).await.ok()?;
    }
    None
}

impl Asked {
    /// The next request, which has no body; `None` at the end of the connection.
    async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let head = String::from_utf8(bytes).unwrap();
        let (line, headers) = head.split_once("\r\n")?;
        let target = line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameter = |name: &str| {
            let mut all = query.split('&').map(|one| one.split_once('=').unwrap_or((one, "")));
            all.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
        };
        let mut lines = headers.lines().filter_map(|line| line.split_once(':'));
        let token = lines.find(|(name, _)| name.eq_ignore_ascii_case("x-consul-token"));
        Some(Self {
            at: Instant::now(),
            path: path.to_owned(),
            index: parameter("index"),
            wait: parameter("wait"),
            consistent: parameter("consistent").is_some(),
            token: token.map(|(_, value)| value.trim().to_owned()),
        })
    }
}

/// A duration as Consul takes it: `10s`, `5m`, `250ms`.
pub(crate) fn seconds(text: &str) -> Duration {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().unwrap_or_else(|_| panic!("wait={text}"));
    match &text[split..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        unit => panic!("wait={text}: what is {unit:?}?"),
    }
}

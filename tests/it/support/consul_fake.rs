//! A Consul that misbehaves by a script: it tells what it is told to know, gets restarted without
//! its memory, and lets single answers go wrong. It keeps a log of all that it was asked.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::consul_model::Catalog;
pub(crate) use super::consul_model::{Member, Status};

/// The token without which nothing is told.
pub(crate) const TOKEN: &str = "c0ffee00-storm";
/// Bytes of a body that is far too large.
const HUGE: usize = 200 << 20;

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

/// What it knows, will do, and has seen.
#[derive(Debug)]
struct Model {
    catalog: Catalog,
    faults: VecDeque<Option<Fault>>,
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
    /// The connection on which this path is waited for is cut.
    cut: watch::Sender<String>,
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
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// The same on a socket that is there.
    pub(crate) fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            model: Mutex::new(Model {
                catalog: Catalog::new(),
                faults: VecDeque::new(),
                log: Vec::new(),
                open: 0,
                most_open: 0,
                swallowed: 0,
            }),
            changed: watch::Sender::new(()),
            life: watch::Sender::new(0),
            cut: watch::Sender::default(),
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
        self.change(|catalog| catalog.set(service, id, member));
    }

    /// Takes an instance away; with the last one the service is gone.
    pub(crate) fn remove(&self, service: &str, id: &str) {
        self.change(|catalog| catalog.remove(service, id));
    }

    /// Writes a key, or with no value deletes it.
    pub(crate) fn key(&self, path: &str, value: Option<&str>) {
        self.change(|catalog| catalog.key(path, value));
    }

    /// The next requests go wrong in these ways, one each, or go well.
    pub(crate) fn arm(&self, faults: impl IntoIterator<Item = impl Into<Option<Fault>>>) {
        self.model().faults.extend(faults.into_iter().map(Into::into));
    }

    /// From now on all goes well, and answers that hang end.
    pub(crate) fn heal(&self) {
        self.model().faults.clear();
        self.shared.healed.send_replace(());
    }

    /// It comes back without its memory: indexes are small again, connections are cut.
    pub(crate) fn restart_empty(&self) {
        self.change(|catalog| *catalog = Catalog::new());
        self.shared.life.send_modify(|life| *life += 1);
    }

    /// Cuts all connections; nothing is forgotten.
    pub(crate) fn cut_all(&self) {
        self.shared.life.send_modify(|life| *life += 1);
    }

    /// Cuts the connection on which news of `path` are waited for.
    pub(crate) fn cut(&self, path: &str) {
        self.shared.cut.send_replace(path.to_owned());
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

    fn change(&self, change: impl FnOnce(&mut Catalog)) {
        change(&mut self.model().catalog);
        self.shared.changed.send_replace(());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.life.send_modify(|life| *life += 1);
    }
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
        // From before it is noted: whoever has seen the request in the log may cut it.
        let cut = shared.cut.subscribe();
        let fault = {
            let mut model = shared.model.lock().unwrap();
            model.log.push(asked);
            model.faults.pop_front().flatten()
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
            news(stream, shared, (&path, cut), index.unwrap_or(0), wait).await?;
        }
        let told = shared.model.lock().unwrap().catalog.tell(&path, fault == Some(Fault::Filtered));
        answer(stream, shared, fault, told).await?;
    }
}

/// Returns once there is something newer than `index`, or after `wait`; `None`: nobody waits.
async fn news(
    stream: &TcpStream,
    shared: &Shared,
    (path, mut cut): (&str, watch::Receiver<String>),
    index: u64,
    wait: Duration,
) -> Option<()> {
    if index == 0 {
        return Some(());
    }
    let mut changed = shared.changed.subscribe();
    let cut = async { while cut.changed().await.is_ok() && *cut.borrow_and_update() != path {} };
    let newer = async {
        while shared.model.lock().unwrap().catalog.tell(path, false).1 <= index {
            let _ = changed.changed().await;
        }
    };
    tokio::select! {
        () = newer => Some(()),
        () = tokio::time::sleep(wait) => Some(()),
        () = gone(stream) => None,
        () = cut => None,
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
        let (one, two) = body.split_at(1024);
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

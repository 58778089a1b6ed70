//! The application in this process, fed by a registry in memory, and a client that speaks bytes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portolan::app::{App, Options};
use portolan::catalog::model::{Address, Port};
use portolan::catalog::publish::Feed;
use portolan::catalog::{Instance, RegistryState, RegistryView, SourceService};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

/// Longer than anything here takes on a busy machine: whoever waits so long waits in vain.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `wanted` gives; a panic that names `what` when it never comes.
pub(crate) async fn within<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, wanted).await;
    waited.unwrap_or_else(|_| panic!("{what}: waited in vain for {PATIENCE:?}"))
}

/// A running application and what it is fed from.
pub(crate) struct Rig {
    pub(crate) app: App,
    registry: watch::Sender<RegistryState>,
    directory: TempDir,
}

impl Rig {
    /// Starts from a configuration in TOML. The registry `mem` is live and tells of `services`.
    pub(crate) async fn start(config: &str, services: Vec<SourceService>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = format!("{config}\n[admin]\nsocket = \"admin.sock\"\n");
        let loaded = load(&config, directory.path());
        let (registry, state) = watch::channel(RegistryState::Live(view(services.clone())));
        let feed = Feed::new("mem", 0, state);
        let options = Options { feeds: vec![feed], ..Options::default() };
        let app = within("start", Box::pin(App::start(loaded, options))).await.unwrap();
        let rig = Self { app, registry, directory };
        rig.told(&services).await;
        rig
    }

    /// Starts from a configuration with registries of its own; `mem` tells of nothing.
    pub(crate) async fn start_beside(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = format!("{config}\n[admin]\nsocket = \"admin.sock\"\n");
        let loaded = load(&config, directory.path());
        let (registry, state) = watch::channel(RegistryState::Live(view(Vec::new())));
        let feed = Feed::new("mem", 0, state);
        let options = Options { feeds: vec![feed], ..Options::default() };
        let app = within("start", Box::pin(App::start(loaded, options))).await.unwrap();
        Self { app, registry, directory }
    }

    /// Where its files lie.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One HTTP listener `web` whose every request goes to the service `web` at `origins`. `more`
    /// goes into the listener's table, and other tables behind it.
    pub(crate) async fn http(more: &str, origins: &[SocketAddr]) -> Self {
        let config = format!(
            "[node]\nworkers = 1\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
             [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n{more}"
        );
        Self::start(&config, vec![service("web", origins)]).await
    }

    /// The registry tells exactly `services` from now on; returns once that is published.
    pub(crate) async fn tell(&self, services: Vec<SourceService>) {
        self.registry.send_replace(RegistryState::Live(view(services.clone())));
        self.told(&services).await;
    }

    /// As [`Self::tell`], without waiting for it.
    pub(crate) fn say(&self, services: Vec<SourceService>) {
        self.registry.send_replace(RegistryState::Live(view(services)));
    }

    async fn told(&self, services: &[SourceService]) {
        let published = self.app.published(|snapshot| {
            snapshot.services.len() == services.len()
                && services.iter().all(|told| {
                    let mut instances = told.instances.clone();
                    instances.sort_by(|a, b| a.id.cmp(&b.id));
                    let known = snapshot.service(&told.name);
                    known.is_some_and(|known| *known.instances == *instances)
                })
        });
        within("published", published).await;
    }

    /// Another configuration takes over.
    pub(crate) async fn reload(&self, config: &str) {
        let config = format!("{config}\n[admin]\nsocket = \"admin.sock\"\n");
        let loaded = load(&config, self.directory.path());
        within("reload", self.app.reload(loaded)).await.unwrap();
    }

    /// Where `listener` listens.
    pub(crate) async fn address(&self, listener: &str) -> SocketAddr {
        self.app.addresses(listener).await[0]
    }

    /// A connection to the listener `web`.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address("web").await).await
    }

    /// What a client gets that sends `request` on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.client().await;
        client.send(request).await;
        client.answer().await
    }

    /// The metric whose line starts with `name`, labels included.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let mut stream =
            UnixStream::connect(self.directory.path().join("admin.sock")).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        within("metrics", stream.read_to_string(&mut page)).await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }

    /// Returns once `name` has the value `wanted`; a counter may be counted just after its cause.
    pub(crate) async fn metric_is(&self, name: &str, wanted: f64) {
        let mut last = None;
        let reached = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.metric(name).await;
                if last.is_some_and(|value| (value - wanted).abs() <= 0.1) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let reached = reached.await.is_ok();
        assert!(reached, "{name} is {last:?} after {PATIENCE:?}, and not {wanted}");
    }
}

fn load(config: &str, base: &Path) -> portolan::config::Loaded {
    match portolan::config::parse("test.toml", config, base, &|_| None) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("the test's configuration: {problems:#?}"),
    }
}

fn view(services: Vec<SourceService>) -> RegistryView {
    RegistryView::default().replaced(services, Vec::new())
}

/// A service with one instance at each of `addresses`, called by its address.
pub(crate) fn service(name: &str, addresses: &[SocketAddr]) -> SourceService {
    let instances = addresses.iter().map(|address| instance(&address.to_string(), *address));
    SourceService {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: instances.map(Arc::new).collect(),
        problems: Vec::new(),
        suspect: None,
    }
}

/// An instance of weight 1 with one unnamed port.
pub(crate) fn instance(id: &str, address: SocketAddr) -> Instance {
    Instance {
        ports: Arc::new([Port { name: "".into(), number: address.port() }]),
        ..Instance::bare("mem", id, Address::Ip(address.ip()))
    }
}

/// A client that sends exactly the bytes it is told.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and header lines, the empty line included.
    pub(crate) head: String,
    /// What followed: the bytes of the body, with the framing of chunks if it had one.
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The value of the first header called `name`, in lower case, in the head of a message.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("connect", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// As [`Self::connect`], as soon as somebody listens there.
    pub(crate) async fn connect_once_there(address: SocketAddr) -> Self {
        let stream = within("somebody listens", async {
            loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await;
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Over a connection that is there.
    pub(crate) const fn over(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("send", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// The next answer, interim ones too, to any request but HEAD.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// The next answer to a request with `method`.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.take("an answer", |bytes| find(bytes, b"\r\n\r\n").map(|at| at + 4)).await;
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        let bodyless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let body = if bodyless {
            Vec::new()
        } else if header(&head, "transfer-encoding") == Some("chunked") {
            self.take("a chunked body", end_of_chunks).await
        } else if let Some(length) = header(&head, "content-length") {
            let length: usize = length.parse().unwrap();
            self.take("a body", |bytes| (bytes.len() >= length).then_some(length)).await
        } else {
            self.rest().await
        };
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// All that comes up to and with `word`.
    pub(crate) async fn until(&mut self, word: &str) -> Vec<u8> {
        self.take(word, |bytes| find(bytes, word.as_bytes()).map(|at| at + word.len())).await
    }

    /// Exactly `count` bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.take("bytes", |bytes| (bytes.len() >= count).then_some(count)).await
    }

    /// All that comes until the other side closes; a reset counts as a close.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// Ends this side, and gives all that comes until the other side closes too.
    pub(crate) async fn finish(&mut self) -> Vec<u8> {
        // It may have closed already; then there is nothing to end.
        let _ = self.stream.shutdown().await;
        self.rest().await
    }

    /// Whether the connection ends with a reset instead of a clean end; what comes is dropped.
    pub(crate) async fn is_reset(&mut self) -> bool {
        let mut piece = [0; 4096];
        within("an end", async {
            loop {
                match self.stream.read(&mut piece).await {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(_) => return true,
                }
            }
        })
        .await
    }

    async fn take(&mut self, what: &str, end: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(end) = end(&self.unread) {
                let rest = self.unread.split_off(end);
                return std::mem::replace(&mut self.unread, rest);
            }
            let read = self.read().await;
            let unread = String::from_utf8_lossy(&self.unread);
            assert!(read > 0, "closed before {what}, after {unread:?}");
        }
    }

    async fn read(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.unread);
        within("read", read).await.unwrap_or(0)
    }
}

/// Where `wanted` begins in `bytes`.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Where a well-formed chunked body ends, trailers included.
pub(crate) fn end_of_chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = at + find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
        at = line + 2;
        if size == 0 {
            loop {
                let end = at + find(bytes.get(at..)?, b"\r\n")?;
                let empty = end == at;
                at = end + 2;
                if empty {
                    return Some(at);
                }
            }
        }
        at += size + 2;
        if at > bytes.len() {
            return None;
        }
    }
}

//! What several of these tests need: an application in this process, registries in memory or in a
//! file, and small HTTP servers for it to find.

pub(crate) mod backend;
pub(crate) mod calls;
pub(crate) mod consul;
pub(crate) mod consul_fake;
mod consul_model;
pub(crate) mod fleet;
pub(crate) mod h2;
pub(crate) mod load;
pub(crate) mod marathon;
pub(crate) mod marathon_cluster;
pub(crate) mod marathon_tasks;
pub(crate) mod netns;
pub(crate) mod nginx;
pub(crate) mod successors;
pub(crate) mod websocket;
pub(crate) mod zdd;
pub(crate) mod zookeeper;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use portolan::app::{App, Options};
use portolan::catalog::model::{Address, Port};
use portolan::catalog::publish::Feed;
use portolan::catalog::{Instance, RegistryState, RegistryView, SourceService};
use portolan::config::{self, Loaded};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

/// Longer than anything here takes on a busy machine: whoever waits so long waits in vain.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that tells nobody when it changes.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// What `wanted` gives; a panic that names `what` when it never comes.
pub(crate) async fn within<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, wanted).await else {
        panic!("{what}: waited in vain for {PATIENCE:?}")
    };
    value
}

/// Looks until `look` sees something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

/// What is granted where `promised` is promised. The long forms run alone, in `make soak`, and get
/// that; the short form has the machine for itself only in part, beside all other tests, and gets
/// four times as long.
pub(crate) fn granted(promised: Duration) -> Duration {
    if std::env::var_os("PORTOLAN_FULL").is_some() { promised } else { 4 * promised }
}

/// Tells after how long `what` was seen, and holds it to the second that is promised; see
/// [`granted`].
pub(crate) fn soon(what: &str, took: Duration) {
    println!("{what}: {took:?}");
    let most = granted(Duration::from_secs(1));
    assert!(took <= most, "{what}: {took:?}, and not within {most:?}");
}

/// The configuration in `text`, named `portolan.toml`; or its problems, as they are shown.
pub(crate) fn load(text: &str, directory: &Path) -> Result<Loaded, Vec<String>> {
    let loaded = config::parse("portolan.toml", text, directory, &|_| None);
    loaded.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// Starts an application by the configuration in `text`.
pub(crate) async fn start(text: &str, directory: &Path) -> App {
    start_with(text, directory, &[]).await
}

/// As [`start`], fed by registries in memory too.
pub(crate) async fn start_with(text: &str, directory: &Path, registries: &[&Memory]) -> App {
    let feeds = registries.iter().map(|registry| registry.feed()).collect();
    let options = Options { feeds, ..Options::default() };
    within("start", Box::pin(App::start(load(text, directory).unwrap(), options))).await.unwrap()
}

/// Returns once `count` instances of `service` are published.
pub(crate) async fn known(app: &App, service: &str, count: usize) {
    let there = app.published(|snapshot| {
        snapshot.service(service).is_some_and(|service| service.instances.len() == count)
    });
    within("published", there).await;
}

/// Where the listener called `name` listens; it has one address.
pub(crate) async fn address(app: &App, name: &str) -> SocketAddr {
    let addresses = app.addresses(name).await;
    assert_eq!(addresses.len(), 1, "{name}");
    addresses[0]
}

/// A registry in memory: says what it is told to say, and shares what it said before.
pub(crate) struct Memory {
    name: Arc<str>,
    states: watch::Sender<RegistryState>,
}

impl Memory {
    /// A registry that is live and knows of no service.
    pub(crate) fn new(name: &str) -> Self {
        let states = watch::Sender::new(RegistryState::Live(RegistryView::default()));
        Self { name: name.into(), states }
    }

    /// From now on it stands so.
    pub(crate) fn say(&self, state: RegistryState) {
        self.states.send_replace(state);
    }

    /// What it says.
    pub(crate) fn view(&self) -> RegistryView {
        self.states.borrow().view().unwrap().clone()
    }

    /// How an application hears it.
    pub(crate) fn feed(&self) -> Feed {
        Feed::new(&self.name, 0, self.states.subscribe())
    }

    /// From now on `service` has these instances, and all else is as it was.
    pub(crate) fn tell(&self, service: &str, instances: &[SocketAddr]) {
        let instances = instances.iter().map(|at| Arc::new(self.instance(*at)));
        let service = SourceService {
            name: service.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: instances.collect(),
            problems: Vec::new(),
            suspect: None,
        };
        self.states.send_modify(|state| {
            let view = state.view().unwrap().with(service);
            *state = RegistryState::Live(view);
        });
    }

    fn instance(&self, at: SocketAddr) -> Instance {
        Instance {
            ports: Arc::new([Port { name: "".into(), number: at.port() }]),
            ..Instance::bare(&self.name, &at.to_string(), Address::Ip(at.ip()))
        }
    }
}

/// A services file that lists these instances of `service`, each by id and address.
pub(crate) fn listing(service: &str, instances: &[(&str, SocketAddr)]) -> String {
    let instance = |(id, at): &(&str, SocketAddr)| {
        let (ip, port) = (at.ip(), at.port());
        format!(
            "[[service.{service}.instance]]\nid = \"{id}\"\naddress = \"{ip}\"\nport = {port}\n"
        )
    };
    instances.iter().map(instance).collect()
}

/// Replaces `file` by renaming another one over it.
pub(crate) fn replace(file: &Path, text: &str) {
    let staged = file.with_extension("staged");
    std::fs::write(&staged, text).unwrap();
    std::fs::rename(&staged, file).unwrap();
}

/// Returns once `file` says `text`.
pub(crate) async fn says(file: &Path, text: &str) {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    let said = tokio::time::timeout(PATIENCE, async {
        while read() != text {
            tokio::time::sleep(LOOK).await;
        }
    });
    let same = said.await.is_ok();
    assert!(same, "{} says {:?} after {PATIENCE:?}, and not {text:?}", file.display(), read());
}

/// An HTTP server on 127.0.0.`host` that answers every request with `name`.
pub(crate) async fn backend(name: &'static str, host: u8) -> SocketAddr {
    serve(host, Router::new().fallback(move || std::future::ready(name))).await
}

/// A server by TCP that says back what it hears, and keeps no record of it.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

/// An HTTP server whose answers wait until they are let go.
pub(crate) struct Held {
    pub(crate) address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<()>,
    release: Arc<Notify>,
}

impl Held {
    /// It answers `late` to `/held` once it is released, and `soon` to all else.
    pub(crate) async fn start() -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let release = Arc::new(Notify::new());
        let released = Arc::clone(&release);
        let held = move || {
            let (arrived, released) = (arrived.clone(), Arc::clone(&released));
            async move {
                arrived.send(()).unwrap();
                released.notified().await;
                "late"
            }
        };
        let router = Router::new().route("/held", get(held)).fallback(|| async { "soon" });
        Self { address: serve(1, router).await, arrivals, release }
    }

    /// Returns once one more request has arrived.
    pub(crate) async fn arrived(&mut self) {
        within("a request at the backend", self.arrivals.recv()).await.unwrap();
    }

    /// Lets one request have its answer.
    pub(crate) fn release(&self) {
        self.release.notify_one();
    }
}

async fn serve(host: u8, router: Router) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, host], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

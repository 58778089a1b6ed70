//! A fleet of nginx origins in a real Consul, and the real program before them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use super::backend::Backend;
use super::calls;
use super::consul::{Consul, Entry};
use super::nginx::Nginx;
use super::{replace, until, within};
use crate::child::{Running, portolan};
use crate::clients::get_by_socket;

/// How long an origin goes on after its deregistration.
const GRACE: Duration = Duration::from_secs(1);

/// The id of an origin's instance of the service `calls`.
fn calls_of(origin: &str) -> String {
    format!("calls-of-{origin}")
}

/// Origins of the services `web` and `calls`, the oldest first.
pub(crate) struct Fleet {
    pub(crate) consul: Consul,
    pub(crate) backend: Backend,
    echo: SocketAddr,
    origins: VecDeque<Nginx>,
    begun: usize,
}

impl Fleet {
    pub(crate) async fn start(size: usize) -> Self {
        let (consul, backend, echo) =
            tokio::join!(Consul::start(), Backend::start(), calls::echo());
        let mut fleet = Self { consul, backend, echo, origins: VecDeque::new(), begun: 0 };
        for _ in 0..size {
            fleet.grow().await;
        }
        fleet
    }

    /// The one that has run for longest.
    pub(crate) fn oldest(&self) -> &Nginx {
        &self.origins[0]
    }

    pub(crate) fn origins(&self) -> impl Iterator<Item = &Nginx> {
        self.origins.iter()
    }

    /// Starts one more and registers it; its id.
    pub(crate) async fn grow(&mut self) -> String {
        self.begun += 1;
        let name = format!("web-{}", self.begun);
        let origin = Nginx::start(&name, self.backend.address, self.echo).await;
        let calls = Entry::new("calls", &calls_of(&name), origin.calls);
        for entry in [calls, Entry::new("web", &name, origin.address)] {
            self.consul.register(&entry).await;
            // Only what a check was told is remembered over a restart, not what it began with.
            self.consul.check(&entry, "pass").await;
        }
        self.origins.push_back(origin);
        name
    }

    /// A new one takes over from the oldest, which goes on for a second after its deregistration
    /// and is then stopped without regard for what it does.
    pub(crate) async fn replace_oldest(&mut self, edge: &Edge) {
        let new = self.grow().await;
        edge.serves(&new, true).await;
        self.deregister_oldest().await.end(edge).await;
    }

    /// Takes the oldest out of the registry; it runs on until [`Leaving::end`].
    pub(crate) async fn deregister_oldest(&mut self) -> Leaving {
        let origin = self.origins.pop_front().unwrap();
        self.consul.deregister(&calls_of(&origin.name)).await;
        self.consul.deregister(&origin.name).await;
        Leaving { origin, kill: self.begun.is_multiple_of(2), left: Instant::now() }
    }

    /// Kills the oldest, all of its processes at once. It stays registered.
    pub(crate) async fn kill_oldest(&mut self) -> String {
        let mut killed = self.origins.pop_front().unwrap();
        killed.kill().await;
        killed.name.clone()
    }
}

/// An origin that the registry does not tell of any more.
pub(crate) struct Leaving {
    origin: Nginx,
    kill: bool,
    left: Instant,
}

impl Leaving {
    /// Stops it at its time, without regard for what it does; every second one by SIGKILL. The
    /// program has known for long by then; the long form, which runs alone, asserts that.
    pub(crate) async fn end(mut self, edge: &Edge) {
        edge.serves(&self.origin.name, false).await;
        let known = self.left.elapsed();
        let late = std::env::var_os("PORTOLAN_FULL").is_some() && known >= GRACE;
        assert!(!late, "that {} has left was known after {known:?}", self.origin.name);
        tokio::time::sleep_until(self.left + GRACE).await;
        if self.kill {
            self.origin.kill().await;
        } else {
            self.origin.stop().await;
        }
    }
}

/// The program.
pub(crate) struct Edge {
    pub(crate) process: Running,
    pub(crate) web: SocketAddr,
    pub(crate) directory: TempDir,
    /// Whether calls are routed.
    calls: bool,
    reloads: usize,
}

impl Edge {
    /// Starts it by `config`, which has an HTTP listener `web`, and returns once every origin of
    /// the fleet gets work.
    pub(crate) async fn start(config: &str, fleet: &Fleet) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("portolan.toml");
        std::fs::write(&file, config).unwrap();
        let process = Running::start(&file).await;
        process.ready(&directory.path().join("admin.sock")).await;
        let web = process.address("web").await;
        let edge =
            Self { process, web, directory, calls: config.contains("[service.calls]"), reloads: 0 };
        for origin in fleet.origins() {
            edge.serves(&origin.name, true).await;
        }
        edge
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// Returns once the origin gets work, or none.
    pub(crate) async fn serves(&self, id: &str, wanted: bool) {
        self.instance_serves("web", id, wanted).await;
        if self.calls {
            self.instance_serves("calls", &calls_of(id), wanted).await;
        }
    }

    async fn instance_serves(&self, service: &str, id: &str, wanted: bool) {
        let id = format!("agent/{id}");
        until(&format!("{id} gets work: {wanted}"), async || {
            let told = get_by_socket(&self.socket(), &format!("/v1/services/{service}")).await;
            let told = (told.status == 200).then(|| told.json())?;
            let instances = told["instances"].as_array().unwrap();
            let known = instances.iter().find(|instance| instance["id"] == *id);
            let serves = known.is_some_and(|instance| instance["eligible"] == true);
            (serves == wanted).then_some(())
        })
        .await;
    }

    /// Returns once its registry is called stale, or no longer. After a long outage the next try
    /// may be half a minute away.
    pub(crate) async fn stale(&self, wanted: bool) {
        let look = async {
            loop {
                let status = get_by_socket(&self.socket(), "/v1/status").await.json();
                if status["registries"][0]["stale"].is_object() == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(100), look).await;
        assert!(seen.is_ok(), "the registry is stale: {wanted}: waited in vain");
    }

    /// Lets it run by `config` from now on, which differs: by signal and by command in turns.
    /// Returns what it says that has changed.
    pub(crate) async fn reload(&mut self, config: &str) -> String {
        let file = self.directory.path().join("portolan.toml");
        replace(&file, config);
        if self.reloads.is_multiple_of(2) {
            self.process.signal(Signal::HUP);
        } else {
            let ended = portolan(&["reload", "--config", file.to_str().unwrap()]).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        let log = self.process.logged_after(self.reloads, "configuration reloaded").await;
        self.reloads += 1;
        let changed = log["changed"].as_str().unwrap_or_default().to_owned();
        assert!(!changed.is_empty(), "nothing has changed: {log}");
        changed
    }

    /// The lines of the metric called `name` that are not 0, labels and all.
    pub(crate) async fn metric(&self, name: &str) -> Vec<String> {
        let page = within("metrics", get_by_socket(&self.socket(), "/metrics")).await.body;
        let of = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && !line.ends_with(" 0")
        };
        page.lines().filter(of).map(str::to_owned).collect()
    }
}

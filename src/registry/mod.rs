//! Where services come from: one task for each configured registry.
//!
//! A registry says what it sees by one channel, as a [`RegistryState`]; it knows nothing of the
//! catalog behind it. Adding a kind is one file with a configuration that implements `Source`,
//! and one line in the table of kinds below.

mod backoff;
mod consul;
mod defaults;
mod environment;
mod file;
mod follow;
mod keyfile;
mod marathon;
mod outlet;
mod rancher;
mod read;
mod secret;
mod tree;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::catalog::guard::GuardConfig;
use crate::catalog::stale::StalePolicy;
use crate::catalog::store::StoredView;
use crate::catalog::{Interest, RegistryState};
use crate::lifecycle;

pub use consul::ConsulConfig;
pub use environment::EnvironmentConfig;
pub use file::{FileConfig, ServicesPath};
pub use keyfile::{KeyfileConfig, NameFilter};
pub use marathon::{MarathonConfig, Masters, ZkUrl};
pub use outlet::Metrics;
use outlet::{Meters, Mouth, Outlet};
pub use rancher::{AnswersKind, RancherAnswersConfig};
pub use secret::Secret;

/// What a kind of registry does: speak, until the process ends.
trait Source: Clone + Send + Sync + 'static {
    /// Tells `outlet` all that the registry says. Failures are told there too and never end it;
    /// when it panics, it is started again with the state that it had reached.
    fn run(self, base_dir: PathBuf, outlet: Outlet) -> impl Future<Output = ()> + Send;

    /// For how long it may be silent; for ever unless its kind says otherwise.
    fn stale(&self) -> StalePolicy {
        StalePolicy::default()
    }
}

/// What surrounds a registry.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where relative paths begin.
    pub base_dir: PathBuf,
    /// What is wanted of it, now and whenever that changes.
    pub interest: watch::Receiver<Interest>,
    /// How long it is suspect after it came back: `[guard] hold`.
    pub hold: Duration,
}

impl Surroundings {
    /// Those of a registry of which everything is wanted.
    #[must_use]
    pub fn new(base_dir: &Path) -> Self {
        let (_, interest) = watch::channel(Interest::everything());
        Self { base_dir: base_dir.into(), interest, hold: GuardConfig::default().hold.0 }
    }
}

/// How a registry's work goes: numbers for the status, of which nobody is woken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Watches that run now.
    pub watches: usize,
    /// Services that wait for their turn to be looked at.
    pub waiting: usize,
    /// Requests since the start.
    pub requests: u64,
    /// Anything else, in words.
    pub detail: Arc<str>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($config:ty),)+) => {
        /// `[registry.NAME.KIND]`: exactly one kind for each name.
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(clippy::large_enum_variant, reason = "there is one for each table, not many")]
        pub enum RegistryConfig { $($(#[$doc])* $kind($config),)+ }

        impl RegistryConfig {
            /// Who wins for the same instance id in two registries: the higher one. Default 0.
            #[must_use]
            pub const fn priority(&self) -> i32 {
                match self { $(Self::$kind(config) => config.priority,)+ }
            }

            /// Whether the process is not ready before this registry was heard.
            #[must_use]
            pub const fn required(&self) -> bool {
                match self { $(Self::$kind(config) => config.required,)+ }
            }

            /// For how long it may be silent.
            #[must_use]
            pub fn stale(&self) -> StalePolicy {
                match self { $(Self::$kind(config) => Source::stale(config),)+ }
            }

            async fn run(self, base_dir: PathBuf, outlet: Outlet) {
                match self { $(Self::$kind(config) => config.run(base_dir, outlet).await,)+ }
            }
        }
    };
}

kinds! {
    /// A Consul cluster.
    Consul(ConsulConfig),
    /// The variables of this process as keys.
    Environment(EnvironmentConfig),
    /// A file that lists services.
    File(FileConfig),
    /// Files whose values are keys.
    Keyfile(KeyfileConfig),
    /// A Marathon on Mesos.
    Marathon(MarathonConfig),
    /// The answers file of Rancher's DNS, or of its metadata service.
    RancherAnswers(RancherAnswersConfig),
}

/// A registry that runs. Dropping it ends its task; receivers then keep the last state.
#[derive(Debug)]
pub struct Registry {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Who wins for the same instance id in two registries.
    pub priority: i32,
    /// Whether the process is not ready before it was heard.
    pub required: bool,
    /// For how long it may be silent.
    pub stale: StalePolicy,
    states: watch::Receiver<RegistryState>,
    report: watch::Receiver<Report>,
    /// The task ends when this is dropped.
    _alive: watch::Sender<()>,
}

impl Registry {
    /// What it says, now and whenever that changes.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<RegistryState> {
        self.states.clone()
    }

    /// How its work goes, now and whenever that changes.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<Report> {
        self.report.clone()
    }
}

impl RegistryConfig {
    /// Starts the task of the registry called `name`.
    ///
    /// With a view `stored` on disk it starts as [`RegistryState::Stale`] with that view, else as
    /// [`RegistryState::Syncing`]. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        &self,
        name: &str,
        surroundings: Surroundings,
        stored: Option<StoredView>,
        metrics: &Metrics,
    ) -> Registry {
        let name: Arc<str> = name.into();
        let first = stored.map_or(RegistryState::Syncing, |stored| RegistryState::Stale {
            last: stored.view,
            since: stored.heard_at,
            why: "restored from disk; not heard since the start".into(),
        });
        let (states, receiver) = watch::channel(first);
        let (alive, gone) = watch::channel(());
        let (report, told) = watch::channel(Report::default());
        let registry = Registry {
            name: Arc::clone(&name),
            priority: self.priority(),
            required: self.required(),
            stale: self.stale(),
            states: receiver,
            report: told,
            _alive: alive,
        };
        let mouth = Mouth {
            states: Arc::new(states),
            report: Arc::new(report),
            interest: surroundings.interest,
            hold: surroundings.hold,
        };
        let meters = metrics.meters(&name);
        let config = self.clone();
        let base_dir = surroundings.base_dir;
        tokio::spawn(async move {
            let task = format!("registry {name}");
            lifecycle::supervise(&task, || {
                let outlet = Outlet::new(Arc::clone(&name), mouth.clone(), Meters::clone(&meters));
                let run = config.clone().run(base_dir.clone(), outlet);
                until_gone(run, gone.clone())
            })
            .await;
        });
        registry
    }
}

/// Runs `task` to its end, or until the other side of `gone` is dropped.
async fn until_gone(task: impl Future<Output = ()>, mut gone: watch::Receiver<()>) {
    tokio::select! {
        () = task => {}
        // Nothing is ever sent: a change is the end of the handle.
        _ = gone.changed() => {}
    }
}

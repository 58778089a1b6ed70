//! Where services come from: one task for each configured registry.
//!
//! A registry says what it sees by one channel, as a [`RegistryState`]; it knows nothing of the
//! catalog behind it. Adding a kind is one file with a configuration that implements `Source`,
//! and one line in the table of kinds below.

mod file;
mod file_format;
mod file_read;
mod file_tree;
mod file_value;
mod outlet;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::watch;

use crate::catalog::RegistryState;
use crate::catalog::store::StoredView;
use crate::lifecycle;

pub use file::{FileConfig, ServicesPath};
pub use outlet::Metrics;
use outlet::{Meters, Outlet};

/// What a kind of registry does: speak, until the process ends.
trait Source: Clone + Send + Sync + 'static {
    /// Tells `outlet` all that the registry says. Failures are told there too and never end it;
    /// when it panics, it is started again with the state that it had reached.
    fn run(self, base_dir: PathBuf, outlet: Outlet) -> impl Future<Output = ()> + Send;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($config:ty),)+) => {
        /// `[registry.NAME.KIND]`: exactly one kind for each name.
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(rename_all = "kebab-case")]
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

            async fn run(self, base_dir: PathBuf, outlet: Outlet) {
                match self { $(Self::$kind(config) => config.run(base_dir, outlet).await,)+ }
            }
        }
    };
}

kinds! {
    /// A file that lists services.
    File(FileConfig),
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
    states: watch::Receiver<RegistryState>,
    /// The task ends when this is dropped.
    _alive: watch::Sender<()>,
}

impl Registry {
    /// What it says, now and whenever that changes.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<RegistryState> {
        self.states.clone()
    }
}

impl RegistryConfig {
    /// Starts the task of the registry called `name`; relative paths begin at `base_dir`.
    ///
    /// With a view `stored` on disk it starts as [`RegistryState::Stale`] with that view, else as
    /// [`RegistryState::Syncing`]. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        &self,
        name: &str,
        base_dir: &Path,
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
        let registry = Registry {
            name: Arc::clone(&name),
            priority: self.priority(),
            required: self.required(),
            states: receiver,
            _alive: alive,
        };
        let states = Arc::new(states);
        let meters = metrics.meters(&name);
        let config = self.clone();
        let base_dir = base_dir.to_path_buf();
        tokio::spawn(async move {
            let task = format!("registry {name}");
            lifecycle::supervise(&task, || {
                let outlet =
                    Outlet::new(Arc::clone(&name), Arc::clone(&states), Meters::clone(&meters));
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

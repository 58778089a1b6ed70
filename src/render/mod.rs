//! Files rendered from the snapshot: evaluated, checked, replaced at once, their reader reloaded.
//!
//! Each resource is one task, so that a template that fails, a check that hangs or a reload that
//! does not work holds up no other. A resource is rendered again when something changed that its
//! template asked for, and only then.

mod attributes;
mod child;
mod data;
pub mod engine;
mod fault;
mod format;
pub mod functions;
mod language;
mod layout;
mod preview;
mod resource;
mod status;
mod task;
mod write;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

pub use child::{Ended, EnvConfig, ExecConfig, Order, Restart, supervise};
pub use data::{Asked, Scope, Want};
pub use language::{Delimiters, Language};
pub use preview::{Preview, preview};
pub use resource::{Evaluation, Mode, RenderError, Resource, ResourceConfig, Wait};
pub use status::{Metrics, ReloadStatus, ResourceStatus};
use task::Task;
pub use writing::{
    GroupConfig, OutputFormat, Owner, ReloadHttp, ReloadSignal, SignalName, Url, WriteMode,
};

use crate::catalog::Snapshot;
use crate::lifecycle::{self, Phase, Phases};

/// What each template asks the registries for, by its name, as far as it has been evaluated.
pub type Wants = Arc<watch::Sender<BTreeMap<Arc<str>, Want>>>;

/// All resources, rendering. Dropping it ends their tasks; files stay as they are.
#[derive(Debug)]
pub struct Renderer {
    statuses: Vec<watch::Receiver<ResourceStatus>>,
    /// The tasks end when this is dropped.
    _alive: watch::Sender<()>,
}

impl Renderer {
    /// Starts one task for each of `resources`; they run until [`Phase::Stopped`].
    ///
    /// What they ask for is told by `wants`. Nothing is rendered from a snapshot of generation 0, which nobody published. Must be called
    /// within a tokio runtime.
    #[must_use]
    pub fn start(
        resources: Vec<Resource>,
        snapshots: &watch::Receiver<Arc<Snapshot>>,
        phases: &Phases,
        metrics: &Metrics,
        wants: &Wants,
    ) -> Self {
        let (alive, gone) = watch::channel(());
        let statuses = resources.into_iter().map(|resource| {
            let (status, receiver) = watch::channel(ResourceStatus::of(&resource));
            let meters = metrics.meters(&resource.name);
            let task = Task::new(resource, snapshots.clone(), status, meters, Arc::clone(wants));
            let (phases, gone) = (phases.clone(), gone.clone());
            tokio::spawn(async move {
                let name = format!("template {}", task.name());
                lifecycle::supervise(&name, || {
                    let (task, mut phases, mut gone) = (task.clone(), phases.clone(), gone.clone());
                    async move {
                        tokio::select! {
                            () = task.run() => {}
                            () = phases.reached(Phase::Stopped) => {}
                            // Nothing is ever sent: a change is the end of the renderer.
                            _ = gone.changed() => {}
                        }
                    }
                })
                .await;
            });
            receiver
        });
        Self { statuses: statuses.collect(), _alive: alive }
    }

    /// How each resource stands, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<ResourceStatus> {
        self.statuses.iter().map(|status| status.borrow().clone()).collect()
    }

    /// How each resource stands, now and from now on, in the order of the configuration.
    #[must_use]
    pub fn statuses(&self) -> Vec<watch::Receiver<ResourceStatus>> {
        self.statuses.clone()
    }

    /// Returns once every file says what `generation` or a later one says.
    pub async fn applied(&self, generation: u64) {
        for status in &self.statuses {
            // An error means that the task has ended: nothing more will be applied.
            let _ = status.clone().wait_for(|status| status.generation >= generation).await;
        }
    }
}

#[cfg(test)]
mod tests;

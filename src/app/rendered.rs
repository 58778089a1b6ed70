//! Whether the files are what they should be, whoever renders them at the moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};

use super::App;
use crate::render::{self, Preview, Renderer, Resource, ResourceStatus};

/// How each resource stands: another list after each reload.
pub(super) type Statuses = Arc<Vec<watch::Receiver<ResourceStatus>>>;

impl App {
    /// Returns once every file is what it should be, or something went wrong with it; tells how
    /// each stands then. What waits for a registry is waited for.
    pub async fn rendered(&self) -> Vec<ResourceStatus> {
        self.rendered.clone().settled().await
    }

    /// Evaluates `resources` without writing or running anything: what each file would say, and
    /// whenever that changes. Their names must be templates of the configuration.
    pub fn preview(&self, resources: Vec<Resource>) -> mpsc::Receiver<Preview> {
        render::preview(resources, &self.published, &self.lifecycle.phases(), &self.wants)
    }
}

/// Follows the resources over reloads. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Rendered(watch::Receiver<Statuses>);

/// When each file was replaced last, by the name of its template.
pub(super) type Written = BTreeMap<Arc<str>, SystemTime>;

/// Those of `renderer`.
pub(super) fn of(renderer: &Renderer) -> Statuses {
    Arc::new(renderer.statuses().into_values().collect())
}

impl Rendered {
    pub(super) const fn new(statuses: watch::Receiver<Statuses>) -> Self {
        Self(statuses)
    }

    /// Returns once every resource is settled, and how each stands then.
    pub(super) async fn settled(&mut self) -> Vec<ResourceStatus> {
        self.until(settled).await
    }

    /// Returns once every file is what it should be.
    pub(super) async fn current(&mut self) -> Vec<ResourceStatus> {
        self.until(|status| settled(status) && status.error.is_none()).await
    }

    /// Returns once a file was replaced that `known` does not know of, and takes note of all.
    pub(super) async fn changed(&mut self, known: &mut Written) {
        loop {
            let statuses = Arc::clone(&self.0.borrow_and_update());
            let fresh = |status: &ResourceStatus| {
                status.written_at.is_some() && known.get(&status.name) != status.written_at.as_ref()
            };
            let changed = any(&statuses, fresh);
            tokio::select! {
                biased;
                () = changed => {
                    let now = statuses.iter().map(|status| status.borrow().clone());
                    known.extend(written(now));
                    return;
                }
                replaced = self.0.changed() => if replaced.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    async fn until(&mut self, wanted: impl Fn(&ResourceStatus) -> bool) -> Vec<ResourceStatus> {
        loop {
            let statuses = Arc::clone(&self.0.borrow_and_update());
            tokio::select! {
                biased;
                all = all(&statuses, &wanted) => return all,
                replaced = self.0.changed() => if replaced.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }
}

/// When the files of these were replaced.
pub(super) fn written(statuses: impl IntoIterator<Item = ResourceStatus>) -> Written {
    statuses.into_iter().filter_map(|status| Some((status.name, status.written_at?))).collect()
}

/// Rendered and told to its reader, or failed at either.
fn settled(status: &ResourceStatus) -> bool {
    let told = status.reload.as_ref().is_none_or(|reload| !reload.due || reload.error.is_some());
    let failed = status.error.is_some();
    failed || (told && status.generation > 0 && status.waiting_for.is_none())
}

/// All of them, once each is as `wanted` at some moment and still when the last one is.
async fn all(
    statuses: &[watch::Receiver<ResourceStatus>],
    wanted: impl Fn(&ResourceStatus) -> bool,
) -> Vec<ResourceStatus> {
    loop {
        for status in statuses {
            if status.clone().wait_for(|status| wanted(status)).await.is_err() {
                // Its task has ended: a reload brings another list.
                std::future::pending::<()>().await;
            }
        }
        let now: Vec<ResourceStatus> =
            statuses.iter().map(|status| status.borrow().clone()).collect();
        if now.iter().all(&wanted) {
            return now;
        }
    }
}

/// Returns once one of them is as `wanted`; never when there is none.
async fn any(
    statuses: &[watch::Receiver<ResourceStatus>],
    wanted: impl Fn(&ResourceStatus) -> bool,
) {
    let mut waiting: Vec<_> = statuses
        .iter()
        .map(|status| {
            let mut status = status.clone();
            let wanted = &wanted;
            Box::pin(async move {
                if status.wait_for(|status| wanted(status)).await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        })
        .collect();
    std::future::poll_fn(|context| {
        let ready = waiting.iter_mut().any(|one| one.as_mut().poll(context).is_ready());
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

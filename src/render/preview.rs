//! What files would say: evaluated again with every change, and never written.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Wants;
use super::resource::{Evaluation, RenderError, Resource};
use crate::catalog::Snapshot;
use crate::lifecycle::{Phase, Phases};

/// Previews that wait for whoever looks at them.
const WAITING: usize = 16;

/// What one file would say.
#[derive(Debug)]
pub struct Preview {
    /// Name of the template.
    pub name: Arc<str>,
    /// The file.
    pub destination: PathBuf,
    /// Its content, or why there is none.
    pub output: Result<Vec<u8>, RenderError>,
}

/// Evaluates `resources` as long as somebody looks: each as soon as what it asks for was heard, and
/// again when that changes and its output with it. Must be called within a tokio runtime.
#[must_use]
pub fn preview(
    resources: Vec<Resource>,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    phases: &Phases,
    wants: &Wants,
) -> mpsc::Receiver<Preview> {
    let (sender, receiver) = mpsc::channel(WAITING);
    for resource in resources {
        let task = follow(Arc::new(resource), snapshots.clone(), Arc::clone(wants), sender.clone());
        let mut phases = phases.clone();
        tokio::spawn(async move {
            tokio::select! { () = task => {}, () = phases.reached(Phase::Stopped) => {} }
        });
    }
    receiver
}

async fn follow(
    resource: Arc<Resource>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    wants: Wants,
    sender: mpsc::Sender<Preview>,
) {
    let mut last: Option<Result<Vec<u8>, String>> = None;
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        if snapshot.generation == 0 {
            if snapshots.changed().await.is_err() {
                return;
            }
            continue;
        }
        let (evaluating, from) = (Arc::clone(&resource), Arc::clone(&snapshot));
        let evaluated = tokio::task::spawn_blocking(move || evaluating.evaluate(&from)).await;
        let Ok(Evaluation { asked, output }) = evaluated else { return };
        wants.send_if_modified(|wants| {
            let other = wants.get(&resource.name) != Some(asked.want());
            if other {
                wants.insert(Arc::clone(&resource.name), asked.want().clone());
            }
            other
        });
        let held = asked.waits_for().is_some();
        let now = match &output {
            Ok(bytes) => Ok(bytes.clone()),
            Err(error) => Err(error.to_string()),
        };
        if !held && last.as_ref() != Some(&now) {
            last = Some(now);
            let (name, destination) = (Arc::clone(&resource.name), resource.destination.clone());
            if sender.send(Preview { name, destination, output }).await.is_err() {
                return;
            }
        }
        let changed = async {
            loop {
                if snapshots.changed().await.is_err() {
                    return false;
                }
                let next = Arc::clone(&snapshots.borrow());
                if asked.differs(&snapshot, &next) {
                    return true;
                }
            }
        };
        tokio::select! {
            goes_on = changed => if !goes_on { return },
            () = asked.files_changed() => {}
        }
    }
}

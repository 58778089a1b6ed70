//! Upgrade: another process takes over every socket and all that is known, and serves before this one
//! lets go.
//!
//! ```text
//! old (give)                                new (take)
//! starts the program, hands sockets,  ───►  reads its configuration, binds what is new,
//! and the state                             compiles its first tables
//!                                     ◄───  Ready
//! Serve                               ───►  accepts and answers, beside the old one
//!                                     ◄───  Serving
//! takes its hands off the sockets, ends
//! checks, files, writing to disk
//! Yours, with what came last          ───►  checks, renders, writes; admin and metrics
//! drains, and leaves
//! ```
//!
//! Up to `Serving` the old one does everything as before: a new one that refuses its configuration,
//! crashes, or is silent for too long changes nothing.

mod give;
mod successor;
mod take;

use std::sync::Arc;

pub use give::{UpgradeError, Upgraded};
pub use successor::{PREDECESSOR, Successor};
pub use take::Predecessor;
pub(super) use take::{Late, Taken};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::catalog::Snapshot;
use crate::catalog::store::{StateToSave, Store, writer};
use crate::lifecycle::{Phase, Phases};

/// `published`, from the moment on when the duties are this process's.
pub(super) fn from_then_on(
    published: &watch::Receiver<Arc<Snapshot>>,
    duties: &Phases,
) -> watch::Receiver<Arc<Snapshot>> {
    if duties.now() >= Phase::Serving {
        return published.clone();
    }
    let (mut published, mut duties) = (published.clone(), duties.clone());
    let (sender, receiver) = watch::channel(Arc::default());
    tokio::spawn(async move {
        duties.reached(Phase::Serving).await;
        loop {
            let snapshot = Arc::clone(&published.borrow_and_update());
            // Nobody listens any more, or nothing will be published any more.
            if sender.send(snapshot).is_err() || published.changed().await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// `settings`, up to the moment when the duties are another process's: then there are none any more.
pub(super) fn until_then<T: Clone + Send + Sync + 'static>(
    mut settings: watch::Receiver<T>,
    mut duties: Phases,
) -> watch::Receiver<T> {
    let (sender, receiver) = watch::channel(settings.borrow_and_update().clone());
    tokio::spawn(async move {
        let follow = async {
            while settings.changed().await.is_ok() {
                let now = settings.borrow_and_update().clone();
                if sender.send(now).is_err() {
                    return;
                }
            }
        };
        tokio::select! { () = follow => {}, () = duties.reached(Phase::Stopped) => {} }
    });
    receiver
}

/// Starts to keep the state on disk: at once, or when that is this process's to do. What is published
/// before it is started counts as saved.
pub(super) fn keep(
    (store, to_save, mut duties, metrics): (
        Store,
        watch::Receiver<StateToSave>,
        Phases,
        writer::Metrics,
    ),
    waits: bool,
) -> JoinHandle<()> {
    let start = move |phases| writer::start(store, to_save, writer::PAUSE, phases, &metrics);
    if !waits {
        return start(duties);
    }
    tokio::spawn(async move {
        duties.reached(Phase::Serving).await;
        // It ends with the duties.
        let _ = start(duties).await;
    })
}

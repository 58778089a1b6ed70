//! Keeps the ports that services ask for as they ask.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::{Running, labels};
use crate::catalog::Snapshot;
use crate::lifecycle::{Phase, Phases};
use crate::net::adopt::Adopted;

/// How long until ports that could not be had are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Follows what is published, until the process drains.
pub(super) async fn follow(
    running: Arc<Mutex<Running>>,
    mut published: watch::Receiver<Arc<Snapshot>>,
    mut phases: Phases,
) {
    // What was there from the start has been opened, but neither told nor tried again.
    let (mut again, mut told) = (true, labels::Told::default());
    loop {
        let refused = {
            let mut running = running.lock().await;
            let tables = running.tables.load_full();
            let Running { sockets, config, workers, .. } = &mut *running;
            workers.count_labels(told.follow(tables.proxy.overlay()));
            sockets.follow_ports(config, &tables, workers, &mut Adopted::none(), again)
        };
        again = tokio::select! {
            changed = published.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            () = tokio::time::sleep(RETRY), if refused > 0 => true,
            () = phases.reached(Phase::Replaced) => return,
        };
    }
}

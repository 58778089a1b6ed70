//! What a running application can be asked, and told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{App, Tables};
use crate::api::{self, Reload, UpgradeWish};
use crate::catalog::Snapshot;
use crate::config::{Loaded, ProcessConfig};
use crate::lifecycle::{Phase, Readiness};

/// What is left of the deadline when a process that was replaced closes connections at rest.
const CLOSING: Duration = Duration::from_secs(1);

impl App {
    /// Replaces the configuration, as a whole or not at all.
    ///
    /// # Errors
    /// What is wrong with the new one; the old one goes on unchanged then.
    pub async fn reload(&self, loaded: Loaded) -> Result<api::Report, Vec<String>> {
        // Boxed, for a whole configuration is in it several times.
        Box::pin(async { self.running.lock().await.reload(loaded).await }).await
    }

    /// Where reloads of the configuration file are asked for: by a signal, or by the admin face.
    #[must_use]
    pub fn reloads(&self) -> mpsc::Sender<Reload> {
        self.reloads.clone()
    }

    /// The addresses that the listener called `name` is bound to; DNS is called `dns`, the metadata
    /// API `metadata`.
    pub async fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        self.running.lock().await.sockets.addresses(name)
    }

    /// The TCP address that the admin face is bound to, if it has one.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The tables of this moment.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// Whether the process would serve a client well right now.
    #[must_use]
    pub const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Returns once `generation` or a later one has been published.
    pub async fn applied(&self, generation: u64) {
        let mut published = self.published.clone();
        // An error means that nothing will be published any more.
        let _ = published.wait_for(|snapshot| snapshot.generation >= generation).await;
    }

    /// Returns once `wanted` is true of a published snapshot.
    pub async fn published(&self, wanted: impl Fn(&Snapshot) -> bool) {
        let mut published = self.published.clone();
        let _ = published.wait_for(|snapshot| wanted(snapshot)).await;
    }

    /// Says that it is not ready for as long as `[limits] notice` tells, and serves as before, so that
    /// whoever sends clients here has turned away by then.
    pub async fn give_notice(&self) {
        let notice = self.running.lock().await.config.limits.notice.0;
        if !notice.is_zero() {
            self.lifecycle.advance(Phase::Leaving);
            self.readiness.set(false);
            tracing::info!(seconds = notice.as_secs_f64(), "leaving; no longer ready");
            tokio::time::sleep(notice).await;
        }
    }

    /// Stops accepting, lets what runs finish until `deadline` from now, and says how many
    /// connections and flows had to be cut. DNS answers until the last of them is gone. Where another process has
    /// taken over, connections at rest stay open until just before the deadline: whoever sends into one
    /// is answered.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let replaced = self.replaced_by.load(Ordering::Acquire) != 0;
        let deadline = if replaced { self.rest(deadline).await } else { deadline };
        self.readiness.set(false);
        self.running.lock().await.sockets.let_go();
        self.lifecycle.advance(Phase::Draining);
        // An error means that the deadline came first.
        let _ = tokio::time::timeout(deadline, self.connections.empty()).await;
        self.connections.running()
    }

    /// Lets everything run until it ends by itself, but connections at rest for no longer than nearly to
    /// the deadline; what is left of it then.
    async fn rest(&self, deadline: Duration) -> Duration {
        let last = (deadline / 10).min(CLOSING);
        let ended = async {
            self.connections.empty().await;
            self.running.lock().await.workers.dns_answered().await;
        };
        let _ = tokio::time::timeout(deadline.saturating_sub(last), ended).await;
        last
    }

    /// Ends everything: the last state goes to disk, the threads leave.
    pub async fn stop(mut self) {
        self.readiness.set(false);
        self.child.stop().await;
        self.duties.advance(Phase::Stopped);
        self.lifecycle.advance(Phase::Stopped);
        let (workers, keepers) = {
            let mut running = self.running.lock().await;
            (running.workers.end(), std::mem::take(&mut running.keepers))
        };
        // An error means that it panicked; the process ends all the same.
        let _ = tokio::task::spawn_blocking(workers).await;
        for task in self.tasks.drain(..).chain(keepers) {
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
    }

    /// The next wish for an upgrade that came by the admin face.
    pub async fn upgrade_wished(&self) -> UpgradeWish {
        match self.upgrades.lock().await.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }

    /// The configuration of the process that is in force.
    pub async fn process_config(&self) -> ProcessConfig {
        self.running.lock().await.config.process.clone()
    }

    /// How long a drain may take, as configured.
    pub async fn drain_deadline(&self) -> Duration {
        self.running.lock().await.config.limits.drain.0
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.duties.advance(Phase::Stopped);
        self.lifecycle.advance(Phase::Stopped);
    }
}

//! What a running application can be asked, and told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{App, Tables};
use crate::api::{self, Reload};
use crate::catalog::Snapshot;
use crate::config::Loaded;
use crate::lifecycle::{Phase, Readiness};

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

    /// Stops accepting, lets what runs finish until `deadline` from now, and says how many
    /// connections had to be cut. DNS answers until the last of them is gone.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.readiness.set(false);
        self.running.lock().await.sockets.let_go();
        self.lifecycle.advance(Phase::Draining);
        // An error means that the deadline came first.
        let _ = tokio::time::timeout(deadline, self.connections.empty()).await;
        self.connections.open()
    }

    /// Ends everything: the last state goes to disk, the threads leave.
    pub async fn stop(mut self) {
        self.readiness.set(false);
        self.child.stop().await;
        self.lifecycle.advance(Phase::Stopped);
        let workers = self.running.lock().await.workers.end();
        // An error means that it panicked; the process ends all the same.
        let _ = tokio::task::spawn_blocking(workers).await;
        for task in self.tasks.drain(..) {
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
    }

    /// How long a drain may take, as configured.
    pub async fn drain_deadline(&self) -> Duration {
        self.running.lock().await.config.limits.drain.0
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.lifecycle.advance(Phase::Stopped);
    }
}

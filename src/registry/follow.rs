//! Following one file: read it, decode it, tell what it says, again whenever it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::outlet::Outlet;
use super::read::{self, Look, SETTLE, Seen};
use crate::catalog::RegistryView;
use crate::units::{Period, Size};
use crate::watching::Watching;

/// Makes a view of a file: name of the registry, name of the file, its text, and the view before.
pub(super) type Decode =
    Arc<dyn Fn(&Arc<str>, &str, &str, &RegistryView) -> Result<RegistryView, String> + Send + Sync>;

/// What is followed, and how.
pub(super) struct Followed {
    pub(super) path: PathBuf,
    /// How often to look where the kernel tells nothing.
    pub(super) poll: Period,
    /// Whether to ask the kernel for changes.
    pub(super) watch: bool,
    pub(super) max_size: Size,
    pub(super) decode: Decode,
}

impl Followed {
    /// Tells `outlet` what the file says, for ever.
    pub(super) async fn run(self, mut outlet: Outlet) {
        let poll = self.poll.0.max(Period::from_millis(10).0);
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watching = self.renewed(Watching::new(&self.path)).await;
        let mut seen = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => watching = self.renewed(watching).await,
                () = watching.event() => tokio::time::sleep(SETTLE).await,
            }
            seen = self.look(seen, &mut outlet).await;
        }
    }

    /// Watches anew if need be, away from the async threads: a dead mount would hold them up.
    async fn renewed(&self, watching: Watching) -> Watching {
        if !self.watch {
            return watching;
        }
        let renewed = tokio::task::spawn_blocking(move || watching.renewed()).await;
        renewed.unwrap_or_else(|_| Watching::new(&self.path))
    }

    /// Looks at the file and tells what it finds; returns what is now known of its content.
    async fn look(&self, seen: Option<Seen>, outlet: &mut Outlet) -> Option<Seen> {
        match read::settled(&self.path, self.max_size, seen).await {
            Ok(Look::Unchanged(seen)) => Some(seen),
            Ok(Look::Changed(seen, text)) => {
                match decoded(&self.path, &self.decode, text, outlet).await {
                    Ok(view) => outlet.live(view),
                    Err(why) => outlet.failed(&why),
                }
                Some(seen)
            }
            Err(why) => {
                outlet.failed(&why);
                // Whatever comes next is news, even the same content under the same inode.
                None
            }
        }
    }
}

async fn decoded(
    path: &Path,
    decode: &Decode,
    text: String,
    outlet: &Outlet,
) -> Result<RegistryView, String> {
    let (registry, last) = (outlet.name().clone(), outlet.last());
    let (decode, file) = (Arc::clone(decode), path.display().to_string());
    let view = tokio::task::spawn_blocking(move || decode(&registry, &file, &text, &last));
    view.await.unwrap_or_else(|error| Err(format!("decoding {} failed: {error}", path.display())))
}

//! The process that is there: starts the new one, gives it everything, and lets go when it serves.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::Successor;
use super::successor::Started;
use crate::app::{App, Running};
use crate::catalog::operations_store;
use crate::lifecycle::Phase;
use crate::net::handover::{self, FORMAT, Part, Peer, Word, batches};
use crate::proxy::sticky::store as sticky;

/// How long what is kept on disk may take to be written a last time.
const KEEPS: Duration = Duration::from_secs(5);

/// An upgrade that was made.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct Upgraded {
    /// The new process.
    pub pid: u32,
    /// Sockets that it got.
    pub sockets: usize,
    /// Milliseconds until it was ready.
    pub ready_millis: u64,
    /// Milliseconds until it served and this process had let go.
    pub total_millis: u64,
}

/// Why there was no upgrade. The process goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// One at a time.
    #[error("an upgrade is under way already; wait for its end")]
    UnderWay,
    /// This process leaves.
    #[error("this process is on its way out already")]
    Leaving,
    /// It was started by a library, or a test.
    #[error("this process was not started by `portolan run`; restart it instead")]
    Embedded,
    /// The child could not be handed over.
    #[error(
        "[exec] runs a child, and a child cannot change its parent; restart this process instead, \
         or let an init system run both"
    )]
    Child,
    /// The container would end.
    #[error("this is process 1: with it the container would end; replace the container instead")]
    First,
    /// The program cannot be started.
    #[error("cannot start {program}: {source}", program = program.display())]
    Start {
        /// The program.
        program: std::path::PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The state cannot be handed over.
    #[error("cannot hand over: {0}")]
    Give(io::Error),
    /// It said no.
    #[error("the new process does not start: {0}")]
    Refused(String),
    /// It ended.
    #[error("the new process ended before it served{0}; its log has the reason")]
    Ended(String),
    /// It did nothing.
    #[error("the new process did not serve within [process] upgrade_timeout = {0:?}")]
    Silent(Duration),
}

impl App {
    /// Starts the program of `successor`, or the one at `binary`, and hands everything to it. When
    /// this returns the new process serves, and this one is to be drained and stopped.
    ///
    /// # Errors
    /// The new process did not come to serve, and is no more; this one goes on as if nothing had been.
    /// Dropping the future ends the new process too.
    pub async fn upgrade(
        &self,
        successor: Option<&Successor>,
        binary: Option<&Path>,
    ) -> Result<Upgraded, UpgradeError> {
        let upgraded = Box::pin(self.hand_over(successor, binary)).await;
        match &upgraded {
            Ok(upgraded) => tracing::info!(
                pid = upgraded.pid,
                sockets = upgraded.sockets,
                ready_millis = upgraded.ready_millis,
                total_millis = upgraded.total_millis,
                "handed over to a new process"
            ),
            Err(error) => {
                self.upgrades_refused.inc();
                tracing::error!(%error, "no upgrade; this process goes on");
            }
        }
        upgraded
    }

    async fn hand_over(
        &self,
        successor: Option<&Successor>,
        binary: Option<&Path>,
    ) -> Result<Upgraded, UpgradeError> {
        let Ok(_alone) = self.upgrading.try_lock() else { return Err(UpgradeError::UnderWay) };
        if self.lifecycle.phases().now() != Phase::Serving {
            return Err(UpgradeError::Leaving);
        }
        let successor = successor.ok_or(UpgradeError::Embedded)?;
        // Nothing is reloaded meanwhile: the new process reads the configuration itself.
        let mut running = self.running.lock().await;
        if running.config.exec.is_some() {
            return Err(UpgradeError::Child);
        }
        if rustix::process::getpid().is_init() {
            return Err(UpgradeError::First);
        }
        // Operators wait: what they say counts here if there is no upgrade, and otherwise there.
        let _orders = running.operating.hold().await;
        let limit = running.config.process.upgrade_timeout.0;
        let began = Instant::now();
        let (peer, theirs) = handover::pair().map_err(UpgradeError::Give)?;
        let mut started = successor.start(binary, theirs).map_err(|source| {
            let program = binary.unwrap_or(&successor.program).to_path_buf();
            UpgradeError::Start { program, source }
        })?;
        tracing::info!(
            pid = started.id(),
            program = %binary.unwrap_or(&successor.program).display(),
            "handing over to a new process"
        );
        let deadline = began + limit;
        let talk = async {
            let sockets = running.give(&peer).await?;
            hear(&peer, &Word::Ready).await?;
            let ready = began.elapsed();
            say(&peer, &Word::Serve).await?;
            hear(&peer, &Word::Serving).await?;
            Ok::<_, Heard>((sockets, ready))
        };
        let (sockets, ready) = match timeout_at(deadline, talk).await {
            Ok(Ok(given)) => given,
            Ok(Err(heard)) => return Err(heard.told(&mut started).await),
            Err(_) => return Err(UpgradeError::Silent(limit)),
        };
        self.let_go(&mut running, &peer, started).await;
        Ok(Upgraded {
            pid: self.replaced_by.load(std::sync::atomic::Ordering::Acquire),
            sockets,
            ready_millis: ready.as_millis() as u64,
            total_millis: began.elapsed().as_millis() as u64,
        })
    }

    /// From here on the new process is the one.
    async fn let_go(&self, running: &mut Running, peer: &Peer, started: Started) {
        let pid = started.id();
        self.replaced_by.store(pid, std::sync::atomic::Ordering::Release);
        started.let_go();
        // First, so that whoever carries datagrams knows that it is followed and not taken away.
        self.lifecycle.advance(Phase::Replaced);
        running.sockets.hand_over();
        running.admin_held.close();
        running.operating.quiet();
        self.duties.advance(Phase::Stopped);
        for keeper in std::mem::take(&mut running.keepers) {
            ended(keeper).await;
        }
        // First, so that the new one's words count when it has heard the next one.
        std::mem::take(&mut running.notifier).replaced_by(pid);
        running.replaced_by = Some(pid);
        if let Err(error) = running.give_late(peer).await {
            tracing::warn!(%error, "the new process did not hear the last word; it goes on alone");
        }
    }
}

async fn ended(keeper: JoinHandle<()>) {
    if timeout(KEEPS, keeper).await.is_err() {
        tracing::warn!("what is kept on disk could not be written a last time");
    }
}

/// What was heard instead of what was waited for.
enum Heard {
    Refused(String),
    Nothing,
    Failed(io::Error),
}

impl Heard {
    async fn told(self, started: &mut Started) -> UpgradeError {
        match self {
            Self::Refused(why) => UpgradeError::Refused(why),
            // It hangs up when it ends: then sending fails, and there is nothing more to hear.
            Self::Nothing | Self::Failed(_) => {
                let how = started.ended().await;
                match (how, self) {
                    (None, Self::Failed(error)) => UpgradeError::Give(error),
                    (how, _) => {
                        let how = how.map(|how| format!(" ({how})"));
                        UpgradeError::Ended(how.unwrap_or_default())
                    }
                }
            }
        }
    }
}

impl From<io::Error> for Heard {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

async fn hear(peer: &Peer, wanted: &Word) -> Result<(), Heard> {
    match peer.hear().await? {
        Some((word, _)) if word == *wanted => Ok(()),
        Some((Word::Refused(why), _)) => Err(Heard::Refused(why)),
        Some((word, _)) => Err(Heard::Refused(format!("it said {word:?} at the wrong time"))),
        None => Err(Heard::Nothing),
    }
}

/// Says a word; one who does not listen any more may have said why.
async fn say(peer: &Peer, word: &Word) -> Result<(), Heard> {
    match peer.say(word, &[]).await {
        Ok(()) => Ok(()),
        Err(error) => Err(last_word(peer, error).await),
    }
}

async fn last_word(peer: &Peer, error: io::Error) -> Heard {
    match peer.hear().await {
        Ok(Some((Word::Refused(why), _))) => Heard::Refused(why),
        _ => Heard::Failed(error),
    }
}

impl Running {
    /// Gives the sockets and what is known; how many sockets.
    async fn give(&self, peer: &Peer) -> Result<usize, Heard> {
        match self.try_give(peer).await {
            Ok(count) => Ok(count),
            Err(error) => Err(last_word(peer, error).await),
        }
    }

    async fn try_give(&self, peer: &Peer) -> io::Result<usize> {
        let hello = Word::Hello { format: FORMAT, pid: std::process::id() };
        peer.say(&hello, &[]).await?;
        let mut sockets = self.sockets.labelled()?;
        sockets.extend(self.admin_held.labelled()?);
        for (word, beside) in batches(&sockets) {
            peer.say(&word, &beside).await?;
        }
        let state = self.to_save.borrow().clone();
        let catalog = tokio::task::spawn_blocking(move || state.to_bytes());
        let catalog = catalog.await.map_err(io::Error::other)??;
        let operations = operations_store::to_bytes(&self.operating.spoken.operations.borrow())?;
        let mut parts = vec![(Part::Catalog, catalog), (Part::Operations, operations)];
        parts.push((Part::Sources, sticky::to_bytes(&self.sticky.stored())?));
        parts.extend(self.sticky.made_key().map(|key| (Part::StickyKey, key.to_vec())));
        send(peer, &parts).await?;
        peer.say(&Word::Whole, &[]).await?;
        Ok(sockets.len())
    }

    /// Gives what came last, when nobody here changes it any more.
    async fn give_late(&self, peer: &Peer) -> io::Result<()> {
        peer.say(&Word::Yours, &[]).await?;
        let sources = sticky::to_bytes(&self.sticky.stored())?;
        let checks = serde_json::to_vec(&self.health.checks().carried())?;
        send(peer, &[(Part::Sources, sources), (Part::Checks, checks)]).await
    }
}

async fn send(peer: &Peer, parts: &[(Part, Vec<u8>)]) -> io::Result<()> {
    let files = parts.iter().map(|(_, bytes)| handover::in_memory(bytes));
    let files: Vec<_> = files.collect::<io::Result<_>>()?;
    let names = parts.iter().map(|(part, _)| *part).collect();
    let beside: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    peer.say(&Word::Parts(names), &beside).await
}

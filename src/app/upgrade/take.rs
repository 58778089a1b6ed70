//! The new process: what it is given, and when it may begin.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::app::StartError;
use crate::catalog::operations::Operations;
use crate::catalog::operations_store;
use crate::catalog::store::Loaded;
use crate::health::Carried;
use crate::net::adopt::Adopted;
use crate::net::handover::{self, FORMAT, Part, Peer, Word};
use crate::proxy::sticky::cookie::KEY;
use crate::proxy::sticky::store as sticky;

/// How long the old one may take to let go, once this one serves.
const LETS_GO: Duration = Duration::from_secs(30);

/// The way to the process that started this one to be replaced by it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Predecessor(Arc<OwnedFd>);

impl Predecessor {
    /// The process that started us, when `variable`, the value of [`PREDECESSOR`](super::PREDECESSOR),
    /// says that it is one that hands over: then our standard input is the way to it, and nothing in
    /// its place from now on. To be called once, before anybody reads the standard input.
    ///
    /// # Errors
    /// The standard input cannot be taken.
    pub fn from_stdin(variable: Option<&str>) -> io::Result<Option<Self>> {
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        // What we start inherits the variable too, and is not meant.
        if parent.is_none() || variable.and_then(|pid| pid.parse().ok()) != parent {
            return Ok(None);
        }
        let end = rustix::stdio::stdin().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Some(Self(Arc::new(end))))
    }

    /// Tells it that this process does not start, and why.
    pub fn refuse(&self, why: &str) {
        handover::refuse(&self.0, why);
    }

    /// Hears what it gives, up to where this process is to say that it is ready.
    pub(in crate::app) async fn take(&self) -> Result<Taken, StartError> {
        let peer = Peer::of(self.0.try_clone().map_err(broken)?).map_err(broken)?;
        let mut taken = Taken {
            peer,
            pid: 0,
            adopted: Adopted::shared(),
            stored: None,
            operations: None,
            sources: None,
            sticky_key: None,
        };
        loop {
            let heard = taken.peer.hear().await.map_err(broken)?;
            let Some((word, beside)) = heard else { return Err(broken("it has ended")) };
            match word {
                Word::Hello { format: FORMAT, pid } => taken.pid = pid,
                Word::Hello { format, .. } => {
                    return Err(broken(format!(
                        "it speaks the form {format} and this version {FORMAT}; restart instead"
                    )));
                }
                Word::Sockets(labels) => {
                    for (label, socket) in labels.into_iter().zip(beside) {
                        taken.adopted.add(label, socket);
                    }
                }
                Word::Parts(parts) => {
                    for (part, file) in parts.into_iter().zip(beside) {
                        let bytes = handover::from_memory(file).map_err(broken)?;
                        taken.know(part, &bytes).map_err(broken)?;
                    }
                }
                Word::Whole => return Ok(taken),
                word => return Err(broken(format!("it said {word:?} at the wrong time"))),
            }
        }
    }
}

fn broken(why: impl std::fmt::Display) -> StartError {
    StartError::Predecessor(why.to_string())
}

/// What the process before us gave.
#[derive(Debug)]
pub(in crate::app) struct Taken {
    peer: Peer,
    /// Its number.
    pub(in crate::app) pid: u32,
    pub(in crate::app) adopted: Adopted,
    pub(in crate::app) stored: Option<Loaded>,
    pub(in crate::app) operations: Option<Operations>,
    pub(in crate::app) sources: Option<sticky::Stored>,
    pub(in crate::app) sticky_key: Option<[u8; KEY]>,
}

/// What it gave last, when it had let go.
#[derive(Debug, Default)]
pub(in crate::app) struct Late {
    pub(in crate::app) sources: Option<sticky::Stored>,
    pub(in crate::app) checks: Vec<Carried>,
}

impl Taken {
    fn know(&mut self, part: Part, bytes: &[u8]) -> Result<(), String> {
        match part {
            Part::Catalog => self.stored = Some(Loaded::from_bytes(bytes)?),
            Part::Operations => self.operations = Some(operations_store::decode(bytes)?),
            Part::Sources => self.sources = Some(sticky::decode(bytes)?),
            Part::StickyKey => self.sticky_key = bytes.first_chunk().copied(),
            Part::Checks => {}
        }
        Ok(())
    }

    /// Says that this process could serve, and returns when it is to.
    pub(in crate::app) async fn ready(&self) -> Result<(), StartError> {
        self.peer.say(&Word::Ready, &[]).await.map_err(broken)?;
        match self.peer.hear().await.map_err(broken)? {
            Some((Word::Serve, _)) => Ok(()),
            Some((word, _)) => Err(broken(format!("it said {word:?} at the wrong time"))),
            None => Err(broken("it has ended, or gave us up")),
        }
    }

    /// Says that this process serves, and returns when the one before has let go, or is no more. From
    /// here on there is no way back: whatever it does, this process goes on.
    pub(in crate::app) async fn serving(&self) -> Late {
        let mut late = Late::default();
        if self.peer.say(&Word::Serving, &[]).await.is_err() {
            return late;
        }
        let heard = tokio::time::timeout(LETS_GO, self.peer.hear()).await;
        let Ok(Ok(Some((Word::Yours, _)))) = heard else {
            tracing::warn!(
                pid = self.pid,
                "the process before this one ended without its last word"
            );
            return late;
        };
        while let Ok(Ok(Some((Word::Parts(parts), beside)))) =
            tokio::time::timeout(LETS_GO, self.peer.hear()).await
        {
            for (part, file) in parts.into_iter().zip(beside) {
                let Ok(bytes) = handover::from_memory(file) else { continue };
                match part {
                    Part::Sources => late.sources = sticky::decode(&bytes).ok(),
                    Part::Checks => {
                        late.checks = serde_json::from_slice(&bytes).unwrap_or_default();
                    }
                    Part::Catalog | Part::Operations | Part::StickyKey => {}
                }
            }
        }
        late
    }
}

//! What happens to a link, and what it does: the words between [`super::step`] and its shell.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Times and numbers of one registry.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Time between two reads of everything, ± a fifth.
    pub(super) resync: Duration,
    /// Longest silence of the stream.
    pub(super) idle: Duration,
    /// Time for which marks are gathered.
    pub(super) coalesce: Duration,
    /// Most reads of single apps at once.
    pub(super) in_flight: usize,
    /// Longest pause between two streams.
    pub(super) backoff_max: Duration,
    /// How long losses found at a new stream are doubted.
    pub(super) hold: Duration,
    /// How long after that health results that are absent are those from before.
    pub(super) settle: Duration,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// Nothing but time.
    Tick,
    /// The head of the stream came; it names a leader, or not. It proves nothing: a standby
    /// accepts and closes.
    Opened(Option<Arc<str>>),
    /// Bytes of the stream that say nothing.
    Alive,
    /// An event, or a heartbeat: the stream is one.
    Proven,
    /// Something may have changed.
    Changed(Change),
    /// There is no stream, or none any more.
    Lost(Arc<str>),
    /// Everything was read, or not: a read ends in time, in one way or the other.
    Full(Result<Read, Arc<str>>),
    /// One app was read.
    App(Arc<str>, Outcome),
    /// An answer names this leader.
    Leader(Arc<str>),
    /// Another leader was elected, as ZooKeeper says.
    Elected,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// One app.
    App(Arc<str>),
    /// Anything: it names no app, or could not be read.
    Everything,
}

/// A read of everything that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    /// Apps and pods that there are.
    pub(super) apps: usize,
    /// Whether something is missing that was there before.
    pub(super) lost: bool,
}

/// What came of a read of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken in, or refused: either way it was read.
    Read,
    /// 404, and it was an app: it is gone.
    Gone,
    /// 404, and it was nothing before: perhaps a pod.
    Unknown,
    /// Marathon did not answer.
    Failed(Arc<str>),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Pick a node and ask it for its events.
    Connect,
    /// Let go of the stream and of all that is being read.
    Close,
    /// What is known may be old from now on, for this reason.
    Stale(Arc<str>),
    /// Read everything.
    ReadAll,
    /// Read this app.
    ReadApp(Arc<str>),
    /// Health results that are absent are absent.
    Settle,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits until then to try a node.
    Pick(Instant),
    /// Asked a node for its events, or got a stream that has not spoken yet.
    Connect,
    /// The stream speaks; everything is being read for the first time behind it.
    Snapshot,
    /// Everything was read, and events are followed, since then.
    Live(Instant),
}

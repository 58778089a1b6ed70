//! What a scripted Marathon does otherwise than one would like.

use std::time::Duration;

/// What goes wrong with one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A status that is no success.
    Refused(u16),
    /// The connection ends in the middle of the body.
    Half,
    /// The body comes in pieces, with a pause of so many milliseconds between them.
    Slow(u64),
    /// No answer, ever.
    HalfOpen,
    /// The connection is reset.
    Reset,
    /// A body that is no JSON.
    Garbage,
    /// JSON that says something else than it should.
    OtherJson,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Refused(502),
        Self::Refused(503),
        Self::Refused(500),
        Self::Refused(401),
        Self::Half,
        Self::Slow(10),
        Self::Slow(40),
        Self::HalfOpen,
        Self::Reset,
        Self::Garbage,
        Self::OtherJson,
    ];
}

/// What a node does with a wish for events that is not the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standby {
    /// 302 to the leader.
    Redirects,
    /// It accepts, and closes at once.
    Closes,
    /// It hands on what the leader says.
    Proxies,
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Auth {
    Anybody,
    /// Name and password.
    Basic(&'static str, &'static str),
    /// As DC/OS has it.
    Token(&'static str),
}

/// How all nodes behave until it is changed.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) auth: Auth,
    pub(crate) standby: Standby,
    /// From one heartbeat of a stream to the next.
    pub(crate) heartbeat: Duration,
    /// How long a node looks for a leader before it says 502.
    pub(crate) election: Duration,
    /// So many events to come are lost in silence.
    pub(crate) lost: usize,
    /// Bytes of a plan that is not light.
    pub(crate) plan: usize,
    /// Where the leader says that it is; else where it is.
    pub(crate) advertised: Option<String>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            auth: Auth::Anybody,
            standby: Standby::Redirects,
            heartbeat: Duration::from_secs(10),
            election: Duration::from_millis(250),
            lost: 0,
            plan: 0,
            advertised: None,
        }
    }
}

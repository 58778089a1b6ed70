//! What there is to tell, without a word of how HAProxy writes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// The process.
    pub process: Process,
    /// What listens and what is behind it, in order.
    pub proxies: Vec<Proxy>,
}

/// The process as a whole.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its name among others.
    pub node: Arc<str>,
    /// Generation of the tables.
    pub generation: u64,
    /// Its number.
    pub pid: u32,
    /// How long it has run.
    pub uptime: Duration,
    /// Threads that carry.
    pub workers: usize,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that may be.
    pub connections_max: usize,
    /// Connections that came so far.
    pub accepted: u64,
    /// The same per second.
    pub rate: Rate,
    /// Requests so far.
    pub requests: u64,
    /// Bytes that went to clients.
    pub bytes_out: u64,
    /// Whether it is draining.
    pub stopping: bool,
}

/// How often something happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// In the last second.
    pub now: u32,
    /// In the second that had most.
    pub most: u32,
}

/// What HAProxy calls a proxy: what listens, what serves, or both.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its name.
    pub name: Arc<str>,
    /// Its number; the same for as long as the process runs.
    pub id: u32,
    /// Whether it carries requests.
    pub http: bool,
    /// What listens.
    pub front: Option<Front>,
    /// Who serves.
    pub servers: Vec<Server>,
    /// All of them together.
    pub back: Option<Back>,
}

/// What listens.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// Open connections.
    pub now: u64,
    /// Most of them at once.
    pub most: u64,
    /// Connections that may be open.
    pub limit: u64,
    /// Connections so far.
    pub total: u64,
    /// Connections per second.
    pub rate: Rate,
    /// Bytes from clients and to them.
    pub bytes: [u64; 2],
    /// Requests that were turned away.
    pub denied: u64,
    /// Requests that were none.
    pub bad: u64,
    /// Connections that were closed at once, for a limit.
    pub refused: u64,
    /// With HTTP: answers by the first digit of the status; index 0 counts all others.
    pub classes: [u64; 6],
    /// Requests per second.
    pub requests: Rate,
}

/// Work, as servers and backends count it.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// What runs.
    pub now: u32,
    /// Most of it at once.
    pub most: u32,
    /// How much may.
    pub limit: Option<u32>,
    /// How much began.
    pub total: u64,
    /// The same per second.
    pub rate: Rate,
    /// Bytes from clients and to them.
    pub bytes: [u64; 2],
    /// Failed connects.
    pub connect_errors: u64,
    /// Answers that were none.
    pub response_errors: u64,
    /// Tries again.
    pub retries: u64,
    /// Of those: at another server.
    pub redispatches: u64,
    /// Broken off by clients.
    pub client_aborts: u64,
    /// Broken off by servers.
    pub server_aborts: u64,
    /// Answers by the first digit of the status; index 0 counts all others.
    pub classes: [u64; 6],
    /// Connections that were made, and work on those that were kept.
    pub connects: [u64; 2],
    /// Queue, connect, response, total: average and most, in milliseconds.
    pub times: [(u32, u32); 4],
    /// How long ago the last one began.
    pub last: Option<Duration>,
}

/// One server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name.
    pub name: Arc<str>,
    /// Its number within the proxy.
    pub id: u32,
    /// Where it is.
    pub address: SocketAddr,
    /// How it stands.
    pub status: Status,
    /// Its weight now, and as its registry has it.
    pub weight: (u16, u16),
    /// What it works.
    pub work: Work,
    /// What is known of its checks, when it is checked.
    pub check: Option<Check>,
    /// How long it has stood so.
    pub changed: Duration,
    /// How often it went down.
    pub downs: u64,
    /// How long it was down in all.
    pub downtime: Duration,
    /// Who it is to operators.
    pub target: Target,
}

/// Who a server is to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The service, where it is clear.
    pub service: Option<Arc<str>>,
    /// The registry.
    pub registry: Arc<str>,
    /// The instance.
    pub id: Arc<str>,
}

/// How a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its checks pass.
    Up,
    /// Nobody checks it.
    Unchecked,
    /// Its checks fail.
    Down,
    /// It gets no new work, by an operator or for its weight.
    Drain,
    /// It is taken out, by an operator or for another colour.
    Maintenance,
}

impl Status {
    /// HAProxy's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Unchecked => "no check",
            Self::Down => "DOWN",
            Self::Drain => "DRAIN",
            Self::Maintenance => "MAINT",
        }
    }

    /// Whether new work may go there.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Up | Self::Unchecked)
    }
}

/// The last word of a server's checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// HAProxy's word: `L4OK`, `L7STS`, …
    pub status: &'static str,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What came.
    pub text: Arc<str>,
}

/// All servers of a proxy together.
#[derive(Debug, Clone, Default)]
pub struct Back {
    /// Who waits now, most that did, and how many may.
    pub queue: [u32; 3],
    /// What they work together.
    pub work: Work,
    /// Name of the policy.
    pub algorithm: &'static str,
    /// How long it has been as it is: up, or down.
    pub changed: Duration,
    /// How often it went down.
    pub downs: u64,
    /// How long it was down in all.
    pub downtime: Duration,
}

impl Proxy {
    /// Servers that get work.
    pub fn serving(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.status.serves())
    }

    /// Whether any server gets work.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.serving().next().is_some()
    }
}

//! What is counted of TCP connections.

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::pipes::Pipes;
use crate::telemetry::metrics::Register as _;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides had said all they had to say.
    Whole,
    /// The client broke it.
    Client,
    /// The endpoint broke it.
    Endpoint,
    /// Nothing moved for the idle time.
    Idle,
    /// It was as old as it may become.
    Lifetime,
    /// Its endpoint has had its time.
    Cut,
    /// No endpoint could be reached.
    Unreached,
    /// No endpoint had a place in time.
    Refused,
}

impl End {
    const ALL: [Self; 8] = [
        Self::Whole,
        Self::Client,
        Self::Endpoint,
        Self::Idle,
        Self::Lifetime,
        Self::Cut,
        Self::Unreached,
        Self::Refused,
    ];

    /// Lower-case word, as metrics and logs write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Client => "client",
            Self::Endpoint => "endpoint",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Cut => "cut",
            Self::Unreached => "unreached",
            Self::Refused => "refused",
        }
    }
}

/// What is counted over all listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    ended: IntCounterVec,
    spliced: IntCounterVec,
    /// The pipes of all connections.
    pub pipes: Pipes,
}

/// What is counted on one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    ended: [IntCounter; 8],
    /// Bytes from clients, and to clients, that the kernel moved.
    pub spliced: [IntCounter; 2],
    /// The pipes of all connections.
    pub pipes: Pipes,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            ended: registry.counter_vec(
                "portolan_proxy_tcp_ended_total",
                "TCP connections that have ended, by listener and how.",
                &["listener", "end"],
            )?,
            spliced: registry.counter_vec(
                "portolan_proxy_tcp_spliced_bytes_total",
                "Bytes of TCP listeners that the kernel moved from socket to socket, by the side they \
                 came from.",
                &["listener", "from"],
            )?,
            pipes: Pipes::register(registry)?,
        })
    }

    /// The handles of one listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        ListenerMetrics {
            ended: End::ALL.map(|end| self.ended.with_label_values(&[name, end.word()])),
            spliced: ["client", "endpoint"]
                .map(|from| self.spliced.with_label_values(&[name, from])),
            pipes: self.pipes.clone(),
        }
    }
}

impl ListenerMetrics {
    /// Counts a connection that has ended.
    pub fn ended(&self, end: End) {
        self.ended[end as usize].inc();
    }
}

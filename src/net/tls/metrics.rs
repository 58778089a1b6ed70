//! What is counted about TLS towards clients.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Registry};

use crate::telemetry::metrics::Register as _;

/// How a handshake ended. The order is that of [`OUTCOMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// Not over in time.
    Timeout,
    /// Too many ran.
    Limit,
    /// What came was HTTP in the clear.
    PlainHttp,
    /// No certificate is for the name, and the listener refuses that.
    UnknownName,
    /// No protocol in common (ALPN).
    NoProtocol,
    /// The client's certificate is missing or was not accepted.
    ClientCertificate,
    /// The client said that it will not have it: it does not trust our certificate, for example.
    Alert,
    /// The client closed, or broke off.
    Closed,
    /// Anything else: no TLS, no version or cipher in common, forged messages.
    Failed,
}

const OUTCOMES: [&str; 10] = [
    "ok",
    "timeout",
    "limit",
    "plain-http",
    "unknown-name",
    "no-protocol",
    "client-certificate",
    "alert",
    "closed",
    "failed",
];

impl Outcome {
    pub(super) const fn word(self) -> &'static str {
        OUTCOMES[self as usize]
    }
}

/// The metrics of TLS towards clients.
#[derive(Debug, Clone)]
pub struct Metrics {
    handshakes: IntCounterVec,
    sessions: IntCounterVec,
    pub(super) expiry: IntGaugeVec,
    pub(super) swaps: IntCounterVec,
    pub(super) failures: IntCounterVec,
}

/// Those of one listener, resolved once.
#[derive(Debug)]
pub(super) struct ListenerMetrics {
    handshakes: [IntCounter; OUTCOMES.len()],
    /// By version, then full and resumed.
    sessions: [[IntCounter; 2]; 2],
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let expiry = registry.gauge_vec(
            "portolan_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that is shown runs out, in seconds since 1970.",
            &["certificate"],
        )?;
        Ok(Self {
            handshakes: registry.counter_vec(
                "portolan_tls_handshakes_total",
                "Handshakes of TLS with clients, by listener and result.",
                &["listener", "result"],
            )?,
            sessions: registry.counter_vec(
                "portolan_tls_sessions_total",
                "Handshakes of TLS that succeeded, by listener, version and whether a session was \
                 resumed.",
                &["listener", "version", "resumed"],
            )?,
            expiry,
            swaps: registry.counter_vec(
                "portolan_tls_certificate_swaps_total",
                "Certificates that were replaced because their files changed.",
                &["certificate"],
            )?,
            failures: registry.counter_vec(
                "portolan_tls_certificate_failures_total",
                "Changes of certificate files that could not be used, so that the last good \
                 certificate stayed.",
                &["certificate"],
            )?,
        })
    }

    pub(super) fn listener(&self, name: &str) -> ListenerMetrics {
        let session = |version, resumed| self.sessions.with_label_values(&[name, version, resumed]);
        ListenerMetrics {
            handshakes: OUTCOMES.map(|word| self.handshakes.with_label_values(&[name, word])),
            sessions: ["1.2", "1.3"]
                .map(|version| ["false", "true"].map(|resumed| session(version, resumed))),
        }
    }
}

impl ListenerMetrics {
    pub(super) fn handshake(&self, outcome: Outcome) {
        self.handshakes[outcome as usize].inc();
    }

    pub(super) fn session(&self, newest: bool, resumed: bool) {
        self.sessions[usize::from(newest)][usize::from(resumed)].inc();
    }
}

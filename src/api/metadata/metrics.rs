//! What the metadata API counts.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::telemetry::metrics::Register as _;

/// Metrics of the metadata API.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) answered: IntCounter,
    pub(super) not_found: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) rendered: IntCounter,
    pub(super) polls: IntGauge,
    pub(super) changed: IntCounter,
    pub(super) expired: IntCounter,
    pub(super) ended: IntCounter,
    pub(super) left: IntCounter,
    pub(super) turned_away: IntCounter,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = registry.counter_vec(
            "portolan_metadata_requests_total",
            "Requests answered, by result.",
            &["result"],
        )?;
        let polls_total = registry.counter_vec(
            "portolan_metadata_polls_total",
            "Polls that waited, by what ended them.",
            &["end"],
        )?;
        let polls = registry.gauge("portolan_metadata_polls", "Polls that wait now.")?;
        let rendered = registry.counter(
            "portolan_metadata_renderings_total",
            "Answers put together; requests beyond them were given one that was kept.",
        )?;
        let of = |result: &str| requests.with_label_values(&[result]);
        let end = |end: &str| polls_total.with_label_values(&[end]);
        Ok(Self {
            answered: of("ok"),
            not_found: of("not_found"),
            refused: of("refused"),
            failed: of("failed"),
            rendered,
            polls,
            changed: end("changed"),
            expired: end("expired"),
            ended: end("drained"),
            left: end("left"),
            turned_away: end("refused"),
        })
    }
}

//! What the metadata API counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

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
        let requests = IntCounterVec::new(
            Opts::new("portolan_metadata_requests_total", "Requests answered, by result."),
            &["result"],
        )?;
        let polls_total = IntCounterVec::new(
            Opts::new("portolan_metadata_polls_total", "Polls that waited, by what ended them."),
            &["end"],
        )?;
        let polls = IntGauge::new("portolan_metadata_polls", "Polls that wait now.")?;
        let rendered = IntCounter::new(
            "portolan_metadata_renderings_total",
            "Answers put together; requests beyond them were given one that was kept.",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(polls_total.clone()))?;
        registry.register(Box::new(polls.clone()))?;
        registry.register(Box::new(rendered.clone()))?;
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

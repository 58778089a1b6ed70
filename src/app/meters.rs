//! The metrics of every room.

use std::sync::Arc;

use prometheus::IntCounter;

use crate::catalog::store::writer;
use crate::health::OutlierMetrics;
use crate::health::deliver::EventMetrics;
use crate::proxy::log::Sinks;
use crate::telemetry::metrics::Register as _;
use crate::{api, dns, health, proxy, registry, render};

/// The metrics of every room, registered once.
pub(super) struct Meters {
    /// The access logs, which count what they write.
    pub(super) logs: Arc<Sinks>,
    pub(super) departures: super::departures::Metrics,
    pub(super) operate: api::operate::Metrics,
    pub(super) accept: crate::net::accept::Metrics,
    pub(super) dns: dns::Metrics,
    pub(super) events: EventMetrics,
    pub(super) outliers: OutlierMetrics,
    pub(super) health: health::Metrics,
    pub(super) metadata: api::metadata::Metrics,
    pub(super) proxy: proxy::metrics::Metrics,
    pub(super) registry: registry::Metrics,
    pub(super) render: render::Metrics,
    pub(super) store: writer::Metrics,
    pub(super) tls: crate::net::tls::Metrics,
    pub(super) upgrades_refused: IntCounter,
}

impl Meters {
    pub(super) fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let build = registry.gauge_vec(
            "portolan_build_info",
            "Always 1; the label tells the version.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let upgrades_refused = registry.counter(
            "portolan_process_upgrades_refused_total",
            "Upgrades that did not come about, so that this process went on.",
        )?;
        Ok(Self {
            logs: Arc::new(Sinks::new(proxy::log::Metrics::register(registry)?)),
            departures: super::departures::Metrics::register(registry)?,
            operate: api::operate::Metrics::register(registry)?,
            accept: crate::net::accept::Metrics::register(registry)?,
            dns: dns::Metrics::register(registry)?,
            events: EventMetrics::register(registry)?,
            outliers: OutlierMetrics::register(registry)?,
            health: health::Metrics::register(registry)?,
            metadata: api::metadata::Metrics::register(registry)?,
            proxy: proxy::metrics::Metrics::register(registry)?,
            registry: registry::Metrics::register(registry)?,
            render: render::Metrics::register(registry)?,
            store: writer::Metrics::register(registry)?,
            tls: crate::net::tls::Metrics::register(registry)?,
            upgrades_refused,
        })
    }
}

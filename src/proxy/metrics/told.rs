//! What listeners have counted so far, for who reads statistics; not for hot paths.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;

use super::super::route_metrics::Sums;
use super::Metrics;

/// What the HTTP listeners have counted so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// Requests by listener.
    pub requests: HashMap<Arc<str>, Sums>,
    /// Requests that were refused before routing, by listener.
    pub refused: HashMap<String, u64>,
}

impl Metrics {
    /// What the HTTP listeners have counted so far. Costs what there are routes.
    #[must_use]
    pub fn told(&self) -> Told {
        let mut refused: HashMap<String, u64> = HashMap::new();
        let families = self.refused.collect();
        for metric in families.iter().flat_map(MetricFamily::get_metric) {
            let listener = metric.get_label().iter().find(|label| label.name() == "listener");
            if let Some(listener) = listener {
                let count = metric.get_counter().get_value() as u64;
                *refused.entry(listener.value().to_owned()).or_default() += count;
            }
        }
        Told { requests: self.routes.by_listener(), refused }
    }

    /// What these routes have counted so far that are counted under the name `listener`.
    #[must_use]
    pub fn of_routes<'a>(
        &self,
        listener: &Arc<str>,
        routes: impl Iterator<Item = &'a Arc<str>>,
    ) -> Sums {
        self.routes.of_routes(listener, routes)
    }

    /// Bytes that came from clients of the TCP listener called `name`, and that went to them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> [u64; 2] {
        ["client", "endpoint"].map(|from| self.bytes.with_label_values(&[name, from]).get())
    }
}

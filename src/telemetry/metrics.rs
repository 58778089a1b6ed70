//! Metrics that their registry knows from the start: none is counted and never shown.

use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, core::Collector,
};

/// Makes metrics and registers them.
pub trait Register {
    /// Makes `metric` known to the registry.
    ///
    /// # Errors
    /// When one of its names is taken.
    fn registered<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, Error>;

    /// A counter.
    ///
    /// # Errors
    /// When the name is taken, or is none.
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.registered(IntCounter::new(name, help)?)
    }

    /// A counter for all values of `labels`.
    ///
    /// # Errors
    /// When the name is taken, or it or a label is none.
    fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A gauge.
    ///
    /// # Errors
    /// When the name is taken, or is none.
    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.registered(IntGauge::new(name, help)?)
    }

    /// A gauge for all values of `labels`.
    ///
    /// # Errors
    /// When the name is taken, or it or a label is none.
    fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A histogram with these upper bounds.
    ///
    /// # Errors
    /// When the name is taken, or is none.
    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram, Error> {
        self.registered(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    /// A histogram with these upper bounds for all values of `labels`.
    ///
    /// # Errors
    /// When the name is taken, or it or a label is none.
    fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
        labels: &[&str],
    ) -> Result<HistogramVec, Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        self.registered(HistogramVec::new(options, labels)?)
    }
}

impl Register for Registry {
    fn registered<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, Error> {
        self.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

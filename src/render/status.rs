//! How each resource stands: for operators in words, for Prometheus in numbers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use serde::Serialize;

use super::Resource;

/// How one resource stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The template.
    pub source: PathBuf,
    /// The file.
    pub destination: PathBuf,
    /// The latest generation that the file agrees with; 0 before the first.
    pub generation: u64,
    /// When the file was replaced last by this process.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub written_at: Option<SystemTime>,
    /// Why the file is not up to date, while it is not.
    pub error: Option<String>,
    /// The registry that must be heard before the file is rendered, while that is so.
    pub waiting_for: Option<Arc<str>>,
    /// The reload, once one was due.
    pub reload: Option<ReloadStatus>,
}

/// How the reload of one resource stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReloadStatus {
    /// Whether one is due: the file changed and no reload has succeeded since.
    pub due: bool,
    /// When it was tried last.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub tried_at: Option<SystemTime>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

impl ResourceStatus {
    pub(super) fn of(resource: &Resource) -> Self {
        Self {
            name: Arc::clone(&resource.name),
            source: resource.source.clone(),
            destination: resource.destination.clone(),
            generation: 0,
            written_at: None,
            error: None,
            waiting_for: None,
            reload: None,
        }
    }
}

/// Metrics of all resources.
#[derive(Debug, Clone)]
pub struct Metrics {
    renders: IntCounterVec,
    checks: IntCounterVec,
    reloads: IntCounterVec,
    writes: IntCounterVec,
    generation: IntGaugeVec,
}

/// Metrics of one resource.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    pub(super) rendered: IntCounter,
    pub(super) render_failed: IntCounter,
    pub(super) checked: IntCounter,
    pub(super) check_failed: IntCounter,
    pub(super) reloaded: IntCounter,
    pub(super) reload_failed: IntCounter,
    pub(super) written: IntCounter,
    pub(super) generation: IntGauge,
}

impl Metrics {
    /// Registers the metrics of this room.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let by_result = ["template", "result"];
        let generation = IntGaugeVec::new(
            Opts::new(
                "portolan_render_generation",
                "Latest generation of the snapshot that the file agrees with.",
            ),
            &["template"],
        )?;
        registry.register(Box::new(generation.clone()))?;
        Ok(Self {
            renders: counter(
                "portolan_render_evaluations_total",
                "Evaluations of templates, by result.",
                &by_result,
            )?,
            checks: counter(
                "portolan_render_checks_total",
                "Runs of the check command on a staged file, by result.",
                &by_result,
            )?,
            reloads: counter(
                "portolan_render_reloads_total",
                "Runs of the reload command, by result.",
                &by_result,
            )?,
            writes: counter(
                "portolan_render_writes_total",
                "Files replaced because their content changed.",
                &["template"],
            )?,
            generation,
        })
    }

    pub(super) fn meters(&self, name: &str) -> Meters {
        let ok = |counter: &IntCounterVec| counter.with_label_values(&[name, "ok"]);
        let failed = |counter: &IntCounterVec| counter.with_label_values(&[name, "failed"]);
        Meters {
            rendered: ok(&self.renders),
            render_failed: failed(&self.renders),
            checked: ok(&self.checks),
            check_failed: failed(&self.checks),
            reloaded: ok(&self.reloads),
            reload_failed: failed(&self.reloads),
            written: self.writes.with_label_values(&[name]),
            generation: self.generation.with_label_values(&[name]),
        }
    }
}

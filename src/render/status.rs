//! How each resource stands: for operators in words, for Prometheus in numbers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use serde::Serialize;

use super::Resource;
use crate::telemetry::metrics::Register as _;

/// How one resource stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The group with which it changes, if it is in one.
    pub group: Option<Arc<str>>,
    /// The template.
    pub source: PathBuf,
    /// The file.
    pub destination: PathBuf,
    /// The latest generation that the file agrees with; 0 before the first.
    pub generation: u64,
    /// When the template was evaluated last.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub rendered_at: Option<SystemTime>,
    /// How long that took, in microseconds.
    pub render_microseconds: Option<u64>,
    /// How many things it asked for then.
    pub inputs: usize,
    /// The first of them.
    pub asked_for: Vec<String>,
    /// When the file was replaced last by this process.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub written_at: Option<SystemTime>,
    /// Whether that was done in place, so that a reader could see a part of it.
    pub in_place: bool,
    /// Why the file is not up to date, while it is not.
    pub error: Option<String>,
    /// How the check went last, once there was one.
    pub check: Option<CheckStatus>,
    /// The registry that must be heard before the file is rendered, while that is so.
    pub waiting_for: Option<Arc<str>>,
    /// The reload, once one was due.
    pub reload: Option<ReloadStatus>,
}

/// How the check of one resource went last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckStatus {
    /// When it ended.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub at: SystemTime,
    /// Whether the staged file passed.
    pub passed: bool,
    /// The end of what it wrote, and how it failed if it did.
    pub output: String,
}

/// How the reload of one resource stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReloadStatus {
    /// Whether one is due: the file changed and no reload has succeeded since.
    pub due: bool,
    /// Since when one is due, while it is.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub pending_since: Option<SystemTime>,
    /// Whether that survives a crash: it stands in the journal below `data_dir`.
    pub durable: bool,
    /// Before when none is tried again, while one is put off.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub next_at: Option<SystemTime>,
    /// When it was tried last.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub tried_at: Option<SystemTime>,
    /// When it succeeded last.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub succeeded_at: Option<SystemTime>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

impl ResourceStatus {
    pub(super) fn of(resource: &Resource) -> Self {
        Self {
            name: Arc::clone(&resource.name),
            source: resource.source.clone(),
            destination: resource.destination.clone(),
            group: resource.config.group.as_deref().map(Into::into),
            generation: 0,
            rendered_at: None,
            render_microseconds: None,
            inputs: 0,
            asked_for: Vec::new(),
            written_at: None,
            in_place: false,
            error: None,
            check: None,
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
    repairs: IntCounterVec,
    generation: IntGaugeVec,
    took: Histogram,
    pub(super) pending: IntGauge,
    pub(super) roll_backs: IntCounter,
    pub(super) journal_failures: IntCounter,
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
    pub(super) repaired: IntCounter,
    pub(super) generation: IntGauge,
    pub(super) took: Histogram,
}

impl Metrics {
    /// Registers the metrics of this room.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let by_result = ["template", "result"];
        let generation = registry.gauge_vec(
            "portolan_render_generation",
            "Latest generation of the snapshot that the file agrees with.",
            &["template"],
        )?;
        let took = registry.histogram(
            "portolan_render_duration_seconds",
            "Time that an evaluation of a template took.",
            vec![0.0001, 0.001, 0.01, 0.1, 1.0, 10.0],
        )?;
        let pending = registry.gauge(
            "portolan_render_reloads_pending",
            "Templates and groups whose files changed and whose readers were not told yet.",
        )?;
        let roll_backs = registry.counter(
            "portolan_render_roll_backs_total",
            "Groups whose old files came back because a reload failed.",
        )?;
        let journal_failures = registry.counter(
            "portolan_render_journal_failures_total",
            "Intents that could not be written to the journal of reloads.",
        )?;
        Ok(Self {
            renders: registry.counter_vec(
                "portolan_render_evaluations_total",
                "Evaluations of templates, by result.",
                &by_result,
            )?,
            checks: registry.counter_vec(
                "portolan_render_checks_total",
                "Runs of the check command on a staged file, by result.",
                &by_result,
            )?,
            reloads: registry.counter_vec(
                "portolan_render_reloads_total",
                "Reloads that ran after a template's file changed, by result.",
                &by_result,
            )?,
            writes: registry.counter_vec(
                "portolan_render_writes_total",
                "Files replaced because their content changed.",
                &["template"],
            )?,
            repairs: registry.counter_vec(
                "portolan_render_repairs_total",
                "Files whose mode or owner was corrected while their content was right.",
                &["template"],
            )?,
            generation,
            took,
            pending,
            roll_backs,
            journal_failures,
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
            repaired: self.repairs.with_label_values(&[name]),
            took: self.took.clone(),
            generation: self.generation.with_label_values(&[name]),
        }
    }
}

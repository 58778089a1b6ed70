//! Numbers of the link to a Marathon.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::telemetry::metrics::Register as _;

/// The types of events that are counted by name; others together, as `other`.
const KINDS: [&str; 24] = [
    "event_stream_attached",
    "event_stream_detached",
    "status_update_event",
    "instance_changed_event",
    "instance_health_changed_event",
    "health_status_changed_event",
    "failed_health_check_event",
    "unhealthy_instance_kill_event",
    "unhealthy_task_kill_event",
    "unknown_instance_terminated_event",
    "api_post_event",
    "app_terminated_event",
    "group_change_success",
    "group_change_failed",
    "pod_created_event",
    "pod_updated_event",
    "pod_deleted_event",
    "deployment_info",
    "deployment_success",
    "deployment_failed",
    "deployment_step_success",
    "deployment_step_failure",
    "scheduler_registered_event",
    "scheduler_reregistered_event",
];

/// Metrics of all registries of this kind.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Metrics {
    events: IntCounterVec,
    ignored: IntCounterVec,
    dropped: IntCounterVec,
    reads: IntCounterVec,
    breaks: IntCounterVec,
    streaming: IntGaugeVec,
    dirty: IntGaugeVec,
    ignored_fields: IntGaugeVec,
    tasks: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    pub(in crate::registry) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| registry.gauge_vec(name, help, &["registry"]);
        Ok(Self {
            events: registry.counter_vec(
                "portolan_marathon_events_total",
                "Events that a Marathon sent, by type.",
                &["registry", "type"],
            )?,
            ignored: registry.counter_vec(
                "portolan_marathon_events_ignored_total",
                "Events of a type that is not known.",
                &["registry"],
            )?,
            dropped: registry.counter_vec(
                "portolan_marathon_events_dropped_total",
                "Events that were not taken in, so that everything was read, by reason.",
                &["registry", "reason"],
            )?,
            reads: registry.counter_vec(
                "portolan_marathon_reads_total",
                "Reads of everything and of single apps, by result.",
                &["registry", "what", "result"],
            )?,
            breaks: registry.counter_vec(
                "portolan_marathon_stream_breaks_total",
                "Event streams that ended, or came to nothing.",
                &["registry"],
            )?,
            streaming: gauge(
                "portolan_marathon_stream_up",
                "Whether events are followed and everything was read behind them.",
            )?,
            dirty: gauge(
                "portolan_marathon_dirty_apps",
                "Apps that an event named and that are yet to be read.",
            )?,
            ignored_fields: gauge(
                "portolan_marathon_ignored_fields",
                "Fields of apps and pods in the last read of everything that are not known.",
            )?,
            tasks: gauge("portolan_marathon_tasks", "Tasks of apps and pods that are known.")?,
        })
    }

    /// Those of the registry called `name`.
    pub(super) fn meters(&self, name: &str) -> Meters {
        let reads = |what, result| self.reads.with_label_values(&[name, what, result]);
        let dropped = |reason| self.dropped.with_label_values(&[name, reason]);
        Meters {
            events: KINDS.map(|kind| (kind, self.events.with_label_values(&[name, kind]))).into(),
            other: self.events.with_label_values(&[name, "other"]),
            ignored: self.ignored.with_label_values(&[name]),
            too_large: dropped("too_large"),
            unreadable: dropped("unreadable"),
            full: Results { ok: reads("everything", "ok"), failed: reads("everything", "failed") },
            app: Results { ok: reads("app", "ok"), failed: reads("app", "failed") },
            breaks: self.breaks.with_label_values(&[name]),
            streaming: self.streaming.with_label_values(&[name]),
            dirty: self.dirty.with_label_values(&[name]),
            ignored_fields: self.ignored_fields.with_label_values(&[name]),
            tasks: self.tasks.with_label_values(&[name]),
        }
    }
}

/// Metrics of one registry.
#[derive(Debug)]
pub(super) struct Meters {
    events: Vec<(&'static str, IntCounter)>,
    other: IntCounter,
    pub(super) ignored: IntCounter,
    pub(super) too_large: IntCounter,
    pub(super) unreadable: IntCounter,
    pub(super) full: Results,
    pub(super) app: Results,
    pub(super) breaks: IntCounter,
    pub(super) streaming: IntGauge,
    pub(super) dirty: IntGauge,
    pub(super) ignored_fields: IntGauge,
    pub(super) tasks: IntGauge,
}

/// How often something was read, and could not be.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) ok: IntCounter,
    pub(super) failed: IntCounter,
}

impl Results {
    /// Counts one.
    pub(super) fn count(&self, ok: bool) {
        if ok { self.ok.inc() } else { self.failed.inc() }
    }
}

impl Meters {
    /// An event of this type came.
    pub(super) fn event(&self, kind: &str) {
        let known = self.events.iter().find(|(known, _)| *known == kind);
        known.map_or(&self.other, |(_, counter)| counter).inc();
    }
}

//! Events of the stream, 0.9 to 1.11. They say whom to look at again, and the fastest of them what
//! is true at once. Pure.

use std::sync::Arc;

use super::broken::Broken;
use super::decode::{self, RawEvent};
use super::fields::Text;
use super::state::TaskState;

/// One event, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum Event {
    /// Somebody, perhaps this process, has begun to listen.
    Attached,
    /// Somebody, perhaps another process, has ceased to listen.
    Detached,
    /// A task, or an instance, is in another state.
    Task {
        /// Its app or pod.
        app: Arc<str>,
        /// Id of the task or of the instance.
        task: Arc<str>,
        /// What it is in now.
        state: TaskState,
    },
    /// A health check has come to another result.
    Health {
        /// The app or pod.
        app: Arc<str>,
        /// Id of the task or of the instance.
        instance: Arc<str>,
        /// The result; none: nothing is known any more.
        healthy: Option<bool>,
    },
    /// An app or pod is to be read again.
    Dirty(Arc<str>),
    /// A deployment goes on, or ends: these are to be read again, and all that stood in one.
    Deployed(Vec<Arc<str>>),
    /// Everything is to be read again.
    AllDirty,
    /// An app was taken down: reading it will say that it is gone.
    Gone(Arc<str>),
    /// The leader has begun its work with Mesos.
    LeaderReady,
    /// Nothing that counts.
    Noise {
        /// Whether the kind is known at all.
        known: bool,
    },
}

impl Event {
    /// Reads the event called `kind` (or, when that is empty, what its data call it).
    ///
    /// # Errors
    /// When the data of a kind that counts are no JSON or lack what that kind always has.
    pub(in crate::registry) fn read(kind: &str, data: &[u8]) -> Result<Self, Broken> {
        if let Some(event) = by_kind(kind) {
            return Ok(event);
        }
        let raw: RawEvent<'_> = decode::read(data)
            .map_err(|why| Broken::Shape { what: "an event", why: format!("{kind:?}: {why}") })?;
        let kind = if kind.is_empty() { raw.kind.as_deref().unwrap_or_default() } else { kind };
        match by_kind(kind) {
            Some(event) => Ok(event),
            None => by_data(kind, &raw),
        }
    }

    /// The app or pod that it is about, when it is about one.
    pub(in crate::registry) const fn app(&self) -> Option<&Arc<str>> {
        match self {
            Self::Task { app, .. }
            | Self::Health { app, .. }
            | Self::Dirty(app)
            | Self::Gone(app) => Some(app),
            _ => None,
        }
    }
}

/// The event of a kind whose data do not matter; none for one whose data do.
fn by_kind(kind: &str) -> Option<Event> {
    Some(match kind {
        "event_stream_attached" => Event::Attached,
        "event_stream_detached" => Event::Detached,
        "scheduler_registered_event" | "scheduler_reregistered_event" => Event::LeaderReady,
        "group_change_success"
        | "pod_created_event"
        | "pod_updated_event"
        | "pod_deleted_event" => Event::AllDirty,
        "group_change_failed"
        | "failed_health_check_event"
        | "framework_message_event"
        | "scheduler_disconnected_event"
        | "subscribe_event"
        | "unsubscribe_event"
        | "unknown_instance_terminated_event" => Event::Noise { known: true },
        ""
        | "status_update_event"
        | "instance_changed_event"
        | "instance_health_changed_event"
        | "health_status_changed_event"
        | "add_health_check_event"
        | "remove_health_check_event"
        | "unhealthy_task_kill_event"
        | "unhealthy_instance_kill_event"
        | "api_post_event"
        | "app_terminated_event"
        | "deployment_info"
        | "deployment_success"
        | "deployment_failed"
        | "deployment_step_success"
        | "deployment_step_failure" => return None,
        _ => Event::Noise { known: false },
    })
}

fn by_data(kind: &str, raw: &RawEvent<'_>) -> Result<Event, Broken> {
    let lacks = |field| Broken::Lacks { kind: kind.to_owned(), field };
    let app = || {
        let told = raw.app.as_ref().or(raw.run_spec.as_ref());
        told.map(|app| absolute(app)).ok_or_else(|| lacks("appId"))
    };
    let of = |first: &Option<Text<'_>>, second: &Option<Text<'_>>, field| {
        let told = first.as_ref().or(second.as_ref());
        told.map(|id| Arc::<str>::from(&**id)).ok_or_else(|| lacks(field))
    };
    Ok(match kind {
        "status_update_event" => {
            let state = raw.status.as_deref().ok_or_else(|| lacks("taskStatus"))?;
            let task = of(&raw.task, &raw.instance, "taskId")?;
            Event::Task { app: app()?, task, state: TaskState::read(state) }
        }
        "instance_changed_event" => {
            let state = raw.condition.as_deref().ok_or_else(|| lacks("condition"))?;
            let task = of(&raw.instance, &raw.task, "instanceId")?;
            Event::Task { app: app()?, task, state: TaskState::read(state) }
        }
        "instance_health_changed_event" => {
            let instance = of(&raw.instance, &raw.task, "instanceId")?;
            Event::Health { app: app()?, instance, healthy: raw.healthy }
        }
        "health_status_changed_event" => {
            let instance = of(&raw.instance, &raw.task, "instanceId")?;
            Event::Health { app: app()?, instance, healthy: raw.alive }
        }
        "app_terminated_event" => Event::Gone(app()?),
        "api_post_event" => match raw.definition.as_ref().and_then(|app| app.id.as_ref()) {
            Some(id) => Event::Dirty(absolute(id)),
            None => {
                raw.uri.as_ref().and_then(|uri| named_by(uri)).map_or(Event::AllDirty, Event::Dirty)
            }
        },
        "deployment_info"
        | "deployment_success"
        | "deployment_failed"
        | "deployment_step_success"
        | "deployment_step_failure" => Event::Deployed(deployed(raw)),
        "" => return Err(lacks("eventType")),
        _ => Event::Dirty(app()?),
    })
}

/// The app that a request's path names: `/v2/apps/shop/web`, or with two slashes before `shop`.
fn named_by(uri: &str) -> Option<Arc<str>> {
    let id = uri.split('?').next()?.strip_prefix("/v2/apps/")?;
    let id = id.trim_start_matches('/');
    (!id.is_empty()).then(|| absolute(id))
}

fn absolute(id: &str) -> Arc<str> {
    if id.starts_with('/') { id.into() } else { format!("/{id}").into() }
}

/// Everybody to whom the plan or its step does something, sorted.
fn deployed(raw: &RawEvent<'_>) -> Vec<Arc<str>> {
    let steps = raw.plan.iter().filter_map(|plan| plan.steps.as_ref()).flatten();
    let mut told: Vec<Arc<str>> = Vec::new();
    for step in steps.chain(raw.step.as_ref()) {
        told.extend(step.app.iter().map(|app| absolute(app)));
        for action in step.actions.iter().flatten() {
            told.extend(action.app.iter().chain(&action.pod).map(|id| absolute(id)));
        }
    }
    told.sort();
    told.dedup();
    told
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;

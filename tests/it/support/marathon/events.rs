//! What Marathon tells of a change, by its event stream.

use bytes::Bytes;
use serde_json::{Value, json};

use super::era::{Era, time};
use super::shapes;
use super::world::{App, Net};

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) kind: &'static str,
    /// With a whole plan if it has one: written at length only for those who ask.
    pub(crate) data: Value,
}

impl Said {
    pub(crate) fn new(kind: &'static str, mut data: Value) -> Self {
        data["eventType"] = kind.into();
        data["timestamp"] = time(77).into();
        Self { kind, data }
    }

    /// As it goes over the wire. A plan that is not light has `bulk` bytes of groups in it.
    pub(super) fn frame(&self, line: &str, light: bool, bulk: usize) -> Bytes {
        let mut data = self.data.clone();
        if !light && data["plan"].is_object() {
            let group = json!({"id": "/", "version": time(1), "dependencies": [], "groups": [],
                "apps": [{"id": "/other", "cmd": "x".repeat(bulk), "env": {}, "labels": {}}]});
            data["plan"]["original"] = group.clone();
            data["plan"]["target"] = group;
        }
        format!("event: {}{line}data: {data}{line}{line}", self.kind).into()
    }
}

/// The stream begins; told to all streams.
pub(super) fn attached() -> Said {
    Said::new("event_stream_attached", json!({"remoteAddress": "127.0.0.1"}))
}

/// What nobody has heard of yet.
pub(crate) fn unheard_of() -> Said {
    Said::new("quota_changed_event", json!({"appId": "/nobody", "quota": {"cpus": [1, 2]}}))
}

pub(super) fn api_post(era: Era, id: &str, app: &App) -> Said {
    let definition = shapes::app(era, id, app, false);
    let uri = format!("/v2/apps/{id}");
    Said::new(
        "api_post_event",
        json!({"clientIp": "10.0.0.9", "uri": uri, "appDefinition": definition}),
    )
}

pub(super) fn group_change(id: &str) -> Said {
    let group = id.rsplit_once('/').map_or("/", |(group, _)| group);
    let group = if group.is_empty() { "/" } else { group };
    Said::new("group_change_success", json!({"groupId": group, "version": time(9)}))
}

pub(super) fn deployment(kind: &'static str, deployment: &str, id: &str) -> Said {
    let actions = json!({"actions": [{"action": "RestartApplication", "app": id}]});
    let plan = json!({"id": deployment, "version": time(9), "steps": [actions]});
    Said::new(kind, json!({"id": deployment, "plan": plan, "currentStep": actions}))
}

pub(super) fn app_terminated(id: &str) -> Said {
    Said::new("app_terminated_event", json!({"appId": id}))
}

pub(super) fn pod(what: &str, id: &str) -> Said {
    let kind = match what {
        "created" => "pod_created_event",
        "updated" => "pod_updated_event",
        _ => "pod_deleted_event",
    };
    Said::new(kind, json!({"clientIp": "10.0.0.9", "uri": format!("/v2/pods/{id}")}))
}

/// What the checks of a task say.
pub(super) fn health(era: Era, id: &str, own: &str, alive: bool, version: u32) -> Vec<Said> {
    let mut changed = json!({"appId": id, "version": time(version), "alive": alive});
    if !era.has_instances() {
        changed["taskId"] = era.task_id(id, own).into();
        return vec![Said::new("health_status_changed_event", changed)];
    }
    changed["instanceId"] = era.instance_id(id, own).into();
    let instance = json!({"instanceId": era.instance_id(id, own), "runSpecId": id,
        "healthy": alive, "runSpecVersion": time(version)});
    let mut said = vec![
        Said::new("instance_health_changed_event", instance),
        Said::new("health_status_changed_event", changed),
    ];
    if !alive {
        let failed = json!({"appId": id, "instanceId": era.instance_id(id, own),
            "healthCheck": {"protocol": "HTTP", "path": "/health", "portIndex": 0}});
        said.insert(0, Said::new("failed_health_check_event", failed));
    }
    said
}

/// A task, or an instance of a pod, has come to a state.
pub(super) fn state(era: Era, id: &str, app: &App, own: &str, word: &str) -> Vec<Said> {
    let Some(task) = app.tasks.get(own) else { return Vec::new() };
    let (host, agent) = (shapes::host(app, task), "5b1c4d2e-9a61-4f5a-8c9b-3e1070b3d580-S3");
    let condition = match word {
        "TASK_STAGING" => "Staging",
        "TASK_RUNNING" => "Running",
        "TASK_KILLING" => "Killing",
        "TASK_KILLED" => "Killed",
        "TASK_FAILED" => "Failed",
        "TASK_UNREACHABLE" => "Unreachable",
        _ => "Gone",
    };
    let instance = json!({"instanceId": era.instance_id(id, own), "condition": condition,
        "runSpecId": id, "agentId": agent, "host": host, "runSpecVersion": time(task.version)});
    let instance = Said::new("instance_changed_event", instance);
    if app.net == Net::Pod {
        return vec![instance];
    }
    let mut update = json!({"slaveId": agent, "taskId": era.task_id(id, own), "taskStatus": word,
        "message": "", "appId": id, "host": host, "ports": shapes::host_ports(app, task),
        "version": time(task.version)});
    if !era.has_instances() {
        return vec![Said::new("status_update_event", update)];
    }
    update["ipAddresses"] = shapes::addresses(app, task);
    vec![instance, Said::new("status_update_event", update)]
}

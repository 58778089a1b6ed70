use super::*;

const UUID: &str = "0a1b2c3d-1111-11e6-aaaa-02421a2b3c4d";

fn read(kind: &str, data: &str) -> Event {
    Event::read(kind, data.replace("UUID", UUID).as_bytes()).unwrap()
}

fn task(app: &str, task: &str, state: TaskState) -> Event {
    Event::Task { app: app.into(), task: task.replace("UUID", UUID).into(), state }
}

fn health(app: &str, instance: &str, healthy: Option<bool>) -> Event {
    Event::Health { app: app.into(), instance: instance.replace("UUID", UUID).into(), healthy }
}

fn deployed(apps: &[&str]) -> Event {
    Event::Deployed(apps.iter().map(|app| (*app).into()).collect())
}

/// One of every kind that the versions from 0.9 to 1.11 send, in their shapes.
#[test]
fn events_of_all_versions_are_read() {
    let known = Event::Noise { known: true };
    for (version, kind, data, want) in [
        (
            "0.9",
            "event_stream_attached",
            r#"{"remoteAddress":"10.0.0.9","eventType":"event_stream_attached","timestamp":"2015-10-01T10:00:00.000Z"}"#,
            Event::Attached,
        ),
        (
            "0.9",
            "event_stream_detached",
            r#"{"remoteAddress":"10.0.0.9","eventType":"event_stream_detached"}"#,
            Event::Detached,
        ),
        (
            "0.9",
            "status_update_event",
            r#"{"slaveId":"20150801-1-S0","taskId":"shop_web.UUID","taskStatus":"TASK_RUNNING","message":"","appId":"/shop/web","host":"a1.shop.test","ports":[31005],"version":"2015-09-11T22:00:00.000Z","eventType":"status_update_event"}"#,
            task("/shop/web", "shop_web.UUID", TaskState::Running),
        ),
        (
            "1.1",
            "status_update_event",
            r#"{"slaveId":"S1","taskId":"shop_web.UUID","taskStatus":"TASK_KILLING","message":null,"appId":"/shop/web","host":"10.0.0.1","ipAddresses":[{"ipAddress":"10.0.0.1","protocol":"IPv4"}],"ports":[31005],"version":"v"}"#,
            task("/shop/web", "shop_web.UUID", TaskState::Killing),
        ),
        (
            "1.9",
            "status_update_event",
            r#"{"slaveId":"S1","taskId":"shop_web.instance-UUID._app.1","taskStatus":"TASK_GONE_BY_OPERATOR","appId":"/shop/web","host":"10.0.0.1","ipAddresses":[],"ports":[],"version":"v"}"#,
            task("/shop/web", "shop_web.instance-UUID._app.1", TaskState::Ended),
        ),
        (
            "1.5",
            "status_update_event",
            r#"{"taskId":"t","taskStatus":"TASK_UNREACHABLE","appId":"/a"}"#,
            task("/a", "t", TaskState::Unreachable),
        ),
        (
            "1.4",
            "instance_changed_event",
            r#"{"instanceId":"shop_web.marathon-UUID","condition":"Killing","runSpecId":"/shop/web","agentId":"S1","host":"10.0.0.1","runSpecVersion":"v","timestamp":"t","eventType":"instance_changed_event"}"#,
            task("/shop/web", "shop_web.marathon-UUID", TaskState::Killing),
        ),
        (
            "1.8",
            "instance_changed_event",
            r#"{"instanceId":"shop_web.instance-UUID","condition":"Provisioned","runSpecId":"/shop/web","agentId":null,"host":null,"runSpecVersion":"v"}"#,
            task("/shop/web", "shop_web.instance-UUID", TaskState::Starting),
        ),
        (
            "1.4",
            "instance_health_changed_event",
            r#"{"instanceId":"shop_web.instance-UUID","runSpecId":"/shop/web","healthy":true,"runSpecVersion":"v"}"#,
            health("/shop/web", "shop_web.instance-UUID", Some(true)),
        ),
        (
            "1.4",
            "instance_health_changed_event",
            r#"{"instanceId":"i","runSpecId":"/a","healthy":null,"runSpecVersion":"v"}"#,
            health("/a", "i", None),
        ),
        (
            "0.9",
            "health_status_changed_event",
            r#"{"appId":"/shop/web","taskId":"shop_web.UUID","version":"v","alive":false,"eventType":"health_status_changed_event"}"#,
            health("/shop/web", "shop_web.UUID", Some(false)),
        ),
        (
            "1.4",
            "health_status_changed_event",
            r#"{"appId":"/shop/web","instanceId":"shop_web.instance-UUID","version":"v","alive":true}"#,
            health("/shop/web", "shop_web.instance-UUID", Some(true)),
        ),
        (
            "0.9",
            "failed_health_check_event",
            r#"{"appId":"/a","taskId":"t","healthCheck":{"protocol":"HTTP"}}"#,
            known.clone(),
        ),
        (
            "0.9",
            "add_health_check_event",
            r#"{"appId":"/a","healthCheck":{"protocol":"HTTP","portIndex":0}}"#,
            Event::Dirty("/a".into()),
        ),
        (
            "0.9",
            "remove_health_check_event",
            r#"{"appId":"/a","healthCheck":{"protocol":"HTTP"}}"#,
            Event::Dirty("/a".into()),
        ),
        (
            "1.1",
            "unhealthy_task_kill_event",
            r#"{"appId":"/a","taskId":"t","version":"v","reason":"500","host":"h","slaveId":"s"}"#,
            Event::Dirty("/a".into()),
        ),
        (
            "1.4",
            "unhealthy_instance_kill_event",
            r#"{"appId":"/a","taskId":"t","instanceId":"i","version":"v","reason":"500","host":"h"}"#,
            Event::Dirty("/a".into()),
        ),
        (
            "0.9",
            "api_post_event",
            r#"{"clientIp":"10.0.0.2","uri":"/v2/apps//shop/web","appDefinition":{"id":"/shop/web","cmd":"sleep 9","container":null,"labels":{},"instances":2,"ports":[10001]}}"#,
            Event::Dirty("/shop/web".into()),
        ),
        (
            "1.5",
            "api_post_event",
            r#"{"clientIp":"10.0.0.2","uri":"/v2/apps/shop/web?force=true","appDefinition":null}"#,
            Event::Dirty("/shop/web".into()),
        ),
        ("1.5", "api_post_event", r#"{"clientIp":"10.0.0.2","uri":"/v2/groups"}"#, Event::AllDirty),
        (
            "1.4",
            "pod_created_event",
            r#"{"clientIp":"10.0.0.2","uri":"/v2/pods","eventType":"pod_created_event"}"#,
            Event::AllDirty,
        ),
        (
            "1.4",
            "pod_updated_event",
            r#"{"clientIp":"10.0.0.2","uri":"/v2/pods"}"#,
            Event::AllDirty,
        ),
        (
            "1.4",
            "pod_deleted_event",
            r#"{"clientIp":"10.0.0.2","uri":"/v2/pods"}"#,
            Event::AllDirty,
        ),
        (
            "0.9",
            "app_terminated_event",
            r#"{"appId":"/shop/web"}"#,
            Event::Gone("/shop/web".into()),
        ),
        ("0.9", "group_change_success", r#"{"groupId":"/shop","version":"v"}"#, Event::AllDirty),
        (
            "0.9",
            "group_change_failed",
            r#"{"groupId":"/shop","version":"v","reason":"no"}"#,
            known.clone(),
        ),
        (
            "0.9",
            "deployment_info",
            r#"{"plan":{"id":"d1","original":{"id":"/","apps":[],"groups":[]},"target":{"id":"/","apps":[{"id":"/no"}],"groups":[]},"steps":[{"action":"ScaleApplication","app":"/shop/web"}],"version":"v"},"currentStep":{"actions":[{"type":"ScaleApplication","app":"/shop/api"}]}}"#,
            deployed(&["/shop/api", "/shop/web"]),
        ),
        (
            "1.5",
            "deployment_step_success",
            r#"{"plan":{"id":"d1","steps":[{"actions":[{"action":"StartApplication","app":"/a"},{"action":"ScalePod","pod":"/p"}]}]},"currentStep":{"actions":[{"action":"ScaleApplication","app":"/a"}]}}"#,
            deployed(&["/a", "/p"]),
        ),
        (
            "1.8 light",
            "deployment_step_failure",
            r#"{"plan":{"id":"d1","version":"v"},"currentStep":{"actions":[{"action":"RestartApplication","app":"/a"}]}}"#,
            deployed(&["/a"]),
        ),
        ("0.9", "deployment_success", r#"{"id":"d1"}"#, deployed(&[])),
        (
            "1.8 light",
            "deployment_success",
            r#"{"id":"d1","plan":{"id":"d1","version":"v"},"eventType":"deployment_success"}"#,
            deployed(&[]),
        ),
        ("0.9", "deployment_failed", r#"{"id":"d1"}"#, deployed(&[])),
        (
            "0.9",
            "scheduler_registered_event",
            r#"{"frameworkId":"f","master":"10.0.0.1"}"#,
            Event::LeaderReady,
        ),
        ("0.9", "scheduler_reregistered_event", r#"{"master":"10.0.0.1"}"#, Event::LeaderReady),
        ("0.9", "scheduler_disconnected_event", "{}", known.clone()),
        (
            "0.9",
            "framework_message_event",
            r#"{"slaveId":"s","executorId":"e","message":"aGk="}"#,
            known.clone(),
        ),
        ("0.9", "subscribe_event", r#"{"clientIp":"c","callbackUrl":"http://c/"}"#, known.clone()),
        (
            "0.9",
            "unsubscribe_event",
            r#"{"clientIp":"c","callbackUrl":"http://c/"}"#,
            known.clone(),
        ),
        (
            "1.5",
            "unknown_instance_terminated_event",
            r#"{"instanceId":"i","runSpecId":"/a","condition":"Killed"}"#,
            known,
        ),
        ("later", "role_changed_event", "not even JSON", Event::Noise { known: false }),
        (
            "no name",
            "",
            r#"{"eventType":"app_terminated_event","appId":"a"}"#,
            Event::Gone("/a".into()),
        ),
        ("no name", "", r#"{"eventType":"role_changed_event"}"#, Event::Noise { known: false }),
    ] {
        assert_eq!(read(kind, data), want, "{version} {kind}");
    }
}

#[test]
fn an_event_that_lacks_what_its_kind_has_says_what() {
    for (kind, data, want) in [
        (
            "status_update_event",
            r#"{"taskId":"t","appId":"/a"}"#,
            "an event \"status_update_event\" has no `taskStatus`",
        ),
        ("status_update_event", r#"{"taskStatus":"TASK_RUNNING","appId":"/a"}"#, "has no `taskId`"),
        ("status_update_event", r#"{"taskStatus":"TASK_RUNNING","taskId":"t"}"#, "has no `appId`"),
        ("instance_changed_event", r#"{"instanceId":"i","runSpecId":"/a"}"#, "has no `condition`"),
        ("app_terminated_event", "{}", "has no `appId`"),
        ("app_terminated_event", "[", "\"app_terminated_event\": "),
        ("app_terminated_event", r#"{"appId":7}"#, "`appId`: invalid type"),
        ("", "{}", "has no `eventType`"),
    ] {
        let error = Event::read(kind, data.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{kind} {data}: {error}");
    }
}

#[test]
fn an_event_tells_whose_it_is() {
    assert_eq!(task("/a", "t", TaskState::Running).app().map(|app| &**app), Some("/a"));
    assert_eq!(health("/a", "t", None).app().map(|app| &**app), Some("/a"));
    assert_eq!(Event::Gone("/a".into()).app().map(|app| &**app), Some("/a"));
    assert_eq!(Event::AllDirty.app(), None);
}

use serde_json::{Value, json};

use super::super::health;
use super::super::testing::{one, problems, roster, service, view};
use super::*;
use crate::catalog::SourceService;

/// The service of one app with these fields, and this task.
fn of(fields: &Value, task: &Value) -> SourceService {
    let mut app = json!({"id": "/shop/web", "tasks": [task]});
    app.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    one(&app)
}

fn task(more: &Value) -> Value {
    let mut task = json!({
        "id": "shop_web.5dd78972-6771-11e5-94e1-be5b2935a987", "appId": "/shop/web",
        "host": "10.0.0.1", "slaveId": "2015-S3", "ports": [31001, 31002], "version": "v1",
        "startedAt": "2015-10-01T10:00:00.000Z", "stagedAt": "2015-10-01T09:59:00.000Z",
        "state": "TASK_RUNNING", "ipAddresses": [{"ipAddress": "172.17.0.2", "protocol": "IPv4"}]
    });
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}

fn facts(meta: &Meta) -> Vec<String> {
    meta.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[test]
fn an_app_is_a_service_under_its_path_backwards_with_its_labels_as_meta() {
    let told = of(
        &json!({
            "version": "v2", "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "a.test,b.test"},
            "healthChecks": [
                {"protocol": "TCP", "portIndex": 1}, {"protocol": "MESOS_HTTP", "portIndex": 0}
            ],
            "portDefinitions": [
                {"port": 10001, "name": "http", "protocol": "tcp"}, {"port": 0, "protocol": "udp,tcp"}
            ]
        }),
        &task(&json!({"zone": "eu-1a"})),
    );
    assert_eq!(&*told.name, "web.shop");
    assert_eq!(
        facts(&told.meta),
        [
            "HAPROXY_0_VHOST=a.test,b.test",
            "HAPROXY_GROUP=external",
            "marathon.app=/shop/web",
            "marathon.http-checks=0",
            "marathon.kind=app",
            "marathon.port-names=http,port-1",
            "marathon.protocols=tcp,tcp+udp",
            "marathon.service-ports=10001,0",
            "marathon.version=v2",
            "mesos.framework=marathon",
            "mesos.protocol.http=tcp",
            "portolan-check=http / port=http interval=60s timeout=20s fall=4 status=200-399; \
             tcp port=port-1 interval=60s timeout=20s fall=4",
        ]
    );
    let [instance] = &told.instances[..] else { panic!("{told:#?}") };
    assert_eq!(&*instance.id, "shop_web.5dd78972-6771-11e5-94e1-be5b2935a987");
    assert_eq!(instance.address.to_string(), "10.0.0.1");
    assert_eq!((instance.port("http"), instance.port("port-1")), (Some(31001), Some(31002)));
    assert_eq!(
        facts(&instance.meta),
        [
            "marathon.app=/shop/web",
            "marathon.host=10.0.0.1",
            "marathon.ports=31001,31002",
            "marathon.version=v1",
            "mesos.agent_id=2015-S3",
        ]
    );
    let node = instance.node.as_ref().unwrap();
    assert_eq!(
        (&*node.name, node.address.as_ref().map(ToString::to_string)),
        ("10.0.0.1", Some("10.0.0.1".into()))
    );
    assert_eq!(instance.locality.as_deref(), Some("eu-1a"));
    assert!(told.problems.is_empty(), "{:?}", told.problems);
}

#[test]
fn the_address_of_a_task_is_where_its_network_has_it() {
    let bridge = json!({"container": {"docker": {"network": "BRIDGE", "portMappings": [{"containerPort": 80}]}}});
    let user = json!({"networks": [{"mode": "container"}], "container": {"portMappings": [{"containerPort": 80}]}});
    let by_name = json!({"host": "a1.shop.test", "ipAddresses": [{"ipAddress": "10.0.0.7"}]});
    for (case, app, task, want) in [
        ("on the host", json!({}), task(&json!({})), Some("10.0.0.1")),
        ("behind a bridge", bridge.clone(), task(&json!({})), Some("10.0.0.1")),
        ("its own", user.clone(), task(&json!({})), Some("172.17.0.2")),
        ("its own, none yet", user.clone(), task(&json!({"ipAddresses": []})), None),
        ("its own, null", user, task(&json!({"ipAddresses": null})), None),
        ("by name, told by Mesos", json!({}), task(&by_name), Some("10.0.0.7")),
        ("by name, behind a bridge", bridge, task(&by_name), Some("a1.shop.test")),
        (
            "by name, old Mesos",
            json!({}),
            task(&json!({"host": "A1.Shop.test", "ipAddresses": null})),
            Some("a1.shop.test"),
        ),
    ] {
        let told = of(&app, &task);
        let address = told.instances.first().map(|instance| instance.address.to_string());
        assert_eq!(address.as_deref(), want, "{case}: {told:#?}");
        assert!(told.problems.is_empty(), "{case}: {:?}", told.problems);
    }
}

#[test]
fn health_is_that_of_any_check_and_without_a_result_it_is_not_well() {
    let checked = || json!({"healthChecks": [{"protocol": "HTTP"}, {"protocol": "TCP"}]});
    for (case, app, results, want, cause) in [
        ("no check", json!({}), json!([]), Health::Unknown, ""),
        (
            "no check, but a result",
            json!({"healthChecks": []}),
            json!([{"alive": false}]),
            Health::Unknown,
            "",
        ),
        (
            "alive",
            checked(),
            json!([{"alive": true}, {"alive": true}]),
            Health::Healthy,
            health::PASSES,
        ),
        (
            "one of two",
            checked(),
            json!([{"alive": false}, {"alive": true}]),
            Health::Healthy,
            health::PASSES,
        ),
        (
            "none of two",
            checked(),
            json!([{"alive": false}, {"alive": false}]),
            Health::Unhealthy,
            health::FAILS,
        ),
        ("no result", checked(), json!([]), Health::Unhealthy, health::NO_RESULT),
        ("null for a list", checked(), Value::Null, Health::Unhealthy, health::NO_RESULT),
        ("null for a result", checked(), json!([null]), Health::Unhealthy, health::NO_RESULT),
    ] {
        let told = of(&app, &task(&json!({"healthCheckResults": results})));
        let instance = &told.instances[0];
        assert_eq!((instance.health, &*instance.cause), (want, cause), "{case}");
    }
}

#[test]
fn the_state_of_a_task_decides_whether_it_is_an_instance() {
    for (case, more, want) in [
        ("running", json!({"state": "TASK_RUNNING"}), Some(Presence::Active)),
        ("lost", json!({"state": "TASK_LOST"}), Some(Presence::Active)),
        ("out of sight", json!({"state": "TASK_UNREACHABLE"}), Some(Presence::Active)),
        ("being killed", json!({"state": "TASK_KILLING"}), Some(Presence::Leaving)),
        ("staging", json!({"state": "TASK_STAGING"}), None),
        ("killed", json!({"state": "TASK_KILLED"}), None),
        ("old, begun", json!({"state": null}), Some(Presence::Active)),
        ("old, staged", json!({"state": null, "startedAt": null}), None),
        (
            "old, nothing told",
            json!({"state": "", "startedAt": null, "stagedAt": null}),
            Some(Presence::Active),
        ),
    ] {
        let told = of(&json!({}), &task(&more));
        assert_eq!(told.instances.first().map(|instance| instance.presence), want, "{case}");
    }
}

#[test]
fn a_task_of_a_deployment_waits_for_all_of_its_readiness_checks() {
    let id = "shop_web.5dd78972-6771-11e5-94e1-be5b2935a987";
    let app = |deployments: Value, results: Value| {
        json!({
            "version": "v1", "readinessChecks": [{"name": "a"}, {"name": "b"}],
            "deployments": deployments, "readinessCheckResults": results
        })
    };
    let ready = |name: &str, ready: bool| json!({"name": name, "taskId": id, "ready": ready});
    let going = || json!([{"id": "d"}]);
    for (case, app, version, waits) in [
        ("no deployment", app(json!([]), json!([])), "v1", false),
        ("no result yet", app(going(), json!([])), "v1", true),
        ("one of two", app(going(), json!([ready("a", true)])), "v1", true),
        ("one is not", app(going(), json!([ready("a", true), ready("b", false)])), "v1", true),
        ("both", app(going(), json!([ready("a", true), ready("b", true)])), "v1", false),
        ("of another version", app(going(), json!([])), "v0", false),
    ] {
        let told = of(&app, &task(&json!({"version": version})));
        let instance = &told.instances[0];
        assert_eq!(&*instance.cause == health::NOT_READY, waits, "{case}: {instance:#?}");
        assert_eq!(instance.health == Health::Unhealthy, waits, "{case}");
    }
}

#[test]
fn a_task_that_has_served_needs_no_new_result_of_its_readiness() {
    let app = |deployments: Value| {
        json!({"apps": [{
            "id": "/shop/web", "version": "v1", "readinessChecks": [{"name": "a"}],
            "deployments": deployments, "tasks": [task(&json!({}))]
        }]})
    };
    let mut roster = roster();
    let health = |roster: &mut _| service(roster, "web.shop").instances[0].health;
    view(&mut roster, &app(json!([])));
    assert_eq!(health(&mut roster), Health::Unknown);
    view(&mut roster, &app(json!([{"id": "d"}])));
    assert_eq!(health(&mut roster), Health::Unknown, "it stood in another app's deployment");
}

#[test]
fn a_fault_of_a_task_or_label_costs_that_alone_and_is_told() {
    let labels = json!({
        "A": "1", "B": 2, "marathon.app": "/other", "mesos.kind": "master", "LONG": "x".repeat(5000),
        "NUL": "a\u{0}b", "HAPROXY_0_BACKEND_HEAD": "backend {backend}\r\n\tbalance x\n"
    });
    let good = task(&json!({}));
    let app = json!({"id": "/shop/web", "labels": labels, "tasks": [
        good,
        task(&json!({"id": "t2", "host": ""})),
        task(&json!({"id": "t3", "host": "no host"})),
        task(&json!({"id": "t 4"})),
        task(&json!({"id": "t5", "ports": [70000]})),
    ]});
    let told = one(&app);
    assert_eq!(told.instances.len(), 1);
    assert_eq!(told.meta.get("A").map(|value| &**value), Some("1"));
    let head = told.meta.get("HAPROXY_0_BACKEND_HEAD").unwrap();
    assert_eq!(&**head, "backend {backend}\\n\\tbalance x\\n");
    assert_eq!(told.meta.get("marathon.app").map(|value| &**value), Some("/shop/web"));
    assert_eq!(told.meta.get("mesos.kind"), None);
    let all = told.problems.join("\n");
    for want in [
        "label \"B\": its value is no text",
        "label \"marathon.app\": these names are for what Marathon itself says",
        "label \"mesos.kind\": these names",
        "label \"LONG\": its value of 5000 bytes is too long",
        "label \"NUL\": its value",
        "task \"t2\": it has no `host`",
        "task \"t3\": address \"no host\" is neither",
        "task \"t 4\": task id",
        "task \"t5\": port 70000",
    ] {
        assert!(all.contains(want), "{want}: {all}");
    }
    assert_eq!(told.problems.len(), 9, "{all}");
}

#[test]
fn an_app_that_is_refused_costs_itself_only_and_is_told_beside_the_services() {
    let apps = json!({"apps": [
        {"id": "/ok", "tasks": []},
        {"id": "", "tasks": []},
        {"id": "/a//b"},
        {"id": "/net", "networks": [{"mode": "magic"}]},
        {"id": "/port", "ports": [70000]},
        {"id": "/labels", "labels": []},
        {"id": "/task", "tasks": [7]},
        {"tasks": []},
        {"id": "/ok"},
        {"id": "also-ok", "container": null, "ipAddress": null, "labels": null, "tasks": null},
    ]});
    let mut roster = roster();
    let told = view(&mut roster, &apps);
    let mut names: Vec<&str> = told.services.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["also-ok", "ok"]);
    let all = problems(&told);
    for want in [
        "app /net: is refused: its network mode \"magic\"",
        "app /port: is refused: port 70000",
        "app /labels: is refused: `labels`: invalid type: sequence, expected a table of labels",
        "app /task: is refused: `tasks`: invalid type: integer `7`, expected an object",
        "its id \"/a//b\" is no path such as",
        "it has no `id`",
    ] {
        assert!(all.contains(want), "{want}: {all}");
    }
    assert_eq!(roster.counts().refused, 8, "{all}");
    assert!(service(&mut roster, "ok").problems[0].contains("it is listed twice"), "{all}");
}

#[test]
fn a_pod_is_a_service_with_the_ports_of_all_its_containers() {
    let pod = |mode: &str, status: &str, healthy: bool| {
        json!([{
            "id": "/shop/pod", "status": "STABLE", "instances": [{
                "id": "shop_pod.instance-5dd78972-6771-11e5-94e1-be5b2935a987", "status": status,
                "agentHostname": "10.0.0.1", "agentId": "S-S4", "agentZone": "eu-1b",
                "networks": [{"name": "net", "addresses": ["9.0.0.1"]}],
                "specReference": "/v2/pods/shop/pod::versions/v7",
                "containers": [
                    {"name": "front", "status": "TASK_RUNNING", "endpoints": [
                        {"name": "http", "allocatedHostPort": 31001, "healthy": healthy}]},
                    {"name": "back", "status": "TASK_RUNNING", "endpoints": [
                        {"name": "rpc", "allocatedHostPort": 31002}]},
                ]
            }],
            "spec": {
                "id": "/shop/pod", "version": "v7", "labels": {"team": "shop"},
                "networks": [{"mode": mode}],
                "containers": [
                    {"name": "front", "healthCheck": {"http": {"endpoint": "http"}}, "endpoints": [
                        {"name": "http", "containerPort": 8080, "hostPort": 0, "protocol": ["tcp"]}]},
                    {"name": "back", "endpoints": [{"name": "rpc", "hostPort": 0, "protocol": ["tcp", "udp"]}]},
                ]
            }
        }])
    };
    let told = |pods: Value| {
        let mut roster = roster();
        let mut listing = roster.listing();
        listing.apps(b"{\"apps\":[]}").unwrap();
        listing.pods(pods.to_string().as_bytes()).unwrap();
        listing.end().unwrap();
        roster.replace(listing);
        service(&mut roster, "pod.shop")
    };
    let host = told(pod("host", "STABLE", true));
    let instance = &host.instances[0];
    assert_eq!(instance.address.to_string(), "10.0.0.1");
    assert_eq!((instance.port("http"), instance.port("rpc")), (Some(31001), Some(31002)));
    assert_eq!((instance.health, instance.locality.as_deref()), (Health::Healthy, Some("eu-1b")));
    assert_eq!(host.meta.get("team").map(|value| &**value), Some("shop"));
    assert_eq!(host.meta.get("marathon.kind").map(|value| &**value), Some("pod"));
    assert_eq!(host.meta.get("marathon.protocols").map(|value| &**value), Some("tcp,tcp+udp"));
    assert_eq!(instance.meta.get("marathon.version").map(|value| &**value), Some("v7"));
    let own = told(pod("container", "STABLE", false));
    let instance = &own.instances[0];
    assert_eq!(instance.address.to_string(), "9.0.0.1");
    assert_eq!((instance.port("http"), instance.port("rpc")), (Some(8080), Some(31002)));
    assert_eq!(instance.meta.get("mesos.host_ports").map(|value| &**value), Some("31001,31002"));
    assert_eq!(instance.health, Health::Unhealthy);
    assert_eq!(told(pod("host", "DEGRADED", true)).instances[0].health, Health::Warning);
    let mut half = pod("host", "STABLE", true);
    half[0]["instances"][0]["containers"][1]["conditions"] =
        json!([{"name": "healthy", "value": "false"}]);
    assert_eq!(told(half).instances[0].health, Health::Unhealthy, "all containers must be well");
    for gone in ["PENDING", "STAGING", "TERMINAL"] {
        assert!(told(pod("host", gone, true)).instances.is_empty(), "{gone}");
    }
}

#[test]
fn fields_that_nobody_knows_are_counted_and_change_nothing() {
    let app = json!({"id": "/a", "cpus": 1, "newfangled": {"x": [1]}, "tasks": [task(&json!({"odd": 1, "localVolumes": []}))]});
    let mut roster = roster();
    view(&mut roster, &json!({"apps": [app], "more": 1}));
    assert_eq!(roster.counts().ignored_fields, 2);
    assert_eq!(service(&mut roster, "a").instances.len(), 1);
}

//! What Marathon's releases from 0.9 to 1.11 write, read by the real registry: every form of an
//! app, what is broken among what is not, and every event.

use std::collections::BTreeMap;
use std::time::Duration;

use portolan::app::App;
use portolan::catalog::Presence;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients::{Http, get_by_socket};
use crate::marathon_storm::{launch, service_of};
use crate::support::marathon::{self, Era, Fake, Net, Said, State};
use crate::support::marathon_tasks::Processes;
use crate::support::{address, until, within};

const UUID: [&str; 6] = [
    "1f0c6a58-6f1d-11ee-b962-0242ac120001",
    "1f0c6a58-6f1d-11ee-b962-0242ac120002",
    "1f0c6a58-6f1d-11ee-b962-0242ac120003",
    "1f0c6a58-6f1d-11ee-b962-0242ac120004",
    "1f0c6a58-6f1d-11ee-b962-0242ac120005",
    "1f0c6a58-6f1d-11ee-b962-0242ac120006",
];

/// A task that runs on the agent `10.1.0.N`, with these ports there and more fields; its id ends in
/// the Nth UUID.
fn task(app: &str, number: usize, ports: &[u16], more: Value) -> Value {
    let mut task = json!({
        "id": format!("{}.{}", app.trim_start_matches('/').replace('/', "_"), UUID[number]),
        "appId": app, "host": format!("10.1.0.{number}"), "ports": ports,
        "stagedAt": "2021-03-04T05:06:07.000Z", "startedAt": "2021-03-04T05:06:09.000Z",
        "version": "2021-03-04T05:06:06.000Z", "slaveId": "f0e1d2c3-0000-4000-8000-00000000000a-S4",
    });
    let Value::Object(more) = more else { unreachable!() };
    task.as_object_mut().unwrap().extend(more);
    task
}

fn state(word: &str) -> Value {
    json!({"state": word, "servicePorts": [], "localVolumes": []})
}

/// What is told of an instance: address, ports, whether it gets work, and whether it leaves.
type Told = (String, Vec<u16>, bool, bool);

/// An app as Marathon writes it, and its instances by the number of their UUID.
struct Sample {
    app: Value,
    wanted: Vec<(usize, Told)>,
}

fn sample(mut app: Value, tasks: Vec<Value>, wanted: &[(usize, &str, &[u16], bool)]) -> Sample {
    app["tasks"] = Value::Array(tasks);
    let told = |(number, address, ports, serves): &(usize, &str, &[u16], bool)| {
        (*number, ((*address).to_owned(), ports.to_vec(), *serves, false))
    };
    Sample { app, wanted: wanted.iter().map(told).collect() }
}

/// Forms of before 1.5.
fn old_samples() -> Vec<Sample> {
    let running = || state("TASK_RUNNING");
    vec![
        // 0.9: ports by number, no states; what has not started is none.
        sample(
            json!({"id": "/old/ports", "ports": [10_001, 10_002], "container": null, "env": {},
                "uris": ["http://x/y.tgz"], "healthChecks": [], "labels": {}, "storeUrls": [],
                "version": "2015-01-01T00:00:00.000Z", "deployments": [], "dependencies": []}),
            vec![
                task("/old/ports", 1, &[31_001, 31_002], json!({})),
                task("/old/ports", 2, &[31_003, 31_004], json!({"startedAt": null})),
            ],
            &[(1, "10.1.0.1", &[31_001, 31_002], true)],
        ),
        // 0.9: a bridge; one good result of two is enough, and none is none.
        sample(
            json!({"id": "/old/bridge", "ports": [10_003], "container": {"type": "DOCKER",
                "volumes": [], "docker": {"image": "a", "network": "BRIDGE", "portMappings": [
                    {"containerPort": 80, "hostPort": 0, "servicePort": 10_003, "protocol": "tcp"}],
                    "privileged": false, "parameters": [], "forcePullImage": false}},
                "healthChecks": [{"protocol": "HTTP", "path": "/", "portIndex": 0},
                    {"protocol": "TCP", "portIndex": 0}], "labels": {"owner": "zoe"}}),
            vec![
                task(
                    "/old/bridge",
                    1,
                    &[31_001],
                    json!({"healthCheckResults": [
                    {"alive": false, "taskId": "x", "consecutiveFailures": 2, "firstSuccess": null},
                    {"alive": true, "taskId": "x", "lastFailure": null}]}),
                ),
                task(
                    "/old/bridge",
                    2,
                    &[31_002],
                    json!({"healthCheckResults": [{"alive": false}]}),
                ),
                task("/old/bridge", 3, &[31_003], json!({})),
            ],
            &[
                (1, "10.1.0.1", &[31_001], true),
                (2, "10.1.0.2", &[31_002], false),
                (3, "10.1.0.3", &[31_003], false),
            ],
        ),
        // 1.4: Docker on the network of its host, ports with names.
        sample(
            json!({"id": "/old/host", "container": {"type": "DOCKER", "docker": {"image": "a",
                "network": "HOST", "portMappings": null}}, "portDefinitions": [
                    {"port": 10_004, "protocol": "tcp", "name": "http", "labels": {}},
                    {"port": 10_005, "protocol": "udp", "name": "stats"}], "ipAddress": null,
                "residency": null, "labels": {}, "requirePorts": true}),
            vec![task("/old/host", 1, &[10_004, 10_005], running())],
            &[(1, "10.1.0.1", &[10_004, 10_005], true)],
        ),
        // 1.4: an address for each task, ports by discovery.
        sample(
            json!({"id": "/old/pertask", "container": null, "ipAddress": {"groups": ["dev"],
                "labels": {"environment": "dev"}, "networkName": "blue", "discovery": {"ports": [
                    {"number": 8080, "name": "rest", "protocol": "tcp"}]}}, "labels": {}}),
            vec![task(
                "/old/pertask",
                1,
                &[],
                json!({"state": "TASK_RUNNING",
                "ipAddresses": [{"ipAddress": "172.18.0.7", "protocol": "IPv4"}]}),
            )],
            &[(1, "172.18.0.7", &[8080], true)],
        ),
        // 1.4: the same by Docker's own networks.
        sample(
            json!({"id": "/old/user", "container": {"type": "DOCKER", "docker": {"image": "a",
                "network": "USER", "portMappings": [{"containerPort": 9000, "servicePort": 10_006,
                    "name": "api", "protocol": "tcp", "labels": {}}]}},
                "ipAddress": {"networkName": "green", "discovery": {"ports": []}}, "labels": {}}),
            vec![task(
                "/old/user",
                1,
                &[],
                json!({"state": "TASK_RUNNING",
                "ipAddresses": [{"ipAddress": "172.19.0.3", "protocol": "IPv4"}]}),
            )],
            &[(1, "172.19.0.3", &[9000], true)],
        ),
    ]
}

/// Forms since 1.5.
fn new_samples() -> Vec<Sample> {
    let running = || state("TASK_RUNNING");
    let host = |id: &str| {
        json!({"id": id, "networks": [{"mode": "host"}], "labels": {}, "portDefinitions":
            [{"port": 10_010, "protocol": "tcp", "name": "http", "labels": {"VIP_0": "/a:80"}}]})
    };
    let mut readiness = host("/new/readiness");
    // Only those of the version that is being deployed have to pass it.
    readiness["version"] = "2021-03-04T05:06:06.000Z".into();
    readiness["deployments"] = json!([{"id": "aa"}]);
    readiness["readinessChecks"] = json!([{"name": "up", "protocol": "HTTP", "path": "/up",
        "portName": "http", "intervalSeconds": 5, "timeoutSeconds": 2,
        "httpStatusCodesForReady": [200], "preserveLastResponse": true}]);
    readiness["readinessCheckResults"] = json!([
        {"name": "up", "taskId": format!("new_readiness.{}", UUID[1]), "ready": true},
        {"name": "up", "taskId": format!("new_readiness.{}", UUID[2]), "ready": false,
            "lastResponse": {"status": 503, "contentType": "text/plain", "body": "soon"}}]);
    let mut unheard = host("/new/unheard");
    unheard["quantum"] = json!({"entangled": [1, null, {"a": "b"}]});
    unheard["portDefinitions"][0]["colour"] = "red".into();
    let mut states = host("/new/states");
    states["unreachableStrategy"] = "disabled".into();
    let mut residency = host("/new/residency");
    residency["residency"] = json!({"relaunchEscalationTimeoutSeconds": 3600,
        "taskLostBehavior": "WAIT_FOREVER"});
    residency["container"] = json!({"type": "MESOS", "volumes": [{"containerPath": "data",
        "mode": "RW", "persistent": {"size": 10, "type": "root", "constraints": []}}]});
    let mut found = vec![
        sample(
            json!({"id": "/new/bridge", "networks": [{"mode": "container/bridge"}], "labels": {},
                "container": {"type": "DOCKER", "docker": {"image": "a"}, "volumes": [],
                    "portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 10_011,
                        "name": "http", "protocol": "tcp,udp", "labels": {}}]}}),
            vec![task(
                "/new/bridge",
                1,
                &[31_001],
                json!({"state": "TASK_RUNNING",
                "ipAddresses": [{"ipAddress": "172.17.0.2", "protocol": "IPv4"}]}),
            )],
            &[(1, "10.1.0.1", &[31_001], true)],
        ),
        sample(
            json!({"id": "/new/container", "networks": [{"mode": "container", "name": "blue"}],
                "labels": {}, "container": {"type": "MESOS", "portMappings": [
                    {"containerPort": 8443, "name": "https", "protocol": "tcp"}]}}),
            vec![task(
                "/new/container",
                1,
                &[],
                json!({"state": "TASK_RUNNING",
                "ipAddresses": [{"ipAddress": "172.18.0.9", "protocol": "IPv4"}]}),
            )],
            &[(1, "172.18.0.9", &[8443], true)],
        ),
        sample(
            residency,
            vec![task(
                "/new/residency",
                1,
                &[31_001],
                json!({"state": "TASK_UNREACHABLE",
                    "localVolumes": [{"containerPath": "data", "persistenceId": "x"}]}),
            )],
            &[(1, "10.1.0.1", &[31_001], true)],
        ),
        sample(
            readiness,
            vec![
                task("/new/readiness", 1, &[31_001], running()),
                task("/new/readiness", 2, &[31_002], running()),
            ],
            &[(1, "10.1.0.1", &[31_001], true), (2, "10.1.0.2", &[31_002], false)],
        ),
        sample(
            unheard,
            vec![task("/new/unheard", 1, &[31_001], json!({"state": "TASK_RUNNING", "aura": {}}))],
            &[(1, "10.1.0.1", &[31_001], true)],
        ),
    ];
    let words = ["STAGING", "RUNNING", "LOST", "UNREACHABLE", "FINISHED", "KILLING"];
    let tasks = words.iter().enumerate().map(|(number, word)| {
        task("/new/states", number, &[31_000 + number as u16], state(&format!("TASK_{word}")))
    });
    let mut told = sample(
        states,
        tasks.collect(),
        &[
            (1, "10.1.0.1", &[31_001], true),
            (2, "10.1.0.2", &[31_002], true),
            (3, "10.1.0.3", &[31_003], true),
        ],
    );
    told.wanted.push((5, ("10.1.0.5".into(), vec![31_005], false, true)));
    found.push(told);
    found
}

/// Apps that are not to be understood, and a word of what is said of each.
fn broken() -> Vec<(Value, &'static str)> {
    let host = |id: &str| json!({"id": id, "networks": [{"mode": "host"}], "tasks": []});
    let with = |id: &str, key: &str, value: Value| {
        let mut app = host(id);
        app[key] = value;
        app
    };
    let port = task("/broken/port", 1, &[], json!({"state": "TASK_RUNNING", "ports": [70_000]}));
    vec![
        (with("/broken/label", "labels", json!({"A": {"b": 1}})), "label"),
        (with("/broken/port", "tasks", json!([port])), "70000"),
        (with("/broken/mode", "networks", json!([{"mode": "telepathy"}])), "telepathy"),
    ]
}

/// The instances of a service, by id.
fn told(app: &App, name: &str) -> BTreeMap<String, Told> {
    let tables = app.tables();
    let Some(service) = tables.snapshot.service(name) else { return BTreeMap::new() };
    let of = |instance: &std::sync::Arc<portolan::catalog::Instance>| {
        let mut ports: Vec<u16> = instance.ports.iter().map(|port| port.number).collect();
        ports.sort_unstable();
        let serves = service.eligible.iter().any(|one| one.id == instance.id);
        let leaves = instance.presence == Presence::Leaving;
        (instance.id.to_string(), (instance.address.to_string(), ports, serves, leaves))
    };
    service.instances.iter().map(of).collect()
}

/// A Marathon that lists `samples`, and an application that has read them.
async fn read(era: Era, samples: Vec<Value>) -> (Fake, App, TempDir) {
    let fake = Fake::start(era, 1).await;
    fake.world(|world| world.odd = samples.iter().map(|app| app.to_string().into()).collect());
    // There is always one that is well.
    fake.act(|world| world.post("/shop/web", marathon::App::new(Net::Host)));
    let own = stage(&fake, "/shop/web", 1);
    fake.act(|world| world.becomes("/shop/web", &own, State::Running));
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&fake, directory.path(), &[], "resync = \"1s\"").await;
    serves(&app, "web.shop", 1).await;
    (fake, app, directory)
}

fn stage(fake: &Fake, id: &str, number: u8) -> String {
    let mut own = String::new();
    fake.act(|world| {
        let (name, said) = world.stage(id, ([127, 42, 1, number], 31_000).into());
        own = name;
        said
    });
    own
}

/// Returns once so many instances of `name` get work.
async fn serves(app: &App, name: &str, count: usize) {
    let there = app.published(|snapshot| {
        snapshot.service(name).map_or(0, |service| service.eligible.len()) == count
    });
    within(&format!("{count} of {name}"), there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_without_a_port_leads_to_the_port_of_index_0_whatever_others_are_called() {
    let fake = Fake::start(Era::V1_11, 1).await;
    let mut web = marathon::App::new(Net::Host);
    (web.ports, web.service_ports) = (vec!["http", "admin"], vec![0, 0]);
    fake.act(|world| world.post("/shop/web", web));
    // At its next port, that of `admin`, nobody listens.
    let mut processes = Processes::default();
    let at = processes.start(false).await;
    let mut own = String::new();
    fake.act(|world| {
        let (name, said) = world.stage("/shop/web", at);
        own = name;
        said
    });
    fake.act(|world| world.becomes("/shop/web", &own, State::Running));
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&fake, directory.path(), &["/shop/web".to_owned()], "").await;
    serves(&app, "web.shop", 1).await;
    let mut http = Http::to(address(&app, "web").await).await;
    let answer = within("an answer", http.ask("r0.test")).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(processes.last_asked(at.ip()).is_some());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_an_app_gives_its_instances_where_they_are_reached() {
    for (era, samples) in [
        (Era::V0_9, old_samples()),
        (Era::V1_4, old_samples()),
        (Era::V1_8, new_samples()),
        (Era::V1_11, old_samples().into_iter().chain(new_samples()).collect()),
    ] {
        let apps = samples.iter().map(|sample| sample.app.clone()).collect();
        let (_fake, app, _directory) = read(era, apps).await;
        for Sample { app: shape, wanted } in samples {
            let id = shape["id"].as_str().unwrap();
            let safe = id.trim_start_matches('/').replace('/', "_");
            let wanted: BTreeMap<_, _> = wanted
                .into_iter()
                .map(|(number, told)| (format!("{safe}.{}", UUID[number]), told))
                .collect();
            assert_eq!(told(&app, &service_of(id)), wanted, "{era:?}: {shape:#}");
        }
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_app_is_told_under_its_name_costs_no_other_and_keeps_what_was_known_of_it() {
    let samples = broken().into_iter().map(|(app, _)| app);
    let (fake, app, directory) = read(Era::V1_8, samples.collect()).await;
    let status = get_by_socket(&directory.path().join("admin.sock"), "/v1/status").await.json();
    let problems = status["registries"][0]["problems"].as_array().unwrap();
    for (shape, word) in broken() {
        let id = shape["id"].as_str().unwrap();
        // Under its service when there is one, else beside the services.
        let service = app.tables().snapshot.service(&service_of(id)).cloned();
        let under = service.map(|service| service.problems.to_vec()).unwrap_or_default();
        let beside = problems.iter().find(|problem| problem["place"] == *format!("app {id}"));
        let told = under.iter().any(|problem| problem.contains(word))
            || beside.is_some_and(|problem| problem["message"].as_str().unwrap().contains(word));
        assert!(told, "{id}: {under:?} and {beside:?}");
    }
    // One that was well becomes broken: it stands as it was last.
    let mut good = json!({"id": "/turn/coat", "networks": [{"mode": "host"}], "labels": {},
        "portDefinitions": [{"port": 10_020, "name": "http"}]});
    good["tasks"] = json!([task("/turn/coat", 1, &[31_001], state("TASK_RUNNING"))]);
    fake.world(|world| world.odd = vec![good.to_string().into()]);
    serves(&app, "coat.turn", 1).await;
    let known = told(&app, "coat.turn");
    good["labels"] = json!({"A": []});
    fake.world(|world| world.odd = vec![good.to_string().into()]);
    let problem = app.published(|snapshot| {
        snapshot.service("coat.turn").is_some_and(|service| !service.problems.is_empty())
    });
    within("a problem", problem).await;
    assert_eq!(told(&app, "coat.turn"), known);
    serves(&app, "web.shop", 1).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pods_instances_are_reached_at_their_endpoints() {
    let (fake, app, _directory) = read(Era::V1_8, Vec::new()).await;
    let instance = |number: usize, status: &str, healthy: Value| {
        json!({"id": format!("prod_pod.instance-{}", UUID[number]), "status": status,
            "agentHostname": format!("10.1.0.{number}"), "agentId": "a-S1",
            "networks": [{"name": "blue", "addresses": [format!("172.18.0.{number}")]}],
            "containers": [
                {"name": "front", "status": "TASK_RUNNING", "endpoints":
                    [{"name": "http", "allocatedHostPort": 31_000 + number, "healthy": healthy}]},
                {"name": "side", "status": "TASK_RUNNING", "endpoints": null}]})
    };
    let pod = json!({"id": "/prod/pod", "status": "DEGRADED", "spec": {"id": "/prod/pod",
        "labels": {"tier": "front"}, "networks": [{"mode": "container/bridge"}], "containers": [
            {"name": "front", "healthCheck": {"http": {"endpoint": "http", "path": "/"}},
                "endpoints": [{"name": "http", "containerPort": 80, "hostPort": 0,
                    "protocol": ["tcp"]}]}, {"name": "side"}]},
        "instances": [instance(1, "STABLE", true.into()), instance(2, "DEGRADED", false.into()),
            instance(3, "TERMINAL", true.into()), instance(4, "PENDING", Value::Null)]});
    fake.world(|world| world.odd_pods.push(pod.to_string().into()));
    fake.act(|_| vec![Said::new("pod_updated_event", json!({"uri": "/v2/pods/prod/pod"}))]);
    serves(&app, "pod.prod", 1).await;
    let told = told(&app, "pod.prod");
    let of = |number: usize| told.get(&format!("prod_pod.instance-{}", UUID[number])).cloned();
    assert_eq!(of(1), Some(("10.1.0.1".into(), vec![31_001], true, false)), "{told:?}");
    assert_eq!(of(2), Some(("10.1.0.2".into(), vec![31_002], false, false)), "{told:?}");
    assert!(of(3).is_none_or(|(_, _, serves, leaves)| !serves && leaves), "{told:?}");
    assert_eq!(of(4), None, "{told:?}");
    app.stop().await;
}

/// One of every kind of event, with the fields of its release.
fn events() -> Vec<Said> {
    let plan = json!({"id": "aa", "version": "v", "original": {"apps": [], "groups": [],
        "id": "/"}, "target": {"apps": [{"id": "/shop/web"}], "id": "/"}, "steps":
        [{"action": "ScaleApplication", "app": "/shop/web"}]});
    let step = json!({"actions": [{"type": "ScaleApplication", "app": "/shop/web"}]});
    let check = json!({"protocol": "HTTP", "path": "/", "portIndex": 0});
    let said = |kind: &'static str, data: Value| Said::new(kind, data);
    vec![
        said(
            "api_post_event",
            json!({"clientIp": "::1", "uri": "/v2/apps//shop/web",
            "appDefinition": {"id": "/shop/web", "labels": {}}}),
        ),
        said(
            "status_update_event",
            json!({"slaveId": "S0", "taskId": "none.1", "taskStatus":
            "TASK_FAILED", "appId": "/shop/none", "host": "h", "ports": [31_776], "version": "v"}),
        ),
        said(
            "instance_changed_event",
            json!({"instanceId": "none.instance-1", "condition":
            "Finished", "runSpecId": "/shop/none", "agentId": "a", "host": "h"}),
        ),
        said(
            "instance_health_changed_event",
            json!({"instanceId": "none.marathon-1",
            "runSpecId": "/shop/none", "healthy": null, "runSpecVersion": "v"}),
        ),
        said(
            "health_status_changed_event",
            json!({"appId": "/shop/none", "taskId": "none.1",
            "version": "v", "alive": true}),
        ),
        said(
            "failed_health_check_event",
            json!({"appId": "/shop/none", "taskId": "none.1",
            "healthCheck": check}),
        ),
        said("add_health_check_event", json!({"appId": "/shop/web", "healthCheck": check})),
        said("remove_health_check_event", json!({"appId": "/shop/web", "healthCheck": check})),
        said(
            "unhealthy_task_kill_event",
            json!({"appId": "/shop/none", "taskId": "none.1",
            "reason": "500", "host": "h", "slaveId": "S0"}),
        ),
        said(
            "unhealthy_instance_kill_event",
            json!({"appId": "/shop/none", "taskId": "none.1",
            "instanceId": "none.instance-1", "version": "v", "reason": "500", "host": "h"}),
        ),
        said(
            "unknown_instance_terminated_event",
            json!({"instanceId": "x.instance-1",
            "runSpecId": "/x", "condition": "Killed"}),
        ),
        said(
            "framework_message_event",
            json!({"slaveId": "S0", "executorId": "x", "message": "eA=="}),
        ),
        said("subscribe_event", json!({"clientIp": "::1", "callbackUrl": "http://h/"})),
        said("unsubscribe_event", json!({"clientIp": "::1", "callbackUrl": "http://h/"})),
        said("event_stream_attached", json!({"remoteAddress": "::1"})),
        said("event_stream_detached", json!({"remoteAddress": "::1"})),
        said("group_change_success", json!({"groupId": "/shop", "version": "v"})),
        said("group_change_failed", json!({"groupId": "/shop", "version": "v", "reason": ""})),
        said("deployment_info", json!({"plan": plan, "currentStep": step})),
        said("deployment_step_success", json!({"plan": plan, "currentStep": step})),
        said("deployment_step_failure", json!({"plan": plan, "currentStep": step})),
        said("deployment_success", json!({"id": "aa", "plan": plan})),
        said("deployment_failed", json!({"id": "aa"})),
        said("app_terminated_event", json!({"appId": "/shop/none"})),
        said("pod_created_event", json!({"clientIp": "::1", "uri": "/v2/pods"})),
        said("pod_updated_event", json!({"clientIp": "::1", "uri": "/v2/pods/x"})),
        said("pod_deleted_event", json!({"clientIp": "::1", "uri": "/v2/pods/x"})),
        said("scheduler_registered_event", json!({"frameworkId": "f", "master": "m:5050"})),
        said("scheduler_reregistered_event", json!({"master": "m:5050"})),
        said("scheduler_disconnected_event", json!({})),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_taken_and_those_unheard_of_are_counted_on_a_stream_that_lives_on() {
    for era in [Era::V0_9, Era::V1_11] {
        let (fake, app, directory) = read(era, Vec::new()).await;
        let streams = || fake.log().iter().filter(|asked| asked.path == "/v2/events").count();
        until("a stream", async || (fake.hearing() == 1).then_some(())).await;
        let before = streams();
        fake.act(|_| events());
        // In 1.11 only what was asked for comes; in 0.9 everything does.
        fake.say_something_new();
        // Whoever is told of a new task has read all that came before.
        let own = stage(&fake, "/shop/web", 2);
        tokio::time::sleep(Duration::from_millis(1)).await;
        fake.act(|world| world.becomes("/shop/web", &own, State::Running));
        serves(&app, "web.shop", 2).await;
        assert_eq!(streams(), before, "{era:?}: no event ends the stream");
        if era == Era::V0_9 {
            let page = get_by_socket(&directory.path().join("admin.sock"), "/metrics").await.body;
            let ignored = page
                .lines()
                .find(|line| line.starts_with("portolan_marathon_") && line.contains("unknown"));
            assert!(ignored.is_some_and(|line| line.ends_with(" 1")), "{ignored:?}");
        }
        app.stop().await;
    }
}

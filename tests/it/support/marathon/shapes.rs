//! How apps, tasks and pods are written, from 0.9 to 1.11. What is not asked for is there too: more
//! fields than anybody reads, and nulls where Marathon has nulls.

use serde_json::{Map, Value, json};

use super::era::{Era, time};
use super::world::{App, Net, State, Task};

/// The agent of tasks with addresses of their own.
const AGENT: &str = "10.9.8.7";
/// The port in a container that a port of its agent leads to.
const INSIDE: u16 = 8080;

/// An app, with its tasks if they are wanted.
pub(super) fn app(era: Era, id: &str, app: &App, with_tasks: bool) -> Value {
    let running = app.running().count();
    let healthy = app.running().filter(|(_, task)| task.health == Some(true)).count();
    let mut shape = json!({
        "id": id, "cmd": "./serve --port $PORT0", "args": null, "user": null, "env": env(app),
        "instances": app.instances.unwrap_or(running), "cpus": 0.25, "mem": 128, "disk": 0, "executor": "",
        "constraints": [["hostname", "UNIQUE"]], "requirePorts": false,
        "backoffSeconds": 1, "backoffFactor": 1.15, "dependencies": [],
        "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
        "labels": app.labels, "version": time(app.version),
        "versionInfo": {"lastScalingAt": time(app.version), "lastConfigChangeAt": time(1)},
        "tasksStaged": app.tasks.len() - running, "tasksRunning": running,
        "tasksHealthy": healthy, "tasksUnhealthy": if app.checks { running - healthy } else { 0 },
        "deployments": app.deployment.iter().map(|id| json!({"id": id})).collect::<Value>(),
        "healthChecks": checks(era, app),
    });
    let more = if era.has_networks() { networks(app) } else { docker(era, app) };
    let Value::Object(shape) = &mut shape else { unreachable!() };
    shape.extend(more);
    if with_tasks {
        shape.insert("tasks".into(), tasks(era, id, app).collect());
    }
    Value::Object(std::mem::take(shape))
}

/// Variables that weigh as much as is wanted.
fn env(app: &App) -> Value {
    let variables = (0..app.padding / 100).map(|number| {
        (
            format!("SETTING_{number:03}"),
            Value::from("a value \"quoted\" of some length ".repeat(2)),
        )
    });
    Value::Object(variables.collect())
}

fn checks(era: Era, app: &App) -> Value {
    let mut check = json!({
        "gracePeriodSeconds": 300, "intervalSeconds": 10, "timeoutSeconds": 5,
        "maxConsecutiveFailures": 3, "path": "/health", "portIndex": 0,
        "protocol": if era.has_networks() { "MESOS_HTTP" } else { "HTTP" },
    });
    if era.has_networks() {
        check["delaySeconds"] = 15.into();
        check["ipProtocol"] = "IPv4".into();
    } else {
        check["ignoreHttp1xx"] = false.into();
        check["command"] = Value::Null;
    }
    if app.checks { json!([check]) } else { json!([]) }
}

/// Names and service ports by index.
fn ports(app: &App) -> impl Iterator<Item = (&'static str, u16)> {
    app.ports.iter().copied().zip(app.service_ports.iter().copied().chain(std::iter::repeat(0)))
}

/// Since 1.5.
fn networks(app: &App) -> Map<String, Value> {
    let mode = match app.net {
        Net::Host | Net::Pod => "host",
        Net::Bridge => "container/bridge",
        Net::PerTask => "container",
    };
    let definitions = ports(app).map(|(name, port)| {
        json!({"port": port, "protocol": "tcp", "name": name, "labels": {"VIP_0": "/web:80"}})
    });
    let mappings = ports(app).map(|(name, port)| {
        let mut mapping = json!({"containerPort": inside(app, name), "labels": {},
            "protocol": "tcp", "servicePort": port, "name": name});
        if app.net == Net::Bridge {
            mapping["hostPort"] = 0.into();
        }
        mapping
    });
    let mut network = json!({"mode": mode});
    if app.net == Net::PerTask {
        network["name"] = "overlay".into();
    }
    let mut shape = json!({
        "acceptedResourceRoles": ["*"], "gpus": 0, "maxLaunchDelaySeconds": 300, "fetch": [],
        "networks": [network], "killSelection": "YOUNGEST_FIRST", "role": "*",
        "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
        "taskKillGracePeriodSeconds": 5, "tty": false,
    });
    if app.net == Net::Host {
        shape["portDefinitions"] = definitions.collect();
    } else {
        shape["container"] = json!({"type": "MESOS", "volumes": [], "portMappings":
            mappings.collect::<Value>(), "docker": {"image": "web:1", "forcePullImage": false}});
    }
    object(shape)
}

/// Before 1.5.
fn docker(era: Era, app: &App) -> Map<String, Value> {
    let numbers: Vec<u16> = ports(app).map(|(_, port)| port).collect();
    let mut shape = json!({"storeUrls": [], "uris": [], "ports": numbers, "container": null,
        "ipAddress": null, "residency": null, "maxLaunchDelaySeconds": 3600,
        "acceptedResourceRoles": null});
    if era.has_instances() && app.net == Net::Host {
        let definitions = ports(app).map(
            |(name, port)| json!({"port": port, "protocol": "tcp", "name": name, "labels": {}}),
        );
        shape["portDefinitions"] = definitions.collect();
    }
    if app.net == Net::Bridge {
        let mappings = ports(app).map(|(name, port)| {
            json!({"containerPort": inside(app, name), "hostPort": 0, "servicePort": port,
                "protocol": "tcp", "name": name, "labels": {}})
        });
        shape["container"] = json!({"type": "DOCKER", "volumes": [], "docker": {
            "image": "web:1", "network": "BRIDGE", "privileged": false, "parameters": [],
            "forcePullImage": false, "portMappings": mappings.collect::<Value>()}});
    }
    if app.net == Net::PerTask {
        let found = ports(app)
            .map(|(name, _)| json!({"number": inside(app, name), "name": name, "protocol": "tcp"}));
        shape["ipAddress"] = json!({"networkName": "overlay", "groups": ["dev"],
            "labels": {"environment": "dev"}, "discovery": {"ports": found.collect::<Value>()}});
    }
    object(shape)
}

/// The port in the container. With an address for each task it is where that is reached.
fn inside(app: &App, name: &str) -> u16 {
    let index = app.ports.iter().position(|port| *port == name).unwrap_or(0) as u16;
    let first = app.tasks.values().next().map_or(INSIDE, |task| task.at.port());
    if app.net == Net::PerTask { first + index } else { INSIDE + index }
}

/// The ports of a task on its agent.
pub(super) fn host_ports(app: &App, task: &Task) -> Vec<u16> {
    let count = if app.net == Net::PerTask { 0 } else { app.ports.len() as u16 };
    (0..count).map(|index| task.at.port() + index).collect()
}

/// The agent of a task.
pub(super) fn host(app: &App, task: &Task) -> String {
    if app.net == Net::PerTask { AGENT.into() } else { task.at.ip().to_string() }
}

/// Which addresses a task has by itself.
pub(super) fn addresses(app: &App, task: &Task) -> Value {
    let own = if app.net == Net::Bridge { "172.17.0.2".into() } else { task.at.ip().to_string() };
    json!([{"ipAddress": own, "protocol": "IPv4"}])
}

/// The tasks of an app as rows. Before tasks had states only those were listed that had begun.
pub(super) fn tasks(era: Era, id: &str, app: &App) -> impl Iterator<Item = Value> {
    let listed = app
        .tasks
        .iter()
        .filter(move |(_, task)| era.has_instances() || task.state != State::Staging);
    listed.map(move |(own, task)| row(era, id, app, own, task))
}

fn row(era: Era, id: &str, app: &App, own: &str, task: &Task) -> Value {
    let begun = task.state != State::Staging;
    let mut row = json!({
        "id": era.task_id(id, own), "appId": id, "host": host(app, task),
        "ports": host_ports(app, task), "servicePorts": app.service_ports,
        "slaveId": "5b1c4d2e-9a61-4f5a-8c9b-3e1070b3d580-S3", "version": time(task.version),
        "stagedAt": time(task.version),
        "startedAt": if begun { Value::from(time(task.version + 1)) } else { Value::Null },
    });
    if era.has_instances() {
        row["state"] = task.state.word().into();
        row["ipAddresses"] = if begun { addresses(app, task) } else { json!([]) };
        row["localVolumes"] = json!([]);
    }
    if era == Era::V1_11 {
        row["region"] = "eu".into();
        row["zone"] = "a".into();
        row["role"] = "*".into();
    }
    if app.checks
        && let Some(alive) = task.health
    {
        let mut result = json!({"alive": alive, "consecutiveFailures": u32::from(!alive),
            "firstSuccess": time(2), "lastFailure": null, "lastFailureCause": null,
            "lastSuccess": if alive { Value::from(time(3)) } else { Value::Null }});
        let (key, of) = if era.has_instances() {
            ("instanceId", era.instance_id(id, own))
        } else {
            ("taskId", era.task_id(id, own))
        };
        result[key] = of.into();
        row["healthCheckResults"] = json!([result]);
    } else if app.checks && task.version.is_multiple_of(2) {
        row["healthCheckResults"] = json!([]);
    }
    row
}

/// The status of a pod.
pub(super) fn pod(era: Era, id: &str, pod: &App) -> Value {
    let instance = |(own, task): (&String, &Task)| {
        let status = match task.state {
            State::Staging => "STAGING",
            State::Running => "STABLE",
            State::Killing => "TERMINAL",
            State::Unreachable => "DEGRADED",
        };
        let endpoints = pod
            .ports
            .iter()
            .zip(host_ports(pod, task))
            .map(|(name, port)| json!({"name": name, "allocatedHostPort": port}));
        let name = era.instance_id(id, own);
        json!({"id": name, "status": status, "statusSince": time(task.version), "conditions": [],
            "agentHostname": host(pod, task), "agentId": "5b1c4d2e-9a61-4f5a-8c9b-3e1070b3d580-S3",
            "resources": {"cpus": 0.1, "mem": 32, "disk": 0, "gpus": 0},
            "networks": [{"addresses": [task.at.ip()]}],
            "containers": [{"name": "web", "status": task.state.word(), "conditions": [],
                "statusSince": time(task.version), "containerId": format!("{name}.web"),
                "endpoints": endpoints.collect::<Value>(), "resources": {"cpus": 0.1},
                "lastUpdated": time(task.version), "lastChanged": time(task.version)}],
            "specReference": format!("/v2/pods/{id}::versions/{}", time(task.version)),
            "lastUpdated": time(task.version), "lastChanged": time(task.version)})
    };
    let endpoints: Value = ports(pod)
        .map(|(name, _)| json!({"name": name, "hostPort": 0, "protocol": ["tcp"], "labels": {}}))
        .collect();
    json!({
        "id": id, "status": if pod.tasks.is_empty() { "DEGRADED" } else { "STABLE" },
        "statusSince": time(pod.version), "lastUpdated": time(pod.version),
        "lastChanged": time(pod.version), "terminationHistory": [],
        "instances": pod.tasks.iter().map(instance).collect::<Value>(),
        "spec": {"id": id, "version": time(pod.version), "labels": pod.labels, "user": "root",
            "environment": {}, "networks": [{"mode": "host"}], "secrets": {}, "volumes": [],
            "scaling": {"kind": "fixed", "instances": pod.tasks.len()},
            "containers": [{"name": "web", "resources": {"cpus": 0.1, "mem": 32},
                "exec": {"command": {"shell": "./serve"}}, "endpoints": endpoints}]},
    })
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { unreachable!() };
    map
}

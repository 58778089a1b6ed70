//! The objects of Marathon's REST API from 0.9 to 1.11, as far as they count. Pure.

use serde::de::IgnoredAny;

use super::fields::{Labels, Number, Text, record};

record! {
    /// One app of `/v2/apps?embed=apps.tasks…`.
    RawApp {
        id: Text<'a> = "id",
        version: Text<'a> = "version",
        version_info: RawVersionInfo<'a> = "versionInfo",
        instances: Number = "instances",
        labels: Labels<'a> = "labels",
        ports: Vec<Option<Number>> = "ports",
        port_definitions: Vec<RawPort<'a>> = "portDefinitions",
        networks: Vec<RawNetwork<'a>> = "networks",
        container: RawContainer<'a> = "container",
        ip_address: RawIpPerTask<'a> = "ipAddress",
        health_checks: Vec<RawCheck<'a>> = "healthChecks",
        readiness_checks: Vec<RawReadinessCheck<'a>> = "readinessChecks",
        readiness_results: Vec<RawReadiness<'a>> = "readinessCheckResults",
        deployments: Vec<IgnoredAny> = "deployments",
        tasks: Vec<RawTask<'a>> = "tasks",
    }
    unused: "acceptedResourceRoles" "args" "backoffFactor" "backoffSeconds" "check" "cmd"
        "constraints" "cpus" "dependencies" "disk" "env" "executor" "executorResources" "fetch"
        "gpus" "killSelection" "lastTaskFailure" "maxLaunchDelaySeconds" "mem" "requirePorts"
        "residency" "resourceLimits" "role" "secrets" "storeUrls" "taskKillGracePeriodSeconds"
        "taskRateLimit" "tasksHealthy" "tasksRunning" "tasksStaged" "tasksUnhealthy" "taskStats"
        "tty" "unreachableStrategy" "upgradeStrategy" "uris" "user"
}

record! {
    /// When an app was changed, and when only its number of instances.
    RawVersionInfo {
        last_scaling: Text<'a> = "lastScalingAt",
    }
    unused: "lastConfigChangeAt"
}

record! {
    /// An element of `portDefinitions`, of `portMappings`, or of the ports of a discovery.
    RawPort {
        name: Text<'a> = "name",
        protocol: Text<'a> = "protocol",
        port: Number = "port",
        container_port: Number = "containerPort",
        host_port: Number = "hostPort",
        service_port: Number = "servicePort",
        number: Number = "number",
    }
    unused: "labels" "networkNames"
}

record! {
    /// An element of `networks`, since 1.5.
    RawNetwork {
        mode: Text<'a> = "mode",
    }
    unused: "name" "labels"
}

record! {
    /// A container.
    RawContainer {
        docker: RawDocker<'a> = "docker",
        port_mappings: Vec<RawPort<'a>> = "portMappings",
    }
    unused: "type" "volumes" "appc" "linuxInfo"
}

record! {
    /// What is of Docker in a container; before 1.5 its network too.
    RawDocker {
        network: Text<'a> = "network",
        port_mappings: Vec<RawPort<'a>> = "portMappings",
    }
    unused: "image" "privileged" "parameters" "forcePullImage" "credential" "pullConfig"
}

record! {
    /// An address for each task, before 1.5.
    RawIpPerTask {
        discovery: RawDiscovery<'a> = "discovery",
    }
    unused: "groups" "labels" "networkName"
}

record! {
    /// The ports of a task that has an address of its own.
    RawDiscovery {
        ports: Vec<RawPort<'a>> = "ports",
    }
    unused: "labels"
}

record! {
    /// A health check.
    RawCheck {
        protocol: Text<'a> = "protocol",
        port_index: Number = "portIndex",
        port: Number = "port",
        path: Text<'a> = "path",
        interval: Number = "intervalSeconds",
        timeout: Number = "timeoutSeconds",
        failures: Number = "maxConsecutiveFailures",
    }
    unused: "command" "gracePeriodSeconds" "delaySeconds" "ignoreHttp1xx" "ipProtocol"
}

record! {
    /// A readiness check.
    RawReadinessCheck {
        name: Text<'a> = "name",
    }
    unused: "protocol" "path" "portName" "intervalSeconds" "timeoutSeconds"
        "httpStatusCodesForReady" "preserveLastResponse"
}

record! {
    /// What a readiness check found out about one task.
    RawReadiness {
        name: Text<'a> = "name",
        task: Text<'a> = "taskId",
        ready: bool = "ready",
    }
    unused: "lastResponse"
}

record! {
    /// A task of an app.
    RawTask {
        id: Text<'a> = "id",
        host: Text<'a> = "host",
        ports: Vec<Option<Number>> = "ports",
        ip_addresses: Vec<RawIp<'a>> = "ipAddresses",
        agent: Text<'a> = "slaveId",
        state: Text<'a> = "state",
        staged_at: Text<'a> = "stagedAt",
        started_at: Text<'a> = "startedAt",
        version: Text<'a> = "version",
        health: Vec<Option<RawHealth<'a>>> = "healthCheckResults",
        zone: Text<'a> = "zone",
    }
    unused: "appId" "servicePorts" "region" "localVolumes" "role" "checkResult"
        "healthCheckResult" "networkInfo"
}

record! {
    /// An address of a task.
    RawIp {
        address: Text<'a> = "ipAddress",
    }
    unused: "protocol"
}

record! {
    /// What one health check found out.
    RawHealth {
        alive: bool = "alive",
    }
    unused: "consecutiveFailures" "firstSuccess" "lastFailure" "lastFailureCause" "lastSuccess"
        "taskId" "instanceId"
}

record! {
    /// One pod of `/v2/pods/::status`, since 1.4.
    RawPod {
        id: Text<'a> = "id",
        spec: RawPodSpec<'a> = "spec",
        instances: Vec<RawPodInstance<'a>> = "instances",
    }
    unused: "status" "statusSince" "message" "terminationHistory" "lastUpdated" "lastChanged"
}

record! {
    /// What a pod is meant to be.
    RawPodSpec {
        version: Text<'a> = "version",
        labels: Labels<'a> = "labels",
        networks: Vec<RawNetwork<'a>> = "networks",
        containers: Vec<RawPodContainer<'a>> = "containers",
    }
    unused: "id" "user" "environment" "scaling" "scheduling" "secrets" "volumes"
        "executorResources" "role" "linuxInfo" "tty" "legacySharedCgroups"
}

record! {
    /// A container of a pod.
    RawPodContainer {
        name: Text<'a> = "name",
        endpoints: Vec<RawEndpoint<'a>> = "endpoints",
        check: IgnoredAny = "healthCheck",
    }
    unused: "exec" "resources" "image" "artifacts" "environment" "labels" "lifecycle" "user"
        "volumeMounts" "tty" "linuxInfo" "resourceLimits" "secrets"
}

record! {
    /// A port of a pod's container.
    RawEndpoint {
        name: Text<'a> = "name",
        container_port: Number = "containerPort",
        protocol: Vec<Text<'a>> = "protocol",
    }
    unused: "hostPort" "labels" "networkNames"
}

record! {
    /// An instance of a pod.
    RawPodInstance {
        id: Text<'a> = "id",
        status: Text<'a> = "status",
        host: Text<'a> = "agentHostname",
        agent: Text<'a> = "agentId",
        zone: Text<'a> = "agentZone",
        networks: Vec<RawPodNetwork<'a>> = "networks",
        containers: Vec<RawPodStatus<'a>> = "containers",
        spec: Text<'a> = "specReference",
    }
    unused: "statusSince" "conditions" "agentRegion" "resources" "message" "lastUpdated"
        "lastChanged" "localVolumes"
}

record! {
    /// An address of an instance of a pod.
    RawPodNetwork {
        addresses: Vec<Text<'a>> = "addresses",
    }
    unused: "name"
}

record! {
    /// A container of an instance of a pod.
    RawPodStatus {
        endpoints: Vec<RawEndpointStatus<'a>> = "endpoints",
        conditions: Vec<RawCondition<'a>> = "conditions",
    }
    unused: "name" "status" "statusSince" "message" "containerId" "resources" "lastUpdated"
        "lastChanged" "termination" "resourceLimits"
}

record! {
    /// A port of a container of an instance of a pod.
    RawEndpointStatus {
        name: Text<'a> = "name",
        host_port: Number = "allocatedHostPort",
        healthy: bool = "healthy",
    }
    unused: ""
}

record! {
    /// A fact about a container, such as whether it is healthy.
    RawCondition {
        name: Text<'a> = "name",
        value: Text<'a> = "value",
    }
    unused: "lastChanged" "lastUpdated" "reason"
}

record! {
    /// An event, of whatever kind.
    RawEvent {
        kind: Text<'a> = "eventType",
        app: Text<'a> = "appId",
        run_spec: Text<'a> = "runSpecId",
        task: Text<'a> = "taskId",
        instance: Text<'a> = "instanceId",
        status: Text<'a> = "taskStatus",
        condition: Text<'a> = "condition",
        healthy: bool = "healthy",
        alive: bool = "alive",
        uri: Text<'a> = "uri",
        definition: RawDefinition<'a> = "appDefinition",
        plan: RawPlan<'a> = "plan",
        step: RawStep<'a> = "currentStep",
    }
    unused: ""
}

record! {
    /// The app of an event.
    RawDefinition {
        id: Text<'a> = "id",
    }
    unused: ""
}

record! {
    /// A deployment's plan; a light one has no steps.
    RawPlan {
        steps: Vec<RawStep<'a>> = "steps",
    }
    unused: ""
}

record! {
    /// A step of a plan: what it does, or, before 0.9, to whom.
    RawStep {
        actions: Vec<RawAction<'a>> = "actions",
        app: Text<'a> = "app",
    }
    unused: ""
}

record! {
    /// To whom something is done.
    RawAction {
        app: Text<'a> = "app",
        pod: Text<'a> = "pod",
    }
    unused: ""
}

/// Reads one object.
///
/// # Errors
/// Says which field is wrong, and where.
pub(super) fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

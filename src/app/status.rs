//! What the admin face tells of the process itself.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json, value};

use super::publish::Tables;
use crate::health::Checks;
use crate::lifecycle::{Lifecycle, Phase};
use crate::net::accept::Connections;
use crate::render::Renderer;
use crate::units;

/// How the last reload went.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LastReload {
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub(super) at: SystemTime,
    pub(super) refused: Vec<String>,
}

/// A function that tells the status of this moment.
pub(super) fn teller(
    node: &Arc<str>,
    lifecycle: &Lifecycle,
    connections: &Arc<Connections>,
    tables: &Arc<ArcSwap<Tables>>,
    renderer: &Arc<Mutex<Renderer>>,
    checks: &Checks,
    last_reload: &Arc<Mutex<Option<LastReload>>>,
) -> Arc<dyn Fn() -> Value + Send + Sync> {
    let node = Arc::clone(node);
    let phases = lifecycle.phases();
    let connections = Arc::clone(connections);
    let tables = Arc::clone(tables);
    let renderer = Arc::clone(renderer);
    let checks = checks.clone();
    let last_reload = Arc::clone(last_reload);
    let started = units::rfc3339(&SystemTime::now(), value::Serializer).unwrap_or_default();
    Arc::new(move || {
        let phase = match phases.now() {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        };
        let tables = tables.load();
        let refused_names: Vec<Value> = tables
            .dns
            .problems()
            .map(|(service, problem)| json!({ "service": service, "message": problem }))
            .collect();
        // A poisoned lock still holds a renderer that can be asked.
        let templates = renderer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).status();
        let reload = last_reload.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        json!({
            "node": node,
            "phase": phase,
            "started": started,
            "connections": connections.open(),
            "templates": templates,
            "checks": checks.status(),
            "dns": { "names": tables.dns.names(), "problems": refused_names },
            "last_reload": reload,
        })
    })
}

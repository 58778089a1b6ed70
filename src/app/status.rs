//! What the admin face tells of the process itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json, value};

use tokio::sync::watch;

use super::labels;
use super::publish::Tables;
use super::sight::Sight;
use super::sockets::ports::Refusals;
use crate::api;
use crate::api::operate::told;
use crate::catalog::operations::Operations;
use crate::catalog::snapshot::Staleness;
use crate::catalog::{RegistryState, RegistryStatus, Snapshot};
use crate::dns::Forwarder;
use crate::health::Checks;
use crate::health::recreate::Events;
use crate::lifecycle::{Phase, Phases};
use crate::net::accept::Connections;
use crate::registry::{Registry, Report};
use crate::render::Renderer;
use crate::units;

/// How the last reload went.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LastReload {
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub(super) at: SystemTime,
    pub(super) refused: Vec<String>,
}

/// How each registry stands and how its work goes, by its name.
pub(super) type Reports = Arc<Mutex<BTreeMap<String, Told>>>;

/// What one registry tells.
#[derive(Debug)]
pub(super) struct Told {
    states: watch::Receiver<RegistryState>,
    report: watch::Receiver<Report>,
}

/// Tells of `registries` from now on.
pub(super) fn follow(reports: &Reports, registries: &BTreeMap<String, Registry>) {
    let now = registries.iter().map(|(name, registry)| {
        (name.clone(), Told { states: registry.states(), report: registry.reports() })
    });
    *reports.lock().unwrap_or_else(PoisonError::into_inner) = now.collect();
}

/// What each registry does now; those that have nothing to say of it are left out.
fn work(reports: &Reports) -> BTreeMap<String, Report> {
    let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
    let now = reports.iter().map(|(name, told)| (name.clone(), told.report.borrow().clone()));
    now.filter(|(_, report)| *report != Report::default()).collect()
}

/// How the registries stand: as in the snapshot, but with the reason of this moment, for a new
/// reason alone makes no new generation.
fn registries(snapshot: &Snapshot, reports: &Reports) -> Vec<RegistryStatus> {
    let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
    let mut registries = snapshot.registries.to_vec();
    for registry in &mut registries {
        let Some(told) = reports.get(&*registry.name) else { continue };
        if let (Some(stale), RegistryState::Stale { since, why, .. }) =
            (&mut registry.stale, &*told.states.borrow())
        {
            *stale = Staleness { since: *since, why: Arc::clone(why) };
        }
    }
    registries
}

/// What registries state under services and is refused: labels, instances, whole apps. What has no
/// service is among the problems of its registry.
fn refused_entries(snapshot: &Snapshot) -> Vec<Value> {
    let mut refused: Vec<_> = snapshot
        .services
        .values()
        .flat_map(|service| service.problems.iter().map(|why| (&service.name, why)))
        .collect();
    refused.sort();
    refused.into_iter().map(|(service, why)| json!({ "service": service, "why": why })).collect()
}

/// A function that tells why a service answers as it does; without a name, which ones are worth
/// asking about.
pub(super) fn reasons(
    sight: &Sight,
    checks: &Checks,
    refusals: Refusals,
    tables: &Arc<ArcSwap<Tables>>,
) -> api::Reasons {
    let (sight, checks, problems) = (sight.clone(), checks.clone(), labels::problems(tables));
    let tables = Arc::clone(tables);
    Arc::new(move |name| match name {
        Some(name) => {
            let mut why = serde_json::to_value(sight.why(name)?).ok()?;
            let targets = checks.status_of(name);
            if let (Some(why), false) = (why.as_object_mut(), targets.is_empty()) {
                why.insert("checks".into(), serde_json::to_value(targets).unwrap_or_default());
            }
            let refused = refusals.of(Some(name));
            if let (Some(why), false) = (why.as_object_mut(), refused.is_empty()) {
                let refused: Vec<_> = refused.iter().map(|refused| &refused.why).collect();
                why.insert("refused_ports".into(), json!(refused));
            }
            let refused = checks.refused(Some(name));
            if let (Some(why), false) = (why.as_object_mut(), refused.is_empty()) {
                let refused: Vec<_> = refused.iter().map(|refused| &refused.why).collect();
                why.insert("refused_checks".into(), json!(refused));
            }
            labels::add(&mut why, &problems(name));
            Some(why)
        }
        None => Some(json!({ "services": troubled(&sight, &tables.load()) })),
    })
}

/// Names of the services in which not every instance gets work, or that have problems.
fn troubled(sight: &Sight, tables: &Tables) -> Vec<Arc<str>> {
    let mut services = sight.troubled();
    let labels = tables.proxy.overlay().problems(None);
    services.extend(labels.into_iter().map(|problem| problem.service));
    services.sort();
    services.dedup();
    services
}

/// Whom the status asks.
pub(super) struct Asked {
    pub(super) node: Arc<str>,
    pub(super) phases: Phases,
    pub(super) connections: Arc<Connections>,
    pub(super) tables: Arc<ArcSwap<Tables>>,
    pub(super) renderer: Arc<Mutex<Renderer>>,
    pub(super) checks: Checks,
    pub(super) events: Events,
    pub(super) reports: Reports,
    pub(super) forwarder: Forwarder,
    pub(super) last_reload: Arc<Mutex<Option<LastReload>>>,
    pub(super) operations: watch::Receiver<Arc<Operations>>,
    pub(super) refusals: Refusals,
}

/// A function that tells the status of this moment.
pub(super) fn teller(asked: Asked) -> Arc<dyn Fn() -> Value + Send + Sync> {
    let Asked { node, phases, connections, tables, renderer, checks, events, reports, .. } = asked;
    let (forwarder, last_reload) = (asked.forwarder, asked.last_reload);
    let (operations, refusals) = (asked.operations, asked.refusals);
    let started = units::rfc3339(&SystemTime::now(), value::Serializer).unwrap_or_default();
    Arc::new(move || {
        let phase = match phases.now() {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Leaving => "leaving",
            Phase::Replaced => "replaced",
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
        let templates = renderer.lock().unwrap_or_else(PoisonError::into_inner).status();
        let reload = last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json!({
            "node": node,
            "pid": std::process::id(),
            "phase": phase,
            "started": started,
            "connections": connections.open(),
            "templates": templates,
            "checks": checks.status(),
            "events": events.status(),
            "dns": {
                "names": tables.dns.names(),
                "problems": refused_names,
                "forward": forwarder.told(tables.dns.settings()),
            },
            "registries": registries(&tables.snapshot, &reports),
            "registry_work": work(&reports),
            "refused_ports": refusals.of(None),
            "refused_entries": refused_entries(&tables.snapshot),
            "refused_checks": checks.refused(None),
            "refused_labels": tables.proxy.overlay().problems(None),
            "last_reload": reload,
            "operations": operations.borrow().iter().map(|o| told(o)).collect::<Vec<_>>(),
        })
    })
}
